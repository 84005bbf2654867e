"""nearest_fill: kernels against the reference, exactly."""

import pytest
import torch

from xmask3d_rt.kernels import nearest_fill
from xmask3d_rt.kernels.nearest_fill.op import nearest_known
from xmask3d_rt.kernels.nearest_fill.reference import nearest_fill_reference


def assert_same(points, share):
    known = torch.rand(len(points)) < share
    known[len(points) // 2] = True
    assert torch.equal(nearest_fill(points, known), nearest_fill_reference(points, known))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 31, 293])
def test_sizes_and_dtypes(n, dtype):
    torch.manual_seed(n)
    assert_same(torch.randn(n, 3, dtype=dtype), 0.5)


def test_empty():
    nothing = torch.zeros(0, dtype=torch.bool)
    assert nearest_fill(torch.zeros(0, 3), nothing).shape == (0,)


def make_cloud(kind):
    torch.manual_seed(0)
    if kind == "lattice":
        return torch.randint(-3, 3, (300, 3)) * 0.02
    if kind == "duplicates":
        return torch.randn(5, 3)[torch.randint(0, 5, (90,))]
    if kind == "one place":
        return torch.full((60, 3), 3.5)
    if kind == "plane":
        return torch.rand(250, 3) * torch.tensor([5.0, 5.0, 0.0]) + 100
    near = torch.rand(90, 3) * 0.1
    return torch.cat([near, near[:30] + 50, torch.tensor([[1e4, 0.0, 0.0]])])


@pytest.mark.parametrize("share", [0.1, 0.9])
@pytest.mark.parametrize("kind", ["lattice", "duplicates", "one place", "plane", "far"])
def test_ties_and_gaps(kind, share):
    assert_same(make_cloud(kind), share)


def test_strided_points():
    torch.manual_seed(3)
    assert_same(torch.randn(97, 6)[:, ::2], 0.4)


def test_nothing_known_is_left_at_minus_one():
    points, known = torch.randn(20, 3), torch.zeros(20, dtype=torch.bool)
    assert nearest_known(points, known).eq(-1).all()
    with pytest.raises(ValueError, match="none of the 20 points is known"):
        nearest_fill(points, known)
