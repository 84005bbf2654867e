"""Memory of this process, and of the GPU it works on."""

import resource
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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
