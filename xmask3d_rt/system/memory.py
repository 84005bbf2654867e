"""Memory and processor cores of this process, and memory of the GPU it works on."""

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

# With 1,000 threads on two cores opening the engines of the smallest model takes over a minute.
THREADS_PER_CORE = 4
MOST_THREADS = 64  # are allowed on any machine


def count_cores() -> int:
    """Cores this process may use."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        with contextlib.suppress(psutil.Error, OSError):
            return len(process.cpu_affinity())
    return psutil.cpu_count() or os.cpu_count() or 1


def check_threads(threads: int | None) -> int | None:
    """A number of CPU threads that helps; None for every core.

    Raises:
        TypeError: no whole number.
        ValueError: less than 1, or so many more than there are cores that starting them takes
            minutes.
    """
    return None if threads is None else check_count(threads, "threads")


def check_count(count: int, what: str) -> int:
    """A number of threads or processes that this machine can start.

    Raises:
        TypeError, ValueError: as of `check_threads`.
    """
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"{what} must be a whole number, got {count!r}")
    cores = count_cores()
    most = max(MOST_THREADS, THREADS_PER_CORE * cores)
    if not 1 <= count <= most:
        raise ValueError(
            f"{what} must lie in 1..{most}, got {count}; this process may use {cores} core"
            f"{'s' if cores > 1 else ''}"
        )
    return count


def read_peak_memory() -> int:
    """Largest resident memory of this process so far, bytes.

    On Linux the kernel's own high-water mark: what `getrusage` says of a child process there
    begins with the memory of the parent that started it.
    """
    with contextlib.suppress(OSError, StopIteration):
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return memory.peak_wset
    try:
        import resource
    except ImportError:
        return memory.rss
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def read_device_memory(device: "torch.device") -> int:
    """Bytes in use on a GPU by everybody, engines included; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    import torch  # the builder's child process reads its own memory without it

    free, total = torch.cuda.mem_get_info(device)
    return total - free


def format_bytes(size: float) -> str:
    """A number of bytes in MiB, from 1 GiB on in GiB: `12.3 MiB`, `1.50 GiB`."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
