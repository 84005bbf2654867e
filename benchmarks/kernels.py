"""Time every operator against its naive form.

`python benchmarks/kernels.py --csv benchmarks/results/kernels-cpu.csv` runs all cases on this
machine's GPU, or on its CPU; `--op NAME` picks operators, `--large` adds the sizes that take
long on a CPU.
"""

import argparse
import csv
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, its own folder is there

from benchmarks.registry import KernelCase, collect_cases, resolve_count
from benchmarks.timing import copy_gbps, describe_machine, measure


def run_case(case: KernelCase, device: torch.device, budget_s: float) -> list[dict[str, Any]]:
    """One row for each form of the case."""
    rows = []
    moved_bytes, flops = resolve_count(case.moved_bytes), resolve_count(case.flops)
    for name, call in case.build(device).items():
        timing = measure(call, device, budget_s)
        rows.append(
            {
                "op": case.op,
                "form": name,
                "shape": case.shape,
                "dtype": case.dtype,
                **{key: _round(value) for key, value in asdict(timing).items()},
                "gb_per_s": _round(moved_bytes / timing.median_ms / 1e6),
                "gflop_per_s": _round(flops / timing.median_ms / 1e6),
            }
        )
    return rows


def _round(value: float | int | None) -> float | int | None:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def print_table(rows: list[dict[str, Any]]) -> None:
    """One line for each form, with its share of the copy bandwidth."""
    table = Table(box=None)
    for column in ("op", "form", "shape", "dtype", "ms", "p95", "GB/s", "of copy", "GFLOP/s"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for row in rows:
        numbers = (row["median_ms"], row["p95_ms"], row["gb_per_s"])
        share = f"{row['gb_per_s'] / row['copy_gb_per_s']:.0%}"
        names = (row["op"], row["form"], row["shape"], row["dtype"])
        table.add_row(*names, *map(str, numbers), share, str(row["gflop_per_s"]))
    Console(width=150).print(table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", action="append", default=[], help="only this operator")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--budget", type=float, default=1.0, help="seconds for each form")
    parser.add_argument("--large", action="store_true", help="all sizes on a CPU, too")
    parser.add_argument("--csv", type=Path, help="where to write the rows")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    machine = {**describe_machine(device), "copy_gb_per_s": _round(copy_gbps(device))}
    rows: list[dict[str, Any]] = []
    for case in collect_cases():
        wanted = not options.op or case.op in options.op
        if wanted and (options.large or device.type == "cuda" or not case.large):
            rows += [{**row, **machine} for row in run_case(case, device, options.budget)]
    if not rows:
        known = sorted({case.op for case in collect_cases()})
        parser.error(f"no case of {', '.join(options.op)}; operators: {', '.join(known)}")
    print_table(rows)
    if options.csv:
        write_csv(options.csv, rows)


if __name__ == "__main__":
    main()
