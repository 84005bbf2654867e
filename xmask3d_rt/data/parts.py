"""What pieces of furniture are put together from: solids, places for other things, neighbours.

Every piece stands at the origin of its own frame: x along its width (centred), y from its back
(0) to its front, z up from the floor.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from xmask3d_rt.data.boxes import Box
from xmask3d_rt.data.rooms.draws import Color, Draw
from xmask3d_rt.data.rooms.kinds import KINDS

Corner = tuple[float, float, float]


class Top(NamedTuple):
    """A horizontal surface that things can lie on."""

    low: tuple[float, float]  # metres in the frame of the piece
    high: tuple[float, float]
    z: float
    use: str  # which things: a key of `clutter.THINGS`


class Neighbour(NamedTuple):
    """A piece that usually stands beside another one, where there is room for it."""

    kind: str
    x: float
    y: float
    yaw: float
    chance: float


@dataclass
class Piece:
    """One piece of furniture in its own frame."""

    kind: str
    boxes: list[Box]
    width: float  # metres along x
    depth: float  # metres along y
    height: float
    tops: list[Top] = field(default_factory=list)
    neighbours: list[Neighbour] = field(default_factory=list)


class Builder:
    """Collects the solids of one piece.

    Attributes:
        draw: parameters of the room.
    """

    def __init__(self, kind: str, draw: Draw) -> None:
        self.kind = kind
        self.draw = draw
        self._scale = draw.uniform(0.75, 1.3)
        self._pattern = draw.pattern()
        self._boxes: list[Box] = []
        self._tops: list[Top] = []
        self._neighbours: list[Neighbour] = []

    def solid(
        self,
        center: Corner,
        size: Corner,
        color: Color,
        texture: str = "plain",
        kind: str | None = None,
        **shape: object,
    ) -> None:
        """Append a solid, of the piece's kind unless told otherwise; `shape` as of `Box`."""
        label = KINDS.index(kind or self.kind)
        # Two solids of a piece look different; by an even step training patterns stay even.
        pattern = self._pattern + 2 * len(self._boxes)
        self._boxes.append(
            Box(
                center,
                size,
                color,
                texture,
                label,
                pattern=pattern,
                scale=self._scale,
                **shape,  # type: ignore[arg-type]
            )
        )

    def add(
        self,
        low: Corner,
        high: Corner,
        color: Color,
        texture: str = "plain",
        kind: str | None = None,
    ) -> None:
        """Append the box between two corners."""
        (x, y, z), (u, v, w) = low, high
        center = ((x + u) / 2, (y + v) / 2, (z + w) / 2)
        self.solid(center, (u - x, v - y, w - z), color, texture, kind)

    def tube(
        self,
        at: tuple[float, float],
        heights: tuple[float, float],
        radius: float | tuple[float, float],
        color: Color,
        texture: str = "plain",
        taper: float = 1.0,
        kind: str | None = None,
    ) -> None:
        """Append an upright cylinder, round or (two radii) oval; `taper`: upper by lower radius."""
        low, high = heights
        across, along = radius if isinstance(radius, tuple) else (radius, radius)
        size = (2 * across, 2 * along, high - low)
        center = (*at, (low + high) / 2)
        self.solid(center, size, color, texture, kind, shape="cylinder", taper=taper)

    def rod(
        self,
        start: Corner,
        end: Corner,
        radius: float,
        color: Color,
        texture: str = "plain",
        taper: float = 1.0,
        kind: str | None = None,
    ) -> None:
        """Append a cylinder between any two points."""
        way = np.subtract(end, start)
        length = float(np.linalg.norm(way))
        tilt = float(np.arccos(way[2] / length))
        yaw = float(np.arctan2(way[0], -way[1]))
        x, y, z = (float(value) for value in np.add(start, end) / 2)
        turn = {"yaw": yaw, "tilt": tilt, "shape": "cylinder", "taper": taper}
        self.solid((x, y, z), (2 * radius, 2 * radius, length), color, texture, kind, **turn)

    def ball(
        self,
        center: Corner,
        size: Corner,
        color: Color,
        texture: str = "plain",
        kind: str | None = None,
        **turn: float,
    ) -> None:
        """Append an ellipsoid of three diameters."""
        self.solid(center, size, color, texture, kind, shape="ball", **turn)

    def legs(
        self,
        width: float,
        depth: float,
        height: float,
        thick: float,
        color: Color,
        round_: bool = False,
    ) -> None:
        """Four legs at the corners of a width x depth footprint."""
        for x in (-width / 2, width / 2 - thick):
            for y in (0.0, depth - thick):
                if round_:
                    at = (x + thick / 2, y + thick / 2)
                    self.tube(at, (0, height), thick / 2, color, "wood", taper=1.3)
                else:
                    self.add((x, y, 0), (x + thick, y + thick, height), color, "wood")

    def top(self, low: tuple[float, float], high: tuple[float, float], z: float, use: str) -> None:
        """Let things lie on a rectangle at height z."""
        self._tops.append(Top(low, high, z, use))

    def beside(self, kind: str, x: float, y: float, yaw: float = 0.0, chance: float = 1.0) -> None:
        """Let another piece stand with its origin at (x, y), where there is room."""
        self._neighbours.append(Neighbour(kind, x, y, yaw, chance))

    def piece(self) -> Piece:
        """The collected solids with their common footprint."""
        radius = [_reach(box) for box in self._boxes]
        low = np.min(
            [np.subtract(b.center, r) for b, r in zip(self._boxes, radius, strict=True)], axis=0
        )
        high = np.max(
            [np.add(b.center, r) for b, r in zip(self._boxes, radius, strict=True)], axis=0
        )
        width = 2 * float(max(-low[0], high[0]))
        return Piece(
            self.kind,
            self._boxes,
            width,
            float(high[1]),
            float(high[2]),
            self._tops,
            self._neighbours,
        )


