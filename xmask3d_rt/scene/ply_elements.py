"""Elements of PLY files in memory, and how their rows lie in a binary file.

A list takes its numbers and its length, as in the file: an object for each, which `plyfile` makes,
takes a hundred bytes even where it is empty. Source of the format:
http://paulbourke.net/dataformats/ply
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

TYPE_NAMES = {
    "i1": "char",
    "u1": "uchar",
    "i2": "short",
    "u2": "ushort",
    "i4": "int",
    "u4": "uint",
    "f4": "float",
    "f8": "double",
}
BLOCK_BYTES = 1 << 20  # rows with lists are taken apart and put together so much at a time


@dataclass(frozen=True)
class Property:
    """A property of an element: one value, or a list with a length of its own type."""

    name: str
    dtype: np.dtype
    length: np.dtype | None = None

    @property
    def least(self) -> int:
        """Bytes that a binary row has for it at least."""
        return (self.length or self.dtype).itemsize

    def describe(self) -> str:
        """Its line in a header."""
        kinds = [self.dtype] if self.length is None else [self.length, self.dtype]
        names = [TYPE_NAMES[kind.str[1:]] for kind in kinds]
        return " ".join(["property", *(["list"] if self.length else []), *names, self.name])


@dataclass(frozen=True, eq=False)
class Lists:
    """A list of numbers for every row: their lengths, and all their values end to end."""

    lengths: np.ndarray  # [N], of the type that the file has
    values: np.ndarray  # [sum of lengths]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        end = self.ends[index]
        return self.values[end - self.lengths[index] : end]

    @cached_property
    def ends(self) -> np.ndarray:
        """Where each list ends in `values`, [N] int64."""
        return np.cumsum(self.lengths, dtype=np.int64)

    def cut(self, first: int, last: int) -> "Lists":
        """The lists of rows from `first` to in front of `last`."""
        ends = self.ends[first:last]
        start = ends[0] - self.lengths[first] if len(ends) else 0
        return Lists(self.lengths[first:last], self.values[start : ends[-1] if len(ends) else 0])

    def take(self, keep: np.ndarray) -> "Lists":
        """The lists of some rows.

        Args:
            keep: [N] bool.
        """
        return Lists(self.lengths[keep], self.values[np.repeat(keep, self.lengths)])


Column = np.ndarray | Lists


@dataclass(frozen=True, eq=False)
class Element:
    """The rows of an element, as columns by the names of its properties."""

    name: str
    columns: Mapping[str, Column]
    comments: Sequence[str] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """The columns that hold one value per row."""
        return {k: v for k, v in self.columns.items() if isinstance(v, np.ndarray)}

    @property
    def properties(self) -> list[Property]:
        """What the columns are, for a header."""
        return [
            Property(name, column.dtype)
            if isinstance(column, np.ndarray)
            else Property(name, column.values.dtype, column.lengths.dtype)
            for name, column in self.columns.items()
        ]

    def take(self, keep: np.ndarray) -> "Element":
        """The element with some of its rows.

        Args:
            keep: [N] bool.
        """
        return replace(
            self,
            columns={
                name: column[keep] if isinstance(column, np.ndarray) else column.take(keep)
                for name, column in self.columns.items()
            },
        )


def lay_out(properties: Sequence[Property], lengths: Mapping[str, int]) -> np.dtype:
    """Type of a binary row whose lists have these lengths; that of list `a` is field "a\\n"."""
    fields: list[tuple[Any, ...]] = []
    for item in properties:
        if item.length is None:
            fields.append((item.name, item.dtype))
        else:
            fields += [
                (f"{item.name}\n", item.length),
                (item.name, item.dtype, (lengths[item.name],)),
            ]
    return np.dtype(fields)


def measure_rows(
    properties: Sequence[Property], lengths: Mapping[str, np.ndarray], count: int
) -> np.ndarray:
    """Bytes of every binary row, [N] int64."""
    sizes = np.full(count, sum(item.least for item in properties), np.int64)
    for item in properties:
        if item.length is not None:
            sizes += lengths[item.name].astype(np.int64) * item.dtype.itemsize
    return sizes


def split_blocks(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last + 1 of rows that make about `BLOCK_BYTES` together, at least one row each.

    Args:
        sizes: [N] bytes of every row.
    """
    ends = np.cumsum(sizes)
    first = 0
    while first < len(ends):
        limit = ends[first] - sizes[first] + BLOCK_BYTES
        last = max(first + 1, int(np.searchsorted(ends, limit, side="right")))
        yield first, last
        first = last


