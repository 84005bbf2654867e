"""Point clouds from disk: PLY, PCD, NumPy and text files."""

from pathlib import Path

import numpy as np

from xmask3d_rt.ply import read_ply
from xmask3d_rt.scene import PointCloud, as_point_cloud

PCD_TYPES = {"F": "f", "I": "i", "U": "u"}
XYZ_KEYS = ("xyz", "points", "points_xyz", "coords")
RGB_KEYS = ("rgb", "colors", "points_rgb", "color")


def read_cloud(path: Path) -> PointCloud:
    """A cloud by the suffix of its file.

    `.ply`: any vertex properties. `.npy`: [N, 3] or [N, 6]. `.npz`: `xyz` (or `points`) and
    `rgb` (or `colors`). `.txt`, `.xyz`, `.csv`: a point per row, columns x y z [r g b], split
    by spaces or commas. `.pcd`: ascii and binary.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown suffix, nothing readable inside, or bad values (named with the path).
    """
    if not path.is_file():
        raise FileNotFoundError(f"no point cloud file {path}")
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ValueError(
            f"{path}: cannot read point clouds from {suffix or 'a file without suffix'}; use one "
            f"of {', '.join(READERS)}"
        )
    try:
        return READERS[suffix](path)
    except (ValueError, TypeError) as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def _read_ply(path: Path) -> PointCloud:
    xyz, rgb, source = read_ply(path)
    return PointCloud(xyz, rgb, source)


def _read_npy(path: Path) -> PointCloud:
    return as_point_cloud(np.load(path, allow_pickle=False), "PointCloud")


def _read_npz(path: Path) -> PointCloud:
    with np.load(path, allow_pickle=False) as arrays:
        xyz_key = next((key for key in XYZ_KEYS if key in arrays), None)
        rgb_key = next((key for key in RGB_KEYS if key in arrays), None)
        if xyz_key is None:
            raise ValueError(
                f"no point coordinates: expected one of {', '.join(XYZ_KEYS)}, the file holds "
                f"{', '.join(arrays) or 'nothing'}"
            )
        if rgb_key is None:
            return as_point_cloud(arrays[xyz_key], "PointCloud")
        return PointCloud(arrays[xyz_key], arrays[rgb_key])


def _read_text(path: Path) -> PointCloud:
    lines = path.read_text(encoding="utf-8", errors="replace").replace(",", " ").splitlines()
    rows = [line for line in lines if line.strip() and line.lstrip()[0] not in "#/"]
    if rows and not _is_number(rows[0].split()[0]):
        rows = rows[1:]  # a heading
    if not rows:
        raise ValueError("the file holds no points")
    try:
        table = np.loadtxt(rows, dtype=np.float64, ndmin=2)
    except ValueError as error:
        raise ValueError(f"not a table of numbers: {error}") from error
    columns = 6 if table.shape[1] >= 6 else 3
    if table.shape[1] < 3:
        raise ValueError(f"needs 3 columns (x y z) or 6 (x y z r g b), got {table.shape[1]}")
    return as_point_cloud(table[:, :columns], "PointCloud")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _read_pcd(path: Path) -> PointCloud:
    """Point Cloud Data v0.7, ascii or binary; colour as packed `rgb`/`rgba` or r, g, b."""
    content = path.read_bytes()
    header: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in header:
        end = content.find(b"\n", start)
        if end < 0:
            raise ValueError("no DATA line: not a PCD file")
        words = content[start:end].decode("ascii", errors="replace").split()
        if words:
            header[words[0].upper()] = words[1:]
        start = end + 1
    vertex = _pcd_table(header, content[start:])
    xyz = np.stack([vertex[name] for name in "xyz"], axis=1)
    keep = np.isfinite(xyz).all(axis=1)  # organised clouds mark missing pixels with NaN
    return PointCloud(xyz[keep], _pcd_colors(vertex[keep]))


def _pcd_table(header: dict[str, list[str]], body: bytes) -> np.ndarray:
    """The records of a PCD file as a structured array."""
    names = header.get("FIELDS", [])
    if not {"x", "y", "z"} <= set(names):
        raise ValueError(f"no fields x, y, z (FIELDS {' '.join(names)})")
    sizes, kinds = header.get("SIZE", []), header.get("TYPE", [])
    counts = [int(count) for count in header.get("COUNT", ["1"] * len(names))]
    dtype = np.dtype(
        [
            # Padding fields are all called "_": a structured array needs distinct names.
            (name if name != "_" else f"_{i}", f"<{PCD_TYPES[kind]}{size}", (count,))
            if count > 1
            else (name if name != "_" else f"_{i}", f"<{PCD_TYPES[kind]}{size}")
            for i, (name, size, kind, count) in enumerate(
                zip(names, sizes, kinds, counts, strict=True)
            )
        ]
    )
    total = int(header["POINTS"][0])
    encoding = header["DATA"][0].lower()
    if encoding == "binary":
        if len(body) < total * dtype.itemsize:
            raise ValueError(f"truncated: {total} points need {total * dtype.itemsize} bytes")
        return np.frombuffer(body, dtype, total)
    if encoding != "ascii":
        raise ValueError(f"PCD DATA {encoding} is not read; save it as binary or ascii")
    if max(counts) > 1:
        raise ValueError("ascii PCD with COUNT > 1 is not read; save it as binary")
    return np.loadtxt(body.decode("ascii").splitlines(), dtype=dtype, ndmin=1)


def _pcd_colors(vertex: np.ndarray) -> np.ndarray | None:
    """[N, 3] uint8 from packed or separate colour fields."""
    names = set(vertex.dtype.names or ())
    for name in ("rgb", "rgba"):
        if name in names and vertex.dtype[name].itemsize == 4:
            packed = np.ascontiguousarray(vertex[name]).view(np.uint32)
            return np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1)
    if {"r", "g", "b"} <= names:
        return np.stack([vertex[name] for name in "rgb"], axis=1)
    return None


READERS = {
    ".ply": _read_ply,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".txt": _read_text,
    ".xyz": _read_text,
    ".csv": _read_text,
    ".pcd": _read_pcd,
}
