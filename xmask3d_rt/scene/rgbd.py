"""RGB-D folders: posed views on disk, read when they are needed.

Two layouts, told apart by what the folder holds:

    color/N.jpg  depth/N.png  pose/N.txt  intrinsics.txt
    color/N.jpg  depth/N.png  pose/N.txt  intrinsic/intrinsic_color.txt, intrinsic_depth.txt

The second is what ScanNet's exporter writes. Colour files may be .jpg, .jpeg or .png; depth is
16-bit PNG in millimetres (or .npy, .tif); poses are camera-to-world text files of 16 or 12
numbers. `depth/` may be absent as a whole: points behind walls then count as seen. The case of
names and suffixes does not count, nor do hidden files.
"""

import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xmask3d_rt.errors import join_names, one_line
from xmask3d_rt.scene.frame_files import (
    FrameFiles,
    find_entry,
    find_near,
    list_frames,
    list_visible,
)
from xmask3d_rt.scene.image_files import read_size
from xmask3d_rt.scene.matrix_files import read_camera_matrix, read_camera_size, read_pose
from xmask3d_rt.scene.view import View
from xmask3d_rt.scene.view_checks import check_intrinsics, check_pose

logger = logging.getLogger(__name__)

COLOR_SUFFIXES = (".jpg", ".jpeg", ".png")
DEPTH_SUFFIXES = (".png", ".npy", ".tif", ".tiff")
POSE_SUFFIXES = (".txt",)
NEAR_COLOR = ("rgb", "image", "img", "colo", "frame", "photo")
NEAR_DEPTH = ("depth",)
NEAR_POSE = ("pose", "traj", "groundtruth", "ground_truth", "gt.txt", "extrinsic", "transforms")
NEAR_CAMERA = ("intrinsic", "calib", "cam", "k.txt", "transforms")
CONVERT = {
    "image": "convert it to .png or .jpg",
    "pose": "write camera_to_world as 4x4 numbers to a .txt file",
    "depth": "convert it to 16-bit .png in millimetres or to .npy in metres",
}

LOSSY = "JPEG keeps 8 bits and not exactly; export depth again as 16-bit .png in millimetres"


@dataclass(frozen=True)
class RgbdFolder(Sequence[View]):
    """The usable views of an RGB-D folder, and what a user should know about the others.

    A sequence of its views. `skips_damaged`: a view whose files turn out to be damaged when they
    are read is left out like the others, rather than an error.
    """

    views: list[View]
    notes: tuple[str, ...] = ()
    skips_damaged: bool = True

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: Any) -> Any:
        return self.views[index]

    def spread(self, limit: int | None) -> "RgbdFolder":
        """The same with at most `limit` views, as `spread_views` picks them."""
        return replace(self, views=spread_views(self.views, limit))


@dataclass
class _LeftOut:
    """Frames that cannot be used: their names by reason, and the first reason in full."""

    names: dict[str, list[str]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, fault: "_UnusableError") -> None:
        self.names.setdefault(fault.reason, []).append(name)
        if fault.detail:
            self.details.setdefault(fault.reason, f"; the first: {fault.detail}")

    def __len__(self) -> int:
        return sum(map(len, self.names.values()))

    def __str__(self) -> str:
        return "; ".join(
            f"{len(names)} {reason} ({join_names(names)}{self.details.get(reason, '')})"
            for reason, names in self.names.items()
        )


class _UnusableError(Exception):
    """Why a frame is left out: a reason that many may share, and what is wrong with this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def load_rgbd(folder: str | os.PathLike[str], intrinsics: np.ndarray | None = None) -> list[View]:
    """The views of an RGB-D folder in natural order of their names (9 before 10).

    Frames without a usable pose or without depth are left out with one warning; images and depth
    are read, and may turn out to be damaged, on use.

    Args:
        folder: a folder in one of the two layouts of this module.
        intrinsics: K [3, 3] of the colour images, for folders that hold none.

    Returns:
        Views whose image and depth are paths, read on use.

    Raises:
        FileNotFoundError: the folder, `color/`, `pose/` or the intrinsics.
        ValueError: intrinsics that are no camera matrix, or no usable frame at all.
    """
    return read_rgbd(folder, intrinsics).views


def read_rgbd(folder: str | os.PathLike[str], intrinsics: np.ndarray | None = None) -> RgbdFolder:
    """As `load_rgbd`, together with the notes that are logged.

    However many frames are left out, the others are used: trackers give poses to keyframes
    only, or lose most of a scan, and the note says how many remain.

    Args:
        folder: as for `load_rgbd`.
        intrinsics: as for `load_rgbd`.

    Raises:
        FileNotFoundError, ValueError: as for `load_rgbd`.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no RGB-D folder {one_line(root)}")
    colors = list_colors(root)
    cameras = _read_intrinsics(root) if intrinsics is None else (intrinsics, None)
    poses, depths = _list_poses(root), _list_depths(root)
    views, left_out = _read_views(colors, poses, depths, cameras)
    for name in _find_imageless(colors, poses, depths):
        left_out.add(name, _describe_missing(name, colors, "image"))
    total = len(views) + len(left_out)
    if not views:
        raise ValueError(
            f"{one_line(root)}: none of its {total} frames can be used: {left_out}"
            f"{_describe_folders(root)}"
        )
    if intrinsics is None:
        _check_stated_sizes(root, views)
    notes = [] if depths else [_describe_no_depth(root)]
    if intrinsics is None:
        notes += _describe_both_cameras(root, cameras[0])
    if left_out:
        notes.append(f"{one_line(root)}: left out {len(left_out)} of {total} frames: {left_out}")
    twins = [path.name for files in (colors, depths) if files for path in files.twins.values()]
    if twins:
        notes.append(
            f"{one_line(root)}: {len(twins)} files lie beside another of the same frame and were "
            f"not used: {join_names(twins)}"
        )
    for note in notes:
        logger.warning("%s", note)
    return RgbdFolder(views, tuple(notes))


