"""The latency benchmark: what it measures, compares, draws and keeps."""

import csv
import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xmask3d_rt.config import get_preset
from xmask3d_rt.errors import EngineError
from xmask3d_rt.scene import PointCloud

FOLDER = Path(__file__).parents[2] / "benchmarks"
POINTS = 6000


@pytest.fixture(scope="module")
def bench():
    """The benchmark's modules, imported as the script does."""
    sys.path.insert(0, str(FOLDER))
    names = ("bench_charts", "bench_machine", "bench_runs", "latency")
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def measured(bench):
    """The module with synthetic weights, timed on one view of a thin room."""
    from xmask3d_rt.export.module_pipeline import load_synthetic_module, make_module_segmenter

    runs, config = bench["bench_runs"], get_preset("tiny")
    scene = runs.open_scene(None, config, views=1, points=POINTS)
    segmenter, found = runs.measure(
        lambda: make_module_segmenter(load_synthetic_module(config)), scene, repeats=2
    )
    return segmenter, scene, found


def test_measurement(measured):
    _, scene, found = measured
    assert scene.describe() == {"points": POINTS, "views": 1, "classes": 19}
    assert len(found.end_to_end) == 2
    assert min(found.end_to_end) > 0
    assert {"module", "labels", "vote and fill"} <= set(found.stages)
    for i, total in enumerate(found.end_to_end):
        parts = sum(values[i] for values in found.stages.values())
        assert 0.5 * total < parts <= total
    assert found.load > 0
    assert found.first > 0
    assert found.scene > 0
    assert found.host_mib > 100
    assert len(found.labels) == 1


def test_growth(bench, measured):
    segmenter, scene, _ = measured
    small = dataclasses.replace(scene, cloud=bench["bench_runs"].resample(scene.cloud, 2000))
    growth = bench["bench_runs"].measure_growth(segmenter, small, repeats=1)
    assert [row["size"] for row in growth["points"]] == [500, 1000, 2000, 4000]
    assert [row["size"] for row in growth["classes"]] == [5, 19, 100, 200]
    assert all(row["seconds"] > 0 for rows in growth.values() for row in rows)


def test_resampled_cloud(bench):
    cloud = PointCloud(
        np.random.default_rng(0).random((100, 3), dtype=np.float32), np.zeros((100, 3), np.uint8)
    )
    fewer, more = (bench["bench_runs"].resample(cloud, n) for n in (30, 250))
    assert (len(fewer), len(more)) == (30, 250)
    assert len(np.unique(fewer.xyz, axis=0)) == 30
    np.testing.assert_array_equal(more.xyz[:100], cloud.xyz)
    assert len(np.unique(more.xyz, axis=0)) == 250
    assert np.abs(more.xyz[100:200] - cloud.xyz).max() <= bench["bench_runs"].JITTER


def test_percentiles(bench):
    found = bench["bench_machine"].percentiles([0.001 * n for n in range(1, 101)])
    assert found == {"p50_ms": 50.5, "p95_ms": 95.05, "p99_ms": 99.01, "count": 100}


def test_speedup_and_agreement(bench):
    runs, latency = bench["bench_runs"], bench["latency"]
    labels = {"fused": np.array([0, 1, 2, 3]), "2d": np.zeros(4), "3d": np.zeros(4)}
    fast = runs.Measurement(end_to_end=[0.1, 0.1, 0.1], labels=[labels])
    other = {**labels, "fused": np.array([0, 1, 2, 0])}
    slow = runs.Measurement(end_to_end=[0.4, 0.4], labels=[other])
    assert latency.percentile50(slow) / latency.percentile50(fast) == 4
    assert runs.compare_labels(fast, slow) == {"fused": 0.75, "2d": 1.0, "3d": 1.0}


def test_rows_are_appended(bench, tmp_path):
    path, append = tmp_path / "out" / "rows.csv", bench["bench_machine"].append_rows
    append(path, [{"stage": "a", "p50_ms": 1}])
    append(path, [{"stage": "b", "p50_ms": 2, "driver": "580"}])
    with path.open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [
            {"stage": "a", "p50_ms": "1", "driver": ""},
            {"stage": "b", "p50_ms": "2", "driver": "580"},
        ]


def test_rows_name_the_machine(bench, measured):
    _, scene, found = measured
    machine = bench["bench_machine"].describe_machine(torch.device("cpu"))
    rows = bench["latency"].make_rows("module", found, {**machine, **scene.describe()}, "torch")
    assert rows[0]["stage"] == "end to end"
    assert {"device", "driver", "commit", "p50_ms", "p99_ms", "peak_host_mib"} <= set(rows[0])
    assert all(row["commit"] for row in rows)


def test_chart(bench, tmp_path):
    growth = {
        "views": [{"size": 1, "seconds": 0.5}, {"size": 4, "seconds": 1.5}],
        "points": [{"size": 10, "seconds": 0.1}],
    }
    path = bench["latency"].draw_growth(tmp_path / "growth.png", "a title", growth)
    width, height = bench["bench_charts"].PANEL
    image = Image.open(path)
    assert image.size == (2 * width, height + 34)
    colors = {color for _, color in image.getcolors(1 << 16)}
    assert (0x1F, 0x6F, 0xB4) in colors  # the curve


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 1), (0.3, 0.4), (1, 1), (17, 20), (230, 250), (9e5, 1e6)]
)
def test_axis_ends(bench, value, expected):
    assert bench["bench_charts"]._round_up(value) == pytest.approx(expected)


def test_missing_engines_rejected(bench, tmp_path):
    with pytest.raises(EngineError, match=r"no engines in .*build some with .*--engine-dir"):
        bench["latency"].find_engines(tmp_path)
    outcome = subprocess.run(
        [sys.executable, FOLDER / "latency.py", "--engine-dir", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 2
    assert "no engines in" in outcome.stderr
