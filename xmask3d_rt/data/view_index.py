"""Which views of a collection can be used, listed once.

A view is used for training where 400 < visible points < 65,000 and more than 10 of them have a
base or novel label; for the released evaluation where at least 400 and at most `val_keep` points
are visible and at least 10 labels are valid. Every scene's counts are kept on disk.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from xmask3d_rt.config import ViewConfig
from xmask3d_rt.data.labelled import LabelledScene, SceneCollection, stamp_scene
from xmask3d_rt.data.labels import LabelSource, LabelSpace
from xmask3d_rt.errors import join_names
from xmask3d_rt.files import atomic_write
from xmask3d_rt.kernels import ProjectedView, project_view
from xmask3d_rt.many.jobs import Job, JobLog, Progress, run_jobs
from xmask3d_rt.many.slots import open_slots
from xmask3d_rt.many.sources import limit_threads
from xmask3d_rt.many.workers import Resources, Work
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.prepare import PreparedView, prepare_view

logger = logging.getLogger(__name__)


class ViewCount(NamedTuple):
    """What a view sees: points, and those among them with a base or novel label."""

    view: str
    visible: int
    labelled: int


@dataclass(frozen=True)
class ViewRule:
    """Bounds of a usable view; `strict` excludes the bounds themselves."""

    least: int
    most: int
    labelled: int
    strict: bool

    @classmethod
    def for_training(cls, view: ViewConfig) -> "ViewRule":
        """The released rule of training."""
        return cls(view.min_points, 65_000, 10, strict=True)

    @classmethod
    def for_evaluation(cls, view: ViewConfig, val_keep: int) -> "ViewRule":
        """The released rule of scene evaluation."""
        return cls(view.min_points, val_keep, 10, strict=False)

    def describe_refused(self, counts: Sequence[ViewCount]) -> str:
        """What views that cannot be used see, what they should, and what to do."""
        if not counts:
            return "there are none; each scene needs color/, pose/ and intrinsics.txt"
        seen, labelled = ([getattr(c, k) for c in counts] for k in ("visible", "labelled"))
        crowded = min(seen) >= self.most
        fix = "thin the clouds out" if crowded else "check poses, depth and labels"
        return (
            f"they see {min(seen):,} to {max(seen):,} points, {min(labelled):,} to "
            f"{max(labelled):,} of them labelled, where {self.least:,} to {self.most:,} and "
            f"{self.labelled} are needed; {fix}"
        )

    def allows(self, count: ViewCount) -> bool:
        """Whether a view may be used."""
        if self.strict:
            enough = count.labelled > self.labelled
            return enough and self.least < count.visible < self.most
        enough = count.labelled >= self.labelled
        return enough and self.least <= count.visible <= self.most


def project_prepared(xyz: np.ndarray, view: PreparedView, grid: ViewConfig) -> ProjectedView:
    """Pixel and visibility of every point [N, 3] in a view, as inference has them."""
    return project_view(
        torch.from_numpy(xyz),
        torch.from_numpy(view.intrinsics),
        torch.from_numpy(view.world_to_camera),
        None if view.depth is None else torch.from_numpy(view.depth),
        border=grid.border,
        tolerance=grid.depth_tolerance,
        size=grid.mask_shape,
    )


def count_views(
    scene: LabelledScene, cloud: PointCloud, labels: np.ndarray, space: LabelSpace, grid: ViewConfig
) -> list[ViewCount]:
    """Visible and labelled points of every view of a scene.

    Args:
        scene: gives the views.
        cloud: its points.
        labels: [N] evaluation labels.
        space: says which labels are classes.
        grid: the mask grid.
    """
    known = torch.from_numpy(labels < space.other)
    counts = []
    for view in scene.list_views():
        # Only depth and intrinsics matter here; the smallest image is the quickest.
        projected = project_prepared(cloud.xyz, prepare_view(view, 1, grid.mask_shape), grid)
        labelled = int((projected.visible & known).sum())
        counts.append(ViewCount(view.name, int(projected.count), labelled))
    return counts


@dataclass(frozen=True)
class CountScenes:
    """Opens workers that count what the views of scenes see and keep that in files.

    Attributes:
        space: classes and base split.
        source: the label set that is read.
        grid: the mask grid.
        folder: for a file per scene.
        threads: CPU threads of each worker; None leaves them alone.
    """

    space: LabelSpace
    source: LabelSource
    grid: ViewConfig
    folder: Path
    threads: int | None = None

    def __call__(self, number: int) -> Work:
        """The worker of a slot."""
        limit_threads(self.threads)
        return self.count_scene

    def count_scene(self, scene: LabelledScene) -> dict[str, Any]:
        """Count a scene, unless its file is there; `files` for the log.

        Raises:
            ValueError, OSError: a damaged or missing file.
        """
        path = self.find_file(scene)
        if not path.is_file():
            labels = self.space.read_points(scene.read_labels(self.source.name))
            counts = count_views(scene, scene.read_cloud(), labels, self.space, self.grid)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(counts))
        return {"files": {path.name: path.stat().st_size}}

    def read_counts(self, scene: LabelledScene) -> list[ViewCount]:
        """What `count_scene` kept."""
        return [ViewCount(*row) for row in json.loads(self.find_file(scene).read_text())]

    def find_file(self, scene: LabelledScene) -> Path:
        """The file of a scene, named by everything its counts depend on."""
        identity = (
            stamp_scene(scene, self.source.name),
            *(self.source.name, self.space.point_ids, len(self.space.classes), repr(self.grid)),
        )
        digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
        return self.folder / f"{scene.name}-{digest}.json"


def index_views(
    collection: SceneCollection,
    space: LabelSpace,
    source: LabelSource,
    grid: ViewConfig,
    rule: ViewRule,
    cache_dir: Path,
    progress: Progress | None = None,
    workers: int = 1,
) -> dict[str, list[str]]:
    """Usable views by scene, in order; scenes without any are left out with a warning.

    Args:
        collection: scenes of one split.
        space: classes and base split.
        source: the label set that is read.
        grid: the mask grid.
        rule: what is usable.
        cache_dir: counts of a scene are kept here and used again while its cloud and labels are
            unchanged; of several processes that ask at once the first one counts.
        progress: called with (scenes done, scenes).
        workers: processes that count.

    Raises:
        ValueError: no scene has a usable view, or one cannot be read.
    """
    task = CountScenes(space, source, grid, cache_dir, None if workers == 1 else 1)
    jobs = [Job(s.name, s, task.find_file(s).name) for s in collection.scenes]
    with (
        JobLog.open(cache_dir, wait=True) as log,
        open_slots(task, workers, None, Resources()) as slots,
    ):
        failed = run_jobs(jobs, slots, log, progress=progress)
    for name, reason in failed.items():
        raise ValueError(f"scene {name} of {collection.root} cannot be used: {reason}")
    usable: dict[str, list[str]] = {}
    refused: list[ViewCount] = []
    for scene in collection.scenes:
        counts = task.read_counts(scene)
        views = [count.view for count in counts if rule.allows(count)]
        refused += [count for count in counts if not rule.allows(count)]
        if views:
            usable[scene.name] = views
    lost = [scene.name for scene in collection.scenes if scene.name not in usable]
    if lost:
        logger.warning(
            "%d scenes have no usable view and are left out: %s", len(lost), join_names(lost)
        )
    if not usable:
        raise ValueError(
            f"{collection.root}: none of the views of its {len(collection)} scenes can be used; "
            f"{rule.describe_refused(refused)}"
        )
    return usable
