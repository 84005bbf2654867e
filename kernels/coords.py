"""Voxel coordinates as packed 64-bit keys.

key = ((batch · 2^18 + x + 2^17) · 2^18 + y + 2^17) · 2^18 + z + 2^17

Nine bits of batch and eighteen of each axis fill 63 bits, so keys are non-negative and their
order is the lexicographic order of (batch, x, y, z). Coordinates keep `MARGIN` away from the
ends of their field: the key of a neighbour is then key + offset_key(dx, dy, dz), with no carry
into the next field.
"""

import torch
from torch import Tensor

AXIS_BITS = 18
BATCH_LIMIT = 1 << 9
AXIS_BIAS = 1 << (AXIS_BITS - 1)
MARGIN = 1 << 9
COORD_LIMIT = AXIS_BIAS - MARGIN  # coordinates lie in [-COORD_LIMIT, COORD_LIMIT)
_FIELD = (1 << AXIS_BITS) - 1


def pack_coords(coords: Tensor) -> Tensor:
    """Keys [M] int64 of coords [M, 4] (batch, x, y, z); ranges are the caller's to check."""
    wide = coords.to(torch.int64)
    batch, x, y, z = wide.unbind(1)
    key = (batch << AXIS_BITS) + x + AXIS_BIAS
    key = (key << AXIS_BITS) + y + AXIS_BIAS
    return (key << AXIS_BITS) + z + AXIS_BIAS


def unpack_coords(keys: Tensor) -> Tensor:
    """Coords [M, 4] int32 (batch, x, y, z) of keys [M] int64."""
    z = (keys & _FIELD) - AXIS_BIAS
    y = ((keys >> AXIS_BITS) & _FIELD) - AXIS_BIAS
    x = ((keys >> 2 * AXIS_BITS) & _FIELD) - AXIS_BIAS
    return torch.stack([keys >> 3 * AXIS_BITS, x, y, z], dim=1).to(torch.int32)


def offset_key(dx: int, dy: int, dz: int) -> int:
    """What to add to a key to move by (dx, dy, dz) voxels."""
    return (((dx << AXIS_BITS) + dy) << AXIS_BITS) + dz


def kernel_offsets(kernel_size: int, tensor_stride: int = 1) -> list[tuple[int, int, int]]:
    """Offsets (dx, dy, dz) of a cubic kernel, in voxels.

    k = i0 + K·i1 + K²·i2 with the first axis fastest; i - ⌊K/2⌋ for odd K, i for even K;
    times the tensor stride of the input.

    Source: MinkowskiEngine 0.5.4, kernel_region (HYPER_CUBE).
    """
    start = -(kernel_size // 2) if kernel_size % 2 else 0
    steps = [(start + i) * tensor_stride for i in range(kernel_size)]
    return [(dx, dy, dz) for dz in steps for dy in steps for dx in steps]


def check_coords(name: str, coords: Tensor) -> None:
    """Raise unless coords is [M, 4] of an integer type; values are checked where they are read.

    Raises:
        ValueError: wrong shape.
        TypeError: floating-point coordinates.
    """
    if coords.dim() != 2 or coords.shape[1] != 4:
        raise ValueError(
            f"{name}: coords must have shape [M, 4] (batch, x, y, z), got {list(coords.shape)}"
        )
    if coords.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name}: coords must be int32 or int64, got {coords.dtype}")


def check_range(name: str, low: float, high: float) -> None:
    """Raise unless every voxel coordinate between low and high fits its key field.

    Raises:
        ValueError: a coordinate outside [-COORD_LIMIT, COORD_LIMIT), or NaN.
    """
    if not (low >= -COORD_LIMIT and high < COORD_LIMIT):
        raise ValueError(
            f"{name}: voxel coordinates must lie in [{-COORD_LIMIT}, {COORD_LIMIT}), got "
            f"{low:g} to {high:g}; subtract the minimum of the points or use larger voxels"
        )


def check_batch(name: str, low: int, high: int) -> None:
    """Raise unless every batch index lies in [0, BATCH_LIMIT).

    Raises:
        ValueError: a batch index outside that range.
    """
    if low < 0 or high >= BATCH_LIMIT:
        raise ValueError(
            f"{name}: batch indices must lie in [0, {BATCH_LIMIT}), got {low} to {high}; "
            f"split the batch"
        )
