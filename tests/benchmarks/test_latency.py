"""The latency benchmark: what it measures, compares, draws and keeps."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import charts, latency, scene_runs
from benchmarks import rows as rows_module
from xmask3d_rt.config import get_preset
from xmask3d_rt.data.rooms.kinds import KINDS
from xmask3d_rt.errors import EngineError
from xmask3d_rt.scene.cloud import PointCloud

FOLDER = Path(__file__).parents[2] / "benchmarks"
POINTS = 6000


@pytest.fixture(scope="module")
def measured():
    """The module with synthetic weights, timed on one view of a thin room."""
    from xmask3d_rt.export.parity.module_pipeline import (
        load_synthetic_module,
        make_module_segmenter,
    )

    config = get_preset("tiny")
    scene = scene_runs.open_scene(None, config, views=1, points=POINTS)
    segmenter, found = scene_runs.measure(
        lambda: make_module_segmenter(load_synthetic_module(config)), scene, repeats=2
    )
    return segmenter, scene, found


def test_measurement(measured):
    _, scene, found = measured
    assert scene.describe() == {"points": POINTS, "views": 1, "classes": len(KINDS)}
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


def test_growth(measured):
    segmenter, scene, _ = measured
    small = dataclasses.replace(scene, cloud=scene_runs.resample(scene.cloud, 2000))
    growth = scene_runs.measure_growth(segmenter, small, repeats=1)
    assert [row["size"] for row in growth["points"]] == [500, 1000, 2000, 4000]
    assert [row["size"] for row in growth["classes"]] == [5, len(KINDS), 100, 200]
    assert all(row["seconds"] > 0 for rows in growth.values() for row in rows)


def test_resampled_cloud():
    cloud = PointCloud(
        np.random.default_rng(0).random((100, 3), dtype=np.float32), np.zeros((100, 3), np.uint8)
    )
    fewer, more = (scene_runs.resample(cloud, n) for n in (30, 250))
    assert (len(fewer), len(more)) == (30, 250)
    assert len(np.unique(fewer.xyz, axis=0)) == 30
    np.testing.assert_array_equal(more.xyz[:100], cloud.xyz)
    assert len(np.unique(more.xyz, axis=0)) == 250
    assert np.abs(more.xyz[100:200] - cloud.xyz).max() <= scene_runs.JITTER


def test_percentiles():
    found = rows_module.percentiles([0.001 * n for n in range(1, 101)])
    assert found == {"p50_ms": 50.5, "p95_ms": 95.05, "p99_ms": 99.01, "count": 100}


def test_speedup_and_agreement():
    labels = {"fused": np.array([0, 1, 2, 3]), "2d": np.zeros(4), "3d": np.zeros(4)}
    fast = scene_runs.Measurement(end_to_end=[0.1, 0.1, 0.1], labels=[labels])
    other = {**labels, "fused": np.array([0, 1, 2, 0])}
    slow = scene_runs.Measurement(end_to_end=[0.4, 0.4], labels=[other])
    assert latency.percentile50(slow) / latency.percentile50(fast) == 4
    assert scene_runs.compare_labels(fast, slow) == {"fused": 0.75, "2d": 1.0, "3d": 1.0}


def test_rows_are_appended(tmp_path):
    path, append = tmp_path / "out" / "rows.csv", rows_module.append_rows
    append(path, [{"stage": "a", "p50_ms": 1}])
    append(path, [{"stage": "b", "p50_ms": 2, "driver": "580"}])
    with path.open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [
            {"stage": "a", "p50_ms": "1", "driver": ""},
            {"stage": "b", "p50_ms": "2", "driver": "580"},
        ]


def test_rows_name_the_machine(measured):
    _, scene, found = measured
    machine = rows_module.describe_setup(torch.device("cpu"))
    rows = latency.make_rows("module", found, {**machine, **scene.describe()}, "torch")
    assert rows[0]["stage"] == "end to end"
    assert {"device", "driver", "commit", "p50_ms", "p99_ms", "peak_host_mib"} <= set(rows[0])
    assert all(row["commit"] for row in rows)


def test_chart(tmp_path):
    growth = {
        "views": [{"size": 1, "seconds": 0.5}, {"size": 4, "seconds": 1.5}],
        "points": [{"size": 10, "seconds": 0.1}],
    }
    path = latency.draw_growth(tmp_path / "growth.png", "a title", growth)
    width, height = charts.PANEL
    image = Image.open(path)
    assert image.size == (2 * width, height + 34)
    colors = {color for _, color in image.getcolors(1 << 16)}
    assert (0x1F, 0x6F, 0xB4) in colors  # the curve


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 1), (0.3, 0.4), (1, 1), (17, 20), (230, 250), (9e5, 1e6)]
)
def test_axis_ends(value, expected):
    assert charts._round_up(value) == pytest.approx(expected)


def test_missing_engines_rejected(tmp_path):
    with pytest.raises(EngineError, match=r"no engines in .*build some with .*--engine-dir"):
        latency.find_engines(tmp_path)
    outcome = subprocess.run(
        [sys.executable, FOLDER / "latency.py", "--engine-dir", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 2
    assert "no engines in" in outcome.stderr
