"""nearest_fill: index of the nearest known point."""

import torch

from xmask3d_rt.kernels.checks import check_bool, check_device, check_float, check_shape
from xmask3d_rt.kernels.dispatch import block_size, define_op
from xmask3d_rt.kernels.nearest_fill.reference import nearest_fill_reference

LEVELS = 16  # as in kernel.py
POINTS_PER_CELL = 2  # mean of known points in an occupied cell of the finest level searched
BLOCK_KEYS = 512
BLOCK_TARGETS = 64


def nearest_fill(points: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Index of the nearest known point, itself where known.

    Exact: distance (dx*dx + dy*dy) + dz*dz in float64, ties to the lowest index.

    Args:
        points: Positions, `[N, 3]` float; N = 0 is legal.
        known: Which points carry a value, `[N]` bool.

    Returns:
        `[N]` int64; fill any per-point value with `value[nearest]`.

    Raises:
        ValueError: wrong shapes, tensors on two devices, or no known point while N > 0.
        TypeError: integer points, or `known` not bool.
    """
    check_shape("nearest_fill", "points", points, (None, 3), "[N, 3]")
    check_shape("nearest_fill", "known", known, (points.shape[0],), "[N]")
    check_float("nearest_fill", points=points)
    check_bool("nearest_fill", known=known)
    check_device("nearest_fill", points=points, known=known)
    if points.shape[0] and not bool(known.any()):
        raise ValueError(
            f"nearest_fill: none of the {points.shape[0]} points is known; "
            f"there is nothing to fill from"
        )
    return nearest_known(points, known)


def _nearest_fill_triton(points: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    import triton

    from xmask3d_rt.kernels.nearest_fill import kernel

    n = points.shape[0]
    nearest = _nearest_fill_fake(points, known)
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


def _nearest_fill_fake(points: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    return points.new_empty((points.shape[0],), dtype=torch.int64)


# `nearest_fill` without its checks, the last of which waits for a GPU.
nearest_known = define_op(
    "nearest_fill(Tensor points, Tensor known) -> Tensor",
    reference=nearest_fill_reference,
    triton=_nearest_fill_triton,
    fake=_nearest_fill_fake,
)