def spread_views(views: list[View], limit: int | None) -> list[View]:
    """At most `limit` views, spread evenly from the first to the last; all for None."""
    if limit is None or limit >= len(views):
        return views
    picks = np.linspace(0, len(views) - 1, limit).round().astype(int)
    return [views[i] for i in picks]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key in which digits count as numbers: frame9 < frame10."""
    parts = re.split(r"(\d+)", name)  # text and numbers take turns
    return [
        (0, int(part), "") if index % 2 else (1, 0, part)
        for index, part in enumerate(parts)
        if part
    ]


def _read_views(
    colors: FrameFiles,
    poses: FrameFiles,
    depths: FrameFiles | None,
    cameras: tuple[np.ndarray, np.ndarray | None],
) -> tuple[list[View], _LeftOut]:
    """Views of the frames that have all they need, and the other frames."""
    views, left_out = [], _LeftOut()
    intrinsics, depth_intrinsics = cameras
    for name in sorted(colors.files, key=natural_key):
        try:
            pose = _find_pose(name, poses)
            depth = None if depths is None else _find_file(name, depths, "depth")
        except _UnusableError as fault:
            left_out.add(name, fault)
            continue
        views.append(View(colors.files[name], depth, intrinsics, pose, name, depth_intrinsics))
    return views, left_out


def _find_file(name: str, files: FrameFiles, kind: str) -> Path:
    path = files.files.get(name)
    if path is None:
        raise _describe_missing(name, files, kind)
    return path


def _find_pose(name: str, poses: FrameFiles) -> np.ndarray:
    path = _find_file(name, poses, "pose")
    what = f"the pose of view {one_line(name)}"
    try:
        pose = read_pose(path, what)
        if np.isfinite(pose).all():
            return check_pose(pose, f"{one_line(path)}: {what}")
    except ValueError as error:
        raise _UnusableError("with a damaged pose", str(error)) from error
    raise _UnusableError("whose pose is not finite")


def _describe_missing(name: str, files: FrameFiles, kind: str) -> _UnusableError:
    if name in files.empty:
        return _UnusableError(f"with empty {kind} file")
    other = files.others.get(name)
    if other is None:
        return _UnusableError(f"without {kind} file")
    suffix = one_line(other.suffix) or "nameless"
    lossy = kind == "depth" and suffix.lower() in (".jpg", ".jpeg")
    advice = LOSSY if lossy else CONVERT[kind]
    return _UnusableError(f"whose {kind} is a {suffix} file", f"{one_line(other)}: {advice}")


def _find_imageless(colors: FrameFiles, poses: FrameFiles, depths: FrameFiles | None) -> list[str]:
    """Frames with all but an image, in natural order."""
    ready = poses.files.keys() if depths is None else poses.files.keys() & depths.files.keys()
    return sorted(ready - colors.files.keys(), key=natural_key)


def list_colors(root: Path) -> FrameFiles:
    """The colour images of an RGB-D folder by frame.

    Raises:
        FileNotFoundError: no `color/`, or no image in it.
    """
    folder = find_entry(root, "color")
    if not folder.is_dir():
        inner = [entry.name for entry in list_visible(root) if (entry / "color").is_dir()]
        near = inner or find_near(root, NEAR_COLOR)
        held = [entry.name for entry in list_visible(root)]
        raise FileNotFoundError(
            f"{one_line(root)} has no color/ folder (it holds {join_names(held) or 'nothing'}); "
            "expected color/ depth/ pose/ and intrinsics.txt, or ScanNet's "
            "intrinsic/intrinsic_color.txt"
            + _advise(near, "pass that folder" if inner else "rename the images' folder to color/")
        )
    found = list_frames(folder, COLOR_SUFFIXES)
    if not found.files:
        held = [path.name for path in (*found.empty.values(), *found.others.values())]
        raise FileNotFoundError(
            f"{one_line(folder)} holds no {', '.join(COLOR_SUFFIXES)} image with content (it "
            f"holds {join_names(held) or 'nothing'}); {CONVERT['image']}"
        )
    return found


def _list_poses(root: Path) -> FrameFiles:
    folder = find_entry(root, "pose")
    if folder.is_dir():
        return list_frames(folder, POSE_SUFFIXES)
    raise FileNotFoundError(
        f"{one_line(root)} has no pose/ folder; expected pose/N.txt with the 4x4 camera_to_world "
        "of every color/N.jpg"
        + _advise(
            find_near(root, NEAR_POSE),
            "rename a folder of such files to pose/; write each pose of a single file to a file "
            "of its own, a line tx ty tz qx qy qz qw as a 4x4 matrix",
        )
    )


def _list_depths(root: Path) -> FrameFiles | None:
    """Depth files by frame; None where there is no depth at all."""
    folder = find_entry(root, "depth")
    return list_frames(folder, DEPTH_SUFFIXES) if folder.is_dir() else None


def _read_intrinsics(root: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """K of colour and, in ScanNet's layout, of depth."""
    color, depth = _find_cameras(root)
    return (
        _read_camera(color, "the camera matrix"),
        None if depth is None else _read_camera(depth, "the depth camera matrix"),
    )


