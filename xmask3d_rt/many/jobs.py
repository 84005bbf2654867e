"""Jobs, one per scene, on slots of workers; what is done is logged and never done again.

A worker that dies takes one job with it: its slot gets a new worker and the job is tried again, so
each job is done once or named as failed. So is one that lacked memory or whose disk failed; damaged
or missing data is no better at a second look.
"""

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from xmask3d_rt.errors import one_line
from xmask3d_rt.files import atomic_write, describe_write_errors, make_folder
from xmask3d_rt.many.workers import Slot

logger = logging.getLogger(__name__)

LOG_FILE = "done.jsonl"
ATTEMPTS = 3
# What bad data of the caller raises.
FINAL = (ValueError, TypeError, FileNotFoundError)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """One scene's work.

    Attributes:
        name: unique.
        payload: what the worker is called with; picklable.
        key: changes whenever the work would give something else.
    """

    name: str
    payload: Any
    key: str = ""


@dataclass
class JobLog:
    """What is done and what failed, a JSON object per line; read again by the next run.

    The `files` of a record are relative to the folder; a job counts as done while they are there
    in their size.
    """

    folder: Path
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(cls, folder: Path, wait: bool = False) -> Iterator["JobLog"]:
        """The log of a folder, which no other run may use meanwhile.

        Args:
            folder: made where it is absent.
            wait: for another run to end.

        Raises:
            ValueError: another run works on the folder, and it is not waited for.
        """
        make_folder(folder)
        try:
            with FileLock(folder / f".{LOG_FILE}.lock", timeout=-1 if wait else 0):
                log = cls(folder)
                log._read()
                yield log
        except Timeout as error:
            raise ValueError(f"another run is working on {folder}; wait for it to end") from error

    def is_done(self, job: Job) -> bool:
        """Whether a job is done and its files are there."""
        record = self.records.get(job.name)
        if record is None or record["status"] != "done" or record["key"] != job.key:
            return False
        files = ((self.folder / name, size) for name, size in record.get("files", {}).items())
        return all(path.is_file() and path.stat().st_size == size for path, size in files)

    def add(self, job: Job, status: str, **values: Any) -> None:
        """Record the outcome of a job; it is on disk when this returns."""
        record = {"scene": job.name, "status": status, "key": job.key, **values}
        self.records[job.name] = record
        path = self.folder / LOG_FILE
        with describe_write_errors(path), path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _read(self) -> None:
        """Take over the last outcome of every job; a line cut short by a crash is dropped."""
        path = self.folder / LOG_FILE
        if not path.is_file():
            return
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
                self.records[record["scene"]] = {"status": "", "key": "", **record}
            except (ValueError, TypeError, KeyError):
                logger.warning("%s: dropped a damaged line", path)
        with atomic_write(path) as temporary:
            lines = (json.dumps(r, ensure_ascii=False) + "\n" for r in self.records.values())
            temporary.write_text("".join(lines), encoding="utf-8")


def run_jobs(
    jobs: Sequence[Job],
    slots: Sequence[Slot],
    log: JobLog,
    attempts: int = ATTEMPTS,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Do every job that the log does not name as done.

    Args:
        jobs: names must be unique.
        slots: at least one; the caller closes them.
        log: receives every outcome.
        attempts: how often a job is tried, unless its data is bad.
        progress: called with (jobs done, jobs).

    Returns:
        Error by name of the jobs that failed.

    Raises:
        ValueError: two jobs of one name, no slots, or attempts < 1.
    """
    _check(jobs, slots, attempts)
    waiting = deque((job, 1) for job in jobs if not log.is_done(job))
    done = len(jobs) - len(waiting)
    idle = deque(slots)
    running: dict[Future[dict[str, Any]], tuple[Slot, Job, int]] = {}
    failed: dict[str, str] = {}
    if progress is not None:
        progress(done, len(jobs))
    while waiting or running:
        while waiting and idle:
            slot, (job, attempt) = idle.popleft(), waiting.popleft()
            running[slot.submit(job.payload)] = slot, job, attempt
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            slot, job, attempt = running.pop(future)
            idle.append(slot)
            error = future.exception()
            if error is None:
                log.add(job, "done", attempts=attempt, **future.result())
                done += 1
                if progress is not None:
                    progress(done, len(jobs))
                continue
            if isinstance(error, slot.lost):
                slot.close()
            reason = describe_error(error, slot)
            if attempt < attempts and not isinstance(find_cause(error), FINAL):
                logger.warning("%s: %s; it is tried again", job.name, reason)
                waiting.append((job, attempt + 1))
            else:
                log.add(job, "failed", attempts=attempt, error=reason)
                failed[job.name] = reason
    return failed


def describe_error(error: BaseException, slot: Slot) -> str:
    """An error in one line; a dead worker says so."""
    if isinstance(error, slot.lost):
        return f"its worker died ({type(error).__name__}), perhaps for lack of memory"
    cause = find_cause(error)
    return f"{type(cause).__name__}: {one_line(cause)}"


def find_cause(error: BaseException) -> BaseException:
    """What a job raised; Ray wraps it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error


def _check(jobs: Sequence[Job], slots: Sequence[Slot], attempts: int) -> None:
    names = [job.name for job in jobs]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ValueError(f"two scenes are called {double[0]!r}; every name may occur once")
    if not slots:
        raise ValueError("run_jobs: no slots; pass at least one")
    if attempts < 1:
        raise ValueError(f"attempts must be >= 1, got {attempts}")
