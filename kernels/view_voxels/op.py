"""Voxels of a group of views at every level of a UNet, with one read of sizes.

Planning works on arrays of V · N entries, one per view and point, so that no shape depends on
the data: where a view does not use a point, the key is `LAST` and sorts behind all others. The
voxels of each level are counted there. `finish_view_voxels` knows all sizes: it cuts the sorted
keys to length and makes the levels from them, on far shorter arrays.

key of (view v, cell c) = pack(v, c - min_v) = pack(0, c) + pack(v, -min_v) - pack(0, 0),
min_v the smallest cell of the view along each axis; a level clears the low bits of each axis.
Only the sum must fit the packed range, so a view may lie anywhere: packing is linear in int64,
where what overflows in one term is undone by the other.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from xmask3d_rt.kernels.checks import check_bool, check_device, check_float, check_shape
from xmask3d_rt.kernels.coords import (
    AXIS_BIAS,
    AXIS_BITS,
    COORD_LIMIT,
    MARGIN,
    check_batch,
    offset_key,
    pack_coords,
    unpack_coords,
)
from xmask3d_rt.kernels.view_voxels.types import PendingViewVoxels, ViewVoxels

LAST = torch.iinfo(torch.int64).max  # a key that no voxel has
MAX_ENTRIES = (1 << 31) - 1  # positions are summed up in int32
CELL_LIMIT = 1 << 30  # cells from the origin: their differences fit int32


def plan_view_voxels(
    points: Tensor,  # [N, 3]
    visible: Tensor,  # [V, N]
    voxel_size: float,
    levels: int = 4,
    keep_least: int = 0,
    padded: bool | None = None,
) -> PendingViewVoxels:
    """Queue the voxels of the points that each view sees, and of their coarser levels.

    For each view as `voxelize` of its points, less the smallest voxel coordinate along each
    axis; level l + 1 holds the distinct ⌊coords / 2^(l + 1)⌋ · 2^(l + 1). Padded, nothing waits
    for the device; on a GPU the peak is then about 70 bytes per point and view (40 of them in
    `torch.sort`) and 60 per point, and 17 per point and view stay until the result is dropped.

    Args:
        points: scene points, `[N, 3]` floating point, in the unit of voxel_size; N = 0 is legal.
        visible: which points each view sees, `[V, N]` bool, 1 <= V <= 512.
        voxel_size: edge of a voxel, > 0.
        levels: number of stride-2 stages, 0 to 9.
        keep_least: a view that sees fewer points is dropped: it gets no points and no voxels.
        padded: whether to work on all N points; False lists those that a view sees, and the
            voxels of each level, which a GPU is waited for, but costs a CPU less. None pads on
            a GPU.

    Returns:
        `PendingViewVoxels`, for `finish_view_voxels`.

    Raises:
        ValueError: wrong shapes, devices that differ, voxel_size <= 0, or too many views,
            levels or entries.
        TypeError: points are not floating point or visible is not bool.
    """
    _check(points, visible, voxel_size, levels)
    padded = points.is_cuda if padded is None else padded
    listed = None if padded else visible.any(0).nonzero().flatten()
    if listed is not None:
        points, visible = points[listed], visible[:, listed]
    if not points.shape[0]:  # one point that no view sees: a minimum needs an element
        points, visible = points.new_zeros(1, 3), visible.new_zeros(visible.shape[0], 1)
    seen = visible.sum(1)  # [V]
    used = visible & (seen >= keep_least)[:, None]
    unused = used.logical_not()
    xyz = points.t().contiguous()  # [3, N]
    cells = torch.floor(xyz.to(torch.float64) * (1.0 / voxel_size))
    # Comparing so that NaN is outside, too. An outside point stands at 0; the sizes tell of it.
    outside = (cells.abs() < CELL_LIMIT).all(0).logical_not()  # [N]
    cells = cells.masked_fill_(outside, 0.0).to(torch.int32)
    outside = (outside & unused.all(0).logical_not()).sum()
    point_keys, view_keys, extent = _split_keys(cells, unused)
    keys = (point_keys + view_keys[:, None]).masked_fill_(unused, LAST)  # [V, N]
    keys, entries = torch.sort(keys.flatten(), stable=True)
    voxels = _count_voxels(keys, visible.shape[0], levels, padded)
    sizes = torch.cat([seen, voxels.flatten(), outside.view(1), extent.view(1)])
    return PendingViewVoxels(sizes, listed, used, keys, entries, levels, keep_least)


def finish_view_voxels(pending: PendingViewVoxels, sizes: Tensor | Sequence[int]) -> ViewVoxels:
    """The voxels of a group of views, from what was queued and its sizes; waits for nothing.

    Args:
        pending: from `plan_view_voxels`.
        sizes: `pending.sizes`, copied to the host.

    Returns:
        `ViewVoxels`; a view without points, and a dropped one, has no voxels.

    Raises:
        ValueError: a point that is used is not finite, those of a view span more voxels than a
            packed key holds (2.6 km of 2 cm), or sizes of another length or not on the host.
    """
    seen, voxel_counts = _read_sizes(pending, sizes)
    kept = [count if count >= pending.keep_least else 0 for count in seen]
    level_sizes = [sum(counts) for counts in zip(*voxel_counts, strict=True)]
    total = sum(kept)
    keys, entries = pending.keys[:total], pending.entries[:total]
    head = _mark_first(keys)
    rank = torch.cumsum(head, 0) - 1  # [n] voxel of each entry
    # Where an entry lies among the used ones, view after view.
    order = torch.cumsum(pending.used.flatten(), 0, dtype=torch.int32)  # [V * N]
    position = order[entries].to(torch.int64) - 1  # [n]
    indices, point_to_voxel = torch.empty_like(entries), torch.empty_like(entries)
    indices[position] = entries % pending.used.shape[1]
    if pending.listed is not None:
        indices = pending.listed[indices]
    point_to_voxel[position] = rank
    level_keys = [_take(keys, head, rank, level_sizes[0])]
    for level in range(1, pending.levels + 1):
        level_keys.append(_take_coarser(level_keys[-1], level, level_sizes[level]))
    return ViewVoxels(
        indices=indices,
        visible_counts=seen,
        point_counts=kept,
        point_to_voxel=point_to_voxel,
        # The sort was stable: the lowest point of a voxel stands at its head.
        first_point=_take(position, head, rank, level_sizes[0]),
        level_coords=tuple(unpack_coords(level) for level in level_keys),
        voxel_counts=voxel_counts,
    )


def _split_keys(cells: Tensor, unused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keys of points [N] and of views [V], whose sum is that of a cell in a view; widest extent."""
    by_view = [axis.expand(unused.shape) for axis in cells]  # 3 of [V, N]
    low = torch.stack([axis.masked_fill(unused, CELL_LIMIT).amin(1) for axis in by_view])
    high = torch.stack([axis.masked_fill(unused, -CELL_LIMIT).amax(1) for axis in by_view])
    no_view = torch.zeros_like(cells[0])
    point_keys = pack_coords(torch.stack([no_view, *cells], dim=1))
    view = torch.arange(unused.shape[0], dtype=torch.int32, device=unused.device)
    view_keys = pack_coords(torch.stack([view, *-low], dim=1))
    view_keys -= offset_key(AXIS_BIAS, AXIS_BIAS, AXIS_BIAS)
    return point_keys, view_keys, (high.to(torch.int64) - low + 1).amax()


