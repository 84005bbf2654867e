"""Files and folders that are either whole or absent, and the SHA-256 of files.

What is written lies in a hidden folder `.NAME-HOST-PID-START-RANDOM.tmp` beside its target until
it is whole. A process that is killed leaves that folder behind; the next write into the same
place sees that its process has ended and removes it.
"""

import contextlib
import errno
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil

from xmask3d_rt.errors import CheckpointError, EngineError, ExportMismatch, one_line

_STAGING = re.compile(r"\..*-([0-9a-f]{8})-(\d+)-(\d+)-[a-z0-9_]{8}\.tmp", re.DOTALL)
_REPLACED = "replaced"  # inside a staging folder: what was moved out of the way
_NAME_LENGTH = 40  # characters of the target's name; file systems take 255 bytes in all
_MAX_AGE = 86_400  # seconds; what another host has not finished in a day it never will
_START_TOLERANCE = 2  # seconds between two readings of one process's start
_FULL = 2**20  # bytes; a disk with less free space counts as full
_RUST_CODE = re.compile(r"\(os error (\d+)\)")  # how libraries in Rust report an errno
_FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some, or write to another disk"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder that you may write to"
    ),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a folder on the way there is a file"),
    errno.EFBIG: "raise the limit on file sizes, or write to another disk",
}


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends well.

    The temporary file has the name of `path`, in a hidden folder beside it that is removed on
    any exception, Ctrl-C included, so `path` never holds half a file. Missing parent folders are
    made.

    Args:
        path: the file to write or replace.

    Yields:
        The path to write to inside the block.

    Raises:
        ValueError: `path` is a folder.
        FileNotFoundError: the block removed the temporary file.
        OSError: it cannot be written; the message names `path` and the reason.
    """
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"cannot write {one_line(target)}: it is a folder; give a file name")
    with stage_beside(target) as folder:
        temporary = folder / target.name
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        _sync(temporary)
        temporary.chmod(mode)  # safetensors writes for the owner alone
        os.replace(temporary, target)


@contextlib.contextmanager
def stage_beside(target: Path) -> Iterator[Path]:
    """An empty hidden folder beside `target`, removed with its content when the block ends.

    Folders that killed processes left there are removed first.

    Raises:
        OSError: as of `describe_write_errors`.
    """
    with describe_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        prefix = f".{target.name[:_NAME_LENGTH]}-{_describe_owner()}-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=target.parent))
    try:
        with describe_write_errors(target):
            yield folder
    finally:
        _discard(folder)


def replace_folder(new: Path, target: Path) -> None:
    """Put a whole folder in the place of another, or of nothing.

    Args:
        new: directly inside a folder of `stage_beside(target)`. What was at `target` waits there
            for its removal, and comes back should the swap fail or be killed half-way.
        target: where it goes.
    """
    if target.exists():
        old = new.parent / _REPLACED / target.name
        old.parent.mkdir()
        os.replace(target, old)
    os.replace(new, target)


@contextlib.contextmanager
def describe_write_errors(target: Path) -> Iterator[None]:
    """Let errors of writing name `target` in one line, whatever temporary file they came from.

    Errors about other files and of other kinds pass unchanged.

    Raises:
        OSError: `target` cannot be written; of the subclass that belongs to its `errno`.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError, CheckpointError, EngineError, ExportMismatch):
        raise
    except Exception as error:  # libraries report a full disk by exceptions of their own
        code = _find_code(error, target)
        if code is None:
            raise
        reason = os.strerror(code)
        fix = _FIXES.get(code, "check the path and the disk")
        described = type(OSError(code, reason))(
            f"cannot write {one_line(target)}: {reason[:1].lower()}{reason[1:]}; {fix}"
        )
        described.errno = code
        raise described from error


