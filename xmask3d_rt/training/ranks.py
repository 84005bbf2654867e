"""Sums over the processes of a distributed run; in a single process everything is the identity."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch import distributed as dist

Average = Callable[[Tensor], Tensor]


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, 0 for a single one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


@torch.no_grad()
def sum_over_ranks(value: Tensor) -> Tensor:
    """Sum of a tensor over all processes, a copy without gradient."""
    total = value.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def average_over_ranks(value: Tensor) -> Tensor:
    """Mean of a tensor over all processes, without gradient."""
    return value if world_size() == 1 else sum_over_ranks(value) / world_size()


def keep_own(value: Tensor) -> Tensor:
    """The tensor itself: an `Average` over this process alone."""
    return value


def divide_by_count(total: Tensor, count: Tensor, average: Average) -> Tensor:
    """total / count, the count averaged over the processes; 0 in the graph where nothing counts.

    The gradient of a distributed step is the mean over its processes, so this makes a mean over
    the global batch of one over each process's own.

    Args:
        total: sum over this process's elements, scalar.
        count: number (or weight) of them, scalar.
        average: mean of a scalar over the processes.
    """
    count = average(count.to(total.dtype))
    return total / torch.where(count > 0, count, torch.ones_like(count))
