"""Ahead-of-time compilation of every Triton kernel, for machines with no GPU.

`python -m xmask3d_rt.kernels.aot --csv FILE` compiles every case that the operators declare
(`cases.py` in an operator's folder, function `compile_cases`) for every architecture, and
tabulates registers, stack (spilled registers: Triton has no other use for the stack) and shared
memory. Every row names what decided it, so a row whose fingerprint is still right need not be
compiled anew (`read_csv`). Not in a process with TRITON_INTERPRET set.
"""

import argparse
import csv
import hashlib
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import triton
from rich.console import Console
from rich.table import Column, Table
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import xmask3d_rt.kernels as kernels

# Shared memory that one block may ask for, in bytes. Source: CUDA C++ Programming Guide,
# technical specifications per compute capability.
SHARED_LIMIT = {80: 166912, 86: 101376, 89: 101376, 90: 232448, 100: 232448, 120: 101376}
ARCHITECTURES = tuple(SHARED_LIMIT)
ALIGNMENT = 16  # bytes; what torch's allocator guarantees for every tensor


@dataclass(frozen=True, eq=False)
class CompileCase:
    """One specialisation of one kernel, as its operator launches it.

    `arguments` maps the name of every argument that is not constexpr to its type ("*fp32",
    "*i64", "i32", ...), `constants` every other one to its value; an integer argument that is 1
    at launch belongs there too, as Triton specialises on it. Pointers are taken to be aligned
    to 16 bytes except those named in `unaligned`; integers that are multiples of 16 at launch
    (on which Triton specialises as well: they decide how wide loads are) are named in `divisible`.
    `max_registers` is the launch's `maxnreg`: without it the assembler may spill a few bytes to
    fit one more block on a multiprocessor.
    """

    op: str
    variant: str
    kernel: Any
    arguments: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 3
    architectures: tuple[int, ...] = ARCHITECTURES
    unaligned: tuple[str, ...] = ()
    divisible: tuple[str, ...] = ()
    max_registers: int | None = None

    @property
    def name(self) -> str:
        """`op/kernel/variant`, unique among all cases."""
        return f"{self.op}/{self.kernel.__name__}/{self.variant}"


@dataclass(frozen=True)
class Resources:
    """What one compiled case uses on one architecture."""

    op: str
    kernel: str
    variant: str
    sm: int
    num_warps: int
    num_stages: int
    registers: int  # per thread
    stack_bytes: int  # per thread; > 0 means spilled registers
    shared_bytes: int  # per block
    shared_limit: int
    cubin_bytes: int
    fingerprint: str

    @property
    def fits(self) -> bool:
        """No spills, and shared memory within the architecture's limit."""
        return self.stack_bytes == 0 and self.shared_bytes <= self.shared_limit


def collect_cases() -> list[CompileCase]:
    """The cases of every operator, from `compile_cases()` in its `cases.py`."""
    cases: list[CompileCase] = []
    for info in pkgutil.iter_modules(kernels.__path__):
        name = f"{kernels.__name__}.{info.name}.cases"
        if info.ispkg and importlib.util.find_spec(name):
            cases += importlib.import_module(name).compile_cases()
    return cases


def compute_fingerprint(case: CompileCase, sm: int) -> str:
    """Hash of everything that decides what a case uses on one architecture."""
    source, options = _describe_compilation(case)
    compiler = (triton.__version__, sm, sorted(options.items()))
    return hashlib.sha256(f"{source.hash()} {compiler}".encode()).hexdigest()[:16]


def compile_kernel(case: CompileCase, sm: int) -> Any:
    """Compile one case for one architecture; `.asm` of the result holds "ptx" and "cubin"."""
    source, options = _describe_compilation(case)
    return triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)


def _describe_compilation(case: CompileCase) -> tuple[ASTSource, dict[str, Any]]:
    names = [parameter.name for parameter in case.kernel.params]
    signature = {name: case.arguments.get(name, "constexpr") for name in names}
    aligned = [
        (index,)
        for index, name in enumerate(names)
        if name in case.divisible
        or (signature[name].startswith("*") and name not in case.unaligned)
    ]
    source = ASTSource(
        case.kernel,
        signature,
        dict(case.constants),
        {path: [["tt.divisibility", ALIGNMENT]] for path in aligned},
    )
    options = {
        "num_warps": case.num_warps,
        "num_stages": case.num_stages,
        "maxnreg": case.max_registers,
    }
    return source, options


