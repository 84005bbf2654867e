"""Other things that stand on the floor: plants, pianos, cases, ladders, guitars."""

import numpy as np

from xmask3d_rt.data.parts import Builder, Piece
from xmask3d_rt.data.rooms.draws import Draw, tone


def make_plant(draw: Draw) -> Piece:
    """A pot with a bush, a crown on a trunk, or long leaves that spread from the ground."""
    build = Builder("plant", draw)
    _grow(build, draw.uniform(0.13, 0.2), draw.uniform(0.24, 0.36), draw.uniform(0.6, 1.2))
    return build.piece()


def make_small_plant(draw: Draw) -> Piece:
    """A plant for tables and shelves."""
    build = Builder("plant", draw)
    _grow(build, draw.uniform(0.05, 0.08), draw.uniform(0.09, 0.13), draw.uniform(0.14, 0.26))
    return build.piece()


def _grow(build: Builder, radius: float, pot: float, tall: float) -> None:
    """A pot of some radius and height with leaves that reach `tall` metres above it."""
    draw = build.draw
    clay = draw.choice((draw.hsv((0.03, 0.06), (0.5, 0.7), (0.5, 0.75)), draw.pale(), draw.dark()))
    green = draw.hsv((0.24, 0.38), (0.5, 0.8), (0.4, 0.75))
    y = 1.8 * radius
    build.tube((0, y), (0, pot), radius * 0.72, clay, taper=1.35)
    build.tube((0, y), (pot, pot + 0.01), radius * 0.85, (0.2, 0.14, 0.1))
    style = draw.choice(("bush", "tree", "blades", "blades"))
    if style == "bush":
        for _ in range(6):
            size = tall * draw.uniform(0.35, 0.55)
            x, z = draw.uniform(-1, 1) * radius * 1.1, pot + tall * draw.uniform(0.25, 0.75)
            build.ball((x, y + draw.uniform(-1, 1) * radius * 1.1, z), (size,) * 3, green, "leaves")
        return
    if style == "tree":
        build.tube((0, y), (pot, pot + tall * 0.6), radius * 0.12, (0.36, 0.25, 0.16), "wood")
        for _ in range(5):
            size = tall * draw.uniform(0.25, 0.4)
            x, z = draw.uniform(-1, 1) * radius, pot + tall * draw.uniform(0.6, 0.95)
            build.ball((x, y + draw.uniform(-1, 1) * radius, z), (size,) * 3, green, "leaves")
        return
    for leaf in range(draw.integers(9, 14)):
        yaw, lean = 2.4 * leaf, draw.uniform(0.15, 0.8)
        length = tall * draw.uniform(0.7, 1.0)
        out = np.sin(lean) * length / 2
        at = (np.sin(yaw) * out, y - np.cos(yaw) * out, pot + np.cos(lean) * length / 2)
        wide = max(length * 0.16, 0.02)
        build.ball(at, (wide, wide * 0.15, length), green, "leaves", yaw=yaw, tilt=lean)


def make_piano(draw: Draw) -> Piece:
    """An upright piano: high case, keys on a ledge, two legs, pedals; a stool belongs to it."""
    build = Builder("piano", draw)
    case = draw.dark() if draw.chance(0.6) else tone(draw.wood(), 0.7)
    w, high = draw.uniform(1.35, 1.5) / 2, draw.uniform(1.1, 1.3)
    shine = draw.choice(("plain", "wood", "metal"))
    build.add((-w, 0, 0), (w, 0.32, high - 0.03), case, shine)
    build.add((-w - 0.02, 0, high - 0.03), (w + 0.02, 0.36, high), case, shine)
    build.add((-w, 0.32, 0.58), (w, 0.6, 0.66), case, shine)
    build.add((-w + 0.06, 0.4, 0.66), (w - 0.06, 0.58, 0.69), (0.95,) * 3, "piano keys")
    for x in (-w, w - 0.06):
        build.add((x, 0.32, 0.66), (x + 0.06, 0.62, 0.76), case, shine)
        build.add((x, 0.5, 0), (x + 0.06, 0.58, 0.58), case, shine)
    build.add((-w + 0.12, 0.32, 0.82), (w - 0.12, 0.335, high - 0.12), tone(case, 1.5), shine)
    build.solid((0, 0.35, 0.92), (0.5, 0.01, 0.3), (0.94, 0.93, 0.88), "label", tilt=0.15)
    for x in (-0.08, 0.0, 0.08):
        build.add((x - 0.02, 0.32, 0.05), (x + 0.02, 0.42, 0.07), (0.8, 0.68, 0.3), "metal")
    build.beside("stool", 0.0, 0.8, 0.0, 0.7)
    return build.piece()


