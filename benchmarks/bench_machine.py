"""What a result row says about the machine, and how rows are kept."""

import csv
import datetime
import importlib.metadata
import resource
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xmask3d_rt.doctor import describe_system
from xmask3d_rt.export.fingerprint import read_versions

RESULTS = Path(__file__).parent / "results"
_EXTRA_LIBRARIES = ("triton", "tensorrt", "tensorrt-rtx")


def describe_machine(device: torch.device) -> dict[str, str]:
    """Device, driver and commit of a result row."""
    system = describe_system()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{system['processor']}, {system['cores']} cores"
    return {
        "date": datetime.date.today().isoformat(),
        "device": name,
        "instructions": system["instructions"] if device.type == "cpu" else "",
        "driver": system["nvidia driver"] if device.type == "cuda" else "none",
        "commit": find_commit(),
    }


def list_versions() -> dict[str, str]:
    """Versions of everything a timing depends on."""
    versions = read_versions()
    for name in _EXTRA_LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def find_commit() -> str:
    """Short hash of the checkout, with `+` where files differ from it; `unknown` outside one."""
    root = Path(__file__).parents[1]
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


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
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def device_used_mib(device: torch.device) -> float:
    """Memory in use on a GPU by everybody, engines included; 0 on a CPU."""
    if device.type != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return round((total - free) / 2**20, 1)


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
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*old, *rows])
    part.replace(path)
