"""From an exported component to the file a backend opens.

Some backends open the ONNX file itself and some compile; half precision for those that take their
types from the graph is a graph of its own.
"""

import importlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.backend import Backend, BuiltFrom, Compilation, typed_name
from xmask3d_rt.engines.backends import get_backend
from xmask3d_rt.engines.base import AxisRange
from xmask3d_rt.engines.onnxruntime import OnnxRuntimeEngine
from xmask3d_rt.engines.openvino import OpenVinoEngine
from xmask3d_rt.engines.stamp import WEIGHTS_INSIDE, read_stamp, stamp_path
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.activation_ranges import find_overflows
from xmask3d_rt.export.choices import Choice
from xmask3d_rt.export.contracts import Contract
from xmask3d_rt.export.precision import convert_onnx
from xmask3d_rt.export.tensorrt_build import (
    BATCH_AXIS,
    find_gpu,
    parse_compute_capability,
)

Report = Callable[[str], None]


@dataclass(frozen=True)
class BuildOptions:
    """What a build may ask for besides backend and precision.

    Attributes:
        compute_capability: GPU to build TensorRT engines for, such as `8.9`; None is the one
            at hand. Another one than that is built ahead of time and not run.
        max_batch: largest number of images per call; above 1 a second profile is built.
        refit: TensorRT engines whose weights may be replaced.
        strip_weights: TensorRT engines without weights, which come from the ONNX file.
        tf32: let fp32 products on tensor cores round their inputs to 10 bits.
        workspace: largest scratch memory of a layer on the GPU, bytes.
        cache_dir: TensorRT engines of earlier builds.
    """

    compute_capability: str | None = None
    max_batch: int = 1
    refit: bool = False
    strip_weights: bool = False
    tf32: bool = False
    workspace: int | None = None
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise EngineError(f"--max-batch must be at least 1, got {self.max_batch}")

    @property
    def ahead_of_time(self) -> bool:
        """Whether engines are built for a GPU that is not here."""
        if self.compute_capability is None:
            return False
        return parse_compute_capability(self.compute_capability) != find_gpu()

    def describe(self) -> dict[str, object]:
        """What decides the content of an engine, for the incremental build."""
        return {
            "target": self.compute_capability or find_gpu(),
            "refit": self.refit,
            "strip_weights": self.strip_weights,
            "tf32": self.tf32,
            "workspace": self.workspace,
        }


def default_cache_dir() -> Path:
    """Where TensorRT engines are kept between builds, in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "xmask3d_rt" / "tensorrt"


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
        module: the torch module; some backends compile it.
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
    backend = get_backend(choice.backend)
    graph = None if backend.built_from is BuiltFrom.MODULE else onnx
    if backend.built_from is BuiltFrom.TYPED_GRAPH:
        graph = convert_typed(contract, choice.precision, inputs, onnx, report)
    output = onnx.parent / backend.artifact(choice.precision)
    if backend.compiler:
        report(f"compile {choice.backend} {choice.precision}")
        job = Compilation(
            component=contract.name,
            signature=contract.signature,
            precision=choice.precision,
            device=device,
            output=output,
            inputs=tuple(inputs),
            graph=graph,
            module=module,
            options=options,
        )
        load_compiler(backend)(job)
    return output


def load_compiler(backend: Backend) -> Callable[[Compilation], object]:
    """The function that compiles for a backend."""
    module, _, function = backend.compiler.partition(":")
    return getattr(importlib.import_module(module), function)


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
