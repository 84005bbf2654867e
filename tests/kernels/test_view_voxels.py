"""Voxels of a group of views: equal to those of each view alone, and planned without a wait."""

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.kernels.clouds import grid_voxels, random_voxels
from tests.kernels.no_wait import WaitError, no_wait
from xmask3d_rt.config import get_preset
from xmask3d_rt.kernels import (
    KernelMap,
    UNetMaps,
    ViewVoxels,
    build_unet_maps,
    build_unet_maps_from_levels,
    finish_view_voxels,
    index_coords,
    nearest_fill,
    plan_view_voxels,
    voxelize,
)
from xmask3d_rt.kernels.coords import COORD_LIMIT
from xmask3d_rt.kernels.kernel_map.reference import downsample_coords_reference
from xmask3d_rt.model.sparse_unet import MinkUNet
from xmask3d_rt.nets.sparse_unet import FoldedSparseUNet, fold_sparse_unet

LEVELS = 4
PADDED = pytest.mark.parametrize("padded", [True, False])


def random_cloud(n: int, views: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points with several to a voxel of 0.1 and negative coordinates; overlapping views."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, 3, generator=generator) * 0.6 - 0.3
    points[n // 2 :: 5] = points[: len(points[n // 2 :: 5])].clone()  # the same place twice
    share = torch.rand(views, 1, generator=generator)
    return points, torch.rand(views, n, generator=generator) < share


def group_voxels(points, visible, voxel_size, padded=True, **options) -> ViewVoxels:
    pending = plan_view_voxels(points, visible, voxel_size, padded=padded, **options)
    return finish_view_voxels(pending, pending.sizes.tolist())


def view_levels(points: Tensor, voxel_size: float, view: int, levels: int):
    """One view by the operators for one cloud: its voxels, and coords of every level."""
    voxels = voxelize(points, voxel_size)
    coords = voxels.coords.clone()
    if len(coords):
        coords[:, 1:] -= coords[:, 1:].amin(0)
    coords[:, 0] = view
    coarser = [downsample_coords_reference(coords, 2 << level)[0] for level in range(levels)]
    return voxels, [coords, *coarser]


def check_group(points, visible, voxel_size, padded, levels=LEVELS, keep_least=0) -> None:
    ours = group_voxels(points, visible, voxel_size, padded, levels=levels, keep_least=keep_least)
    assert ours.visible_counts == visible.sum(1).tolist()
    assert len(ours.level_coords) == levels + 1
    bounds, rows = 0, [0] * (levels + 1)
    for view, seen in enumerate(visible):
        indices = seen.nonzero().flatten()
        if len(indices) < keep_least:
            indices = indices[:0]
        voxels, expected = view_levels(points[indices], voxel_size, view, levels)
        mine = slice(bounds, bounds + len(indices))
        assert ours.point_counts[view] == len(indices)
        assert torch.equal(ours.indices[mine], indices)
        assert torch.equal(ours.point_to_voxel[mine], voxels.point_to_voxel + rows[0])
        first = slice(rows[0], rows[0] + len(expected[0]))
        assert torch.equal(ours.first_point[first], voxels.first_point + bounds)
        for level, coords in enumerate(expected):
            assert ours.voxel_counts[view][level] == len(coords)
            found = ours.level_coords[level][rows[level] : rows[level] + len(coords)]
            assert torch.equal(found, coords)
            assert found.dtype == coords.dtype
            rows[level] += len(coords)
        bounds += len(indices)
    assert bounds == len(ours.indices) == len(ours.point_to_voxel)
    assert rows == [len(coords) for coords in ours.level_coords]
    assert rows[0] == len(ours.first_point)
    assert ours.indices.dtype == ours.point_to_voxel.dtype == ours.first_point.dtype == torch.int64


@PADDED
@pytest.mark.parametrize(("n", "views"), [(1, 1), (31, 3), (997, 1), (3001, 5)])
def test_equals_view_by_view(n, views, padded):
    points, visible = random_cloud(n, views, seed=n)
    check_group(points, visible, 0.1, padded)
    check_group(points.double() * 3, visible, 0.02, padded, levels=0)


@PADDED
def test_views_without_points(padded):
    points, visible = random_cloud(400, 4)
    visible[0] = visible[2] = False
    check_group(points, visible, 0.1, padded)
    check_group(points, torch.zeros_like(visible), 0.1, padded)
    check_group(points[:0], visible[:, :0], 0.1, padded)


@PADDED
@pytest.mark.parametrize("keep_least", [1, 150, 200, 10**6])
def test_small_views_are_dropped(keep_least, padded):
    points, _ = random_cloud(500, 1)
    order = torch.arange(500)
    visible = torch.stack([order < 0, order < 149, order >= 350, order % 2 == 0, order > 300])
    check_group(points, visible, 0.1, padded, keep_least=keep_least)


@PADDED
def test_points_in_one_voxel_and_one_point(padded):
    points = torch.full((50, 3), -0.01)
    visible = torch.ones(2, 50, dtype=torch.bool)
    visible[1, :49] = False
    check_group(points, visible, 0.02, padded)
    voxels = group_voxels(points, visible, 0.02, padded)
    assert voxels.first_point.tolist() == [0, 50]
    assert voxels.indices[voxels.first_point].tolist() == [0, 49]


@PADDED
def test_points_on_the_walls_of_voxels(padded):
    points = torch.randperm(6000).reshape(2000, 3).double() * 0.02 - 60
    cells = torch.floor(points / 0.02)
    assert not torch.equal(cells, torch.floor(points * (1 / 0.02)))  # rounding decides
    check_group(points, torch.ones(1, 2000, dtype=torch.bool), 0.02, padded)


@PADDED
def test_strided_points_and_most_views(padded):
    points, visible = random_cloud(40, 512)
    check_group(torch.cat([points, points], 1)[:, ::2], visible, 0.1, padded, levels=2)


@PADDED
def test_points_are_left_alone(padded):
    points, visible = random_cloud(40, 2)
    columns = points.double().t().contiguous()
    before = columns.clone()
    check_group(columns.t(), visible, 0.1, padded)
    assert torch.equal(columns, before)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), padded=st.booleans(), corner=st.sampled_from([-COORD_LIMIT, -17, 0, 100000]))
