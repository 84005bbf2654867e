"""Evaluation of a segmenter over labelled scenes.

Scenes are worked on one after another, or by several workers; what stays of one is a confusion
matrix per head in a file, so that memory does not grow with their number and a killed run goes on
where it stopped.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xmask3d_rt.arrays import read_arrays
from xmask3d_rt.classes import ClassList
from xmask3d_rt.config import ClassSplit, ModelConfig
from xmask3d_rt.data.collection import open_collection
from xmask3d_rt.data.labelled import LabelledScene, stamp_scene
from xmask3d_rt.data.labels import LabelSpace, make_label_space
from xmask3d_rt.data.view_index import ViewCount, ViewRule, count_views
from xmask3d_rt.evaluation.iou import Confusion, Score, score
from xmask3d_rt.files import atomic_write
from xmask3d_rt.many.jobs import ATTEMPTS, Job, JobLog, Progress, run_jobs
from xmask3d_rt.many.slots import open_slots
from xmask3d_rt.many.sources import SegmenterSource
from xmask3d_rt.many.workers import Resources, Work
from xmask3d_rt.pipeline.votes import HEADS
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.rgbd import spread_views
from xmask3d_rt.scene.view import View
from xmask3d_rt.system.folders import find_cache_folder
from xmask3d_rt.version import __version__

if TYPE_CHECKING:
    from xmask3d_rt.segmenter import Segmenter

VAL_KEEP = {"b12n7": 65_000}  # most points of a view in the released evaluation
KEEP_ALL = 10_000_000


@dataclass(frozen=True)
class Conditions:
    """What a segmenter is given of each scene.

    Attributes:
        views_limit: most views, spread evenly over the scene's; None: all.
        rendered: views rendered from the cloud in place of the scene's, 0: none, which leaves the
            3D head alone; None: the scene's own.
        prompts: what each class is called, in the classes' order; None: by its own names.
    """

    views_limit: int | None = None
    rendered: int | None = None
    prompts: ClassList | None = None

    def check(self, classes: ClassList) -> None:
        """Check them against the classes to tell apart.

        Raises:
            ValueError: another number of prompts, or a limit on views that are not used.
        """
        if self.prompts is not None and len(self.prompts) != len(classes):
            raise ValueError(
                f"{len(self.prompts)} prompts for {len(classes)} classes; give one for each class, "
                "in the same order"
            )
        if self.views_limit is not None and self.rendered is not None:
            raise ValueError(
                "a limit on the scenes' views excludes rendered ones; give one of them"
            )

    @property
    def names(self) -> tuple[tuple[str, ...], ...] | None:
        """The prompts' names, which decide labels."""
        return None if self.prompts is None else self.prompts.names


