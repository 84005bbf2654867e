"""Cabinets, bookshelves, dressers, wardrobes, TV stands, wall shelves."""

from xmask3d_rt.data.parts import Builder, Piece
from xmask3d_rt.data.rooms.draws import Color, Draw, tone

BRASS: Color = (0.75, 0.68, 0.45)


def _handle(build: Builder, x: float, y: float, z: float, metal: Color, upright: bool) -> None:
    """A bar or knob in front of a door or drawer."""
    half = (0.01, 0.06) if upright else (0.06, 0.01)
    low, high = (x - half[0], y, z - half[1]), (x + half[0], y + 0.03, z + half[1])
    build.add(low, high, metal, "metal")


def make_cabinet(draw: Draw) -> Piece:
    """A closed cupboard: low or high, one or two rows of doors, panelled, on feet or a plinth."""
    build = Builder("cabinet", draw)
    body = draw.wood() if draw.chance(0.5) else draw.pale()
    front = tone(body, 0.86)
    metal = BRASS if draw.chance(0.4) else draw.steel()
    w, depth = draw.uniform(0.75, 1.35) / 2, draw.uniform(0.38, 0.55)
    tall = draw.chance(0.4)
    height = draw.uniform(1.45, 1.75) if tall else draw.uniform(0.75, 1.1)
    build.add((-w, 0, 0.08), (w, depth, height), body, "wood")
    if draw.chance(0.5):
        build.add((-w + 0.03, 0, 0), (w - 0.03, depth - 0.05, 0.08), front)
    else:
        build.legs(2 * w, depth, 0.08, 0.06, body)
    rows = 2 if height > 1.3 else 1
    step = (height - 0.12) / rows
    panelled = draw.chance(0.5)
    for row in range(rows):
        low, high = 0.1 + row * step, 0.07 + (row + 1) * step
        for x in (-w, 0.0):
            build.add((x + 0.02, depth, low), (x + w - 0.02, depth + 0.02, high), front, "wood")
            if panelled:
                corner = (x + 0.1, depth + 0.02, low + 0.08)
                build.add(
                    corner, (x + w - 0.1, depth + 0.028, high - 0.08), tone(front, 0.9), "wood"
                )
            knob = -0.05 if x < 0 else 0.05
            z = high - 0.2 if row == 0 else low + 0.2
            _handle(build, knob, depth + 0.02, z, metal, True)
    if not tall:
        build.top((-w + 0.04, 0.04), (w - 0.04, depth - 0.04), height, "cabinet")
    return build.piece()


def make_bookshelf(draw: Draw) -> Piece:
    """An open case full of books, with gaps; two styles of back and of spacing."""
    build = Builder("bookshelf", draw)
    wood = draw.wood() if draw.chance(0.75) else draw.pale()
    w, depth, shelves = draw.uniform(0.7, 1.25) / 2, draw.uniform(0.26, 0.34), draw.integers(4, 6)
    step = draw.uniform(0.33, 0.4)
    height = step * shelves + 0.05
    if draw.chance(0.7):
        build.add((-w, 0, 0), (w, 0.02, height), tone(wood, 0.8), "wood")
    for x in (-w, w - 0.03):
        build.add((x, 0.02, 0), (x + 0.03, depth, height), wood, "wood")
    for shelf in range(shelves + 1):
        z = step * shelf
        build.add((-w + 0.03, 0.02, z), (w - 0.03, depth, z + 0.03), wood, "wood")
        if shelf < shelves:
            _fill_shelf(build, (-w + 0.03, w - 0.03), z + 0.03, depth, step)
    build.top((-w + 0.05, 0.03), (w - 0.05, depth - 0.03), height, "high")
    return build.piece()


def _fill_shelf(
    build: Builder, span: tuple[float, float], z: float, depth: float, step: float
) -> None:
    """Rows of upright books, now and then a gap."""
    draw = build.draw
    x, stop = span
    while x < stop - 0.15:
        end = min(x + draw.uniform(0.2, 0.5), stop)
        if draw.chance(0.85):
            top = z + (step - 0.06) * draw.uniform(0.65, 0.95)
            front = depth - draw.uniform(0.02, 0.08)
            build.add((x, 0.03, z), (end, front, top), (0.5, 0.4, 0.3), "books")
        x = end


def make_dresser(draw: Draw) -> Piece:
    """A chest of three to four rows of drawers, two side by side or one wide."""
    build = Builder("dresser", draw)
    wood = draw.wood() if draw.chance(0.6) else draw.pale()
    w, depth = draw.uniform(0.85, 1.4) / 2, draw.uniform(0.42, 0.52)
    rows, columns = draw.integers(3, 5), 2 if w > 0.5 else 1
    height = 0.14 + 0.21 * rows * draw.uniform(0.95, 1.1)
    build.legs(2 * w, depth, 0.1, 0.06, wood, True)
    build.add((-w, 0, 0.1), (w, depth, height - 0.03), wood, "wood")
    build.add(
        (-w - 0.02, 0, height - 0.03), (w + 0.02, depth + 0.03, height), tone(wood, 0.9), "wood"
    )
    step, wide = (height - 0.15) / rows, 2 * w / columns
    for row in range(rows):
        for column in range(columns):
            x, z = -w + column * wide, 0.11 + row * step
            face = (x + 0.015, depth, z + 0.01), (x + wide - 0.015, depth + 0.018, z + step - 0.01)
            build.add(*face, tone(wood, 1.18), "wood")
            for knob in (x + wide * 0.3, x + wide * 0.7):
                build.ball((knob, depth + 0.032, z + step / 2), (0.04,) * 3, BRASS, "metal")
    build.top((-w + 0.04, 0.05), (w - 0.04, depth - 0.03), height, "cabinet")
    return build.piece()


