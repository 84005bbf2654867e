"""Strongly typed half-precision graphs: types, values, and what must stay in fp32."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from xmask3d_rt.config import Precision
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.graph.precision import convert_onnx
from xmask3d_rt.export.graph.ranges import find_overflows, measure_ranges

SIDE, CHANNELS = 12, 8
RNG = np.random.default_rng(5)
FLOAT, HALF, BF16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16


def weight(name, *shape, scale=1.0):
    fan_in = int(np.prod(shape[1:])) or 1
    values = RNG.standard_normal(shape) * scale / np.sqrt(fan_in)
    return numpy_helper.from_array(values.astype(np.float32), name)


def save(path, nodes, weights, inputs, outputs):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)
    return path


@pytest.fixture
def block(tmp_path):
    """Convolution, group norm, attention over pixels with a residual: one of everything."""
    tokens, image = [1, SIDE * SIDE, CHANNELS], [1, CHANNELS, SIDE, SIDE]
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w0"], ["c"], name="conv", pads=[1] * 4),
        make("Reshape", ["c", "groups"], ["g"], name="group"),
        make("InstanceNormalization", ["g", "one", "zero"], ["n"], name="norm"),
        make("Reshape", ["n", "image"], ["ni"], name="ungroup"),
        make("Sigmoid", ["ni"], ["s"], name="sigmoid"),
        make("Mul", ["ni", "s"], ["a"], name="silu"),
        make("Conv", ["a", "w1"], ["d"], name="conv2", pads=[1] * 4),
        make("Add", ["d", "c"], ["r"], name="residual"),
        make("Reshape", ["r", "flat"], ["f"], name="flatten"),
        make("Transpose", ["f"], ["t"], name="tokens", perm=[0, 2, 1]),
        make("MatMul", ["t", "f"], ["logits"], name="attend"),
        make("Softmax", ["logits"], ["p"], name="softmax", axis=-1),
        make("MatMul", ["p", "t"], ["y"], name="mix"),
    ]
    weights = [
        weight("w0", CHANNELS, 3, 3, 3),
        weight("w1", CHANNELS, CHANNELS, 3, 3),
        numpy_helper.from_array(np.ones(2, np.float32), "one"),
        numpy_helper.from_array(np.zeros(2, np.float32), "zero"),
        numpy_helper.from_array(np.array([1, 2, -1], np.int64), "groups"),
        numpy_helper.from_array(np.array(image, np.int64), "image"),
        numpy_helper.from_array(np.array([1, CHANNELS, -1], np.int64), "flat"),
    ]
    outputs = [("y", FLOAT, tokens), ("c", FLOAT, image)]
    inputs = [("x", FLOAT, [1, 3, SIDE, SIDE])]
    return save(tmp_path / "block.onnx", nodes, weights, inputs, outputs)


def run(path, **feeds):
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def image_input():
    return np.random.default_rng(1).standard_normal((1, 3, SIDE, SIDE), dtype=np.float32)


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def types_of(path):
    """Operator name → element type of its first result, casts left out."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    return {n.name: kinds[n.output[0]] for n in graph.node if n.op_type != "Cast"}


def test_fp16_values(block, tmp_path):
    report = convert_onnx(block, tmp_path / "half.onnx", Precision.FP16)
    assert report.half > 4
    assert report.casts > 2
    x = image_input()
    for found, expected in zip(run(tmp_path / "half.onnx", x=x), run(block, x=x), strict=True):
        assert found.dtype == np.float32
        # rounding to 11 bits a few layers deep; exactly 0 would mean nothing was converted
        assert 1e-5 < relative(found, expected) < 2e-3


@pytest.mark.parametrize(("precision", "kind"), [(Precision.FP16, HALF), (Precision.BF16, BF16)])
def test_types_by_operator_class(block, tmp_path, precision, kind):
    convert_onnx(block, tmp_path / "half.onnx", precision)
    onnx.checker.check_model(tmp_path / "half.onnx", full_check=True)
    types = types_of(tmp_path / "half.onnx")
    halves = {name for name, found in types.items() if found == kind}
    assert halves == {"conv", "group", "conv2", "residual", "flatten", "tokens", "attend", "mix"}
    assert {types[name] for name in ("norm", "silu", "softmax")} == {FLOAT}


def test_inputs_and_outputs_keep_names_types_and_order(block, tmp_path):
    convert_onnx(block, tmp_path / "half.onnx", Precision.FP16)
    graph, source = onnx.load(tmp_path / "half.onnx").graph, onnx.load(block).graph
    for found, expected in ((graph.input, source.input), (graph.output, source.output)):
        assert [v.name for v in found] == [v.name for v in expected]
        assert {v.type.tensor_type.elem_type for v in found} == {FLOAT}


def test_weights_are_stored_once_in_half(block, tmp_path):
    convert_onnx(block, tmp_path / "half.onnx", Precision.FP16)
    weights = {w.name: w.data_type for w in onnx.load(tmp_path / "half.onnx").graph.initializer}
    assert weights["w0_float16"] == weights["w1_float16"] == HALF
    assert "w0" not in weights
    assert weights["one"] == FLOAT


