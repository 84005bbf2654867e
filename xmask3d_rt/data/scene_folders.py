"""A folder of scene folders: one's own labelled scans, generated rooms, converted data sets.

    [train/|val/]<scene>/color/N.jpg depth/N.png pose/N.txt intrinsics.txt   as `rgbd.load_rgbd`
                         scene.ply            vertex property `label`, or
                         scene.ply labels.txt an id per point, a line each, or
                         scene.safetensors    xyz, rgb, labels [, labels_200]
                         label/N.png          ids per pixel, optional [, label_200/N.png]
                         captions.json        {"N": "a chair in a room"}, optional
                         classes.txt          what the ids mean: line i names id i
    classes.txt          the same for all scenes, where a scene has none
    dataset.json         in converted data sets: its label sets

An id that is not in `classes.txt` (-1, 255) is no label.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.data.labelled import SPLITS, SceneCollection
from xmask3d_rt.data.labels import own_label_source
from xmask3d_rt.data.released import LABEL_FOLDERS
from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.frame_files import list_visible
from xmask3d_rt.scene.ply_elements import Lists
from xmask3d_rt.scene.rgbd import load_rgbd
from xmask3d_rt.scene.text_files import read_json_object, read_text
from xmask3d_rt.scene.view import View

DATASET_FILE, CLASSES_FILE, CAPTIONS_FILE = "dataset.json", "classes.txt", "captions.json"
LABELS_FILE = "labels.txt"
CLOUD_FILES = ("scene.safetensors", "scene.ply")
LABEL_TENSORS = {"scannet20": "labels", "scannet200": "labels_200"}


@dataclass(frozen=True)
class FolderScene:
    """One scene folder."""

    root: Path
    cloud_file: Path = field(repr=False)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.root.name

    def label_file(self, label_set: str) -> Path:
        """`labels.txt` where it is there and belongs to the cloud, else the cloud's file."""
        lines = self.root / LABELS_FILE
        text = self.cloud_file.suffix != ".safetensors" and lines.is_file()
        return lines if text else self.cloud_file

    def read_cloud(self) -> PointCloud:
        """Points and colours.

        Raises:
            ValueError: a damaged file.
        """
        if self.cloud_file.suffix != ".safetensors":
            return PointCloud.load(self.cloud_file)
        tensors = read_tensors(self.cloud_file)
        return PointCloud(tensors["xyz"], tensors["rgb"])

    def read_labels(self, label_set: str) -> np.ndarray:
        """Ids of the points, [N] int64.

        Raises:
            FileNotFoundError: the scene has no labels of this set.
            ValueError: damaged labels, or another number than points.
        """
        if self.cloud_file.suffix == ".safetensors":
            tensors = read_tensors(self.cloud_file)
            count = len(tensors["xyz"])
            labels = tensors.get(LABEL_TENSORS.get(label_set, "labels"))
            if labels is None:
                raise FileNotFoundError(f"{self.cloud_file} has no labels of {label_set}")
        else:
            cloud = PointCloud.load(self.cloud_file)
            count = len(cloud)
            labels = self._read_own_labels(cloud)
        where = self.label_file(label_set)
        if labels.shape != (count,) or labels.dtype.kind not in "iuf":
            raise ValueError(
                f"{where}: expected a number for each of {count} points as label, got "
                f"{labels.dtype} {list(labels.shape)}"
            )
        odd = labels != np.rint(labels)
        if odd.any():
            raise ValueError(
                f"{where}: labels must be whole numbers, -1 for none; got {labels[odd][0]}"
            )
        return labels.astype(np.int64)

    def _read_own_labels(self, cloud: PointCloud) -> np.ndarray:
        """Labels of the text file, or else of the cloud."""
        file = self.root / LABELS_FILE
        if file.is_file():
            return _read_label_lines(file)
        labels = None if cloud.source is None else cloud.source.vertex.columns.get("label")
        if isinstance(labels, Lists):
            raise ValueError(f"{self.cloud_file}: expected a number as label of a point, got lists")
        if labels is not None:
            return labels
        raise FileNotFoundError(
            f"{self.cloud_file} has no vertex property `label` and there is no {file}; add one"
        )

    def list_views(self) -> list[View]:
        """Views of the folder; none where it has no `color/`."""
        return load_rgbd(self.root) if (self.root / "color").is_dir() else []

    def label_image_path(self, view: str, label_set: str) -> Path | None:
        """The label image of a view, None where there is none."""
        path = self.root / LABEL_FOLDERS.get(label_set, "label") / f"{view}.png"
        return path if path.is_file() else None

    def read_captions(self) -> Mapping[str, str]:
        """Caption by view.

        Raises:
            ValueError: `captions.json` does not hold {view: caption}.
        """
        path = self.root / CAPTIONS_FILE
        if not path.is_file():
            return {}
        content = read_json_object(path)
        return {str(view): str(caption) for view, caption in content.items()}


