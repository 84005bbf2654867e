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


def test_a_filled_model_holds_the_values_of_the_files(synthetic_tiny):
    state = synthetic_tiny.state_dict()
    layer = "cond_stage_model.transformer.text_model.encoder.layers.1.self_attn."
    width = synthetic_tiny.config.diffusion.context_dim
    packed = [synthetic_tensor("sd", f"{layer}{p}_proj.weight", (width, width)) for p in "qkv"]
    name = "diffusion.text_encoder.transformer.resblocks.1.attn.in_proj_weight"
    assert np.array_equal(state[name].numpy(), np.concatenate(packed))

    projection = state["diffusion.vae.decoder.mid_block.attentions.0.to_out.0.weight"].numpy()
    key = "first_stage_model.decoder.mid.attn_1.proj_out.weight"
    convolution = synthetic_tensor("sd", key, (*projection.shape, 1, 1))
    assert np.array_equal(projection, convolution[..., 0, 0])


def test_filling_keeps_loss_constants(synthetic_tiny):
    pos_weight = synthetic_tiny.config.loss.binary_pos_weight
    assert synthetic_tiny.binary_loss_func.pos_weight.item() == pytest.approx(pos_weight)
    classes = len(synthetic_tiny.config.split.base_names)
    assert synthetic_tiny.criterion.empty_weight.shape == (classes + 1,)


def test_names_without_a_rule_rejected():
    with pytest.raises(KeyError, match="no rule"):
        synthetic_tensor("xmask3d", "somewhere.else", (2, 2))
