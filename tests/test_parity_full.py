"""The full-size module and its engines against the recorded reference cases, every row.

What `export/verify.py` does, on a model that is loaded once. The engines are kept between runs:
those in fp32, and what `--backend auto` makes for this processor.
"""

import gc
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from xmask3d_rt.config import get_preset
from xmask3d_rt.export.build.directory import build_engines
from xmask3d_rt.export.build.weights import SyntheticWeights
from xmask3d_rt.export.parity.cases import ArrayFile, read_arrays
from xmask3d_rt.export.parity.compare import compare_case, list_uncompared, relative_l2
from xmask3d_rt.export.parity.module_pipeline import load_synthetic_module, make_module_segmenter
from xmask3d_rt.export.parity.recording import record_case
from xmask3d_rt.export.verify import check_scene, list_precisions, trace_case
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.segmenter import Segmenter

ENGINES = Path(__file__).parents[1] / "engines" / "b15n4-onnxruntime-fp32"
DEFAULT_ENGINES = ENGINES.with_name("b15n4-cpu")
CONFIG = get_preset("b15n4")
# Only the module shows what happens inside the engines.
INSIDE = {"noisy_latent", "cond_inputs", "cond_emb", "mask_pooled_features"}
INSIDE |= {"s2", "s3", "s4", "s5", "ms0", "ms1", "ms2"}

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]


@dataclass(frozen=True)
class Case:
    """One view: its inputs, the reference, and what the subject made of it."""

    inputs: ArrayFile
    golden: ArrayFile
    trace: dict[str, np.ndarray]


@dataclass
class Subject:
    """What is checked; `model` is None for engines. Every view runs once for all tests."""

    segmenter: Segmenter
    folder: Path
    model: XMask3D | None = None
    cases: dict[str, Case] = field(default_factory=dict)

    def run(self, name):
        if name not in self.cases:
            inputs = read_arrays(self.folder / f"case_{name}_inputs.npz")
            golden = read_arrays(self.folder / f"case_{name}_golden.npz")
            self.cases[name] = Case(inputs, golden, trace_case(self.segmenter, inputs))
        return self.cases[name]


@pytest.fixture(scope="module", params=["module", "engines"])
def subject(request, shared):
    folder = shared / "golden"
    gc.collect()  # the other subject: two do not fit into 16 GB
    if request.param == "module":
        model = load_synthetic_module(CONFIG)
        return Subject(make_module_segmenter(model), folder, model)
    pytest.importorskip("onnxruntime")
    options = {"backend": "onnxruntime", "precision": "fp32", "device": "cpu"}
    build_engines(ENGINES, CONFIG, SyntheticWeights(), **options)
    return Subject(Segmenter(ENGINES, "cpu", threads=torch.get_num_threads()), folder)


module_alone = pytest.mark.parametrize("subject", ["module"], indirect=True)


@pytest.mark.parametrize("name", ["A", "C"])
def test_every_row_of_a_view_holds(subject, name):
    case = subject.run(name)
    rows = compare_case(case.trace, case.inputs, case.golden, CONFIG.clip, {})
    for row in rows:
        print(f"{row.stage:<22}{row.metric:<20}{row.value:<12.3g}{row.limit:g}")
    assert [row for row in rows if not row.ok] == []
    assert set(list_uncompared(rows)) == (set() if subject.model is not None else INSIDE)


def test_every_row_of_a_scene_holds(subject, shared):
    golden = read_arrays(shared / "golden" / "scene_KITCHEN_golden.npz")
    check = check_scene(subject.segmenter, shared / "scenes" / "kitchen", golden)
    for row in check.rows:
        print(f"{row.stage:<22}{row.metric:<20}{row.value:<12.6g}{row.limit:g}")
    assert [row for row in check.rows if not row.ok] == []
    assert len(check.rows) == 4 * 4 + 3


@module_alone
def test_recorded_case_is_laid_out_like_the_reference(subject):
    case = subject.run("A")
    recorded = record_case(case.trace)
    reference = {**case.inputs, **case.golden}
    assert set(recorded) - set(reference) == {
        f"{name}_stride" for name in ("ms0", "ms1", "ms2", "mask_features")
    }
    free = {name for name in recorded if name.endswith(("_sub", "_stride"))}  # strides may differ
    for name in set(recorded) & set(reference) - free:
        assert recorded[name].shape == reference[name].shape, name
        assert recorded[name].dtype.kind in (reference[name].dtype.kind, "i"), name


@module_alone
@torch.no_grad()
def test_auxiliary_heads(subject):
    """Masks before each of the nine layers, which training learns from."""
    case = subject.run("A")
    predictor = subject.model.sem_seg_head.predictor
    levels = [torch.from_numpy(case.trace[f"ms{i}"]) for i in range(3)]
    mask_features = torch.from_numpy(case.trace["mask_features"])
    queries = predictor.decode(levels, mask_features)[:-1]
    masks = torch.cat([predictor.predict_masks(q, mask_features) for q in queries])
    share = (masks > 0).float().mean((2, 3)).numpy()
    differ = np.abs(share - case.golden["aux_pred_masks_posfrac"]) * masks[0, 0].numel()
    assert differ.max() <= 5  # pixels of one mask
    np.testing.assert_allclose(
        masks.mean((2, 3)).numpy(), case.golden["aux_pred_masks_mean"], atol=1e-3
    )


@module_alone
def test_constants_of_the_diffusion_model(subject, shared):
    common = read_arrays(shared / "golden" / "common.npz")
    diffusion = subject.model.diffusion
    assert relative_l2(diffusion.uncond_inputs.numpy(), common["uncond_inputs"]) <= 5e-6
    np.testing.assert_array_equal(diffusion.noise.numpy(), common["shared_noise"])


@pytest.fixture(scope="module")
def default_subject(shared):
    gc.collect()
    pytest.importorskip("openvino")
    build_engines(DEFAULT_ENGINES, CONFIG, SyntheticWeights(), device="cpu")
    segmenter = Segmenter(DEFAULT_ENGINES, "cpu", threads=torch.get_num_threads())
    return Subject(segmenter, shared / "golden")


@pytest.mark.parametrize("name", ["A", "C"])
def test_the_default_build_holds_the_limits_of_its_precision(default_subject, name):
    case = default_subject.run(name)
    precisions = list_precisions(default_subject.segmenter)
    rows = compare_case(case.trace, case.inputs, case.golden, CONFIG.clip, precisions)
    for row in rows:
        limit = "none" if row.limit is None else f"{row.limit:g}"
        print(f"{row.stage:<22}{row.metric:<20}{row.value:<12.3g}{limit}")
    assert [row for row in rows if not row.ok] == []
    assert {row.stage for row in rows} >= {"label_fused", "label_2d", "label_3d"}
