"""The `Engine` interface: one component, the same `infer({name: array})` for every backend.

An engine takes torch tensors or numpy arrays and returns torch tensors on its own device.
Inputs already there are used without a copy; outputs are freshly allocated for every call,
so a caller may keep them, unless it brings buffers of its own. `infer` may be called from
several threads.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Annotated, Self

import numpy as np
import torch
from pydantic import PlainValidator

from xmask3d_rt.config import Precision
from xmask3d_rt.errors import EngineError
from xmask3d_rt.records import Count, Line, record, show

Array = np.ndarray | torch.Tensor
Axis = int | str

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


def _check_axis(axis: object) -> object:
    if not (isinstance(axis, str) and axis.isidentifier()) and not (
        type(axis) is int and axis >= 1
    ):
        raise ValueError(f"an axis is a name or a size of at least 1, got {show(axis)}")
    return axis


PRECISION_DTYPES = {
    Precision.FP32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
}


@record(EngineError)
class TensorSpec:
    """Name, dtype and shape of one input or output; a string in `shape` is a symbolic axis."""

    name: Line
    dtype: str
    shape: tuple[Annotated[Axis, PlainValidator(_check_axis)], ...]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(
                f"tensor {self.name!r}: unknown dtype {show(self.dtype)}; known: "
                f"{', '.join(DTYPES)}"
            )

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch names it."""
        return DTYPES[self.dtype]

    def __str__(self) -> str:
        axes = ", ".join(str(axis) for axis in self.shape)
        return f"{self.name} [{axes}] {self.dtype}"


@record(EngineError)
class AxisRange:
    """The sizes a symbolic axis may take; `opt` is the one an engine is tuned for."""

    min: Count
    opt: Count
    max: Count

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise ValueError(f"axis range needs 1 <= min <= opt <= max, got {self}")

    def __str__(self) -> str:
        return f"min {self.min}, opt {self.opt}, max {self.max}"


@record(EngineError)
class Signature:
    """What a component takes and gives: inputs, outputs, and the profile of symbolic axes."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: Mapping[str, AxisRange]

    def __post_init__(self) -> None:
        for specs in (self.inputs, self.outputs):
            names = [spec.name for spec in specs]
            if len(set(names)) < len(names):
                raise ValueError(f"two tensors have the same name among {', '.join(names)}")
        named = {axis for spec in self.inputs for axis in spec.shape if isinstance(axis, str)}
        for spec in self.outputs:
            unbound = sorted({a for a in spec.shape if isinstance(a, str)} - named)
            if unbound:
                raise ValueError(f"output {spec}: axis {unbound[0]} appears in no input")
        missing = sorted(named - set(self.profile))
        if missing:
            raise ValueError(f"axis {missing[0]} has no range in the profile")

    @property
    def is_static(self) -> bool:
        """Whether every axis has one possible size."""
        return all(r.min == r.max for r in self.profile.values())

    def resolve(self, specs: Sequence[TensorSpec], axes: Mapping[str, int]) -> list[list[int]]:
        """Concrete shapes of `specs` for known sizes of the symbolic axes."""
        return [[axes[a] if isinstance(a, str) else a for a in spec.shape] for spec in specs]

    def optimal_axes(self) -> dict[str, int]:
        """The `opt` size of every symbolic axis."""
        return {axis: bounds.opt for axis, bounds in self.profile.items()}


def bind_axes(
    component: str, signature: Signature, shapes: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Sizes of the symbolic axes, read off the shapes of the inputs.

    Args:
        component: name used in messages.
        signature: declared inputs and profile.
        shapes: shape per input name, complete.

    Returns:
        axis name → size.

    Raises:
        EngineError: a shape disagrees with its spec, with another input or with the profile.
    """
    axes: dict[str, int] = {}
    for spec in signature.inputs:
        shape = tuple(shapes[spec.name])
        matches = len(shape) == len(spec.shape) and all(
            isinstance(want, str) or want == got
            for want, got in zip(spec.shape, shape, strict=True)
        )
        if not matches:
            raise EngineError(f"{component}: input {spec} got shape {list(shape)}")
        for want, got in zip(spec.shape, shape, strict=True):
            if not isinstance(want, str):
                continue
            bounds = signature.profile[want]
            if not bounds.min <= got <= bounds.max:
                raise EngineError(
                    f"{component}: axis {want} of input {spec} is {got}, outside its profile "
                    f"({bounds}); split the call or rebuild the engine with a wider profile"
                )
            if axes.setdefault(want, got) != got:
                raise EngineError(
                    f"{component}: axis {want} is {axes[want]} in one input and {got} in "
                    f"{spec}; all inputs of a call share it"
                )
    return axes


