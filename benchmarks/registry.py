"""What a kernel benchmark is, and how the cases of all operators are found."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import benchmarks.kernel_cases as kernel_cases

Forms = dict[str, Callable[[], Any]]
Count = int | Callable[[], int]


@dataclass(frozen=True)
class KernelCase:
    """One operator at one size.

    `build(device)` makes the inputs and returns the callables to compare: "ours", the naive
    form and whatever comparator is installed. `moved_bytes` is the least traffic, every input
    read and every output written once; `flops` counts a multiply-add as two; either may be a
    function, where it depends on the inputs. A `large` case runs on a GPU, and on a CPU only
    when asked for.
    """

    op: str
    shape: str
    dtype: str
    build: Callable[[torch.device], Forms]
    moved_bytes: Count
    flops: Count = 0
    large: bool = False


def resolve_count(count: Count) -> int:
    """A count of bytes or operations, called where it is a function."""
    return count() if callable(count) else count


def collect_cases() -> list[KernelCase]:
    """Cases of every module of `kernel_cases`, from its function `benchmark_cases`."""
    cases: list[KernelCase] = []
    for info in pkgutil.iter_modules(kernel_cases.__path__):
        module = importlib.import_module(f"{kernel_cases.__name__}.{info.name}")
        cases += module.benchmark_cases()
    return cases
