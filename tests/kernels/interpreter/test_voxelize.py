"""voxelize: hash-table kernels against the reference, exactly."""

import pytest
import torch

from xmask3d_rt.kernels import voxelize
from xmask3d_rt.kernels.voxelize.reference import voxelize_reference


def assert_same(points, voxel_size, batch=None):
    result = voxelize(points, voxel_size, batch)
    expected = voxelize_reference(points, voxel_size, batch)
    for name, ours, theirs in zip(result._fields, result, expected, strict=True):
        assert ours.dtype == theirs.dtype, name
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("n", [0, 1, 31, 997, 5000])
def test_sizes_and_dtypes(n, dtype):
    torch.manual_seed(n)
    assert_same((torch.randn(n, 3) * 0.3).to(dtype), 0.05)


def test_all_points_in_one_voxel():
    assert_same(torch.full((4097, 3), -0.01), 0.02)


def test_batches_and_strided_points():
    torch.manual_seed(0)
    cloud = torch.randn(2000, 6)[:, ::2]
    assert not cloud.is_contiguous()
    assert_same(cloud, 0.1, torch.randint(0, 3, (2000,), dtype=torch.int32))


def test_ends_of_the_range():
    points = torch.tensor([[-130560.0, 130559.0, 0.5], [130559.5, -130560.0, -1.0]])
    assert_same(points, 1.0)


@pytest.mark.parametrize("value", [130560.0, -130561.0, float("nan"), float("inf")])
def test_outside_the_range_rejected(value):
    with pytest.raises(ValueError, match="voxel coordinates must lie in"):
        voxelize(torch.tensor([[0.0, value, 0.0]]), 1.0)


@pytest.mark.parametrize("value", [-1, 512])
def test_batch_outside_the_range_rejected(value):
    with pytest.raises(ValueError, match="batch indices must lie in"):
        voxelize(torch.zeros(1, 3), 1.0, torch.tensor([value]))
