"""XMask3D for deployment: open-vocabulary labels for every point of a coloured cloud."""

from typing import TYPE_CHECKING

from xmask3d_rt.errors import CheckpointError, EngineError, ExportMismatch
from xmask3d_rt.system.late_names import look_up_late
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


__getattr__ = look_up_late(__name__, _HOMES)


def __dir__() -> list[str]:
    """All public names, also those not imported yet."""
    return __all__
