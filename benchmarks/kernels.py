"""Time every operator against its naive form.

`python benchmarks/kernels.py --csv benchmarks/results/kernels-cpu.csv` runs all cases on this
machine's GPU, or on its CPU; `--op NAME` picks operators, `--large` adds the sizes that take
long on a CPU.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # its own folder is there, not the checkout
    from xmask3d_rt.system.interrupts import end_on_interrupt

    end_on_interrupt()

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.registry import KernelCase, collect_cases, resolve_count
from benchmarks.rows import write_rows
from benchmarks.timing import copy_gbps, describe_machine, measure
from xmask3d_rt.export.script import Script

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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


@app.command(cls=Script)
def main(
    op: Annotated[list[str] | None, typer.Option(help="Only this operator.")] = None,
    device_name: Annotated[str, typer.Option("--device")] = (
        "cuda" if torch.cuda.is_available() else "cpu"
    ),
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    budget: Annotated[float, typer.Option(help="Seconds for each form.")] = 1.0,
    large: Annotated[bool, typer.Option("--large", help="All sizes on a CPU, too.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Where to write the rows.")] = None,
) -> None:
    """Time every operator against its naive form."""
    known = sorted({case.op for case in collect_cases()})
    if unknown := sorted(set(op or ()) - set(known)):
        raise ValueError(f"no case of {', '.join(unknown)}; operators: {', '.join(known)}")
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device(device_name)
    machine = {**describe_machine(device), "copy_gb_per_s": _round(copy_gbps(device))}
    rows: list[dict[str, Any]] = []
    for case in collect_cases():
        wanted = not op or case.op in op
        if wanted and (large or device.type == "cuda" or not case.large):
            rows += [{**row, **machine} for row in run_case(case, device, budget)]
    if not rows:
        raise ValueError(f"{', '.join(op or ())} has large cases alone; add --large")
    print_table(rows)
    if csv is not None:
        write_rows(csv, list(rows[0]), rows)


if __name__ == "__main__":
    app()