def compile_case(case: CompileCase, sm: int) -> Resources:
    """Compile one case for one architecture and read what it uses."""
    compiled = compile_kernel(case, sm)
    registers, stack_bytes = _read_usage(compiled.asm["cubin"])
    return Resources(
        op=case.op,
        kernel=case.kernel.__name__,
        variant=case.variant,
        sm=sm,
        num_warps=case.num_warps,
        num_stages=case.num_stages,
        registers=registers,
        stack_bytes=stack_bytes,
        shared_bytes=compiled.metadata.shared,
        shared_limit=SHARED_LIMIT[sm],
        cubin_bytes=len(compiled.asm["cubin"]),
        fingerprint=compute_fingerprint(case, sm),
    )


def _read_usage(cubin: bytes) -> tuple[int, int]:
    """Registers and stack bytes per thread, from the cuobjdump that comes with Triton."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = knobs.nvidia.cuobjdump.path
        text = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    match = re.search(r"REG:(\d+) STACK:(\d+)", text)
    if match is None:
        raise RuntimeError(f"cuobjdump reported no resource usage: {text!r}")
    return int(match[1]), int(match[2])


def _compile_named(name: str, architectures: tuple[int, ...]) -> list[Resources]:
    case = next(case for case in collect_cases() if case.name == name)
    return [compile_case(case, sm) for sm in case.architectures if sm in architectures]


def compile_all(
    ops: Iterable[str] = (), architectures: tuple[int, ...] = ARCHITECTURES, workers: int = 2
) -> list[Resources]:
    """Compile every case of the named operators (all where none is named), in child processes."""
    wanted = set(ops)
    names = [case.name for case in collect_cases() if not wanted or case.op in wanted]
    with ProcessPoolExecutor(workers) as pool:
        rows = pool.map(_compile_named, names, [architectures] * len(names))
        return [row for group in rows for row in group]


def write_csv(path: Path, rows: list[Resources]) -> None:
    """Write the table, with the version of Triton that made it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*asdict(rows[0]), "triton"])
        writer.writeheader()
        writer.writerows({**asdict(row), "triton": triton.__version__} for row in rows)


def read_csv(path: Path) -> list[Resources]:
    """The rows of a table that `write_csv` wrote."""
    with path.open(newline="") as file:
        return [_parse_row(row) for row in csv.DictReader(file)]


def _parse_row(row: dict[str, str]) -> Resources:
    values: dict[str, Any] = {
        column.name: int(row[column.name]) if column.type is int else row[column.name]
        for column in fields(Resources)
    }
    return Resources(**values)


def summarize(rows: list[Resources]) -> list[Resources]:
    """The largest use of each resource over the cases of each kernel on each architecture."""
    groups: dict[tuple[str, str, int], list[Resources]] = {}
    for row in rows:
        groups.setdefault((row.op, row.kernel, row.sm), []).append(row)
    largest = ("num_warps", "num_stages", "registers", "stack_bytes", "shared_bytes", "cubin_bytes")
    return [
        replace(
            group[0],
            variant=f"{len(group)} cases" if len(group) > 1 else group[0].variant,
            **{name: max(getattr(row, name) for row in group) for name in largest},
        )
        for group in groups.values()
    ]


def _print_table(rows: list[Resources]) -> None:
    titles = ("sm", "warps", "stages", "registers", "stack", "shared", "limit")
    table = Table(Column("kernel", overflow="fold"), *titles)
    for row in rows:
        launch = (row.sm, row.num_warps, row.num_stages)
        use = (row.registers, row.stack_bytes, row.shared_bytes, row.shared_limit)
        style = None if row.fits else "red"
        name = f"{row.op}/{row.kernel}/{row.variant}"
        table.add_row(name, *map(str, launch + use), style=style)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def main() -> int:
    """Command line; exit status 1 where a kernel spills or asks for too much shared memory."""
    parser = argparse.ArgumentParser(description="Compile every Triton kernel with no GPU.")
    parser.add_argument("--csv", type=Path, help="where to write the table")
    parser.add_argument("--op", action="append", default=[], help="only this operator")
    parser.add_argument("--sm", action="append", type=int, choices=ARCHITECTURES, default=[])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="print every case, not the largest")
    options = parser.parse_args()
    architectures = tuple(options.sm) or ARCHITECTURES
    rows = compile_all(options.op, architectures, options.workers)
    _print_table(rows if options.all else summarize(rows))
    if options.csv:
        write_csv(options.csv, rows)
    return 0 if all(row.fits for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
