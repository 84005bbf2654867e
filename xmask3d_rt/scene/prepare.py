"""From a posed view of any size to what the model takes, bit for bit as the released code.

Source: OpenCV's `resize` for 8-bit images (INTER_LINEAR: 11-bit coefficients, two truncating
passes) and INTER_NEAREST; intrinsics as in the data loader of XMask3D
(wangzy22/XMask3D @ c393300).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from xmask3d_rt.scene.view import View

COEF_BITS = 11
COEF_ONE = 1 << COEF_BITS


@dataclass(frozen=True, eq=False)
class PreparedView:
    """One view at the model's sizes.

    `image` [S, S, 3] uint8; `depth` [h, w] float32 metres (0 = no measurement) or None;
    `intrinsics` [3, 3] float64 pixels of the (h, w) mask grid; `world_to_camera` [4, 4] float64.
    """

    image: np.ndarray
    depth: np.ndarray | None
    intrinsics: np.ndarray
    world_to_camera: np.ndarray
    name: str


def prepare_view(view: View, image_size: int, mask_shape: tuple[int, int]) -> PreparedView:
    """Read a view's files and bring image, depth and intrinsics to the model's sizes.

    Args:
        view: image and depth of any size, in memory or on disk.
        image_size: side S of the square image the diffusion model takes.
        mask_shape: (rows, columns) of the grid on which points meet masks.

    Returns:
        The view at the model's sizes. A depth image with intrinsics of its own is looked up
        along the rays of the mask grid, any other resized by nearest neighbour.

    Raises:
        ValueError: image and depth disagree, or a file holds something else than an image.
        FileNotFoundError: the image or depth file is missing.
    """
    image = view.read_image()
    depth = view.read_depth()
    height, width = image.shape[:2]
    rows, cols = mask_shape
    view.check_sizes((width, height), None if depth is None else depth.shape)
    intrinsics = scale_intrinsics(view.intrinsics, (width, height), (cols, rows))
    if depth is not None:
        if view.depth_intrinsics is None:
            depth = resize_depth_nearest(depth, mask_shape)
        else:
            depth = remap_depth(depth, view.depth_intrinsics, intrinsics, mask_shape)
    return PreparedView(
        image=resize_image(image, image_size),
        depth=depth,
        intrinsics=intrinsics,
        world_to_camera=np.linalg.inv(view.camera_to_world),
        name=view.name,
    )


def resize_image(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """OpenCV's 8-bit bilinear resize, bit for bit: no antialias, fixed-point coefficients.

    Per axis the source position is (i + 0.5)·scale − 0.5 in float32, its fraction rounded to
    11 bits. Rows: out = ((b₀·(h₀ >> 4) >> 16) + (b₁·(h₁ >> 4) >> 16) + 2) >> 2 with h the
    horizontal sums.

    Args:
        image: [H, W, C] or [H, W] uint8.
        size: side of the square result, or (rows, columns).

    Returns:
        [rows, columns, C] (or [rows, columns]) uint8.

    Raises:
        TypeError: the image is not uint8.
    """
    if image.dtype != np.uint8:
        raise TypeError(f"resize_image: image must be uint8, got {image.dtype}")
    rows, cols = (size, size) if isinstance(size, int) else size
    if image.shape[:2] == (rows, cols):
        return image.copy()
    left, right, weight_left, weight_right = _column_taps(image.shape[1], cols)
    top, bottom, weight_top, weight_bottom = _row_taps(image.shape[0], rows)
    planes = image.reshape(image.shape[0], image.shape[1], -1)  # [H, W, C]
    channels = planes.shape[2]

    # At most 255·2048, shifted by 4 to 15 bits: the products of the second pass fit in int32.
    horizontal = np.take(planes, left, axis=1).astype(np.int32)  # [H, cols, C]
    horizontal *= weight_left[:, None]
    second = np.take(planes, right, axis=1).astype(np.int32)
    second *= weight_right[:, None]
    horizontal += second
    horizontal >>= 4
    lines = horizontal.reshape(image.shape[0], cols * channels)

    out = np.take(lines, top, axis=0)  # [rows, cols·C]
    out *= weight_top[:, None]
    out >>= 16
    lower = np.take(lines, bottom, axis=0)
    lower *= weight_bottom[:, None]
    lower >>= 16
    out += lower
    out += 2
    out >>= 2
    return out.astype(np.uint8).reshape(rows, cols, *image.shape[2:])


def resize_depth_nearest(depth: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """OpenCV's nearest-neighbour resize: source index ⌊i·scale⌋, unlike rounding to centres.

    Args:
        depth: [H, W] of any dtype.
        shape: (rows, columns) of the result.

    Returns:
        [rows, columns], same dtype.
    """
    rows = _nearest_index(depth.shape[0], shape[0])
    cols = _nearest_index(depth.shape[1], shape[1])
    return np.ascontiguousarray(depth[rows[:, None], cols[None, :]])


def remap_depth(
    depth: np.ndarray,
    depth_intrinsics: np.ndarray,
    intrinsics: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """Depth along the rays of another pixel grid of the same camera, nearest measurement.

    Args:
        depth: [H, W] float32 metres along z.
        depth_intrinsics: [3, 3] at the depth image's size.
        intrinsics: [3, 3] at the wanted size.
        shape: (rows, columns) wanted.

    Returns:
        [rows, columns] float32 metres, 0 where the ray misses the depth image.
    """
    rows, cols = shape
    u, v = np.meshgrid(np.arange(cols), np.arange(rows))
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1).astype(np.float64)  # [rows, cols, 3]
    there = pixels @ (depth_intrinsics @ np.linalg.inv(intrinsics)).T
    column = np.rint(there[..., 0] / there[..., 2]).astype(np.int64)
    row = np.rint(there[..., 1] / there[..., 2]).astype(np.int64)
    height, width = depth.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    found = depth[row.clip(0, height - 1), column.clip(0, width - 1)]
    return np.where(inside, found, depth.dtype.type(0))


def scale_intrinsics(
    intrinsics: np.ndarray, size: tuple[int, int], new_size: tuple[int, int]
) -> np.ndarray:
    """Intrinsics of a resized image: focal lengths by w/W, principal point by (w−1)/(W−1).

    Args:
        intrinsics: [3, 3] pixels at `size`; not changed.
        size: (W, H) the intrinsics belong to.
        new_size: (w, h) wanted.

    Returns:
        [3, 3] float64.
    """
    (width, height), (new_width, new_height) = size, new_size
    scaled = np.array(intrinsics, dtype=np.float64)
    scaled[0, :2] *= new_width / width
    scaled[1, :2] *= new_height / height
    scaled[0, 2] *= (new_width - 1) / max(width - 1, 1)
    scaled[1, 2] *= (new_height - 1) / max(height - 1, 1)
    return scaled


@lru_cache(maxsize=32)
def _row_taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per output row: two source rows and their 11-bit weights; border rows repeat."""
    first, fraction = _positions(source, target)
    low, high = (np.clip(first + i, 0, source - 1) for i in (0, 1))
    return low, high, *_weights(fraction)


@lru_cache(maxsize=32)
def _column_taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per output column: two source columns and their weights; at a border the inner one alone."""
    first, fraction = _positions(source, target)
    outside = (first < 0) | (first >= source - 1)
    fraction = np.where(outside, np.float32(0), fraction)
    low = np.clip(first, 0, source - 1)
    return low, np.minimum(low + 1, source - 1), *_weights(fraction)


def _positions(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Floor and fraction of the source position of every output index."""
    scale = 1 / (target / source)
    position = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    return first, position - first.astype(np.float32)


def _weights(fraction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 − fraction and fraction as 11-bit integers, each rounded half to even."""
    one = np.float32(COEF_ONE)
    return (
        np.rint((np.float32(1) - fraction) * one).astype(np.int32),
        np.rint(fraction * one).astype(np.int32),
    )


def _nearest_index(source: int, target: int) -> np.ndarray:
    """⌊i·scale⌋ of every output index, scale computed as OpenCV does."""
    scale = 1 / (target / source)
    return np.minimum(np.floor(np.arange(target) * scale).astype(np.int64), source - 1)
