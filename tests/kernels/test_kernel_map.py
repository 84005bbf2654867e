"""Kernel maps on the CPU: in[i] = out[o] + offset[k] for every entry, none missing, none extra."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.kernels.clouds import random_voxels
from xmask3d_rt.kernels import build_kernel_map, build_unet_maps, index_coords
from xmask3d_rt.kernels.coords import COORD_LIMIT, kernel_offsets


def brute_force_entries(in_coords, out_coords, kernel_size, tensor_stride):
    """Every (k, input row, output row), from a dictionary of coordinates."""
    rows = {tuple(c): i for i, c in enumerate(in_coords.tolist())}
    entries = set()
    for k, (dx, dy, dz) in enumerate(kernel_offsets(kernel_size, tensor_stride)):
        for o, (b, x, y, z) in enumerate(out_coords.tolist()):
            i = rows.get((b, x + dx, y + dy, z + dz))
            if i is not None:
                entries.add((k, i, o))
    return entries


def entries_of(kernel_map):
    bounds = kernel_map.offsets.tolist()
    k = torch.repeat_interleave(torch.arange(len(bounds) - 1), kernel_map.offsets.diff())
    maps = kernel_map.in_maps.tolist(), kernel_map.out_maps.tolist()
    return list(zip(k.tolist(), *maps, strict=True))


def check_map(kernel_map, expected):
    entries = entries_of(kernel_map)
    assert len(entries) == len(set(entries))
    assert set(entries) == expected
    dense = {
        (k, i, o)
        for o, row in enumerate(kernel_map.neighbors.tolist())
        for k, i in enumerate(row)
        if i >= 0
    }
    assert dense == expected


def test_offset_order_first_axis_fastest():
    assert kernel_offsets(3)[:4] == [(-1, -1, -1), (0, -1, -1), (1, -1, -1), (-1, 0, -1)]
    assert kernel_offsets(2, 4)[:3] == [(0, 0, 0), (4, 0, 0), (0, 4, 0)]
    assert kernel_offsets(5)[62] == (0, 0, 0)


@pytest.mark.parametrize(("kernel_size", "tensor_stride"), [(1, 1), (2, 1), (3, 1), (3, 4), (5, 2)])
@pytest.mark.parametrize("n", [1, 31, 499])
def test_submanifold_map(n, kernel_size, tensor_stride):
    coords = random_voxels(n, batches=2)
    coords = coords[torch.randperm(len(coords))]
    coords[:, 1:] *= tensor_stride
    kernel_map = build_kernel_map(coords, kernel_size, tensor_stride=tensor_stride)
    check_map(kernel_map, brute_force_entries(coords, coords, kernel_size, tensor_stride))
    swapped = {(k, o, i) for k, i, o in entries_of(kernel_map)}
    check_map(kernel_map.swapped, swapped)


@pytest.mark.parametrize(
    ("kernel_size", "stride", "tensor_stride"), [(2, 2, 1), (2, 2, 8), (3, 2, 1), (3, 3, 2)]
)
def test_strided_and_transposed_map(kernel_size, stride, tensor_stride):
    coords = random_voxels(400, batches=2)
    coords[:, 1:] *= tensor_stride
    down = build_kernel_map(coords, kernel_size, stride, tensor_stride)
    step = stride * tensor_stride
    floors = torch.cat([coords[:, :1], coords[:, 1:].div(step, rounding_mode="floor") * step], 1)
    assert torch.equal(down.out_coords, torch.unique(floors, dim=0))
    entries = brute_force_entries(coords, down.out_coords, kernel_size, tensor_stride)
    check_map(down, entries)
    up = build_kernel_map(
        down.out_coords, kernel_size, stride, step, transposed=True, out_coords=coords
    )
    check_map(up, {(k, o, i) for k, i, o in entries})
    assert torch.equal(up.out_coords, coords)
    assert up.transposed
    assert up.tensor_stride == step


@settings(deadline=None, max_examples=40)
@given(
    cells=hnp.arrays(np.int64, st.tuples(st.integers(1, 30), st.just(3)), elements={
        "min_value": -4, "max_value": 3}),
    corner=st.sampled_from([-COORD_LIMIT + 4, -17, 0, COORD_LIMIT - 4]),
    kernel_size=st.integers(1, 4),
)  # fmt: skip
def test_any_voxels_anywhere_in_range(cells, corner, kernel_size):
    unique = torch.unique(torch.from_numpy(cells), dim=0) + corner
    coords = torch.cat([torch.zeros(len(unique), 1, dtype=torch.int64), unique], dim=1).int()
    kernel_map = build_kernel_map(coords, kernel_size)
    check_map(kernel_map, brute_force_entries(coords, coords, kernel_size, 1))


def test_no_voxels():
    maps = build_unet_maps(torch.zeros(0, 4, dtype=torch.int32))
    assert [c.shape for c in maps.coords] == [(0, 4)] * 5
    assert maps.stem.neighbors.shape == (0, 125)
    assert maps.up[3].in_maps.shape == (0,)


def test_unet_maps_equal_single_maps():
    coords = random_voxels(600)
    coords = coords[torch.randperm(len(coords))]
    maps = build_unet_maps(coords)
    assert torch.equal(maps.coords[0], coords)
    assert torch.equal(maps.stem.neighbors, build_kernel_map(coords, 5).neighbors)
    for level in range(5):
        single = build_kernel_map(maps.coords[level], 3, tensor_stride=1 << level)
        assert torch.equal(maps.conv[level].neighbors, single.neighbors)
    for level in range(4):
        down = build_kernel_map(maps.coords[level], 2, 2, 1 << level)
        assert torch.equal(maps.down[level].neighbors, down.neighbors)
        assert torch.equal(maps.coords[level + 1], down.out_coords)
        assert torch.equal(maps.up[level].neighbors, down.swapped.neighbors)
        # A transposed 2³ map has one entry per output: the voxel that contains it.
        assert ((maps.up[level].neighbors >= 0).sum(dim=1) == 1).all()


def test_plan_sorts_rows_by_occupied_offsets():
    coords = random_voxels(400)
    kernel_map = build_kernel_map(coords, 3)
    order, masks, columns = kernel_map.plan
    assert torch.equal(order.sort().values, torch.arange(len(coords), dtype=torch.int32))
    assert torch.equal(columns.t(), kernel_map.neighbors[order.long()])
    bits = (kernel_map.neighbors >= 0)[order.long()].long() << torch.arange(27)
    assert torch.equal(masks, bits.sum(dim=1))
    assert (masks.diff() >= 0).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"coords": torch.zeros(3, 3).int(), "kernel_size": 3}, ValueError, r"\[M, 4\]"),
        ({"coords": torch.zeros(3, 4), "kernel_size": 3}, TypeError, "int32 or int64"),
        ({"coords": torch.zeros(2, 4).int(), "kernel_size": 3}, ValueError, "voxel twice"),
        ({"coords": torch.zeros(1, 4).int(), "kernel_size": 0}, ValueError, "kernel_size must be"),
        (
            {"coords": torch.zeros(1, 4).int(), "kernel_size": 3, "stride": 0},
            ValueError,
            "stride must be",
        ),
        (
            {"coords": torch.zeros(1, 4).int(), "kernel_size": 3, "tensor_stride": 1024},
            ValueError,
            "reach beyond",
        ),
        (
            {"coords": torch.zeros(1, 4).int(), "kernel_size": 2, "transposed": True},
            ValueError,
            "needs out_coords",
        ),
        (
            {"coords": torch.tensor([[0, 0, 0, COORD_LIMIT]]), "kernel_size": 3},
            ValueError,
            "voxel coordinates must lie",
        ),
        (
            {"coords": torch.tensor([[-1, 0, 0, 0]]), "kernel_size": 3},
            ValueError,
            "batch indices must lie",
        ),
    ],
)
def test_bad_arguments_rejected(arguments, error, message):
    with pytest.raises(error, match=message):
        build_kernel_map(**arguments)


def test_stride_that_does_not_divide_rejected():
    coords = random_voxels(20)
    with pytest.raises(ValueError, match="does not divide"):
        build_kernel_map(coords, 2, 2, 3, transposed=True, out_coords=coords)


def test_index_is_shared_between_maps():
    coords = random_voxels(100)
    index = index_coords(coords)
    shared = build_kernel_map(coords, 3, index=index)
    assert torch.equal(shared.neighbors, build_kernel_map(coords, 3).neighbors)
    assert shared.in_coords is index.coords


def test_operator_registration():
    coords = random_voxels(40)
    index = index_coords(coords)
    ops = torch.ops.xmask3d
    torch.library.opcheck(ops.index_coords.default, (coords,))
    torch.library.opcheck(ops.downsample_coords.default, (coords, 2))
    arguments = (coords, index.keys, index.rows, 3, 1)
    torch.library.opcheck(ops.find_neighbors.default, arguments)
