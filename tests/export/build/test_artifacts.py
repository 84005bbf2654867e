"""Engines for backends that compile: every component for two GPUs, packages, fp16 graphs."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from xmask3d_rt.components import ENGINES
from xmask3d_rt.config import Precision, get_preset
from xmask3d_rt.engines import Manifest, open_engine
from xmask3d_rt.engines.backends import BACKENDS
from xmask3d_rt.engines.compute_capability import find_gpu
from xmask3d_rt.engines.stamp import BuildStamp, read_stamp
from xmask3d_rt.engines.tensorrt_library import import_tensorrt
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.backends.tensorrt import list_profiles
from xmask3d_rt.export.build.artifacts import (
    BuildOptions,
    compile_choice,
    list_artifacts,
    open_typed,
    remove_others,
    widen_batch,
)
from xmask3d_rt.export.build.choices import Choice
from xmask3d_rt.export.build.component import ComponentBuild, Example, Exported
from xmask3d_rt.export.build.directory import build_engines, pick_build_device
from xmask3d_rt.export.build.weights import SyntheticWeights
from xmask3d_rt.export.graph.contracts import get_contract
from xmask3d_rt.export.graph.validation import make_inputs, relative_error

pytestmark = pytest.mark.usefixtures("traced_once")
CONFIG = get_preset("tiny")
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(scope="module")
def ahead_of_time():
    """Skips where no TensorRT builds for a GPU that is not here."""
    try:
        library = import_tensorrt()
    except EngineError as error:
        pytest.skip(str(error))
    if not {"89", "120"} <= set(library.targets):
        pytest.skip(f"{library} builds for the GPU at hand alone")


@pytest.fixture(scope="module")
def graphs(tiny_engines, tmp_path_factory):
    """A writable copy of the fp32 graphs of every component."""
    root = tmp_path_factory.mktemp("graphs")
    for name in ENGINES:
        shutil.copytree(tiny_engines / name, root / name)
    return root


@pytest.mark.trt
@pytest.mark.parametrize("capability", ["8.9", "12.0"])
@pytest.mark.parametrize("name", ENGINES)
def test_every_component_builds_in_fp16(ahead_of_time, graphs, name, capability):
    contract = get_contract(name, CONFIG)
    onnx = graphs / name / "model.onnx"
    choice = Choice("tensorrt", Precision.FP16, "as asked")
    options = BuildOptions(compute_capability=capability)
    inputs = make_inputs(contract)
    build = ComponentBuild(name, CONFIG, SyntheticWeights(), GPU, (choice,), "", contract, options)
    exported = Exported(contract, (Example(inputs, {}),), onnx)
    path = compile_choice(build, exported, choice)
    assert path.stat().st_size > 1e6
    assert read_stamp(path).target == f"sm_{capability.replace('.', '')}"
    names = [spec.name for spec in contract.signature.inputs]
    feeds = dict(zip(names, inputs, strict=True))
    with (
        open_typed(exported, Precision.FP32) as exact,
        open_typed(exported, Precision.FP16) as half,
    ):
        expected, found = exact.infer(feeds), half.infer(feeds)
    for output, tensor in found.items():
        assert 1e-5 < relative_error(tensor, expected[output]) < 5e-3, output


def build(out, only, **options):
    settings = {"backend": "auto", "precision": "auto", "device": "auto"} | options
    return build_engines(out, CONFIG, SyntheticWeights(), only=only, **settings)


@pytest.mark.trt
def test_ahead_of_time_build(ahead_of_time, tmp_path):
    options = BuildOptions(compute_capability="8.9", max_batch=3, cache_dir=tmp_path / "cache")
    if not options.ahead_of_time:
        pytest.skip("this machine has such a GPU")
    out = tmp_path / "engines"
    result = build(out, ["mask_clip"], options=options)
    assert result.outcomes == {"mask_clip": "built"}
    component = Manifest.load(out).get("mask_clip")
    assert (component.backend, component.precision) == ("tensorrt", Precision.FP16)
    assert "the engine has not run" in component.parity.reference
    assert 1e-5 < component.parity.errors["mask_embed_clip"] < 5e-3
    assert component.signature.profile["B"].max == 3
    assert [entry.path for entry in component.files] == [
        "mask_clip/model.engine",
        "mask_clip/model.engine.json",
    ]
    assert len(read_stamp(out / "mask_clip" / "model.engine").profiles) == 2
    assert build(out, ["mask_clip"], options=options).outcomes == {"mask_clip": "unchanged"}
    other = dataclasses.replace(options, tf32=True)
    assert build(out, ["mask_clip"], options=other).outcomes == {"mask_clip": "built"}
    with pytest.raises(EngineError, match="TensorRT engine for sm_89 and cannot run on cpu"):
        open_engine(Manifest.load(out), "mask_clip", "cpu")


@pytest.mark.slow
def test_inductor_build(tmp_path):
    out = tmp_path / "engines"
    build(out, ["vae_decoder"], backend="inductor", precision="bf16", device="cpu")
    manifest = Manifest.load(out)
    component = manifest.get("vae_decoder")
    assert component.backend == "inductor"
    assert 1e-4 < max(component.parity.errors.values()) < 4e-2
    inputs = make_inputs(get_contract("vae_decoder", CONFIG))
    feeds = {"latent": inputs[0]}
    with open_engine(manifest, "vae_decoder", "cpu") as engine:
        first, second = engine.infer(feeds), engine.infer(feeds)
        assert torch.equal(first["dec5"], second["dec5"])
    path = out / "vae_decoder" / "model.pt2"
    stamp = read_stamp(path)
    dataclasses.replace(stamp, version="2.0").save(path)
    message = r"was built with torch 2\.0, installed is torch .*--backend inductor --precision bf16"
    with pytest.raises(EngineError, match=message):
        open_engine(Manifest.load(out, verify=False), "vae_decoder", "cpu")
    dataclasses.replace(stamp, target="cpu avx9").save(path)
    with pytest.raises(EngineError, match="was built for cpu avx9, this device is cpu"):
        open_engine(Manifest.load(out, verify=False), "vae_decoder", "cpu")


def test_fp16_graph_in_onnxruntime(tmp_path):
    build(tmp_path / "e", ["mask_clip"], backend="onnxruntime", precision="fp16", device="cpu")
    manifest = Manifest.load(tmp_path / "e")
    component = manifest.get("mask_clip")
    assert [entry.path for entry in component.files] == ["mask_clip/model.fp16.onnx"]
    assert 1e-5 < component.parity.errors["mask_embed_clip"] < 5e-3
    with open_engine(manifest, "mask_clip", "cpu") as engine:
        feeds = make_inputs(get_contract("mask_clip", CONFIG))
        found = engine.infer(dict(zip(("image", "pred_masks"), feeds, strict=True)))
    assert found["mask_embed_clip"].dtype == torch.float32
    assert np.isfinite(found["mask_embed_clip"].numpy()).all()


def test_target_of_a_build():
    assert pick_build_device("auto", "auto", BuildOptions(compute_capability="1.1")) == GPU
    if find_gpu() is None:
        assert pick_build_device("auto", "auto", BuildOptions()) == CPU


def test_other_backend_ahead_of_time_rejected(tmp_path):
    options = BuildOptions(compute_capability="1.1")
    with pytest.raises(
        EngineError, match="ahead of time with backend tensorrt alone, not openvino"
    ):
        build(tmp_path, ["mask_clip"], backend="openvino", options=options)
    with pytest.raises(EngineError, match="--max-batch must be at least 1, got 0"):
        BuildOptions(max_batch=0)


def test_missing_compiler_rejected(tmp_path, monkeypatch):
    def find_none():
        raise RuntimeError("no compiler")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", find_none)
    with pytest.raises(EngineError, match=r"inductor needs a C\+\+ compiler and found none; inst"):
        build(tmp_path, ["mask_clip"], backend="inductor", device="cpu")


def test_batch_contract():
    contract = widen_batch(get_contract("unet", CONFIG), 4)
    assert str(contract.signature.profile["B"]) == "min 1, opt 1, max 4"
    assert len(list_profiles(contract.signature)) == 2
    text = get_contract("text_encoder", CONFIG)
    assert widen_batch(text, 4) == text


def test_artifacts(tmp_path):
    names = ("model.onnx", "model.fp16.onnx", "model.fp16.onnx.data", "model.engine", "model.pt2")
    for name in names:
        (tmp_path / name).write_text(name)

    def listed(backend, precision):
        artifact = BACKENDS[backend].artifact(precision)
        return [p.name for p in list_artifacts(tmp_path / artifact)]

    assert listed("onnxruntime", Precision.FP32) == ["model.onnx"]
    assert listed("onnxruntime", Precision.FP16) == ["model.fp16.onnx", "model.fp16.onnx.data"]
    assert listed("openvino", Precision.BF16) == ["model.onnx"]
    stamp = BuildStamp("unet", "tensorrt", "11.0", "sm_89", Precision.FP16)
    stamp.save(tmp_path / "model.engine")
    engine = ["model.engine", "model.engine.json"]
    assert listed("tensorrt", Precision.FP16) == engine
    stripped = dataclasses.replace(stamp, weights="model.fp16.onnx")
    stripped.save(tmp_path / "model.engine")
    graph = ["model.fp16.onnx", "model.fp16.onnx.data"]
    assert listed("tensorrt", Precision.FP16) == [*engine, *graph]
    remove_others(tmp_path, list_artifacts(tmp_path / "model.pt2"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
