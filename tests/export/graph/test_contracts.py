"""Contracts, component modules and the whole model agree with one another."""

from pathlib import Path

import pytest
import torch

import xmask3d_rt
from xmask3d_rt.components import COMPONENTS, ENGINES, FEATURES, TENSORS, list_upstream
from xmask3d_rt.config import Precision, get_preset
from xmask3d_rt.errors import CheckpointError, EngineError
from xmask3d_rt.export.build.modules import MODULES, build_module, load_weights
from xmask3d_rt.export.build.tensors import TENSOR_CODE, head_shapes
from xmask3d_rt.export.build.weights import SyntheticWeights
from xmask3d_rt.export.graph.contracts import PROFILE, describe_tensors, get_contract
from xmask3d_rt.export.graph.validation import compute_reference, make_inputs
from xmask3d_rt.model.sparse_unet import MinkUNet
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.nets.heads import HEAD_TENSORS


class ShapeOnly:
    """Random tensors of the asked shape; remembers the names."""

    def __init__(self):
        self.names = []

    def read(self, name, shape):
        self.names.append(name)
        return torch.randn(shape, generator=torch.Generator().manual_seed(len(self.names)))


@pytest.mark.parametrize("name", ENGINES)
def test_module_keeps_its_contract(name):
    contract = get_contract(name, get_preset("tiny"))
    module = build_module(name, get_preset("tiny"), SyntheticWeights())
    inputs = make_inputs(contract)
    outputs = compute_reference(contract, module, inputs)
    axes = contract.signature.optimal_axes()
    shapes = contract.signature.resolve(contract.signature.outputs, axes)
    for spec, shape in zip(contract.signature.outputs, shapes, strict=True):
        assert list(outputs[spec.name].shape) == shape
        assert outputs[spec.name].dtype == spec.torch_dtype
        assert bool(torch.isfinite(outputs[spec.name]).all())
    assert set(contract.tolerances) == set(outputs)


def test_signatures_of_one_component_feed_the_next():
    for preset in ("tiny", "b15n4"):
        contracts = [get_contract(name, get_preset(preset)) for name in ENGINES]
        produced = {spec.name: spec for c in contracts for spec in c.signature.outputs}
        for contract in contracts:
            for spec in contract.signature.inputs:
                if spec.name not in ("image", "imp_condition", "token_ids"):
                    assert produced[spec.name] == spec


def test_components_cover_the_model():
    """Every tensor of the whole model is exported, but for dead blocks and training constants."""
    config = get_preset("tiny")
    reader = ShapeOnly()
    for name in ENGINES:
        build_module(name, config, reader)
    for prefix, shape in (
        ("pc_decoder.encoder.", config.point_encoder),
        ("pc_binary_head.encoder.", config.binary_head),
    ):
        load_weights(MinkUNet(shape), reader, lambda key, prefix=prefix: prefix + key)
    exported = {*reader.names, *HEAD_TENSORS}
    whole = set(XMask3D(config).state_dict())
    assert exported <= whole
    unused = {name for name in whole - exported if not name.endswith("num_batches_tracked")}
    dead = (
        "diffusion.unet.up_blocks.3.resnets.2.",
        "diffusion.unet.up_blocks.3.attentions.2.",
        "diffusion.unet.conv_norm_out.",
        "diffusion.unet.conv_out.",
        "diffusion.vae.decoder.up_blocks.1.resnets.2.",
        "diffusion.vae.decoder.up_blocks.1.upsamplers.",
        "diffusion.vae.decoder.up_blocks.2.",
        "diffusion.vae.decoder.up_blocks.3.",
        "diffusion.vae.decoder.conv_norm_out.",
        "diffusion.vae.decoder.conv_out.",
        "criterion.empty_weight",
        "binary_loss_func.pos_weight",
        "clip.logit_scale",
    )
    assert {name for name in unused if not name.startswith(dead)} == set()


def test_head_shapes_are_the_models():
    config = get_preset("tiny")
    state = XMask3D(config).state_dict()
    shapes = head_shapes(config)
    assert set(shapes) == set(HEAD_TENSORS)
    assert all(tuple(state[name].shape) == shape for name, shape in shapes.items())


def test_components_are_all_known():
    assert list(COMPONENTS) == [*ENGINES, *TENSORS]
    assert list(MODULES) == list(ENGINES)
    assert list(TENSOR_CODE) == list(TENSORS)


def test_names_are_those_of_the_components():
    """Names of tensors stand once, in `xmask3d_rt.components`."""
    config = get_preset("tiny")
    used = set()
    for name in ENGINES:
        component, signature = COMPONENTS[name], get_contract(name, config).signature
        assert tuple(spec.name for spec in signature.inputs) == component.inputs
        assert tuple(spec.name for spec in signature.outputs) == component.outputs
        assert list(signature.profile) == [component.axis]
        used |= {*component.inputs, *component.outputs}
    assert set(describe_tensors(config)) == used
    assert {COMPONENTS[name].axis for name in ENGINES} == set(PROFILE)


def test_feature_names_are_declared_once():
    root = Path(xmask3d_rt.__file__).parents[1]
    spelled = {
        path.relative_to(root)
        for folder in ("xmask3d_rt", "export", "kernels", "benchmarks")
        for path in (root / folder).rglob("*.py")
        if any(f'"{name}"' in path.read_text() for name in FEATURES)
    }
    assert spelled == {Path("xmask3d_rt/components.py")}


def test_upstream_follows_from_the_names():
    assert list_upstream("mask_head") == ("vae_encoder", "unet", "vae_decoder")
    assert list_upstream("unet") == ("vae_encoder", "point_encoder")
    assert list_upstream("text_encoder") == ()


def test_unknown_engine_rejected():
    with pytest.raises(EngineError, match="unknown component 'vae'; engines are vae_encoder"):
        get_contract("vae", get_preset("tiny"))


def test_wrong_shape_rejected():
    class Wrong(ShapeOnly):
        def read(self, name, shape):
            return torch.zeros(*shape, 2)

    with pytest.raises(CheckpointError, match=r"clip\..* has shape .*another configuration"):
        build_module("text_encoder", get_preset("tiny"), Wrong())


def test_tolerance_grows_with_the_format():
    contract = get_contract("unet", get_preset("tiny"))
    errors = [contract.tolerance("unet2", p) for p in (Precision.FP32, "fp16", "bf16")]
    assert errors == sorted(errors)
    assert errors[0] == 1e-5
