"""Measuring one callable on a CPU or a GPU, and describing the machine it ran on."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from xmask3d_rt.cli.doctor import TOOL_TIMEOUT, describe_system
from xmask3d_rt.errors import one_line
from xmask3d_rt.system.processes import run_command
from xmask3d_rt.version import __version__

WARM_UP = 2
MIN_REPEATS = 5
MAX_REPEATS = 200
COPY_BYTES = 1 << 28  # far beyond every cache


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call over all repeats, and the peak of GPU memory beyond the inputs."""

    median_ms: float
    p95_ms: float
    p99_ms: float
    repeats: int
    peak_mib: float | None


def measure(call: Callable[[], Any], device: torch.device, budget_s: float = 1.0) -> Timing:
    """Time `call` until `budget_s` is spent, between MIN_REPEATS and MAX_REPEATS times.

    On a GPU the times are those of device events and the stream is synchronised before they
    are read; on a CPU they are wall-clock times.
    """
    for _ in range(WARM_UP):
        call()
    peak = None
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        peak = (torch.cuda.max_memory_allocated(device) - held) / 2**20
    samples: list[float] = []
    started = time.perf_counter()
    while len(samples) < MIN_REPEATS or (
        len(samples) < MAX_REPEATS and time.perf_counter() - started < budget_s
    ):
        samples.append(_time_once(call, device))
    median, p95, p99 = np.percentile(samples, [50, 95, 99])
    return Timing(median, p95, p99, len(samples), peak)


def _time_once(call: Callable[[], Any], device: torch.device) -> float:
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return (time.perf_counter() - started) * 1e3
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def copy_gbps(device: torch.device) -> float:
    """Bandwidth of a large device-to-device copy, bytes read and written, in GB/s."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    timing = measure(lambda: target.copy_(source), device, budget_s=0.5)
    return 2 * COPY_BYTES / timing.median_ms / 1e6


def describe_machine(device: torch.device) -> dict[str, str]:
    """Device, driver, versions and commit: the columns that make a row comparable."""
    on_gpu = device.type == "cuda"
    system = describe_system()
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else system["processor"],
        "driver": system["nvidia driver"] if on_gpu else "",
        "threads": str(torch.get_num_threads()) if device.type == "cpu" else "",
        "torch": torch.__version__,
        "triton": _triton_version(),
        "version": __version__,
        "commit": _first_line("git", "rev-parse", "--short", "HEAD"),
        "date": time.strftime("%Y-%m-%d"),
    }


def _triton_version() -> str:
    try:
        import triton
    except ImportError:
        return ""
    return triton.__version__


def _first_line(*command: str) -> str:
    """First line a command prints, or nothing where it is missing, fails or hangs."""
    outcome = run_command(command, TOOL_TIMEOUT)
    lines = outcome.stdout.strip().splitlines() if outcome.status == 0 else []
    return one_line(lines[0]) if lines else ""
