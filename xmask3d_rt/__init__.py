"""XMask3D for deployment: open-vocabulary labels for every point of a coloured cloud."""

from typing import TYPE_CHECKING, Any

from xmask3d_rt.errors import CheckpointError, EngineError, ExportMismatch
from xmask3d_rt.version import __version__

if TYPE_CHECKING:
    from xmask3d_rt.result import Result
    from xmask3d_rt.scene.cloud import PointCloud
    from xmask3d_rt.scene.view import View
    from xmask3d_rt.segmenter import Segmenter

__all__ = [
    "CheckpointError",
    "EngineError",
    "ExportMismatch",
    "PointCloud",
    "Result",
    "Segmenter",
    "View",
    "__version__",
]

# Imported on first use: torch takes a second, and `xmask3d --help` needs none of it.
_HOMES = {
    "PointCloud": "xmask3d_rt.scene",
    "Result": "xmask3d_rt.result",
    "Segmenter": "xmask3d_rt.segmenter",
    "View": "xmask3d_rt.scene",
}


def __getattr__(name: str) -> Any:
    """Look up a public class in the module that holds it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """All public names, also those not imported yet."""
    return __all__
