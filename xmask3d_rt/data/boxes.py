"""Exact ray casting of upright textured boxes: what generated rooms are made of.

A box stands upright (turned about z alone), so a ray is tested in the frame of the box with
three slab tests. A view casts, per box, only the pixels inside the projection of its corners.

Source: slab test of Kay and Kajiya 1986 (Ray tracing complex scenes); shadow maps of
Williams 1978 (Casting curved shadows on curved surfaces).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from xmask3d_rt.data.textures import TEXTURES, paint

NEAR = 0.05  # metres; nothing closer to the camera is hit
SHADOW_SIZE = 384  # pixels per side of each shadow map


@dataclass(frozen=True)
class Box:
    """One upright box: centre and size in metres, turned by `yaw` about z.

    `label` is a class index; -1 belongs to no class.
    """

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    color: tuple[float, float, float]
    texture: str = "plain"
    label: int = -1
    yaw: float = 0.0

    def placed(self, yaw: float, offset: Sequence[float]) -> "Box":
        """The box turned by `yaw` about the origin, then moved by `offset` [3]."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        x, y, z = self.center
        center = (cos * x - sin * y + offset[0], sin * x + cos * y + offset[1], z + offset[2])
        return replace(self, center=center, yaw=self.yaw + yaw)


class BoxArrays(NamedTuple):
    """Many boxes, one row each."""

    center: np.ndarray  # [B, 3] float64
    half: np.ndarray  # [B, 3] float64, half sizes
    cos: np.ndarray  # [B] float64
    sin: np.ndarray  # [B] float64
    color: np.ndarray  # [B, 3] float64 in [0, 1]
    texture: np.ndarray  # [B] int64, index into TEXTURES
    label: np.ndarray  # [B] int64

    def to_local(self, points: np.ndarray, box: np.ndarray) -> np.ndarray:
        """World points [P, 3] in the frame of their box [P]."""
        delta = points - self.center[box]
        cos, sin = self.cos[box], self.sin[box]
        x = cos * delta[:, 0] + sin * delta[:, 1]
        y = cos * delta[:, 1] - sin * delta[:, 0]
        return np.stack([x, y, delta[:, 2]], axis=1)  # [P, 3]

    def to_world(self, vectors: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Vectors [P, 3] of the frame of their box [P] as world vectors (no translation)."""
        cos, sin = self.cos[box], self.sin[box]
        x = cos * vectors[:, 0] - sin * vectors[:, 1]
        y = sin * vectors[:, 0] + cos * vectors[:, 1]
        return np.stack([x, y, vectors[:, 2]], axis=1)  # [P, 3]


def stack_boxes(boxes: Sequence[Box]) -> BoxArrays:
    """Rows for `cast_view` and `shade` from single boxes, in order."""
    yaw = np.array([b.yaw for b in boxes], dtype=np.float64)
    return BoxArrays(
        center=np.array([b.center for b in boxes], dtype=np.float64).reshape(-1, 3),
        half=np.array([b.size for b in boxes], dtype=np.float64).reshape(-1, 3) / 2,
        cos=np.cos(yaw),
        sin=np.sin(yaw),
        color=np.array([b.color for b in boxes], dtype=np.float64).reshape(-1, 3),
        texture=np.array([TEXTURES.index(b.texture) for b in boxes], dtype=np.int64),
        label=np.array([b.label for b in boxes], dtype=np.int64),
    )


def cast_view(
    boxes: BoxArrays,
    intrinsics: np.ndarray,
    camera_to_world: np.ndarray,
    image_size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest box along the ray of every pixel; pixel (u, v) is the ray through (u, v) exactly.

    Args:
        boxes: the scene.
        intrinsics: K [3, 3] in pixels.
        camera_to_world: [4, 4], x right, y down, z forward.
        image_size: (rows, columns).

    Returns:
        depth along the camera's z axis [H, W] float32 metres (0 = nothing hit), and the row of
        the box hit [H, W] int32 (-1 = none).
    """
    height, width = image_size
    x = ((np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]).astype(np.float32)
    y = ((np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1]).astype(np.float32)
    depth = np.full((height, width), np.inf, dtype=np.float32)
    hit = np.full((height, width), -1, dtype=np.int32)
    world_to_camera = np.linalg.inv(camera_to_world)
    for b in range(len(boxes.center)):
        window = _screen_window(boxes, b, intrinsics, world_to_camera, image_size)
        if window is None:
            continue
        rows, cols = window
        distance = _cast_box(boxes, b, camera_to_world, x[cols], y[rows])
        nearer = distance < depth[rows, cols]
        depth[rows, cols][nearer] = distance[nearer]
        hit[rows, cols][nearer] = b
    depth[hit < 0] = 0
    return depth, hit


def _corners(boxes: BoxArrays, b: int) -> np.ndarray:
    """The eight corners of box `b` [8, 3]."""
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T
    rows = np.full(8, b)
    return boxes.to_world(signs * boxes.half[b], rows) + boxes.center[b]


def _screen_window(
    boxes: BoxArrays,
    b: int,
    intrinsics: np.ndarray,
    world_to_camera: np.ndarray,
    image_size: tuple[int, int],
) -> tuple[slice, slice] | None:
    """Rows and columns that box `b` can cover; None when it is out of sight."""
    corners = _corners(boxes, b) @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]  # [8, 3]
    z = corners[:, 2]
    height, width = image_size
    if (z < NEAR).all():
        return None
    if (z < NEAR).any():  # reaches behind the camera: its projection is unbounded
        return slice(0, height), slice(0, width)
    pixels = corners @ intrinsics.T
    low = np.floor((pixels[:, :2] / z[:, None]).min(axis=0))
    high = np.ceil((pixels[:, :2] / z[:, None]).max(axis=0))
    col, row = np.maximum(low, 0)
    col_end, row_end = np.minimum(high + 1, (width, height))
    if col >= col_end or row >= row_end:
        return None
    return slice(int(row), int(row_end)), slice(int(col), int(col_end))


