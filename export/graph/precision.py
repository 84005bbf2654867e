"""Strongly typed half-precision graphs from fp32 ones.

TensorRT since version 11 computes every operator in the type its graph says, so precision is a
property of the graph. Operators fall in three classes:

    products   convolutions and matrix products run in half precision: tensor cores, and all the
               time goes there
    followers  data movement and simple arithmetic keep the type of what they get
    the rest   norms, softmax, reductions, exponentials, comparisons run in fp32; a compiler fuses
               the casts around them into the neighbouring kernels

What a rounding or a comparison decides on stays in fp32 as well: pixel positions need more than
11 bits, and a mask logit near zero must not change sides.

Inputs and outputs of the graph stay fp32. Weights are converted one at a time while saving, so
memory stays at one tensor above the source file.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from xmask3d_rt.config import Precision
from xmask3d_rt.errors import EngineError
from xmask3d_rt.files import describe_write_errors

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
FOLLOWERS = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Relu", "Max", "Min", "Where"),
        *("Concat", "Split", "Slice", "Gather", "GatherND", "Expand", "Tile", "Pad"),
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity"),
        *("MaxPool", "AveragePool", "Resize", "DepthToSpace", "SpaceToDepth"),
    }
)
DECISIONS = frozenset(
    {
        *("Floor", "Ceil", "Round", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"),
        *("ArgMax", "ArgMin", "TopK"),
    }
)
DECISIVE_PRODUCTS = 2  # a bilinear resize written as matrices takes two
# Float inputs whose type does not follow the data: scales of Resize are always fp32.
_UNTYPED_INPUTS = {"Resize": (1, 2)}
HALF_TYPES = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}
FP16_MAX = 65504.0
_MASK_VALUE = 1e30  # constants beyond it stand for infinity in attention masks
BF16_OPSET = 22  # the first whose convolutions may be bf16; nothing used here changed since 18
EXTERNAL_DATA_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        half: operators that run in half precision.
        full: operators on fp32 values.
        casts: casts put between them.
    """

    half: int
    full: int
    casts: int


def convert_onnx(
    source: Path, target: Path, precision: Precision, keep: Collection[str] = ()
) -> Conversion:
    """Write a strongly typed copy of an fp32 ONNX file.

    Args:
        source: fp32 graph.
        target: file to write, with `.data` beside it where weights are large; not `source`.
        precision: `fp16` or `bf16`.
        keep: names of operators that stay in fp32, such as those of `find_overflows`.

    Raises:
        EngineError: fp32 asked for, or a weight that the type cannot hold.
    """
    if precision not in HALF_TYPES:
        raise EngineError(
            f"precision {precision} needs no conversion; choose one of {', '.join(HALF_TYPES)}"
        )
    model = ir.load(source)
    conversion = convert_model(model, precision, keep)
    save_onnx(model, target)
    return conversion


def convert_model(model: ir.Model, precision: Precision, keep: Collection[str] = ()) -> Conversion:
    """Convert a model in place; see `convert_onnx`."""
    LiftConstantsToInitializersPass()(model)
    remove_nan_guards(model.graph)
    if precision is Precision.BF16:
        # ONNX has no bf16 Einsum
        keep = [*keep, *(node.name or "" for node in model.graph if node.op_type == "Einsum")]
    converter = _Converter(model.graph, HALF_TYPES[precision], frozenset(keep))
    for node in list(model.graph):
        converter.convert(node)
    converter.restore_outputs()
    _drop_unused_weights(model.graph)
    if precision is Precision.BF16:
        model.opset_imports[""] = max(model.opset_imports[""], BF16_OPSET)
    return Conversion(converter.half, converter.full, converter.casts)


