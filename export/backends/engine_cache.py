"""Built engines kept by everything they depend on, so that no build is done twice.

An entry is one engine file and its build report, named by a hash. Engines are copied, never
linked: what happens to an engine in use must not happen to the cache. What is fetched has the hash
of what was stored, or is not used.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from xmask3d_rt.engines.files import write_atomically
from xmask3d_rt.files import atomic_write, hash_file, stage_beside
from xmask3d_rt.records import FileSize, read_json, record, to_values

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


@record()
class CacheEntry:
    """What is known of a kept engine: its size and hash, and the report of its build."""

    size: FileSize
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    report: dict[str, Any]


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
        engine, described = self._paths(component, key)
        try:
            entry = read_json(CacheEntry, described.read_bytes())
            if engine.stat().st_size != entry.size:
                return None
        except (OSError, ValueError):
            return None
        with stage_beside(output) as folder:
            copy = folder / output.name
            shutil.copyfile(engine, copy)
            if hash_file(copy) != entry.sha256:
                return None
            os.replace(copy, output)
        os.utime(described)  # the newest entries are the last to go
        return entry.report

    def store(self, component: str, key: str, engine: Path, report: dict[str, Any]) -> None:
        """Keep an engine; the oldest entries of its component beyond a few are dropped."""
        self.root.mkdir(parents=True, exist_ok=True)
        kept, described = self._paths(component, key)
        with atomic_write(kept) as temporary:
            shutil.copyfile(engine, temporary)
        entry = CacheEntry(engine.stat().st_size, hash_file(engine), report)
        write_atomically(described, json.dumps(to_values(entry), indent=1))
        entries = sorted(
            self.root.glob(f"{component}-*.json"), key=lambda p: p.stat().st_mtime_ns, reverse=True
        )
        for old in entries[KEEP_PER_COMPONENT:]:
            old.unlink(missing_ok=True)
            old.with_suffix(".engine").unlink(missing_ok=True)

    def _paths(self, component: str, key: str) -> tuple[Path, Path]:
        stem = f"{component}-{key[:32]}"
        return self.root / f"{stem}.engine", self.root / f"{stem}.json"
