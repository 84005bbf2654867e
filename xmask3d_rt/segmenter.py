"""The user's entry point: `Segmenter(engine_dir).run(points, classes, views)`."""

import contextlib
import dataclasses
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xmask3d_rt.classes import ClassList, parse_classes, split_base_novel
from xmask3d_rt.components import ENGINES, SPARSE_NETS
from xmask3d_rt.engines.backends import pick_device
from xmask3d_rt.engines.base import Engine
from xmask3d_rt.engines.default import prepare_default_engines
from xmask3d_rt.engines.manifest import Manifest
from xmask3d_rt.engines.rebuild import open_engines
from xmask3d_rt.errors import EngineError
from xmask3d_rt.kernels import PointLabels, ProjectedView
from xmask3d_rt.nets.heads import Heads
from xmask3d_rt.nets.sparse_unet import FoldedSparseUNet
from xmask3d_rt.pipeline.engines import EnginePipeline
from xmask3d_rt.pipeline.host_copy import upload
from xmask3d_rt.pipeline.masks import check_finite
from xmask3d_rt.pipeline.recorder import Recorder
from xmask3d_rt.pipeline.view import (
    CameraView,
    LabelledView,
    TextTarget,
    ViewGroup,
    ViewPipeline,
)
from xmask3d_rt.pipeline.votes import HEADS, HeadVotes
from xmask3d_rt.result import Result
from xmask3d_rt.scene.cloud import PointCloud, as_point_cloud
from xmask3d_rt.scene.rgbd import RgbdFolder
from xmask3d_rt.scene.view import View
from xmask3d_rt.scene.view_reader import describe_damaged, list_views, read_groups
from xmask3d_rt.system.memory import check_threads
from xmask3d_rt.text.class_notes import describe_classes
from xmask3d_rt.text.embedder import TextEmbedder
from xmask3d_rt.text.meaning import split_by_meaning
from xmask3d_rt.text.other_class import (
    DEFAULT_TITLE,
    append_class,
    check_min_score,
    check_other,
    gate_neutral,
    list_neutral,
)
from xmask3d_rt.viewing.virtual import place_views

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Observer = Callable[[str, ProjectedView, PointLabels], None]
NO_VIEWS = "none"
KEPT_LISTS = 8  # of classes; 3 MB each for 200 classes
GROUP_ENTRIES = 1 << 22  # views x points selected at once; about 70 bytes of a GPU for each


class _KnownClasses(NamedTuple):
    """What is kept of a class list: what labelling needs of it, and notes on its names."""

    target: TextTarget
    notes: tuple[str, ...]


