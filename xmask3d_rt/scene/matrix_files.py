"""Poses and camera matrices from text files, as SLAM systems and calibration tools write them."""

import re
from pathlib import Path

import numpy as np

from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.text_files import read_text

MAX_BYTES = 1 << 16  # of a file with one matrix
POSE_SHAPES = {16: (4, 4), 12: (3, 4)}
CAMERA_SHAPES = {16: (4, 4), 12: (3, 4), 9: (3, 3)}
CAMERA_KEYS = ("fx", "fy", "cx", "cy")
SIZE_KEYS = {"width": ("width", "w"), "height": ("height", "h")}  # may stand beside them
BRACKETS = str.maketrans("[](){},;|", " " * 9)
KEYED = re.compile(r"""["']?([A-Za-z]\w*)["']?\s*[:=]\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)""")


def read_pose(path: Path, what: str) -> np.ndarray:
    """camera_to_world [4, 4] or [3, 4] as the file has it; inf and nan are allowed.

    Args:
        path: a text file with 16 or 12 numbers, row by row, on any number of lines; `#` starts
            a comment, brackets and commas do not count.
        what: how messages call the matrix.

    Raises:
        FileNotFoundError: no such file.
        ValueError: anything else than one such matrix.
    """
    return _as_matrix(_read_rows(path, what), POSE_SHAPES, f"{one_line(path)}: {what}")


def read_camera_matrix(path: Path, what: str) -> np.ndarray:
    """K [3, 3], [3, 4] or [4, 4], or from the four numbers fx, fy, cx and cy by name.

    Args:
        path: a text file with 9, 12 or 16 numbers as for `read_pose`, or JSON such as
            {"fx": 520, "fy": 520, "cx": 319.5, "cy": 239.5}.
        what: how messages call the matrix.

    Raises:
        FileNotFoundError: no such file.
        ValueError: anything else.
    """
    text = _join_lines(path)
    where = f"{one_line(path)}: {what}"
    if re.search(r"[:=]", text):
        return _read_keyed(text, where)
    return _as_matrix(_read_rows(path, what), CAMERA_SHAPES, where)


def read_camera_size(path: Path) -> dict[str, float]:
    """`width` and `height` that a file with K by names says its images have; what it says of them.

    Args:
        path: of `read_camera_matrix`, which accepts it.
    """
    pairs = {key.lower(): value for key, value in KEYED.findall(_join_lines(path))}
    return {
        side: float(pairs[key]) for side, keys in SIZE_KEYS.items() for key in keys if key in pairs
    }


def _join_lines(path: Path) -> str:
    return "\n".join(_strip_comments(_read(path)))


def _read(path: Path) -> str:
    return read_text(path, MAX_BYTES, errors="replace")


def _strip_comments(text: str) -> list[str]:
    return [re.split("#|//|%", line)[0] for line in text.splitlines()]


def _read_rows(path: Path, what: str) -> list[list[float]]:
    """The numbers of every line that has any."""
    rows = []
    for line in _strip_comments(_read(path)):
        try:
            numbers = [float(word) for word in line.translate(BRACKETS).split()]
        except ValueError as error:
            raise ValueError(
                f"{one_line(path)}: {what} is not a matrix of numbers: {one_line(error, limit=200)}"
            ) from error
        if numbers:
            rows.append(numbers)
    return rows


def _as_matrix(
    rows: list[list[float]], shapes: dict[int, tuple[int, int]], where: str
) -> np.ndarray:
    """The matrix that the count of the numbers stands for, in any line layout but a turned one."""
    numbers = [number for row in rows for number in row]
    shape = shapes.get(len(numbers))
    if shape is None:
        raise ValueError(
            f"{where} {_describe_count(rows, 9 in shapes)}; write {_list_shapes(shapes)}"
        )
    if len(rows) == shape[1] != shape[0] and {len(row) for row in rows} == {shape[0]}:
        raise ValueError(
            f"{where} has {len(rows)} lines of {shape[0]} numbers; write its transpose, "
            f"{_list_shapes(shapes)}"
        )
    return np.array(numbers, dtype=np.float64).reshape(shape)


def _list_shapes(shapes: dict[int, tuple[int, int]]) -> str:
    names = [f"{rows}x{cols}" for rows, cols in sorted(shapes.values())]
    return f"{' or '.join(names)} numbers, row by row"


def _describe_count(rows: list[list[float]], camera: bool) -> str:
    """What a count of numbers that is no matrix seems to be."""
    numbers = [number for row in rows for number in row]
    count = len(numbers)
    if not count:
        return "is missing: the file is empty"
    if camera and count in (4, 5, 8) and len(rows) in (1, count):
        fx, fy, cx, cy = numbers[:4]
        more = "" if count == 4 else f" and {count - 4} distortions; undistort the images"
        matrix = f"{fx:g} 0 {cx:g} / 0 {fy:g} {cy:g} / 0 0 1"
        return f"has {count} numbers, which seem to be fx fy cx cy{more}; as 3x3 matrix: {matrix}"
    if not camera and count in (7, 8) and len(rows) in (1, count):
        stamp = "a time stamp and " if count == 8 else ""
        return (
            f"has {count} numbers, which seem to be {stamp}tx ty tz qx qy qz qw, a translation and "
            "a quaternion; turn the quaternion into a 3x3 rotation, with the translation as the "
            "fourth column"
        )
    return f"has {count} numbers in {len(rows)} lines"


def _read_keyed(text: str, where: str) -> np.ndarray:
    """K from names and numbers; nothing else than the image's size may stand beside them."""
    pairs = [(key.lower(), value) for key, value in KEYED.findall(text)]
    rest = KEYED.sub(" ", text).translate(BRACKETS).split()
    sizes = {key for keys in SIZE_KEYS.values() for key in keys}
    names = sorted(key for key, _ in pairs if key not in sizes)
    if rest or names != sorted(CAMERA_KEYS):
        raise ValueError(
            f"{where} is not understood: names other than {', '.join(CAMERA_KEYS)} (once each), "
            "width and height; write it as 3x3 numbers: fx 0 cx / 0 fy cy / 0 0 1"
        )
    try:
        named = {key: float(value) for key, value in pairs}
        fx, fy, cx, cy = (named[key] for key in CAMERA_KEYS)
    except ValueError as error:
        raise ValueError(f"{where} is not made of numbers: {one_line(error, limit=200)}") from error
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