def save_onnx(model: ir.Model, target: Path) -> None:
    """Write a model, with its weights beside it where they are large.

    Raises:
        EngineError: a weight cannot be converted; nothing is left behind.
    """
    size = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    external = target.name + ".data" if size > EXTERNAL_DATA_BYTES else None
    try:
        with describe_write_errors(target):
            ir.save(model, target, external_data=external)
    except BaseException as error:
        target.unlink(missing_ok=True)
        target.with_name(target.name + ".data").unlink(missing_ok=True)
        cause: BaseException | None = error
        while cause is not None:  # the serializer wraps what a weight raises, level by level
            if isinstance(cause, EngineError):
                raise cause from None
            cause = cause.__cause__
        raise


def list_half_candidates(graph: ir.Graph) -> list[ir.Value]:
    """Values of an fp32 graph that `convert_model` would make half precision."""
    half: set[ir.Value] = set()
    decisive = find_decisive(graph)
    for node in graph:
        if node not in decisive and _runs_in_half(node, half):
            half.update(value for value in node.outputs if value.dtype == ir.DataType.FLOAT)
    return [value for node in graph for value in node.outputs if value in half]


def find_decisive(graph: ir.Graph) -> set[ir.Node]:
    """Operators whose results a rounding or a comparison sees.

    They reach one of `DECISIONS` through followers and sigmoids, and through at most
    `DECISIVE_PRODUCTS` products, themselves included.
    """
    passing = FOLLOWERS | PRODUCTS | {"Sigmoid"}
    behind: dict[ir.Node, int] = {}  # node → products between it and a decision, itself included
    for node in reversed(graph):
        if node.op_type not in passing:
            continue
        users = [use.node for value in node.outputs for use in value.uses()]
        counts = [behind[user] for user in users if user in behind]
        counts += [0 for user in users if user.op_type in DECISIONS]
        if counts and min(counts) + (node.op_type in PRODUCTS) <= DECISIVE_PRODUCTS:
            behind[node] = min(counts) + (node.op_type in PRODUCTS)
    return set(behind)


def remove_nan_guards(graph: ir.Graph) -> int:
    """Drop `where(isnan(x), 0, x)` behind attention; returns how many.

    They are for rows in which everything is masked, which the models here never attend with
    (such rows are unmasked first), and TensorRT's attention fusion fails on them.
    """
    removed = 0
    for node in list(graph):
        mask, value = (node.inputs[0], node.inputs[2]) if node.op_type == "Where" else (None, None)
        condition = None if mask is None else mask.producer()
        if value is None or condition is None or condition.op_type != "IsNaN":
            continue
        if condition.inputs[0] is value:
            ir.convenience.replace_all_uses_with(node.outputs[0], value)
            graph.remove(node, safe=True)
            if not condition.outputs[0].uses():
                graph.remove(condition, safe=True)
            removed += 1
    return removed


def _runs_in_half(node: ir.Node, half: Collection[ir.Value]) -> bool:
    """Whether a node is a product, or follows half-precision values alone."""
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in PRODUCTS:
        return all(value.dtype == ir.DataType.FLOAT for value in node.outputs)
    if node.op_type not in FOLLOWERS:
        return False
    data = [
        value
        for _, value in _float_inputs(node, (ir.DataType.FLOAT, *HALF_TYPES.values()))
        if value.const_value is None
    ]
    return bool(data) and all(value in half for value in data)


def _float_inputs(node: ir.Node, kinds: Collection[ir.DataType]) -> list[tuple[int, ir.Value]]:
    """Inputs of a node that share the type it computes in."""
    untyped = _UNTYPED_INPUTS.get(node.op_type, ())
    return [
        (i, value)
        for i, value in enumerate(node.inputs)
        if value is not None and value.dtype in kinds and i not in untyped
    ]


