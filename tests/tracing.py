"""Which modules of the package run, and which are hashed into a fingerprint."""

import importlib.util
import sys
from pathlib import Path

import xmask3d_rt.export as export_package
import xmask3d_rt.kernels as kernels_package
from xmask3d_rt.export.build import fingerprint
from xmask3d_rt.export.build.fingerprint import hash_code

ROOTS = {
    "xmask3d_rt.export": Path(export_package.__file__).parent,
    "xmask3d_rt.kernels": Path(kernels_package.__file__).parent,
    "xmask3d_rt": Path(importlib.util.find_spec("xmask3d_rt").origin).parent,
}
# What runs beside the engines, moves files or reports, and is no part of what is built.
BESIDE = (
    *("xmask3d_rt.kernels", "xmask3d_rt.errors", "xmask3d_rt.files", "xmask3d_rt.system.memory"),
    *("xmask3d_rt.records", "xmask3d_rt.export.graph.contracts"),
    *("xmask3d_rt.export.build.fingerprint", "xmask3d_rt.export.build.component"),
    *(
        f"xmask3d_rt.engines.{name}"
        for name in ("base", "component", "files", "manifest", "options")
    ),
    *("xmask3d_rt.engines.tensor_files", "xmask3d_rt.engines.build_command"),
)


def module_of(file):
    path = Path(file)
    for package, root in ROOTS.items():
        if path.is_relative_to(root):
            return ".".join([package, *path.relative_to(root).with_suffix("").parts])
    return None


def trace(work):
    """Modules of the package whose functions run while `work` does."""
    files = set()

    def note(frame, event, _):
        if event == "call":
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    found = {module_of(file) for file in files} - {None}
    return {module for module in found if not module.startswith(BESIDE)}


def list_hashed(monkeypatch, work):
    """Modules whose code goes into the fingerprints that `work` makes."""
    hashed = set()
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "hash_code", lambda m: hashed.add(m) or hash_code(m))
        work()
    return hashed
