"""The ladder names → axes → shapes → values stops at every kind of difference."""

import dataclasses

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from xmask3d_rt.config import Precision, get_preset
from xmask3d_rt.engines import AxisRange, Engine, Signature, TensorSpec
from xmask3d_rt.errors import ExportMismatch
from xmask3d_rt.export.graph.contracts import Contract, get_contract
from xmask3d_rt.export.graph.validation import (
    check_graph,
    check_values,
    compute_reference,
    make_inputs,
    relative_error,
)

SIGNATURE = Signature(
    inputs=(TensorSpec("x", "float32", ("B", "T", 4)),),
    outputs=(TensorSpec("y", "float32", ("B", "T")),),
    profile={"B": AxisRange(1, 1, 1), "T": AxisRange(1, 3, 9)},
)
CONTRACT = Contract("sum", SIGNATURE, (), {"y": 1e-5})


class Sum(torch.nn.Module):
    def forward(self, x):
        return (x.sum(-1),)


class FakeEngine(Engine):
    """The sum with a flaw."""

    backend = "fake"

    def __init__(self, flaw):
        super().__init__("sum", SIGNATURE, torch.device("cpu"))
        self.flaw = flaw

    def _run(self, inputs, outputs):
        outputs["y"].copy_(self.flaw(inputs["x"].sum(-1)))


def write_graph(path, input_name="x", output_name="y", dtype=TensorProto.FLOAT, axis="T"):
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", [input_name, "axes"], [output_name], keepdims=0)],
        "sum",
        [helper.make_tensor_value_info(input_name, dtype, [1, axis, 4])],
        [helper.make_tensor_value_info(output_name, dtype, [1, axis])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [-1])],
    )
    onnx.save(helper.make_model(graph), path)
    return path


def test_matching_graph_accepted(tmp_path):
    check_graph(CONTRACT, write_graph(tmp_path / "model.onnx"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_name": "image"}, r"exported inputs are \['image'\], declared are \['x'\]"),
        ({"output_name": "z"}, r"exported outputs are \['z'\], declared are \['y'\]"),
        ({"dtype": TensorProto.FLOAT16}, r"x \[B, T, 4\] float32 was exported with dtype FLOAT16"),
        ({"axis": "rows"}, r"axes \[1, 'rows', 4\], declared are \[1, 'T', 4\]"),
        ({"axis": 3}, r"axes \[1, 3, 4\], declared are \[1, 'T', 4\]"),
    ],
)
def test_other_graph_rejected(tmp_path, change, message):
    with pytest.raises(ExportMismatch, match=message):
        check_graph(CONTRACT, write_graph(tmp_path / "model.onnx", **change))


def run_check(flaw, precision=Precision.FP32):
    inputs = make_inputs(CONTRACT)
    expected = compute_reference(CONTRACT, Sum(), inputs)
    return check_values(CONTRACT, FakeEngine(flaw), inputs, expected, precision)


def test_equal_values_accepted():
    parity = run_check(lambda y: y * (1 + 1e-6))
    assert parity.errors["y"] == pytest.approx(1e-6, rel=0.2)
    assert parity.tolerances == {"y": 1e-5}


def test_half_precision_may_differ_more():
    assert run_check(lambda y: y * 1.01, Precision.BF16).errors["y"] == pytest.approx(1e-2, rel=0.1)


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        (lambda y: y * 1.01, r"output y of fake fp32 differs .* 1.00e-02 .* allowed is 1e-05"),
        (lambda y: y * torch.nan, "what the engine gives is not finite"),
    ],
)
def test_other_values_rejected(flaw, message):
    with pytest.raises(ExportMismatch, match=message):
        run_check(flaw)


def test_other_shape_rejected():
    inputs = make_inputs(CONTRACT)
    expected = {"y": torch.zeros(1, 4)}
    with pytest.raises(ExportMismatch, match=r"has shape \[1, 3\], the module gives \[1, 4\]"):
        check_values(CONTRACT, FakeEngine(lambda y: y), inputs, expected, Precision.FP32)


def test_number_of_outputs_rejected():
    two = dataclasses.replace(
        SIGNATURE, outputs=(*SIGNATURE.outputs, TensorSpec("z", "float32", ("T",)))
    )
    contract = dataclasses.replace(CONTRACT, signature=two)
    with pytest.raises(ExportMismatch, match="returns 1 outputs, declared are"):
        compute_reference(contract, Sum(), make_inputs(contract))


def test_relative_error():
    assert relative_error(torch.zeros(3), torch.zeros(3)) == 0
    assert relative_error(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.2)


def test_inputs_look_like_real_ones():
    config = get_preset("tiny")
    image, masks = make_inputs(get_contract("mask_clip", config))
    assert 0 <= image.min() < image.max() <= 1
    share = (masks > 0).float().mean((2, 3))
    assert 0.05 < share.mean() < 0.95
    (token_ids,) = make_inputs(get_contract("text_encoder", config), {"T": 5})
    assert token_ids.shape == (5, 77)
    assert token_ids[:, 0].eq(49406).all()
    assert token_ids.eq(49407).sum(1).eq(1).all()
    again = make_inputs(get_contract("text_encoder", config), {"T": 5})
    assert torch.equal(token_ids, again[0])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("engine_too", [False, True])
def test_reference_that_is_not_finite_rejected(value, engine_too):
    """`error > allowed` is false for NaN: such a component must not pass."""
    inputs = make_inputs(CONTRACT)
    expected = {"y": inputs[0].sum(-1) * value}
    engine = FakeEngine((lambda y: y * value) if engine_too else (lambda y: y))
    with pytest.raises(ExportMismatch, match=r"what the torch module gives is not finite"):
        check_values(CONTRACT, engine, inputs, expected, Precision.FP32)
