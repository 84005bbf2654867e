"""nearest_fill: index of the nearest known point."""

import torch

from xmask3d_rt.kernels.checks import check_bool, check_device, check_float, check_shape
from xmask3d_rt.kernels.dispatch import Operator
from xmask3d_rt.kernels.nearest_fill.reference import make_output, nearest_fill_reference


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


# `nearest_fill` without its checks, the last of which waits for a GPU.
nearest_known = Operator("nearest_fill", nearest_fill_reference, make_output)