def _find_cameras(root: Path) -> tuple[Path, Path | None]:
    """The files of `_read_intrinsics`."""
    plain, exported = find_entry(root, "intrinsics.txt"), find_entry(root, "intrinsic")
    if plain.is_file():
        return plain, None
    color = find_entry(exported, "intrinsic_color.txt")
    if not color.is_file():
        near = find_near(root, NEAR_CAMERA)
        if exported.is_dir():
            near = [f"{exported.name}/{path.name}" for path in list_visible(exported)] or near
        raise FileNotFoundError(
            f"{one_line(root)} has neither intrinsics.txt nor intrinsic/intrinsic_color.txt; "
            "write the 3x3 camera matrix of the colour images to intrinsics.txt"
            + _advise(near, "take fx, fy, cx and cy from there: fx 0 cx / 0 fy cy / 0 0 1")
        )
    depth = find_entry(exported, "intrinsic_depth.txt")
    return color, depth if depth.is_file() else None


def _read_camera(path: Path, what: str) -> np.ndarray:
    return check_intrinsics(read_camera_matrix(path, what), f"{one_line(path)}: {what}")


def _check_stated_sizes(root: Path, views: list[View]) -> None:
    """Refuse a file of K that says it belongs to images of another size than the first view's.

    Raises:
        ValueError: it does.
    """
    files = _find_cameras(root)
    for file, image in zip(files, (views[0].image, views[0].depth), strict=False):
        stated = read_camera_size(file) if file is not None and isinstance(image, Path) else {}
        if not stated or image.suffix.lower() == ".npy":
            continue
        try:
            width, height = read_size(image)
        except (OSError, ValueError):  # a damaged image is named when its turn comes
            continue
        if {"width": width, "height": height} != {"width": width, "height": height, **stated}:
            said = " and ".join(f"{side} {value:g}" for side, value in stated.items())
            raise ValueError(
                f"{one_line(file)} says that its images have {said}, but {one_line(image)} is "
                f"{width}x{height} (columns x rows); write fx, fy, cx and cy for that size"
            )


def _describe_both_cameras(root: Path, used: np.ndarray) -> list[str]:
    """A note where a folder of both layouts has a second, different camera matrix."""
    color = find_entry(find_entry(root, "intrinsic"), "intrinsic_color.txt")
    if not color.is_file() or np.allclose(read_camera_matrix(color, "")[:3, :3], used):
        return []
    return [
        f"{one_line(root)}: intrinsics.txt was used; intrinsic/{color.name} has another camera "
        "matrix"
    ]


def _advise(near: list[str], advice: str) -> str:
    """The end of a message about something missing: what is there instead, and what to do."""
    return f" (there is {join_names(near)}: {advice})" if near else ""


def _describe_no_depth(root: Path) -> str:
    return (
        f"{one_line(root)} has no depth/: every point in front of a camera counts as seen"
        + _advise(find_near(root, NEAR_DEPTH), "rename a folder of depth images to depth/")
    )


def _describe_folders(root: Path) -> str:
    """What lies in the folders of poses and depth, where none of it fits the images' names."""
    parts = []
    for name in ("color", "pose", "depth"):
        folder = find_entry(root, name)
        if folder.is_dir():
            held: Iterable[str] = (path.name for path in list_visible(folder))
            parts.append(f"{name}/ holds {join_names(held) or 'nothing'}")
    return "; " + "; ".join(parts)
