"""PLY files: any vertex properties in, the same properties with labels and class colours out.

A labelled file keeps every element, comment and property of the cloud it came from. Viewers
(MeshLab, CloudCompare, Blender) colour points by `red green blue`, so these become the class
colour; the original colours move to `orig_red orig_green orig_blue`, and reading such a file
takes the colours from there.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COLOR_NAMES = (
    ("orig_red", "orig_green", "orig_blue"),
    ("red", "green", "blue"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ("r", "g", "b"),
)
OWN_COMMENTS = ("xmask3d class ", "xmask3d: ")


@dataclass(frozen=True, eq=False)
class PlySource:
    """Everything a PLY file held: the vertex element, the other elements (faces ...), comments."""

    vertex: Any  # plyfile.PlyElement
    others: tuple[Any, ...] = ()
    comments: tuple[str, ...] = ()


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray | None, PlySource]:
    """Positions [N, 3], colours [N, 3] or None, and everything else of an ascii or binary PLY.

    Floating point colours count as 0..1, as the format has them, where none exceeds 1.

    Raises:
        ValueError: not a PLY file, truncated, or without vertex x, y, z.
    """
    from plyfile import PlyData, PlyParseError

    try:
        data = PlyData.read(os.fspath(path))
    except (PlyParseError, EOFError, UnicodeDecodeError, MemoryError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as PLY: {error}") from error
    if "vertex" not in data or any(name not in data["vertex"] for name in "xyz"):
        held = ", ".join(element.name for element in data.elements) or "nothing"
        raise ValueError(f"{path} has no vertex element with x, y and z (it holds {held})")
    # plyfile maps the file into memory, which only holds while nobody writes to it.
    for element in data.elements:
        element.data = np.array(element.data)
    vertex = data["vertex"].data
    xyz = np.stack([vertex[name] for name in "xyz"], axis=1)
    rgb = _read_colors(vertex)
    others = tuple(element for element in data.elements if element.name != "vertex")
    return xyz, rgb, PlySource(data["vertex"], others, tuple(data.comments))


def write_labelled_ply(
    path: Path,
    xyz: np.ndarray,
    rgb: np.ndarray | None,
    source: PlySource | None,
    labels: np.ndarray,
    scores: np.ndarray,
    colors: np.ndarray,
    class_names: list[str],
) -> None:
    """Write a cloud with its labels as binary little-endian PLY.

    Vertex properties: all of `source` (or x, y, z), then `orig_red orig_green orig_blue` where
    there were colours, `red green blue` = colour of the class, `label` int32, `score` float32.
    A `label` or `score` that was there before becomes `orig_label`, `orig_score`. The class
    names stand in the header as comments, `xmask3d class <label> <JSON string>`.

    Args:
        path: file to write, not atomically (see `atomic_write`).
        xyz: [N, 3] float32.
        rgb: [N, 3] uint8 original colours or None.
        source: the file the cloud came from, or None.
        labels: [N] int64.
        scores: [N] float32.
        colors: [N, 3] uint8 colour of each point's class.
        class_names: name of each label.
    """
    from plyfile import PlyData, PlyElement

    columns = _kept_columns(source, xyz)
    if rgb is not None and "orig_red" not in columns:
        columns |= dict(zip(COLOR_NAMES[0], rgb.T, strict=True))
    columns |= dict(zip(COLOR_NAMES[1], colors.T, strict=True))
    columns["label"] = labels.astype(np.int32)
    columns["score"] = scores.astype(np.float32)
    vertex = np.empty(len(xyz), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        vertex[name] = column
    comments = [
        line for line in (source.comments if source else ()) if not line.startswith(OWN_COMMENTS)
    ]
    comments.append("xmask3d: red green blue = colour of the class, orig_* = before labelling")
    comments += [
        f"xmask3d class {index} {json.dumps(name)}" for index, name in enumerate(class_names)
    ]
    lists = _list_types(source)
    element = PlyElement.describe(vertex, "vertex", len_types=lists[0], val_types=lists[1])
    elements = [element, *(source.others if source else ())]
    PlyData(elements, text=False, byte_order="<", comments=comments).write(os.fspath(path))


def _read_colors(vertex: np.ndarray) -> np.ndarray | None:
    """The first full set of colour properties of a vertex array."""
    for names in COLOR_NAMES:
        if not set(names) <= set(vertex.dtype.names or ()):
            continue
        rgb = np.stack([vertex[name] for name in names], axis=1)
        if rgb.dtype.kind == "f" and rgb.size and np.nanmax(rgb) <= 1:
            rgb = rgb * 255
        return rgb
    return None


def _kept_columns(source: PlySource | None, xyz: np.ndarray) -> dict[str, np.ndarray]:
    """Vertex properties that stay, in order, under the names they keep."""
    if source is None:
        return dict(zip("xyz", xyz.T, strict=True))
    data = source.vertex.data
    labelled_before = any(line.startswith(OWN_COMMENTS) for line in source.comments)
    columns = {}
    for name in data.dtype.names:
        if name in ("label", "score"):
            if labelled_before:
                continue
            columns[f"orig_{name}"] = data[name]
        elif name not in COLOR_NAMES[1]:
            columns[name] = data[name]
        elif not labelled_before:
            columns[f"orig_{name}"] = data[name]
    return columns


def _list_types(source: PlySource | None) -> tuple[dict[str, str], dict[str, str]]:
    """Count and value types of the vertex's list properties, by name."""
    from plyfile import PlyListProperty

    lists = (
        [p for p in source.vertex.properties if isinstance(p, PlyListProperty)] if source else []
    )
    return {p.name: p.len_dtype for p in lists}, {p.name: p.val_dtype for p in lists}