class Segmenter:
    """Open-vocabulary labels for every point of a scene.

    Attributes:
        config: the model the engines were built for.
        device: where points and labels live.
        manifest: of the engine directory; None for a segmenter made by `from_pipeline`.

    Args:
        engine_dir: folder made by `xmask3d build`. None: engines of the small weights that ship
            with the package, in the user's cache folder; the first use builds them, which takes
            two minutes.
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:N".
        threads: CPU threads of the engines; None takes every core the process may use.
        rebuild: build engines anew that were built for another library version, device or
            precision, which takes minutes; where they came from weight files, their paths:
            {"checkpoint": ..., "sd": ..., "clip": ...}.
        cuda_graphs: on a GPU, replay each engine as a graph, where it can be captured.

    Raises:
        EngineError: the folder, a file in it, or a backend it needs is missing, corrupt or of
            another version.
        ValueError: fewer threads than 1, or many more than cores.
        TypeError: `threads` is no whole number.
    """

    manifest: Manifest | None = None
    # Wait for the GPU after every stage, so that `timings` say what each one takes by itself;
    # without, a stage's work may be charged to the one that waits for it. For benchmarks.
    synchronize_stages = False

    def __init__(
        self,
        engine_dir: str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
        threads: int | None = None,
        rebuild: bool | Mapping[str, str | Path] = False,
        cuda_graphs: bool = True,
    ) -> None:
        check_threads(threads)
        if engine_dir is None:
            engine_dir, rebuild = prepare_default_engines(pick_device(device)), True
        manifest = Manifest.load(Path(engine_dir))
        picked = pick_device(device, manifest)
        manifest, engines = open_engines(manifest, ENGINES, picked, threads, rebuild)
        nets = {
            name: FoldedSparseUNet.load(
                manifest.path_of(name), picked, manifest.get(name).precision
            )
            for name in SPARSE_NETS
        }
        heads = Heads.load(manifest.path_of("heads"), picked)
        text = TextEmbedder(engines.pop("text_encoder"), picked)
        pipeline = EnginePipeline(manifest.config, engines, nets, heads, picked, cuda_graphs)
        self._set_up(pipeline, text)
        self.manifest = manifest

    @classmethod
    def from_pipeline(cls, pipeline: ViewPipeline, text: TextEmbedder) -> "Segmenter":
        """A segmenter on parts that are loaded already."""
        segmenter = cls.__new__(cls)
        segmenter._set_up(pipeline, text)
        return segmenter

    def _set_up(self, pipeline: ViewPipeline, text: TextEmbedder) -> None:
        self.config = pipeline.config
        self.device = pipeline.device
        self._pipeline = pipeline
        self._text = text
        self._lock = threading.Lock()
        self._turn_of: int | None = None  # thread whose run is under way
        self._known: dict[tuple[Any, ...], _KnownClasses] = {}
        self._groups_ahead = 1 if self.device.type == "cuda" else 0

    def __repr__(self) -> str:
        folder = "" if self.manifest is None else f"{str(self.manifest.root)!r}, "
        return f"Segmenter({folder}model {self.config.name}, device {self.device})"

    def run(
        self,
        points: Any,
        classes: Any,
        views: Any = None,
        *,
        up: Any = None,
        virtual_views: int = 8,
        other: bool | str = False,
        min_score: float = 0.0,
        progress: Progress | None = None,
        observe: Observer | None = None,
    ) -> Result:
        """Label every point. May be called from several threads; calls take turns.

        Args:
            points: [N, 6] xyz (metres) and rgb (0-255) as NumPy array, torch tensor, anything
                with `__dlpack__` or `__cuda_array_interface__`; a `PointCloud`; a path.
            classes: names, or lists of names per class (synonyms); a benchmark name such as
                "scannet20" is one, too.
            views: `View` objects, or the path of an RGB-D folder. None renders `virtual_views`
                views of the cloud; "none" labels by the 3D head alone, which loses many of the
                classes without training labels.
            up: direction away from the floor [3], for rendered views; None estimates it.
            virtual_views: how many views to render where none are given.
            other: True, or a name: one more class, "other" or of that name, for points to which
                a neutral name ("object", "things", "stuff", "texture") fits better than any
                class does. Without it every point takes one of the classes, a single class all.
            min_score: points whose score is below go to the class of `other`, or to one called
                "other"; they keep their score.
            progress: called with (views done, views) as the work goes on.
            observe: called with the name, projection and labels of every view that votes.

        Returns:
            Labels, scores and what they come from. Same input, same labels.

        Raises:
            ValueError: points, classes or views of the wrong shape or content; no colours; no
                view sees enough points.
            TypeError: elements of the wrong type.
            EngineError: an engine failed; or `run` was called by its own `progress` or `observe`.
        """
        cloud = as_point_cloud(points)
        class_list = parse_classes(classes)
        title, least = check_other(other, class_list), check_min_score(min_score)
        cloud.require_rgb()
        recorder = Recorder(self._synchronize if self.synchronize_stages else None)
        with recorder.measure("place views"):
            chosen, mode = self._choose_views(cloud, views, up, virtual_views)
        with torch.inference_mode(), self._take_turn():
            with recorder.measure("text"):
                target, names_notes = self._embed_classes(class_list, title is not None)
            named = class_list if title is None else append_class(class_list, title)
            if chosen:
                result = self._run_views(cloud, named, target, chosen, recorder, progress, observe)
            else:
                result = self._run_cloud(cloud, named, target, recorder)
        scores_notes = self._describe_scores(class_list, title)
        notes = (*chosen.notes, *result.notes, *scores_notes, *names_notes)
        result = dataclasses.replace(result, mode=mode, notes=notes)
        return result.apply_min_score(least, title or DEFAULT_TITLE) if least else result

    def run_many(
        self,
        scenes: Iterable[Any],
        classes: Any,
        **options: Any,
    ) -> Iterator[Result]:
        """Label scene after scene, in order; the next cloud is read while one is worked on.

        Args:
            scenes: points, or a pair (points, views), of each scene, both as for `run`.
            classes: as for `run`, the same for all scenes.
            options: further arguments of `run`.

        Yields:
            A result per scene. An invalid scene raises when its turn comes.
        """
        class_list = parse_classes(classes)
        pending: deque[tuple[Future[PointCloud], Any]] = deque()
        with ThreadPoolExecutor(max_workers=1) as reader:
            for scene in scenes:
                points, views = scene if _is_pair(scene) else (scene, None)
                pending.append((reader.submit(as_point_cloud, points), views))
                if len(pending) > 1:
                    cloud, its_views = pending.popleft()
                    yield self.run(cloud.result(), class_list, its_views, **options)
            for cloud, its_views in pending:
                yield self.run(cloud.result(), class_list, its_views, **options)

    def _choose_views(
        self, cloud: PointCloud, views: Any, up: Any, count: int
    ) -> tuple[RgbdFolder, str]:
        """The views to use with notes about them, none for the 3D head; the mode they stand for."""
        if isinstance(views, str) and views == NO_VIEWS:
            return RgbdFolder([]), "3d"
        if views is not None:
            return list_views(views), "views"
        colors = cloud.require_rgb()
        placed = place_views(cloud.xyz, colors, up=up, count=count, device=self.device)
        note = f"no views were given: {len(placed)} were rendered from the cloud"
        return RgbdFolder(placed, (note,)), "virtual"

    def trace_view(self, points: Any, classes: Any, view: View) -> dict[str, np.ndarray]:
        """Every intermediate of one view by name, as parity checks compare them.

        Args:
            points: as for `run`.
            classes: as for `run`.
            view: the view.

        Returns:
            `image` [1, 3, S, S] in [0, 1]; `visible`, `row`, `col` [N] of all points; then what
            `ViewPipeline.label_group` records for the visible ones.

        Raises:
            ValueError: no point is visible, or a bad argument as for `run`.
        """
        cloud, class_list = as_point_cloud(points), parse_classes(classes)
        xyz, colors = self._upload(cloud)
        recorder = Recorder(keeps_values=True)
        prepared = next(read_groups([view], self.config, 1, recorder))[0]
        with torch.inference_mode(), self._take_turn():
            target = self._embed_classes(class_list).target
            camera = CameraView.upload(prepared, self.device)
            group = self._pipeline.select(xyz, [camera], least=1)
            recorder.record(text_embed=target.text_embed, image=camera.image)
            found = self._pipeline.label_group(xyz, colors, group, target, recorder)[0]
        if not found.count:
            raise ValueError(f"trace_view: view {view.name!r} sees no point of the cloud")
        projected = found.projected
        recorder.record(visible=projected.visible, row=projected.row, col=projected.col)
        return {name: tensor.cpu().numpy() for name, tensor in recorder.values.items()}

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The loaded engines of a view, by component."""
        return self._pipeline.engines

    @contextlib.contextmanager
    def _take_turn(self) -> Iterator[None]:
        """Wait until no other run is under way.

        Raises:
            EngineError: the caller's own is: it would wait for itself.
        """
        caller = threading.get_ident()
        if self._turn_of == caller:
            raise EngineError(
                "run: called from the progress or observe of a run of the same Segmenter, which "
                "is not over; call it after run has returned"
            )
        with self._lock:
            self._turn_of = caller
            try:
                yield
            finally:
                self._turn_of = None

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _embed_classes(self, classes: ClassList, neutral: bool = False) -> _KnownClasses:
        """What labelling needs of a class list, and notes on it; the last few lists are kept.

        With `neutral`, one or two further classes stand for neutral names.
        """
        key = (classes.names, neutral)
        known = self._known.pop(key, None)
        if known is None:
            is_base = self._find_base(classes)
            names, name_class = classes.flat_names, classes.name_class
            if neutral:
                copies, rivals = gate_neutral(is_base), list_neutral(classes)
                extra = np.arange(len(copies)) + len(classes)
                names = [*names, *rivals * len(copies)]
                name_class = np.concatenate([name_class, np.repeat(extra, len(rivals))])
                is_base = np.concatenate([is_base, copies])
            target = self._pipeline.make_target(
                self._text.embed(names),
                torch.from_numpy(name_class),
                torch.from_numpy(is_base),
            )
            known = _KnownClasses(target, self._describe_names(classes))
        self._known[key] = known  # the newest last
        if len(self._known) > KEPT_LISTS:
            del self._known[next(iter(self._known))]
        return known

    def _find_base(self, classes: ClassList) -> np.ndarray:
        """Which classes count as trained [C] bool."""
        split, least = self.config.split, self.config.base_cosine
        if least is None:
            return split_base_novel(classes, split)
        return split_by_meaning(classes, split, self._text.embed, least)

    def _run_cloud(
        self, cloud: PointCloud, classes: ClassList, target: TextTarget, recorder: Recorder
    ) -> Result:
        """The 3D head on the whole cloud at once."""
        points, colors = self._upload(cloud)
        found = self._pipeline.label_cloud(points, colors, target, recorder)
        found = _join_copies(found, target, len(classes))
        labels = found.three_d.cpu().numpy()
        return Result(
            cloud=cloud,
            classes=classes,
            labels=labels,
            scores=found.score.cpu().numpy(),
            heads={"3d": labels},
            coverage=np.zeros(len(cloud), np.int32),
            views=(),
            mode="3d",
            timings=recorder.seconds,
            notes=(*cloud.notes, "labelled by the 3D head alone, without views"),
        )

    def _run_views(
        self,
        cloud: PointCloud,
        classes: ClassList,
        target: TextTarget,
        views: RgbdFolder,
        recorder: Recorder,
        progress: Progress | None,
        observe: Observer | None,
    ) -> Result:
        """The full pipeline on every view, one vote per view and point, nearest seen point."""
        points, colors = self._upload(cloud)
        votes = HeadVotes(len(cloud), len(classes), self.device)
        seen: list[tuple[str, int]] = []
        finite: list[Mapping[str, Tensor]] = []
        damaged: dict[str, str] | None = {} if views.skips_damaged else None
        for name, view in self._label_views(points, colors, views, target, recorder, damaged):
            seen.append((name, view.count))
            if view.seen is not None:
                labels = _join_copies(view.seen.labels, target, len(classes))
                with recorder.measure("vote and fill"):
                    votes.add(view.seen.indices, labels)
                finite.append(view.seen.finite)
                if observe is not None:
                    observe(name, view.projected, labels)
            if progress is not None:
                progress(len(seen), len(views) - len(damaged or ()))
        unread = (describe_damaged(damaged, len(views)),) if damaged else ()
        if not seen:
            raise ValueError(f"run: {' '.join(unread)}")
        used = self._list_used(seen)
        with recorder.measure("vote and fill"):
            voted = votes.finish(points)
        check_finite(finite)
        heads = dict(zip(HEADS, voted.label.cpu().numpy(), strict=True))
        return Result(
            cloud=cloud,
            classes=classes,
            labels=heads["fused"],
            scores=voted.score.cpu().numpy(),
            heads=heads,
            coverage=votes.coverage.cpu().numpy(),
            views=used,
            mode="views",
            timings=recorder.seconds,
            notes=(*cloud.notes, *unread, *self._describe_skipped(seen)),
        )

    def _label_views(
        self,
        points: Tensor,
        colors: Tensor,
        views: Sequence[View],
        target: TextTarget,
        recorder: Recorder,
        damaged: dict[str, str] | None = None,
    ) -> Iterator[tuple[str, LabelledView]]:
        """Name and labels of every view, in order; `damaged` as for `read_groups`.

        On a GPU the next group of views is selected before this one is labelled: its sizes have
        arrived by the time they are needed, and the queue never runs dry.
        """
        most = max(1, min(self._pipeline.group_views, GROUP_ENTRIES // len(points)))
        names: deque[str] = deque()
        numbers = itertools.count()
        selected: deque[ViewGroup] = deque()

        def label(group: ViewGroup) -> Iterator[tuple[str, LabelledView]]:
            for found in self._pipeline.label_group(points, colors, group, target, recorder):
                yield names.popleft(), found

        for prepared in read_groups(views, self.config, most, recorder, damaged):
            names.extend(view.name or str(i) for view, i in zip(prepared, numbers, strict=False))
            with recorder.measure("project"):
                cameras = [CameraView.upload(view, self.device) for view in prepared]
                selected.append(self._pipeline.select(points, cameras, self.config.view.min_points))
            if len(selected) > self._groups_ahead:
                yield from label(selected.popleft())
        for group in selected:
            yield from label(group)

    def _upload(self, cloud: PointCloud) -> tuple[Tensor, Tensor]:
        """Points [N, 3] float32 and colours [N, 3] uint8 on the device."""
        return upload(cloud.xyz, self.device), upload(cloud.require_rgb(), self.device)

    def _list_used(self, seen: list[tuple[str, int]]) -> tuple[str, ...]:
        """Names of the views that voted; at least one, else ValueError."""
        least = self.config.view.min_points
        used = tuple(name for name, count in seen if count >= least)
        if not used:
            name, count = max(seen, key=lambda item: item[1])
            raise ValueError(
                f"run: no view sees {least} points or more (the best, {name!r}, sees {count}); "
                "check that camera_to_world, intrinsics and depth are in metres and in the "
                "cloud's frame"
            )
        return used

    def _describe_scores(self, classes: ClassList, other: str | None) -> tuple[str, ...]:
        """Notes on what labels and scores of this run mean."""
        notes = []
        if other is not None:
            rivals = ", ".join(list_neutral(classes))
            notes.append(f"class {other!r} is whatever the names {rivals} fit better than a class")
        elif len(classes) == 1:
            notes.append(
                f"{classes[0]!r} is the only class, so every point has it with score 1; name "
                "further classes, or pass other=True (--other NAME), to tell it from the rest"
            )
        if self.manifest is not None and self.manifest.weights_note is not None:
            notes.append(self.manifest.weights_note)
        return tuple(notes)

    def _describe_names(self, classes: ClassList) -> tuple[str, ...]:
        """Notes on the names of classes; to synthetic weights no name means anything."""
        if self.manifest is not None and self.manifest.weights.kind == "synthetic":
            return ()
        return describe_classes(classes, self._text.embed)

    def _describe_skipped(self, seen: list[tuple[str, int]]) -> tuple[str, ...]:
        least = self.config.view.min_points
        skipped = [f"{name!r} ({count})" for name, count in seen if count < least]
        if not skipped:
            return ()
        note = f"skipped {len(skipped)} views that see fewer than {least} points: " + ", ".join(
            skipped
        )
        logger.warning("%s", note)
        return (note,)


def _join_copies(labels: PointLabels, target: TextTarget, classes: int) -> PointLabels:
    """Labels in which all copies of the last class, the one of neutral names, are one."""
    if target.num_classes == classes:
        return labels
    last = classes - 1
    by_head = (labels.fused, labels.two_d, labels.three_d)
    return PointLabels(*(head.clamp(max=last) for head in by_head), labels.score)


def _is_pair(scene: Any) -> bool:
    """Whether a scene of `run_many` comes with its views: any tuple of two, or a list whose
    second entry is no row of numbers.
    """
    if not isinstance(scene, (tuple, list)) or len(scene) != 2:
        return False
    if isinstance(scene, tuple) or not isinstance(scene[1], (tuple, list)):
        return True
    return not any(isinstance(value, (int, float)) for value in scene[1][:1])
