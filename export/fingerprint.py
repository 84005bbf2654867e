"""A hash of everything a built component depends on: equal hash, nothing to do."""

import ast
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

# The code of the exporter itself, beside the modules a component names.
EXPORTER = (
    "xmask3d_rt.export.components",
    "xmask3d_rt.export.onnx_export",
    "xmask3d_rt.export.patches",
)
# The parts of a configuration that engines and weights depend on.
_CONFIG_PARTS = ("point_encoder", "binary_head", "diffusion", "mask_head", "clip")
# Libraries that every build goes through; any of each group.
_EXPORT_LIBRARIES = (("torch",), ("diffusers",), ("onnx",), ("onnxscript",), ("safetensors",))
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
def hash_code(module: str) -> str:
    """Hash of a module's syntax tree: comments and layout do not count.

    Raises:
        EngineError: the module's source cannot be found.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise EngineError(f"cannot find the source of {module}; reinstall xmask3d_rt")
    tree = ast.parse(Path(spec.origin).read_text())
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def compute_fingerprint(
    config: ModelConfig, weights: str, sources: Sequence[str], settings: Any
) -> str:
    """The fingerprint of a component.

    Args:
        config: of the model; names, classes and thresholds do not count.
        weights: hash of the weight files the component draws on.
        sources: modules whose code decides the result.
        settings: anything else, as JSON: signature, backends to try, opset.
    """
    parts = config.to_dict()
    content = {
        "config": {name: parts[name] for name in _CONFIG_PARTS},
        "weights": weights,
        "code": {module: hash_code(module) for module in (*sources, *EXPORTER)},
        "versions": {k: v for k, v in read_versions().items() if k not in _SEPARATE},
        "settings": settings,
    }
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
