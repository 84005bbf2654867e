"""Operators are declared once: schema, structures, launchers and gradients by name."""

import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from xmask3d_rt import kernels
from xmask3d_rt.kernels.dispatch import Operator


class Line(NamedTuple):
    slope: Tensor
    offset: Tensor | None


class Ends(NamedTuple):
    low: Tensor
    high: Tensor


def reference(
    x: Tensor, line: Line, shift: Line | None, sizes: Sequence[int], scale: float, flip: bool
) -> Ends:
    y = x * line.slope * scale
    y = y if line.offset is None else y + line.offset
    y = y if shift is None else y + shift.slope
    return Ends(y, y + sizes[0] - sizes[1]) if not flip else Ends(y + 1, y.clone())


def make_outputs(x: Tensor, **_) -> Ends:
    return Ends(torch.empty_like(x), torch.empty_like(x))


LINES = Operator("test_lines", reference, make_outputs)


def list_operators() -> list[Operator]:
    found = {}
    for info in pkgutil.walk_packages(kernels.__path__, kernels.__name__ + "."):
        if info.name.endswith((".op", ".types")):
            module = importlib.import_module(info.name)
            found |= {one.name: one for one in vars(module).values() if isinstance(one, Operator)}
    return list(found.values())


def test_schema_names_each_tensor_of_a_structure():
    assert str(torch.ops.xmask3d.test_lines.default._schema) == (
        "xmask3d::test_lines(Tensor x, Tensor line_slope, Tensor? line_offset, "
        "Tensor? shift_slope, Tensor? shift_offset, SymInt[] sizes, float scale, bool flip) "
        "-> (Tensor, Tensor)"
    )


@pytest.mark.parametrize("shift", [None, Line(torch.ones(3), None)])
@pytest.mark.parametrize("offset", [None, torch.full((3,), 5.0)])
def test_reference_and_operator_take_the_same_arguments(shift, offset):
    arguments = {
        "x": torch.arange(3.0),
        "line": Line(torch.full((3,), 2.0), offset),
        "shift": shift,
        "sizes": (4, 3),
        "scale": 0.1,
        "flip": False,
    }
    expected = reference(**arguments)
    for found in (LINES(**arguments), LINES(*arguments.values())):
        assert isinstance(found, Ends)
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours, theirs)
    assert "launcher" not in vars(LINES)  # a CPU needs none, and so no Triton


def test_operator_with_structures_is_well_formed():
    x = torch.rand(3)
    arguments = (x, x + 1, None, None, None, (4, 3), 0.5, True)
    torch.library.opcheck(torch.ops.xmask3d.test_lines.default, arguments)


def test_mutated_structure_is_named_in_the_schema():
    def add(ends: Ends, x: Tensor) -> None:
        ends.low.add_(x)
        ends.high.add_(x)

    adding = Operator("test_adding", add, lambda **_: None, mutates=("ends",))
    ends = Ends(torch.zeros(2), torch.ones(2))
    assert adding(ends, torch.ones(2)) is None
    assert ends.high.tolist() == [2, 2]
    schema = str(torch.ops.xmask3d.test_adding.default._schema)
    assert schema.endswith(
        "test_adding(Tensor(a0!) ends_low, Tensor(a1!) ends_high, Tensor x) -> ()"
    )


def test_gradients_are_given_by_name():
    def scale(x: Tensor, line: Line, factor: float) -> Tensor:
        return x * line.slope * factor

    def save(ctx, output, x, line, factor):
        ctx.save_for_backward(x, line.slope)
        ctx.factor = factor

    def backward(ctx, grad):
        x, slope = ctx.saved_tensors
        return {"line_slope": grad * x * ctx.factor, "x": grad * slope * ctx.factor}

    scaling = Operator("test_scaling", scale, lambda x, **_: torch.empty_like(x))
    scaling.define_backward(backward, save)
    x, slope = torch.rand(3, requires_grad=True), torch.rand(3, requires_grad=True)
    found = torch.autograd.grad(scaling(x, Line(slope, None), 3.0).sum(), (x, slope))
    assert torch.equal(found[0], slope * 3)
    assert torch.equal(found[1], x * 3)


def test_missing_argument_rejected():
    with pytest.raises(TypeError, match="missing a required argument: 'line'"):
        LINES(x=torch.rand(3))


def test_every_operator_has_a_launcher_of_its_signature():
    pytest.importorskip("triton", reason="launchers need Triton")
    operators = list_operators()
    assert len(operators) == 15
    for operator in operators:
        launcher = operator.launcher
        assert launcher.__module__.endswith(".launch"), operator.name
        assert inspect.signature(launcher) == operator.signature, operator.name


def test_operators_with_kernels_are_laid_out_alike():
    folders = {path.parent for path in Path(kernels.__file__).parent.glob("*/kernel.py")}
    assert len(folders) == 10
    for folder in folders:
        for name in ("reference.py", "launch.py", "op.py", "cases.py"):
            assert (folder / name).is_file(), f"{folder.name} has no {name}"
