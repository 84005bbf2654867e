"""Build beside the engines in use, then swap: an engine directory is never half-written.

Finished components wait in `.build` inside the output directory until all are there; then they
are renamed into place and the manifest is written. An interrupted build leaves the directory as
it was, and the next one goes on from the components already finished.
"""

import json
import logging
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from xmask3d_rt.engines.files import remember_verified, verify_files, write_atomically
from xmask3d_rt.engines.manifest import Component, Manifest
from xmask3d_rt.errors import EngineError

logger = logging.getLogger(__name__)

STAGING_NAME = ".build"
CACHE_NAME = ".cache"


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
            component = Component.from_dict(json.loads(self._entry(name).read_text()))
            verify_files(self.root, component.files)
        except (OSError, ValueError, KeyError, TypeError, EngineError):
            return None
        return component if component.fingerprint == fingerprint else None

    def commit(self, manifest: Manifest, staged: list[Component]) -> None:
        """Move staged components into place and write the manifest; not interruptible."""
        with _hold_interrupts():
            old = self.root / "replaced"
            old.mkdir(parents=True, exist_ok=True)
            for component in staged:
                for top in sorted({Path(entry.path).parts[0] for entry in component.files}):
                    if (self.out / top).exists():
                        (self.out / top).rename(old / top)
                    (self.root / top).rename(self.out / top)
            if staged:
                shutil.rmtree(self.out / CACHE_NAME, ignore_errors=True)
            manifest.save()
            remember_verified(self.out, manifest.list_files())
            shutil.rmtree(self.root)

    def clean(self) -> None:
        """Remove what is not finished, and the folders left empty by that."""
        finished = {path.stem for path in self.root.glob("entries/*.json")}
        for path in self.root.glob("*"):
            if path.name not in ("entries", "lock") and path.stem not in finished:
                _remove(path)
        if not finished:
            shutil.rmtree(self.root, ignore_errors=True)
            if self.out.exists() and not any(self.out.iterdir()):
                self.out.rmdir()

    def _entry(self, name: str) -> Path:
        return self.root / "entries" / f"{name}.json"


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
    lock = FileLock(staging.root / "lock")
    try:
        staging.root.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise EngineError(f"another build into {out} is running; wait for it to end") from error
    except OSError as error:
        raise EngineError(f"cannot write engines into {out}: {error}") from error
    try:
        yield staging
    finally:
        staging.clean()
        lock.release()


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