def _cast_box(
    boxes: BoxArrays, b: int, camera_to_world: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Depth [h, w] float32 at which each ray (x, y, 1) enters box `b`; inf = it misses."""
    turn = np.array([[boxes.cos[b], boxes.sin[b], 0], [-boxes.sin[b], boxes.cos[b], 0], [0, 0, 1]])
    axes = (turn @ camera_to_world[:3, :3]).astype(np.float32)  # camera axes in the box frame
    origin = turn @ (camera_to_world[:3, 3] - boxes.center[b])
    enter = np.full((len(y), len(x)), NEAR, dtype=np.float32)
    leave = np.full((len(y), len(x)), np.inf, dtype=np.float32)
    for k in range(3):
        direction = axes[k, 0] * x[None, :] + (axes[k, 1] * y + axes[k, 2])[:, None]  # [h, w]
        direction[np.abs(direction) < 1e-9] = 1e-9
        first = np.float32(-boxes.half[b, k] - origin[k]) / direction
        second = np.float32(boxes.half[b, k] - origin[k]) / direction
        np.maximum(enter, np.minimum(first, second), out=enter)
        np.minimum(leave, np.maximum(first, second), out=leave)
    enter[enter > leave] = np.inf
    enter[enter <= NEAR] = np.inf  # the camera is inside the box
    return enter


class Lamp(NamedTuple):
    """A point light with the shadow maps of the five directions it shines into."""

    position: np.ndarray  # [3]
    axes: np.ndarray  # [5, 3, 3] camera axes (columns) of each map
    depth: np.ndarray  # [5, S, S] float32 metres, inf where nothing is hit


def make_lamp(boxes: BoxArrays, position: Sequence[float]) -> Lamp:
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
    return Lamp(np.array(position, dtype=np.float64), np.stack(axes), np.stack(maps))


def _lit_fraction(lamp: Lamp, points: np.ndarray) -> np.ndarray:
    """Share [P] of a 3 x 3 neighbourhood of shadow-map pixels that the lamp reaches."""
    local = np.einsum("pk,fkj->pfj", points - lamp.position, lamp.axes)  # [P, 5, 3]
    face = local[:, :, 2].argmax(axis=1)  # the map whose axis is nearest
    x, y, z = np.take_along_axis(local, face[:, None, None], axis=1)[:, 0].T
    behind = z <= NEAR  # above the lamp: nothing stands there
    z = np.maximum(z, NEAR)
    half = (SHADOW_SIZE - 1) / 2
    lit = np.zeros(len(points))
    for row_step in (-1.5, 0, 1.5):
        for col_step in (-1.5, 0, 1.5):
            row = np.rint(half + half * y / z + row_step).clip(0, SHADOW_SIZE - 1).astype(np.int64)
            col = np.rint(half + half * x / z + col_step).clip(0, SHADOW_SIZE - 1).astype(np.int64)
            lit += z <= lamp.depth[face, row, col] * 1.02 + 0.02
    return np.where(behind, 1.0, lit / 9)


def shade(boxes: BoxArrays, lamp: Lamp, points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Colour of surface points: texture times (ambient + Lambert with shadow and fall-off).

    Args:
        boxes: the scene.
        lamp: its light.
        points: surface points [P, 3].
        box: the box each of them lies on [P].

    Returns:
        rgb [P, 3] uint8.
    """
    local = boxes.to_local(points, box)  # [P, 3]
    half = boxes.half[box]
    axis = (np.abs(local) - half).argmax(axis=1)  # the face is where |local| reaches half
    normal = np.zeros_like(local)
    rows = np.arange(len(points))
    normal[rows, axis] = np.sign(local[rows, axis])
    normal = boxes.to_world(normal, box)

    to_lamp = lamp.position - points
    distance = np.linalg.norm(to_lamp, axis=1)
    lambert = np.maximum((normal * to_lamp).sum(axis=1) / np.maximum(distance, 1e-6), 0)
    ambient = 0.5 + 0.06 * normal[:, 2] + 0.05 * normal[:, 0]  # sides differ a little
    direct = lambert * _lit_fraction(lamp, points) / (1 + (distance / 4.5) ** 2)
    albedo = paint(boxes.color[box], boxes.texture[box], half, local, axis, box)
    rgb = albedo * (ambient + 0.62 * direct)[:, None]
    return (255 * rgb.clip(0, 1) ** (1 / 1.15)).round().astype(np.uint8)
