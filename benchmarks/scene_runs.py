"""Timed runs of a `Segmenter`: repeated single views, a whole scene, and growth of each size."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rows import device_used_mib, host_peak_mib, percentiles
from xmask3d_rt.config import ModelConfig
from xmask3d_rt.data.room import generate_room
from xmask3d_rt.engines.base import Engine
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.rgbd import load_rgbd, spread_views
from xmask3d_rt.scene.view import View
from xmask3d_rt.segmenter import Segmenter

JITTER = 0.004  # metres between copies of a point where a scene is made denser
HEADS = ("fused", "2d", "3d")


@dataclass(frozen=True)
class Scene:
    """What is segmented: a cloud, its views and the classes asked for."""

    cloud: PointCloud
    views: list[View]
    classes: list[str]

    def describe(self) -> dict[str, int]:
        """Sizes, as columns of a result row."""
        return {
            "points": len(self.cloud),
            "views": len(self.views),
            "classes": len(self.classes),
        }


@dataclass
class Measurement:
    """Times of one subject; `labels` of every view by head, for comparisons.

    Attributes:
        load: seconds until it could be called.
        first: seconds of the first call after that.
        end_to_end: seconds of every later call on one view.
        stages: seconds of every later call, per stage.
        scene: seconds of one call on all views.
        host_mib, device_mib: peak memory.
        labels: per view, labels by head of the points it sees.
    """

    load: float = 0.0
    first: float = 0.0
    end_to_end: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    scene: float = 0.0
    host_mib: float = 0.0
    device_mib: float = 0.0
    labels: list[dict[str, np.ndarray]] = field(default_factory=list)

    def summarize(self) -> dict[str, Any]:
        """The figures as plain values."""
        return {
            "load_s": round(self.load, 3),
            "first_call_s": round(self.first, 4),
            "end_to_end": percentiles(self.end_to_end),
            "stages": {name: percentiles(values) for name, values in self.stages.items()},
            "scene_s": round(self.scene, 4),
            "peak_host_mib": self.host_mib,
            "peak_device_mib": self.device_mib,
        }


def open_scene(folder: Path | None, config: ModelConfig, views: int, points: int | None) -> Scene:
    """The scene of a folder, or a generated room, brought to the sizes asked for.

    Args:
        folder: RGB-D folder with `scene.ply`; None generates a room.
        config: of the model; its benchmark's classes are asked for.
        views: at most this many, spread evenly.
        points: thinned out or made denser to this many; None keeps them.
    """
    if folder is None:
        room = generate_room(views=views)
        cloud, found = PointCloud(room.points, room.rgb), list(room.views)
    else:
        cloud = PointCloud.load(folder / "scene.ply")
        found = spread_views(load_rgbd(folder), views)
    if points is not None:
        cloud = resample(cloud, points)
    return Scene(cloud, found, list(config.split.names))


def resample(cloud: PointCloud, count: int) -> PointCloud:
    """A cloud of `count` points: a seeded subset, or copies a few millimetres apart."""
    rng = np.random.default_rng(0)
    whole, rest = divmod(count, len(cloud))
    parts = [np.arange(len(cloud))] * whole + [rng.permutation(len(cloud))[:rest]]
    index = np.concatenate(parts)
    xyz = cloud.xyz[index]
    copies = np.arange(count) >= len(cloud)
    xyz[copies] += rng.uniform(-JITTER, JITTER, (int(copies.sum()), 3)).astype(xyz.dtype)
    return PointCloud(xyz, cloud.require_rgb()[index])


def measure(
    open_segmenter: Callable[[], Segmenter], scene: Scene, repeats: int
) -> tuple[Segmenter, Measurement]:
    """Load, call once, then time calls on one view after the other and on all of them.

    Stages are timed in calls of their own on a GPU: waiting after each one costs the overlap.

    Args:
        open_segmenter: loads the subject.
        scene: its views are taken in turn.
        repeats: timed calls.
    """
    found = Measurement()
    segmenter, found.load = _timed(open_segmenter)
    _, found.first = _timed(lambda: run_view(segmenter, scene, 0))
    for i in range(repeats):
        result, seconds = _timed(partial(run_view, segmenter, scene, i))
        found.end_to_end.append(seconds)
        found.device_mib = max(found.device_mib, device_used_mib(segmenter.device))
        if i < len(scene.views):
            seen = result.coverage > 0  # the others copy the label of one of these
            found.labels.append({head: labels[seen] for head, labels in result.heads.items()})
        if segmenter.device.type == "cuda":
            segmenter.synchronize_stages = True
            result = run_view(segmenter, scene, i)
            segmenter.synchronize_stages = False
        for stage, value in result.timings.items():
            found.stages.setdefault(stage, []).append(value)
    _, found.scene = _timed(lambda: segmenter.run(scene.cloud, scene.classes, scene.views))
    found.host_mib = host_peak_mib()
    return segmenter, found


def run_view(segmenter: Segmenter, scene: Scene, index: int) -> Any:
    """One call on one view; its labels are on the host when it returns."""
    view = scene.views[index % len(scene.views)]
    return segmenter.run(scene.cloud, scene.classes, [view])


def measure_growth(
    segmenter: Segmenter, scene: Scene, repeats: int
) -> dict[str, list[dict[str, float]]]:
    """Median seconds of a call by number of views, points and classes.

    Returns:
        axis → rows of `size` and `seconds`.
    """
    views = sorted({1, max(1, len(scene.views) // 2), len(scene.views)})
    points = [len(scene.cloud) * n // 4 for n in (1, 2, 4, 8)]
    classes = sorted({5, len(scene.classes), 100, 200})
    one = Scene(scene.cloud, scene.views[:1], scene.classes)
    cases: dict[str, list[tuple[int, Scene]]] = {
        "views": [(n, Scene(scene.cloud, scene.views[:n], scene.classes)) for n in views],
        "points": [(n, Scene(resample(scene.cloud, n), one.views, one.classes)) for n in points],
        "classes": [
            (n, Scene(one.cloud, one.views, name_classes(scene.classes, n))) for n in classes
        ],
    }
    return {
        axis: [
            {"size": n, "seconds": _median_seconds(segmenter, case, repeats)} for n, case in rows
        ]
        for axis, rows in cases.items()
    }


def name_classes(names: Sequence[str], count: int) -> list[str]:
    """`count` class names: the given ones first, then numbered things."""
    return [*names, *(f"thing {i}" for i in range(count))][:count]


def _median_seconds(segmenter: Segmenter, scene: Scene, repeats: int) -> float:
    segmenter.run(scene.cloud, scene.classes, scene.views[:1])  # text and sizes of this case
    times = [
        _timed(lambda: segmenter.run(scene.cloud, scene.classes, scene.views))[1]
        for _ in range(repeats)
    ]
    return round(float(np.median(times)), 4)


def measure_batches(segmenter: Segmenter, repeats: int) -> list[dict[str, Any]]:
    """Images per second of every engine at each batch its profile takes.

    Returns:
        rows of `component`, `batch`, `seconds` of a call and `per_second`; those of engines with
        a batch of one have one row.
    """
    rows = []
    for name, engine in segmenter.engines.items():
        bounds = engine.signature.profile.get("B")
        if bounds is None:
            continue
        sizes = [n for n in (1, 2, 4, 8, 16, 32) if bounds.min <= n <= bounds.max]
        for batch in sizes:
            seconds = _time_batch(engine, batch, repeats)
            rows.append(
                {
                    "component": name,
                    "batch": batch,
                    "seconds": round(seconds, 5),
                    "per_second": round(batch / seconds, 3),
                }
            )
    return rows


def _time_batch(engine: Engine, batch: int, repeats: int) -> float:
    """Median seconds of a call with `batch` images, after one that warms up."""
    shapes = engine.signature.resolve(engine.inputs, {"B": batch})
    feeds = {
        spec.name: torch.rand(shape, device=engine.device)
        for spec, shape in zip(engine.inputs, shapes, strict=True)
    }
    engine.infer(feeds)
    return float(np.median([_timed(lambda: engine.infer(feeds))[1] for _ in range(repeats)]))


def compare_labels(found: Measurement, expected: Measurement) -> dict[str, float]:
    """Share of equal labels per head, the mean over the views both were timed on."""
    pairs = list(zip(found.labels, expected.labels, strict=False))
    return {
        head: round(float(np.mean([np.mean(a[head] == b[head]) for a, b in pairs])), 6)
        for head in HEADS
    }


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    value = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return value, time.perf_counter() - start