def _count_voxels(keys: Tensor, views: int, levels: int, padded: bool) -> Tensor:
    """Voxels of each level and view, [levels + 1, V], from sorted keys; waits unless padded."""
    starts = torch.full((views + 1,), LAST, dtype=torch.int64, device=keys.device)
    starts[:views] = torch.arange(views, device=keys.device) << 3 * AXIS_BITS
    counts = []
    for level in range(levels + 1):
        head = _mark_first(keys)
        before = torch.zeros(keys.shape[0] + 1, dtype=torch.int32, device=keys.device)
        torch.cumsum(head, 0, dtype=torch.int32, out=before[1:])
        counts.append(before[torch.searchsorted(keys, starts)].diff())
        if level < levels:
            keys = _coarsen(keys, level + 1)
            keys = keys.masked_fill_(head.logical_not(), LAST) if padded else keys[head]
            keys = torch.sort(keys).values
    return torch.stack(counts).to(torch.int64)


def _mark_first(keys: Tensor) -> Tensor:
    """Where a voxel's run begins in sorted keys, [L] bool."""
    head = keys != LAST
    head[1:] &= keys[1:] != keys[:-1]
    return head


def _coarsen(keys: Tensor, level: int) -> Tensor:
    """Keys of ⌊coords / 2^level⌋ · 2^level; the bias of an axis is a multiple of that."""
    low = (1 << level) - 1
    return keys & ~offset_key(low, low, low)