def make_suitcase(draw: Draw) -> Piece:
    """A trolley case: hard and ribbed, or of cloth with pockets; handle out or in."""
    build = Builder("suitcase", draw)
    color = draw.vivid() if draw.chance(0.75) else draw.dark()
    w, depth, high = draw.uniform(0.36, 0.48) / 2, draw.uniform(0.2, 0.28), draw.uniform(0.52, 0.74)
    dark = draw.dark()
    soft = draw.chance(0.4)
    build.add((-w, 0, 0.05), (w, depth, high), color, "fabric" if soft else "plain")
    if soft:
        build.add(
            (-w + 0.04, depth, 0.1),
            (w - 0.04, depth + 0.035, high * 0.5),
            tone(color, 0.85),
            "fabric",
        )
        build.add(
            (-w + 0.04, depth, high * 0.55),
            (w - 0.04, depth + 0.02, high - 0.06),
            tone(color, 0.85),
            "fabric",
        )
    else:
        for x in np.linspace(-w + 0.05, w - 0.05, 5):
            build.add(
                (x - 0.012, depth, 0.1), (x + 0.012, depth + 0.01, high - 0.05), tone(color, 0.8)
            )
        build.add(
            (-w - 0.004, depth / 2 - 0.01, 0.05), (w + 0.004, depth / 2 + 0.01, high + 0.004), dark
        )
    for x in (-w + 0.05, w - 0.05):
        for y in (0.04, depth - 0.04):
            build.ball((x, y, 0.027), (0.04, 0.05, 0.054), dark)
    reach = draw.uniform(0.25, 0.42) if draw.chance(0.6) else 0.04
    for x in (-0.09, 0.09):
        build.tube((x, 0.04), (high, high + reach), 0.009, draw.steel(), "metal")
    build.add((-0.1, 0.025, high + reach), (0.1, 0.055, high + reach + 0.025), dark)
    return build.piece()


def make_ladder(draw: Draw) -> Piece:
    """A stepladder with two legs of rungs, or a ladder that leans on the wall."""
    build = Builder("ladder", draw)
    color = draw.steel() if draw.chance(0.5) else draw.hsv((0.04, 0.14), (0.5, 0.9), (0.6, 0.9))
    texture = draw.choice(("metal", "wood"))
    w, high = draw.uniform(0.38, 0.5) / 2, draw.uniform(1.35, 1.95)
    leaning = draw.chance(0.4)
    reach = draw.uniform(0.4, 0.55)
    foot, head = (reach + 0.3, 0.06) if leaning else (reach + 0.4, reach * 0.55 + 0.1)
    for x in (-w, w):
        top = x * 0.85
        build.rod((x, foot, 0), (top, head, high), 0.024, color, texture)
        if not leaning:
            build.rod((x, 0.03, 0), (top, head - 0.04, high - 0.05), 0.02, color, texture)
    steps = int(high / 0.27)
    for step in range(1, steps + 1):
        share = step * 0.27 / high
        y, z, half = foot + (head - foot) * share, step * 0.27, w * (1 - 0.15 * share)
        if leaning:
            build.rod((-half, y, z), (half, y, z), 0.016, color, texture)
        else:
            build.add(
                (-half, y - 0.05, z - 0.012),
                (half, y + 0.05, z + 0.012),
                tone(color, 0.85),
                texture,
            )
    return build.piece()


def make_coat_rack(draw: Draw) -> Piece:
    """A pole with hooks, coats and a hat."""
    build = Builder("coat rack", draw)
    wood = draw.wood() if draw.chance(0.6) else draw.dark()
    high, y = draw.uniform(1.65, 1.85), 0.3
    build.tube((0, y), (0, high), 0.024, wood, "wood")
    for foot in range(4):
        c, s = np.cos(np.pi / 2 * foot + 0.4), np.sin(np.pi / 2 * foot + 0.4)
        build.rod((0, y, 0.15), (0.24 * c, y + 0.24 * s, 0.02), 0.02, wood, "wood")
        build.rod((0, y, high - 0.12), (0.15 * c, y + 0.15 * s, high - 0.02), 0.014, wood, "wood")
        build.ball((0.15 * c, y + 0.15 * s, high - 0.02), (0.04,) * 3, wood, "wood")
        if draw.chance(0.5):
            at, long = (0.14 * c, y + 0.14 * s), draw.uniform(0.6, 0.85)
            build.tube(
                at,
                (high - 0.1 - long, high - 0.1),
                (0.16, 0.11),
                draw.fabric(),
                "fabric",
                taper=0.45,
            )
    return build.piece()


