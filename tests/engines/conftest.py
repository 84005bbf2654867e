"""A small ONNX component: y = x @ W + b for any number of rows, z = |x| summed over features."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from xmask3d_rt.config import Precision, get_preset
from xmask3d_rt.engines import (
    AxisRange,
    Component,
    Manifest,
    Parity,
    Signature,
    TensorSpec,
    WeightSource,
)
from xmask3d_rt.engines.files import describe_file

FEATURES, OUT = 5, 3


@pytest.fixture(scope="session")
def linear_weights():
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal((FEATURES, OUT), dtype=np.float32),
        rng.standard_normal(OUT, dtype=np.float32),
    )


@pytest.fixture(scope="session")
def linear_signature():
    return Signature(
        inputs=(TensorSpec("x", "float32", ("T", FEATURES)),),
        outputs=(
            TensorSpec("y", "float32", ("T", OUT)),
            TensorSpec("z", "float32", ("T",)),
        ),
        profile={"T": AxisRange(1, 4, 16)},
    )


@pytest.fixture(scope="session")
def linear_onnx(tmp_path_factory, linear_weights):
    weight, bias = linear_weights
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "b"], ["y"]),
            helper.make_node("Abs", ["x"], ["a"]),
            helper.make_node("ReduceSum", ["a", "axes"], ["z"], keepdims=0),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", FEATURES])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", OUT]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, ["T"]),
        ],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(bias, "b"),
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path_factory.mktemp("linear") / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def manifest(tmp_path, linear_onnx, linear_signature):
    """A directory with one ONNX component and one file of plain weights."""
    root = tmp_path / "engines"
    (root / "linear").mkdir(parents=True)
    model = root / "linear" / "model.onnx"
    model.write_bytes(linear_onnx.read_bytes())
    heads = root / "heads.safetensors"
    heads.write_bytes(b"weights" * 100)
    linear = Component(
        name="linear",
        backend="onnxruntime",
        precision=Precision.FP32,
        files=(describe_file(model, "linear/model.onnx"),),
        signature=linear_signature,
        fingerprint="abc",
        parity=Parity("torch fp32", {"y": 1e-5, "z": 1e-5}, {"y": 1e-7, "z": 0.0}),
        opset=18,
        reason="reference",
    )
    plain = Component(
        name="heads",
        backend="torch",
        precision=Precision.FP32,
        files=(describe_file(heads),),
        signature=None,
        fingerprint="def",
        parity=None,
    )
    built = Manifest(
        config=get_preset("tiny"),
        weights=WeightSource("synthetic"),
        versions={"torch": "2.13.0"},
        components={"linear": linear, "heads": plain},
        root=root,
    )
    built.save()
    return built
