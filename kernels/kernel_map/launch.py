"""Launchers of the neighbour look-up and of the tile plan."""

import torch
import triton
from torch import Tensor

from xmask3d_rt.kernels.coords import AXIS_BITS
from xmask3d_rt.kernels.dispatch import block_size
from xmask3d_rt.kernels.kernel_map import kernel
from xmask3d_rt.kernels.voxelize.hash_table import BLOCK


def find_neighbors(
    coords: Tensor, table_keys: Tensor, table_rows: Tensor, kernel_size: int, tensor_stride: int
) -> Tensor:
    """Row of the voxel at coords + offset in a hash table, or -1: [M_out, K³] int32."""
    m, count = coords.shape[0], kernel_size**3
    neighbors = torch.empty((m, count), dtype=torch.int32, device=coords.device)
    if m:
        kernel.find_neighbors_kernel[(triton.cdiv(m * count, BLOCK),)](
            coords_ptr=coords,
            table_keys_ptr=table_keys,
            table_rows_ptr=table_rows,
            m=m,
            stride_m=coords.stride(0),
            stride_c=coords.stride(1),
            tensor_stride=tensor_stride,
            neighbors_ptr=neighbors,
            KERNEL_SIZE=kernel_size,
            AXIS_BITS=AXIS_BITS,
            LOG_CAPACITY=(table_keys.shape[0] - BLOCK).bit_length() - 1,
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
