"""Writing RGB-D folders: all of a folder or none of it.

Layout, as `rgbd.load_rgbd` reads it: `color/N.jpg`, `depth/N.png` (uint16 millimetres, 0 = no
measurement), `pose/N.txt` (camera_to_world), `intrinsics.txt` (one K for all views).
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from xmask3d_rt.errors import one_line
from xmask3d_rt.files import check_folder, replace_folder, stage_beside
from xmask3d_rt.scene.view import View

JPEG_QUALITY = 95
MAX_MILLIMETRES = 65_535
OWN_ENTRIES = {
    *("color", "depth", "label", "instance", "pose", "intrinsics.txt"),
    *("scene.ply", "classes.txt", "captions.json"),
}
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # file managers leave them in any folder


@contextlib.contextmanager
def atomic_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well.

    An RGB-D folder that is already there is replaced; any other content is left alone.

    Yields:
        The empty folder to fill.

    Raises:
        FileExistsError: `folder` is a file, or holds anything that is no part of an RGB-D folder.
        OSError: it cannot be written; the message names `folder`.
    """
    target = Path(folder)
    check_rgbd_target(target)
    with stage_beside(target) as staging:
        partial = staging / "new"
        partial.mkdir()
        yield partial
        replace_folder(partial, target)


def check_rgbd_target(target: Path) -> None:
    """Make sure that an RGB-D folder can be written: asked before long work, not after it.

    Raises:
        FileExistsError: as for `atomic_folder`.
        OSError: no folder can be made there.
    """
    check_folder(target)
    held = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    foreign = sorted(held - OWN_ENTRIES - LITTER)
    if foreign:
        raise FileExistsError(
            f"will not replace {one_line(target)}: it holds {one_line(foreign[0])!r}, which is no "
            "part of an RGB-D folder; give a new folder"
        )


def write_rgbd(views: Sequence[View], folder: str | os.PathLike[str]) -> Path:
    """Write views as an RGB-D folder, numbered from 0; a whole folder or none.

    Args:
        views: views of one size with the same intrinsics, each with depth.
        folder: target; an RGB-D folder that is there is replaced.

    Returns:
        The folder.

    Raises:
        ValueError: no views, differing sizes or intrinsics, a view without depth or with
            intrinsics of its own for it, or depth beyond the 65.535 m that 16-bit millimetres
            hold.
        FileExistsError: the folder holds anything else.
    """
    if not views:
        raise ValueError("write_rgbd: no views; pass at least one")
    with atomic_folder(folder) as partial:
        write_views(views, partial)
    return Path(folder)


def write_views(views: Sequence[View], folder: Path) -> None:
    """Put the files of `write_rgbd` into an existing folder, one by one.

    Raises:
        ValueError: as for `write_rgbd`.
    """
    for name in ("color", "depth", "pose"):
        (folder / name).mkdir()
    shape: tuple[int, ...] = ()
    for index, view in enumerate(views):
        if not np.allclose(view.intrinsics, views[0].intrinsics):
            raise ValueError(
                f"write_rgbd: view {index} has other intrinsics than view 0; the folder holds one "
                "K, so write views of one camera per folder"
            )
        pixels = view.read_image()
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise ValueError(
                f"write_rgbd: the image of view {index} is {pixels.shape[1]}x{pixels.shape[0]}, "
                f"that of view 0 {shape[1]}x{shape[0]}; write views of one camera per folder"
            )
        _write_depth(view, index, folder)
        image = Image.fromarray(pixels)
        image.save(folder / "color" / f"{index}.jpg", quality=JPEG_QUALITY)
        np.savetxt(folder / "pose" / f"{index}.txt", view.camera_to_world, fmt="%.9f")
    if views:
        np.savetxt(folder / "intrinsics.txt", views[0].intrinsics, fmt="%.6f")


def _write_depth(view: View, index: int, folder: Path) -> None:
    depth = view.read_depth()
    if depth is None:
        raise ValueError(f"write_rgbd: view {index} has no depth")
    if view.depth_intrinsics is not None:
        raise ValueError(
            f"write_rgbd: view {index} has depth_intrinsics, and the folder holds one K; register "
            "its depth to the image"
        )
    millimetres = np.rint(depth * 1000)
    if millimetres.max(initial=0) > MAX_MILLIMETRES:
        raise ValueError(
            f"write_rgbd: depth of view {index} reaches {depth.max():.6g} m; 16-bit "
            "millimetres hold at most 65.535 m"
        )
    Image.fromarray(millimetres.astype(np.uint16)).save(folder / "depth" / f"{index}.png")