def test_bf16_values(block, tmp_path):
    ov = pytest.importorskip("openvino")
    convert_onnx(block, tmp_path / "half.onnx", Precision.BF16)
    x = image_input()
    compiled = ov.Core().compile_model(
        str(tmp_path / "half.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = compiled({"x": x})
    for i, expected in enumerate(run(block, x=x)):
        assert 1e-4 < relative(found[i], expected) < 2e-2


def test_external_data(block, tmp_path, monkeypatch):
    monkeypatch.setattr("xmask3d_rt.export.graph.precision.EXTERNAL_DATA_BYTES", 1)
    convert_onnx(block, tmp_path / "half.onnx", Precision.FP16)
    assert (tmp_path / "half.onnx.data").is_file()
    x = image_input()
    assert relative(run(tmp_path / "half.onnx", x=x)[0], run(block, x=x)[0]) < 2e-3


def test_kept_operators_stay_fp32(block, tmp_path):
    convert_onnx(block, tmp_path / "half.onnx", Precision.FP16, keep=["attend", "mix"])
    types = types_of(tmp_path / "half.onnx")
    assert types["attend"] == types["mix"] == FLOAT
    assert types["conv"] == HALF


@pytest.fixture
def sampler(tmp_path):
    """Products whose result becomes a pixel position, and a guarded attention weight."""
    make = helper.make_node
    nodes = [
        make("MatMul", ["x", "w"], ["e"], name="embed"),
        make("MatMul", ["e", "w2"], ["n"], name="near"),
        make("MatMul", ["n", "w"], ["offset"], name="product"),
        make("Mul", ["offset", "size"], ["scaled"], name="scale"),
        make("Add", ["scaled", "half"], ["position"], name="position"),
        make("Floor", ["position"], ["cell"], name="floor"),
        make("Softmax", ["offset"], ["p"], name="softmax"),
        make("IsNaN", ["p"], ["bad"], name="isnan"),
        make("Where", ["bad", "zero", "p"], ["guarded"], name="guard"),
        make("MatMul", ["guarded", "w2"], ["y"], name="mix"),
    ]
    weights = [
        weight("w", 6, 6),
        weight("w2", 6, 6),
        numpy_helper.from_array(np.array(640.0, np.float32), "size"),
        numpy_helper.from_array(np.array(0.5, np.float32), "half"),
        numpy_helper.from_array(np.array(0.0, np.float32), "zero"),
    ]
    shape = [4, 6]
    return save(
        tmp_path / "sampler.onnx",
        nodes,
        weights,
        [("x", FLOAT, shape)],
        [("cell", FLOAT, shape), ("y", FLOAT, shape)],
    )


def test_what_decides_stays_fp32_and_guards_go(sampler, tmp_path):
    convert_onnx(sampler, tmp_path / "half.onnx", Precision.FP16)
    types = types_of(tmp_path / "half.onnx")
    assert types["embed"] == types["mix"] == HALF
    assert types["near"] == types["product"] == FLOAT
    assert types["scale"] == types["position"] == types["floor"] == FLOAT
    assert "guard" not in types
    assert "isnan" not in types
    x = RNG.standard_normal((4, 6), dtype=np.float32)
    assert relative(run(tmp_path / "half.onnx", x=x)[1], run(sampler, x=x)[1]) < 2e-3


def test_overflow_is_found_and_kept(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["large"], name="large"),
        helper.make_node("MatMul", ["large", "v"], ["y"], name="back"),
    ]
    weights = [weight("w", 16, 16, scale=3e5), weight("v", 16, 16, scale=1e-2)]
    io = ("x", FLOAT, [4, 16]), ("y", FLOAT, [4, 16])
    path = save(tmp_path / "large.onnx", nodes, weights, [io[0]], [io[1]])
    x = np.random.default_rng(2).standard_normal((4, 16), dtype=np.float32)
    ranges = measure_ranges(path, {"x": x})
    matrix = numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    assert ranges["large"] == pytest.approx(np.abs(x @ matrix).max(), rel=1e-5)
    found = find_overflows(path, {"x": x})
    assert list(found) == ["large"]
    with pytest.raises(EngineError, match=r"w_float16 reaches .* choose bf16 or fp32"):
        convert_onnx(path, tmp_path / "overflow.onnx", Precision.FP16)
    assert not (tmp_path / "overflow.onnx").exists()
    convert_onnx(path, tmp_path / "kept.onnx", Precision.FP16, keep=found)
    assert relative(run(tmp_path / "kept.onnx", x=x)[0], run(path, x=x)[0]) < 2e-3


def test_fp32_rejected(block, tmp_path):
    with pytest.raises(EngineError, match="fp32 needs no conversion; choose one of fp16, bf16"):
        convert_onnx(block, tmp_path / "half.onnx", Precision.FP32)


def test_a_range_that_is_not_a_number_is_kept(tmp_path):
    """inf − inf in the graph: an operator whose range nobody knows stays in fp32."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["large"], name="large"),
        helper.make_node("MatMul", ["large", "v"], ["y"], name="back"),
    ]
    weights = [weight("w", 4, 4, scale=1e38), weight("v", 4, 4, scale=1e38)]
    path = save(
        tmp_path / "nan.onnx", nodes, weights, [("x", FLOAT, [2, 4])], [("y", FLOAT, [2, 4])]
    )
    x = np.full((2, 4), 1e3, np.float32) * np.array([1, -1, 1, -1], np.float32)
    assert set(find_overflows(path, {"x": x})) == {"large", "back"}
