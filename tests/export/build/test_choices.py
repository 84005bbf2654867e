"""Which backends and precisions are tried, in which order, and why not others."""

import dataclasses
import sys

import pytest
import torch

from xmask3d_rt.config import Precision, get_preset
from xmask3d_rt.engines import Parity, inductor, openvino
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.errors import EngineError, ExportMismatch
from xmask3d_rt.export.build import choices as choices_module
from xmask3d_rt.export.build import engine as engine_builder
from xmask3d_rt.export.build.choices import Choice, list_choices
from xmask3d_rt.export.build.component import ComponentBuild, Exported
from xmask3d_rt.export.build.weights import SyntheticWeights
from xmask3d_rt.export.graph.contracts import get_contract

PARITY = Parity("module", {"unet2": 1e-5}, {"unet2": 1e-6})
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
UNET = get_contract("unet", get_preset("tiny"))
MASK_HEAD = get_contract("mask_head", get_preset("tiny"))

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


def names(choices):
    return [(choice.backend, str(choice.precision)) for choice in choices]


@pytest.mark.parametrize(
    ("bf16", "expected"),
    [
        (True, [("openvino", "bf16"), ("openvino", "fp32"), ("onnxruntime", "fp32")]),
        (False, [("openvino", "fp32"), ("onnxruntime", "fp32")]),
    ],
)
def test_auto_on_a_cpu(monkeypatch, bf16, expected):
    monkeypatch.setattr(openvino, "has_bf16", lambda: bf16)
    assert names(list_choices(UNET, "auto", "auto", CPU)) == expected


def test_thresholds_stay_in_fp32(monkeypatch):
    monkeypatch.setattr(openvino, "has_bf16", lambda: True)
    for precision in ("auto", "bf16"):
        found = list_choices(MASK_HEAD, "openvino", precision, CPU)
        assert names(found) == [("openvino", "fp32")]
        assert "thresholds" in found[0].reason


@pytest.mark.parametrize(("name", "why"), [("vae_encoder", "latent"), ("mask_clip", "fused head")])
def test_bf16_is_too_coarse_for_some(monkeypatch, name, why):
    monkeypatch.setattr(openvino, "has_bf16", lambda: True)
    contract = get_contract(name, get_preset("tiny"))
    for precision in ("auto", "bf16"):
        found = list_choices(contract, "openvino", precision, CPU)
        assert names(found) == [("openvino", "fp32")]
        assert why in found[0].reason
    assert names(list_choices(contract, "onnxruntime", "fp16", CPU)) == [("onnxruntime", "fp16")]


def test_asked_precision_is_kept():
    assert names(list_choices(UNET, "auto", "bf16", CPU)) == [("openvino", "bf16")]
    assert names(list_choices(UNET, "onnxruntime", "fp32", CPU)) == [("onnxruntime", "fp32")]


def test_nothing_fits_rejected():
    message = "bf16 on cpu: nothing can be built; onnxruntime on cpu has fp32, fp16"
    with pytest.raises(EngineError, match=message):
        list_choices(UNET, "onnxruntime", "bf16", CPU)
    with pytest.raises(EngineError, match="openvino runs on cpu"):
        list_choices(UNET, "openvino", "fp32", GPU)
    with pytest.raises(EngineError, match=r"tensorrt runs on cuda; .*--compute-capability"):
        list_choices(UNET, "tensorrt", "auto", CPU)


def test_auto_on_a_gpu(monkeypatch):
    able = {
        name: dataclasses.replace(backend, check=lambda device: None)
        for name, backend in choices_module.BACKENDS.items()
    }
    monkeypatch.setattr(choices_module, "BACKENDS", able)
    pairs = [
        ("tensorrt", "fp16"),
        ("tensorrt", "fp32"),
        ("inductor", "fp16"),
        ("inductor", "fp32"),
        ("onnxruntime", "fp16"),
        ("onnxruntime", "fp32"),
    ]
    assert names(list_choices(UNET, "auto", "auto", GPU)) == pairs
    assert names(list_choices(MASK_HEAD, "auto", "auto", GPU)) == pairs[1::2]
    assert choices_module.find_auto_device("auto") == "cuda"


def test_gpu_without_a_backend_builds_for_the_cpu(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert choices_module.find_auto_device("auto") == "cpu"


def test_missing_backend_is_passed_over(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert names(list_choices(UNET, "auto", "fp32", CPU)) == [("onnxruntime", "fp32")]
    with pytest.raises(EngineError, match="backend openvino is not installed"):
        list_choices(UNET, "openvino", "fp32", CPU)


@pytest.mark.parametrize(
    ("flags", "half"), [(("avx2", "amx_bf16"), Precision.BF16), (("avx2",), None)]
)
def test_inductor_asks_no_other_backend_for_bf16(monkeypatch, flags, half):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(inductor, "_read_cpu_flags", lambda: flags)
    assert choices_module.BACKENDS["inductor"].half(CPU) is half


def test_next_choice_after_a_mismatch(monkeypatch, tmp_path):
    tried = []

    def check(build, exported, choice, path):
        tried.append((choice.backend, path.name))
        if choice.backend == "openvino":
            raise ExportMismatch("unet: off by 1e-1")
        return PARITY

    monkeypatch.setattr(engine_builder, "check_choice", check)
    choices = (
        Choice("openvino", Precision.BF16, "fast"),
        Choice("onnxruntime", Precision.FP32, "reference"),
    )
    build = ComponentBuild("unet", get_preset("tiny"), SyntheticWeights(), CPU, choices, "", UNET)
    exported = Exported(UNET, (), tmp_path / "model.onnx")
    found, parity = engine_builder.check_choices(build, exported)
    assert tried == [("openvino", "model.onnx"), ("onnxruntime", "model.onnx")]
    assert (found.backend, found.precision, parity) == ("onnxruntime", "fp32", PARITY)
    assert found.reason == "reference; openvino bf16 rejected: unet: off by 1e-1"
    with pytest.raises(ExportMismatch, match="off by 1e-1"):
        engine_builder.check_choices(dataclasses.replace(build, choices=choices[:1]), exported)
    with pytest.raises(EngineError, match="unet: no backend to try"):
        engine_builder.check_choices(dataclasses.replace(build, choices=()), exported)


def test_engine_of_plain_weights_rejected(tmp_path):
    choices = (Choice("torch", Precision.FP32, "runs outside the engines"),)
    build = ComponentBuild("heads", get_preset("tiny"), SyntheticWeights(), CPU, choices, "")
    with pytest.raises(EngineError, match="heads runs outside the engines"):
        engine_builder.export_component(build, tmp_path, set())


def test_the_entry_says_what_was_asked_for(tmp_path):
    options = BuildOptions(max_batch=2)
    choice = Choice("onnxruntime", Precision.FP32, "as asked")
    build = ComponentBuild(
        "unet", get_preset("tiny"), SyntheticWeights(), CPU, (choice,), "f", UNET, options
    )
    entry = build.describe(choice, (), PARITY, opset=18)
    assert (entry.options, entry.device, entry.reason) == (options, "cpu", "as asked")
    assert (entry.signature, entry.fingerprint, entry.opset) == (UNET.signature, "f", 18)


@pytest.mark.parametrize("precision", Precision)
def test_every_precision_is_checked_on_a_cpu(precision):
    """What is built for a GPU that is not here is checked by its graph on this machine's CPU."""
    able = [b for b in choices_module.BACKENDS.values() if precision in b.typed_on_cpu]
    assert able
    assert all("cpu" in backend.devices for backend in able)
