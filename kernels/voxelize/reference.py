"""Torch form of voxelize: the truth for the kernel and the CPU path.

coords = floor(float64(xyz) · (1 / voxel_size)); voxels in ascending order of (batch, x, y, z);
the first point of a voxel is the one with the smallest index.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from xmask3d_rt.kernels.coords import check_batch, check_range, pack_coords, unpack_coords


class Voxels(NamedTuple):
    """Occupied cells of a grid and how points and cells refer to each other."""

    coords: Tensor  # [M, 4] int32 (batch, x, y, z)
    point_to_voxel: Tensor  # [N] int64
    first_point: Tensor  # [M] int64


def voxelize_reference(
    points: Tensor,  # [N, 3]
    voxel_size: float,
    batch: Tensor | None,  # [N]
) -> Voxels:
    """See `xmask3d_rt.kernels.voxelize`."""
    keys = point_keys_reference(points, voxel_size, batch)  # [N]
    return Voxels(*unique_keys_reference(keys))


def unique_keys_reference(keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct keys in ascending order, with the inverse and each one's first position.

    Args:
        keys: [N] int64.

    Returns:
        coords [M, 4] int32 of the distinct keys, inverse [N] int64, first [M] int64.
    """
    # A stable sort leaves the first occurrence of a key at the head of its run.
    ordered, order = torch.sort(keys, stable=True)
    head = torch.ones_like(ordered, dtype=torch.bool)
    head[1:] = ordered[1:] != ordered[:-1]
    inverse = torch.empty_like(order)
    inverse[order] = torch.cumsum(head, 0) - 1
    return unpack_coords(ordered[head]), inverse, order[head]


def point_keys_reference(points: Tensor, voxel_size: float, batch: Tensor | None) -> Tensor:
    """Packed key of the voxel of every point, [N] int64."""
    cells = torch.floor(points.to(torch.float64) * (1.0 / voxel_size))  # [N, 3]
    if cells.numel():
        low, high = torch.aminmax(cells)
        check_range("voxelize", low.item(), high.item())
    coords = torch.zeros((points.shape[0], 4), dtype=torch.int64, device=points.device)
    coords[:, 1:] = cells.to(torch.int64)
    if batch is not None and batch.numel():
        low, high = torch.aminmax(batch)
        check_batch("voxelize", int(low), int(high))
        coords[:, 0] = batch
    return pack_coords(coords)
