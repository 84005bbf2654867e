"""Built engines kept by everything they depend on, so that no build is done twice.

An entry is one engine file and its build report, named by a hash. Files are hard links where the
file system has them, so an engine that is both in use and in the cache takes its space once.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from xmask3d_rt.engines.files import hash_file, write_atomically

KEEP_PER_COMPONENT = 2  # full-size engines are gigabytes


def hash_graph(onnx: Path) -> str:
    """SHA-256 over an ONNX file and the external data it names."""
    import onnx as onnx_library

    digest = hashlib.sha256(hash_file(onnx).encode())
    model = onnx_library.load(onnx, load_external_data=False)
    names = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in sorted(names):
        digest.update(hash_file(onnx.parent / name).encode())
    return digest.hexdigest()


def make_key(values: dict[str, Any]) -> str:
    """Hash of plain values, independent of their order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class EngineCache:
    """Engines of earlier builds.

    Args:
        root: directory of the entries; made when the first is stored.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def fetch(self, component: str, key: str, output: Path) -> dict[str, Any] | None:
        """Put a cached engine at `output`.

        Returns:
            what was stored with it, or None when there is no such entry or it was damaged.
        """
        engine, report = self._paths(component, key)
        try:
            values = json.loads(report.read_text())
            if engine.stat().st_size != values["size"]:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        place_file(engine, output)
        os.utime(report)  # the newest entries are the last to go
        return values["report"]

    def store(self, component: str, key: str, engine: Path, report: dict[str, Any]) -> None:
        """Keep an engine; the oldest entries of its component beyond a few are dropped."""
        self.root.mkdir(parents=True, exist_ok=True)
        kept, described = self._paths(component, key)
        place_file(engine, kept)
        values = {"size": engine.stat().st_size, "report": report}
        write_atomically(described, json.dumps(values, indent=1))
        entries = sorted(
            self.root.glob(f"{component}-*.json"), key=lambda p: p.stat().st_mtime_ns, reverse=True
        )
        for old in entries[KEEP_PER_COMPONENT:]:
            old.unlink(missing_ok=True)
            old.with_suffix(".engine").unlink(missing_ok=True)

    def _paths(self, component: str, key: str) -> tuple[Path, Path]:
        stem = f"{component}-{key[:32]}"
        return self.root / f"{stem}.engine", self.root / f"{stem}.json"


def place_file(source: Path, target: Path) -> None:
    """Make `target` the same content as `source`, by a link where possible, atomically."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
