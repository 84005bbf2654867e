"""Files of an engine directory: sizes, SHA-256 hashes, atomic writes.

Full-size engines are several gigabytes, so a hash that was found right is remembered with the
file's size and times in `.verified.json` beside the manifest, and computed again when any of
them changed. Any write to a file changes its times.
"""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Annotated

from pydantic import Field
from pydantic_core import from_json

from xmask3d_rt.errors import EngineError
from xmask3d_rt.files import atomic_write, hash_file
from xmask3d_rt.records import FileSize, Line, record

logger = logging.getLogger(__name__)

VERIFIED_NAME = ".verified.json"


@record(EngineError)
class FileEntry:
    """A file as a manifest records it; `path` is relative to the engine directory."""

    path: Line
    size: FileSize
    sha256: Annotated[str, Field(pattern="^[0-9a-f]*$")]

    def __post_init__(self) -> None:
        path = Path(self.path)
        outside = path.is_absolute() or ".." in path.parts or PureWindowsPath(self.path).anchor
        if not path.parts or outside:
            raise ValueError(f"names a file outside its directory: {self.path!r}")


def describe_file(path: Path, name: str | None = None) -> FileEntry:
    """Size and hash of a file, recorded under `name` (its own name by default)."""
    return FileEntry(path=name or path.name, size=path.stat().st_size, sha256=hash_file(path))


def write_atomically(path: Path, text: str) -> Path:
    """Write a text file so that readers see the old content or the new one, never a part."""
    with atomic_write(path) as temporary:
        temporary.write_text(text)
    return path


def verify_files(
    root: Path,
    entries: Sequence[FileEntry],
    full: bool = False,
    describe_fix: Callable[[FileEntry], str] | None = None,
) -> None:
    """Check presence, size and hash of files.

    Args:
        root: directory the entries are relative to.
        entries: what the manifest records.
        full: hash every file, also those found right before and untouched since.
        describe_fix: what to do about a file, for the message.

    Raises:
        EngineError: the first file that is missing, of another size, or changed.
    """

    def fail(entry: FileEntry, problem: str) -> EngineError:
        fix = f"; {describe_fix(entry)}" if describe_fix is not None else ""
        return EngineError(f"{root / entry.path} {problem}{fix}")

    for entry in entries:
        path = root / entry.path
        if not path.is_file():
            raise fail(entry, "is missing")
        size = path.stat().st_size
        if size != entry.size:
            raise fail(entry, f"has {size} bytes, expected {entry.size}")
    notes = _read_notes(root)
    fresh = dict(notes)
    for entry in entries:
        path = root / entry.path
        identity = _identify(path, entry)
        if full or notes.get(entry.path) != identity:
            found = hash_file(path)
            if found != entry.sha256:
                raise fail(
                    entry,
                    f"is corrupt: its SHA-256 is {found[:12]}…, expected {entry.sha256[:12]}…",
                )
        fresh[entry.path] = identity
    if fresh != notes:
        _write_notes(root, fresh)


def remember_verified(root: Path, entries: Sequence[FileEntry]) -> None:
    """Note that files were just hashed, so that the next `verify_files` need not."""
    _write_notes(root, {entry.path: _identify(root / entry.path, entry) for entry in entries})


def _identify(path: Path, entry: FileEntry) -> list[int | str]:
    """Identity of a file's content: the change time moves with every write, unlike mtime."""
    stat = path.stat()
    return [entry.sha256, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read_notes(root: Path) -> dict[str, list[int | str]]:
    try:
        values = from_json((root / VERIFIED_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _write_notes(root: Path, notes: dict[str, list[int | str]]) -> None:
    try:
        write_atomically(root / VERIFIED_NAME, json.dumps(notes, indent=1))
    except OSError as error:
        # a read-only directory still works, its files are hashed on every load
        logger.debug("cannot remember verified hashes in %s: %s", root, error)
