"""render_view: kernels against the reference, exactly."""

import math

import pytest
import torch

from tests.kernels.render_scenes import SIZE, K, random_camera, random_cloud
from xmask3d_rt.kernels import render_view
from xmask3d_rt.kernels.render_view.reference import render_view_reference


def assert_same(points, rgb, camera, spacing, size=SIZE, smooth=True):
    view = render_view(points, rgb, K, camera, size, spacing, smooth)
    step = torch.full((1,), spacing, dtype=torch.float64)
    expected = render_view_reference(points, rgb, K, camera, size, step, smooth)
    for name, ours, theirs in zip(view._fields, view, expected, strict=True):
        assert ours.dtype == theirs.dtype, name
        assert torch.equal(ours, theirs), name
    return view


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("n", [0, 1, 31, 997])
def test_sizes_and_dtypes(n, dtype):
    points, rgb = random_cloud(n, n, dtype)
    assert_same(points, rgb, random_camera(n), 0.05)


def test_thousands_of_points():
    points, rgb = random_cloud(4999, 1)
    points = points * 0.5 + torch.tensor([0.0, 0.0, 2.0])
    view = assert_same(points, rgb, torch.eye(4), 0.04)
    assert (view.point_index >= 0).float().mean() > 0.3


def test_large_splats_cross_the_border():
    points, rgb = random_cloud(7, 2)
    assert_same(points.abs() * 0.2 + 0.3, rgb, torch.eye(4), 0.2)


def test_without_smoothing_and_odd_sizes():
    points, rgb = random_cloud(499, 3)
    for size in ((1, 1), (17, 23)):
        assert_same(points, rgb, random_camera(3), 0.1, size, smooth=False)


def test_coinciding_points_take_the_lowest_index():
    points = torch.tensor([0.0, 0.0, 2.0]).repeat(300, 1)
    rgb = torch.randint(0, 256, (300, 3), dtype=torch.uint8)
    view = assert_same(points, rgb, torch.eye(4), 0.3)
    assert set(view.point_index.unique().tolist()) == {-1, 0}


def test_strided_inputs_and_points_that_are_not_finite():
    points, rgb = random_cloud(200, 5)
    points[::7] = math.nan
    points[1::7, 2] = math.inf
    points[2::7, 2] = -1e30
    strided = torch.cat([points, points], dim=1)[:, 3:]
    assert_same(strided, rgb.flip(0), random_camera(5), 0.1)
