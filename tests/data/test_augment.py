"""Augmentation of points: voxels, rotation, elastic distortion and colour."""

import colorsys

import numpy as np
import pytest
import torch

from xmask3d_rt.data.augment import (
    augment_colors,
    distort_elastically,
    draw_rotation,
    flip_voxels,
    shift_hue,
    stretch_contrast,
    voxelize_view,
)
from xmask3d_rt.kernels import finish_view_voxels, plan_view_voxels

RNG = np.random.default_rng(0)
XYZ = RNG.uniform(-2, 2, (500, 3)).astype(np.float32)
RGB = RNG.integers(0, 256, (500, 3), dtype=np.uint8)


def test_without_a_generator_voxels_are_those_of_inference():
    grid = voxelize_view(XYZ, RGB, 0.1)
    pending = plan_view_voxels(torch.from_numpy(XYZ), torch.ones(1, len(XYZ), dtype=bool), 0.1)
    voxels = finish_view_voxels(pending, pending.sizes)
    np.testing.assert_array_equal(grid.coords, voxels.level_coords[0][:, 1:])
    np.testing.assert_array_equal(grid.point_to_voxel, voxels.point_to_voxel)
    first = RGB[voxels.first_point.numpy()]
    np.testing.assert_allclose(grid.colors, first / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("extra", [False, True])
def test_a_generator_decides_everything(extra):
    one, same, other = (
        voxelize_view(XYZ, RGB, 0.1, np.random.default_rng(seed), extra) for seed in (5, 5, 6)
    )
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.point_to_voxel, other.point_to_voxel)
    assert one.coords.min(axis=0).tolist() == [0, 0, 0]
    assert len(one.coords) == one.point_to_voxel.max() + 1
    assert np.abs(one.colors).max() <= 1


def test_every_voxel_has_the_colour_of_its_first_point():
    grid = voxelize_view(XYZ, RGB, 0.3, np.random.default_rng(1))
    assert len(grid.coords) < len(XYZ)
    _, first = np.unique(grid.point_to_voxel, return_index=True)
    np.testing.assert_allclose(grid.colors, RGB[first] / 127.5 - 1, atol=1e-6)


def test_scale_and_rotation_stay_in_their_ranges():
    """Two points at the ends of a long diagonal keep their distance but for 0.9..1.1."""
    ends = np.array([[0, 0, 0], [30, 40, 0]], np.float32)
    for seed in range(50):
        grid = voxelize_view(ends, RGB[:2], 0.02, np.random.default_rng(seed))
        low, high = grid.coords[grid.point_to_voxel]
        length = np.linalg.norm(high - low) * 0.02
        assert 0.9 * 50 - 0.1 < length < 1.1 * 50 + 0.1


def test_rotations_turn_about_the_vertical_and_tilt_little():
    rng = np.random.default_rng(0)
    rotations = np.stack([draw_rotation(rng) for _ in range(500)])
    unit = np.broadcast_to(np.eye(3), rotations.shape)
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), unit, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    tilt = np.arccos(rotations[:, 2, 2].clip(-1, 1))
    assert tilt.max() < 2 * np.pi / 64
    assert tilt.std() > 0.005
    yaw = np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])
    assert yaw.min() < -3
    assert yaw.max() > 3


def test_elastic_distortion_is_smooth_and_as_large_as_asked():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 6, (4000, 3))
    moved = distort_elastically(points, 0.8, 1.6, np.random.default_rng(1)) - points
    assert 0.05 < moved.std() < 1.6
    near = points[:1] + rng.normal(0, 1e-3, (100, 3))
    shifted = distort_elastically(np.vstack([points, near]), 0.8, 1.6, np.random.default_rng(1))
    offset = (shifted - np.vstack([points, near]))[-100:]
    assert offset.std(axis=0).max() < 0.02  # neighbours move together
    flat = distort_elastically(np.zeros((3, 3)), 0.2, 0.4, np.random.default_rng(0))
    assert np.isfinite(flat).all()


def test_flips_mirror_voxels():
    coords = np.array([[0, 1, 2], [5, 3, 0]])
    seen = set()
    for seed in range(40):
        flipped = flip_voxels(coords, np.random.default_rng(seed))
        np.testing.assert_array_equal(flipped[:, 2], coords[:, 2])
        seen.add((int(flipped[0, 0]), int(flipped[0, 1])))
    assert seen == {(0, 1), (5, 1), (0, 2), (5, 2)}
    assert coords.tolist() == [[0, 1, 2], [5, 3, 0]]  # not changed in place


def test_contrast_reaches_both_ends():
    colors = np.array([[50.0, 10, 7], [100, 20, 7]])
    assert stretch_contrast(colors, 1.0).tolist() == [[0, 0, 7], [255, 255, 7]]
    assert stretch_contrast(colors, 0.0).tolist() == colors.tolist()


def test_hue_and_saturation_are_those_of_colorsys():
    colors = RGB[:200].astype(np.float64)
    colors[:3] = [[0, 0, 0], [255, 255, 255], [9, 9, 9]]
    shifted = shift_hue(colors, 0.3, 1.2)
    for before, after in zip(colors, shifted, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before / 255)
        expected = colorsys.hsv_to_rgb((h + 0.3) % 1, min(s * 1.2, 1), v)
        np.testing.assert_allclose(after, np.multiply(expected, 255), atol=1 + 1e-6)
    np.testing.assert_allclose(shift_hue(colors, 0, 1), colors, atol=1)


def test_colours_stay_colours():
    for seed in range(20):
        colors = augment_colors(RGB.astype(np.float64), np.random.default_rng(seed))
        assert colors.min() >= 0
        assert colors.max() <= 255
        np.testing.assert_array_equal(colors, np.floor(colors))
