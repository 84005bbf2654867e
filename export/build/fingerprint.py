"""A hash of everything a built component depends on: equal hash, nothing to do."""

import ast
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.engines.backends import BACKENDS
from xmask3d_rt.errors import EngineError
from xmask3d_rt.version import __version__

# The code of the exporter itself, beside the modules a component names: of every component, and
# of engines.
EXPORTER = (
    "xmask3d_rt.export.build.modules",
    "xmask3d_rt.export.build.weights",
    "xmask3d_rt.export.graph.validation",
)
ENGINE_EXPORTER = (
    "xmask3d_rt.export.graph.export",
    "xmask3d_rt.export.graph.patches",
    "xmask3d_rt.export.graph.simplify",
    "xmask3d_rt.export.graph.tracing",
    "xmask3d_rt.export.build.engine",  # with which inputs a graph is traced and its ranges measured
    "xmask3d_rt.export.build.artifacts",
)
# Imports of a module that are followed: what computes there is in the engine as well. Kernels run
# beside the engines, and the rest of the package moves files.
_FOLLOWED = ("xmask3d_rt.model.", "xmask3d_rt.text.tokenizer", "xmask3d_rt.config")
# The parts of a configuration that engines and weights depend on.
CONFIG_PARTS = ("point_encoder", "binary_head", "diffusion", "mask_head", "clip")
# Libraries that every build goes through; any of each group.
_EXPORT_LIBRARIES = (
    ("torch",),
    ("numpy",),
    ("diffusers",),
    ("onnx",),
    ("onnx-ir",),
    ("onnxscript",),
    ("safetensors",),
)
_BACKEND_LIBRARIES = tuple(
    group
    for backend in BACKENDS.values()
    for group in backend.libraries
    if group not in _EXPORT_LIBRARIES
)
# Of no effect on components of other backends: what compiles is among the settings of its own.
_SEPARATE = (
    "xmask3d_rt",
    *(
        name
        for backend in BACKENDS.values()
        if backend.compiler
        for group in backend.libraries
        if group not in _EXPORT_LIBRARIES
        for name in group
    ),
)


def read_versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries a build uses; absent ones left out."""
    return dict(_read_versions())


@cache
def _read_versions() -> dict[str, str]:
    versions = {"xmask3d_rt": __version__, "python": platform.python_version()}
    for names in (*_EXPORT_LIBRARIES, *_BACKEND_LIBRARIES):
        for name in names:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
            break
    return versions


@cache
def _parse(module: str) -> ast.Module:
    """A module's syntax tree without docstrings.

    Raises:
        EngineError: the module's source cannot be found.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise EngineError(f"cannot find the source of {module}; reinstall xmask3d_rt")
    tree = ast.parse(Path(spec.origin).read_text())
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def hash_code(module: str) -> str:
    """Hash of a module's syntax tree: comments, docstrings and layout do not count.

    Raises:
        EngineError: the module's source cannot be found.
    """
    return hashlib.sha256(ast.dump(_parse(module)).encode()).hexdigest()


@cache
def _list_imports(module: str) -> tuple[str, ...]:
    """Modules that a module imports anywhere in it, among those that are followed."""
    found = set()
    for node in ast.walk(_parse(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xmask3d_rt"):
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                found.add(inner if _is_module(inner) else str(node.module))
    return tuple(sorted(name for name in found if name.startswith(_FOLLOWED)))


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a name inside a module
        return False


def list_code(modules: Sequence[str]) -> tuple[str, ...]:
    """Modules with those that they import, at any depth."""
    found: set[str] = set()
    pending = list(modules)
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending += _list_imports(module)
    return tuple(sorted(found))


def hash_modules(modules: Sequence[str]) -> str:
    """Hash of the code of modules and of what they import."""
    code = [f"{module} {hash_code(module)}" for module in list_code(modules)]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()


def compute_fingerprint(
    config: ModelConfig, weights: str, code: Sequence[str], settings: Any
) -> str:
    """The fingerprint of a component.

    Args:
        config: of the model; names, classes and thresholds do not count.
        weights: hash of the weight files the component draws on.
        code: modules whose code decides the result, as does that of their imports.
        settings: anything else, as JSON: signature, backends to try, opset.
    """
    content = {
        "config": {name: dataclasses.asdict(getattr(config, name)) for name in CONFIG_PARTS},
        "weights": weights,
        "code": {m: hash_code(m) for m in (*list_code(code), *EXPORTER)},
        "versions": {k: v for k, v in read_versions().items() if k not in _SEPARATE},
        "settings": settings,
    }
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
