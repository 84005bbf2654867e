"""Where things stand: rectangles on floor and walls that must not overlap, and what is placed.

The room spans [0, width] x [0, depth] x [0, height] with z up. Wall 0 is y = 0, then
counter-clockwise: x = width, y = depth, x = 0.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from xmask3d_rt.data.boxes import Box
from xmask3d_rt.data.parts import Piece, Top


class Rect(NamedTuple):
    """An axis-aligned rectangle, on the floor (x, y) or on a wall (along, z)."""

    low: tuple[float, float]
    high: tuple[float, float]

    def overlaps(self, other: "Rect", gap: float) -> bool:
        """Whether the two are closer than `gap` on both axes."""
        return all(
            self.low[k] < other.high[k] + gap and other.low[k] < self.high[k] + gap for k in (0, 1)
        )


class Place(NamedTuple):
    """Where the origin of a piece lies and how far it is turned about z."""

    x: float
    y: float
    yaw: float
    z: float = 0.0

    def moved(self, x: float, y: float, yaw: float = 0.0, z: float = 0.0) -> "Place":
        """The place that lies at (x, y, z), turned by `yaw`, in the frame of this one."""
        cos, sin = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        at = (self.x + cos * x - sin * y, self.y + sin * x + cos * y)
        return Place(*at, self.yaw + yaw, self.z + z)

    def footprint(self, piece: Piece) -> Rect:
        """Floor rectangle around a piece that stands here."""
        corners = [
            self.moved(x, y)[:2]
            for x in (-piece.width / 2, piece.width / 2)
            for y in (0, piece.depth)
        ]
        low, high = np.min(corners, axis=0), np.max(corners, axis=0)
        return Rect((float(low[0]), float(low[1])), (float(high[0]), float(high[1])))


@dataclass
class Layout:
    """A room being furnished: what stands where."""

    width: float
    depth: float
    height: float
    room_type: str = "room"
    boxes: list[Box] = field(default_factory=list)
    solid: list[Rect] = field(default_factory=list)  # furniture on the floor
    clear: list[Rect] = field(default_factory=list)  # floor that must stay free, as at a door
    walls: list[list[Rect]] = field(default_factory=lambda: [[], [], [], []])
    tops: list[tuple[Top, Place]] = field(default_factory=list)
    targets: list[tuple[float, float, float]] = field(default_factory=list)  # worth a look
    instances: int = 0

    def wall_length(self, wall: int) -> float:
        """Metres along wall 0-3."""
        return self.width if wall % 2 == 0 else self.depth

    def to_floor(self, wall: int, along: float) -> Place:
        """The place of a piece `along` metres down a wall, its back against it."""
        return (
            Place(along, 0.0, 0.0),
            Place(self.width, along, np.pi / 2),
            Place(self.width - along, self.depth, np.pi),
            Place(0.0, self.depth - along, -np.pi / 2),
        )[wall]

    def put(self, piece: Piece, place: Place) -> None:
        """Add a piece at a place: every kind of thing in it is an instance of its own."""
        number: dict[int, int] = {}
        for box in piece.boxes:
            number.setdefault(box.label, self.instances + len(number))
            offset = (place.x, place.y, place.z)
            self.boxes.append(box.placed(place.yaw, offset, number[box.label]))
        self.instances += len(number)
        self.tops += [(top, place) for top in piece.tops]
        middle = place.moved(0, piece.depth / 2)
        self.targets.append((middle.x, middle.y, place.z + piece.height / 2))

    def add_instance(self, boxes: list[Box]) -> None:
        """Add solids in place as one instance of their own."""
        self.boxes += [box.placed(0.0, (0.0, 0.0, 0.0), self.instances) for box in boxes]
        self.instances += 1

    def fits(self, rect: Rect, gap: float = 0.06) -> bool:
        """Whether a floor rectangle lies inside the room, off everything solid and clear."""
        inside = rect.low[0] >= 0 and rect.low[1] >= 0
        inside = inside and rect.high[0] <= self.width and rect.high[1] <= self.depth
        return inside and not any(rect.overlaps(r, gap) for r in self.solid + self.clear)

    def wall_is_free(self, wall: int, span: Rect, gap: float) -> bool:
        """Whether a rectangle on a wall lies on it, off everything that hangs or stands there."""
        outside = span.low[0] < 0.02 or span.high[0] > self.wall_length(wall) - 0.02
        outside = outside or span.high[1] > self.height
        return not outside and not any(span.overlaps(r, gap) for r in self.walls[wall])

    def clip(self, rect: Rect) -> Rect:
        """The part of a floor rectangle inside the room."""
        low = (max(rect.low[0], 0.0), max(rect.low[1], 0.0))
        return Rect(low, (min(rect.high[0], self.width), min(rect.high[1], self.depth)))
