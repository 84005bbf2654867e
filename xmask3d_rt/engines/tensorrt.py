"""TensorRT, or TensorRT-RTX: the fast backend on an NVIDIA GPU.

Inputs and outputs are bound by address to torch memory and the engine is enqueued on torch's
current stream, so nothing is copied or waited for and a call can be captured in a CUDA graph
(after one call outside it, with buffers that stay where they are).

Source: TensorRT developer guide, "Performing inference" and "CUDA graphs"; TensorRT-RTX guide,
"Working with runtime cache".
"""

import logging
import mmap
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.backend import Backend, BuiltFrom, EngineFile
from xmask3d_rt.engines.base import Engine, Signature
from xmask3d_rt.engines.manifest import describe_rebuild
from xmask3d_rt.engines.stamp import WEIGHTS_INSIDE, BuildStamp, describe_engine_fix, read_stamp
from xmask3d_rt.engines.tensorrt_library import TensorRtLibrary, import_tensorrt
from xmask3d_rt.errors import EngineError, StaleEngineError
from xmask3d_rt.files import atomic_write

logger = logging.getLogger(__name__)

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "UINT8": "uint8",
    "BOOL": "bool",
}
_KEPT_ERRORS = 3


@dataclass
class _BoundContext:
    """An execution context in one optimisation profile, and the event after its last run."""

    context: Any
    done: Any