def _take(values: Tensor, head: Tensor, rank: Tensor, size: int) -> Tensor:
    """values[head], whose length is known: the others are written behind its end."""
    taken = values.new_empty(size + 1)
    taken[torch.where(head, rank, size)] = values
    return taken[:size]


def _take_coarser(keys: Tensor, level: int, size: int) -> Tensor:
    """The distinct keys of a level, in order, from those of the level below."""
    keys = torch.sort(_coarsen(keys, level)).values
    head = _mark_first(keys)
    return _take(keys, head, torch.cumsum(head, 0) - 1, size)


def _read_sizes(
    pending: PendingViewVoxels, sizes: Tensor | Sequence[int]
) -> tuple[list[int], list[list[int]]]:
    """Points seen by each view, and voxels of each view at each level; checks the range."""
    if isinstance(sizes, Tensor):
        if sizes.device.type != "cpu":
            raise ValueError(
                f"finish_view_voxels: sizes must lie on the host, got a tensor on {sizes.device}; "
                f"copy pending.sizes to the CPU first"
            )
        sizes = sizes.tolist()
    values, views = list(sizes), pending.used.shape[0]
    if len(values) != pending.sizes.shape[0]:
        raise ValueError(
            f"finish_view_voxels: sizes must have the {pending.sizes.shape[0]} values of "
            f"pending.sizes, got {len(values)}"
        )
    *by_level, outside, extent = values[views:]
    if outside:
        raise ValueError(
            f"finish_view_voxels: {outside} of the points that a view sees are not finite, or lie "
            f"{CELL_LIMIT} voxels or more from the origin; drop them or subtract their minimum"
        )
    if extent > COORD_LIMIT:
        raise ValueError(
            f"finish_view_voxels: the points of one view span {extent} voxels along an axis, at "
            f"most {COORD_LIMIT} fit; cut the cloud into parts or use larger voxels"
        )
    return values[:views], [by_level[view::views] for view in range(views)]


def _check(points: Tensor, visible: Tensor, voxel_size: float, levels: int) -> None:
    op = "plan_view_voxels"
    check_shape(op, "points", points, (None, 3), "[N, 3]")
    check_shape(op, "visible", visible, (None, points.shape[0]), "[V, N]")
    check_float(op, points=points)
    check_bool(op, visible=visible)
    check_device(op, points=points, visible=visible)
    if not voxel_size > 0:
        raise ValueError(f"{op}: voxel_size must be > 0, got {voxel_size}")
    if not 0 <= levels < MARGIN.bit_length():
        raise ValueError(f"{op}: levels must be 0 to {MARGIN.bit_length() - 1}, got {levels}")
    if not visible.shape[0]:
        raise ValueError(f"{op}: visible must have a row per view, got none; pass a view or more")
    check_batch(op, 0, visible.shape[0] - 1)
    if visible.numel() > MAX_ENTRIES:
        raise ValueError(
            f"{op}: views x points must be at most {MAX_ENTRIES}, got {visible.shape[0]} x "
            f"{visible.shape[1]}; pass fewer views at a time"
        )
