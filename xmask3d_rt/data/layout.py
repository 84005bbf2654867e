"""Furnishing a generated room: seeded placement without overlaps."""

from collections.abc import Sequence

import numpy as np

from xmask3d_rt.data.furniture import PIECES, SHAPES
from xmask3d_rt.data.parts import Neighbour, Piece, Top
from xmask3d_rt.data.rooms.draws import Draw
from xmask3d_rt.data.rooms.floor_plan import Layout, Place, Rect
from xmask3d_rt.data.rooms.recipes import THINGS, draw_recipe, draw_size
from xmask3d_rt.data.rooms.shell import add_shell

WALL_GAP = 0.07  # metres between a wall and what stands against it
TRIES = 60  # random positions tried per piece before it is left out
BEFORE_TABLES = 3  # large pieces; the rest takes what tables leave
OPENINGS = ("door", "window")
HUNG = ("curtain", "blinds", "whiteboard", "mirror", "picture", "shelf", "towel", "clock")
LOOSE = (  # anywhere on the floor
    *("chair", "stool", "ottoman", "box", "backpack", "bucket", "basket", "trash can"),
    *("suitcase", "teddy bear", "fan"),
)
LYING = (  # usually on something else, on the floor where asked for
    *("monitor", "television", "pillow", "keyboard", "laptop", "books", "microwave", "vase"),
    *("bottle", "cup", "printer"),
)
PLACEABLE = tuple(PIECES)


def furnish_room(draw: Draw, furniture: Sequence[str] | None, ceiling: bool) -> Layout:
    """A room of random type and size with its shell and as much of `furniture` as fits.

    Args:
        draw: of every choice.
        furniture: names from `PLACEABLE`, large pieces first; None draws what a room of the
            type usually holds.
        ceiling: whether the room has one.
    """
    room_type, usual = draw_recipe(draw)
    if furniture is not None:
        room_type, usual = "room", list(furniture)
    room = Layout(*draw_size(draw, room_type), room_type)
    add_shell(room, draw, ceiling)
    return _Furnisher(room, draw).furnish(usual)