def remove_leftovers(folder: Path) -> None:
    """Remove what writes into `folder` by processes that have ended left behind.

    A folder that was moved out of the way for its successor comes back first.
    """
    try:
        found = [path for path in folder.iterdir() if _STAGING.fullmatch(path.name)]
    except OSError:
        return  # a folder one may write into but not list
    for path in found:
        if not _is_in_use(path):
            _discard(path)


def check_target(path: Path) -> None:
    """Make sure that a file can be written: asked before long work, not after it.

    Raises:
        ValueError: `path` is a folder.
        OSError: no file can be made there.
    """
    if path.is_dir():
        raise ValueError(f"cannot write {one_line(path)}: it is a folder; give a file name")
    check_writable(path.parent)


def check_writable(folder: Path) -> None:
    """Make sure that files can be made in a folder, or in the one it would be made in.

    Raises:
        OSError: they cannot; the message names the folder.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):  # access rights alone miss read-only disks
            pass
    except OSError as error:
        raise type(error)(
            f"cannot write to {one_line(folder)}: {error.strerror or one_line(error)}; "
            "choose another folder"
        ) from error


def check_folder(folder: Path) -> None:
    """Make sure that a folder can be made or written into: asked before long work, not after it.

    Raises:
        FileExistsError: it is a file, or a link to nowhere.
        OSError: nothing can be written there.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        kind = "a file" if folder.exists() else "a link to nowhere"
        raise FileExistsError(f"cannot write into {one_line(folder)}: it is {kind}; give a folder")
    check_writable(folder)


def make_folder(folder: Path) -> None:
    """Make a folder to write into, and those it lies in, where they are absent.

    Raises:
        OSError: as of `check_folder` and `describe_write_errors`.
    """
    check_folder(folder)
    with describe_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        FileNotFoundError: `path` does not exist.
    """
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Wait until the file's content is on disk, so that a crash cannot leave it empty."""
    with path.open("r+b") as stream:  # Windows flushes only what is open for writing
        os.fsync(stream.fileno())


def _discard(staging: Path) -> None:
    """Remove a staging folder, putting back what its swap had moved out of the way."""
    for old in staging.glob(f"{_REPLACED}/*"):
        if not (staging.parent / old.name).exists():
            with contextlib.suppress(OSError):  # another process is doing the same
                os.replace(old, staging.parent / old.name)
    shutil.rmtree(staging, ignore_errors=True)


def _describe_host() -> str:
    return f"{zlib.crc32(platform.node().encode(errors='replace')):08x}"


def _describe_owner() -> str:
    """Host, id and start of this process, as part of a file name."""
    return f"{_describe_host()}-{os.getpid()}-{int(psutil.Process().create_time())}"


def _is_in_use(staging: Path) -> bool:
    """Whether the process that a staging folder is named after may still be writing."""
    match = _STAGING.fullmatch(staging.name)
    if match is None:
        return True
    host, pid, start = match.groups()
    if host != _describe_host():
        try:
            return time.time() - staging.stat().st_mtime < _MAX_AGE
        except OSError:
            return True  # gone meanwhile
    try:
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(process.create_time() - int(start)) <= _START_TOLERANCE
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, OverflowError, ValueError):
        return False


def _find_code(error: BaseException, target: Path) -> int | None:
    """The `errno` behind an error of writing `target`; None for any other error."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if _concerns(error.filename, target) else None
    if (match := _RUST_CODE.search(str(error))) is not None:
        return int(match[1])
    behind = error.__cause__ or error.__context__
    if isinstance(behind, OSError) and behind.errno is not None:
        return _find_code(behind, target)
    try:
        return errno.ENOSPC if shutil.disk_usage(target.parent).free < _FULL else None
    except OSError:
        return None


def _concerns(filename: object, target: Path) -> bool:
    """Whether an error about `filename` is about `target`, its folders or its staging folder."""
    if not isinstance(filename, (str, os.PathLike)):
        return True  # writes to an open file carry no name
    path = Path(filename)
    return target.is_relative_to(path) or any(_STAGING.fullmatch(part) for part in path.parts)
