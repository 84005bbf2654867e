"""Small text files, whatever editor wrote them."""

import codecs
import json
from pathlib import Path
from typing import Any

from xmask3d_rt.errors import one_line

MAX_BYTES = 16 << 20
MAX_JSON = 1 << 30  # bytes of what describes a whole data set
# PowerShell's `>` writes UTF-16, many editors on Windows a mark in front of UTF-8.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path, most: int = MAX_BYTES, errors: str = "strict") -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark; the mark is removed.

    Args:
        path: the file.
        most: bytes that it may have.
        errors: "replace" where bytes of another encoding do no harm, as in comments.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another encoding, or too large for what it should be.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {one_line(path)}")
    size = path.stat().st_size
    if size > most:
        raise ValueError(
            f"{one_line(path)} has {size:,} bytes; expected a text of {most:,} at most"
        )
    content = path.read_bytes()
    encoding = find_encoding(content)
    try:
        return content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{one_line(path)} is not {encoding.removesuffix('-sig').upper()} text (byte "
            f"0x{content[error.start]:02x} in line {content[: error.start].count(10) + 1}; "
            "Latin-1?); save it as UTF-8"
        ) from error


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: unreadable or something else than an object.
    """
    try:
        content = json.loads(read_text(path, MAX_JSON))
    except (ValueError, OSError, RecursionError) as error:
        said = one_line(error)
        raise ValueError(said if str(path) in said else f"{path} cannot be read: {said}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def find_encoding(content: bytes) -> str:
    """What a byte order mark says, a codec that removes it; UTF-8 where there is none."""
    return next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
