"""Launchers of the voxel index, the neighbour look-up and the tile plan."""

import torch
import triton
from torch import Tensor

from xmask3d_rt.kernels.coords import AXIS_BITS
from xmask3d_rt.kernels.dispatch import block_size
from xmask3d_rt.kernels.kernel_map import kernel
from xmask3d_rt.kernels.kernel_map.reference import check_coord_range, index_coords_reference
from xmask3d_rt.kernels.voxelize.launch import BLOCK, coord_keys, insert_unique, unique_keys


def launch_index_coords(coords: Tensor) -> tuple[Tensor, Tensor]:
    """See `index_coords_reference`; a hash table in place of sorted keys."""
    keys, status = coord_keys(coords)
    table = insert_unique(keys, status)
    if status.item():
        index_coords_reference(coords)  # raises, naming the values
    return table.keys, table.rows


def launch_index_sorted_coords(coords: Tensor) -> tuple[Tensor, Tensor]:
    """See `index_sorted_coords_reference`; a hash table in place of sorted keys."""
    table = insert_unique(*coord_keys(coords))  # nobody reads the status: that would wait
    return table.keys, table.rows


def launch_downsample_coords(coords: Tensor, tensor_stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """See `downsample_coords_reference`; a hash table in place of sorted keys."""
    keys, status = coord_keys(coords, tensor_stride)
    unique = unique_keys(keys, status, lambda: check_coord_range(coords))
    return unique.coords, unique.table.keys, unique.table.rows


def launch_find_neighbors(
    coords: Tensor, index_keys: Tensor, index_rows: Tensor, kernel_size: int, tensor_stride: int
) -> Tensor:
    """See `find_neighbors_reference`; the index is a hash table."""
    m, count = coords.shape[0], kernel_size**3
    neighbors = torch.empty((m, count), dtype=torch.int32, device=coords.device)
    if m:
        kernel.find_neighbors_kernel[(triton.cdiv(m * count, BLOCK),)](
            coords_ptr=coords,
            table_keys_ptr=index_keys,
            table_rows_ptr=index_rows,
            m=m,
            stride_m=coords.stride(0),
            stride_c=coords.stride(1),
            tensor_stride=tensor_stride,
            neighbors_ptr=neighbors,
            KERNEL_SIZE=kernel_size,
            AXIS_BITS=AXIS_BITS,
            LOG_CAPACITY=(index_keys.shape[0] - BLOCK).bit_length() - 1,
            BLOCK=BLOCK,
        )
    return neighbors


def plan_tiles(neighbors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row order, sorted row masks and columns of a map; see `KernelMap.plan`."""
    m, count = neighbors.shape
    masks = torch.empty(m, dtype=torch.int64, device=neighbors.device)
    columns = torch.empty((count, m), dtype=torch.int32, device=neighbors.device)
    blocks = {"BLOCK_M": block_size(64, 512), "BLOCK_K": triton.next_power_of_2(count)}
    grid = (triton.cdiv(max(m, 1), blocks["BLOCK_M"]),)
    neighbors = neighbors.contiguous()
    kernel.row_masks_kernel[grid](
        neighbors_ptr=neighbors, m=m, masks_ptr=masks, OFFSETS=count, **blocks
    )
    masks, order = torch.sort(masks, stable=True)
    kernel.columns_kernel[grid](
        neighbors_ptr=neighbors,
        order_ptr=order,
        m=m,
        columns_ptr=columns,
        OFFSETS=count,
        **blocks,
    )
    return order.to(torch.int32), masks, columns
