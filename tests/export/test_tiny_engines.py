"""The tiny engines as built for the demo: complete, exact, and the same in every backend."""

import dataclasses

import pytest
import torch

from xmask3d_rt.components import COMPONENTS, ENGINES
from xmask3d_rt.config import Precision, get_preset
from xmask3d_rt.engines import Manifest
from xmask3d_rt.engines.backends import open_file
from xmask3d_rt.export.build.modules import build_module
from xmask3d_rt.export.build.weights import SyntheticWeights
from xmask3d_rt.export.graph.contracts import get_contract
from xmask3d_rt.export.graph.validation import (
    check_graph,
    check_values,
    compute_reference,
    make_inputs,
)

CPU = torch.device("cpu")
CONFIG = get_preset("tiny")


@pytest.fixture(scope="module")
def manifest(tiny_engines):
    return Manifest.load(tiny_engines)


def test_all_components_with_parity(manifest):
    assert tuple(manifest.components) == tuple(COMPONENTS)
    manifest.verify(full=True)
    for component in manifest.components.values():
        assert component.parity is not None
        for name, error in component.parity.errors.items():
            assert error <= component.parity.tolerances[name]


@pytest.mark.parametrize("name", ENGINES)
def test_engine_equals_the_module_on_other_inputs(manifest, name):
    """Inputs the build never saw, through every backend and both CPU precisions."""
    contract = get_contract(name, CONFIG)
    component = manifest.get(name)
    assert component.signature == contract.signature
    check_graph(contract, manifest.path_of(name))
    inputs = make_inputs(contract, seed=99)
    expected = compute_reference(contract, build_module(name, CONFIG, SyntheticWeights()), inputs)
    variants = [("onnxruntime", Precision.FP32), ("openvino", Precision.FP32)]
    if not (contract.sensitive or contract.coarse_in_bf16):
        variants.append(("openvino", Precision.BF16))
    for backend, precision in variants:
        pytest.importorskip(backend)
        variant = dataclasses.replace(component, backend=backend, precision=precision)
        with open_file(variant, manifest.path_of(name), CPU, threads=1) as engine:
            check_values(contract, engine, inputs, expected, precision)


def test_engines_are_deterministic(manifest):
    contract = get_contract("unet", CONFIG)
    inputs = dict(zip(("latent", "imp_condition"), make_inputs(contract), strict=True))
    with open_file(manifest.get("unet"), manifest.path_of("unet"), CPU) as engine:
        first, second = engine.infer(inputs), engine.infer(inputs)
    assert all(torch.equal(first[name], second[name]) for name in first)
