"""Stages of the feature pass on fixed buffers: two sets of them, and a CUDA graph per set.

Source: CUDA programming guide, "CUDA graphs"; PyTorch notes, "CUDA semantics", CUDA graphs.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xmask3d_rt.engines.base import Engine
from xmask3d_rt.pipeline.streams import Lane, Streams

logger = logging.getLogger(__name__)

Buffers = dict[str, Tensor]


@dataclass
class BufferSet:
    """Buffers for one batch of views on its way through the engines, and how far it is.

    `encoded` and `decoded` are events of the current batch; nothing queued so far touches the
    buffers after `idle`. `turn` counts the batches that used the set.
    """

    index: int
    buffers: Buffers
    idle: Any
    encoded: Any = None
    decoded: Any = None
    turn: int = 0

    def of_batch(self, batch: int) -> Buffers:
        """The first `batch` images of every buffer: contiguous, and always at the same place."""
        return {name: b[:batch] if b.ndim else b for name, b in self.buffers.items()}


@dataclass(frozen=True)
class Pending:
    """A batch between `FeaturePass.start` and `FeaturePass.finish`, which takes it once."""

    image: Tensor  # [B, 3, S, S]
    features: Mapping[str, Tensor]  # of the VAE encoder, where stages are called one by one
    buffer_set: BufferSet | None = None  # where they are queued
    turn: int = 0


class Stage:
    """One step of the pass: called once as it is, then captured, then replayed.

    That is so for every set and batch size: a graph is bound to its buffers. Any thread may
    replay it, but only one that has made the call before captures it. Where a capture fails, the
    stage is called as it is from then on.

    Args:
        name: of the stage, for messages.
        work: queues the step on the current stream; reads and writes the given buffers alone.
        lane: work it never overlaps with.
        streams: of the device.
        graphs: whether to capture.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Buffers], None],
        lane: Lane,
        streams: Streams,
        graphs: bool,
    ) -> None:
        self.name = name
        self._work = work
        self._lane = lane
        self._streams = streams
        self._graphs = graphs
        self._warm: set[tuple[int, int, int]] = set()  # (set, batch, thread) called before
        self._replays: dict[tuple[int, int], Callable[[], None]] = {}

    def queue(self, buffer_set: BufferSet, batch: int, stream: Any) -> None:
        """Queue the step for the first `batch` images of `buffer_set` on `stream`."""
        key = (buffer_set.index, batch)
        # libraries make a handle per thread at its first call, which no capture allows
        warm = (*key, threading.get_ident())
        with self._streams.on(stream):
            if self._graphs and warm in self._warm and key not in self._replays:
                self._capture(key, buffer_set.of_batch(batch))
            if key in self._replays:
                self._replays[key]()
                return
            self._work(buffer_set.of_batch(batch))
            self._warm.add(warm)

    def _capture(self, key: tuple[int, int], buffers: Buffers) -> None:
        try:
            self._replays[key] = self._streams.capture(self._lane, lambda: self._work(buffers))
        except Exception as error:  # any library called inside may refuse, each in its own way
            self._graphs = False
            self._replays.clear()
            logger.warning(
                "%s: no CUDA graph, its work is queued call by call: %s: %s",
                self.name,
                type(error).__name__,
                str(error).strip().partition("\n")[0],
            )


def allocate_buffers(engines: Iterable[Engine], batch: int, device: torch.device) -> Buffers:
    """A buffer for every input and output of the engines, shared by name.

    Args:
        engines: their tensors of the same name are the same quantity.
        batch: images, the size of axis B.
        device: where the engines run.
    """
    buffers: Buffers = {}
    for engine in engines:
        specs = (*engine.inputs, *engine.outputs)
        shapes = engine.signature.resolve(specs, {"B": batch})
        for spec, shape in zip(specs, shapes, strict=True):
            if spec.name not in buffers:
                buffers[spec.name] = torch.empty(shape, dtype=spec.torch_dtype, device=device)
    return buffers


def infer_in_place(engine: Engine, buffers: Mapping[str, Tensor]) -> None:
    """Run an engine from buffers into buffers."""
    engine.infer(
        {spec.name: buffers[spec.name] for spec in engine.inputs},
        out={spec.name: buffers[spec.name] for spec in engine.outputs},
    )
