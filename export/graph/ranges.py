"""How large activations get, so that operators that would overflow fp16 stay in fp32."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from xmask3d_rt.engines.onnxruntime import import_onnxruntime
from xmask3d_rt.export.graph.precision import FP16_MAX, list_half_candidates

# Other images reach other values; an operator stays in fp32 from this fraction of the range on.
HEADROOM = 8


def find_overflows(source: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Operators of an fp32 graph whose results come near the end of the fp16 range.

    Args:
        source: fp32 graph.
        feeds: representative inputs.

    Returns:
        operator name → largest absolute value; what `convert_onnx` takes as `keep`.
    """
    limit = FP16_MAX / HEADROOM
    ranges = measure_ranges(source, feeds)
    return {name: value for name, value in ranges.items() if not value <= limit}


def measure_ranges(source: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Largest absolute value of every result that a conversion would make half precision.

    Args:
        source: fp32 graph.
        feeds: inputs of one run.

    Returns:
        operator name → largest absolute value among its results.
    """
    model = ir.load(source)
    producers = _add_probes(model)
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(source.parent.resolve())
    )
    content = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    ranges: dict[str, float] = {}
    results = session.run(list(producers), dict(feeds))
    for node, value in zip(producers.values(), results, strict=True):
        ranges[node] = float(np.maximum(ranges.get(node, 0.0), value))  # NaN stays NaN
    return ranges


def _add_probes(model: ir.Model) -> dict[str, str]:
    """Add max |x| of every half-precision candidate as a graph output: output → operator."""
    graph = model.graph
    producers = {}
    for i, value in enumerate(list_half_candidates(graph)):
        producer = value.producer()
        if producer is None:
            continue
        magnitude = ir.node("Abs", [value])
        largest = ir.node("ReduceMax", [magnitude.outputs[0]], {"keepdims": 0})
        output = largest.outputs[0]
        output.name, output.dtype, output.shape = f"probe_{i}", ir.DataType.FLOAT, ir.Shape([])
        magnitude.outputs[0].name = f"probe_{i}_magnitude"
        graph.extend([magnitude, largest])
        graph.outputs.append(output)
        producers[output.name] = producer.name or ""
    return producers
