"""nearest_fill: equal to brute force in float64, ties to the lowest index."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmask3d_rt.kernels import nearest_fill
from xmask3d_rt.kernels.nearest_fill import reference


def brute_force(points, known):
    """Every distance, in float64; argmin takes the first of equal ones."""
    source = known.nonzero().flatten()
    xyz = points.double()
    dx, dy, dz = (xyz[:, None] - xyz[source][None]).unbind(2)
    square = (dx * dx + dy * dy) + dz * dz
    smallest = square == square.amin(1, keepdim=True)
    first = torch.where(smallest, source, len(points)).amin(1)
    return torch.where(known, torch.arange(len(points)), first)


@st.composite
def clouds(draw):
    """Clouds with many ties: lattices, duplicates, planes, far outliers."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    n = draw(st.integers(1, 120))
    kind = draw(st.sampled_from(["random", "lattice", "duplicates", "plane", "far"]))
    points = torch.rand(n, 3, generator=generator)
    if kind == "lattice":
        points = torch.randint(0, 4, (n, 3), generator=generator) * 0.02
    elif kind == "duplicates":
        points = points[torch.randint(0, 3, (n,), generator=generator) % n]
    elif kind == "plane":
        points = points * torch.tensor([1.0, 1.0, 0.0]) - 7
    elif kind == "far":
        points[::3] += 1000.0
    known = torch.rand(n, generator=generator) < draw(st.sampled_from([0.05, 0.5, 0.95]))
    known[draw(st.integers(0, n - 1))] = True
    return points, known


@settings(max_examples=150, deadline=None)
@given(clouds())
def test_equals_brute_force(cloud):
    assert torch.equal(nearest_fill(*cloud), brute_force(*cloud))


def test_many_duplicates():
    # more equal distances than the tree is first asked for, on both sides of a target
    points = torch.zeros(400, 3)
    points[200:, 0] = 2.0
    points[150:250, 0] = 1.0
    known = torch.ones(400, dtype=torch.bool)
    known[150:250] = False
    nearest = nearest_fill(points, known)
    assert nearest[150:250].eq(0).all()


def test_ring_of_equal_distances():
    # 64 distinct points at the same distance: no duplicates to remove
    side = torch.tensor([-1.0, 1.0])
    corners = torch.cartesian_prod(side, side, side)
    points = torch.cat([corners * scale for scale in (5.0, 4.0, 3.0)] + [torch.zeros(1, 3)])
    known = torch.ones(len(points), dtype=torch.bool)
    known[-1] = False
    assert nearest_fill(points, known)[-1] == 16


def test_bounded_chunks(monkeypatch):
    monkeypatch.setattr(reference, "CHUNK", 64)
    torch.manual_seed(0)
    points = torch.randint(0, 6, (500, 3)).float()
    known = torch.rand(500) < 0.5
    assert torch.equal(nearest_fill(points, known), brute_force(points, known))


def test_all_known_and_empty():
    points = torch.randn(7, 3)
    assert torch.equal(nearest_fill(points, torch.ones(7, dtype=torch.bool)), torch.arange(7))
    assert nearest_fill(torch.zeros(0, 3), torch.zeros(0, dtype=torch.bool)).shape == (0,)


def test_strided_points():
    torch.manual_seed(1)
    points = torch.randn(300, 6)[:, ::2]
    known = torch.rand(300) < 0.3
    assert torch.equal(nearest_fill(points, known), brute_force(points, known))


@pytest.mark.parametrize(
    ("points", "known", "error", "message"),
    [
        (torch.zeros(4, 2), torch.ones(4).bool(), ValueError, r"points must have shape \[N, 3\]"),
        (torch.zeros(4, 3), torch.ones(5).bool(), ValueError, r"known must have shape \[N\]"),
        (torch.zeros(4, 3), torch.zeros(4).bool(), ValueError, "none of the 4 points is known"),
        (torch.zeros(4, 3), torch.ones(4, device="meta").bool(), ValueError, "one device"),
        (torch.zeros(4, 3).int(), torch.ones(4).bool(), TypeError, "floating point"),
        (torch.zeros(4, 3), torch.ones(4), TypeError, "must be bool"),
    ],
)
def test_bad_arguments_rejected(points, known, error, message):
    with pytest.raises(error, match=message):
        nearest_fill(points, known)
