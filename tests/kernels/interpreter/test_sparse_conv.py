"""sparse_conv: implicit-GEMM kernels against the reference, forward and backward."""

import pytest
import torch
from torch import Tensor

from xmask3d_rt.kernels import Epilogue, KernelMap, build_unet_maps, sparse_conv, voxelize
from xmask3d_rt.kernels.sparse_conv.reference import MapTensors, sparse_conv_reference

# Relative L2. float32: another order of summation; float16: one rounding of equal float32 sums;
# bfloat16: the interpreter truncates where the hardware rounds, one unit in the last place.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-4, torch.bfloat16: 8e-3}


def make_maps(n: int, levels: int = 1):
    generator = torch.Generator().manual_seed(n)
    points = torch.randn(n, 3, generator=generator) * n ** (1 / 3) / 3
    return build_unet_maps(voxelize(points, 1.0).coords, levels)


def reference(feats, skip, weight, kernel_map: KernelMap | None, epilogue: Epilogue) -> Tensor:
    maps = None if kernel_map is None else MapTensors(kernel_map.neighbors, *kernel_map.pairs)
    weight = weight[None] if weight.dim() == 2 else weight
    return sparse_conv_reference(
        feats, skip, weight, maps, None, epilogue.bias, epilogue.residual, epilogue.relu
    )


def check(kernel_map, rows_in, channels, skip_channels, out_channels, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    volume = 1 if kernel_map is None else kernel_map.neighbors.shape[1]
    rows_out = rows_in if kernel_map is None else kernel_map.neighbors.shape[0]
    feats = random(rows_in, channels)
    skip = random(rows_in, skip_channels) if skip_channels else None
    weight = random(volume, channels + skip_channels, out_channels)
    epilogue = Epilogue(random(out_channels).float(), random(rows_out, out_channels), relu=True)
    out = sparse_conv(feats if skip is None else (feats, skip), weight, kernel_map, epilogue)
    expected = reference(feats, skip, weight, kernel_map, epilogue)
    assert out.dtype == dtype
    assert out.shape == expected.shape
    difference = (out.float() - expected.float()).norm()
    assert difference <= TOLERANCE[dtype] * max(1.0, float(expected.float().norm()))


@pytest.mark.parametrize("n", [0, 1, 31, 301])
def test_sizes(n):
    maps = make_maps(n)
    check(maps.conv[0], maps.coords[0].shape[0], 32, 0, 64)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(
    ("kind", "channels", "skip_channels", "out_channels"),
    [
        ("conv", 48, 20, 70),
        ("stem", 3, 0, 32),
        ("stem", 17, 0, 8),
        ("down", 16, 0, 24),
        ("up", 33, 16, 24),
        ("1x1", 40, 24, 96),
    ],
)
def test_layers_and_dtypes(kind, channels, skip_channels, out_channels, dtype):
    maps = make_maps(90)
    kernel_map = {
        "conv": maps.conv[0],
        "stem": maps.stem,
        "down": maps.down[0],
        "up": maps.up[0],
        "1x1": None,
    }[kind]
    rows = maps.coords[1 if kind == "up" else 0].shape[0]
    check(kernel_map, rows, channels, skip_channels, out_channels, dtype)


def test_non_contiguous_features_and_weight():
    maps = make_maps(70)
    rows = maps.coords[0].shape[0]
    torch.manual_seed(0)
    feats = torch.randn(16, rows).t()
    weight = torch.randn(27, 24, 16).transpose(1, 2)
    out = sparse_conv(feats, weight, maps.conv[0])
    expected = reference(feats, None, weight, maps.conv[0], Epilogue())
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", ["conv", "stem", "down", "up", "1x1"])
def test_gradients_match_reference(kind):
    maps = make_maps(60)
    kernel_map = {"conv": maps.conv[0], "stem": maps.stem, "down": maps.down[0]}.get(kind)
    kernel_map = maps.up[0] if kind == "up" else kernel_map
    rows = maps.coords[1 if kind == "up" else 0].shape[0]
    volume = 1 if kernel_map is None else kernel_map.neighbors.shape[1]
    rows_out = rows if kernel_map is None else kernel_map.neighbors.shape[0]
    torch.manual_seed(0)
    shapes = ((rows, 5), (rows, 3), (volume, 8, 6), (6,), (rows_out, 6))
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    feats, skip, weight, bias, residual = inputs
    out = sparse_conv((feats, skip), weight, kernel_map, Epilogue(bias, residual, relu=True))
    grad = torch.randn_like(out)
    ours = torch.autograd.grad(out, inputs, grad)
    dense = dense_form(feats, skip, weight, kernel_map, bias, residual)
    theirs = torch.autograd.grad(dense, inputs, grad)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-4)


def dense_form(feats, skip, weight, kernel_map, bias, residual) -> Tensor:
    """The definition, through torch's own autograd."""
    both = torch.cat([feats, skip], dim=1)
    if kernel_map is None:
        return torch.relu(both @ weight[0] + bias + residual)
    padded = torch.cat([both, both.new_zeros(1, both.shape[1])])
    gathered = padded[kernel_map.neighbors.long()]  # row -1 is the zero row
    return torch.relu(torch.einsum("okc,kcn->on", gathered, weight) + bias + residual)