@dataclass(frozen=True)
class EvaluateScenes:
    """Opens workers that label the scenes of a split and count right and wrong.

    Attributes:
        source: of the segmenter.
        data: folder of labelled scenes.
        split: of the folder.
        classes: to tell apart.
        state: folder for a file of counts per scene.
        released_views: most points of a view, to leave out the views that the released
            evaluation leaves out, which needs labels; None uses every view, as inference does.
        conditions: what the segmenter is given.
    """

    source: SegmenterSource
    data: Path
    split: str
    classes: ClassList
    state: Path
    released_views: int | None = None
    conditions: Conditions = Conditions()

    def __call__(self, number: int) -> Work:
        """The worker of a slot."""
        collection = open_collection(self.data, self.split)
        scenes = {scene.name: scene for scene in collection.scenes}
        segmenter = self.source.open(number)
        space, label_set = self.make_space(segmenter.config)

        def work(name: str) -> dict[str, Any]:
            return self.evaluate_scene(segmenter, scenes[name], space, label_set)

        return work

    def make_space(self, config: ModelConfig) -> tuple[LabelSpace, str]:
        """Label tables for these classes, and the label set they read.

        Raises:
            ValueError: the data's labels mean none of the classes.
        """
        source = open_collection(self.data, self.split).pick_source(self.classes)
        return make_label_space(self.classes, config.split, source), source.name

    def evaluate_scene(
        self, segmenter: "Segmenter", scene: LabelledScene, space: LabelSpace, label_set: str
    ) -> dict[str, Any]:
        """Label a scene and save the confusion matrices of its heads.

        Returns:
            `files` with their sizes and what was counted, for the log.

        Raises:
            ValueError: labels and points differ in number, or no view can be used.
        """
        cloud = scene.read_cloud()
        labels = space.read_points(scene.read_labels(label_set))
        if len(labels) != len(cloud):
            raise ValueError(f"scene {scene.name}: {len(labels)} labels for {len(cloud)} points")
        given = self._choose_views(segmenter, scene, cloud, labels, space)
        result = segmenter.run(cloud, self.conditions.prompts or self.classes, **given)
        counts: dict[str, Any] = {}
        for head, predictions in result.heads.items():
            confusion = Confusion(len(self.classes))
            confusion.add(predictions, labels)
            counts[head] = confusion.counts
        path = self.state / f"{scene.name}.npz"
        with atomic_write(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **counts)
        labelled = int((labels < space.other).sum())
        files = {path.name: path.stat().st_size}
        return {
            "files": files,
            "points": len(cloud),
            "labelled": labelled,
            "views": len(result.views),
        }

    def _choose_views(
        self,
        segmenter: "Segmenter",
        scene: LabelledScene,
        cloud: PointCloud,
        labels: np.ndarray,
        space: LabelSpace,
    ) -> dict[str, Any]:
        """The arguments of a run that say which views vote."""
        rendered = self.conditions.rendered
        if rendered is not None:
            return {"virtual_views": rendered} if rendered else {"views": "none"}
        views = scene.list_views()
        if self.released_views is not None and views:
            grid = segmenter.config.view
            counts = count_views(scene, cloud, labels, space, grid)
            views = keep_allowed(views, counts, ViewRule.for_evaluation(grid, self.released_views))
            if not views:
                raise ValueError(f"scene {scene.name}: the released rule leaves no view")
        return {"views": spread_views(views, self.conditions.views_limit) or None}

    def make_jobs(self, space: LabelSpace, label_set: str) -> list[Job]:
        """A job per scene, done anew when its cloud, its labels or what they mean changes."""
        jobs = []
        for scene in open_collection(self.data, self.split).scenes:
            stamp = f"{stamp_scene(scene, label_set)} {space.point_ids}"
            key = hashlib.sha256(stamp.encode()).hexdigest()[:16]
            jobs.append(Job(scene.name, scene.name, key))
        return jobs


