"""The kernel benchmarks: every case is well formed, and the command writes its rows."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.registry import KernelCase, collect_cases
from benchmarks.timing import measure

ROOT = Path(__file__).parents[2]


def test_cases_are_distinct_and_count_their_traffic():
    cases = collect_cases()
    assert len({(case.op, case.shape, case.dtype) for case in cases}) == len(cases)
    assert all(isinstance(case, KernelCase) for case in cases)
    assert all(callable(case.moved_bytes) or case.moved_bytes > 0 for case in cases)


def test_timing_counts_repeats():
    timing = measure(lambda: torch.ones(3).sum(), torch.device("cpu"), budget_s=0.01)
    assert timing.repeats >= 5
    assert 0 < timing.median_ms <= timing.p95_ms <= timing.p99_ms
    assert timing.peak_mib is None


def run_command(*options):
    command = [sys.executable, "-m", "benchmarks.kernels", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_command_writes_rows(tmp_path):
    path = tmp_path / "rows.csv"
    options = ("--device", "cpu", "--threads", "1", "--budget", "0.01", "--csv", str(path))
    done = run_command("--op", "vote", *options)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(path.open()))
    assert {row["form"] for row in rows} == {"ours", "released form"}
    for column in ("median_ms", "gb_per_s", "copy_gb_per_s"):
        assert all(float(row[column]) > 0 for row in rows)
    assert rows[0]["torch"] == torch.__version__


def test_unknown_operator_rejected():
    done = run_command("--op", "nothing", "--device", "cpu")
    assert done.returncode == 2
    assert "operators: " in done.stderr


@pytest.mark.gpu
def test_gpu_times_come_from_events():
    timing = measure(lambda: torch.ones(1 << 20, device="cuda"), torch.device("cuda"), 0.01)
    assert timing.peak_mib >= 4
