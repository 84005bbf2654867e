"""From an exported component to the file a backend opens.

ONNX Runtime and OpenVINO open the ONNX file itself; TensorRT and AOTInductor compile, and half
precision for the backends that take their types from the graph is a graph of its own.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.base import BATCH_AXIS, AxisRange
from xmask3d_rt.engines.onnxruntime import OnnxRuntimeEngine
from xmask3d_rt.engines.openvino import OpenVinoEngine
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.engines.stamp import stamp_path
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.activation_ranges import find_overflows
from xmask3d_rt.export.choices import Choice
from xmask3d_rt.export.contracts import Contract
from xmask3d_rt.export.inductor_build import build_inductor, describe_compiler
from xmask3d_rt.export.precision import convert_onnx
from xmask3d_rt.export.tensorrt_build import (
    TensorRtSettings,
    build_tensorrt,
)
from xmask3d_rt.tensorrt_library import import_tensorrt

Report = Callable[[str], None]
# Modules whose code decides what backends open, for the incremental build.
_HALF_SOURCES = ("xmask3d_rt.export.precision", "xmask3d_rt.export.activation_ranges")
_SOURCES = {
    "tensorrt": ("xmask3d_rt.export.tensorrt_build", "xmask3d_rt.export.tensorrt_child"),
    "inductor": ("xmask3d_rt.export.inductor_build",),
}
ONNX_NAME = "model.onnx"
_ARTIFACTS = {"tensorrt": "model.engine", "inductor": "model.pt2"}


def list_backend_sources(choices: Sequence[Choice]) -> list[str]:
    """Modules whose code decides what the backends of some choices open."""
    typed = [choice for choice in choices if choice.backend in ("onnxruntime", "tensorrt")]
    half = any(choice.precision is not Precision.FP32 for choice in typed)
    backends = sorted({choice.backend for choice in choices})
    modules = [module for backend in backends for module in _SOURCES.get(backend, ())]
    return [*modules, *(_HALF_SOURCES if half else ())]


def describe_backends(
    choices: Sequence[Choice], device: torch.device, options: BuildOptions
) -> dict[str, object]:
    """What else decides their engines: libraries, compilers, the processor, options."""
    backends = {choice.backend for choice in choices}
    settings: dict[str, object] = {}
    if "tensorrt" in backends:
        settings |= {"tensorrt": str(import_tensorrt()), **options.describe()}
    if "inductor" in backends:
        settings["inductor"] = describe_compiler(device)
    return settings


def widen_batch(contract: Contract, max_batch: int) -> Contract:
    """The contract with a batch axis of 1 to `max_batch`, where it has one."""
    profile = dict(contract.signature.profile)
    if BATCH_AXIS not in profile or max_batch == 1:
        return contract
    profile[BATCH_AXIS] = AxisRange(1, 1, max_batch)
    return replace(contract, signature=replace(contract.signature, profile=profile))


def compile_choice(
    contract: Contract,
    choice: Choice,
    module: nn.Module | None,
    inputs: Sequence[Tensor],
    onnx: Path,
    device: torch.device,
    options: BuildOptions,
    report: Report,
) -> Path:
    """Make what the backend of a choice opens.

    Args:
        contract: of the component.
        choice: backend and precision.
        module: the torch module; AOTInductor compiles it.
        inputs: example inputs, in the contract's order.
        onnx: the exported fp32 graph; results lie beside it.
        device: where the engine will run.
        options: see there.
        report: told what is being done.

    Returns:
        the file to open.

    Raises:
        EngineError: the backend cannot build it.
    """
    output = onnx.parent / artifact_name(choice.backend, choice.precision)
    if choice.backend == "inductor":
        if module is None:
            raise EngineError(f"{contract.name}: backend inductor needs the torch module")
        report(f"compile inductor {choice.precision}")
        build_inductor(
            contract.name, module, inputs, output, contract.signature, choice.precision, device
        )
        return output
    if choice.backend == "openvino" or output == onnx:
        return onnx
    typed = convert_typed(contract, choice.precision, inputs, onnx, report)
    if choice.backend != "tensorrt":
        return typed
    report(f"compile tensorrt {choice.precision}")
    settings = TensorRtSettings(
        precision=choice.precision,
        compute_capability=options.compute_capability,
        refit=options.refit,
        strip_weights=options.strip_weights,
        tf32=options.tf32,
        workspace=options.workspace,
    )
    build_tensorrt(contract.name, typed, output, contract.signature, settings, options.cache_dir)
    return output


def convert_typed(
    contract: Contract, precision: Precision, inputs: Sequence[Tensor], onnx: Path, report: Report
) -> Path:
    """The graph in a precision; the exported file itself in fp32.

    In fp16, operators that come near the end of its range on the example inputs stay in fp32.
    """
    if precision is Precision.FP32:
        return onnx
    target = onnx.parent / typed_name(precision)
    if target.is_file():
        return target
    keep: dict[str, float] = {}
    if precision is Precision.FP16:
        report("activation ranges")
        names = [spec.name for spec in contract.signature.inputs]
        feeds = dict(zip(names, (x.cpu().numpy() for x in inputs), strict=True))
        keep = find_overflows(onnx, feeds)
    report(f"convert to {precision}")
    convert_onnx(onnx, target, precision, keep)
    return target


def open_typed(
    contract: Contract, precision: Precision, onnx: Path
) -> OnnxRuntimeEngine | OpenVinoEngine:
    """The graph of a precision on this machine's CPU, to check what cannot run here.

    Raises:
        EngineError: no library that computes in this precision is installed.
    """
    cpu = torch.device("cpu")
    if precision is Precision.BF16:
        # ONNX Runtime has no bf16 on a CPU; OpenVINO at fp32 keeps to the types of the graph
        path = onnx.parent / typed_name(precision)
        return OpenVinoEngine(contract.name, path, contract.signature, cpu, Precision.FP32)
    path = onnx if precision is Precision.FP32 else onnx.parent / typed_name(precision)
    return OnnxRuntimeEngine(contract.name, path, contract.signature, cpu)


def typed_name(precision: Precision) -> str:
    """File name of the graph in half precision."""
    return f"model.{precision}.onnx"


def artifact_name(backend: str, precision: Precision) -> str:
    """File name of what a backend opens."""
    if backend in _ARTIFACTS:
        return _ARTIFACTS[backend]
    if backend == "onnxruntime" and precision is not Precision.FP32:
        return typed_name(precision)
    return ONNX_NAME


def list_artifacts(folder: Path, backend: str, precision: Precision, weights: bool) -> list[Path]:
    """Files in `folder` that an engine consists of, the one to open first.

    Args:
        folder: of the component.
        backend: that opens it.
        precision: of the engine.
        weights: a TensorRT engine without weights, which needs its graph as well.
    """
    first = folder / artifact_name(backend, precision)
    found = [first, stamp_path(first), Path(f"{first}.data")]
    if weights and backend == "tensorrt":
        graph = folder / (ONNX_NAME if precision is Precision.FP32 else typed_name(precision))
        found += [graph, Path(f"{graph}.data")]
    return [path for path in found if path.exists()]


def remove_others(folder: Path, kept: Sequence[Path]) -> None:
    """Remove what a build left in a component's folder besides the files of its engine."""
    for path in folder.iterdir():
        if path not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
