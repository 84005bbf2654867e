"""What a result row says about the machine, and how rows are kept."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import describe_machine
from xmask3d_rt.cli.doctor import describe_system
from xmask3d_rt.export.build.fingerprint import read_versions
from xmask3d_rt.files import atomic_write
from xmask3d_rt.system.extras import find_version
from xmask3d_rt.system.memory import read_device_memory, read_peak_memory

RESULTS = Path(__file__).parent / "results"
_LIBRARIES = ("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")


def describe_setup(device: torch.device) -> dict[str, str]:
    """The columns of `describe_machine`, the processor's instructions and the libraries."""
    system = describe_system()
    versions = list_versions()
    return {
        **describe_machine(device),
        "instructions": system["instructions"] if device.type == "cpu" else "",
        "libraries": " ".join(f"{k}={versions[k]}" for k in _LIBRARIES if k in versions),
    }


def list_versions() -> dict[str, str]:
    """Versions of everything a timing depends on."""
    versions = read_versions()
    triton = find_version("triton")
    if triton is not None:
        versions["triton"] = triton
    return versions


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds, and how many values they come from."""
    values = 1000 * np.asarray(seconds, dtype=np.float64)
    p50, p95, p99 = np.percentile(values, (50, 95, 99)) if len(values) else (np.nan,) * 3
    return {
        "p50_ms": round(float(p50), 4),
        "p95_ms": round(float(p95), 4),
        "p99_ms": round(float(p99), 4),
        "count": len(values),
    }


def host_peak_mib() -> float:
    """Largest memory of this process so far."""
    return round(read_peak_memory() / 2**20, 1)


def device_used_mib(device: torch.device) -> float:
    """Memory in use on a GPU by everybody, engines included; 0 on a CPU."""
    return round(read_device_memory(device) / 2**20, 1)


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a CSV file; columns it lacks are added to all of it.

    Args:
        path: made where missing.
        rows: column → value; all with the same columns.
    """
    old: list[dict[str, Any]] = []
    if path.is_file():
        with path.open(newline="") as stream:
            old = list(csv.DictReader(stream))
    columns = list(dict.fromkeys([*(old[0] if old else ()), *(key for r in rows for key in r)]))
    write_rows(path, columns, [*old, *rows])


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file of rows, whole or not at all; values they lack are empty."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
