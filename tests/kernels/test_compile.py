"""Every Triton kernel compiles for every architecture, without spills, within shared memory.

What the table in benchmarks/results records of the same code, compiler and options is not compiled
again: all of it would take nine minutes of a core. One case of every kernel shows that the table
is right; `make kernel-table` compiles all.
"""

import csv
import dataclasses
from pathlib import Path

import pytest

aot = pytest.importorskip("xmask3d_rt.kernels.aot", reason="Triton is not installed")
CASES = {case.name: case for case in aot.collect_cases()}
TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "kernel_resources.csv"
RECORDED = {row.fingerprint: row for row in aot.read_csv(TABLE)}
FIRST_OF_KERNEL = {case.kernel: name for name, case in sorted(CASES.items(), reverse=True)}


def test_cases_have_distinct_names():
    assert len(CASES) == len(aot.collect_cases())


@pytest.mark.parametrize("name", sorted(CASES))
def test_compiles_without_spills(name):
    case = CASES[name]
    for sm in case.architectures:
        row = RECORDED.get(aot.compute_fingerprint(case, sm)) or aot.compile_case(case, sm)
        assert row.stack_bytes == 0, f"{name} spills {row.stack_bytes} bytes on sm_{sm}"
        assert row.shared_bytes <= row.shared_limit, f"{name} needs {row.shared_bytes} on sm_{sm}"
        assert 0 < row.registers <= 255


@pytest.mark.parametrize(("turn", "name"), enumerate(sorted(FIRST_OF_KERNEL.values())))
def test_recorded_use_is_that_of_the_compiled_kernel(turn, name):
    """Each kernel on one architecture, all architectures in turn."""
    case = CASES[name]
    row = aot.compile_case(case, case.architectures[turn % len(case.architectures)])
    assert RECORDED.get(row.fingerprint, row) == row


def test_fingerprint_covers_what_decides_the_use():
    case = CASES[min(CASES)]
    name, value = next(iter(case.constants.items()))
    changes = (
        {"constants": {**case.constants, name: value * 2}},
        {"arguments": {**case.arguments, min(case.arguments): "*fp64"}},
        {"unaligned": (min(case.arguments),)},
        {"num_warps": case.num_warps * 2},
        {"num_stages": case.num_stages + 1},
        {"max_registers": 64},
    )
    others = [dataclasses.replace(case, **change) for change in changes]
    found = {aot.compute_fingerprint(other, 90) for other in (case, *others)}
    assert len(found | {aot.compute_fingerprint(case, 80)}) == len(changes) + 2


@pytest.mark.parametrize(("sm", "product"), [(80, "mma.sync"), (90, "wgmma"), (100, "tcgen05.mma")])
@pytest.mark.parametrize("layer", ["map", "skip", "1x1", "dgrad"])
def test_half_precision_products_run_on_tensor_cores(layer, sm, product):
    case = CASES[f"sparse_conv/sparse_conv_kernel/{layer}-fp16-128x128x32"]
    ptx = aot.compile_kernel(case, sm).asm["ptx"]
    assert product in ptx
    assert "fma.rn.f32" not in ptx
    assert "cp.async.cg.shared.global" in ptx  # 16 bytes at a time, ahead of the product


def test_table_is_written(tmp_path):
    case = CASES[min(CASES)]
    aot.write_csv(tmp_path / "table.csv", [aot.compile_case(case, 90)])
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert rows[0]["sm"] == "90"
    assert int(rows[0]["registers"]) > 0
    assert aot.read_csv(tmp_path / "table.csv") == [aot.compile_case(case, 90)]


def test_summary_keeps_the_largest_use():
    case = CASES[min(CASES)]
    row = aot.compile_case(case, 90)
    larger = dataclasses.replace(row, variant="other", registers=row.registers + 1)
    (summary,) = aot.summarize([larger, row])
    assert summary.registers == row.registers + 1
    assert summary.variant == "2 cases"
