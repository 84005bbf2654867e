"""Inference backends behind one `Engine` interface, and the manifest of an engine directory."""

from typing import TYPE_CHECKING

from xmask3d_rt.system.late_names import look_up_late

if TYPE_CHECKING:
    from xmask3d_rt.engines.backends import open_engine, pick_device
    from xmask3d_rt.engines.base import AxisRange, Engine, Signature, TensorSpec
    from xmask3d_rt.engines.component import Component, Parity, WeightSource
    from xmask3d_rt.engines.manifest import Manifest

__all__ = [
    "AxisRange",
    "Component",
    "Engine",
    "Manifest",
    "Parity",
    "Signature",
    "TensorSpec",
    "WeightSource",
    "open_engine",
    "pick_device",
]

# Imported on first use: the process that builds a TensorRT engine needs none of torch.
_HOMES = {
    "open_engine": "xmask3d_rt.engines.backends",
    "pick_device": "xmask3d_rt.engines.backends",
    **dict.fromkeys(("AxisRange", "Engine", "Signature", "TensorSpec"), "xmask3d_rt.engines.base"),
    **dict.fromkeys(("Component", "Parity", "WeightSource"), "xmask3d_rt.engines.component"),
    "Manifest": "xmask3d_rt.engines.manifest",
}


__getattr__ = look_up_late(__name__, _HOMES)


def __dir__() -> list[str]:
    """All public names, also those not imported yet."""
    return __all__
