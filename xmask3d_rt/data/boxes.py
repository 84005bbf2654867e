"""Textured solids that generated rooms are made of: boxes, cylinders (tapered or not) and balls.

A solid lies in a frame of its own: turned by `tilt` about its x axis, then by `yaw` about the
upright z axis, then moved to its centre. Inside that frame it spans [-half, half].
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from xmask3d_rt.data.textures import TEXTURES

SHAPES = ("box", "cylinder", "ball")
BOX, CYLINDER, BALL = range(len(SHAPES))


@dataclass(frozen=True)
class Box:
    """One solid: centre and size in metres, turned by `tilt` about x, then `yaw` about z.

    `label` is a class index, -1 belongs to no class; `instance` numbers the object it is part
    of. A cylinder stands along its z axis, `taper` is its upper radius over its lower one.
    `pattern` and `scale` vary its texture.
    """

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    color: tuple[float, float, float]
    texture: str = "plain"
    label: int = -1
    yaw: float = 0.0
    tilt: float = 0.0
    shape: str = "box"
    taper: float = 1.0
    instance: int = -1
    pattern: int = 0
    scale: float = 1.0

    def placed(self, yaw: float, offset: Sequence[float], instance: int = -1) -> "Box":
        """The solid turned by `yaw` about the origin, then moved by `offset` [3]."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        x, y, z = self.center
        center = (
            float(cos * x - sin * y + offset[0]),
            float(sin * x + cos * y + offset[1]),
            float(z + offset[2]),
        )
        return replace(self, center=center, yaw=self.yaw + yaw, instance=instance)


class BoxArrays(NamedTuple):
    """Many solids, one row each."""

    center: np.ndarray  # [B, 3] float64
    half: np.ndarray  # [B, 3] float64, half sizes
    turn: np.ndarray  # [B, 3, 3] float64, rotation from the frame of the solid to the world
    shape: np.ndarray  # [B] int64, index into SHAPES
    radii: np.ndarray  # [B, 2] float64, lower and upper radius of a cylinder over its half size
    color: np.ndarray  # [B, 3] float64 in [0, 1]
    texture: np.ndarray  # [B] int64, index into TEXTURES
    label: np.ndarray  # [B] int64
    instance: np.ndarray  # [B] int64
    pattern: np.ndarray  # [B] int64
    scale: np.ndarray  # [B] float64

    def to_local(self, points: np.ndarray, box: np.ndarray) -> np.ndarray:
        """World points [P, 3] in the frame of their solid [P]."""
        delta = points - self.center[box]
        return np.einsum("pji,pj->pi", self.turn[box], delta)  # [P, 3]

    def to_world(self, vectors: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Vectors [P, 3] of the frame of their solid [P] as world vectors (no translation)."""
        return np.einsum("pij,pj->pi", self.turn[box], vectors)  # [P, 3]

    def corners(self) -> np.ndarray:
        """The eight corners of every solid [B, 8, 3] in the world."""
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T
        local = signs[None] * self.half[:, None]  # [B, 8, 3]
        return np.einsum("bij,bcj->bci", self.turn, local) + self.center[:, None]

    def radius_at(self, z: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Radius [P] of cylinders [P] over their half size at heights z in [-1, 1]."""
        low, high = self.radii[box, 0], self.radii[box, 1]
        return (low + high) / 2 + (high - low) / 2 * z

    def contains(self, local: np.ndarray, b: int) -> np.ndarray:
        """Which points [P, 3] in the frame of solid `b` lie inside it, [P] bool."""
        unit = local / self.half[b]
        if self.shape[b] == BALL:
            return (unit**2).sum(axis=1) < 1
        if self.shape[b] == BOX:
            return (np.abs(unit) < 1).all(axis=1)
        radius = self.radius_at(unit[:, 2], np.full(len(unit), b))
        return (np.abs(unit[:, 2]) < 1) & ((unit[:, :2] ** 2).sum(axis=1) < radius**2)


def stack_boxes(boxes: Sequence[Box]) -> BoxArrays:
    """Rows for `cast_view` and `shade` from single solids, in order."""
    taper = np.array([b.taper for b in boxes], dtype=np.float64)
    return BoxArrays(
        center=np.array([b.center for b in boxes], dtype=np.float64).reshape(-1, 3),
        half=np.array([b.size for b in boxes], dtype=np.float64).reshape(-1, 3) / 2,
        turn=_rotations(
            np.array([b.yaw for b in boxes], dtype=np.float64),
            np.array([b.tilt for b in boxes], dtype=np.float64),
        ),
        shape=np.array([SHAPES.index(b.shape) for b in boxes], dtype=np.int64),
        radii=np.stack([1 / np.maximum(taper, 1), np.minimum(taper, 1)], axis=1),
        color=np.array([b.color for b in boxes], dtype=np.float64).reshape(-1, 3),
        texture=np.array([TEXTURES.index(b.texture) for b in boxes], dtype=np.int64),
        label=np.array([b.label for b in boxes], dtype=np.int64),
        instance=np.array([b.instance for b in boxes], dtype=np.int64),
        pattern=np.array([b.pattern for b in boxes], dtype=np.int64),
        scale=np.array([b.scale for b in boxes], dtype=np.float64),
    )


def _rotations(yaw: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    """Rz(yaw) Rx(tilt) of every row [B, 3, 3]."""
    cos, sin, up, side = np.cos(yaw), np.sin(yaw), np.cos(tilt), np.sin(tilt)
    zero = np.zeros_like(cos)
    rows = [
        [cos, -sin * up, sin * side],
        [sin, cos * up, -cos * side],
        [zero, side, up],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
