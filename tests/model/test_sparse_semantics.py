"""What a sparse net may depend on: neighbours at exact offsets, and nothing about the order."""

import itertools

import pytest
import torch

from xmask3d_rt.config import get_preset
from xmask3d_rt.kernels import build_kernel_map, build_unet_maps, sparse_conv
from xmask3d_rt.model.sparse_unet import MinkUNet

CONFIG = get_preset("tiny").point_encoder
COARSEST = 16  # stride of the bottleneck


def scatter_voxels(count, low=-40, high=40, seed=0):
    """Distinct voxels with gaps between them, on both sides of zero, in no order."""
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.randint(low, high, (count, 3), generator=generator) // 3
    xyz = torch.unique(xyz, dim=0)
    xyz = xyz[torch.randperm(len(xyz), generator=generator)]
    return torch.cat([torch.zeros(len(xyz), 1, dtype=torch.int64), xyz], dim=1).int()


def list_offsets(kernel_size):
    """First axis fastest; centred for odd sizes, {0, 1} for even ones."""
    span = range(-(kernel_size // 2), kernel_size // 2 + 1) if kernel_size % 2 else range(2)
    return [(x, y, z) for z, y, x in itertools.product(span, repeat=3)]


def convolve_by_look_up(feats, weight, in_coords, out_coords, offsets):
    """out[o] = sum over k of in[o + offset_k] @ W[k], one voxel at a time."""
    row = {tuple(coord): i for i, coord in enumerate(in_coords.tolist())}
    out = torch.zeros(len(out_coords), weight.shape[2], dtype=feats.dtype)
    for o, (batch, *place) in enumerate(out_coords.tolist()):
        for k, offset in enumerate(offsets):
            found = row.get((batch, *(p + d for p, d in zip(place, offset, strict=True))))
            if found is not None:
                out[o] += feats[found] @ weight[k]
    return out


def make_layer(rows, kernel_size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    feats = torch.randn(rows, 5, dtype=torch.float64, generator=generator)
    weight = torch.randn(kernel_size**3, 5, 4, dtype=torch.float64, generator=generator)
    return feats, weight


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_submanifold_convolution(kernel_size):
    coords = scatter_voxels(200)
    assert coords.min() < 0 < coords.max()
    feats, weight = make_layer(len(coords), kernel_size)
    got = sparse_conv(feats, weight, build_kernel_map(coords, kernel_size))
    want = convolve_by_look_up(feats, weight, coords, coords, list_offsets(kernel_size))
    torch.testing.assert_close(got, want)


def test_strided_convolution_and_its_transpose():
    coords = scatter_voxels(200)
    down = build_kernel_map(coords, 2, 2)
    cells = {(0, *(2 * (c // 2) for c in xyz)) for _, *xyz in coords.tolist()}
    assert {tuple(coord) for coord in down.out_coords.tolist()} == cells
    feats, weight = make_layer(len(coords), 2)
    got = sparse_conv(feats, weight, down)
    want = convolve_by_look_up(feats, weight, coords, down.out_coords, list_offsets(2))
    torch.testing.assert_close(got, want)

    coarse, weight = make_layer(len(down.out_coords), 2, seed=1)
    up = sparse_conv(coarse, weight, down.swapped)
    row = {tuple(coord): i for i, coord in enumerate(down.out_coords.tolist())}
    want = torch.zeros_like(up)
    for i, (batch, *place) in enumerate(coords.tolist()):
        parent = [2 * (p // 2) for p in place]
        offset = tuple(p - q for p, q in zip(place, parent, strict=True))
        want[i] = coarse[row[(batch, *parent)]] @ weight[list_offsets(2).index(offset)]
    torch.testing.assert_close(up, want)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return MinkUNet(CONFIG).double().eval()


@torch.no_grad()
def run(net, coords, feats):
    maps = build_unet_maps(coords)
    bottleneck, out = net(feats, maps)
    return maps.coords[-1], bottleneck, out


def test_order_of_voxels_does_not_matter(net):
    coords = scatter_voxels(600, -20, 20)
    feats = torch.randn(len(coords), 3, dtype=torch.float64)
    order = torch.randperm(len(coords))
    _, bottleneck, out = run(net, coords, feats)
    _, shuffled_bottleneck, shuffled_out = run(net, coords[order], feats[order])
    torch.testing.assert_close(shuffled_out, out[order])
    torch.testing.assert_close(shuffled_bottleneck, bottleneck)  # coarse voxels are sorted


def test_only_shifts_by_the_coarsest_stride_change_nothing(net):
    """Why coordinates start at the minimum of the view: floor(c / s) knows where zero is."""
    coords = scatter_voxels(600, -20, 20)
    feats = torch.randn(len(coords), 3, dtype=torch.float64)
    _, _, out = run(net, coords, feats)
    shift = torch.tensor([0, COARSEST, -COARSEST, 3 * COARSEST], dtype=torch.int32)
    torch.testing.assert_close(run(net, coords + shift, feats)[2], out)
    moved = run(net, coords + torch.tensor([0, 1, 0, 0], dtype=torch.int32), feats)[2]
    assert (moved - out).norm() > 1e-3 * out.norm()