def test_any_cells_seen_by_any_views(data, padded, corner):
    cell = st.tuples(*[st.integers(0, 20)] * 3)
    cells = data.draw(st.lists(cell, min_size=1, max_size=25))
    rows = data.draw(st.integers(1, 4))
    row = st.lists(st.booleans(), min_size=len(cells), max_size=len(cells))
    visible = torch.tensor([data.draw(row) for _ in range(rows)])
    points = torch.tensor(cells).double() + corner + 0.5
    check_group(points, visible, 1.0, padded, keep_least=data.draw(st.integers(0, 4)))


def assert_same_maps(ours: UNetMaps, theirs: UNetMaps) -> None:
    pairs = [(ours.stem, theirs.stem)]
    for kind in ("conv", "down", "up"):
        pairs += zip(getattr(ours, kind), getattr(theirs, kind), strict=True)
    for mine, other in pairs:
        for field in fields(KernelMap):
            a, b = getattr(mine, field.name), getattr(other, field.name)
            assert torch.equal(a, b) if torch.is_tensor(a) else a == b, field.name
    for mine, other in zip(ours.coords, theirs.coords, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("n", [1, 50, 2000])
def test_maps_equal_those_of_the_batched_voxels(n):
    points, visible = random_cloud(n, 3, seed=1)
    voxels = group_voxels(points, visible, 0.1)
    maps = build_unet_maps_from_levels(voxels.level_coords)
    assert_same_maps(maps, build_unet_maps(voxels.level_coords[0]))


def test_maps_of_no_voxels_and_of_one_level():
    empty = torch.zeros(0, 4, dtype=torch.int32)
    assert_same_maps(build_unet_maps_from_levels([empty] * 5), build_unet_maps(empty))
    cube = grid_voxels(4)
    assert_same_maps(build_unet_maps_from_levels([cube.long()]), build_unet_maps(cube, levels=0))


def test_net_on_a_group_equals_view_by_view():
    torch.manual_seed(0)
    folded = fold_sparse_unet(MinkUNet(get_preset("tiny").binary_head).eval().state_dict())
    net = FoldedSparseUNet(folded)
    points, visible = random_cloud(1500, 3, seed=2)
    voxels = group_voxels(points, visible, 0.1)
    colors = torch.rand(len(points), 3)
    feats = colors[voxels.indices[voxels.first_point]]
    outputs = net(feats, build_unet_maps_from_levels(voxels.level_coords))
    starts = [0, 0]
    for view, seen in enumerate(visible):
        alone, levels = view_levels(points[seen], 0.1, 0, LEVELS)
        expected = net(colors[seen][alone.first_point], build_unet_maps(levels[0]))
        for i, (output, theirs) in enumerate(zip(outputs, expected, strict=True)):
            rows = output[starts[i] : starts[i] + len(theirs)]
            torch.testing.assert_close(rows, theirs, atol=1e-6, rtol=1e-5)  # order of sums
            starts[i] += len(theirs)
        assert len(expected[0]) == voxels.voxel_counts[view][LEVELS]


def test_planning_and_maps_wait_for_nothing():
    points, visible = random_cloud(300, 4)
    with no_wait():
        pending = plan_view_voxels(points, visible, 0.1, LEVELS, 20, padded=True)
    sizes = pending.sizes.tolist()
    with no_wait():
        voxels = finish_view_voxels(pending, sizes)
        maps = build_unet_maps_from_levels(voxels.level_coords)
        _ = [kernel_map.plan for kernel_map in (maps.stem, *maps.conv, *maps.down, *maps.up)]


@pytest.mark.parametrize(
    "wait",
    [
        lambda points, visible: plan_view_voxels(points, visible, 0.1, padded=False),
        lambda points, visible: voxelize(points, 0.1),
        lambda points, visible: index_coords(random_voxels(40)),
        lambda points, visible: build_unet_maps(random_voxels(40)).stem.pairs,
        lambda points, visible: nearest_fill(points, visible[0]),
        lambda points, visible: points[visible[0]],
        lambda points, visible: visible.sum().tolist(),
        lambda points, visible: points + torch.tensor([1.0, 2.0, 3.0]),
        lambda points, visible: points.to("meta"),
    ],
)
def test_no_wait_sees_a_wait(wait):
    points, visible = random_cloud(100, 2)
    with pytest.raises(WaitError), no_wait():
        wait(points, visible)


@PADDED
@pytest.mark.parametrize("corner", [3000.0, -65536.0, 1e6])
def test_views_anywhere_have_the_voxels_of_views_at_the_origin(corner, padded):
    """3 km from the origin, at 2 cm a voxel, the voxel coordinates leave the packed range."""
    points, visible = random_cloud(997, 3)
    points = (points * 64).round() / 64  # so that moving by a whole number of voxels is exact
    near = group_voxels(points.double(), visible, 1 / 64, padded)
    far = group_voxels(points.double() + corner, visible, 1 / 64, padded)
    for name in ("indices", "point_to_voxel", "first_point"):
        assert torch.equal(getattr(far, name), getattr(near, name))
    for ours, theirs in zip(far.level_coords, near.level_coords, strict=True):
        assert torch.equal(ours, theirs)
    assert far.voxel_counts == near.voxel_counts


@PADDED
def test_views_far_from_each_other(padded):
    """A group may span more than the packed range, each of its views less."""
    points, _ = random_cloud(300, 1)
    visible = torch.arange(300) // 100 == torch.arange(3)[:, None]
    points = points.double()
    moved = points + torch.tensor([-4e6, 0, 4e6]).repeat_interleave(100)[:, None]
    near, far = (group_voxels(cloud, visible, 0.5, padded) for cloud in (points, moved))
    for ours, theirs in zip(far.level_coords, near.level_coords, strict=True):
        assert torch.equal(ours, theirs)


@PADDED
@pytest.mark.parametrize("value", [1e9, -1e30, torch.nan, torch.inf])
def test_points_outside_the_range_rejected(value, padded):
    points, visible = random_cloud(60, 3)
    points[7, 1] = value
    visible[:, 7] = False
    check_group(points, visible, 0.1, padded)
    visible[2, :] = False
    visible[2, 7] = True
    check_group(points, visible, 0.1, padded, keep_least=2)
    pending = plan_view_voxels(points, visible, 0.1, padded=padded)
    with pytest.raises(ValueError, match="finish_view_voxels: 1 of the points that a view sees"):
        finish_view_voxels(pending, pending.sizes)


@PADDED
def test_wide_view_rejected(padded):
    points = torch.tensor([[0.5 - COORD_LIMIT, 0, 0], [0, 0, 0], [0.5, 0, 0], [-0.5, 0, 0]])
    check_group(points, torch.eye(4, dtype=torch.bool), 1.0, padded)
    widest = torch.tensor([[True, False, False, True]])
    check_group(points, widest, 1.0, padded)
    pending = plan_view_voxels(points, widest.logical_not_(), 1.0, padded=padded)
    finish_view_voxels(pending, pending.sizes)
    pending = plan_view_voxels(points, torch.ones(1, 4, dtype=torch.bool), 1.0, padded=padded)
    with pytest.raises(ValueError, match="one view span 130561 voxels along an axis, at most"):
        finish_view_voxels(pending, pending.sizes)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"points": torch.zeros(4, 2)}, ValueError, r"\[N, 3\] = \[\*, 3\], got \[4, 2\]"),
        ({"points": torch.zeros(4, 3).int()}, TypeError, "must be floating point"),
        ({"visible": torch.zeros(4).bool()}, ValueError, r"\[V, N\]"),
        ({"visible": torch.zeros(2, 3).bool()}, ValueError, r"\[\*, 4\], got \[2, 3\]"),
        ({"visible": torch.zeros(2, 4)}, TypeError, "must be bool"),
        ({"visible": torch.zeros(2, 4, device="meta").bool()}, ValueError, "one device"),
        ({"visible": torch.zeros(0, 4).bool()}, ValueError, "pass a view or more"),
        ({"visible": torch.zeros(513, 4).bool()}, ValueError, "split the batch"),
        ({"voxel_size": 0.0}, ValueError, "voxel_size must be > 0"),
        ({"levels": 10}, ValueError, "levels must be 0 to 9, got 10"),
        ({"levels": -1}, ValueError, "levels must be"),
    ],
)
def test_bad_arguments_rejected(changed, error, message):
    arguments = {
        "points": torch.zeros(4, 3),
        "visible": torch.ones(2, 4, dtype=torch.bool),
        "voxel_size": 0.1,
    }
    with pytest.raises(error, match=message):
        plan_view_voxels(**{**arguments, **changed})


