"""PCD files (Point Cloud Data v0.7): ascii, binary and binary_compressed.

Source: https://pointclouds.org/documentation/tutorials/pcd_file_format.html
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.columns import NamedTable, list_names
from xmask3d_rt.scene.tables import parse_table

TYPE_SIZES = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}
HEADER_LIMIT = 1 << 20  # bytes
MAX_LZF_RATIO = 132  # two bytes of an LZF stream stand for at most 264


@dataclass(frozen=True)
class PcdField:
    """A field: `count` values of one type in every point."""

    name: str
    dtype: np.dtype
    count: int

    @property
    def size(self) -> int:
        """Bytes in a point."""
        return self.dtype.itemsize * self.count


def parse_pcd(content: bytes) -> NamedTable:
    """The fields of a PCD file that have one value a point, by name.

    Raises:
        ValueError: not a PCD file, a header line that is missing or does not fit the others, or
            more or fewer points than the header says.
    """
    header, body = _split_header(content)
    fields = _parse_fields(header)
    total = _parse_total(header)
    encoding = " ".join(header["DATA"]).lower()
    if encoding not in DECODERS:
        raise ValueError(
            f"its DATA is {one_line(encoding, 40)!r}; it must be one of {', '.join(DECODERS)}"
        )
    columns = DECODERS[encoding](body, fields, total)
    single = [index for index, field in enumerate(fields) if field.count == 1]
    return NamedTable(
        [fields[index].name for index in single], [columns[index] for index in single]
    )


def _split_header(content: bytes) -> tuple[dict[str, list[str]], bytes]:
    """The words of each header line by the first, and what follows the header."""
    header: dict[str, list[str]] = {}
    start = 0
    content = content.removeprefix(b"\xef\xbb\xbf")
    while "DATA" not in header:
        end = content.find(b"\n", start, HEADER_LIMIT)
        if end < 0:
            raise ValueError("no DATA line: not a PCD file")
        words = content[start:end].decode("latin-1").split()
        if words and not words[0].startswith("#"):
            header[words[0].upper()] = words[1:]
        start = end + 1
    return header, content[start:]


def _parse_fields(header: dict[str, list[str]]) -> list[PcdField]:
    names = header.get("FIELDS") or header.get("COLUMNS") or []  # COLUMNS until v0.5
    if not names:
        raise ValueError("no FIELDS line")
    lines = {"COUNT": ["1"] * len(names)} | header
    for key in ("TYPE", "SIZE", "COUNT"):
        held = lines.get(key, [])
        if len(held) != len(names):
            raise ValueError(
                f"its {key} line must have a value for each of the {len(names)} FIELDS "
                f"({list_names(names)}), got {one_line(' '.join(held), 100) or 'none'}"
            )
    rows = zip(names, lines["TYPE"], lines["SIZE"], lines["COUNT"], strict=True)
    return [_make_field(*row) for row in rows]


def _make_field(name: str, kind: str, size: str, count: str) -> PcdField:
    kind, name = kind.upper(), one_line(name, 60)
    if kind not in TYPE_SIZES or size not in map(str, TYPE_SIZES[kind]):
        raise ValueError(
            f"its field {name} has TYPE {one_line(kind, 20)} and SIZE {one_line(size, 20)}; known "
            "are F with 4 or 8, I and U with 1, 2, 4 or 8"
        )
    values = _parse_count(count, f"COUNT of {name}")
    if not values:
        raise ValueError(f"its field {name} has COUNT 0; it must be at least 1")
    return PcdField(name, np.dtype(f"<{kind.lower()}{size}"), values)


def _parse_total(header: dict[str, list[str]]) -> int:
    """Points by the header: POINTS, else WIDTH times HEIGHT."""
    if "POINTS" in header:
        return _parse_count(" ".join(header["POINTS"]), "POINTS")
    if "WIDTH" not in header:
        raise ValueError("neither a POINTS line nor WIDTH and HEIGHT")
    width, height = (" ".join(header.get(key, ["1"])) for key in ("WIDTH", "HEIGHT"))
    return _parse_count(width, "WIDTH") * _parse_count(height, "HEIGHT")


def _parse_count(word: str, key: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 16):
        raise ValueError(f"its {key} must be a whole number >= 0, got {one_line(word, 40)!r}")
    return int(word)


def _decode_ascii(body: bytes, fields: list[PcdField], total: int) -> list[np.ndarray]:
    """The first value of each field in every row, float64 unless it fits an integer field."""
    lines = body.decode("latin-1").split("\n")
    rows = [line for line in lines if line.strip()]
    if len(rows) != total:
        raise ValueError(f"its header says {total} points, the file holds {len(rows)} rows")
    if not rows:
        return [np.zeros(0)] * len(fields)
    starts = np.cumsum([0, *(field.count for field in fields)])
    table = parse_table(rows)
    if table.shape[1] != starts[-1]:
        raise ValueError(
            f"its rows have {table.shape[1]} columns, FIELDS and COUNT say {starts[-1]}"
        )
    return [
        _fit_integers(table[:, start], field.dtype)
        for field, start in zip(fields, starts[:-1], strict=True)
    ]


def _fit_integers(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        return values
    limits = np.iinfo(dtype)
    fits = (values >= limits.min) & (values <= limits.max) & (values == np.rint(values))
    return values.astype(dtype) if fits.all() else values


def _decode_binary(body: bytes, fields: list[PcdField], total: int) -> list[np.ndarray]:
    size = sum(field.size for field in fields)
    if not total * size <= len(body) < (total + 1) * size:
        raise ValueError(
            f"its header says {total} points of {size} bytes, the file holds {len(body)} bytes "
            f"({len(body) // size} points)"
        )
    rows = np.frombuffer(body, np.uint8, total * size).reshape(total, size)
    ends = np.cumsum([field.size for field in fields])
    return [
        _view_as(rows[:, end - field.size :][:, : field.dtype.itemsize], field.dtype)
        for field, end in zip(fields, ends, strict=True)
    ]


def _decode_compressed(body: bytes, fields: list[PcdField], total: int) -> list[np.ndarray]:
    """Fields one after the other, each of all points, packed by LZF."""
    packed, unpacked = (int.from_bytes(body[i : i + 4], "little") for i in (0, 4))
    size = sum(field.size for field in fields)
    if len(body) < 8 + packed or unpacked != total * size or unpacked > MAX_LZF_RATIO * packed:
        raise ValueError(
            f"its header says {total} points of {size} bytes, its data {packed} bytes that unpack "
            f"to {unpacked}, and the file holds {max(len(body) - 8, 0)}"
        )
    plain = unpack_lzf(body[8 : 8 + packed], unpacked)
    columns, start = [], 0
    for field in fields:
        block = np.frombuffer(plain, np.uint8, field.size * total, start)
        rows = block.reshape(total, field.size)[:, : field.dtype.itemsize]
        columns.append(_view_as(rows, field.dtype))
        start += field.size * total
    return columns


def unpack_lzf(packed: bytes, size: int) -> bytes:
    """What an LZF stream of liblzf stands for.

    A control byte below 32 is followed by that many bytes and one more as they are; any other
    says in its upper three bits how much of what is already there comes again, and from where.

    Raises:
        ValueError: a damaged stream, or one of another size.
    """
    out = bytearray()
    at = 0
    try:
        while at < len(packed) and len(out) <= size:
            control = packed[at]
            at += 1
            if control < 32:
                out += packed[at : at + control + 1]
                at += control + 1
                continue
            length = (control >> 5) + 2
            if length == 9:
                length += packed[at]
                at += 1
            start = len(out) - 1 - ((control & 31) << 8 | packed[at])
            at += 1
            if start < 0:
                raise ValueError("its compressed data is damaged: it points before its start")
            piece = out[start : start + length]
            # A piece that reaches its own beginning repeats itself.
            out += (piece * (length // len(piece) + 1))[:length]
    except IndexError as error:
        raise ValueError("its compressed data is damaged: it ends too early") from error
    if len(out) != size:
        raise ValueError(f"its compressed data is damaged: {len(out)} bytes in place of {size}")
    return bytes(out)


def _view_as(rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bytes [N, size] as values [N]."""
    return np.ascontiguousarray(rows).view(dtype)[:, 0]


DECODERS: dict[str, Callable[[bytes, list[PcdField], int], list[np.ndarray]]] = {
    "ascii": _decode_ascii,
    "binary": _decode_binary,
    "binary_compressed": _decode_compressed,
}
