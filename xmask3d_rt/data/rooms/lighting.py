"""Light of generated rooms: a lamp with shadow maps, and the colours of lit surfaces.

Source: shadow maps of Williams 1978 (Casting curved shadows on curved surfaces).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xmask3d_rt.data.boxes import BALL, BOX, BoxArrays
from xmask3d_rt.data.rooms.casting import NEAR, cast_view
from xmask3d_rt.data.textures import Surface, paint

SHADOW_SIZE = 256  # pixels per side of each shadow map
GAMMA = 1 / 1.15


class Lamp(NamedTuple):
    """A point light with the shadow maps of the five directions it shines into."""

    position: np.ndarray  # [3]
    axes: np.ndarray  # [5, 3, 3] camera axes (columns) of each map
    depth: np.ndarray  # [5, S, S] float32 metres, inf where nothing is hit
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ambient: float = 0.5
    direct: float = 0.62


def make_lamp(
    boxes: BoxArrays,
    position: Sequence[float],
    color: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ambient: float = 0.5,
    direct: float = 0.62,
) -> Lamp:
    """A lamp at `position` [3] and its shadow maps: down and to the four sides."""
    half = (SHADOW_SIZE - 1) / 2
    intrinsics = np.array([[half, 0, half], [0, half, half], [0, 0, 1.0]])
    axes, maps = [], []
    for forward in ((0, 0, -1), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)):
        z = np.array(forward, dtype=np.float64)
        y = np.array([0, -1.0, 0]) if forward[2] else np.array([0, 0, -1.0])
        camera_to_world = np.eye(4)
        camera_to_world[:3, :3] = np.stack([np.cross(y, z), y, z], axis=1)
        camera_to_world[:3, 3] = position
        depth, _ = cast_view(boxes, intrinsics, camera_to_world, (SHADOW_SIZE, SHADOW_SIZE))
        axes.append(camera_to_world[:3, :3])
        maps.append(np.where(depth > 0, depth, np.float32(np.inf)))
    place = np.array(position, dtype=np.float64)
    return Lamp(place, np.stack(axes), np.stack(maps), color, ambient, direct)


def _lit_fraction(lamp: Lamp, points: np.ndarray) -> np.ndarray:
    """Share [P] of four neighbouring shadow-map pixels that the lamp reaches."""
    forward = lamp.axes[:, :, 2]  # [5, 3]
    delta = points - lamp.position
    face = (delta @ forward.T).argmax(axis=1)  # the map whose axis is nearest
    x, y, z = np.einsum("pk,pkj->jp", delta, lamp.axes[face])
    behind = z <= NEAR  # above the lamp: nothing stands there
    z = np.maximum(z, NEAR)
    half = (SHADOW_SIZE - 1) / 2
    row, col = half + half * y / z, half + half * x / z
    lit = np.zeros(len(points))
    for row_step in (-1.0, 1.0):
        for col_step in (-1.0, 1.0):
            v = np.rint(row + row_step).clip(0, SHADOW_SIZE - 1).astype(np.int64)
            u = np.rint(col + col_step).clip(0, SHADOW_SIZE - 1).astype(np.int64)
            lit += z <= lamp.depth[face, v, u] * 1.02 + 0.02
    return np.where(behind, 1.0, lit / 4)


def find_surface(
    boxes: BoxArrays, points: np.ndarray, box: np.ndarray
) -> tuple[np.ndarray, Surface]:
    """Normals and texture coordinates of points on the surfaces of solids.

    Args:
        boxes: the scene.
        points: [P, 3].
        box: the solid each of them lies on [P].

    Returns:
        Outward normals [P, 3] in the world, and where on their face the points lie.
    """
    local = boxes.to_local(points, box)  # [P, 3]
    half = boxes.half[box]
    unit = local / half
    # A face of a box is where |local| reaches half; the side of a cylinder counts as axis 0.
    axis = (np.abs(local) - half).argmax(axis=1)
    rows = np.arange(len(points))
    normal = np.zeros_like(local)
    normal[rows, axis] = np.sign(local[rows, axis])
    first, second = np.where(axis == 0, 1, 0), np.where(axis == 2, 1, 2)
    u, v = local[rows, first] + half[rows, first], local[rows, second] + half[rows, second]
    width, height = 2 * half[rows, first], 2 * half[rows, second]

    shape = boxes.shape[box]
    round_ = np.flatnonzero(shape != BOX)
    if len(round_):
        p, r = unit[round_], half[round_]
        radius = boxes.radius_at(p[:, 2], box[round_])
        outside = np.hypot(p[:, 0], p[:, 1])
        ball = shape[round_] == BALL
        side = ball | (1 - np.abs(p[:, 2]) > np.abs(outside - radius) * 0.5)
        slope = (boxes.radii[box[round_], 1] - boxes.radii[box[round_], 0]) / 2
        up = np.where(ball, p[:, 2], -slope * radius)
        around = np.stack([p[:, 0], p[:, 1], up], axis=1) / r
        cap = np.stack([0 * up, 0 * up, np.sign(p[:, 2])], axis=1)
        direction = np.where(side[:, None], around, cap)
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        normal[round_] = direction / np.maximum(length, 1e-9)
        turn = (np.arctan2(p[:, 1], p[:, 0]) + np.pi) * r[:, 0]
        u[round_] = np.where(side, turn, local[round_, 0] + r[:, 0])
        v[round_] = np.where(side, local[round_, 2] + r[:, 2], local[round_, 1] + r[:, 1])
        width[round_] = np.where(side, 2 * np.pi * r[:, 0], 2 * r[:, 0])
        height[round_] = np.where(side, 2 * r[:, 2], 2 * r[:, 1])
    return boxes.to_world(normal, box), Surface(u, v, width, height)


def shade(boxes: BoxArrays, lamp: Lamp, points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Colour of surface points: texture times (ambient + Lambert with shadow and fall-off).

    Args:
        boxes: the scene.
        lamp: its light.
        points: surface points [P, 3].
        box: the solid each of them lies on [P].

    Returns:
        rgb [P, 3] uint8.
    """
    return light_surface(boxes, lamp, points, box, *find_surface(boxes, points, box))


def light_surface(
    boxes: BoxArrays,
    lamp: Lamp,
    points: np.ndarray,
    box: np.ndarray,
    normal: np.ndarray,
    surface: Surface,
) -> np.ndarray:
    """`shade` with what `find_surface` has found."""
    to_lamp = lamp.position - points
    distance = np.linalg.norm(to_lamp, axis=1)
    lambert = np.maximum((normal * to_lamp).sum(axis=1) / np.maximum(distance, 1e-6), 0)
    # Sides differ a little.
    ambient = lamp.ambient + 0.06 * normal[:, 2] + 0.05 * normal[:, 0]
    direct = lambert * _lit_fraction(lamp, points) / (1 + (distance / 4.5) ** 2)
    albedo = paint(
        boxes.color[box], boxes.texture[box], surface, boxes.pattern[box], boxes.scale[box]
    )
    rgb = albedo * (ambient + lamp.direct * direct)[:, None] * lamp.color
    return (255 * rgb.clip(0, 1) ** GAMMA).round().astype(np.uint8)
