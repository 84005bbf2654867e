"""Noise and holes of an RGB-D camera: what it measures of an exact view.

Depth: Gaussian noise whose standard deviation grows with the square of the distance, partly
shared by neighbouring pixels, rounded to steps that grow likewise; edges of objects wander by a
pixel; no measurement at part of the edges, at grazing angles, on dark, glossy or transparent
surfaces, and too near or too far. Colour: exposure, white balance and pixel noise.

Source: axial noise of Nguyen, Izadi and Lovell 2012 (Modeling Kinect sensor noise).
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter, zoom

from xmask3d_rt.data.textures import TEXTURES

RANGE = (0.35, 6.5)  # metres
FLOOR_SIGMA, GROWTH, NEAREST = 0.0012, 0.0019, 0.4
SHARED = 0.6  # of the standard deviation, common to patches of `PATCH` pixels
PATCH = 6
STEP = 0.0007  # depth is rounded to multiples of STEP z²
EDGE_STEP = 0.04  # of the depth; more between neighbours is an edge
EDGE_LOSS, DARK_LOSS = 0.45, 0.5
GRAZING = 0.25  # cosine of the angle to the normal below which measurements begin to fail
DARK = 32  # mean of the three channels
LOSSES = {
    "mirror": 0.45,
    "sky": 0.5,
    "film": 0.35,
    "glass door": 0.35,
    "desktop": 0.25,
    "metal": 0.06,
}


class ExactView(NamedTuple):
    """A view without noise, with what decides where a sensor fails."""

    image: np.ndarray  # [H, W, 3] uint8
    depth: np.ndarray  # [H, W] float32 metres, 0 = nothing
    cosine: np.ndarray  # [H, W] float32, of the angle between ray and normal
    texture: np.ndarray  # [H, W] int64 index into TEXTURES, -1 = nothing


def depth_sigma(depth: np.ndarray) -> np.ndarray:
    """Standard deviation of the noise of a depth, metres."""
    return FLOOR_SIGMA + GROWTH * (depth - NEAREST) ** 2


def measure_depth(view: ExactView, rng: np.random.Generator, noise: float) -> np.ndarray:
    """Depth [H, W] float32 as a sensor gives it; `noise` 1 is usual, 2 twice as bad."""
    depth = _wander(view.depth, rng)
    shape = depth.shape
    shared = zoom(rng.normal(size=[-(-n // PATCH) + 1 for n in shape]), PATCH, order=1)
    shared = shared[: shape[0], : shape[1]]
    own = rng.normal(size=shape)
    mixed = SHARED * 1.5 * shared + np.sqrt(1 - SHARED**2) * own  # 1.5: zoom averages
    noisy = depth + noise * depth_sigma(depth) * mixed
    step = STEP * np.maximum(depth, 0.5) ** 2
    noisy = np.rint(noisy / step) * step
    lost = rng.uniform(size=shape) < np.minimum(noise * _loss_chance(view), 0.97)
    # Most holes are patches, not single pixels.
    blobs = zoom(rng.uniform(size=[-(-n // 4) + 1 for n in shape]), 4, order=0)
    lost |= blobs[: shape[0], : shape[1]] < noise * _loss_chance(view) * 0.8
    lost |= (depth < RANGE[0]) | (depth > RANGE[1])
    return np.where(lost, 0, np.maximum(noisy, 0)).astype(np.float32)


def _wander(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Depth of a pixel at most one beside, so that edges are ragged."""
    height, width = depth.shape
    row = np.arange(height)[:, None] + rng.integers(-1, 2, depth.shape) * (
        rng.uniform(size=depth.shape) < 0.5
    )
    col = np.arange(width)[None] + rng.integers(-1, 2, depth.shape) * (
        rng.uniform(size=depth.shape) < 0.5
    )
    moved = depth[row.clip(0, height - 1), col.clip(0, width - 1)]
    # On one and the same slanting surface the shift would only be more noise.
    return np.where(np.abs(moved - depth) > EDGE_STEP * depth, moved, depth)


def _loss_chance(view: ExactView) -> np.ndarray:
    """Probability [H, W] that a pixel has no measurement."""
    depth = view.depth
    edge = maximum_filter(depth, 3) - minimum_filter(depth, 3) > EDGE_STEP * depth
    grazing = (1 - view.cosine / GRAZING).clip(0, 1)
    dark = view.image.mean(axis=2) < DARK
    table = np.array([*(LOSSES.get(name, 0.0) for name in TEXTURES), 1.0])
    chance = table[view.texture] + EDGE_LOSS * edge + DARK_LOSS * dark + grazing**2
    return chance + 0.002


def take_image(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colours [H, W, 3] uint8 as a camera gives them: exposure, white balance, pixel noise."""
    gain = rng.uniform(0.85, 1.15) * rng.uniform(0.96, 1.04, 3)
    sigma = rng.uniform(1.0, 4.0)
    noise = rng.normal(0, sigma, image.shape)
    return (image * gain + noise).round().clip(0, 255).astype(np.uint8)