class TensorRtEngine(Engine):
    """An engine file run by the TensorRT it was built with.

    Args:
        component: name used in messages.
        path: the engine file; its stamp lies beside it.
        signature: declared inputs, outputs and profile.
        device: a CUDA device.
        precision: what the manifest says of it.
        cache_dir: where TensorRT-RTX keeps kernels it compiles when loading; None keeps none.

    Raises:
        EngineError: TensorRT is not installed, the engine was built for another version, GPU
            or precision, the device is no GPU, or its memory does not suffice.
    """

    backend = "tensorrt"
    capturable = True

    def __init__(
        self,
        component: str,
        path: Path,
        signature: Signature,
        device: torch.device,
        precision: Precision,
        cache_dir: Path | None = None,
    ) -> None:
        super().__init__(component, signature, device)
        self.stamp = read_stamp(path)
        library = _import_library(self.stamp.library)
        self.stamp.check(path, self.backend, library.name, library.version, None, precision)
        if device.type != "cuda" or not torch.cuda.is_available():
            raise EngineError(
                f"{component}: {path} is a TensorRT engine for {self.stamp.target} and cannot "
                f"run on {device}; use a machine with an NVIDIA GPU, or for this one "
                f"{describe_rebuild(path.parent.parent, here=True)}"
            )
        self.stamp.check(
            path, self.backend, library.name, library.version, _target_of(device), precision
        )
        self._trt = library.module
        self._log = _make_log(self._trt)
        self._lock = threading.Lock()
        self._contexts: dict[tuple[Any, ...], _BoundContext] = {}
        self._cache_path = (
            None
            if cache_dir is None
            else cache_dir / f"{component}-{self.stamp.target}-{library.version}.kernels"
        )
        with torch.cuda.device(device):
            self._side = torch.cuda.Stream(device)
            self._engine = self._load(path)
            self._config, self._kernels = self._make_config()
        self._check_io(path)

    def _load(self, path: Path) -> Any:
        self._runtime = self._trt.Runtime(self._log)
        with path.open("rb") as stream, _map(stream) as content:
            engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            fix = describe_engine_fix(path, self.component, self.backend, self.stamp.precision)
            raise StaleEngineError(
                f"{self.component}: TensorRT cannot load {path}: {self._log.last()}; {fix}"
            )
        if self.stamp.weights != WEIGHTS_INSIDE:
            self._refit(engine, path.parent / self.stamp.weights)
        return engine

    def _refit(self, engine: Any, onnx: Path) -> None:
        """Put the weights of the ONNX file into an engine that was stored without."""
        refitter = self._trt.Refitter(engine, self._log)
        parser = self._trt.OnnxParserRefitter(refitter, self._log)
        if not parser.refit_from_file(str(onnx)) or not refitter.refit_cuda_engine():
            raise EngineError(
                f"{self.component}: the weights of {onnx} do not fit the engine: "
                f"{self._log.last()}; {describe_rebuild(onnx.parent.parent, self.component)}"
            )

    def _make_config(self) -> tuple[Any, Any]:
        """Runtime settings and the store of compiled kernels; TensorRT-RTX alone has them."""
        if self._cache_path is None or self.stamp.library != "tensorrt_rtx":
            return None, None
        config = self._engine.create_runtime_config()
        kernels = config.create_runtime_cache()
        if self._cache_path.is_file():
            kernels.deserialize(self._cache_path.read_bytes())
        config.set_runtime_cache(kernels)
        return config, kernels

    def _check_io(self, path: Path) -> None:
        engine, modes = self._engine, self._trt.TensorIOMode
        found: dict[Any, dict[str, str]] = {modes.INPUT: {}, modes.OUTPUT: {}}
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            kind = engine.get_tensor_dtype(name).name
            found[engine.get_tensor_mode(name)][name] = _DTYPES.get(kind, kind)
        for mode, specs in ((modes.INPUT, self.inputs), (modes.OUTPUT, self.outputs)):
            declared = {spec.name: spec.dtype for spec in specs}
            if found[mode] != declared:
                raise EngineError(
                    f"{self.component}: {path} has {found[mode]}, declared are {declared}"
                )

    def _run(self, inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> None:
        self._enqueue(inputs, outputs, ())

    def _run_bound(self, inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> None:
        """A context for these buffers alone: a captured graph is void once its context changes."""
        buffers = (*inputs.values(), *outputs.values())
        self._enqueue(inputs, outputs, tuple((t.data_ptr(), tuple(t.shape)) for t in buffers))

    def _enqueue(
        self,
        inputs: dict[str, torch.Tensor],
        outputs: dict[str, torch.Tensor],
        buffers: tuple[Any, ...],
    ) -> None:
        with torch.cuda.device(self.device), self._lock:
            bound = self._get_context(pick_profile(self.stamp, inputs), buffers)
            with self._ordered(bound) as stream:
                context = bound.context
                for name, tensor in inputs.items():
                    if self.stamp.profiles:
                        context.set_input_shape(name, tuple(tensor.shape))
                    context.set_tensor_address(name, tensor.data_ptr())
                for name, tensor in outputs.items():
                    context.set_tensor_address(name, tensor.data_ptr())
                if not context.execute_async_v3(stream.cuda_stream):
                    raise EngineError(f"{self.component}: TensorRT failed: {self._log.last()}")

    @contextmanager
    def _ordered(self, bound: _BoundContext) -> Iterator[Any]:
        """The stream to enqueue on, after the last run of the same context.

        A context may not run twice at a time. TensorRT synchronises the device on the default
        stream, so a stream of its own stands in for that one.
        """
        current = torch.cuda.current_stream(self.device)
        if torch.cuda.is_current_stream_capturing():
            yield current  # the graph orders what is captured; events from outside are illegal
            return
        default = current == torch.cuda.default_stream(self.device)
        stream = self._side if default else current
        if default:
            stream.wait_stream(current)
        stream.wait_event(bound.done)
        yield stream
        bound.done.record(stream)
        if default:
            current.wait_stream(stream)

    def _get_context(self, profile: int, buffers: tuple[Any, ...]) -> _BoundContext:
        key = (profile, *buffers)
        if key not in self._contexts:
            make = self._engine.create_execution_context
            context = make() if self._config is None else make(self._config)
            if context is None:
                raise EngineError(
                    f"{self.component}: no memory for a context on {self.device}: "
                    f"{self._log.last()}; lower --max-batch, use fp16, or free GPU memory"
                )
            if profile:
                stream = torch.cuda.current_stream(self.device)
                context.set_optimization_profile_async(profile, stream.cuda_stream)
            self._contexts[key] = _BoundContext(context, torch.cuda.Event())
            self._save_kernels()
        return self._contexts[key]

    def _save_kernels(self) -> None:
        """Keep what TensorRT-RTX compiled, so that the next process starts warm."""
        if self._kernels is None or self._cache_path is None:
            return
        try:
            with atomic_write(self._cache_path) as temporary:
                temporary.write_bytes(memoryview(self._kernels.serialize()))
        except OSError as error:
            # a read-only directory still works, kernels are compiled on every load
            logger.debug("cannot keep compiled kernels in %s: %s", self._cache_path, error)

    def close(self) -> None:
        """Release contexts, engine and their device memory."""
        if not self._closed:
            self._save_kernels()
        super().close()
        self._contexts.clear()
        self._engine = self._config = self._kernels = self._runtime = None


def _import_library(name: str) -> TensorRtLibrary:
    """The library an engine was built with, or else the one there is, for the message."""
    try:
        return import_tensorrt(name)
    except EngineError:
        return import_tensorrt()


def pick_profile(stamp: BuildStamp, inputs: Mapping[str, torch.Tensor]) -> int:
    """Index of the first optimisation profile that takes these inputs; 0 of a static engine.

    Raises:
        EngineError: none does.
    """
    if not stamp.profiles:
        return 0
    for index, shapes in enumerate(stamp.profiles):
        if all(_within(inputs[name].shape, low, high) for name, (low, _, high) in shapes.items()):
            return index
    found = {name: list(inputs[name].shape) for name in stamp.profiles[0]}
    raise EngineError(
        f"{stamp.component}: inputs {found} fit none of the profiles "
        f"(min, opt, max): {list(stamp.profiles)}; split the call or rebuild with --max-batch"
    )


def _within(shape: Sequence[int], low: Sequence[int], high: Sequence[int]) -> bool:
    return all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))


