"""Fingerprints cover everything that decides a component: code, weights, libraries, processor."""

import types
from pathlib import Path

import pytest
import torch
from tracing import list_hashed, trace

from xmask3d_rt.components import COMPONENTS, ENGINES, TENSORS
from xmask3d_rt.config import get_preset
from xmask3d_rt.engines.inductor import list_instructions
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.backends import inductor as inductor_build
from xmask3d_rt.export.backends.inductor import check_compiler
from xmask3d_rt.export.build import artifacts as compiled
from xmask3d_rt.export.build import fingerprint
from xmask3d_rt.export.build import weights as weights_module
from xmask3d_rt.export.build.directory import plan_components
from xmask3d_rt.export.build.engine import make_examples
from xmask3d_rt.export.build.fingerprint import hash_code, hash_modules, list_code
from xmask3d_rt.export.build.modules import build_module
from xmask3d_rt.export.build.tensors import build_tensors
from xmask3d_rt.export.build.weights import FileWeights, SyntheticWeights

CONFIG = get_preset("tiny")


def make_plan(name, weights=None, backend="onnxruntime", precision="fp32"):
    options = BuildOptions()
    weights = weights or SyntheticWeights()
    return plan_components(
        CONFIG, weights, backend, precision, (name,), torch.device("cpu"), options
    )[0]


def make(name, folder):
    build = make_plan(name)
    if name in TENSORS:
        return lambda: build_tensors(build, folder / f"{name}.safetensors")
    return lambda: make_examples(build.contract, build_module(name, CONFIG, build.weights))


@pytest.mark.parametrize("name", COMPONENTS)
def test_all_code_that_runs_is_hashed(monkeypatch, tmp_path, name):
    ran = trace(make(name, tmp_path))
    assert "xmask3d_rt.model.key_map" in ran
    assert ran <= list_hashed(monkeypatch, lambda: make_plan(name))


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_change_of_code_changes_the_fingerprint(monkeypatch, name):
    before = make_plan(name).fingerprint
    hashed = list_hashed(monkeypatch, lambda: make_plan(name))
    assert make_plan(name).fingerprint == before
    for changed in hashed:
        with monkeypatch.context() as patch:
            patch.setattr(fingerprint, "hash_code", lambda m, c=changed: f"{hash_code(m)}{m == c}")
            assert make_plan(name).fingerprint != before, changed


def test_the_empty_prompt_is_part_of_the_unet(monkeypatch):
    hashed = list_hashed(monkeypatch, lambda: make_plan("unet"))
    assert {"xmask3d_rt.text.tokenizer", "xmask3d_rt.model.text_encoder"} <= hashed
    hashed = list_hashed(monkeypatch, lambda: make_plan("mask_head"))
    assert "xmask3d_rt.text.tokenizer" not in hashed


def test_other_components_are_not_built_again(monkeypatch):
    """A change of one part's module leaves the other parts alone."""
    for name in ENGINES:
        hashed = list_hashed(monkeypatch, lambda name=name: make_plan(name))
        assert ("xmask3d_rt.model.mask_decoder" in hashed) == (name == "mask_head")


@pytest.fixture
def file_weights():
    entry = types.SimpleNamespace(entry=types.SimpleNamespace(sha256="a"))
    weights = FileWeights.__new__(FileWeights)
    weights._opened = dict.fromkeys(("xmask3d", "sd", "clip"), entry)
    return weights


@pytest.mark.parametrize(
    "module",
    [
        "xmask3d_rt.model.key_map",
        *(
            f"xmask3d_rt.model.checkpoints.{name}"
            for name in ("loading", "matching", "weight_file", "containers", "layouts", "converted")
        ),
        "xmask3d_rt.export.build.weights",
    ],
)
def test_readers_of_weight_files_are_hashed(monkeypatch, file_weights, module):
    hashed = list_hashed(monkeypatch, lambda: make_plan("heads", file_weights))
    assert module in hashed
    assert "xmask3d_rt.model.synthetic" not in hashed


