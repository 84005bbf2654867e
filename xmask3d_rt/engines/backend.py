"""What a backend is: one record that the runtime opens engines through and builds choose from.

A backend is one file with its engine class and its record, and one line in `backends`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
from torch import Tensor, nn

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.base import Engine, Signature
from xmask3d_rt.engines.options import BuildOptions

ONNX_NAME = "model.onnx"


class BuiltFrom(StrEnum):
    """What a backend takes a component from."""

    GRAPH = "the exported fp32 graph"
    TYPED_GRAPH = "the graph in the engine's precision"
    MODULE = "the torch module"


@dataclass(frozen=True)
class EngineFile:
    """A component as a backend opens it.

    `path` is the file to open; what belongs to it lies beside it. `cache_dir` is where a backend
    may keep what it compiles when loading.
    """

    component: str
    path: Path
    signature: Signature
    precision: Precision
    cache_dir: Path | None = None


@dataclass(frozen=True)
class Compilation:
    """What a compiler is handed.

    Attributes:
        component: its name.
        signature: inputs, outputs and the ranges of symbolic axes.
        precision: of the engine.
        device: it will run on.
        output: file to write, whole or not at all.
        inputs: example inputs, in order.
        graph: ONNX file; None for a backend that takes the module.
        module: in evaluation mode, fp32; None for a backend that takes the graph.
        options: of the build.
    """

    component: str
    signature: Signature
    precision: Precision
    device: torch.device
    output: Path
    inputs: tuple[Tensor, ...]
    graph: Path | None
    module: nn.Module | None
    options: BuildOptions


def never_half(device: torch.device) -> Precision | None:
    """For a backend whose half precision `auto` leaves alone."""
    return None


@dataclass(frozen=True)
class Backend:
    """What a backend can do, and how.

    Attributes:
        name: in manifests and on the command line.
        title: why one would take it.
        precisions: that it computes in.
        devices: kinds of device it runs on.
        auto_devices: kinds of device on which `auto` considers it.
        libraries: distributions whose versions decide its engines, any of each group.
        check: raises EngineError where it cannot run on a device.
        open: loads a file; `threads` of the CPU, None for every core the process may use.
        half: the half precision that is fast on a device, if any.
        built_from: what an engine is made of.
        artifact: name of the file to open, by precision.
        compiler: `module:function` that makes the artifact of a `Compilation`; empty where the
            backend opens what it is built from. Imported by a build alone.
        settings: `module:function` of a device and the build's options that says what decides an
            engine beside graph, code and versions, as JSON; empty for nothing.
        code: modules whose code decides the artifact.
        ahead_of_time: builds for devices that are not here.
        typed_on_cpu: precisions in whose graph it computes on a CPU, type by type: a graph for a
            device that is not here is checked by it.
    """

    name: str
    title: str
    precisions: tuple[Precision, ...]
    devices: tuple[str, ...]
    auto_devices: tuple[str, ...]
    libraries: tuple[tuple[str, ...], ...]
    check: Callable[[torch.device], object]
    open: Callable[[EngineFile, torch.device, int | None], Engine]
    half: Callable[[torch.device], Precision | None] = never_half
    built_from: BuiltFrom = BuiltFrom.GRAPH
    artifact: Callable[[Precision], str] = lambda precision: ONNX_NAME
    compiler: str = ""
    settings: str = ""
    code: tuple[str, ...] = ()
    ahead_of_time: bool = False
    typed_on_cpu: tuple[Precision, ...] = ()

    @property
    def where(self) -> str:
        """Where it runs, in words."""
        kinds = ", ".join(self.devices)
        return f"{kinds}; give --compute-capability" if self.ahead_of_time else kinds


def typed_name(precision: Precision) -> str:
    """File name of the graph in a precision."""
    return ONNX_NAME if precision is Precision.FP32 else f"model.{precision}.onnx"
