"""Slots of workers on this machine: this process, or a process of its own.

A slot holds one worker, which loads its engines once. `ray_slots.py` has those on Ray.
"""

import multiprocessing
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from xmask3d_rt.system.memory import check_count

Work = Callable[[Any], dict[str, Any]]  # payload → what the log records
OpenWorker = Callable[[int], Work]  # number of the slot → its worker; picklable


@dataclass(frozen=True)
class Resources:
    """What one worker takes on Ray: CPU threads, and a GPU where `gpu` is set."""

    threads: int = 1
    gpu: bool = False


class Slot(ABC):
    """A place for one worker."""

    lost: tuple[type[BaseException], ...] = ()  # what a future raises where the worker died

    @abstractmethod
    def submit(self, payload: Any) -> "Future[dict[str, Any]]":
        """Start a job; there is none running."""

    @abstractmethod
    def close(self) -> None:
        """End the worker; the next job gets another one."""


class LocalSlot(Slot):
    """Works in this process, at once."""

    def __init__(self, open_worker: OpenWorker, number: int = 0) -> None:
        self._setup = open_worker, number
        self._hands = WorkerHands(open_worker, number)

    def submit(self, payload: Any) -> "Future[dict[str, Any]]":
        """Do the job before returning."""
        future: Future[dict[str, Any]] = Future()
        try:
            future.set_result(self._hands.work(payload))
        except Exception as error:  # handed on, as a process would
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Let go of the worker and of its engines."""
        self._hands = WorkerHands(*self._setup)


class ProcessSlot(Slot):
    """Works in a process of its own, started afresh (a fork would break CUDA and OpenMP)."""

    lost = (BrokenProcessPool,)

    def __init__(self, open_worker: OpenWorker, number: int) -> None:
        self._setup = open_worker, number
        self._executor: ProcessPoolExecutor | None = None

    def submit(self, payload: Any) -> "Future[dict[str, Any]]":
        """Hand the job to the process, which is started with the first one."""
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), _set_up_process, self._setup
            )
        return self._executor.submit(_work_in_process, payload)

    def close(self) -> None:
        """End the process once it has nothing to do."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


class WorkerHands:
    """A worker opened at its first job, whose failures are then those of a job."""

    def __init__(self, open_worker: OpenWorker, number: int) -> None:
        self._setup = open_worker, number
        self._work: Work | None = None

    def work(self, payload: Any) -> dict[str, Any]:
        """Do a job; the record also says where and how long."""
        start = time.perf_counter()
        if self._work is None:
            open_worker, number = self._setup
            self._work = open_worker(number)
        record = self._work(payload)
        seconds = round(time.perf_counter() - start, 3)
        return {**record, "worker": f"{socket.gethostname()}:{os.getpid()}", "seconds": seconds}


_hands: WorkerHands | None = None  # of a worker process


def _set_up_process(open_worker: OpenWorker, number: int) -> None:
    global _hands
    _hands = WorkerHands(open_worker, number)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever, with the engines in memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work_in_process(payload: Any) -> dict[str, Any]:
    if _hands is None:
        raise RuntimeError("the worker process was not set up")
    return _hands.work(payload)


def make_local_slots(open_worker: OpenWorker, workers: int) -> list[Slot]:
    """Slots on this machine: this process for one worker, else a process each.

    Raises:
        ValueError: less than 1, or many more than there are cores.
    """
    check_count(workers, "workers")
    if workers == 1:
        return [LocalSlot(open_worker)]
    return [ProcessSlot(open_worker, number) for number in range(workers)]
