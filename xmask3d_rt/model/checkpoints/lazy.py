"""A tensor of a weight file that is read when it is needed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LazyTensor:
    """Shape and dtype known, values behind `load`; the file is kept open by the closure."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    load: Callable[[], Tensor]

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)
