"""Inference backends behind one `Engine` interface, and the manifest of an engine directory."""

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