def _target_of(device: torch.device) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


@contextmanager
def _map(stream: Any) -> Iterator[Any]:
    """A file as memory, read as it is touched; engines are gigabytes."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _make_log(trt: Any) -> Any:
    """A TensorRT logger that passes messages on and remembers the last errors."""

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=_KEPT_ERRORS)

        def log(self, severity: Any, message: str) -> None:
            if severity.value <= trt.ILogger.ERROR.value:
                self.errors.append(message.strip())
                logger.error("%s", message)
            elif severity.value <= trt.ILogger.WARNING.value:
                logger.warning("%s", message)

        def last(self) -> str:
            return " | ".join(self.errors) or "no reason given"

    return Log()


def _open(file: EngineFile, device: torch.device, threads: int | None) -> TensorRtEngine:
    return TensorRtEngine(
        file.component, file.path, file.signature, device, file.precision, file.cache_dir
    )


BACKEND = Backend(
    name="tensorrt",
    title="tensorrt is the fastest on an NVIDIA GPU",
    precisions=(Precision.FP32, Precision.FP16, Precision.BF16),
    devices=("cuda",),
    auto_devices=("cuda",),
    libraries=(("tensorrt",), ("tensorrt-rtx",)),
    check=lambda device: import_tensorrt(),
    open=_open,
    half=lambda device: Precision.FP16,
    built_from=BuiltFrom.TYPED_GRAPH,
    artifact=lambda precision: "model.engine",
    compiler="xmask3d_rt.export.backends.tensorrt:compile_component",
    settings="xmask3d_rt.export.backends.tensorrt:describe_settings",
    code=("xmask3d_rt.export.backends.tensorrt", "xmask3d_rt.export.backends.tensorrt_child"),
    ahead_of_time=True,
)
