"""Torch form of the kernel map: sorted keys and binary search.

The index of a set of voxels is its keys in ascending order and the row each came from. The
neighbours of all voxels along one run of z offsets cost a single binary search: keys are
unique and multiples of the tensor stride, so
lower_bound(q + stride) = lower_bound(q) + [keys[lower_bound(q)] = q].
"""

import torch
from torch import Tensor

from xmask3d_rt.kernels.coords import (
    check_batch,
    check_range,
    kernel_offsets,
    offset_key,
    pack_coords,
    unpack_coords,
)

_BLOCK_ROWS = 1 << 16  # voxels looked up at once; 13 MB of queries for a kernel of 5³


def check_coord_range(coords: Tensor) -> None:
    """Raise unless every value of coords [M, 4] fits its key field.

    Raises:
        ValueError: a coordinate or batch index outside the packed range.
    """
    if coords.shape[0]:
        low, high = torch.aminmax(coords, dim=0)
        check_batch("build_kernel_map", int(low[0]), int(high[0]))
        check_range("build_kernel_map", int(low[1:].min()), int(high[1:].max()))


def index_coords_reference(coords: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the voxels: keys [M] int64 ascending, rows [M] int32 they came from."""
    check_coord_range(coords)
    keys, rows = torch.sort(pack_coords(coords))
    if bool((keys[1:] == keys[:-1]).any()):
        raise ValueError(
            "build_kernel_map: coords hold the same voxel twice; pass the output of voxelize"
        )
    return keys, rows.to(torch.int32)


def index_sorted_coords_reference(coords: Tensor) -> tuple[Tensor, Tensor]:
    """As `index_coords_reference`, for distinct voxels in range and in ascending order."""
    rows = torch.arange(coords.shape[0], dtype=torch.int32, device=coords.device)
    return pack_coords(coords), rows


def find_neighbors_reference(
    coords: Tensor,  # [M_out, 4]
    index_keys: Tensor,  # [M_in]
    index_rows: Tensor,  # [M_in]
    kernel_size: int,
    tensor_stride: int,
) -> Tensor:
    """Row of the input voxel at coords + offset, or -1.

    Args:
        coords: output voxels.
        index_keys, index_rows: index of the input voxels (`index_coords_reference`).
        kernel_size: K of the cubic kernel.
        tensor_stride: spacing of the input voxels.

    Returns:
        neighbors [M_out, K³] int32.
    """
    m_out, m_in, plane = coords.shape[0], index_keys.shape[0], kernel_size * kernel_size
    neighbors = torch.full((m_out, kernel_size, plane), -1, dtype=torch.int32, device=coords.device)
    if m_in == 0 or m_out == 0:
        return neighbors.flatten(1)
    # One key past the end, so that positions after the last key read a key nobody asks for.
    padded = torch.cat([index_keys, index_keys.new_full((1,), torch.iinfo(torch.int64).max)])
    rows = torch.cat([index_rows, index_rows.new_full((1,), -1)])
    offsets = kernel_offsets(kernel_size, tensor_stride)[:plane]
    for start in range(0, m_out, _BLOCK_ROWS):
        block = neighbors[start : start + _BLOCK_ROWS]
        base = pack_coords(coords[start : start + _BLOCK_ROWS])
        query = torch.stack([base + offset_key(*offset) for offset in offsets])  # [K², rows]
        position = torch.searchsorted(index_keys, query)
        for step in range(kernel_size):
            found = padded[position] == query
            block[:, step] = torch.where(found, rows[position], -1).t()
            position += found
            query += tensor_stride
    return neighbors.flatten(1)


def downsample_coords_reference(
    coords: Tensor, tensor_stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct ⌊coords / stride⌋ · stride in ascending order, and their index.

    Returns:
        out_coords [M_out, 4] int32, keys [M_out] int64 ascending, rows [M_out] int32.
    """
    check_coord_range(coords)
    cells = torch.div(coords[:, 1:], tensor_stride, rounding_mode="floor") * tensor_stride
    keys = torch.unique(pack_coords(torch.cat([coords[:, :1], cells], dim=1)))
    rows = torch.arange(keys.shape[0], dtype=torch.int32, device=keys.device)
    return unpack_coords(keys), keys, rows
