"""Where the camera of a generated room stands and what it looks at."""

import numpy as np

from xmask3d_rt.data.boxes import BoxArrays
from xmask3d_rt.data.rooms.floor_plan import Layout

CLEARANCE = 0.3  # metres that a camera keeps from everything
CLOSE_UPS = 3  # one view in so many looks at one thing
POSE_SHIFT = 0.003  # metres, standard deviation of each coordinate of a measured position
POSE_TURN = 0.0015  # radians, of each angle of a measured orientation


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """camera_to_world [4, 4] of an upright camera at `eye` looking at `target` (z is up)."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    camera_to_world[:3, 3] = eye
    return camera_to_world


def place_cameras(
    layout: Layout, boxes: BoxArrays, rng: np.random.Generator, count: int
) -> list[np.ndarray]:
    """Cameras on a ring that look across the room, now and then at one thing in it.

    They stand between sitting and standing height, never inside furniture.
    """
    center = np.array([layout.width, layout.depth]) / 2
    start = rng.uniform(0, 2 * np.pi)
    targets = rng.permutation(np.array(layout.targets).reshape(-1, 3))
    poses = []
    for index in range(count):
        angle = start + 2 * np.pi * index / max(count, 1)
        out = np.array([np.cos(angle), np.sin(angle)])
        for shrink in np.linspace(0.85, 0.1, 15):
            reach = shrink * rng.uniform(0.85, 1.0)
            eye = np.array([*(center + reach * out * center), rng.uniform(1.2, 1.75)])
            if _is_free(boxes, eye, CLEARANCE):
                break
        across = center - 0.35 * out * center + rng.uniform(-0.5, 0.5, 2)
        target = np.array([*across, rng.uniform(0.5, 0.95)])
        if index % CLOSE_UPS == CLOSE_UPS - 1:
            target = _pick_target(targets, eye, index, target)
        poses.append(look_at(eye, target))
    return poses


def _pick_target(
    targets: np.ndarray, eye: np.ndarray, index: int, default: np.ndarray
) -> np.ndarray:
    """The next thing at a distance that a camera looks at without bowing down."""
    offset = targets - eye
    away = np.hypot(offset[:, 0], offset[:, 1])
    good = np.flatnonzero((away > 1.0) & (np.abs(offset[:, 2]) < 0.8 * away))
    return targets[good[index % len(good)]] if len(good) else default


def _is_free(boxes: BoxArrays, point: np.ndarray, clearance: float) -> bool:
    """Whether a point keeps `clearance` metres from every solid's own box."""
    rows = np.arange(len(boxes.center))
    local = boxes.to_local(np.broadcast_to(point, (len(rows), 3)), rows)
    return bool((np.abs(local) > boxes.half + clearance).any(axis=1).all())


def disturb_pose(camera_to_world: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """The pose as a tracker measures it: off by a few millimetres and a tenth of a degree."""
    x, y, z = rng.normal(0, POSE_TURN * noise, 3)
    turn = np.array([[1, -z, y], [z, 1, -x], [-y, x, 1]])
    measured = camera_to_world.copy()
    u, _, v = np.linalg.svd(camera_to_world[:3, :3] @ turn)  # nearest rotation
    measured[:3, :3] = u @ v
    measured[:3, 3] += rng.normal(0, POSE_SHIFT * noise, 3)
    return measured


def pixel_rays(intrinsics: np.ndarray, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Rays [P, 3] with z = 1 through pixels (row, col), in the frame of the camera."""
    pixels = np.stack([col, row, np.ones_like(col)], axis=1)
    return pixels @ np.linalg.inv(intrinsics).T
