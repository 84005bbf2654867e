"""Voxels of a group of views: while their number is on its way, and after."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class PendingViewVoxels:
    """Queued work of `plan_view_voxels`; copy `sizes` to the host and call `finish_view_voxels`.

    `sizes` holds, one after another: points seen by each view [V], voxels of each level and view
    [levels + 1, V], points that are used but not finite (or absurdly far) [1], and the widest
    extent of a view in cells [1]. The rest belongs to `finish_view_voxels`; what no view uses lies
    at the end of the V · N keys.
    """

    sizes: Tensor  # [V + (levels + 1) · V + 2] int64
    listed: Tensor | None  # [N] int64, scene point of each point; None where they are all there
    used: Tensor  # [V, N] bool, points of the views that are kept
    keys: Tensor  # [V * N] int64 ascending, voxel of every point and view
    entries: Tensor  # [V * N] int64, view · N + point of every key
    levels: int
    keep_least: int


@dataclass(frozen=True, eq=False)
class ViewVoxels:
    """Voxels of a group of views, batch item = position of the view in the group.

    n points and M voxels in all; those of a view lie together, view after view. The colour of
    voxel m is that of point `indices[first_point[m]]`.
    """

    indices: Tensor  # [n] int64, points of each view, ascending inside a view
    visible_counts: list[int]  # points that each view sees
    point_counts: list[int]  # the same, 0 for a view that was dropped; their sum is n
    point_to_voxel: Tensor  # [n] int64, row of `level_coords[0]`
    first_point: Tensor  # [M] int64, row of `indices`: the lowest point of each voxel
    level_coords: tuple[Tensor, ...]  # levels + 1 of [M_l, 4] int32, ascending packed key
    voxel_counts: list[list[int]]  # voxels of each view at each level