def test_too_many_entries_rejected():
    points = torch.zeros(1 << 23, 3, device="meta")
    visible = torch.zeros(256, 1 << 23, dtype=torch.bool, device="meta")
    with pytest.raises(ValueError, match="pass fewer views at a time"):
        plan_view_voxels(points, visible, 0.1)


def test_sizes_of_another_group_rejected():
    pending = plan_view_voxels(*random_cloud(20, 2), 0.1)
    with pytest.raises(ValueError, match=r"the 14 values of pending.sizes, got 3"):
        finish_view_voxels(pending, [1, 2, 3])
    with pytest.raises(ValueError, match="sizes must lie on the host"):
        finish_view_voxels(pending, pending.sizes.to("meta"))


@pytest.mark.parametrize(
    ("level_coords", "error", "message"),
    [
        ([], ValueError, "level_coords is empty"),
        ([torch.zeros(2, 3).int()], ValueError, r"\[M, 4\]"),
        ([torch.zeros(2, 4)], TypeError, "int32 or int64"),
    ],
)
def test_bad_levels_rejected(level_coords, error, message):
    with pytest.raises(error, match=message):
        build_unet_maps_from_levels(level_coords)


def test_operator_registration():
    coords = grid_voxels(3)
    torch.library.opcheck(torch.ops.xmask3d.index_sorted_coords.default, (coords,))


