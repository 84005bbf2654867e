"""Kernel maps: hash-table look-up against the reference, exactly."""

import pytest
import torch

from xmask3d_rt.kernels import build_kernel_map, build_unet_maps, index_coords, voxelize
from xmask3d_rt.kernels.kernel_map.reference import (
    downsample_coords_reference,
    find_neighbors_reference,
    index_coords_reference,
)


def random_coords(n: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, 3, generator=generator) * 4
    batch = torch.randint(0, 2, (n,), generator=generator)
    coords = voxelize(points, 1.0, batch).coords
    return coords[torch.randperm(len(coords), generator=generator)]


@pytest.mark.parametrize(("kernel_size", "tensor_stride"), [(1, 1), (2, 1), (3, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize("n", [0, 1, 31, 499])
def test_neighbors(n, kernel_size, tensor_stride):
    coords = random_coords(n)
    coords[:, 1:] *= tensor_stride
    kernel_map = build_kernel_map(coords, kernel_size, 1, tensor_stride)
    index = index_coords_reference(coords)
    expected = find_neighbors_reference(coords, *index, kernel_size, tensor_stride)
    assert torch.equal(kernel_map.neighbors, expected)


@pytest.mark.parametrize(("kernel_size", "stride"), [(2, 2), (3, 2), (3, 3)])
def test_strided(kernel_size, stride):
    coords = random_coords(997)
    kernel_map = build_kernel_map(coords, kernel_size, stride)
    out_coords = downsample_coords_reference(coords, stride)[0]
    index = index_coords_reference(coords)
    assert torch.equal(kernel_map.out_coords, out_coords)
    expected = find_neighbors_reference(out_coords, *index, kernel_size, 1)
    assert torch.equal(kernel_map.neighbors, expected)


def test_unet_maps_have_sorted_levels():
    maps = build_unet_maps(random_coords(700), levels=3)
    for level, coords in enumerate(maps.coords):
        assert not (coords[:, 1:] % (1 << level)).any()
        index = index_coords_reference(coords)
        expected = find_neighbors_reference(coords, *index, 3, 1 << level)
        assert torch.equal(maps.conv[level].neighbors, expected)


def test_same_voxel_twice_rejected():
    coords = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 2, 3]], dtype=torch.int32)
    with pytest.raises(ValueError, match="same voxel twice"):
        index_coords(coords)


def test_outside_the_range_rejected():
    coords = torch.tensor([[0, 1, 2, 1 << 20]], dtype=torch.int32)
    with pytest.raises(ValueError, match="voxel coordinates must lie in"):
        build_kernel_map(coords, 3)


@pytest.mark.parametrize("kernel_size", [2, 3, 4])
@pytest.mark.parametrize("n", [0, 1, 31, 997])
def test_plan(n, kernel_size):
    kernel_map = build_kernel_map(random_coords(n), kernel_size)
    neighbors, count = kernel_map.neighbors, kernel_size**3
    order, masks, columns = kernel_map.plan
    if count > 62:
        assert torch.equal(columns, neighbors.t())
        return
    bits = (neighbors >= 0).long() << torch.arange(count)
    expected, rows = torch.sort(bits.sum(dim=1), stable=True)
    assert torch.equal(masks, expected)
    assert torch.equal(order.long(), rows)
    assert torch.equal(columns, neighbors[rows].t())
