"""The elements of a PLY file, ascii or binary, as `plyfile` describes them.

`plyfile` itself believes the counts of a header before it looks at the file's size, takes
comments in ASCII alone, and reads text and lists a value at a time. Source of the format:
http://paulbourke.net/dataformats/ply
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.tables import parse_table

HEADER_LIMIT = 1 << 24  # bytes
BYTE_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
}
TYPES |= {
    **{f"{kind}{8 * size}": f"{kind[0]}{size}" for kind in ("int", "uint") for size in (1, 2, 4)},
    "float32": "f4",
    "float64": "f8",
    **{code: code for code in TYPES.values()},
}


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


@dataclass(frozen=True)
class Element:
    """What a header says of an element."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    @property
    def lists(self) -> list[Property]:
        """Properties that are lists."""
        return [item for item in self.properties if item.length is not None]

    def make_rows(self, count: int) -> np.ndarray:
        """Room for rows; lists are objects, as `plyfile` has them."""
        return np.empty(
            count,
            [(item.name, item.dtype if item.length is None else "O") for item in self.properties],
        )

    def lay_out(self, lengths: Sequence[int]) -> np.dtype:
        """Type of a row whose lists have these lengths, in binary."""
        fields: list[tuple[Any, ...]] = []
        left = iter(lengths)
        for item in self.properties:
            if item.length is None:
                fields.append((item.name, item.dtype))
            else:
                fields += [(f"{item.name}\n", item.length), (item.name, item.dtype, (next(left),))]
        return np.dtype(fields)


@dataclass(frozen=True)
class Header:
    """Format, elements and free text of a file."""

    order: str  # of bytes; "=" in text
    text: bool
    elements: list[Element]
    comments: list[str]
    obj_info: list[str]


@dataclass(frozen=True, eq=False)
class PlyContent:
    """Elements as `plyfile.PlyElement`, in order, and the free text of the header."""

    elements: tuple[Any, ...]
    comments: tuple[str, ...]
    obj_info: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_elements(path: Path) -> PlyContent:
    """Everything in a PLY file.

    Raises:
        ValueError: not a PLY file, a truncated one, or a value that does not fit its type.
    """
    from plyfile import PlyElement

    with path.open("rb") as stream:
        header = parse_header(_split_header(stream))
        read = _read_text if header.text else _read_binary
        tables, left = read(stream, header)
    described = [
        PlyElement.describe(
            table,
            element.name,
            len_types={item.name: item.length.str[1:] for item in element.lists if item.length},
            val_types={item.name: item.dtype.str[1:] for item in element.lists},
            comments=element.comments,
        )
        for element, table in zip(header.elements, tables, strict=True)
    ]
    notes = (f"{left} behind the last element were not read",) if left else ()
    return PlyContent(tuple(described), tuple(header.comments), tuple(header.obj_info), notes)


