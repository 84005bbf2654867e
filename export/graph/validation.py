"""The check after every export: names → axes → shapes → values, against the torch module.

Inputs are seeded and look like real ones: smooth images with some noise, blob-shaped masks, ids
between a start and an end token. Values are compared by relative L2 error,
‖engine − torch‖ / ‖torch‖, per output.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.base import Axis, Engine, TensorSpec
from xmask3d_rt.engines.component import Parity
from xmask3d_rt.errors import ExportMismatch
from xmask3d_rt.export.graph.contracts import Contract
from xmask3d_rt.text.tokenizer import END_TOKEN, START_TOKEN

SEED = 7
_COARSE = 8  # pixels per cell of the smooth part of an image-like input

_ONNX_DTYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "bfloat16": onnx.TensorProto.BFLOAT16,
    "int64": onnx.TensorProto.INT64,
    "int32": onnx.TensorProto.INT32,
    "uint8": onnx.TensorProto.UINT8,
    "bool": onnx.TensorProto.BOOL,
}


def make_inputs(
    contract: Contract, axes: Mapping[str, int] | None = None, seed: int = SEED
) -> tuple[Tensor, ...]:
    """Seeded inputs of a component, in the contract's order.

    Args:
        contract: names, axes and dtypes.
        axes: sizes of symbolic axes; the profile's `opt` by default.
        seed: of the generator.
    """
    signature = contract.signature
    shapes = signature.resolve(signature.inputs, axes or signature.optimal_axes())
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        _make_input(spec, shape, generator)
        for spec, shape in zip(signature.inputs, shapes, strict=True)
    )


def _make_input(spec: TensorSpec, shape: list[int], generator: torch.Generator) -> Tensor:
    if spec.name == "token_ids":
        return _make_token_ids(shape, generator)
    noise = torch.randn(shape, generator=generator)
    if len(shape) != 4:
        return noise
    smooth = _smooth_noise(shape, generator)
    if spec.name == "image":
        return (0.5 + 0.2 * smooth + 0.02 * noise).clamp(0, 1)
    if spec.name == "pred_masks":
        return 4 * smooth - 2 + 0.1 * noise
    return 0.9 * smooth + 0.4 * noise


def _smooth_noise(shape: list[int], generator: torch.Generator) -> Tensor:
    """Unit-variance noise with structure of about `_COARSE` pixels."""
    batch, channels, height, width = shape
    cells = (max(2, height // _COARSE), max(2, width // _COARSE))
    coarse = torch.randn(batch, channels, *cells, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return smooth / smooth.std()


def _make_token_ids(shape: list[int], generator: torch.Generator) -> Tensor:
    """Rows of one to eight words between the start and the end token, then zeros."""
    rows, length = shape
    ids = torch.zeros(shape, dtype=torch.int64)
    lengths = torch.randint(1, min(9, length - 1), (rows,), generator=generator)
    words = torch.randint(1, START_TOKEN, (rows, length), generator=generator)
    for row, count in enumerate(lengths.tolist()):
        ids[row, 0] = START_TOKEN
        ids[row, 1 : 1 + count] = words[row, :count]
        ids[row, 1 + count] = END_TOKEN
    return ids


def compute_reference(
    contract: Contract, module: nn.Module, inputs: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Outputs of the torch module by the contract's names.

    Raises:
        ExportMismatch: the module returns another number of outputs than declared.
    """
    with torch.no_grad():
        outputs = module(*inputs)
    names = [spec.name for spec in contract.signature.outputs]
    if len(outputs) != len(names):
        raise ExportMismatch(
            f"{contract.name}: the module returns {len(outputs)} outputs, declared are {names}"
        )
    return dict(zip(names, outputs, strict=True))


def check_graph(contract: Contract, path: Path) -> None:
    """Compare the names, dtypes and axes in an ONNX file with the contract.

    Raises:
        ExportMismatch: the first difference.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    found_inputs = [value for value in graph.input if value.name not in weights]
    for kind, specs, found in (
        ("inputs", contract.signature.inputs, found_inputs),
        ("outputs", contract.signature.outputs, list(graph.output)),
    ):
        names, declared = [value.name for value in found], [spec.name for spec in specs]
        if names != declared:
            raise ExportMismatch(
                f"{contract.name}: exported {kind} are {names}, declared are {declared}"
            )
        for spec, value in zip(specs, found, strict=True):
            _check_value(contract, spec, value)


def _check_value(contract: Contract, spec: TensorSpec, value: onnx.ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    if tensor.elem_type != _ONNX_DTYPES[spec.dtype]:
        found = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise ExportMismatch(f"{contract.name}: {spec} was exported with dtype {found}")
    axes = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    declared = [_exported_axis(contract, axis) for axis in spec.shape]
    if axes != declared:
        raise ExportMismatch(
            f"{contract.name}: {spec} was exported with axes {axes}, declared are {declared}"
        )


def _exported_axis(contract: Contract, axis: Axis) -> Axis:
    """A symbolic axis with one possible size is exported as that size."""
    if isinstance(axis, int):
        return axis
    bounds = contract.signature.profile[axis]
    return bounds.opt if bounds.min == bounds.max else axis


def check_values(
    contract: Contract,
    engine: Engine,
    inputs: Sequence[Tensor],
    expected: Mapping[str, Tensor],
    precision: Precision,
) -> Parity:
    """Run an engine and compare shapes and values with the torch module's.

    Args:
        contract: names and tolerances.
        engine: the loaded export.
        inputs: in the contract's order.
        expected: output per name, from `compute_reference`.
        precision: decides the tolerance.

    Returns:
        what the manifest records.

    Raises:
        ExportMismatch: a shape differs, a value is not finite, or an error is too large.
    """
    names = [spec.name for spec in contract.signature.inputs]
    outputs = engine.infer(dict(zip(names, inputs, strict=True)))
    errors = {}
    for name, reference in expected.items():
        found = outputs[name].cpu()
        where = f"{contract.name}: output {name} of {engine.backend} {precision}"
        if found.shape != reference.shape:
            raise ExportMismatch(
                f"{where} has shape {list(found.shape)}, the module gives {list(reference.shape)}"
            )
        for tensor, made_by in ((reference, "the torch module"), (found, "the engine")):
            if not bool(torch.isfinite(tensor).all()):
                raise ExportMismatch(f"{where}: what {made_by} gives is not finite")
        errors[name] = relative_error(found, reference)
        allowed = contract.tolerance(name, precision)
        if not errors[name] <= allowed:
            raise ExportMismatch(
                f"{where} differs from the torch module by {errors[name]:.2e} (relative L2), "
                f"allowed is {allowed:.0e}"
            )
    tolerances = {name: contract.tolerance(name, precision) for name in expected}
    return Parity(reference="torch module, fp32", tolerances=tolerances, errors=errors)


def relative_error(found: Tensor, reference: Tensor) -> float:
    """‖found − reference‖ / ‖reference‖ in float64; zero where both are zero."""
    found, reference = found.double(), reference.double()
    difference = float((found - reference).norm())
    return difference / max(float(reference.norm()), 1e-30) if difference else 0.0
