"""Reference files: a case's cloud and view, and files of recorded outputs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from xmask3d_rt.arrays import ArrayFile
from xmask3d_rt.arrays import read_arrays as read_arrays  # for callers of `write_arrays`
from xmask3d_rt.files import atomic_write
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.view import View

CASE_INPUTS = ("points_xyz", "points_rgb", "image_orig", "depth_320x240_mm", "pose", "K640")


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
