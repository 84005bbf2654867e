"""What a run keeps about itself: seconds per stage, and intermediates by name."""

import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

Trace = MutableMapping[str, Tensor]


class StageTimes:
    """Wall seconds per stage, summed over calls.

    Args:
        synchronize: called at the end of each stage, to charge asynchronous work to the stage
            that queued it; None leaves a GPU's queue running.
    """

    def __init__(self, synchronize: Callable[[], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._synchronize = synchronize

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of the enclosed block to `stage`; an NVTX range of that name on a GPU."""
        start = time.perf_counter()
        with torch.cuda.nvtx.range(stage) if torch.cuda.is_available() else nullcontext():
            yield
        if self._synchronize is not None:
            self._synchronize()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def record_trace(trace: Trace | None, **values: Tensor) -> None:
    """Keep `values` in `trace`, if there is one."""
    if trace is not None:
        trace.update(values)