@dataclass(frozen=True)
class Evaluation:
    """Scores of the three heads over a split.

    Attributes:
        preset: whose base and novel classes are meant.
        model: engines or checkpoint.
        data: folder and split.
        classes: titles.
        is_base: [K] bool.
        confusion: by head.
        scenes, points, labelled: how many were counted.
        failed: error by name of the scenes that are not in.
    """

    preset: str
    model: str
    data: str
    classes: list[str]
    is_base: np.ndarray
    confusion: dict[str, Confusion]
    scenes: int
    points: int
    labelled: int
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, Score]:
        """Score by head."""
        return {
            head: score(confusion, self.classes, self.is_base)
            for head, confusion in self.confusion.items()
        }

    @property
    def main_head(self) -> str:
        """The fused head, but where scenes were labelled without views."""
        return next(head for head in HEADS if head in self.confusion)

    @property
    def markdown(self) -> str:
        """A row of the released table: preset, then hIoU / mIoU_b / mIoU_n of the main head."""
        main = self.scores[self.main_head]
        values = (main.hiou, main.miou_base, main.miou_novel)
        cells = " / ".join("–" if value is None else f"{value:.1f}" for value in values)
        return f"| {self.preset.upper()} | {cells} |"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; percentages are not rounded."""
        absent = self.confusion[self.main_head].target == 0
        return {
            "preset": self.preset,
            "model": self.model,
            "data": self.data,
            "scenes": self.scenes,
            "points": self.points,
            "labelled_points": self.labelled,
            "classes": self.classes,
            "base": [n for n, base in zip(self.classes, self.is_base, strict=True) if base],
            "novel": [n for n, base in zip(self.classes, self.is_base, strict=True) if not base],
            "absent": [n for n, gone in zip(self.classes, absent, strict=True) if gone],
            "heads": {head: result.to_dict() for head, result in self.scores.items()},
            "markdown": self.markdown,
            "failed": self.failed,
            "version": __version__,
        }


def evaluate(
    source: SegmenterSource,
    data: Path,
    classes: ClassList,
    preset: str,
    split: str = "val",
    released_views: bool = False,
    state_dir: Path | None = None,
    workers: int | None = None,
    ray: str | None = None,
    resources: Resources | None = None,
    attempts: int = ATTEMPTS,
    progress: Progress | None = None,
    conditions: Conditions | None = None,
) -> Evaluation:
    """Label every scene of a split and compare with its labels.

    Args:
        source: of the segmenter.
        data: folder of labelled scenes, in any layout.
        classes: to tell apart; those of the preset, or others.
        preset: the benchmark whose split the model was trained with.
        split: of the folder; one without splits gives all its scenes.
        released_views: leave out the views that the released evaluation leaves out.
        state_dir: where counts per scene are kept; None: the user's cache folder.
        workers, ray, resources: as for `many.slots.open_slots`.
        attempts: how often a scene is tried, unless its data is bad.
        progress: called with (scenes done, scenes).
        conditions: what the segmenter is given of each scene; None: its views, the classes' names.

    Raises:
        ValueError: the model was trained with another split than the preset's, the data's
            labels mean none of the classes, conditions that do not fit, or every scene failed.
        FileNotFoundError: the data or the model is missing.
    """
    config = source.read_config()
    check_split(config, preset)
    conditions = conditions or Conditions()
    conditions.check(classes)
    limit = VAL_KEEP.get(preset, KEEP_ALL) if released_views else None
    data = Path(os.path.realpath(data))
    root = default_state_dir() if state_dir is None else state_dir
    given = (limit, conditions.views_limit, conditions.rendered, conditions.names)
    identity = (source.fingerprint(), str(data), split, classes.names, given, __version__)
    state = root.absolute() / hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    task = EvaluateScenes(source, data, split, classes, state, limit, conditions)
    space, label_set = task.make_space(config)
    jobs = task.make_jobs(space, label_set)
    with (
        JobLog.open(state) as log,
        open_slots(task, workers, ray, resources or Resources()) as slots,
    ):
        failed = run_jobs(jobs, slots, log, attempts, progress)
        records = [log.records[job.name] for job in jobs if job.name not in failed]
    if not records:
        name, reason = next(iter(failed.items()))
        raise ValueError(f"every scene failed; {name}: {reason}")
    return Evaluation(
        preset=preset,
        model=source.title,
        data=f"{data} {split}",
        classes=classes.titles,
        is_base=space.is_base,
        confusion=_sum_counts(state, [record["scene"] for record in records], len(classes)),
        scenes=len(records),
        points=sum(record["points"] for record in records),
        labelled=sum(record["labelled"] for record in records),
        failed=failed,
    )


def keep_allowed(views: Sequence[View], counts: Sequence[ViewCount], rule: ViewRule) -> list[View]:
    """The views that a rule allows, by what each sees."""
    kept = {count.view for count in counts if rule.allows(count)}
    return [view for view in views if view.name in kept]


def check_split(config: ModelConfig, preset: str) -> ClassSplit:
    """The preset's split, which must be the model's.

    Raises:
        ValueError: unknown preset, or the model's base classes are others.
    """
    from xmask3d_rt.config import get_preset

    split = get_preset(preset).split
    if split != config.split:
        raise ValueError(
            f"the model {config.name} was trained with {len(config.split.base_names)} base classes "
            f"({', '.join(config.split.base_names[:3])} ...), not with the "
            f"{len(split.base_names)} of --preset {preset}; give the preset it was trained with"
        )
    return split


def default_state_dir() -> Path:
    """Where evaluations keep their counts, in the user's cache folder."""
    return find_cache_folder("evaluation")


def _sum_counts(state: Path, scenes: list[str], classes: int) -> dict[str, Confusion]:
    """Confusion over all scenes by head, a file at a time."""
    total: dict[str, Confusion] = {}
    for name in scenes:
        for head, counts in read_arrays(state / f"{name}.npz").items():
            total.setdefault(head, Confusion(classes)).merge(Confusion(classes, counts))
    return {head: total[head] for head in HEADS if head in total}