def _reach(box: Box) -> np.ndarray:
    """Half sizes [3] of the upright hull of a solid."""
    x, y, z = np.divide(box.size, 2)
    cos, sin = abs(np.cos(box.yaw)), abs(np.sin(box.yaw))
    up, side = abs(np.cos(box.tilt)), abs(np.sin(box.tilt))
    y, z = up * y + side * z, side * y + up * z
    return np.array([cos * x + sin * y, sin * x + cos * y, z])


def add_folds(
    build: Builder,
    start: float,
    end: float,
    y: float,
    heights: tuple[float, float],
    color: Color,
    texture: str = "fabric",
    kind: str | None = None,
) -> None:
    """Hanging cloth: upright round pleats side by side."""
    pleats = max(int((end - start) / 0.09), 2)
    step = (end - start) / pleats
    for pleat in range(pleats):
        at = (start + step * (pleat + 0.5), y + 0.035 + 0.012 * (pleat % 2))
        build.tube(at, heights, (step * 0.56, 0.03), color, texture, kind=kind)


def add_basin(
    build: Builder,
    low: tuple[float, float],
    high: tuple[float, float],
    heights: tuple[float, float],
    color: Color,
    texture: str = "plain",
    kind: str | None = None,
    thick: float = 0.04,
) -> None:
    """Four rims and a bottom between two corners of a rectangle."""
    (x0, y0), (x1, y1), (bottom, top) = low, high, heights
    build.add((x0, y0, bottom), (x1, y1, bottom + 0.02), color, texture, kind)
    build.add((x0, y0, bottom), (x1, y0 + thick, top), color, texture, kind)
    build.add((x0, y1 - thick, bottom), (x1, y1, top), color, texture, kind)
    build.add((x0, y0, bottom), (x0 + thick, y1, top), color, texture, kind)
    build.add((x1 - thick, y0, bottom), (x1, y1, top), color, texture, kind)


def add_tap(build: Builder, x: float, y: float, z: float, color: Color, kind: str) -> None:
    """A tap that stands at (x, y, z) and reaches forward."""
    build.tube((x, y), (z, z + 0.22), 0.016, color, "metal", kind=kind)
    build.rod((x, y, z + 0.21), (x, y + 0.17, z + 0.19), 0.014, color, "metal", kind=kind)
