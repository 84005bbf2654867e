"""The speed table of README.md is what lies under benchmarks/results."""

import csv
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def report():
    return json.loads((RESULTS / "latency_b15n4_cpu.json").read_text())


def read_cpu_cell(label):
    line = next(line for line in README.splitlines() if line.startswith(f"| {label} |"))
    _, _, gpu, cpu, _ = (cell.strip() for cell in line.split("|"))
    assert gpu == "not measured yet"
    return cpu


def test_end_to_end_and_speedup(report):
    ours, released = (
        report[part]["end_to_end"]["p50_ms"] / 1000 for part in ("engine", "baseline")
    )
    assert report["speedup"] == pytest.approx(released / ours, abs=1e-3)
    assert read_cpu_cell("one view, end to end") == (
        f"{ours:.2f} s; the released work order in the same run {released:.2f} s: "
        f"{report['speedup']:.1f} times as long"
    )


def test_stages(report):
    for item in read_cpu_cell("its stages, seconds").split(", "):
        stage, seconds = item.rsplit(" ", 1)
        assert seconds == f"{report['stages'][stage]['p50_ms'] / 1000:.2f}"


def test_labels_hold_the_limits_of_bf16(report):
    agreement = [report["agreement"][head] for head in ("fused", "2d", "3d")]
    cell = read_cpu_cell("points with the label of fp32, fused / 2D / 3D")
    assert cell == "{:.1%} / {:.1%} / {:.0%}".format(*agreement)
    assert all(share >= least for share, least in zip(agreement, (0.96, 0.93, 0.993), strict=True))


def test_both_subjects_of_every_run_are_kept(report):
    with (RESULTS / "latency.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["stage"] == "end to end"]
    ours, released = ([r for r in rows if r["subject"] == s] for s in ("engines", "module"))
    assert [row["commit"] for row in ours] == [row["commit"] for row in released]
    last = report["engine"]["end_to_end"]["p50_ms"], report["baseline"]["end_to_end"]["p50_ms"]
    assert (float(ours[-1]["p50_ms"]), float(released[-1]["p50_ms"])) == last
    speedups = sorted(
        float(b["p50_ms"]) / float(a["p50_ms"]) for a, b in zip(ours, released, strict=True)
    )
    assert f"two runs: {' and '.join(f'{value:.1f}' for value in speedups)}" in README
    assert min(speedups) >= 3


def test_engines_in_fp32():
    report = json.loads((RESULTS / "latency_b15n4_cpu_fp32.json").read_text())
    assert set(report["components"].values()) == {"openvino fp32"}
    ours, released = (report[p]["end_to_end"]["p50_ms"] / 1000 for p in ("engine", "baseline"))
    text = " ".join(README.split())
    share = f"{report['agreement']['fused']:.2%}".replace("%", " %")
    assert (
        f"{ours:.2f} s against {released:.2f} s, {report['speedup']:.2f} times, and {share} of the "
        "labels"
    ) in text
    assert report["speedup"] >= 1.6


@pytest.mark.parametrize(
    ("label", "op", "form", "shape"),
    [
        ("labels of a view, 31,641 points, 19 classes", "label_points", "ours", "C=19"),
        ("mask ownership, 50 masks", "assign_masks", "ours", "C=19"),
        ("voxels of 150,995 points", "voxelize", "ours", "N=150995"),
        ("the larger sparse net on 16,161 voxels", "sparse_unet", "ours", "M=16161"),
        (
            "all post-processing of a view: project, own, label, vote",
            "post_processing",
            "ours",
            "N=40000",
        ),
    ],
)
def test_operators(label, op, form, shape):
    with (RESULTS / "kernels-cpu.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if (row["op"], row["form"]) == (op, form)]
    row = next(row for row in rows if shape in row["shape"] and row["dtype"] == "fp32")
    milliseconds = float(row["median_ms"])
    shown = f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:.0f}"
    assert read_cpu_cell(label).split(";")[0] == f"{shown} ms"
