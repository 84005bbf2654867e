"""A torch module to an ONNX file, as its contract says.

Opset 18: normalisation becomes InstanceNormalization, attention becomes MatMul and Softmax,
which ONNX Runtime, OpenVINO and TensorRT all take; TensorRT-RTX fails on the Attention operator
of opset 23.
"""

from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor, nn

from xmask3d_rt.engines.backend import ONNX_NAME
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.graph.contracts import Contract
from xmask3d_rt.export.graph.patches import patched
from xmask3d_rt.export.graph.simplify import simplify
from xmask3d_rt.export.graph.tracing import list_dynamic_shapes, quiet
from xmask3d_rt.files import describe_write_errors

OPSET = 18
LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")  # of notes about optional packages
# A protobuf message ends at 2 GiB; smaller graphs keep large weights apart too, because a
# backend maps external data into memory and has to parse and copy anything inside.
EXTERNAL_DATA_BYTES = 256 * 1024**2


def export_onnx(
    module: nn.Module, contract: Contract, inputs: tuple[Tensor, ...], folder: Path
) -> Path:
    """Trace a component and write `model.onnx`, with `model.onnx.data` where it is large.

    Args:
        module: in evaluation mode; its forward takes and returns what the contract lists.
        contract: names, axes and dtypes.
        inputs: example inputs, in the contract's order.
        folder: existing folder to write into.

    Returns:
        the path of `model.onnx`.

    Raises:
        EngineError: the exporter cannot express the module.
    """
    signature = contract.signature
    path = folder / ONNX_NAME
    try:
        with patched(contract.name, module), quiet(LOGGERS, FutureWarning), torch.no_grad():
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=[spec.name for spec in signature.inputs],
                output_names=[spec.name for spec in signature.outputs],
                dynamic_shapes=list_dynamic_shapes(signature),
                optimize=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        cause = _root_cause(error)
        raise EngineError(
            f"{contract.name}: cannot be exported to ONNX: {type(cause).__name__}: {cause}"
        ) from error
    if program is None:
        raise EngineError(f"{contract.name}: the ONNX exporter returned no program")
    with quiet(LOGGERS, FutureWarning):
        simplify(program.model)
    _strip_notes(program.model)
    with describe_write_errors(path):
        program.save(str(path), external_data=_weight_bytes(module) > EXTERNAL_DATA_BYTES)
    return path


def _strip_notes(model: ir.Model) -> None:
    """Remove what the exporter notes about its own source lines: paths of this machine."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


def _root_cause(error: BaseException) -> BaseException:
    """What the exporter's report of several pages began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _weight_bytes(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in module.state_dict().values())
