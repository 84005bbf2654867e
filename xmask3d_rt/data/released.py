"""The released layout of processed ScanNet.

    scannet_3d/{train,val}/<scene>_vh_clean_2.pth    torch.save of (xyz [P, 3] m, rgb [P, 3] in
                                                     -1..1 or the scalar 0, labels [P])
    scannet_3d_200/{train,val}/<scene>.txt           a raw ScanNet id per point
    scannet_2d/<scene>/{color,depth,pose,label,label_200}/<n>.{jpg,png,txt,png,png}
    caption/*.json                                   {scene: {n: caption}}

The `.pth` files are pickles: they are read with PyTorch's restricted reader, which builds NumPy
arrays and nothing else and runs no code. Intrinsics are not part of the layout but one constant.

Source: OpenScene's preprocessing, data loader of XMask3D (wangzy22/XMask3D @ c393300).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xmask3d_rt.data.labelled import SceneCollection
from xmask3d_rt.data.labels import LABEL_SETS
from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.frame_files import list_visible
from xmask3d_rt.scene.prepare import scale_intrinsics
from xmask3d_rt.scene.rgbd import list_colors, load_rgbd
from xmask3d_rt.scene.text_files import read_json_object
from xmask3d_rt.scene.view import View

CLOUDS, CLOUDS_200, FRAMES, CAPTIONS = "scannet_3d", "scannet_3d_200", "scannet_2d", "caption"
CLOUD_SUFFIX = "_vh_clean_2.pth"
LABEL_FOLDERS = {"scannet20": "label", "scannet200": "label_200"}
INTRINSICS_SIZE = (640, 480)
INTRINSICS = np.array([[577.870605, 0, 319.5], [0, 577.870605, 239.5], [0, 0, 1]])
NO_LABEL = 255
# What a pickled NumPy array is made of; PyTorch's reader refuses everything else.
_BUILDERS = {
    "_reconstruct": np.empty(0).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
}
_ARRAY_PARTS: tuple[Any, ...] = (
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2")),
    *(
        (builder, f"{package}.multiarray.{name}")  # NumPy 2 renamed the package
        for name, builder in _BUILDERS.items()
        for package in ("numpy.core", "numpy._core")
    ),
)


@dataclass(frozen=True)
class ReleasedScene:
    """One scene of the released layout; `root` is the folder with `scannet_3d`."""

    root: Path
    split: str
    name: str
    cloud_file: Path = field(repr=False)

    @property
    def frames(self) -> Path:
        """Folder of the scene's views."""
        return self.root / FRAMES / self.name

    @property
    def labels_200_file(self) -> Path:
        """File with the ScanNet200 id of every point."""
        return self.root / CLOUDS_200 / self.split / f"{self.name}.txt"

    def label_file(self, label_set: str) -> Path:
        """The cloud's file, or that of the ScanNet200 ids."""
        return self.labels_200_file if label_set == "scannet200" else self.cloud_file

    def read_cloud(self) -> PointCloud:
        """Points and colours; black where the file has none.

        Raises:
            FileNotFoundError, ValueError: no such file, or one that is not of this layout.
        """
        xyz, rgb, _ = read_cloud_file(self.cloud_file)
        return PointCloud(xyz, rgb)

    def read_labels(self, label_set: str) -> np.ndarray:
        """Ids of the points [N] int64: 0..19 for `scannet20`, raw ids for `scannet200`.

        Raises:
            FileNotFoundError: no ScanNet200 labels.
            ValueError: a damaged file, or another number of labels than points.
        """
        xyz, _, labels = read_cloud_file(self.cloud_file)
        if label_set == "scannet20":
            return labels
        file = self.labels_200_file
        if not file.is_file():
            raise FileNotFoundError(
                f"scene {self.name} has no ScanNet200 labels: no file {file}; download "
                f"{CLOUDS_200} with the released script"
            )
        try:
            ids = np.loadtxt(file, dtype=np.int64, ndmin=1)
        except ValueError as error:
            raise ValueError(f"{file}: not one integer per line: {one_line(error)}") from error
        if ids.shape != (len(xyz),):
            raise ValueError(f"{file}: {len(ids)} labels for {len(xyz)} points")
        return ids

    def list_views(self) -> list[View]:
        """The views of `scannet_2d`, by number."""
        if not (self.frames / "color").is_dir():
            return []
        return load_rgbd(self.frames, intrinsics=self.read_intrinsics())

    def read_intrinsics(self) -> np.ndarray:
        """The constant K, at the size that this scene's colour images have.

        Raises:
            FileNotFoundError: the scene has no colour image.
        """
        from PIL import Image

        first = next(iter(list_colors(self.frames).files.values()))
        with Image.open(first) as image:
            return scale_intrinsics(INTRINSICS, INTRINSICS_SIZE, image.size)

    def label_image_path(self, view: str, label_set: str) -> Path | None:
        """The label image of a view, None where there is none."""
        path = self.frames / LABEL_FOLDERS[label_set] / f"{view}.png"
        return path if path.is_file() else None

    def read_captions(self) -> Mapping[str, str]:
        """Caption by view."""
        return read_caption_files(self.root / CAPTIONS).get(self.name, {})


