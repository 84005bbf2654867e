"""Child processes that never outlive this one, and commands that never keep it waiting.

Run as a script it is the launcher of `tie_to_parent`: `python processes.py PARENT COMMAND ...`.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO, Any, TypeVar

import psutil

CANNOT_RUN = 127  # exit status of the launcher where there is no such command

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: exit status, negative for a signal; None where it ran out of time.
        stdout, stderr: what it printed; bytes that are no UTF-8 appear as U+FFFD.
    """

    status: int | None
    stdout: str
    stderr: str


def run_command(
    command: Sequence[str], timeout: float | None = None, env: Mapping[str, str] | None = None
) -> Outcome:
    """Run a command to its end or for `timeout` seconds; nothing of it is left running."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        with start_child(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=env
        ) as process:
            try:
                status: int | None = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = None
        return Outcome(status, _read_text(stdout), _read_text(stderr))


@contextlib.contextmanager
def start_child(
    command: Sequence[str], patience: float = 0.0, **options: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """A running command that ends with the block, and with this process however that ends.

    Args:
        command: program and arguments.
        patience: seconds it may take to end after an interrupt before it is killed.
        options: of `subprocess.Popen`.
    """
    process = subprocess.Popen(tie_to_parent(command), **options)
    try:
        yield process
    finally:
        end_tree(process, patience)


def end_tree(process: "subprocess.Popen[bytes]", patience: float = 0.0) -> None:
    """End a child and all processes below it, by Ctrl-C first where `patience` seconds are given.

    Returns when the child has ended.
    """
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        below = []
    if patience and process.poll() is None and sys.platform != "win32":
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    for child in below:
        with contextlib.suppress(psutil.Error):
            child.kill()
    process.kill()
    process.wait()


def call_apart(function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)` in a fresh process, which ends with this one.

    Raises:
        ChildProcessError: the function raised or its process was killed; its traceback is on
            stderr.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    job = (sender, os.getpid(), function, arguments)
    process = context.Process(target=_send_result, args=job, daemon=True)
    process.start()
    sender.close()  # the other end is the child's alone, so that its death ends the waiting
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(
            f"{function.__name__} failed in a process of its own, which ended with "
            f"{describe_status(process.exitcode)}"
        ) from None
    finally:
        process.kill()
        process.join()


def describe_status(status: int | None) -> str:
    """An exit status in words; signals by their names."""
    if status is None or status >= 0:
        return f"exit code {status}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-status).name}"
    return f"signal {-status}"


def tie_to_parent(command: Sequence[str]) -> list[str]:
    """A command line that runs `command` and ends it when this process has ended."""
    # by path: importing the package takes longer; -P: its folder is no place to import from
    return [sys.executable, "-P", __file__, str(os.getpid()), *map(str, command)]


def die_with_parent(parent: int) -> None:
    """End this process as soon as its parent has ended.

    Args:
        parent: id of the parent, as the parent knows it.
    """
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before that
            os._exit(1)
    else:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os._exit(1)


def _send_result(
    sender: "Connection[Any, Any]", parent: int, function: Callable[..., Any], arguments: Any
) -> None:
    die_with_parent(parent)
    sender.send(function(*arguments))


def _read_text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def _launch(parent: int, command: Sequence[str]) -> int:
    """Become the command where the kernel ends orphans by itself; else run it and watch."""
    try:
        if sys.platform != "linux":
            return _supervise(parent, command)
        die_with_parent(parent)
        for name in ("SIGPIPE", "SIGXFSZ"):  # ignored by Python, and inherited so
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.execvp(command[0], list(command))
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        return CANNOT_RUN


def _supervise(parent: int, command: Sequence[str]) -> int:
    process = subprocess.Popen(command)
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(0.5)
            if not psutil.pid_exists(parent):
                return 1
    finally:
        end_tree(process)


if __name__ == "__main__":
    sys.exit(_launch(int(sys.argv[1]), sys.argv[2:]))
