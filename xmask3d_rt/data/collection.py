"""Labelled scenes on disk, whatever their layout: what training and evaluation read.

`open_collection` tells the two layouts apart: the released one (`released.py`) and folders of
scene folders (`scene_folders.py`), which conversion writes and people bring their own scans in.
Nothing but names is read until a scene is used.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from xmask3d_rt.classes import ClassList
from xmask3d_rt.data.labels import LabelSource
from xmask3d_rt.image_files import read_ids
from xmask3d_rt.scene import PointCloud, View

SPLITS = ("train", "val", "test")


class LabelledScene(Protocol):
    """One scene of a collection."""

    @property
    def name(self) -> str:
        """Unique within its split."""

    @property
    def cloud_file(self) -> Path:
        """The file the points come from."""

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
        from xmask3d_rt.data.labels import pick_label_set

        return self.own_source or pick_label_set(classes, self.label_sets)


def open_collection(folder: str | os.PathLike[str], split: str) -> SceneCollection:
    """The scenes of a split.

    Args:
        folder: in one of the two layouts.
        split: a folder without `train/` and `val/` gives all its scenes for every split.

    Raises:
        FileNotFoundError: no such folder or no scene of the split in it.
        ValueError: a file that describes the collection is damaged.
    """
    from xmask3d_rt.data.released import is_released, open_released
    from xmask3d_rt.data.scene_folders import open_scene_folders

    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no data folder {root}")
    if is_released(root):
        return open_released(root, split)
    return open_scene_folders(root, split)


def read_label_image(path: Path) -> np.ndarray:
    """Ids of a one-channel label image, [H, W] int64.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image of one channel.
    """
    return read_ids(path).astype(np.int64)