def is_released(root: Path) -> bool:
    """Whether a folder is in this layout."""
    return (root / CLOUDS).is_dir()


def open_released(root: Path, split: str) -> SceneCollection:
    """The scenes of a split of the released layout.

    Raises:
        FileNotFoundError: no scene of this split.
    """
    scenes = list_scenes(root, split)
    if not scenes:
        raise FileNotFoundError(
            f"{root / CLOUDS / split} holds no *{CLOUD_SUFFIX}; `xmask3d data check {root}` says "
            "what is missing"
        )
    has_200 = scenes[0].labels_200_file.is_file()
    return SceneCollection(root, split, tuple(scenes), LABEL_SETS if has_200 else LABEL_SETS[:1])


def list_scenes(root: Path, split: str) -> list[ReleasedScene]:
    """The scenes of a split, in order of their names; none where the split is absent."""
    folder = root / CLOUDS / split
    files = list_visible(folder) if folder.is_dir() else []
    return [
        ReleasedScene(root, split, file.name.removesuffix(CLOUD_SUFFIX), file)
        for file in files
        if file.name.endswith(CLOUD_SUFFIX)
    ]


def read_cloud_file(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """xyz [P, 3] float32, rgb [P, 3] uint8 and labels [P] int64 of a `.pth` file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, of another content, or holding objects that are no arrays, which
            could run code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no point cloud file {path}")
    try:
        with torch.serialization.safe_globals(list(_ARRAY_PARTS)):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in torch's reader in any way it likes
        reason = one_line(error) or type(error).__name__
        raise ValueError(
            f"{path}: damaged, or holds objects other than arrays and is not read, because it "
            f"could run code ({reason})"
        ) from error
    if not isinstance(content, tuple) or len(content) != 3:
        raise ValueError(f"{path}: expected (xyz, rgb, labels), got {type(content).__name__}")
    xyz, rgb, labels = (np.asarray(part) for part in content)
    if rgb.ndim == 0:  # OpenScene writes the scalar 0 where a scan has no colours
        rgb = np.full_like(xyz, -1)
    if (
        xyz.ndim != 2
        or xyz.shape[1] != 3
        or rgb.shape != xyz.shape
        or labels.shape != xyz.shape[:1]
    ):
        raise ValueError(
            f"{path}: expected xyz [P, 3], rgb [P, 3] and labels [P], got shapes "
            f"{list(xyz.shape)}, {list(rgb.shape)} and {list(labels.shape)}"
        )
    colors = np.rint((rgb.astype(np.float64) + 1) * 127.5).clip(0, 255).astype(np.uint8)
    known = np.nan_to_num(labels, nan=NO_LABEL, posinf=NO_LABEL, neginf=NO_LABEL)
    return xyz.astype(np.float32), colors, known.astype(np.int64)


@cache
def read_caption_files(folder: Path) -> dict[str, dict[str, str]]:
    """Captions by scene and view from every JSON file of a folder; empty where it is absent.

    Raises:
        ValueError: a file that does not hold {scene: {view: caption}}.
    """
    captions: dict[str, dict[str, str]] = {}
    for path in list_visible(folder) if folder.is_dir() else ():
        if path.suffix != ".json":
            continue
        content = read_json_object(path)
        try:
            found = {scene: {str(n): str(t) for n, t in v.items()} for scene, v in content.items()}
        except AttributeError as error:
            raise ValueError(
                f"{path}: expected {{scene: {{view: caption}}}}: {one_line(error)}"
            ) from error
        captions |= found
    return captions
