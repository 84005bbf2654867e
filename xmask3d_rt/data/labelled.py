"""A labelled scene and a split of scenes, whatever their layout on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from xmask3d_rt.classes import ClassList
from xmask3d_rt.data.labels import LabelSource, pick_label_set
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.view import View

SPLITS = ("train", "val", "test")


class LabelledScene(Protocol):
    """One scene of a collection."""

    @property
    def name(self) -> str:
        """Unique within its split."""

    @property
    def cloud_file(self) -> Path:
        """The file the points come from."""

    def label_file(self, label_set: str) -> Path:
        """The file the labels of the points come from."""

    def read_cloud(self) -> PointCloud:
        """Points and colours."""

    def read_labels(self, label_set: str) -> np.ndarray:
        """The id of every point [N] int64 in a label set."""

    def list_views(self) -> list[View]:
        """Posed views in the order of their numbers; none where the scene has none."""

    def label_image_path(self, view: str, label_set: str) -> Path | None:
        """The label image of a view, None where there is none."""

    def read_captions(self) -> Mapping[str, str]:
        """Caption by view; empty where there are none."""


def stamp_scene(scene: LabelledScene, label_set: str) -> str:
    """Changes whenever the file of a scene's points or of their labels does."""
    files = {scene.cloud_file.resolve(), scene.label_file(label_set).resolve()}
    stats = {file: file.stat() for file in sorted(files) if file.is_file()}
    return " ".join(f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats.items())


@dataclass(frozen=True, eq=False)
class SceneCollection:
    """Scenes of one split and the label sets they have.

    Attributes:
        root: the folder.
        split: train, val ...; "" for a folder without splits.
        scenes: in order of their names.
        label_sets: names of the label sets, for `pick_source`.
        own_source: what the ids mean where a `classes.txt` says so.
    """

    root: Path
    split: str
    scenes: tuple[LabelledScene, ...]
    label_sets: tuple[str, ...] = ()
    own_source: LabelSource | None = field(default=None)

    def __len__(self) -> int:
        return len(self.scenes)

    def pick_source(self, classes: ClassList) -> LabelSource:
        """The label set that fits a class list best.

        Raises:
            ValueError: the collection has no labels.
        """
        return self.own_source or pick_label_set(classes, self.label_sets)