def open_scene_folders(root: Path, split: str) -> SceneCollection:
    """The scenes of a split; all of them where the folder has no splits.

    Raises:
        FileNotFoundError: no scene, or nothing says what their labels mean.
        ValueError: scenes that disagree about their classes, or a damaged file.
    """
    splits = list_splits(root)
    if splits and split not in splits:
        raise FileNotFoundError(f"{root} has no {split}/ (it has {', '.join(splits)})")
    scenes = list_scene_folders(root / split if splits else root)
    if not scenes:
        raise FileNotFoundError(
            f"{root} is neither processed ScanNet (no scannet_3d/) nor a folder of scene folders "
            f"(none holds {' or '.join(CLOUD_FILES)})"
        )
    if (root / DATASET_FILE).is_file():
        content = read_json_object(root / DATASET_FILE)
        named = content.get("label_sets")
        if not isinstance(named, list) or not set(LABEL_TENSORS) & set(map(str, named)):
            raise ValueError(
                f"{root / DATASET_FILE}: expected label_sets with {' or '.join(LABEL_TENSORS)}, "
                f"got {one_line(named, 60)}; convert again"
            )
        sets = tuple(name for name in LABEL_TENSORS if name in named)
        return SceneCollection(root, split if splits else "", scenes, sets)
    source = own_label_source(_read_classes(root, scenes))
    return SceneCollection(root, split if splits else "", scenes, own_source=source)


def list_splits(root: Path) -> list[str]:
    """Splits that a folder has; none where its scenes lie in it directly."""
    return [name for name in SPLITS if (root / name).is_dir() and list_scene_folders(root / name)]


def list_scene_folders(folder: Path) -> tuple[FolderScene, ...]:
    """Scene folders inside a folder, in order of their names."""
    scenes = []
    for entry in list_visible(folder):
        cloud = next((entry / n for n in CLOUD_FILES if (entry / n).is_file()), None)
        if cloud is not None:
            scenes.append(FolderScene(entry, cloud))
    return tuple(scenes)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file that must hold `xyz` and `rgb`.

    Raises:
        ValueError: damaged or without them.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: damaged safetensors file ({one_line(error)}); convert again"
        ) from error
    if not {"xyz", "rgb"} <= set(tensors):
        raise ValueError(f"{path}: expected tensors xyz and rgb, got {', '.join(tensors)}")
    return tensors


def _read_classes(root: Path, scenes: tuple[FolderScene, ...]) -> list[str]:
    """Names behind the ids, which all scenes must share."""
    files = [scene.root / CLASSES_FILE for scene in scenes]
    found = [file for file in (root / CLASSES_FILE, *files) if file.is_file()]
    if not found:
        raise FileNotFoundError(
            f"nothing says what the labels of {root} mean: write {root / CLASSES_FILE}, a name per "
            "line, the first for label 0"
        )
    texts = {read_text(file).strip(): file for file in reversed(found)}
    if len(texts) > 1:
        one, other = list(texts.values())[:2]
        raise ValueError(f"{one} and {other} differ; the scenes of a folder must share classes")
    return parse_classes(found[0]).titles


def _read_label_lines(file: Path) -> np.ndarray:
    try:
        return np.loadtxt(file, dtype=np.int64, ndmin=1)
    except ValueError as error:
        raise ValueError(f"{file}: not one integer per line: {one_line(error)}") from error
