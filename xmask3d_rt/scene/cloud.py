"""Point clouds, checked at the boundary. Units are metres."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xmask3d_rt.arrays import check_finite, to_numpy
from xmask3d_rt.scene.cloud_files import name_file, read_cloud

logger = logging.getLogger(__name__)

MAX_COORDINATE = 65_536  # metres; beyond it float32 resolves less than 8 mm
WIDE_SCENE = 1_000  # metres; wider than this is usually a cloud in millimetres


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points in metres, their colours, and the file elements they came with.

    `xyz` [N, 3] float32; `rgb` [N, 3] uint8 or None; `source` the elements, comments and
    remaining properties of the PLY file the cloud was read from, kept for saving; `notes` what
    was done on reading, one sentence each (points left out, colours scaled, columns chosen).
    """

    xyz: np.ndarray  # [N, 3] float32
    rgb: np.ndarray | None = None  # [N, 3] uint8
    source: Any = field(default=None, repr=False)  # ply.PlySource
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check and convert both arrays.

        Raises:
            ValueError: wrong shapes, an empty cloud, NaN or infinite values, colours outside
                0..255, coordinates too large for float32.
            TypeError: elements that are not numbers.
        """
        xyz = to_numpy(self.xyz, "PointCloud: xyz")
        if xyz.ndim != 2 or xyz.shape[1] != 3:
            raise ValueError(f"PointCloud: xyz must have shape [N, 3], got {list(xyz.shape)}")
        object.__setattr__(self, "xyz", _check_xyz(xyz, "PointCloud"))
        if self.rgb is not None:
            rgb = to_numpy(self.rgb, "PointCloud: rgb")
            if rgb.shape != xyz.shape:
                raise ValueError(
                    f"PointCloud: rgb must have shape {list(xyz.shape)} like xyz, "
                    f"got {list(rgb.shape)}"
                )
            object.__setattr__(self, "rgb", _check_rgb(rgb, "PointCloud"))

    def __len__(self) -> int:
        return len(self.xyz)

    def __repr__(self) -> str:
        size = " x ".join(f"{extent:.3g}" for extent in np.ptp(self.xyz, axis=0))
        colors = "no colours" if self.rgb is None else "colours"
        return f"PointCloud({len(self):,} points, {size} m, {colors})"

    def require_rgb(self, where: str = "run") -> np.ndarray:
        """The colours [N, 3] uint8.

        Raises:
            ValueError: the cloud has none.
        """
        if self.rgb is None:
            raise ValueError(
                f"{where}: the cloud has no colours and the model needs them; pass [N, 6] "
                "xyz + rgb (0-255), or a file with red, green and blue"
                + "".join(f"; {note}" for note in self.notes)
            )
        return self.rgb

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "PointCloud":
        """Read a cloud from a .ply, .pcd, .npz, .npy, .txt, .xyz, .csv, .asc or .pts file.

        Points with NaN or infinite values are left out, which is said in `notes`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: unknown suffix, no coordinates inside, or values as for the class itself.
        """
        path = Path(path)
        parts = read_cloud(path)
        with name_file(path):
            return cls(*parts)


def as_point_cloud(points: Any, where: str = "run") -> PointCloud:
    """A `PointCloud` from whatever the caller has.

    Args:
        points: [N, 3] xyz or [N, 6] xyz + rgb (0-255) as NumPy array, nested lists, torch
            tensor, anything with `__dlpack__` or `__cuda_array_interface__`; a `PointCloud`;
            or the path of a file `PointCloud.load` reads.
        where: name of the call, which starts every message.

    Raises:
        ValueError: wrong shape, empty, NaN or infinite, colours outside 0..255.
        TypeError: elements that are not numbers.
        FileNotFoundError: no such file.
    """
    if isinstance(points, PointCloud):
        return points
    if isinstance(points, (str, os.PathLike)):
        return PointCloud.load(points)
    array = to_numpy(points, f"{where}: points")
    if array.size == 0:
        raise ValueError(f"{where}: points is empty (shape {list(array.shape)}); pass at least one")
    if array.ndim != 2 or array.shape[1] not in (3, 6):
        raise ValueError(
            f"{where}: points must have shape [N, 3] or [N, 6], got {list(array.shape)}; "
            "pass xyz or xyz+rgb"
        )
    xyz = _check_xyz(array[:, :3], where)
    rgb = _check_rgb(array[:, 3:], where) if array.shape[1] == 6 else None
    return PointCloud(xyz, rgb)


def _check_xyz(xyz: np.ndarray, where: str) -> np.ndarray:
    """Coordinates as contiguous [N, 3] float32."""
    if len(xyz) == 0:
        raise ValueError(f"{where}: the cloud is empty; pass at least one point")
    low, high = check_finite(xyz, f"{where}: xyz")
    largest = max(-low, high)
    if largest > MAX_COORDINATE:
        raise ValueError(
            f"{where}: coordinates reach {largest:.6g} m, too far from 0 for float32; subtract "
            "an offset from the points (and from the camera positions)"
        )
    xyz = np.ascontiguousarray(xyz, dtype=np.float32)
    if high - low > WIDE_SCENE and (widest := np.ptp(xyz, axis=0).max()) > WIDE_SCENE:
        logger.warning("%s: the points span %.0f m; coordinates must be metres", where, widest)
    return xyz


def _check_rgb(rgb: np.ndarray, where: str) -> np.ndarray:
    """Colours as contiguous [N, 3] uint8, floats rounded."""
    rgb = np.ascontiguousarray(rgb)
    if rgb.dtype == np.uint8:
        return rgb
    low, high = check_finite(rgb, f"{where}: rgb")
    if low < 0 or high > 255:
        fix = "; divide 16-bit colours by 257" if low >= 0 and high < 1 << 16 else ""
        raise ValueError(
            f"{where}: rgb must lie in 0..255, got values from {low:g} to {high:g}{fix}"
        )
    if rgb.dtype.kind == "f" and 0 < high <= 1:
        raise ValueError(
            f"{where}: rgb must lie in 0..255, but no value exceeds {high:g}; multiply by 255"
        )
    return np.rint(rgb).astype(np.uint8)
