"""Point clouds from disk: PLY, PCD, NumPy and text files."""

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xmask3d_rt.arrays import read_array, read_arrays, to_numpy
from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.columns import NamedTable, list_names, scale_colors
from xmask3d_rt.scene.frame_files import list_visible
from xmask3d_rt.scene.pcd import parse_pcd
from xmask3d_rt.scene.ply import read_ply
from xmask3d_rt.scene.text_cloud import parse_text

XYZ_KEYS = ("xyz", "points", "points_xyz", "coords")
RGB_KEYS = ("rgb", "colors", "points_rgb", "color")
MAX_MESSAGE = 500  # characters beside the path
SHOWN_FILES = 5  # of a folder, in a message


class CloudParts(NamedTuple):
    """What a file holds of a cloud, in the order of `PointCloud`'s fields; not checked yet."""

    xyz: np.ndarray  # [N, 3], finite
    rgb: np.ndarray | None  # [N, 3], 0..255
    source: Any = None  # ply.PlySource
    notes: tuple[str, ...] = ()


def read_cloud(path: Path) -> CloudParts:
    """The parts of a cloud, by the suffix of its file.

    `.ply`: any vertex properties. `.npy`: [N, 3] or [N, 6], or a record per point. `.npz`: `xyz`
    (or `points`) and `rgb` (or `colors`). `.txt`, `.xyz`, `.csv`, `.asc`, `.pts`: a point per
    row, with a heading or columns x y z [r g b] or x y z intensity r g b. `.pcd`: any encoding.

    Points with NaN or infinite values are left out; 16-bit colours are divided by 257. The notes
    of the cloud say so.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, unknown suffix, nothing readable inside, or bad values (named with
            the path).
        TypeError: an array that holds no numbers.
    """
    if not path.is_file():
        _reject_missing(path)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ValueError(
            f"{path}: cannot read point clouds from {suffix or 'a file without suffix'}; use one "
            f"of {', '.join(READERS)}"
        )
    with name_file(path):
        return READERS[suffix](path)


@contextmanager
def name_file(path: Path) -> Iterator[None]:
    """Errors about the values of a file, with its path in front and in one line."""
    try:
        yield
    except (ValueError, TypeError) as error:
        said = str(error) if str(path) in str(error) else f"{path}: {error}"
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(one_line(said, len(str(path)) + MAX_MESSAGE)) from error


def make_cloud(
    xyz: Any, rgb: Any, source: Any = None, notes: tuple[str, ...] = (), typed: bool = True
) -> CloudParts:
    """The finite points of a file, colours as 0..255.

    Args:
        xyz: [N, 3].
        rgb: [N, 3] or None.
        source: the elements of a PLY file.
        notes: on what was read.
        typed: the file says the types of its columns (see `scale_colors`).

    Raises:
        ValueError: wrong shapes or values, or no finite point.
        TypeError: elements that are not numbers.
    """
    xyz = to_numpy(xyz, "xyz")
    rgb = None if rgb is None else to_numpy(rgb, "rgb")
    if xyz.ndim == 2 and (rgb is None or rgb.shape == xyz.shape):
        keep = np.isfinite(xyz).all(axis=1)
        if rgb is not None:
            keep &= np.isfinite(rgb).all(axis=1)
        if not keep.all():
            xyz, rgb = xyz[keep], None if rgb is None else rgb[keep]
            notes += (f"{(~keep).sum()} of {len(keep)} points are NaN or infinite: left out",)
            if not len(xyz):
                raise ValueError(f"all {len(keep)} points have NaN or infinite values")
            if source is not None:
                source, lost = source.take(keep)
                notes += lost
    if rgb is not None:
        rgb, scaled = scale_colors(rgb, typed)
        notes += scaled
    return CloudParts(xyz, rgb, source, notes)


def _reject_missing(path: Path) -> None:
    """Raise, with the name of what was probably meant."""
    if not path.is_dir() and (path.exists() or path.is_symlink()):
        kind = "a link to nowhere" if path.is_symlink() else "no regular file"
        raise ValueError(f"{one_line(path)} is {kind}; copy the cloud into a file")
    folder = path if path.is_dir() else path.parent
    held = sorted(
        item
        for item in (list_visible(folder) if folder.is_dir() else ())
        if item.suffix.lower() in READERS
    )
    if path.is_dir():
        found = " or ".join(map(str, held[:SHOWN_FILES])) or f"a {', '.join(READERS)} file"
        said = f"{path} is a folder, not a point cloud file; pass {found}"
        raise ValueError(one_line(said, 1 << 14))
    close = difflib.get_close_matches(path.name.lower(), [item.name.lower() for item in held], 1)
    hint = "".join(f"; there is {item}" for item in held if [item.name.lower()] == close)
    raise FileNotFoundError(one_line(f"no point cloud file {path}{hint}", 1 << 13))


def _make_named(table: NamedTable, source: Any = None, notes: tuple[str, ...] = ()) -> CloudParts:
    """A cloud of columns whose names and types the file has."""
    xyz, rgb = table.take_points(), table.take_colors()
    if rgb is None:
        notes += (f"none of its columns are colours: {list_names(table.names)}",)
    return make_cloud(xyz, rgb, source, notes)


def _read_ply(path: Path) -> CloudParts:
    table, source, notes = read_ply(path)
    return _make_named(table, source, notes)


def _read_pcd(path: Path) -> CloudParts:
    """Point Cloud Data; colour as packed `rgb`/`rgba` or r, g, b."""
    return _make_named(parse_pcd(path.read_bytes()))


def _read_npy(path: Path) -> CloudParts:
    return _split_array(read_array(path))


def _split_array(array: np.ndarray) -> CloudParts:
    """A cloud of [N, 3], [N, 6] or records."""
    if array.dtype.names is not None:
        names = [name for name in array.dtype.names if not array.dtype[name].shape]
        return _make_named(NamedTable(names, [array[name].ravel() for name in names]))
    if array.ndim != 2 or array.shape[1] not in (3, 6):
        raise ValueError(f"points must have shape [N, 3] or [N, 6], got {list(array.shape)}")
    return make_cloud(array[:, :3], array[:, 3:] if array.shape[1] == 6 else None, typed=False)


def _read_npz(path: Path) -> CloudParts:
    held = {name.lower(): name for name in read_arrays(path, ()).held}
    xyz_key = next((held[key] for key in XYZ_KEYS if key in held), None)
    rgb_key = next((held[key] for key in RGB_KEYS if key in held), None)
    if xyz_key is None:
        raise ValueError(
            f"no point coordinates: expected one of {', '.join(XYZ_KEYS)}, the file holds "
            f"{list_names([*held.values()])}"
        )
    arrays = read_arrays(path, [key for key in (xyz_key, rgb_key) if key is not None])
    if rgb_key is None:
        return _split_array(arrays[xyz_key])
    return make_cloud(arrays[xyz_key], arrays[rgb_key], typed=False)


def _read_text(path: Path) -> CloudParts:
    xyz, rgb, notes = parse_text(path.read_bytes())
    return make_cloud(xyz, rgb, None, notes, typed=False)


READERS: dict[str, Callable[[Path], CloudParts]] = {
    ".ply": _read_ply,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".txt": _read_text,
    ".xyz": _read_text,
    ".csv": _read_text,
    ".asc": _read_text,
    ".pts": _read_text,
    ".pcd": _read_pcd,
}