def spread(starts: np.ndarray, counts: np.ndarray, step: int = 1) -> np.ndarray:
    """`counts[i]` positions from `starts[i]` on, `step` apart, for all rows end to end; int64."""
    counts = counts.astype(np.int64)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(starts, counts) + within * step


def visit_fields(
    block: "bytes | bytearray | memoryview",
    properties: Sequence[Property],
    lengths: Mapping[str, np.ndarray],
    sizes: np.ndarray,
) -> Iterator[tuple[Property, bool, np.ndarray, np.ndarray | slice]]:
    """All fields of rows in a block of binary data, in the order of the properties.

    Args:
        block: the bytes of the rows, nothing else.
        properties: of the element.
        lengths: of the lists of every property, [N].
        sizes: [N] bytes of every row.

    Yields:
        The property; whether the field is its length; a view of the block with a value of the
        field's type at every byte; and where in it the values are.
    """
    starts = np.cumsum(sizes) - sizes
    for item in properties:
        if item.length is not None:
            yield item, True, _view(block, item.length), starts
            starts = starts + item.length.itemsize
        step = item.dtype.itemsize
        counts = np.ones(len(starts), np.int64)
        if item.length is not None:
            counts = lengths[item.name].astype(np.int64)
        if len(starts) == 1:  # a list may be as long as the file
            end = int(starts[0]) + int(counts[0]) * step
            places: np.ndarray | slice = slice(int(starts[0]), end, step)
        else:
            places = spread(starts, counts, step)
        yield item, False, _view(block, item.dtype), places
        starts = starts + counts * step


def _view(block: "bytes | bytearray | memoryview", dtype: np.dtype) -> np.ndarray:
    """A value of a type at every byte where one begins."""
    count = max(0, len(block) - dtype.itemsize + 1)
    return np.ndarray((count,), dtype, block if count else None, strides=(1,))


def write_elements(
    path: Path, elements: Sequence[Element], comments: Sequence[str], obj_info: Sequence[str]
) -> None:
    """Write a PLY file, binary little-endian.

    Args:
        path: file to write, not atomically (see `atomic_write`).
        elements: in their order.
        comments: ASCII lines of the header.
        obj_info: likewise.
    """
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {line}" for line in comments]
    lines += [f"obj_info {line}" for line in obj_info]
    for element in elements:
        lines.append(f"element {element.name} {len(element)}")
        lines += [f"comment {line}" for line in element.comments]
        lines += [item.describe() for item in element.properties]
    with path.open("wb") as stream:
        stream.write("\n".join([*lines, "end_header", ""]).encode("ascii"))
        for element in elements:
            for block in _encode(element):
                stream.write(block)


def _encode(element: Element) -> Iterator[bytes | bytearray]:
    """The rows as little-endian bytes."""
    properties = [
        Property(p.name, p.dtype.newbyteorder("<"), p.length and p.length.newbyteorder("<"))
        for p in element.properties
    ]
    numbers = element.numbers
    lists = {k: v for k, v in element.columns.items() if isinstance(v, Lists)}
    lengths = {name: column.lengths for name, column in lists.items()}
    sizes = measure_rows(properties, lengths, len(element))
    for first, last in split_blocks(sizes):
        if not lists:
            table = np.empty(last - first, lay_out(properties, {}))
            for name, column in numbers.items():
                table[name] = column[first:last]
            yield table.tobytes()
            continue
        block = bytearray(int(sizes[first:last].sum()))
        cut = {name: column.cut(first, last) for name, column in lists.items()}
        held = {name: column.lengths for name, column in cut.items()}
        for item, is_length, view, places in visit_fields(
            block, properties, held, sizes[first:last]
        ):
            if item.length is None:
                view[places] = numbers[item.name][first:last]
            else:
                view[places] = held[item.name] if is_length else cut[item.name].values
        yield block
