"""Reference files: reading a case's inputs and recorded outputs, writing new ones."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from xmask3d_rt.files import atomic_write
from xmask3d_rt.scene import PointCloud, View

CASE_INPUTS = ("points_xyz", "points_rgb", "image_orig", "depth_320x240_mm", "pose", "K640")


class ArrayFile(dict[str, np.ndarray]):
    """The arrays of one file by name; a name that is not there is an error naming the file.

    Args:
        path: of the file.
        arrays: its content.
    """

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(arrays)
        self.path = path

    def __missing__(self, name: str) -> np.ndarray:
        """Raise.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.path} has no array {name!r}; it has {', '.join(self) or 'none'}")


def read_arrays(path: Path) -> ArrayFile:
    """All arrays of an `.npz` file; nothing in it is ever unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an `.npz` file of plain arrays, or a damaged one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return ArrayFile(path, {name: file[name] for name in file.files})
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not an .npz file of plain arrays: {reason}") from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed `.npz` file, whole or not at all.

    Raises:
        ValueError: another suffix, which NumPy would append to.
    """
    if path.suffix != ".npz":
        raise ValueError(f"cannot record {path}: give a file name that ends in .npz")
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def read_case(inputs: ArrayFile) -> tuple[PointCloud, View]:
    """Cloud and view of a one-view case.

    Raises:
        ValueError: an array is missing or makes no cloud or view.
        TypeError: an array of the wrong dtype.
    """
    missing = [name for name in CASE_INPUTS if name not in inputs]
    if missing:
        raise ValueError(
            f"{inputs.path} has no array {missing[0]!r}; the inputs of a case are "
            f"{', '.join(CASE_INPUTS)}"
        )
    view = View(
        image=inputs["image_orig"],
        depth=inputs["depth_320x240_mm"],
        intrinsics=inputs["K640"],
        camera_to_world=inputs["pose"],
        name=inputs.path.stem,
    )
    return PointCloud(inputs["points_xyz"], inputs["points_rgb"]), view
