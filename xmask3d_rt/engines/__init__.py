"""Inference backends behind one `Engine` interface, and the manifest of an engine directory."""

from typing import TYPE_CHECKING, Any

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
    "open_engine": "backends",
    "pick_device": "backends",
    **dict.fromkeys(("AxisRange", "Engine", "Signature", "TensorSpec"), "base"),
    **dict.fromkeys(("Component", "Parity", "WeightSource"), "component"),
    "Manifest": "manifest",
}


def __getattr__(name: str) -> Any:
    """Look up a public name in the module that holds it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """All public names, also those not imported yet."""
    return __all__
