"""PLY files: any vertex properties in, the same properties with labels and class colours out.

A labelled file keeps every element, comment and property of the cloud it came from. Viewers
(MeshLab, CloudCompare, Blender) colour points by `red green blue`, so these become the class
colour; the original colours move to `orig_red orig_green orig_blue`, and reading such a file
takes the colours from there.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.columns import NamedTable, list_names
from xmask3d_rt.scene.ply_elements import Column, Element, write_elements
from xmask3d_rt.scene.ply_reader import read_elements

ORIGINAL_COLORS = ("orig_red", "orig_green", "orig_blue")
COLORS = ("red", "green", "blue")
VERTEX_INDICES = {"vertex_indices", "vertex_index", "vertex1", "vertex2"}
OWN_COMMENTS = ("xmask3d class ", "xmask3d: ")


@dataclass(frozen=True, eq=False)
class PlySource:
    """Everything a PLY file held: the vertex element, the other elements (faces ...), comments."""

    vertex: Element
    others: tuple[Element, ...] = ()
    comments: tuple[str, ...] = ()
    obj_info: tuple[str, ...] = ()

    def take(self, keep: np.ndarray) -> tuple["PlySource", tuple[str, ...]]:
        """The source of some of its points, and what had to go with the others.

        Args:
            keep: [N] bool.
        """
        gone = [e.name for e in self.others if not VERTEX_INDICES.isdisjoint(e.columns)]
        others = tuple(element for element in self.others if element.name not in gone)
        notes = (f"without these points {', '.join(gone)} was not kept",) if gone else ()
        return replace(self, vertex=self.vertex.take(keep), others=others), notes


def read_ply(path: Path) -> tuple[NamedTable, PlySource, tuple[str, ...]]:
    """The vertex properties of an ascii or binary PLY, everything in it, and notes on reading.

    Raises:
        ValueError: not a PLY file, truncated, or without vertices.
    """
    try:
        content = read_elements(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as PLY: {one_line(error)}") from error
    vertex = next((e for e in content.elements if e.name.lower() == "vertex"), None)
    held = list_names([element.name for element in content.elements])
    if vertex is None:
        raise ValueError(f"{path} has no vertex element with x, y and z (it holds {held})")
    names = list(vertex.numbers)
    table = NamedTable(names, list(vertex.numbers.values()))
    if not table.find_used():
        raise ValueError(
            f"{path} has no vertex element with x, y and z (it holds {held}, and vertex has "
            f"{list_names(names)})"
        )
    others = tuple(element for element in content.elements if element is not vertex)
    source = PlySource(vertex, others, content.comments, content.obj_info)
    return table, source, content.notes


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
    columns = _kept_columns(source, xyz)
    if rgb is not None and "orig_red" not in columns:
        columns |= dict(zip(ORIGINAL_COLORS, rgb.T, strict=True))
    columns |= dict(zip(COLORS, colors.T, strict=True))
    columns["label"] = labels.astype(np.int32)
    columns["score"] = scores.astype(np.float32)
    comments = [
        line for line in (source.comments if source else ()) if not line.startswith(OWN_COMMENTS)
    ]
    comments.append("xmask3d: red green blue = colour of the class, orig_* = before labelling")
    comments += [
        f"xmask3d class {index} {json.dumps(name)}" for index, name in enumerate(class_names)
    ]
    others = source.others if source else ()
    obj_info = source.obj_info if source else ()
    write_elements(path, [Element("vertex", columns), *others], comments, obj_info)


def _kept_columns(source: PlySource | None, xyz: np.ndarray) -> dict[str, Column]:
    """Vertex properties that stay, in order, under the names they keep."""
    if source is None:
        return dict(zip("xyz", xyz.T, strict=True))
    held = source.vertex.columns
    labelled_before = any(line.startswith(OWN_COMMENTS) for line in source.comments)
    columns: dict[str, Column] = {}
    for name, column in held.items():
        # Viewers disagree on whether Red is red; where both are there, Red is something else.
        plain = name if name.lower() in held else name.lower()
        if plain not in (*COLORS, "label", "score"):
            columns[name] = column
        elif not labelled_before:
            columns[f"orig_{plain}"] = column
    return columns
