"""Build beside the engines in use, then swap: an engine directory is never half-written.

Finished components wait in `.build` inside the output directory until all are there. Then the new
manifest is written beside them, which decides that they go into place: they are renamed, the
manifest last. A build that is interrupted before leaves the directory as it was, and the next one
goes on from the components already finished; one that is killed behind it is completed by the
next.
"""

import json
import logging
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from xmask3d_rt.engines.component import Component
from xmask3d_rt.engines.files import remember_verified, verify_files, write_atomically
from xmask3d_rt.engines.manifest import MANIFEST_NAME, Manifest
from xmask3d_rt.errors import EngineError
from xmask3d_rt.files import describe_write_errors, remove_leftovers
from xmask3d_rt.records import read_json

logger = logging.getLogger(__name__)

STAGING_NAME = ".build"
CACHE_NAME = ".cache"
_LOCK, _ENTRIES, _REPLACED = "lock", "entries", "replaced"
_RESERVED = (_LOCK, _ENTRIES, _REPLACED, MANIFEST_NAME)


class Staging:
    """The folder of a build under way; use `open_staging`.

    Attributes:
        out: the engine directory.
        root: `.build` inside it; files lie there as they will in `out`.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.root = out / STAGING_NAME

    def start_folder(self, name: str) -> Path:
        """An empty folder for the files of the component `name`."""
        self._entry(name).unlink(missing_ok=True)
        _remove(self.root / name)
        (self.root / name).mkdir(parents=True)
        return self.root / name

    def start_file(self, name: str) -> Path:
        """A path, free to write, for a component that is one file `{component}.{suffix}`."""
        self._entry(Path(name).stem).unlink(missing_ok=True)
        _remove(self.root / name)
        return self.root / name

    def finish(self, component: Component) -> None:
        """Record that a component's files are complete."""
        write_atomically(self._entry(component.name), json.dumps(component.to_dict()))

    def find(self, name: str, fingerprint: str) -> Component | None:
        """A component that an earlier, interrupted build finished with the same fingerprint."""
        try:
            component = read_json(Component, self._entry(name).read_bytes())
            verify_files(self.root, component.files)
        except (OSError, ValueError, EngineError):
            return None
        return component if component.files and component.fingerprint == fingerprint else None

    def commit(self, manifest: Manifest, staged: list[Component]) -> None:
        """Move staged components into place and write the manifest; not interruptible."""
        self._keep({component.name for component in staged})
        with _hold_interrupts():
            with self.writing(MANIFEST_NAME):
                write_atomically(self._manifest, manifest.to_json())
            self._swap()
            remember_verified(self.out, manifest.list_files())

    def recover(self) -> None:
        """Complete the commit of a build that was killed in its middle, and clean up behind it."""
        remove_leftovers(self.out)
        if self._manifest.is_file():
            logger.warning("completing the interrupted build of %s", self.out)
            self._swap()

    def clean(self) -> None:
        """Remove what is not finished, and the folders left empty by that."""
        if self._manifest.is_file():
            return  # a commit that failed half-way; the next build completes it
        self._keep({path.stem for path in self.root.glob(f"{_ENTRIES}/*.json")})
        with suppress(OSError):
            (self.root / _ENTRIES).rmdir()

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Let errors of writing below `root` name the file in `out` that was to be made.

        Args:
            name: of that file, where the error does not say.

        Raises:
            OSError: the disk is full, or another reason that a file cannot be written.
        """
        try:
            with describe_write_errors(self.root / name):
                yield
        except OSError as error:
            described = type(error)(str(error).replace(str(self.root), str(self.out)))
            described.errno = error.errno
            raise described from error

    @property
    def _manifest(self) -> Path:
        """The new manifest; where it is, what is staged belongs into place."""
        return self.root / MANIFEST_NAME

    def _swap(self) -> None:
        """Put everything staged into place, then the manifest.

        A process killed at any step leaves what this needs to go on.
        """
        staged = [path for path in sorted(self.root.iterdir()) if self._is_staged(path)]
        if staged:
            shutil.rmtree(self.out / CACHE_NAME, ignore_errors=True)
        old = self.root / _REPLACED
        for path in staged:
            with self.writing(path.name):
                target = self.out / path.name
                if target.exists():
                    old.mkdir(exist_ok=True)
                    _remove(old / path.name)
                    target.rename(old / path.name)
                path.rename(target)
        _remove(self.root / _ENTRIES)
        with self.writing(MANIFEST_NAME):
            self._manifest.replace(self.out / MANIFEST_NAME)

    def _is_staged(self, path: Path) -> bool:
        return path.name not in _RESERVED and not path.name.startswith(".")

    def _keep(self, names: set[str]) -> None:
        """Remove everything but the lock and the components of these names."""
        for path in self.root.glob(f"{_ENTRIES}/*"):
            if path.stem not in names:
                _remove(path)
        for path in self.root.iterdir():
            if path.name not in (_LOCK, _ENTRIES) and path.stem not in names:
                _remove(path)

    def _entry(self, name: str) -> Path:
        return self.root / _ENTRIES / f"{name}.json"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def open_staging(out: Path) -> Iterator[Staging]:
    """The staging folder of `out`, locked against a second build.

    Raises:
        EngineError: another build into `out` is running, or `out` cannot be written.
    """
    staging = Staging(out)
    lock = FileLock(staging.root / _LOCK)
    try:
        staging.root.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise EngineError(f"another build into {out} is running; wait for it to end") from error
    except OSError as error:
        raise EngineError(f"cannot write engines into {out}: {error.strerror}") from error
    try:
        staging.recover()
        yield staging
    finally:
        staging.clean()
        if all(path.name == _LOCK for path in staging.root.iterdir()):
            with suppress(OSError):  # Windows removes it when the lock is released
                (staging.root / _LOCK).unlink()
        lock.release()
        with suppress(OSError):  # they hold engines, or another build has begun
            staging.root.rmdir()
            out.rmdir()


@contextmanager
def _hold_interrupts() -> Iterator[None]:
    """Put off Ctrl-C until the block is done; it takes milliseconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[Any] = []
    previous = signal.signal(signal.SIGINT, lambda *received: pending.append(received))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if pending:
        raise KeyboardInterrupt
