"""Exact ray casting of boxes, cylinders and balls.

A view casts, per solid, only the pixels inside the projection of its corners, near solids first,
and leaves out solids behind what is already there.

Source: slab test of Kay and Kajiya 1986 (Ray tracing complex scenes).
"""

import numpy as np

from xmask3d_rt.data.boxes import BALL, BOX, BoxArrays

NEAR = 0.05  # metres; nothing closer to the camera is hit
TINY = np.float32(1e-9)


def cast_view(
    boxes: BoxArrays,
    intrinsics: np.ndarray,
    camera_to_world: np.ndarray,
    image_size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest solid along the ray of every pixel; pixel (u, v) is the ray through (u, v) exactly.

    Args:
        boxes: the scene.
        intrinsics: K [3, 3] in pixels.
        camera_to_world: [4, 4], x right, y down, z forward.
        image_size: (rows, columns).

    Returns:
        depth along the camera's z axis [H, W] float32 metres (0 = nothing hit), and the row of
        the solid hit [H, W] int32 (-1 = none).
    """
    height, width = image_size
    x = ((np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]).astype(np.float32)
    y = ((np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1]).astype(np.float32)
    depth = np.full((height, width), np.inf, dtype=np.float32)
    hit = np.full((height, width), -1, dtype=np.int32)
    windows, nearest = _screen_windows(boxes, intrinsics, camera_to_world, image_size)
    rotation = camera_to_world[:3, :3]
    # Camera axes and centre in the frame of every solid.
    axes = (np.swapaxes(boxes.turn, 1, 2) @ rotation).astype(np.float32)  # [B, 3, 3]
    origin = np.einsum("bji,bj->bi", boxes.turn, camera_to_world[:3, 3] - boxes.center)
    for b in np.argsort(nearest, kind="stable"):
        row, row_end, col, col_end = windows[b]
        if row >= row_end or col >= col_end:
            continue
        there = depth[row:row_end, col:col_end]
        if there.max() <= nearest[b]:
            continue
        rays = np.empty((3, row_end - row, col_end - col), dtype=np.float32)
        for k in range(3):
            rays[k] = axes[b, k, 0] * x[None, col:col_end]
            rays[k] += (axes[b, k, 1] * y[row:row_end] + axes[b, k, 2])[:, None]
        distance = _cast_solid(boxes, int(b), origin[b].astype(np.float32), rays)
        nearer = distance < there
        there[nearer] = distance[nearer]
        hit[row:row_end, col:col_end][nearer] = b
    depth[hit < 0] = 0
    return depth, hit


def _screen_windows(
    boxes: BoxArrays,
    intrinsics: np.ndarray,
    camera_to_world: np.ndarray,
    image_size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that each solid can cover, and a lower bound of its depth.

    Returns:
        [B, 4] int64 first and last row, first and last column (ends are exclusive; an empty
        window is out of sight), and [B] metres.
    """
    height, width = image_size
    world_to_camera = np.linalg.inv(camera_to_world)
    corners = boxes.corners() @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]  # [B, 8, 3]
    z = corners[:, :, 2]
    behind = z < NEAR
    pixels = corners @ intrinsics.T
    pixels = pixels[:, :, :2] / np.maximum(z, NEAR)[:, :, None]
    low = np.clip(np.floor(pixels.min(axis=1)), 0, (width, height)).astype(np.int64)
    high = np.clip(np.ceil(pixels.max(axis=1)) + 1, 0, (width, height)).astype(np.int64)
    windows = np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], axis=1)
    windows[behind.any(axis=1)] = (0, height, 0, width)  # reaches behind the camera: unbounded
    windows[behind.all(axis=1)] = 0
    return windows, z.min(axis=1)


def _cast_solid(boxes: BoxArrays, b: int, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Depth [h, w] float32 at which the rays [3, h, w] from a point enter a solid; inf = miss."""
    half = boxes.half[b].astype(np.float32)
    if boxes.shape[b] == BOX:
        return _cast_box(half, origin, rays)
    origin = origin / half
    rays /= half[:, None, None]
    if boxes.shape[b] == BALL:
        return _cast_ball(origin, rays)
    return _cast_cylinder(boxes.radii[b].astype(np.float32), origin, rays)


def _cast_box(half: np.ndarray, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    enter = np.full(rays.shape[1:], NEAR, dtype=np.float32)
    leave = np.full(rays.shape[1:], np.inf, dtype=np.float32)
    for k in range(3):
        direction = rays[k]
        direction[np.abs(direction) < TINY] = TINY
        first = (-half[k] - origin[k]) / direction
        second = (half[k] - origin[k]) / direction
        np.maximum(enter, np.minimum(first, second), out=enter)
        np.minimum(leave, np.maximum(first, second), out=leave)
    enter[enter > leave] = np.inf
    enter[enter <= NEAR] = np.inf  # the camera is inside the box
    return enter


def _cast_ball(origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Nearest root of |origin + t ray|² = 1."""
    a = np.maximum((rays**2).sum(axis=0), TINY)
    b = np.tensordot(origin, rays, axes=1)
    c = np.float32(origin @ origin - 1)
    root = b * b - a * c
    with np.errstate(invalid="ignore"):
        enter = (-b - np.sqrt(root)) / a
    enter[~(enter > NEAR)] = np.inf
    return enter


def _cast_cylinder(radii: np.ndarray, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Nearest of the hits of the side, x² + y² = (m + s z)² with |z| <= 1, and of the two caps."""
    m, s = (radii[0] + radii[1]) / 2, (radii[1] - radii[0]) / 2
    x, y, z = rays
    rim = m + s * origin[2]  # radius at the height of the ray's origin
    a = x * x + y * y - (s * z) ** 2
    a[np.abs(a) < TINY] = TINY
    b = origin[0] * x + origin[1] * y - rim * s * z
    c = origin[0] ** 2 + origin[1] ** 2 - rim**2
    root = b * b - a * c
    best = np.full(x.shape, np.inf, dtype=np.float32)
    with np.errstate(invalid="ignore"):
        root = np.sqrt(root)
        for t in ((-b - root) / a, (-b + root) / a):
            good = (t > NEAR) & (t < best) & (np.abs(origin[2] + t * z) <= 1)
            best[good] = t[good]
    z = np.where(np.abs(z) < TINY, TINY, z)
    for cap, radius in zip((-1, 1), radii, strict=True):
        t = (cap - origin[2]) / z
        inside = (origin[0] + t * x) ** 2 + (origin[1] + t * y) ** 2 <= radius**2
        good = inside & (t > NEAR) & (t < best)
        best[good] = t[good]
    return best
