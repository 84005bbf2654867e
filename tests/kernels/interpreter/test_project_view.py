"""project_view: kernels against the reference, exactly."""

import pytest
import torch

from xmask3d_rt.kernels import project_view
from xmask3d_rt.kernels.project_view.reference import project_view_reference

K = torch.tensor([[280.0, 0, 159.5], [0, 281.3, 119.5], [0, 0, 1]], dtype=torch.float64)
SIZE = (240, 320)


def random_pose():
    angle = torch.tensor(0.3, dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 0], pose[0, 2] = angle.cos(), angle.sin()
    pose[2, 0], pose[2, 2] = -angle.sin(), angle.cos()
    pose[:3, 3] = torch.tensor([0.1, -0.2, 1.7])
    return pose


def assert_same(points, depth, tolerance=0.1):
    view = project_view(points, K, random_pose(), depth, 10, tolerance, SIZE)
    expected = project_view_reference(points, K, random_pose(), depth, SIZE, 10, tolerance)
    for ours, theirs in zip(view, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    return int(view.count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("n", [0, 1, 31, 1009, 9000])
def test_sizes_and_dtypes(n, dtype):
    torch.manual_seed(n)
    points = (torch.randn(n, 3) * 2).to(dtype)
    depth = torch.rand(SIZE) * 4 * (torch.rand(SIZE) > 0.2)
    assert_same(points, None)
    count = assert_same(points, depth)
    if n > 1000:
        assert count > 0


def test_strided_points_and_depth():
    torch.manual_seed(0)
    points = torch.randn(1000, 6)[:, ::2]
    depth = (torch.rand(SIZE[1], SIZE[0]) * 4).T
    assert not points.is_contiguous()
    assert not depth.is_contiguous()
    assert_same(points, depth.double())


def test_far_and_behind():
    points = torch.tensor([[0.0, 0.0, -1e6], [1e8, 1e8, 1.0], [0.0, 0.0, -1.7], [0.0, 0.1, 1e6]])
    assert_same(points, None)