def check_feeds(component: str, signature: Signature, feeds: Mapping[str, Array]) -> dict[str, int]:
    """Check the names, dtypes and shapes of one call.

    Returns:
        axis name → size, for the symbolic axes.

    Raises:
        EngineError: an unknown or missing input, a dtype or a shape the engine does not take.
    """
    expected = {spec.name: spec for spec in signature.inputs}
    listing = ", ".join(str(spec) for spec in signature.inputs)
    unknown = sorted(set(feeds) - set(expected))
    if unknown:
        raise EngineError(f"{component}: unknown input {unknown[0]!r}; inputs: {listing}")
    missing = [name for name in expected if name not in feeds]
    if missing:
        raise EngineError(f"{component}: missing input {missing[0]!r}; inputs: {listing}")
    for name, spec in expected.items():
        array = feeds[name]
        if not isinstance(array, np.ndarray | torch.Tensor):
            raise EngineError(
                f"{component}: input {spec} must be a torch tensor or numpy array, "
                f"got {type(array).__name__}"
            )
        dtype = str(array.dtype).removeprefix("torch.")
        if dtype != spec.dtype:
            raise EngineError(f"{component}: input {spec} got dtype {dtype}; convert it first")
    return bind_axes(component, signature, {name: feeds[name].shape for name in expected})


def check_outputs(
    component: str,
    signature: Signature,
    axes: Mapping[str, int],
    device: torch.device,
    out: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Check the buffers a caller brings for the outputs of one call.

    Args:
        component: name used in messages.
        signature: declared outputs.
        axes: sizes of the symbolic axes of this call.
        device: where the engine writes.
        out: buffer per output name.

    Returns:
        the buffers in the order of the outputs.

    Raises:
        EngineError: an unknown or missing output; a buffer of another dtype, shape or device,
            or one that is not contiguous.
    """
    listing = ", ".join(str(spec) for spec in signature.outputs)
    unknown = sorted(set(out) - {spec.name for spec in signature.outputs})
    if unknown:
        raise EngineError(f"{component}: unknown output {unknown[0]!r}; outputs: {listing}")
    checked: dict[str, torch.Tensor] = {}
    shapes = signature.resolve(signature.outputs, axes)
    for spec, shape in zip(signature.outputs, shapes, strict=True):
        if spec.name not in out:
            raise EngineError(f"{component}: no buffer for output {spec.name!r}; all: {listing}")
        buffer = out[spec.name]
        found = (buffer.dtype, list(buffer.shape), buffer.device)
        if found != (spec.torch_dtype, shape, device) or not buffer.is_contiguous():
            raise EngineError(
                f"{component}: the buffer of output {spec.name!r} must be contiguous {shape} "
                f"{spec.dtype} on {device}, got {found[1]} {found[0]} on {buffer.device}, "
                f"strides {list(buffer.stride())}"
            )
        checked[spec.name] = buffer
    return checked


class Engine(ABC):
    """One loaded component on one device.

    Attributes:
        component: its name, such as `unet`.
        signature: declared inputs, outputs and profile.
        device: where outputs appear and where inputs are used without a copy.
        backend: name of the library that runs it.
        capturable: whether a call on a GPU may be captured in a CUDA graph: it queues work on
            torch's current stream alone and waits for nothing. The first call with the same
            buffers must come before the capture.
    """

    backend: str = ""
    capturable: bool = False

    def __init__(self, component: str, signature: Signature, device: torch.device) -> None:
        self.component = component
        self.signature = signature
        self.device = device
        self._closed = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Declared inputs, in order."""
        return self.signature.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Declared outputs, in order."""
        return self.signature.outputs

    def infer(
        self, feeds: Mapping[str, Array], out: Mapping[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """Run the component once.

        Args:
            feeds: array per input name; dtypes and shapes as declared. Arrays on another
                device, or not contiguous, are copied.
            out: contiguous buffer per output name, on `device`, that receives the results.
                For buffers that come again and again, with feeds that stay where they are: a
                backend may keep memory for every set of them.

        Returns:
            tensor per output name, on `device`, owned by the caller; those of `out` if given.

        Raises:
            EngineError: wrong names, dtypes or shapes, a closed engine, or a backend failure.
        """
        if self._closed:
            raise EngineError(f"{self.component}: infer on a closed engine; open it again")
        axes = check_feeds(self.component, self.signature, feeds)
        tensors = {spec.name: self._place(feeds[spec.name]) for spec in self.inputs}
        if out is not None:
            results = check_outputs(self.component, self.signature, axes, self.device, out)
            self._run_bound(tensors, results)
            return results
        shapes = self.signature.resolve(self.outputs, axes)
        results = {
            spec.name: torch.empty(shape, dtype=spec.torch_dtype, device=self.device)
            for spec, shape in zip(self.outputs, shapes, strict=True)
        }
        self._run(tensors, results)
        return results

    def close(self) -> None:
        """Release the backend's memory; the engine cannot be used afterwards."""
        self._closed = True

    def _place(self, array: Array) -> torch.Tensor:
        if isinstance(array, np.ndarray):
            # torch refuses negative strides and warns about read-only memory
            array = np.require(array, requirements=("C", "W"))
            array = torch.from_numpy(array)
        return array.detach().to(self.device, non_blocking=self._is_ordered(array)).contiguous()

    def _is_ordered(self, array: torch.Tensor) -> bool:
        """Whether a copy here may go on behind the call: nobody can see it half-done.

        A copy to the host is read by the CPU, which waits for no stream; one from pinned memory
        reads what the caller may overwrite as soon as the call is over.
        """
        return self.device.type == "cuda" and (array.is_cuda or not array.is_pinned())

    @abstractmethod
    def _run(self, inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> None:
        """Fill the preallocated `outputs` from checked, contiguous `inputs` on `device`."""

    def _run_bound(self, inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> None:
        """The same for buffers that belong to the caller and come again in later calls."""
        self._run(inputs, outputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
