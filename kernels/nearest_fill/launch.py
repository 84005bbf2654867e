"""Launcher of the kernels of nearest_fill."""

import torch
import triton

from xmask3d_rt.kernels.dispatch import block_size
from xmask3d_rt.kernels.nearest_fill import kernel
from xmask3d_rt.kernels.nearest_fill.reference import make_output

LEVELS = 16  # as in kernel.py
POINTS_PER_CELL = 2  # mean of known points in an occupied cell of the finest level searched
BLOCK_KEYS = 512
BLOCK_TARGETS = 64


def launch_nearest_fill(points: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """See `nearest_fill_reference`; nothing waits for the device."""
    n = points.shape[0]
    nearest = make_output(points)
    if not n:
        return nearest
    block = block_size(BLOCK_KEYS)
    blocks = (triton.cdiv(n, block),)
    frame = _grid_frame(points)
    keys = torch.empty_like(nearest)
    kernel.cell_keys_kernel[blocks](
        points_ptr=points,
        known_ptr=known.contiguous().view(torch.uint8),
        frame_ptr=frame,
        n=n,
        stride_n=points.stride(0),
        stride_c=points.stride(1),
        keys_ptr=keys,
        BLOCK=block,
        enable_fp_fusion=False,
    )
    keys, order = keys.sort()
    known_count = known.sum().view(1)
    changes = torch.zeros(LEVELS, dtype=torch.int32, device=points.device)
    kernel.count_cells_kernel[blocks](
        sorted_keys_ptr=keys, known_count_ptr=known_count, counts_ptr=changes, BLOCK=block
    )
    cells = changes + 1  # [LEVELS] occupied by known points
    first_level = (known_count < POINTS_PER_CELL * cells).sum().view(1)
    block = block_size(BLOCK_TARGETS)
    kernel.nearest_kernel[(triton.cdiv(n, block),)](
        sorted_points_ptr=points[order].contiguous(),
        sorted_keys_ptr=keys,
        order_ptr=order,
        frame_ptr=frame,
        known_count_ptr=known_count,
        first_level_ptr=first_level,
        n=n,
        search_steps=n.bit_length(),
        nearest_ptr=nearest,
        BLOCK=block,
        num_warps=1,
        enable_fp_fusion=False,  # a fused multiply-add would break ties unlike the reference
    )
    return nearest


def _grid_frame(points: torch.Tensor) -> torch.Tensor:
    """Origin and cell size of a cube of 2^LEVELS cells around all points, [4] float64."""
    low = points.amin(0).double()
    extent = (points.amax(0).double() - low).max()
    size = torch.where(extent > 0, extent * ((1 + 1e-9) / (1 << LEVELS)), 1.0)
    return torch.cat([low, size.view(1)])
