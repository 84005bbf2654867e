"""sparse_conv on the CPU: dense equivalence and gradients."""

import pytest
import torch
from torch import Tensor

from xmask3d_rt.kernels import Epilogue, build_kernel_map, sparse_conv


def grid_coords(size: int) -> Tensor:
    axis = torch.arange(size)
    cells = torch.cartesian_prod(axis, axis, axis)
    return torch.cat([torch.zeros(len(cells), 1, dtype=torch.int64), cells], 1).int()


@pytest.mark.parametrize(("kernel_size", "in_channels"), [(3, 16), (5, 3), (5, 9)])
def test_full_grid_equals_dense_conv3d(kernel_size, in_channels):
    size, out_channels = 6, 7
    generator = torch.Generator().manual_seed(0)
    feats = torch.randn(size**3, in_channels, generator=generator)
    weight = torch.randn(kernel_size**3, in_channels, out_channels, generator=generator)
    out = sparse_conv(feats, weight, build_kernel_map(grid_coords(size), kernel_size))
    volume = feats.reshape(size, size, size, in_channels).permute(3, 0, 1, 2)[None]
    cube = weight.reshape(*[kernel_size] * 3, in_channels, out_channels)  # [z, y, x, ...]
    dense = torch.nn.functional.conv3d(
        volume, cube.permute(4, 3, 2, 1, 0).contiguous(), padding=kernel_size // 2
    )
    expected = dense[0].permute(1, 2, 3, 0).reshape(-1, out_channels)
    torch.testing.assert_close(out, expected, atol=2e-4, rtol=1e-4)  # up to 1125 products


def test_gradcheck_with_skip_and_epilogue():
    coords = grid_coords(4)[::2]
    up = build_kernel_map(coords, 2, 2).swapped
    rows_in, rows_out = up.in_coords.shape[0], up.neighbors.shape[0]

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    def run(feats, skip, weight, bias, residual):
        return sparse_conv((feats, skip), weight, up, Epilogue(bias, residual, relu=True))

    torch.manual_seed(0)
    inputs = leaf(rows_in, 9), leaf(rows_in, 4), leaf(8, 13, 3), leaf(3), leaf(rows_out, 3)
    assert torch.autograd.gradcheck(run, inputs)
