"""What a run keeps about itself: seconds per stage, and intermediates by name."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor


class Recorder:
    """Wall seconds per stage, summed over calls, and the values of one view where asked for.

    Attributes:
        seconds: by stage.
        values: by name; stays empty unless `keeps_values`.

    Args:
        synchronize: called at the end of each stage, to charge asynchronous work to the stage
            that queued it; None leaves a GPU's queue running.
        keeps_values: whether `record` keeps what it is given, for parity checks.
    """

    def __init__(
        self, synchronize: Callable[[], None] | None = None, keeps_values: bool = False
    ) -> None:
        self.seconds: dict[str, float] = {}
        self.values: dict[str, Tensor] = {}
        self.keeps_values = keeps_values
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

    def record(self, **values: Tensor) -> None:
        """Keep `values` by name, if values are kept."""
        if self.keeps_values:
            self.values |= values