class _Furnisher:
    """Puts pieces into a room, one after the other, where they fit."""

    def __init__(self, room: Layout, draw: Draw) -> None:
        self.room, self.draw, self.rng = room, draw, draw.rng

    def furnish(self, names: list[str]) -> Layout:
        """Openings, large pieces, tables, the rest, what hangs, what lies on something."""
        for name in OPENINGS:
            self._repeat(self._hang, name, names)
        special = (*OPENINGS, *HUNG, *LOOSE, *LYING, "table", "rug", "ceiling lamp")
        standing = [name for name in names if name not in special]
        for name in standing[:BEFORE_TABLES]:
            self._stand_at_wall(name)
        self._set_tables(names.count("table"), names.count("chair"))
        for name in standing[BEFORE_TABLES:]:
            self._stand_at_wall(name)
        for name in HUNG:
            self._repeat(self._hang, name, names)
        for name in (*LOOSE[1:], *LYING):
            self._repeat(self._stand_free, name, names)
        self._repeat(self._lay_rug, "rug", names)
        self._repeat(self._hang_from_ceiling, "ceiling lamp", names)
        for top, place in list(self.room.tops):
            self._lay_things(top, place)
        return self.room

    def _repeat(self, action, name: str, names: list[str]) -> None:
        for _ in range(names.count(name)):
            action(name)

    def _hang(self, name: str) -> bool:
        """Put a piece on a wall; False when there is no place."""
        piece = SHAPES[name](self.draw)
        windows = [(k, r) for k in range(4) for r in self.room.walls[k] if 0.6 < r.low[1] < 1.0]
        for attempt in range(TRIES):
            wall = int(self.rng.integers(4))
            room_for = self.room.wall_length(wall) - piece.width - 0.2
            along = piece.width / 2 + 0.1 + self.rng.uniform() * max(room_for, 0)
            if name in ("curtain", "blinds") and windows and attempt < TRIES // 2:
                wall, rect = windows[attempt % len(windows)]
                sides = (rect.low[0] - 0.2, rect.high[0] + 0.2)
                along = sides[int(self.rng.integers(2))] if name == "curtain" else sum(sides) / 2
            if self._hang_at(name, piece, wall, along):
                return True
        return False

    def _hang_at(self, name: str, piece: Piece, wall: int, along: float) -> bool:
        """Put a piece at one place of a wall, where it fits."""
        low = min(box.center[2] - box.size[2] / 2 for box in piece.boxes)
        half = piece.width / 2
        span = Rect((along - half, low), (along + half, piece.height))
        gap = {"curtain": -0.25, "blinds": -0.6}.get(name, 0.06)
        if not self.room.wall_is_free(wall, span, gap):
            return False
        reach = 0.9 if name == "door" else piece.depth
        place = self.room.to_floor(wall, along)
        floor = Piece(name, piece.boxes, piece.width, reach, piece.height)
        rect = self.room.clip(place.footprint(floor))
        if name == "door":
            self.room.clear.append(rect)
        elif low < 0.5:
            if not self.room.fits(rect, 0.0):
                return False
            self.room.solid.append(rect)
        self.room.walls[wall].append(span)
        self.room.put(piece, place)
        return True

    def _stand_at_wall(self, name: str) -> bool:
        """Stand a piece with its back to a wall; False when there is no place."""
        piece = SHAPES[name](self.draw)
        windows = [(k, r) for k in range(4) for r in self.room.walls[k] if 0.6 < r.low[1] < 1.0]
        for attempt in range(TRIES):
            wall = int(self.rng.integers(4))
            free = self.room.wall_length(wall) - piece.width - 0.06
            along = piece.width / 2 + 0.03 + self.rng.uniform() * max(free, 0)
            if name == "radiator" and attempt < len(windows):
                wall, rect = windows[attempt]
                along = (rect.low[0] + rect.high[0]) / 2
            place = self.room.to_floor(wall, along).moved(0, WALL_GAP)
            rect = place.footprint(piece)
            half = piece.width / 2
            span = Rect((along - half, 0.0), (along + half, piece.height))
            if self.room.fits(rect) and self.room.wall_is_free(wall, span, 0.02):
                self.room.solid.append(rect)
                self.room.walls[wall].append(span)
                self.room.put(piece, place)
                for neighbour in piece.neighbours:
                    self._stand_beside(neighbour, place, wall, along)
                return True
        return False

    def _stand_beside(self, other: Neighbour, place: Place, wall: int, along: float) -> None:
        """Put what belongs to a piece next to it, where it fits."""
        if not self.draw.chance(other.chance):
            return
        piece = SHAPES[other.kind](self.draw)
        if other.kind in HUNG:
            self._hang_at(other.kind, piece, wall, along + other.x)
            return
        turn = other.yaw + self.rng.uniform(-0.15, 0.15) * other.kind.endswith("chair")
        beside = place.moved(other.x, other.y, turn)
        rect = beside.footprint(piece)
        if self.room.fits(rect, 0.0):
            self.room.solid.append(rect)
            self.room.put(piece, beside)

    def _set_tables(self, tables: int, chairs: int) -> None:
        """Tables in the open floor, with the chairs around them; further chairs stand free."""
        for _ in range(tables):
            table = SHAPES["table"](self.draw)
            for attempt in range(2 * TRIES):
                seats = min(chairs, 4) if attempt < TRIES else 0  # without chairs when cramped
                reach = 0.35 if seats else 0.05
                turned = bool(self.rng.integers(2))
                w, d = table.width + 0.1, table.depth + 2 * reach
                half = (d / 2, w / 2) if turned else (w / 2, d / 2)
                x, y = (
                    h + self.rng.uniform() * (side - 2 * h)
                    for h, side in zip(half, (self.room.width, self.room.depth), strict=True)
                )
                rect = Rect((x - half[0], y - half[1]), (x + half[0], y + half[1]))
                if self.room.fits(rect, 0.1):
                    chairs -= self._set_table(table, seats, Place(x, y, np.pi / 2 * turned))
                    self.room.solid.append(rect)
                    break
        for _ in range(chairs):
            self._stand_free("chair")

    def _set_table(self, table: Piece, seats: int, center: Place) -> int:
        """Put one table with its middle at a place, and chairs on its long sides; chairs used."""
        self.room.put(table, center.moved(0.0, -table.depth / 2))
        style = int(self.rng.integers(2**31))  # the chairs of one table match
        for seat in range(seats):
            chair = SHAPES["chair"](self.draw.again(style))
            side = 1 if seat % 2 == 0 else -1
            along = (table.width / 4) * (1 if seat < 2 else -1) * side if seats > 2 else 0.0
            away = table.depth / 2 + self.rng.uniform(0.15, 0.3)
            turn = self.rng.uniform(-0.25, 0.25) + (np.pi if side > 0 else 0.0)
            self.room.put(chair, center.moved(along, side * away, turn))
        return seats

    def _stand_free(self, name: str) -> bool:
        """A piece anywhere on open floor, at any angle; False when there is no place."""
        piece = SHAPES[name](self.draw)
        reach = float(np.hypot(piece.width, piece.depth)) / 2
        for _ in range(TRIES):
            x = self.rng.uniform(reach, max(self.room.width - reach, reach))
            y = self.rng.uniform(reach, max(self.room.depth - reach, reach))
            rect = Rect((x - reach, y - reach), (x + reach, y + reach))
            if self.room.fits(rect, 0.03):
                self.room.solid.append(rect)
                turned = Place(x, y, self.rng.uniform(0, 2 * np.pi))
                self.room.put(piece, turned.moved(0, -piece.depth / 2))
                return True
        return False

    def _lay_rug(self, name: str) -> None:
        """A rug on the floor, under whatever stands there."""
        piece = SHAPES[name](self.draw)
        x = self.room.width * self.rng.uniform(0.35, 0.65)
        y = self.room.depth * self.rng.uniform(0.35, 0.65)
        place = Place(x, y, np.pi / 2 * self.rng.integers(2)).moved(0, -piece.depth / 2)
        rect = place.footprint(piece)
        if rect == self.room.clip(rect):
            self.room.put(piece, place)

    def _hang_from_ceiling(self, name: str) -> None:
        """A lamp near the middle of the ceiling."""
        at = self.rng.uniform(0.35, 0.65, 2)
        place = Place(self.room.width * at[0], self.room.depth * at[1], 0.0, self.room.height)
        self.room.put(SHAPES[name](self.draw), place)

    def _lay_things(self, top: Top, place: Place) -> None:
        """Things on a surface, apart from each other, until they no longer fit."""
        taken: list[Rect] = []
        for thing in THINGS[top.use]:
            if not self.draw.chance(thing.chance):
                continue
            piece = SHAPES[thing.shape](self.draw)
            half, deep = piece.width / 2, piece.depth
            (x0, y0), (x1, y1) = top.low, top.high
            for _ in range(10):
                if thing.place is None:
                    x = x0 + half + self.rng.uniform() * (x1 - x0 - 2 * half)
                    y = y0 + self.rng.uniform() * (y1 - y0 - deep)
                else:
                    x = x0 + thing.place[0] * (x1 - x0)
                    y = y0 + thing.place[1] * (y1 - y0) - deep / 2
                rect = Rect((x - half, y), (x + half, y + deep))
                outside = x1 - x0 < 2 * half or y1 - y0 < deep
                if thing.place is None and outside:
                    break
                if not any(rect.overlaps(other, 0.01) for other in taken):
                    taken.append(rect)
                    turn = float(self.rng.uniform(-0.12, 0.12))
                    self.room.put(piece, place.moved(x, y, turn, top.z))
                    break
