"""Repeatable noise from positions alone."""

import numpy as np


def hash_cells(a: np.ndarray, b: np.ndarray, seed: np.ndarray | int = 0) -> np.ndarray:
    """Repeatable values in [0, 1) for integer cells (a, b): 32-bit multiply and shift mixing."""
    mixed = (
        a.astype(np.int64) * 73856093
        ^ b.astype(np.int64) * 19349663
        ^ np.asarray(seed, dtype=np.int64) * 83492791
    ) & 0xFFFFFFFF
    for _ in range(2):
        mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 16)) / 2.0**32


def value_noise(u: np.ndarray, v: np.ndarray, seed: np.ndarray | int = 0) -> np.ndarray:
    """Smooth noise in [0, 1): values of the four cell corners around (u, v), interpolated."""
    a, b = np.floor(u), np.floor(v)
    s, t = u - a, v - b
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    low = hash_cells(a, b, seed) * (1 - s) + hash_cells(a + 1, b, seed) * s
    high = hash_cells(a, b + 1, seed) * (1 - s) + hash_cells(a + 1, b + 1, seed) * s
    return low * (1 - t) + high * t