def _split_header(stream: BinaryIO) -> list[str]:
    """Lines of the header; the stream is left at the first byte of the data.

    Free text may be UTF-8 or Latin-1; `plyfile` writes ASCII alone, so the rest is escaped.
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
    elements: list[Element] = []
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
            elements.append(Element(words[1], _parse_count(words[2])))
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


def _read_binary(stream: BinaryIO, header: Header) -> tuple[list[np.ndarray], str]:
    """Rows of all elements, and how much is left."""
    tables = []
    start = stream.tell()
    size = stream.seek(0, 2)
    for element in header.elements:
        _check_count(element, sum(item.least for item in element.properties), size - start)
        stream.seek(start)
        if element.lists:
            rows, used = _read_lists(stream.read(), element)
        else:
            rows = np.fromfile(stream, element.lay_out(()), element.count)
            used = rows.nbytes
        tables.append(rows)
        start += used
    return tables, f"{size - start} bytes" if size > start else ""


def _check_count(element: Element, least: int, held: int) -> None:
    if element.count * least > held:
        raise ValueError(
            f"truncated: {element.count} rows of element {one_line(element.name, 60)} need at "
            f"least {element.count * least} bytes, the file holds {held}"
        )


def _read_lists(body: bytes, element: Element) -> tuple[np.ndarray, int]:
    """Rows with lists at the beginning of `body`, and the bytes they take.

    Mostly all lists have one length (triangles), so all rows one size.
    """
    if not element.count:
        return element.make_rows(0), 0
    first, _ = _read_ragged(body, element, 1)
    dtype = element.lay_out([len(first[item.name][0]) for item in element.lists])
    if dtype.itemsize * element.count <= len(body):
        table = np.frombuffer(body, dtype, element.count)
        same = [table[f"{item.name}\n"] == table[item.name].shape[1] for item in element.lists]
        if all(map(np.all, same)):
            return _fill_rows(element, {p.name: table[p.name] for p in element.properties}), (
                table.nbytes
            )
    return _read_ragged(body, element, element.count)


def _read_ragged(body: bytes, element: Element, count: int) -> tuple[np.ndarray, int]:
    """As `_read_lists`, a row at a time."""
    rows = element.make_rows(count)
    start = 0
    for index in range(count):
        for item in element.properties:
            length = 1
            if item.length is not None:
                length = int(_take(body, item.length, 1, start, element)[0])
                start += item.length.itemsize
            values = _take(body, item.dtype, length, start, element)
            rows[item.name][index] = values[0] if item.length is None else values.copy()
            start += values.nbytes
    return rows, start


def _take(body: bytes, dtype: np.dtype, count: int, start: int, element: Element) -> np.ndarray:
    if count < 0 or start + count * dtype.itemsize > len(body):
        raise ValueError(
            f"truncated: a row of element {one_line(element.name, 60)} needs {count} values at "
            f"byte {start} of its data, which ends at {len(body)}"
        )
    return np.frombuffer(body, dtype, count, start)


def _fill_rows(element: Element, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Rows of columns [N], and of lists of one length [N, L]."""
    rows = element.make_rows(element.count)
    for item in element.properties:
        values = columns[item.name]
        rows[item.name] = (
            values
            if item.length is None
            else np.fromiter(values.copy(), dtype=object, count=len(values))
        )
    return rows


def _read_text(stream: BinaryIO, header: Header) -> tuple[list[np.ndarray], str]:
    """Rows of all elements, a line each, and how much is left."""
    text = stream.read().decode("latin-1").replace("\r", "\n")
    lines = [line for line in text.split("\n") if line.strip()]
    tables = []
    start = 0
    for element in header.elements:
        rows = lines[start : start + element.count]
        if len(rows) < element.count:
            raise ValueError(
                f"truncated: element {one_line(element.name, 60)} has {element.count} rows, the "
                f"file {len(rows)} lines for them"
            )
        try:
            tables.append(_parse_rows(rows, element))
        except ValueError as error:
            raise ValueError(f"element {one_line(element.name, 60)}: {error}") from error
        start += element.count
    return tables, f"{len(lines) - start} lines" if len(lines) > start else ""


def _parse_rows(rows: list[str], element: Element) -> np.ndarray:
    if not rows:
        return element.make_rows(0)
    first = _split_words(parse_table(rows[:1])[0], element)
    if element.lists and len({len(row.split()) for row in rows}) > 1:
        return _parse_ragged(rows, element)
    table = parse_table(rows)
    columns = {}
    start = 0
    for item in element.properties:
        if item.length is None:
            columns[item.name] = _cast(table[:, start], item)
            start += 1
            continue
        length = len(first[item.name])
        if not (table[:, start] == length).all():
            return _parse_ragged(rows, element)
        columns[item.name] = _cast(table[:, start + 1 : start + 1 + length], item)
        start += 1 + length
    return _fill_rows(element, columns)


def _parse_ragged(rows: list[str], element: Element) -> np.ndarray:
    """Rows whose lists have different lengths, one at a time."""
    found = element.make_rows(len(rows))
    for index, row in enumerate(rows):
        for name, values in _split_words(np.array(row.split(), np.float64), element).items():
            found[name][index] = values
    return found


def _split_words(values: np.ndarray, element: Element) -> dict[str, Any]:
    """The value or the list of each property in the numbers of a row.

    Raises:
        ValueError: more or fewer numbers than the properties have.
    """
    found: dict[str, Any] = {}
    start = 0
    for item in element.properties:
        ahead = values[start : start + 1]
        length = 1
        if item.length is not None:
            length = int(_cast(ahead, Property(item.name, item.length))[0]) if len(ahead) else 0
            start += 1
        mine = values[start : start + length]
        if not len(ahead) or not 0 <= length == len(mine):
            raise ValueError(f"a row ends before property {one_line(item.name, 60)}")
        found[item.name] = _cast(mine, item) if item.length is not None else _cast(mine, item)[0]
        start += length
    if start < len(values):
        raise ValueError(f"a row has {len(values)} values where its properties have {start}")
    return found


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