def make_wardrobe(draw: Draw) -> Piece:
    """A very tall cupboard: two or three doors from top to bottom, one of them may be a mirror."""
    build = Builder("wardrobe", draw)
    body = draw.wood() if draw.chance(0.65) else draw.pale()
    doors = draw.integers(2, 4)
    w, depth, height = (
        0.48 * doors * draw.uniform(0.9, 1.1) / 2,
        draw.uniform(0.55, 0.65),
        draw.uniform(1.95, 2.25),
    )
    build.add((-w, 0, 0), (w, depth, height), body, "wood")
    if draw.chance(0.5):
        build.add(
            (-w - 0.04, 0, height),
            (w + 0.04, depth + 0.05, height + 0.06),
            tone(body, 0.85),
            "wood",
        )
    step = 2 * w / doors
    mirrored = draw.integers(0, doors) if draw.chance(0.35) else -1
    for door in range(doors):
        x = -w + door * step
        face = (x + 0.01, depth, 0.08), (x + step - 0.01, depth + 0.02, height - 0.04)
        build.add(*face, tone(body, 1.1), "wood")
        if door == mirrored:
            build.add(
                (x + 0.07, depth + 0.02, 0.2),
                (x + step - 0.07, depth + 0.024, height - 0.15),
                (0.8,) * 3,
                "mirror",
            )
        side = x + step - 0.06 if door % 2 == 0 else x + 0.06
        build.add(
            (side - 0.01, depth + 0.02, 0.9),
            (side + 0.01, depth + 0.05, 1.2),
            draw.steel(),
            "metal",
        )
    return build.piece()


def make_tv_stand(draw: Draw) -> Piece:
    """A long low console, open in the middle, that a television stands on."""
    build = Builder("tv stand", draw)
    wood = draw.wood() if draw.chance(0.6) else draw.dark()
    w, depth, high = draw.uniform(1.1, 1.7) / 2, draw.uniform(0.36, 0.45), draw.uniform(0.4, 0.56)
    build.add((-w, 0, high - 0.04), (w, depth, high), wood, "wood")
    build.add((-w, 0, 0.06), (w, depth, 0.1), wood, "wood")
    build.add((-w, 0, 0.1), (w, 0.02, high - 0.04), tone(wood, 0.6), "wood")
    build.legs(2 * w, depth, 0.06, 0.06, wood)
    third = 2 * w / 3
    closed = draw.choice(((0, 2), (1,), ()))
    for bay in range(4):
        x = -w + bay * third
        build.add(
            (max(x - 0.012, -w), 0.02, 0.1), (min(x + 0.012, w), depth, high - 0.04), wood, "wood"
        )
    for bay in closed:
        x = -w + bay * third
        face = (x + 0.015, depth - 0.02, 0.11), (x + third - 0.015, depth + 0.01, high - 0.05)
        build.add(*face, tone(wood, 1.2), "wood")
    for bay in set(range(3)) - set(closed):
        x = -w + bay * third
        build.add(
            (x + 0.06, 0.08, 0.1), (x + third - 0.08, depth - 0.06, 0.17), (0.12,) * 3, "metal"
        )
    build.top((-0.1, 0.1), (0.1, depth - 0.1), high, "tv")
    return build.piece()


def make_shelf(draw: Draw) -> Piece:
    """Boards on brackets on a wall, with books, plants and vases on them."""
    build = Builder("shelf", draw)
    wood = draw.wood() if draw.chance(0.6) else draw.pale()
    w, depth = draw.uniform(0.6, 1.1) / 2, draw.uniform(0.2, 0.28)
    boards = draw.integers(1, 3)
    for board in range(boards):
        z = 1.3 + 0.38 * board
        build.add((-w, 0, z), (w, depth, z + 0.03), wood, "wood")
        for x in (-w + 0.1, w - 0.1):
            build.rod((x, 0.01, z - 0.14), (x, depth * 0.8, z), 0.01, draw.dark(), "metal")
            build.add((x - 0.01, 0, z - 0.16), (x + 0.01, 0.015, z), draw.dark(), "metal")
        build.top((-w + 0.04, 0.03), (w - 0.04, depth - 0.02), z + 0.03, "shelf")
    return build.piece()


SHAPES = {
    "cabinet": make_cabinet,
    "bookshelf": make_bookshelf,
    "dresser": make_dresser,
    "wardrobe": make_wardrobe,
    "tv stand": make_tv_stand,
    "shelf": make_shelf,
}
