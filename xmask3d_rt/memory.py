"""Memory of this process."""

import resource
from pathlib import Path


def read_peak_memory() -> int:
    """Largest resident memory of this process so far, bytes.

    The kernel's own high-water mark: what `getrusage` says of a child process on Linux begins
    with the memory of the parent that started it.
    """
    try:
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(line.split()[1]) * 1024
