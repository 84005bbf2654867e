"""The few things the runtime asks of a GPU's queues: streams, events and graphs.

Behind a protocol, so that the order of work can be checked on a machine without a GPU.

Source: CUDA programming guide, "Asynchronous concurrent execution" and "CUDA graphs"; PyTorch
notes, "CUDA semantics", CUDA graphs.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

_CAPTURES = threading.Lock()  # torch allows one capture at a time in a process


@dataclass(frozen=True)
class Lane:
    """Work that never runs at the same time as other work of the same lane.

    `stream` is where its graphs are captured, `pool` the memory of their intermediates. Graphs
    of a lane share both: one finishes before the next starts, and none leaves a result in the
    pool. Graphs of two lanes may run at the same time and must share neither: a stream, too,
    has memory of its own (cuBLAS's workspace) that a capture bakes in.
    """

    stream: Any
    pool: Any


class Streams(Protocol):
    """Queues of one device."""

    def current(self) -> Any:
        """The stream the caller queues on."""

    def make_lane(self) -> Lane:
        """A new stream with a memory pool for graphs."""

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Queue what is called inside on `stream`."""

    def record(self, stream: Any) -> Any:
        """An event after everything queued on `stream` so far."""

    def wait(self, stream: Any, event: Any) -> None:
        """Let what is queued on `stream` from now on start after `event`."""

    def capture(self, lane: Lane, run: Callable[[], None]) -> Callable[[], None]:
        """What `run` queues, as one graph; the returned function queues it on the current stream.

        `run` must have run once before. Nothing is executed here.
        """


class CudaStreams:
    """`Streams` of one NVIDIA GPU.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def current(self) -> torch.cuda.Stream:
        """The calling thread's current stream on the device."""
        return torch.cuda.current_stream(self._device)

    def make_lane(self) -> Lane:
        """A non-blocking stream with a private memory pool."""
        return Lane(torch.cuda.Stream(self._device), torch.cuda.graph_pool_handle())

    def on(self, stream: torch.cuda.Stream) -> AbstractContextManager[Any]:
        """Make `stream`, and its device, the current one inside."""
        return torch.cuda.stream(stream)

    def record(self, stream: torch.cuda.Stream) -> torch.cuda.Event:
        """A new event at the end of `stream`."""
        return stream.record_event()

    def wait(self, stream: torch.cuda.Stream, event: torch.cuda.Event) -> None:
        """Queue a wait for `event`; the host goes on at once."""
        stream.wait_event(event)

    def capture(self, lane: Lane, run: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph of `run`; waits for the device once, before the capture.

        Other threads may go on allocating memory meanwhile (capture mode thread_local).

        Raises:
            RuntimeError: something in `run` may not be captured.
        """
        graph = torch.cuda.CUDAGraph()
        # a capture that fails leaves its own stream current; the outer block puts ours back
        with (
            _CAPTURES,
            torch.cuda.stream(self.current()),
            torch.cuda.graph(
                graph, pool=lane.pool, stream=lane.stream, capture_error_mode="thread_local"
            ),
        ):
            run()
        return graph.replay