@pytest.mark.parametrize(
    ("backend", "precision", "module"),
    [
        ("onnxruntime", "fp16", "xmask3d_rt.export.graph.precision"),
        ("onnxruntime", "fp16", "xmask3d_rt.export.graph.ranges"),
        ("inductor", "fp32", "xmask3d_rt.export.backends.inductor"),
    ],
)
def test_code_of_the_backend_is_hashed(monkeypatch, backend, precision, module):
    if backend == "inductor":
        require_compiler()
    assert module in list_hashed(
        monkeypatch, lambda: make_plan("unet", backend=backend, precision=precision)
    )
    assert module not in list_hashed(monkeypatch, lambda: make_plan("unet"))


def require_compiler():
    try:
        check_compiler()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("list_instructions", lambda device: ("avx2", "avx512_bf16")),
        ("describe_target", lambda device: "cpu avx9"),
        ("check_compiler", lambda: "/usr/bin/another-compiler"),
    ],
)
def test_processor_and_compiler_decide_a_package(monkeypatch, name, value):
    require_compiler()
    before = make_plan("unet", backend="inductor").fingerprint
    assert make_plan("unet", backend="inductor").fingerprint == before
    plain = make_plan("unet").fingerprint
    if name == "check_compiler":
        monkeypatch.setattr("torch._inductor.cpp_builder.get_compiler_version_info", str)
    monkeypatch.setattr(inductor_build, name, value)
    assert make_plan("unet", backend="inductor").fingerprint != before
    assert make_plan("unet").fingerprint == plain


def test_version_of_torch_counts(monkeypatch):
    before = make_plan("heads").fingerprint
    versions = fingerprint.read_versions() | {"torch": "9.9"}
    monkeypatch.setattr(fingerprint, "read_versions", lambda: versions)
    assert make_plan("heads").fingerprint != before


def test_tolerances_count(monkeypatch):
    before = make_plan("unet").fingerprint
    monkeypatch.setattr(
        compiled, "describe_backends", lambda *args: {}
    )  # of no other effect on onnxruntime
    assert make_plan("unet").fingerprint == before
    monkeypatch.setattr("xmask3d_rt.export.graph.contracts.TOLERANCE", 0.001)
    assert make_plan("unet").fingerprint != before


def test_comments_and_docstrings_do_not_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    texts = (
        '"""One."""\ndef f():\n    """Two."""\n    return 1\n',
        '"""Other."""\n# comment\ndef f():\n    """Words."""\n\n    return 1\n',
        '"""One."""\ndef f():\n    """Two."""\n    return 2\n',
    )
    hashes = []
    for i, text in enumerate(texts):
        (tmp_path / f"some_module_{i}.py").write_text(text)
        hashes.append(hash_code(f"some_module_{i}"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_missing_module_rejected():
    with pytest.raises(EngineError, match="cannot find the source of xmask3d_rt_nothing"):
        hash_modules(["xmask3d_rt_nothing"])


def test_imports_are_followed():
    direct = {"xmask3d_rt.model.text_encoder", "xmask3d_rt.config"}
    found = set(list_code(["xmask3d_rt.model.diffusion"]))
    assert direct | {"xmask3d_rt.model.diffusion", "xmask3d_rt.text.tokenizer"} <= found
    assert not any(module.startswith("xmask3d_rt.kernels") for module in found)


def test_instructions_are_those_of_the_processor():
    found = list_instructions(torch.device("cpu"))
    assert list_instructions(torch.device("cuda", 0)) == ()
    if Path("/proc/cpuinfo").is_file():
        assert {"sse4_2", "asimd"} & set(found)
        assert "hypervisor" not in found


def test_weights_name_their_code():
    assert weights_module.SyntheticWeights().fingerprint(("sd",)) == hash_modules(
        ["xmask3d_rt.model.synthetic", "xmask3d_rt.model.key_map"]
    )
