"""RGB-D folders: posed views on disk, read when they are needed.

Two layouts, told apart by what the folder holds:

    color/N.jpg  depth/N.png  pose/N.txt  intrinsics.txt
    color/N.jpg  depth/N.png  pose/N.txt  intrinsic/intrinsic_color.txt, intrinsic_depth.txt

The second is what ScanNet's exporter writes. Colour files may be .jpg, .jpeg or .png; depth is
16-bit PNG in millimetres (or .npy, .tif); poses are 4x4 camera-to-world text files.
`depth/` may be absent as a whole: points behind walls then count as seen.
"""

import logging
import os
import re
from pathlib import Path

import numpy as np

from xmask3d_rt.scene import View

logger = logging.getLogger(__name__)

COLOR_SUFFIXES = (".jpg", ".jpeg", ".png")
DEPTH_SUFFIXES = (".png", ".npy", ".tif", ".tiff")


def load_rgbd(folder: str | os.PathLike[str], intrinsics: np.ndarray | None = None) -> list[View]:
    """The views of an RGB-D folder in natural order of their names (9 before 10).

    Views whose pose is not finite (frames that the tracker lost) are skipped with a warning.

    Args:
        folder: a folder in one of the two layouts of this module.
        intrinsics: K [3, 3] of the colour images, for folders that hold none.

    Returns:
        Views whose image and depth are paths, read on use.

    Raises:
        FileNotFoundError: the folder, `color/`, intrinsics, or the depth or pose of a view.
        ValueError: a matrix file that does not hold a matrix, or no usable view at all.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no RGB-D folder {root}")
    colors = _list_images(root)
    depth_intrinsics = None
    if intrinsics is None:
        intrinsics, depth_intrinsics = _read_intrinsics(root)
    depth_folder = root / "depth"
    if not depth_folder.is_dir():
        logger.warning("%s has no depth/: every point in front of a camera counts as seen", root)
    views = []
    lost = []
    for color in colors:
        pose = _read_matrix(root / "pose" / f"{color.stem}.txt", f"the pose of view {color.stem}")
        if not np.isfinite(pose).all():
            lost.append(color.stem)
            continue
        depth = _find_depth(depth_folder, color.stem) if depth_folder.is_dir() else None
        views.append(View(color, depth, intrinsics, pose, color.stem, depth_intrinsics))
    if lost:
        logger.warning("%s: skipped %d views without a finite pose: %s", root, len(lost), lost)
    if not views:
        raise ValueError(f"{root}: none of its {len(colors)} views has a finite pose")
    return views


def spread_views(views: list[View], limit: int | None) -> list[View]:
    """At most `limit` views, spread evenly from the first to the last; all for None."""
    if limit is None or limit >= len(views):
        return views
    picks = np.linspace(0, len(views) - 1, limit).round().astype(int)
    return [views[i] for i in picks]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key in which digits count as numbers: frame9 < frame10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def _list_images(root: Path) -> list[Path]:
    folder = root / "color"
    if not folder.is_dir():
        held = ", ".join(sorted(entry.name for entry in root.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(
            f"{root} has no color/ folder (it holds {held}); expected color/ depth/ pose/ and "
            "intrinsics.txt, or ScanNet's intrinsic/intrinsic_color.txt"
        )
    images = [path for path in folder.iterdir() if path.suffix.lower() in COLOR_SUFFIXES]
    if not images:
        raise FileNotFoundError(f"{folder} holds no {', '.join(COLOR_SUFFIXES)} image")
    return sorted(images, key=lambda path: natural_key(path.stem))


def _read_intrinsics(root: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """K of colour and, in ScanNet's layout, of depth."""
    plain, exported = root / "intrinsics.txt", root / "intrinsic"
    if plain.is_file():
        return _read_matrix(plain, "the camera matrix"), None
    color = exported / "intrinsic_color.txt"
    if not color.is_file():
        raise FileNotFoundError(
            f"{root} has neither intrinsics.txt nor intrinsic/intrinsic_color.txt; write the 3x3 "
            "camera matrix of the colour images to intrinsics.txt"
        )
    depth = exported / "intrinsic_depth.txt"
    return (
        _read_matrix(color, "the camera matrix"),
        _read_matrix(depth, "the depth camera matrix") if depth.is_file() else None,
    )


def _read_matrix(path: Path, what: str) -> np.ndarray:
    """A 3x3, 3x4 or 4x4 matrix from a text file; inf and nan are allowed."""
    if not path.is_file():
        raise FileNotFoundError(f"{what} is missing: no file {path}")
    rows = [
        line.replace(",", " ").split() for line in path.read_text(errors="replace").splitlines()
    ]
    try:
        matrix = np.array([row for row in rows if row], dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{path}: {what} is not a matrix of numbers: {error}") from error
    if matrix.shape not in ((3, 3), (3, 4), (4, 4)):
        shape = "x".join(map(str, matrix.shape))
        raise ValueError(f"{path}: {what} must be 3x3 or 4x4, got {shape} numbers")
    return matrix


def _find_depth(folder: Path, stem: str) -> Path:
    for suffix in DEPTH_SUFFIXES:
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"view {stem} has no depth: no {folder / stem}.png (nor {', '.join(DEPTH_SUFFIXES[1:])}); "
        "remove its color file to leave the view out"
    )
