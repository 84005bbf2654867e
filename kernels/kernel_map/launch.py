"""Launcher of the neighbour look-up."""

import torch
import triton
from torch import Tensor

from xmask3d_rt.kernels.coords import AXIS_BITS
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
