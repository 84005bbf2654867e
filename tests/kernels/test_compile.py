"""Every Triton kernel compiles for every architecture, without spills, within shared memory."""

import csv
import dataclasses

import pytest

aot = pytest.importorskip("xmask3d_rt.kernels.aot", reason="Triton is not installed")
CASES = {case.name: case for case in aot.collect_cases()}


def test_cases_have_distinct_names():
    assert len(CASES) == len(aot.collect_cases())


@pytest.mark.parametrize("name", sorted(CASES))
def test_compiles_without_spills(name):
    case = CASES[name]
    for sm in case.architectures:
        row = aot.compile_case(case, sm)
        assert row.stack_bytes == 0, f"{name} spills {row.stack_bytes} bytes on sm_{sm}"
        assert row.shared_bytes <= row.shared_limit, f"{name} needs {row.shared_bytes} on sm_{sm}"
        assert 0 < row.registers <= 255


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


def test_summary_keeps_the_largest_use():
    case = CASES[min(CASES)]
    row = aot.compile_case(case, 90)
    larger = dataclasses.replace(row, variant="other", registers=row.registers + 1)
    (summary,) = aot.summarize([larger, row])
    assert summary.registers == row.registers + 1
    assert summary.variant == "2 cases"
