"""From an exported component to the file a backend opens.

Some backends open the ONNX file itself and some compile; half precision for those that take their
types from the graph is a graph of its own.
"""

import importlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from xmask3d_rt.components import IMAGES
from xmask3d_rt.config import Precision
from xmask3d_rt.engines.backend import BuiltFrom, Compilation, EngineFile, typed_name
from xmask3d_rt.engines.backends import BACKENDS, get_backend
from xmask3d_rt.engines.base import AxisRange, Engine
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.engines.stamp import WEIGHTS_INSIDE, read_stamp, stamp_path
from xmask3d_rt.export.build.choices import Choice
from xmask3d_rt.export.build.component import ComponentBuild, Exported
from xmask3d_rt.export.graph.contracts import Contract
from xmask3d_rt.export.graph.precision import convert_onnx
from xmask3d_rt.export.graph.ranges import find_overflows

# Modules whose code decides a graph in half precision, for the incremental build.
_HALF_CODE = ("xmask3d_rt.export.graph.precision", "xmask3d_rt.export.graph.ranges")


def list_backend_code(choices: Sequence[Choice]) -> list[str]:
    """Modules whose code decides what the backends of some choices open."""
    backends = [get_backend(choice.backend) for choice in choices]
    half = any(
        backend.built_from is BuiltFrom.TYPED_GRAPH and choice.precision is not Precision.FP32
        for backend, choice in zip(backends, choices, strict=True)
    )
    modules = {module for backend in backends for module in backend.code}
    return [*sorted(modules), *(_HALF_CODE if half else ())]


def describe_backends(
    choices: Sequence[Choice], device: torch.device, options: BuildOptions
) -> dict[str, object]:
    """What else decides their engines: libraries, compilers, the processor, options."""
    backends = [get_backend(name) for name in sorted({choice.backend for choice in choices})]
    return {
        backend.name: find_function(backend.settings)(device, options)
        for backend in backends
        if backend.settings
    }


def widen_batch(contract: Contract, max_batch: int) -> Contract:
    """The contract with a batch axis of 1 to `max_batch`, where it has one."""
    profile = dict(contract.signature.profile)
    if IMAGES not in profile or max_batch == 1:
        return contract
    profile[IMAGES] = AxisRange(1, 1, max_batch)
    return replace(contract, signature=replace(contract.signature, profile=profile))


def compile_choice(build: ComponentBuild, exported: Exported, choice: Choice) -> Path:
    """Make what the backend of a choice opens, beside the exported graph.

    Returns:
        the file to open.

    Raises:
        EngineError: the backend cannot build it.
    """
    backend = get_backend(choice.backend)
    graph = None if backend.built_from is BuiltFrom.MODULE else exported.graph
    if backend.built_from is BuiltFrom.TYPED_GRAPH:
        graph = convert_typed(build, exported, choice.precision)
    output = exported.graph.parent / backend.artifact(choice.precision)
    if backend.compiler:
        build.report(f"compile {choice.backend} {choice.precision}")
        job = Compilation(
            component=build.name,
            signature=exported.contract.signature,
            precision=choice.precision,
            device=build.device,
            output=output,
            inputs=exported.inputs,
            graph=graph,
            module=exported.module,
            options=build.options,
        )
        find_function(backend.compiler)(job)
    return output


def find_function(path: str) -> Callable[..., Any]:
    """The function behind `module:function`."""
    module, _, function = path.partition(":")
    return getattr(importlib.import_module(module), function)


def convert_typed(build: ComponentBuild, exported: Exported, precision: Precision) -> Path:
    """The graph in a precision; the exported file itself in fp32.

    In fp16, operators that come near the end of its range on the example inputs stay in fp32.
    """
    if precision is Precision.FP32:
        return exported.graph
    target = exported.graph.parent / typed_name(precision)
    if target.is_file():
        return target
    keep: dict[str, float] = {}
    if precision is Precision.FP16:
        build.report("activation ranges")
        names = [spec.name for spec in exported.contract.signature.inputs]
        feeds = dict(zip(names, (x.cpu().numpy() for x in exported.inputs), strict=True))
        keep = find_overflows(exported.graph, feeds)
    build.report(f"convert to {precision}")
    convert_onnx(exported.graph, target, precision, keep)
    return target


def open_typed(exported: Exported, precision: Precision) -> Engine:
    """The graph of a precision on this machine's CPU, to check what cannot run here.

    Raises:
        EngineError: no library that computes in this precision is installed.
    """
    path = exported.graph.parent / typed_name(precision)
    cpu, contract = torch.device("cpu"), exported.contract
    backend = next(b for b in BACKENDS.values() if precision in b.typed_on_cpu)
    # the graph has its types inside: nothing is to be converted when loading
    file = EngineFile(contract.name, path, contract.signature, Precision.FP32)
    return backend.open(file, cpu, None)


def list_artifacts(path: Path) -> list[Path]:
    """Files that an engine consists of, the one to open first.

    Args:
        path: the file to open; its stamp names the graph it takes weights from, if any.
    """
    found = [path, stamp_path(path), Path(f"{path}.data")]
    if stamp_path(path).exists():
        weights = read_stamp(path).weights
        if weights != WEIGHTS_INSIDE:
            graph = path.with_name(weights)
            found += [graph, Path(f"{graph}.data")]
    return [path for path in found if path.exists()]


def remove_others(folder: Path, kept: Sequence[Path]) -> None:
    """Remove what a build left in a component's folder besides the files of its engine."""
    for path in folder.iterdir():
        if path not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
