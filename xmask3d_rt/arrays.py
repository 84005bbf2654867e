"""Arrays of any library as NumPy arrays, and the checks the public boundary shares."""

from typing import Any

import numpy as np


def to_numpy(value: Any, where: str) -> np.ndarray:
    """`value` as a NumPy array on the host, without a copy where that is possible.

    Args:
        value: a NumPy array, nested lists, a torch tensor on any device, or any object with
            `__dlpack__` or `__cuda_array_interface__` (CuPy, PyCUDA, Numba, JAX ...).
        where: name of the call and the argument, which starts every message.

    Raises:
        TypeError: the elements are not numbers.
        ValueError: nested lists of unequal length.
    """
    if not isinstance(value, np.ndarray):
        value = _fetch(value, where)
    if value.dtype.kind not in "fiu":
        raise TypeError(
            f"{where} must hold real numbers, got dtype {value.dtype}; convert it to float32"
        )
    return value


def check_finite(values: np.ndarray, where: str) -> tuple[float, float]:
    """Smallest and largest of `values`, which may not be empty.

    Raises:
        ValueError: NaN or infinite entries; the message has their count and the first index.
    """
    low, high = float(values.min()), float(values.max())  # NaN wins both
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    bad = ~np.isfinite(values)
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    raise ValueError(
        f"{where} has {int(bad.sum())} NaN or infinite values, the first at index "
        f"{list(first)} ({values[first]}); remove those entries"
    )


def _fetch(value: Any, where: str) -> np.ndarray:
    """Host copy of an array of another library, or an array of nested lists."""
    if hasattr(value, "__cuda_array_interface__") or hasattr(value, "__dlpack__"):
        import torch

        if not isinstance(value, torch.Tensor):
            value = _as_tensor(value)
        value = value.detach().cpu()
        if value.dtype == torch.bfloat16:
            value = value.float()
        return value.numpy()
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{where} is not a rectangular array: {error}") from error


def _as_tensor(value: Any) -> Any:
    """A torch tensor sharing memory with an array that speaks one of the two protocols."""
    import torch

    if hasattr(value, "__dlpack__"):
        return torch.from_dlpack(value)
    return torch.as_tensor(value, device="cuda")