def make_fireplace(draw: Draw) -> Piece:
    """A brick or stone surround with a mantelpiece and a burning fire."""
    build = Builder("fireplace", draw)
    stone = draw.hsv((0.01, 0.05), (0.4, 0.65), (0.45, 0.7)) if draw.chance(0.6) else draw.pale()
    cover = draw.choice(("brick", "stone"))
    w, high = draw.uniform(1.15, 1.5) / 2, draw.uniform(1.0, 1.2)
    inner = w * 0.55
    build.add((-w, 0, 0), (-inner, 0.35, high), stone, cover)
    build.add((inner, 0, 0), (w, 0.35, high), stone, cover)
    build.add((-inner, 0, high * 0.65), (inner, 0.35, high), stone, cover)
    build.add((-inner, 0, 0), (inner, 0.06, high * 0.65), (0.08, 0.07, 0.06), "brick")
    build.add((-inner, 0.06, 0), (inner, 0.35, 0.05), (0.12, 0.11, 0.1))
    build.add((-w - 0.06, 0, high), (w + 0.06, 0.42, high + 0.06), draw.wood(), "wood")
    build.add((-inner * 0.7, 0.1, 0.1), (inner * 0.7, 0.13, high * 0.45), (1, 0.5, 0.1), "fire")
    for x in (-0.06, 0.06):
        build.rod(
            (-inner * 0.6, 0.2 + x, 0.09),
            (inner * 0.6, 0.2 - x, 0.11),
            0.04,
            (0.3, 0.2, 0.12),
            "wood",
        )
    build.top((-w, 0.06), (w, 0.36), high + 0.06, "shelf")
    return build.piece()


def make_guitar(draw: Draw) -> Piece:
    """A guitar on a stand: a body of two bouts, a hole, a long neck."""
    build = Builder("guitar", draw)
    wood = draw.hsv((0.04, 0.11), (0.55, 0.85), (0.6, 0.9))
    dark = tone(wood, 0.35)
    lower, upper, thick = draw.uniform(0.36, 0.42), draw.uniform(0.26, 0.3), 0.09
    lean = 0.15
    for size, z, color in ((lower, 0.32, wood), (upper, 0.55, wood)):
        at = (0.0, 0.2 + 0.15 * (0.5 - z), z)
        build.solid(at, (size, size, thick), color, "wood", shape="cylinder", tilt=np.pi / 2 + lean)
    hole = (0.0, 0.2 + thick / 2 + 0.002, 0.45)
    build.solid(hole, (0.1, 0.1, 0.03), (0.08, 0.06, 0.05), shape="cylinder", tilt=np.pi / 2 + lean)
    neck = draw.uniform(1.0, 1.12)
    middle = (0.55 + neck) / 2
    build.solid(
        (0, 0.23 + 0.15 * (0.5 - middle), middle),
        (0.055, 0.03, neck - 0.52),
        dark,
        "wood",
        tilt=lean,
    )
    build.solid(
        (0, 0.22 + 0.15 * (0.5 - neck), neck + 0.06), (0.08, 0.025, 0.16), dark, "wood", tilt=lean
    )
    build.solid((0, 0.29, 0.3), (0.16, 0.02, 0.03), dark, tilt=lean)
    for x in (-0.14, 0.14):
        build.rod((x, 0.05, 0), (x * 0.5, 0.15, 0.2), 0.01, (0.1,) * 3, "metal")
        build.rod((x, 0.33, 0.01), (x * 0.6, 0.15, 0.16), 0.01, (0.1,) * 3, "metal")
    return build.piece()


SHAPES = {
    "plant": make_plant,
    "piano": make_piano,
    "suitcase": make_suitcase,
    "ladder": make_ladder,
    "coat rack": make_coat_rack,
    "fireplace": make_fireplace,
    "guitar": make_guitar,
}
