"""Ray casting of cylinders and balls against their equations."""

import numpy as np
import pytest

from xmask3d_rt.data.boxes import Box, stack_boxes
from xmask3d_rt.data.room import default_intrinsics
from xmask3d_rt.data.rooms.cameras import look_at, pixel_rays
from xmask3d_rt.data.rooms.casting import cast_view
from xmask3d_rt.data.rooms.lighting import find_surface
from xmask3d_rt.data.rooms.sampling import sample_surfaces

SIZE = (61, 81)
WHITE = (0.9, 0.9, 0.9)
SOLIDS = {
    "box": Box((2, 2, 1), (1.0, 0.6, 0.8), WHITE, label=1, yaw=0.5, tilt=0.4),
    "cylinder": Box((2, 2, 1), (1.0, 0.6, 0.8), WHITE, label=1, shape="cylinder", tilt=0.7),
    "cone": Box((2, 2, 1), (1, 1, 0.8), WHITE, label=1, shape="cylinder", taper=0.3, yaw=1.0),
    "bucket": Box((2, 2, 1), (1, 1, 0.8), WHITE, label=1, shape="cylinder", taper=1.6),
    "ball": Box((2, 2, 1), (1.0, 0.6, 0.8), WHITE, label=1, shape="ball", yaw=0.3, tilt=0.9),
}
EYES = ((2.0, -1.0, 1.1), (4.5, 3.0, 2.6), (2.3, 1.8, 4.0), (0.2, 0.4, 0.3))


def look_from(eye):
    boxes_at = np.array([2.0, 2.0, 1.0])
    return look_at(np.array(eye), boxes_at)


def march(boxes, origin, ray):
    """Depth along a ray at which small steps first come inside the solid; 0 = never."""
    steps = np.arange(0.05, 8, 0.002)
    local = boxes.to_local(origin + steps[:, None] * ray, np.zeros(len(steps), dtype=int))
    inside = boxes.contains(local, 0)
    return steps[inside.argmax()] if inside.any() else 0.0


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("name", SOLIDS)
def test_depth_is_where_a_ray_enters(name, eye):
    boxes, pose, intrinsics = stack_boxes([SOLIDS[name]]), look_from(eye), default_intrinsics(SIZE)
    depth, hit = cast_view(boxes, intrinsics, pose, SIZE)
    assert 20 < (hit == 0).sum() < hit.size
    rng = np.random.default_rng(0)
    for row, col in zip(rng.integers(0, SIZE[0], 150), rng.integers(0, SIZE[1], 150), strict=True):
        ray = pixel_rays(intrinsics, np.array([row]), np.array([col]))[0] @ pose[:3, :3].T
        expected = march(boxes, pose[:3, 3], ray)
        if 0 in (expected, depth[row, col]):  # a graze that one of the two misses
            assert abs(expected - depth[row, col]) == 0 or np.ptp(hit[row - 1 : row + 2]) == 1
        else:
            assert depth[row, col] == pytest.approx(expected, abs=0.004)


@pytest.mark.parametrize("name", SOLIDS)
def test_normals_point_outwards(name):
    boxes = stack_boxes([SOLIDS[name]])
    exact, noisy, box = sample_surfaces(boxes, (4, 4), np.random.default_rng(0), 0.03)
    np.testing.assert_allclose(noisy, exact, atol=2e-5)
    normal, _ = find_surface(boxes, exact, box)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-9)
    within = boxes.contains(boxes.to_local(exact - 2e-3 * normal, box), 0)
    without = boxes.contains(boxes.to_local(exact + 2e-3 * normal, box), 0)
    assert within.mean() > 0.98
    assert without.mean() < 0.02


def test_samples_fill_a_surface_evenly():
    boxes = stack_boxes([SOLIDS["ball"], Box((1, 3, 0.5), (0.6, 0.6, 0.9), WHITE, label=1)])
    points = sample_surfaces(boxes, (4, 4), np.random.default_rng(0), 0.03)[0]
    faces = points[np.abs(points[:, 0] - 0.7) < 1e-6]  # the left face of the box
    assert len(faces) == pytest.approx(0.6 * 0.9 / 0.03**2, rel=0.12)


def test_hidden_surfaces_carry_no_points():
    lower = Box((2, 2, 0.5), (1, 1, 1), WHITE, label=1)
    upper = Box((2, 2, 1.25), (0.5, 0.5, 0.5), WHITE, label=2, shape="cylinder")
    points = sample_surfaces(stack_boxes([lower, upper]), (4, 4), np.random.default_rng(0), 0.02)[0]
    touching = np.abs(points[:, 2] - 1) < 1e-6
    inside = np.hypot(points[:, 0] - 2, points[:, 1] - 2) < 0.24
    assert touching.any()
    assert not (touching & inside).any()


def test_noise_moves_points_by_its_standard_deviation():
    boxes = stack_boxes([Box((2, 2, 0.5), (2, 2, 1), WHITE, label=1)])
    exact, noisy, _ = sample_surfaces(boxes, (4, 4), np.random.default_rng(0), 0.03, 0.004)
    assert (noisy - exact).std() == pytest.approx(0.004, rel=0.05)
    voxels = np.floor(noisy.astype(np.float32).astype(np.float64) / 0.03)
    assert len(np.unique(voxels, axis=0)) == len(noisy)