class _Converter:
    """Walks a graph in order, gives each node its type, and puts casts where types meet."""

    def __init__(self, graph: ir.Graph, kind: ir.DataType, keep: frozenset[str]) -> None:
        self.graph = graph
        self.kind = kind
        self.keep = keep
        self.decisive = find_decisive(graph)
        self.half_values: set[ir.Value] = set()
        self.cast_values: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.half = self.full = self.casts = 0

    def convert(self, node: ir.Node) -> None:
        """Type one node; its inputs come from nodes already typed."""
        kinds = (ir.DataType.FLOAT, self.kind)
        inputs = _float_inputs(node, kinds)
        floats = [value for value in node.outputs if value.dtype == ir.DataType.FLOAT]
        fixed = node.name in self.keep or node in self.decisive
        in_half = not fixed and _runs_in_half(node, self.half_values)
        wanted = self.kind if in_half else ir.DataType.FLOAT
        for i, value in inputs:
            if value.dtype != wanted:
                node.replace_input_with(i, self._cast(value, wanted, node))
        if in_half:
            self.half += 1
            for value in floats:
                value.dtype = self.kind
                self.half_values.add(value)
        elif inputs or floats:
            self.full += 1

    def restore_outputs(self) -> None:
        """Give graph outputs that became half precision their name and type back."""
        for i, value in enumerate(self.graph.outputs):
            if value.dtype != self.kind:
                continue
            name, shape = value.name, value.shape
            value.name = f"{name}_half"
            output = self._append_cast(value, ir.DataType.FLOAT)
            output.name, output.shape = name, shape
            self.graph.outputs[i] = output

    def _cast(self, value: ir.Value, kind: ir.DataType, before: ir.Node) -> ir.Value:
        """`value` in another type: a converted weight, or a cast shared by all who need it."""
        if (value, kind) not in self.cast_values:
            if value.const_value is not None and value.is_initializer():
                converted = self._convert_weight(value, kind)
            else:
                cast = self._make_cast(value, kind)
                self.graph.insert_before(before, cast)
                converted = cast.outputs[0]
            self.cast_values[value, kind] = converted
        return self.cast_values[value, kind]

    def _append_cast(self, value: ir.Value, kind: ir.DataType) -> ir.Value:
        cast = self._make_cast(value, kind)
        self.graph.append(cast)
        return cast.outputs[0]

    def _make_cast(self, value: ir.Value, kind: ir.DataType) -> ir.Node:
        self.casts += 1
        name = f"{value.name}_to_{kind.name.lower()}"
        output = ir.Value(name=name, type=ir.TensorType(kind), shape=value.shape)
        return ir.node("Cast", [value], {"to": int(kind)}, outputs=[output], name=f"cast_{name}")

    def _convert_weight(self, value: ir.Value, kind: ir.DataType) -> ir.Value:
        """A weight in half precision; the fp32 one goes when nothing else uses it."""
        source: Any = value.const_value
        name = f"{value.name}_{kind.name.lower()}"
        tensor = ir.LazyTensor(
            lambda: ir.Tensor(_round_weight(source.numpy(), kind, name), dtype=kind, name=name),
            dtype=kind,
            shape=ir.Shape(list(source.shape)),
            name=name,
        )
        weight = ir.Value(
            name=name, type=ir.TensorType(kind), shape=value.shape, const_value=tensor
        )
        self.graph.register_initializer(weight)
        return weight


def _drop_unused_weights(graph: ir.Graph) -> None:
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def _round_weight(array: np.ndarray, kind: ir.DataType, name: str) -> np.ndarray:
    """Round to nearest; mask constants beyond the range become its end.

    Raises:
        EngineError: a weight beyond the range of fp16.
    """
    if kind == ir.DataType.FLOAT16:
        large = np.abs(array) > FP16_MAX
        if np.any(large & np.isfinite(array) & (np.abs(array) < _MASK_VALUE)):
            raise EngineError(
                f"weight {name} reaches {np.abs(array).max():.3g}, more than fp16 holds; "
                f"choose bf16 or fp32"
            )
        if large.any():
            array = np.clip(array, -FP16_MAX, FP16_MAX)
    return array.astype(kind.numpy())