@pytest.mark.gpu
def test_equals_the_cpu_and_waits_for_nothing():
    folded = fold_sparse_unet(MinkUNet(get_preset("tiny").binary_head).eval().state_dict())
    net = FoldedSparseUNet(folded, "cuda")
    points, visible = random_cloud(50000, 6)
    expected = group_voxels(points, visible, 0.05, keep_least=10000)
    points, visible = points.cuda(), visible.cuda()
    colors = torch.rand(len(points), 3, device="cuda")
    for mode in ("default", "error"):  # the first round compiles kernels, and may wait for that
        try:
            torch.cuda.set_sync_debug_mode(mode)
            pending = plan_view_voxels(points, visible, 0.05, keep_least=10000)
            torch.cuda.set_sync_debug_mode("default")
            sizes = pending.sizes.cpu()
            torch.cuda.set_sync_debug_mode(mode)
            ours = finish_view_voxels(pending, sizes)
            maps = build_unet_maps_from_levels(ours.level_coords)
            net(colors[ours.indices[ours.first_point]], maps)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for name in ("indices", "point_to_voxel", "first_point"):
        assert torch.equal(getattr(ours, name).cpu(), getattr(expected, name))
    for mine, theirs in zip(ours.level_coords, expected.level_coords, strict=True):
        assert torch.equal(mine.cpu(), theirs)
    assert ours.point_counts == expected.point_counts
    assert ours.voxel_counts == expected.voxel_counts
