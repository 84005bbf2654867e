"""voxelize: points to the cells of a regular grid."""

from typing import Any

import torch
from torch import Tensor

from xmask3d_rt.kernels.dispatch import Operator
from xmask3d_rt.kernels.voxelize.reference import Voxels, voxelize_reference


def voxelize(points: Tensor, voxel_size: float, batch: Tensor | None = None) -> Voxels:
    """Occupied voxels of a point cloud, the voxel of every point, the first point of every voxel.

    coords = floor(float64(xyz) · (1 / voxel_size)), nothing subtracted; voxels come in
    ascending order of (batch, x, y, z). The first point of a voxel is the one with the smallest
    index, on every device.

    Args:
        points: [N, 3] floating point, in the unit of voxel_size; N = 0 is legal.
        voxel_size: edge of a voxel, > 0.
        batch: [N] integer batch index of every point; None puts all into batch 0.

    Returns:
        Voxels(coords [M, 4] int32, point_to_voxel [N] int64, first_point [M] int64).

    Raises:
        ValueError: wrong shapes, voxel_size <= 0, a non-finite point, or a voxel or batch index
            outside the range of a packed key (`xmask3d_rt.kernels.coords`).
        TypeError: points are not floating point or batch is not integer.
    """
    if points.dim() != 2 or points.shape[1] != 3:
        raise ValueError(f"voxelize: points must have shape [N, 3], got {list(points.shape)}")
    if not points.is_floating_point():
        raise TypeError(f"voxelize: points must be floating point, got {points.dtype}")
    if not voxel_size > 0:
        raise ValueError(f"voxelize: voxel_size must be > 0, got {voxel_size}")
    if batch is not None:
        if batch.shape != points.shape[:1]:
            raise ValueError(
                f"voxelize: batch must have shape [{points.shape[0]}] like the points, "
                f"got {list(batch.shape)}"
            )
        if batch.is_floating_point() or batch.dtype == torch.bool:
            raise TypeError(f"voxelize: batch must be integer, got {batch.dtype}")
    return _voxelize(points, float(voxel_size), batch)


def _make_fake(points: Tensor, **_: Any) -> Voxels:
    m = torch.library.get_ctx().new_dynamic_size()
    return Voxels(
        coords=points.new_empty((m, 4), dtype=torch.int32),
        point_to_voxel=points.new_empty((points.shape[0],), dtype=torch.int64),
        first_point=points.new_empty((m,), dtype=torch.int64),
    )


_voxelize = Operator("voxelize", voxelize_reference, _make_fake)
