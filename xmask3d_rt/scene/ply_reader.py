"""The elements of a PLY file, ascii or binary.

Unlike `plyfile`, it looks at the file's size before it believes the counts of a header, takes
comments in other encodings than ASCII, and reads text and lists many rows at a time.
"""

import array
import io
import re
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.ply_elements import (
    TYPE_NAMES,
    Column,
    Element,
    Lists,
    Property,
    lay_out,
    measure_rows,
    split_blocks,
    spread,
    visit_fields,
)
from xmask3d_rt.scene.tables import parse_table

BLOCK_LINES = 1 << 14  # of text, read at a time
HEADER_LIMIT = 1 << 24  # bytes
BYTE_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {name: code for code, name in TYPE_NAMES.items()}
TYPES |= {
    **{f"{kind}{8 * size}": f"{kind[0]}{size}" for kind in ("int", "uint") for size in (1, 2, 4)},
    "float32": "f4",
    "float64": "f8",
    **{code: code for code in TYPES.values()},
}


@dataclass(frozen=True)
class Declaration:
    """What a header says of an element."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    @property
    def lists(self) -> list[Property]:
        """Properties that are lists."""
        return [item for item in self.properties if item.length is not None]

    def make(self, columns: Mapping[str, Column]) -> Element:
        """The element with its rows."""
        return Element(self.name, {p.name: columns[p.name] for p in self.properties}, self.comments)


@dataclass(frozen=True)
class Header:
    """Format, elements and free text of a file."""

    order: str  # of bytes; "=" in text
    text: bool
    elements: list[Declaration]
    comments: list[str]
    obj_info: list[str]


@dataclass(frozen=True, eq=False)
class PlyContent:
    """Elements in order, and the free text of the header."""

    elements: tuple[Element, ...]
    comments: tuple[str, ...]
    obj_info: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_elements(path: Path) -> PlyContent:
    """Everything in a PLY file.

    Raises:
        ValueError: not a PLY file, a truncated one, or a value that does not fit its type.
    """
    with path.open("rb") as stream:
        header = parse_header(_split_header(stream))
        read = _read_text if header.text else _read_binary
        elements, left = read(stream, header)
    notes = (f"{left} behind the last element were not read",) if left else ()
    return PlyContent(tuple(elements), tuple(header.comments), tuple(header.obj_info), notes)


def _split_header(stream: BinaryIO) -> list[str]:
    """Lines of the header; the stream is left at the first byte of the data.

    Free text may be UTF-8 or Latin-1; PLY has ASCII alone, so the rest is escaped.
    """
    content = stream.read(HEADER_LIMIT)
    start = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    first = re.match(rb"(?i:ply)[ \t]*(\r\n|\n|\r)", content[start : start + 80])
    if first is None:
        raise ValueError("it does not begin with a line 'ply'")
    line_end = rb"\r" if first[1] == b"\r" else rb"\r?\n"
    end = re.compile(rb"(?:\r|\n)[ \t]*end_header[ \t]*" + line_end).search(content)
    if end is None:
        raise ValueError("its header has no line 'end_header'")
    stream.seek(end.end())
    lines = re.split(line_end, content[start : end.start()])[1:]
    return [_decode(line).encode("ascii", "backslashreplace").decode() for line in lines]


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def parse_header(lines: Sequence[str]) -> Header:
    """Header of its lines between `ply` and `end_header`.

    Raises:
        ValueError: a line that is not PLY, or elements or properties of the same name.
    """
    form = ""
    elements: list[Declaration] = []
    comments: list[str] = []
    obj_info: list[str] = []
    for line in map(str.strip, lines):
        words = line.split()
        keyword = words[0] if words else "comment"
        if keyword == "comment" and words:
            (elements[-1].comments if elements else comments).append(line[len("comment ") :])
        elif keyword == "obj_info":
            obj_info.append(line[len("obj_info ") :])
        elif keyword == "format" and len(words) == 3 and words[1] in BYTE_ORDERS and not form:
            form = words[1]
        elif keyword == "element" and len(words) == 3 and form:
            elements.append(Declaration(words[1], _parse_count(words[2])))
        elif keyword == "property" and elements:
            elements[-1].properties.append(_parse_property(words[1:], BYTE_ORDERS[form]))
        elif words:
            raise ValueError(f"header line {one_line(line, 60)!r} is not one of a PLY file")
    if not form:
        raise ValueError("its header has no line 'format'")
    for names in ([e.name for e in elements], *([p.name for p in e.properties] for e in elements)):
        if len(set(names)) < len(names):
            raise ValueError(f"its header has one name twice: {one_line(', '.join(names), 200)}")
    for element in elements:
        if element.count and not element.properties:
            raise ValueError(f"element {one_line(element.name, 60)} has no properties")
    return Header(BYTE_ORDERS[form], form == "ascii", elements, comments, obj_info)


def _parse_count(word: str) -> int:
    if not (word.isdigit() and len(word) < 16):
        raise ValueError(f"an element has {one_line(word, 40)!r} rows, which is no count")
    return int(word)


def _parse_property(words: Sequence[str], order: str) -> Property:
    is_list = words[:1] == ["list"]
    kinds, name = words[1 if is_list else 0 : -1], words[-1] if words else ""
    if len(kinds) != (2 if is_list else 1) or not set(kinds) <= set(TYPES):
        raise ValueError(
            f"property {one_line(' '.join(words), 60)!r} is not a type and a name, or 'list', two "
            "types and a name"
        )
    dtypes = [np.dtype(order + TYPES[kind]) for kind in kinds]
    if is_list and dtypes[0].kind == "f":
        raise ValueError(f"list property {one_line(name, 60)} has lengths of type {kinds[0]}")
    return Property(name, dtypes[-1], dtypes[0] if is_list else None)


def _read_binary(stream: BinaryIO, header: Header) -> tuple[list[Element], str]:
    """All elements, and how much is left."""
    elements = []
    start = stream.tell()
    size = stream.seek(0, 2)
    for element in header.elements:
        _check_count(element, sum(item.least for item in element.properties), size - start)
        stream.seek(start)
        if element.lists:
            columns, used = _read_lists(stream.read(), element)
        else:
            rows = np.fromfile(stream, lay_out(element.properties, {}), element.count)
            columns, used = {p.name: rows[p.name] for p in element.properties}, rows.nbytes
        elements.append(element.make(columns))
        start += used
    return elements, f"{size - start} bytes" if size > start else ""


def _check_count(element: Declaration, least: int, held: int) -> None:
    if element.count * least > held:
        raise ValueError(
            f"truncated: {element.count} rows of element {one_line(element.name, 60)} need at "
            f"least {element.count * least} bytes, the file holds {held}"
        )


def _read_lists(body: bytes, element: Declaration) -> tuple[dict[str, Column], int]:
    """Columns of rows with lists at the beginning of `body`, and the bytes they take.

    Mostly all lists have one length (triangles), so all rows one size.
    """
    first, _ = _measure_lists(body, element, min(element.count, 1))
    lengths = {name: int(found[0]) if len(found) else 0 for name, found in first.items()}
    dtype = lay_out(element.properties, lengths)
    if dtype.itemsize * element.count <= len(body):
        table = np.frombuffer(body, dtype, element.count)
        if all((table[f"{name}\n"] == length).all() for name, length in lengths.items()):
            return {p.name: _take_column(table, p) for p in element.properties}, table.nbytes
    return _read_ragged(body, element)


def _take_column(table: np.ndarray, item: Property) -> Column:
    values = table[item.name].copy()
    return values if item.length is None else Lists(table[f"{item.name}\n"].copy(), values.ravel())


def _measure_lists(
    body: bytes, element: Declaration, count: int
) -> tuple[dict[str, np.ndarray], int]:
    """Lengths of all lists in the first rows, and the bytes that these rows take."""
    found = {item.name: array.array(item.length.char) for item in element.lists if item.length}
    steps = []
    gap = 0  # bytes of numbers in front of a list
    for item in element.properties:
        if item.length is None:
            gap += item.dtype.itemsize
            continue
        order = item.length.str[0].replace("|", "=")
        read = struct.Struct(order + item.length.char).unpack_from
        steps.append((gap, read, item.length.itemsize, item.dtype.itemsize, found[item.name]))
        gap = 0
    start, end = 0, len(body)
    try:
        for _ in range(count):
            for ahead, read, width, step, lengths in steps:
                start += ahead
                (length,) = read(body, start)
                start += width
                if not 0 <= length * step <= end - start:
                    raise ValueError(_describe_end(element, f"{length} values", start, end))
                lengths.append(length)
                start += length * step
            start += gap
    except struct.error as error:
        raise ValueError(_describe_end(element, "a list", start, end)) from error
    if start > end:
        raise ValueError(_describe_end(element, f"{gap} bytes", start - gap, end))
    return {name: np.frombuffer(values, values.typecode) for name, values in found.items()}, start


def _describe_end(element: Declaration, wanted: str, start: int, end: int) -> str:
    return (
        f"truncated: a row of element {one_line(element.name, 60)} needs {wanted} at byte {start} "
        f"of its data, which ends at {end}"
    )


def _read_ragged(body: bytes, element: Declaration) -> tuple[dict[str, Column], int]:
    """As `_read_lists`, for lists of different lengths."""
    lengths, used = _measure_lists(body, element, element.count)
    sizes = measure_rows(element.properties, lengths, element.count)
    values = defaultdict(list)
    start = 0
    for first, last in split_blocks(sizes):
        block = memoryview(body)[start : start + int(sizes[first:last].sum())]
        start += len(block)
        held = {name: found[first:last] for name, found in lengths.items()}
        for item, is_length, view, places in visit_fields(
            block, element.properties, held, sizes[first:last]
        ):
            if not is_length:
                values[item.name].append(view[places].copy())
    return _join(element, values, lengths), used


def _join(
    element: Declaration,
    values: Mapping[str, list[np.ndarray]],
    lengths: Mapping[str, np.ndarray],
) -> dict[str, Column]:
    """Columns of the values of blocks of rows."""
    columns: dict[str, Column] = {}
    for item in element.properties:
        blocks = values.get(item.name) or [np.zeros(0, item.dtype)]
        joined = np.concatenate(blocks).astype(item.dtype, copy=False)
        if item.length is None:
            columns[item.name] = joined
        else:
            columns[item.name] = Lists(lengths[item.name].astype(item.length, copy=False), joined)
    return columns


def _read_text(stream: BinaryIO, header: Header) -> tuple[list[Element], str]:
    """All elements, a line for each row, and how much is left."""
    with io.TextIOWrapper(stream, encoding="latin-1") as text:  # any line end
        lines = (line for line in text if line.strip())
        elements = [element.make(_parse_lines(lines, element)) for element in header.elements]
        left = sum(1 for _ in lines)
    return elements, f"{left} lines" if left else ""


def _parse_lines(lines: Iterator[str], element: Declaration) -> dict[str, Column]:
    """Columns of the next rows."""
    values: dict[str, list[np.ndarray]] = defaultdict(list)
    lengths: dict[str, list[np.ndarray]] = defaultdict(list)
    done = 0
    while done < element.count:
        rows = list(islice(lines, min(BLOCK_LINES, element.count - done)))
        if not rows:
            raise ValueError(
                f"truncated: element {one_line(element.name, 60)} has {element.count} rows, the "
                f"file {done} lines for them"
            )
        try:
            for item, is_length, found in _parse_rows(rows, element):
                (lengths if is_length else values)[item.name].append(found)
        except ValueError as error:
            raise ValueError(f"element {one_line(element.name, 60)}: {error}") from error
        done += len(rows)
    joined = {
        p.name: np.concatenate([np.zeros(0, p.length), *lengths[p.name]]) for p in element.lists
    }
    return _join(element, values, joined)


def _parse_rows(
    rows: list[str], element: Declaration
) -> Iterator[tuple[Property, bool, np.ndarray]]:
    """Values and lengths of every property in some rows, in the order of `visit_fields`.

    Raises:
        ValueError: more or fewer numbers in a row than its properties have.
    """
    if element.lists:
        widths = np.array([len(row.split()) for row in rows])
        numbers = parse_table([" ".join(row.strip() for row in rows)])[0]
    else:
        table = parse_table(rows)
        widths = np.full(len(rows), table.shape[1])
        numbers = table.ravel()
    ends = np.cumsum(widths)
    starts = ends - widths
    for item in element.properties:
        counts = np.ones(len(rows), np.int64)
        if item.length is not None:
            _check_room(item, starts + 1 <= ends)
            ahead = _cast(numbers[starts], Property(item.name, item.length))
            yield item, True, ahead
            counts, starts = ahead.astype(np.int64), starts + 1
        _check_room(item, (counts >= 0) & (counts <= ends - starts))
        yield item, False, _cast(numbers[spread(starts, counts)], item)
        starts = starts + counts
    over = starts < ends
    if over.any():
        row = int(np.argmax(over))
        used = widths[row] - (ends - starts)[row]
        raise ValueError(f"a row has {widths[row]} values where its properties have {used}")


def _check_room(item: Property, holds: np.ndarray) -> None:
    if not holds.all():
        raise ValueError(f"a row ends before property {one_line(item.name, 60)}")


def _cast(values: np.ndarray, item: Property) -> np.ndarray:
    """Numbers of text as a property's type.

    Raises:
        ValueError: one that does not fit.
    """
    if item.dtype.kind != "f":
        limits = np.iinfo(item.dtype)
        bad = ~((values >= limits.min) & (values <= limits.max) & (values == np.rint(values)))
        if bad.any():
            raise ValueError(
                f"property {one_line(item.name, 60)} is {item.dtype.name}, which cannot be "
                f"{values[bad][0]:g}"
            )
    with np.errstate(over="ignore"):
        return values.astype(item.dtype)
