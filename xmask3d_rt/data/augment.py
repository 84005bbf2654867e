"""Augmentation of the points of one view, in the released order.

    visible points → [elastic distortion] → voxels with random scale and rotation → [flip, colour]

Scale and rotation are always on in training. The bracketed steps are the released code's `aug`
switch, which no released preset sets: they are no part of the published recipe. Images are
never augmented.

Source: data loader of XMask3D (wangzy22/XMask3D @ c393300), after MinkowskiEngine's examples.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import convolve1d

from xmask3d_rt.kernels import voxelize

SCALE = (0.9, 1.1)
ROTATION = (np.pi / 64, np.pi / 64, np.pi)  # largest angle about x, y, z
ELASTIC = ((0.2, 0.4), (0.8, 1.6))  # granularity and magnitude, metres
OFTEN, HALF, SELDOM = 0.95, 0.5, 0.2
COLOR_SHIFT, COLOR_JITTER = 0.1 * 255, 0.05 * 255
HUE, SATURATION = 0.5, 0.2


class ViewVoxelGrid(NamedTuple):
    """Voxels of one view's points: `coords` [M, 3] int32 from 0, `colors` [M, 3] in [-1, 1]."""

    coords: np.ndarray
    colors: np.ndarray
    point_to_voxel: np.ndarray  # [n] int64


def voxelize_view(
    xyz: np.ndarray,
    rgb: np.ndarray,
    voxel_size: float,
    rng: np.random.Generator | None = None,
    extra: bool = False,
) -> ViewVoxelGrid:
    """Voxels of the visible points of a view; the first point of a voxel gives its colour.

    Args:
        xyz: [n, 3] metres, at least one point.
        rgb: [n, 3] uint8.
        voxel_size: metres.
        rng: for training; None leaves the points as they are, as inference does.
        extra: also the elastic, flip and colour augmentation.
    """
    points = xyz.astype(np.float64)
    if rng is not None and extra and rng.random() < OFTEN:
        for granularity, magnitude in ELASTIC:
            points = distort_elastically(points, granularity, magnitude, rng)
    if rng is not None:
        scale, rotation = rng.uniform(*SCALE), draw_rotation(rng)
        points = (points * (scale / voxel_size)) @ rotation.T
        voxels = voxelize(torch.from_numpy(points), 1.0)
    else:
        voxels = voxelize(torch.from_numpy(points), voxel_size)
    coords = voxels.coords[:, 1:].numpy()
    coords = coords - coords.min(axis=0)
    colors = rgb[voxels.first_point.numpy()].astype(np.float64)  # 0..255
    if rng is not None and extra:
        coords = flip_voxels(coords, rng)
        colors = augment_colors(colors, rng)
    return ViewVoxelGrid(
        coords.astype(np.int32),
        (colors / 127.5 - 1).astype(np.float32),
        voxels.point_to_voxel.numpy(),
    )


def draw_rotation(rng: np.random.Generator) -> np.ndarray:
    """Product in random order of rotations about x, y and z by uniform angles, [3, 3]."""
    rotation = np.eye(3)
    turns = [_rotate_about(axis, rng.uniform(-most, most)) for axis, most in enumerate(ROTATION)]
    for axis in rng.permutation(3):
        rotation = rotation @ turns[axis]
    return rotation


def distort_elastically(
    points: np.ndarray, granularity: float, magnitude: float, rng: np.random.Generator
) -> np.ndarray:
    """Points moved by smooth noise on a grid.

    Normal noise on extent // granularity + 3 nodes per axis, averaged over 3 nodes along x, y,
    z, twice; interpolated linearly at the points, times `magnitude`.

    Args:
        points: [n, 3] metres.
        granularity: spacing of the nodes, metres.
        magnitude: metres per standard deviation of the noise before averaging.
        rng: generator.
    """
    low = points.min(axis=0)
    nodes = ((points - low).max(axis=0) // granularity).astype(int) + 3
    noise = rng.standard_normal((*nodes, 3))
    box = np.full(3, 1 / 3)
    for _ in range(2):
        for axis in range(3):
            noise = convolve1d(noise, box, axis=axis, mode="constant")
    # The first node lies one spacing outside the points.
    axes = [low[k] + granularity * (np.arange(nodes[k]) - 1) for k in range(3)]
    smooth = RegularGridInterpolator(axes, noise, bounds_error=False, fill_value=0)
    return points + smooth(points) * magnitude


def flip_voxels(coords: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Voxel coordinates [M, 3] mirrored along x, y, both or none."""
    if rng.random() >= OFTEN:
        return coords
    coords = coords.copy()
    for axis in (0, 1):
        if rng.random() < HALF:
            coords[:, axis] = coords[:, axis].max() - coords[:, axis]
    return coords


def augment_colors(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrast, shift, jitter, then hue and saturation of colours [M, 3] in 0..255."""
    if rng.random() < SELDOM:
        colors = stretch_contrast(colors, rng.random())
    if rng.random() < OFTEN:
        shift = rng.uniform(-COLOR_SHIFT, COLOR_SHIFT, 3)
        colors = (colors + shift).clip(0, 255)
    if rng.random() < OFTEN:
        colors = (colors + rng.normal(0, COLOR_JITTER, colors.shape)).clip(0, 255)
    hue, ratio = rng.uniform(-HUE, HUE), rng.uniform(1 - SATURATION, 1 + SATURATION)
    return shift_hue(colors, hue, ratio)


def stretch_contrast(colors: np.ndarray, blend: float) -> np.ndarray:
    """Each channel stretched to 0..255 and blended with what it was; a flat channel stays."""
    low, high = colors.min(axis=0), colors.max(axis=0)
    stretched = np.where(high > low, (colors - low) * 255 / np.maximum(high - low, 1e-9), colors)
    return (1 - blend) * colors + blend * stretched


def shift_hue(colors: np.ndarray, hue: float, saturation: float) -> np.ndarray:
    """Hue moved by a share of the circle and saturation multiplied, in whole steps of 8 bits."""
    h, s, v = _rgb_to_hsv(colors)
    return np.floor(_hsv_to_rgb((h + hue) % 1, (s * saturation).clip(0, 1), v))


def _rotate_about(axis: int, angle: float) -> np.ndarray:
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[second, first] = np.sin(angle)
    turn[first, second] = -np.sin(angle)
    return turn


def _rgb_to_hsv(colors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue and saturation in 0..1, value in 0..255, each [M]."""
    value, low = colors.max(axis=1), colors.min(axis=1)
    span = value - low
    r, g, b = ((value[:, None] - colors) / np.where(span > 0, span, 1)[:, None]).T
    hue = np.where(colors[:, 2] == value, 4 + g - r, 0.0)
    hue = np.where(colors[:, 1] == value, 2 + r - b, hue)
    hue = np.where(colors[:, 0] == value, b - g, hue)
    hue = np.where(span > 0, hue / 6 % 1, 0.0)
    return hue, np.where(value > 0, span / np.where(value > 0, value, 1), 0.0), value


def _hsv_to_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Colours [M, 3]: channel = v - v·s·clip(min(k, 4 - k), 0, 1), k = (n + 6h) mod 6."""
    k = (np.array([5, 3, 1]) + 6 * hue[:, None]) % 6
    depth = np.minimum(k, 4 - k).clip(0, 1)
    return value[:, None] * (1 - saturation[:, None] * depth)
