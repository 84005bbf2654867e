"""Where the furniture of a generated room stands: seeded placement without overlaps.

The room spans [0, width] x [0, depth] x [0, height] with z up. Wall 0 is y = 0, then
counter-clockwise: x = width, y = depth, x = 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from xmask3d_rt.data.boxes import Box
from xmask3d_rt.data.furniture import PIECES
from xmask3d_rt.data.parts import ROOM_CLASSES, Piece, draw_pale, draw_wood

WALL_THICKNESS = 0.1
WALL_GAP = 0.07  # metres between a wall and what stands against it
TRIES = 80  # random positions tried per piece before it is left out
BEFORE_TABLES = 3  # large pieces; the rest takes what tables leave
FLOOR_STANDING = (
    "bed",
    "sofa",
    "bookshelf",
    "desk",
    "cabinet",
    "counter",
    "refrigerator",
    "bathtub",
    "toilet",
    "otherfurniture",
)
PLACEABLE = (*FLOOR_STANDING, "table", "chair", "door", "window", "curtain", "picture")


class Rect(NamedTuple):
    """An axis-aligned rectangle, on the floor (x, y) or on a wall (along, z)."""

    low: tuple[float, float]
    high: tuple[float, float]

    def overlaps(self, other: "Rect", gap: float) -> bool:
        """Whether the two are closer than `gap` on both axes."""
        return all(
            self.low[k] < other.high[k] + gap and other.low[k] < self.high[k] + gap for k in (0, 1)
        )


@dataclass
class Layout:
    """A room being furnished: what stands where."""

    width: float
    depth: float
    height: float
    boxes: list[Box] = field(default_factory=list)
    solid: list[Rect] = field(default_factory=list)  # furniture on the floor
    clear: list[Rect] = field(default_factory=list)  # floor that must stay free, as at a door
    walls: list[list[Rect]] = field(default_factory=lambda: [[], [], [], []])

    def wall_length(self, wall: int) -> float:
        """Metres along wall 0-3."""
        return self.width if wall % 2 == 0 else self.depth

    def to_floor(self, wall: int, along: float) -> tuple[float, float, float]:
        """Position (x, y) and yaw of a piece `along` metres down a wall, its back against it."""
        return (
            (along, 0.0, 0.0),
            (self.width, along, np.pi / 2),
            (self.width - along, self.depth, np.pi),
            (0.0, self.depth - along, -np.pi / 2),
        )[wall]

    def put(self, piece: Piece, x: float, y: float, yaw: float) -> None:
        """Add the boxes of a piece at a place."""
        self.boxes += [box.placed(yaw, (x, y, 0.0)) for box in piece.boxes]

    def fits(self, rect: Rect, gap: float = 0.06) -> bool:
        """Whether a floor rectangle lies inside the room, off everything solid and clear."""
        inside = rect.low[0] >= 0 and rect.low[1] >= 0
        inside = inside and rect.high[0] <= self.width and rect.high[1] <= self.depth
        return inside and not any(rect.overlaps(r, gap) for r in self.solid + self.clear)


def furnish_room(
    rng: np.random.Generator, furniture: Sequence[str] | None, ceiling: bool
) -> Layout:
    """A room of random size with its shell and as much of `furniture` as fits.

    Args:
        rng: generator of every choice.
        furniture: names from `PLACEABLE`, large pieces first; None draws a set.
        ceiling: whether the room has one.
    """
    room = Layout(rng.uniform(4.4, 6.2), rng.uniform(3.8, 5.2), rng.uniform(2.5, 2.8))
    _add_shell(room, rng, ceiling)
    names = list(_draw_furniture(rng) if furniture is None else furniture)
    for name in ("door", "window"):
        for _ in range(names.count(name)):
            _hang(room, rng, name)
    standing = [name for name in FLOOR_STANDING for _ in range(names.count(name))]
    for name in standing[:BEFORE_TABLES]:
        _stand_at_wall(room, rng, name)
    _set_tables(room, rng, names.count("table"), names.count("chair"))
    for name in standing[BEFORE_TABLES:]:
        _stand_at_wall(room, rng, name)
    for name in ("curtain", "picture"):
        for _ in range(names.count(name)):
            _hang(room, rng, name)
    return room


def _draw_furniture(rng: np.random.Generator) -> list[str]:
    """A believable set: always a door, a window and a table, then five to eight large pieces."""
    large = list(rng.permutation(FLOOR_STANDING))[: int(rng.integers(5, 9))]
    names = [*large, "door", "window", "table", *["chair"] * int(rng.integers(2, 5))]
    names += ["curtain"] * int(rng.integers(0, 3)) + ["picture"] * int(rng.integers(1, 4))
    return names


def _add_shell(room: Layout, rng: np.random.Generator, ceiling: bool) -> None:
    """Floor, four walls with skirting, a rug, and the ceiling where asked for."""
    w, d, h, t = room.width, room.depth, room.height, WALL_THICKNESS
    floor, wall = ROOM_CLASSES.index("floor"), ROOM_CLASSES.index("wall")
    texture = str(rng.choice(["planks", "planks", "tiles", "carpet"]))
    color = draw_wood(rng) if texture == "planks" else draw_pale(rng)
    size = (w + 2 * t, d + 2 * t, t)
    room.boxes.append(Box((w / 2, d / 2, -t / 2), size, color, texture, floor))
    paint, accent = draw_pale(rng), draw_pale(rng)
    for k, (x, y, sx, sy) in enumerate(
        [
            (w / 2, -t / 2, w + 2 * t, t),
            (w + t / 2, d / 2, t, d + 2 * t),
            (w / 2, d + t / 2, w + 2 * t, t),
            (-t / 2, d / 2, t, d + 2 * t),
        ]
    ):
        tone = accent if k == 2 else paint
        room.boxes.append(Box((x, y, h / 2), (sx, sy, h), tone, "plain", wall))
    for x, y, sx, sy in [
        (w / 2, 0.006, w, 0.012),
        (w - 0.006, d / 2, 0.012, d),
        (w / 2, d - 0.006, w, 0.012),
        (0.006, d / 2, 0.012, d),
    ]:
        room.boxes.append(Box((x, y, 0.04), (sx, sy, 0.08), (0.85, 0.83, 0.8), "plain", wall))
    if ceiling:
        top = Box((w / 2, d / 2, h + t / 2), size, (0.93, 0.93, 0.91))
        room.boxes.append(top)


def _hang(room: Layout, rng: np.random.Generator, name: str) -> bool:
    """Put a door, window, curtain or picture on a wall; False when there is no place."""
    piece = PIECES[name](rng)
    low = min(box.center[2] - box.size[2] / 2 for box in piece.boxes)
    for attempt in range(TRIES):
        wall = int(rng.integers(4))
        along = rng.uniform(piece.width / 2 + 0.1, room.wall_length(wall) - piece.width / 2 - 0.1)
        windows = [(k, r) for k in range(4) for r in room.walls[k] if 0.5 < r.low[1] < 1.1]
        if name == "curtain" and windows and attempt < TRIES // 2:  # beside a window
            wall, rect = windows[attempt % len(windows)]
            side = rect.low[0] - 0.2 if rng.uniform() < 0.5 else rect.high[0] + 0.2
            along = side
        span = Rect((along - piece.width / 2, low), (along + piece.width / 2, piece.height))
        outside = span.low[0] < 0.02 or span.high[0] > room.wall_length(wall) - 0.02
        gap = -0.25 if name == "curtain" else 0.08
        if outside or any(span.overlaps(r, gap) for r in room.walls[wall]):
            continue
        reach = _wall_rect(room, wall, along, piece.width, 0.9 if name == "door" else piece.depth)
        if name == "door":
            room.clear.append(reach)
        elif low < 0.5:
            if not room.fits(reach, 0.0):
                continue
            room.solid.append(reach)
        room.walls[wall].append(span)
        room.put(piece, *room.to_floor(wall, along))
        return True
    return False


def _wall_rect(room: Layout, wall: int, along: float, width: float, depth: float) -> Rect:
    """Floor rectangle of `width` along a wall and `depth` away from it."""
    x, y, yaw = room.to_floor(wall, along)
    cos, sin = round(np.cos(yaw)), round(np.sin(yaw))
    corners = [
        (x + cos * a - sin * b, y + sin * a + cos * b)
        for a in (-width / 2, width / 2)
        for b in (0, depth)
    ]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    return Rect(tuple(np.maximum(low, 0)), tuple(np.minimum(high, (room.width, room.depth))))


def _stand_at_wall(room: Layout, rng: np.random.Generator, name: str) -> bool:
    """Stand a piece with its back to a wall; False when there is no place."""
    piece = PIECES[name](rng)
    for _ in range(TRIES):
        wall = int(rng.integers(4))
        length = room.wall_length(wall)
        along = rng.uniform(piece.width / 2 + 0.03, length - piece.width / 2 - 0.03)
        rect = _wall_rect(room, wall, along, piece.width, piece.depth + WALL_GAP)
        span = Rect((along - piece.width / 2, 0.0), (along + piece.width / 2, piece.height))
        if not room.fits(rect) or any(span.overlaps(r, 0.02) for r in room.walls[wall]):
            continue
        x, y, yaw = room.to_floor(wall, along)
        room.solid.append(rect)
        room.walls[wall].append(span)
        room.put(piece, x - WALL_GAP * np.sin(yaw), y + WALL_GAP * np.cos(yaw), yaw)
        return True
    return False


def _set_tables(room: Layout, rng: np.random.Generator, tables: int, chairs: int) -> None:
    """Tables in the open floor, with the chairs around them; further chairs stand free."""
    for _ in range(tables):
        table = PIECES["table"](rng)
        for attempt in range(2 * TRIES):
            seats = min(chairs, 4) if attempt < TRIES else 0  # without chairs when cramped
            reach = 0.35 if seats else 0.05
            turned = bool(rng.integers(2))
            w, d = table.width + 0.1, table.depth + 2 * reach
            half = (d / 2, w / 2) if turned else (w / 2, d / 2)
            x, y = (
                rng.uniform(h, s - h) for h, s in zip(half, (room.width, room.depth), strict=True)
            )
            rect = Rect((x - half[0], y - half[1]), (x + half[0], y + half[1]))
            if room.fits(rect, 0.1):
                chairs -= _set_table(room, rng, table, seats, (x, y), np.pi / 2 * turned)
                room.solid.append(rect)
                break
    for _ in range(chairs):
        _stand_free(room, rng)


def _set_table(
    room: Layout,
    rng: np.random.Generator,
    table: Piece,
    seats: int,
    center: tuple[float, float],
    yaw: float,
) -> int:
    """Put one table, its middle at `center`, and chairs on its long sides; chairs used."""
    x, y = center
    cos, sin = np.cos(yaw), np.sin(yaw)

    def place(piece: Piece, a: float, b: float, turn: float) -> None:
        room.put(piece, x + cos * a - sin * b, y + sin * a + cos * b, yaw + turn)

    place(table, 0.0, -table.depth / 2, 0.0)
    style = int(rng.integers(2**31))  # the chairs of one table match
    for seat in range(seats):
        chair = PIECES["chair"](np.random.default_rng(style))
        side = 1 if seat % 2 == 0 else -1
        along = (table.width / 4) * (1 if seat < 2 else -1) * side if seats > 2 else 0.0
        away = table.depth / 2 + rng.uniform(0.15, 0.3)
        turn = rng.uniform(-0.25, 0.25) + (np.pi if side > 0 else 0.0)
        place(chair, along, side * away, turn)
    return seats


def _stand_free(room: Layout, rng: np.random.Generator) -> bool:
    """A chair anywhere on open floor, at any angle."""
    chair = PIECES["chair"](rng)
    for _ in range(TRIES):
        x, y = rng.uniform(0.4, room.width - 0.4), rng.uniform(0.4, room.depth - 0.4)
        rect = Rect((x - 0.34, y - 0.34), (x + 0.34, y + 0.34))
        if room.fits(rect):
            yaw = rng.uniform(0, 2 * np.pi)
            room.solid.append(rect)
            room.put(chair, x + 0.22 * np.sin(yaw), y - 0.22 * np.cos(yaw), yaw)
            return True
    return False
