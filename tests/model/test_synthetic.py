"""Synthetic weights against values recorded from the reference rule."""

import json
from pathlib import Path

import numpy as np
import pytest

from xmask3d_rt.model.synthetic import synthetic_tensor

TESTS = Path(__file__).parents[1]
SPOTS = json.loads((TESTS / "data" / "synthetic_spots.json").read_text())
GOLDEN = TESTS / ".." / ".." / "shared" / "golden" / "weights_check.json"


def check_spot(full_name, spot):
    namespace, _, key = full_name.partition(":")
    values = synthetic_tensor(namespace, key, spot["shape"])
    assert values.dtype == np.float32
    assert values.shape == tuple(spot["shape"])
    assert values.reshape(-1)[:4].tolist() == spot["first4"]
    assert values.sum(dtype=np.float64) == pytest.approx(spot["sum"], rel=1e-9, abs=1e-9)
    assert np.abs(values).sum(dtype=np.float64) == pytest.approx(spot["abs_sum"], rel=1e-9)


@pytest.mark.parametrize("full_name", SPOTS)
def test_recorded_values(full_name):
    check_spot(full_name, SPOTS[full_name])


def test_reference_values():
    if not GOLDEN.exists():
        pytest.skip("needs ../shared/golden/weights_check.json")
    spots = json.loads(GOLDEN.read_text())
    assert len(spots) > 50
    for full_name, spot in spots.items():
        check_spot(full_name, spot)


def test_constants_and_counters():
    assert synthetic_tensor("clip", "logit_scale", ()) == np.float32(np.log(1 / 0.07))
    counter = synthetic_tensor("xmask3d", "pc_decoder.encoder.bn0.bn.num_batches_tracked", ())
    assert counter.dtype == np.int64
    assert counter == 0


@pytest.mark.parametrize(
    "full_name",
    [
        "xmask3d:criterion.empty_weight",
        "sd:sqrt_alphas_cumprod",
        "sd:cond_stage_model.transformer.text_model.embeddings.position_ids",
    ],
)
def test_constructor_values_are_kept(full_name):
    namespace, _, key = full_name.partition(":")
    assert synthetic_tensor(namespace, key, (16,)) is None


def test_centred_matrices_have_no_mean():
    weight = synthetic_tensor("xmask3d", "criterion.fuser.linear.weight", (8, 4096))
    assert np.abs(weight.sum(axis=1)).max() < 1e-4
    assert weight.std() == pytest.approx(1 / 64, rel=0.02)


def test_names_without_a_rule_rejected():
    with pytest.raises(KeyError, match="no rule"):
        synthetic_tensor("xmask3d", "somewhere.else", (2, 2))
