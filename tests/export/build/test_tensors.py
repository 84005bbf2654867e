"""Components outside the engines: their precision, and the check of what was written."""

import pytest
import torch

from xmask3d_rt.config import Precision, get_preset
from xmask3d_rt.errors import ExportMismatch
from xmask3d_rt.export.build import tensors as plain
from xmask3d_rt.export.build.choices import Choice
from xmask3d_rt.export.build.component import ComponentBuild
from xmask3d_rt.export.build.tensors import build_tensors, choose_arithmetic
from xmask3d_rt.export.build.weights import SyntheticWeights
from xmask3d_rt.nets.sparse_unet import FoldedSparseUNet

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("name", "asked", "device", "expected"),
    [
        ("point_encoder", "auto", CUDA, Precision.FP16),
        ("binary_head", "fp16", CUDA, Precision.FP16),
        ("point_encoder", "fp32", CUDA, Precision.FP32),
        ("point_encoder", "bf16", CUDA, Precision.FP32),
        ("heads", "auto", CUDA, Precision.FP32),
        ("point_encoder", "auto", CPU, Precision.FP32),
        ("point_encoder", "fp16", CPU, Precision.FP32),
    ],
)
def test_sparse_nets_are_fp16_on_a_gpu_alone(name, asked, device, expected):
    assert choose_arithmetic(name, asked, device).precision is expected


def build(tmp_path, precision=Precision.FP32, weights=None):
    path = tmp_path / "point_encoder.safetensors"
    plan = ComponentBuild(
        name="point_encoder",
        config=get_preset("tiny"),
        weights=weights or SyntheticWeights(),
        device=CPU,
        choices=(Choice("torch", precision, "as asked"),),
        fingerprint="-",
    )
    return build_tensors(plan, path), path


@pytest.mark.parametrize(
    ("precision", "least", "most"), [(Precision.FP32, 0, 5e-6), (Precision.FP16, 5e-5, 5e-3)]
)
def test_a_sparse_net_is_checked_in_its_precision(tmp_path, precision, least, most):
    component, path = build(tmp_path, precision)
    assert component.precision is precision
    assert all(least <= error <= most for error in component.parity.errors.values())
    net = FoldedSparseUNet.load(path, precision=precision)
    assert net.dtype is {Precision.FP32: torch.float32, Precision.FP16: torch.float16}[precision]


def test_an_inexact_sparse_net_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(plain._SPARSE_TOLERANCE, Precision.FP16, 1e-6)
    with pytest.raises(ExportMismatch, match=r"point_encoder: .* allowed is 1e-06"):
        build(tmp_path, Precision.FP16)


class Broken(SyntheticWeights):
    """The synthetic weights with one that is no number."""

    def read(self, name, shape):
        tensor = super().read(name, shape)
        return tensor * torch.nan if name == "pc_decoder.encoder.final.kernel" else tensor


def test_a_sparse_net_of_no_numbers_is_refused(tmp_path):
    """The bottleneck is right, the output NaN: the largest of both errors is not NaN for `max`."""
    with pytest.raises(ExportMismatch, match=r"point_encoder: output of the folded net .* by nan"):
        build(tmp_path, weights=Broken())
