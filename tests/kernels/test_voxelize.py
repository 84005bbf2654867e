"""voxelize on the CPU: torch.unique, hand-worked cells, properties, rejected arguments."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xmask3d_rt.kernels import voxelize
from xmask3d_rt.kernels.coords import COORD_LIMIT


def check_against_unique(points, voxel_size, batch=None):
    voxels = voxelize(points, voxel_size, batch)
    cells = torch.floor(points.double() * (1 / voxel_size)).long()
    head = torch.zeros(len(points), dtype=torch.int64) if batch is None else batch.long()
    rows = torch.cat([head[:, None], cells], dim=1)
    unique, inverse = torch.unique(rows, dim=0, return_inverse=True)
    assert torch.equal(voxels.coords, unique.int())
    assert torch.equal(voxels.point_to_voxel, inverse.reshape(-1))
    first = [(inverse == row).nonzero()[0, 0].item() for row in range(len(unique))]
    assert voxels.first_point.tolist() == first
    assert voxels.coords.dtype == torch.int32
    assert voxels.first_point.dtype == voxels.point_to_voxel.dtype == torch.int64


@pytest.mark.parametrize("n", [1, 31, 997, 4096])
def test_equals_unique(n):
    torch.manual_seed(n)
    check_against_unique(torch.randn(n, 3) * 0.2, 0.05)
    check_against_unique(torch.randn(n, 3) * 0.2, 0.05, torch.randint(0, 4, (n,)))


def test_empty_cloud():
    voxels = voxelize(torch.zeros(0, 3), 0.02)
    assert voxels.coords.shape == (0, 4)
    assert voxels.point_to_voxel.shape == voxels.first_point.shape == (0,)


def test_floor_of_negative_coordinates():
    cells = [[-0.5, 0.0, 1.0], [-1.0, 0.9, 1.9], [-1.1, 0.0, 0.0]]
    voxels = voxelize(torch.tensor(cells, dtype=torch.float64) * 0.02, 0.02)
    assert voxels.coords.tolist() == [[0, -2, 0, 0], [0, -1, 0, 1]]
    assert voxels.point_to_voxel.tolist() == [1, 1, 0]
    assert voxels.first_point.tolist() == [2, 0]


@settings(deadline=None, max_examples=60)
@given(
    cells=hnp.arrays(np.int64, st.tuples(st.integers(1, 40), st.just(3)), elements={
        "min_value": -COORD_LIMIT, "max_value": COORD_LIMIT - 1}),
    copies=st.integers(1, 3),
)  # fmt: skip
def test_any_cells_in_range(cells, copies):
    points = torch.from_numpy(cells).double().repeat(copies, 1) + 0.5
    check_against_unique(points, 1.0)


@pytest.mark.parametrize(
    ("points", "voxel_size", "batch", "error", "message"),
    [
        (torch.zeros(4, 2), 0.1, None, ValueError, r"\[N, 3\], got \[4, 2\]"),
        (torch.zeros(4, 3).long(), 0.1, None, TypeError, "floating point"),
        (torch.zeros(4, 3), 0.0, None, ValueError, "voxel_size must be > 0"),
        (torch.zeros(4, 3), 0.1, torch.zeros(3).long(), ValueError, r"shape \[4\]"),
        (torch.zeros(4, 3), 0.1, torch.zeros(4), TypeError, "batch must be integer"),
        (torch.full((4, 3), 1e7), 0.1, None, ValueError, "subtract the minimum"),
        (torch.full((4, 3), torch.nan), 0.1, None, ValueError, "voxel coordinates must lie"),
        (torch.zeros(4, 3), 0.1, torch.full((4,), 512), ValueError, "split the batch"),
    ],
)
def test_bad_arguments_rejected(points, voxel_size, batch, error, message):
    with pytest.raises(error, match=message):
        voxelize(points, voxel_size, batch)


def test_operator_registration():
    points, batch = torch.rand(50, 3), torch.randint(0, 2, (50,))
    torch.library.opcheck(torch.ops.xmask3d.voxelize.default, (points, 0.2, batch))
