"""Small things that lie about: pillows, boxes, books, bags, vases, bottles, cups, toys."""

import numpy as np

from xmask3d_rt.data.parts import Builder, Piece
from xmask3d_rt.data.rooms.draws import Draw, tone

COVERS = ("fabric", "stripes", "checker", "dots", "quilt", "fur")


def make_pillow(draw: Draw) -> Piece:
    """A cushion that leans back: a square of puffed cloth."""
    build = Builder("pillow", draw)
    cloth, cover = draw.fabric(), draw.choice(COVERS)
    size, thick = draw.uniform(0.36, 0.48), draw.uniform(0.12, 0.17)
    _puff(build, (size, size), thick, draw.uniform(0.15, 0.45), cloth, cover)
    return build.piece()


def make_bed_pillow(draw: Draw) -> Piece:
    """A white pillow of a bed, lying or propped up."""
    build = Builder("pillow", draw)
    lean = draw.uniform(0.5, 1.25)
    cover = draw.choice(("fabric", "stripes", "plain"))
    _puff(
        build, (draw.uniform(0.5, 0.68), draw.uniform(0.36, 0.44)), 0.15, lean, draw.pale(), cover
    )
    return build.piece()


def _puff(
    build: Builder, size: tuple[float, float], thick: float, lean: float, cloth, cover
) -> None:
    """A cushion of width and height `size`, its upper edge leant back by an angle."""
    wide, tall = size
    at = (0.0, 0.06 + np.sin(lean) * tall / 2, 0.03 + np.cos(lean) * tall / 2)
    build.solid(at, (wide * 0.96, thick * 0.3, tall * 0.96), cloth, cover, tilt=lean)
    build.ball(at, (wide * 1.14, thick * 1.2, tall * 1.14), cloth, cover, tilt=lean)


def make_box(draw: Draw) -> Piece:
    """A cardboard box, taped or with open flaps, or two in a stack."""
    build = Builder("box", draw)
    board = draw.hsv((0.07, 0.1), (0.35, 0.55), (0.55, 0.8))
    w, depth, high = (
        draw.uniform(0.26, 0.52) / 2,
        draw.uniform(0.24, 0.42),
        draw.uniform(0.24, 0.42),
    )
    _carton(build, w, depth, (0, high), board)
    style = draw.choice(("taped", "open", "stack"))
    if style == "open":
        build.add((-w + 0.01, 0.01, high), (w - 0.01, depth - 0.01, high + 0.002), tone(board, 0.3))
        for side in (-1, 1):
            at = (0, depth / 2 + side * (depth / 2 + 0.05), high + 0.05)
            build.solid(at, (2 * w, 0.15, 0.006), board, "cardboard", tilt=side * 0.8)
    elif style == "stack":
        _carton(build, w * 0.8, depth * 0.85, (high, high * 1.7), tone(board, 0.93))
    return build.piece()


def make_small_box(draw: Draw) -> Piece:
    """A carton for tables and shelves."""
    build = Builder("box", draw)
    board = draw.hsv((0.07, 0.1), (0.35, 0.55), (0.55, 0.8))
    w, depth = draw.uniform(0.14, 0.3) / 2, draw.uniform(0.12, 0.22)
    _carton(build, w, depth, (0, draw.uniform(0.08, 0.2)), board)
    return build.piece()


def _carton(build: Builder, w: float, depth: float, heights: tuple[float, float], board) -> None:
    low, high = heights
    build.add((-w, 0, low), (w, depth, high), board, "cardboard")


def make_books(draw: Draw) -> Piece:
    """A stack of books that lie on each other."""
    build = Builder("books", draw)
    z = 0.0
    for _ in range(draw.integers(3, 7)):
        w, depth, thick = (
            draw.uniform(0.15, 0.25) / 2,
            draw.uniform(0.14, 0.2),
            draw.uniform(0.02, 0.045),
        )
        yaw, cover = draw.uniform(-0.25, 0.25), draw.vivid() if draw.chance(0.6) else draw.fabric()
        for low, high, shrink, color in (
            (0, 0.004, 0, cover),
            (0.004, thick - 0.004, 0.006, (0.93, 0.9, 0.82)),
            (thick - 0.004, thick, 0, cover),
        ):
            at = (0, 0.1, z + (low + high) / 2)
            build.solid(at, (2 * (w - shrink), depth - 2 * shrink, high - low), color, yaw=yaw)
        spine = (-np.cos(yaw) * w, 0.1 - np.sin(yaw) * w, z + thick / 2)
        build.solid(spine, (0.006, depth, thick), tone(cover, 0.8), yaw=yaw)
        z += thick
    return build.piece()


def make_backpack(draw: Draw) -> Piece:
    """A rucksack: a rounded body, a pocket, a flap, straps."""
    build = Builder("backpack", draw)
    cloth, dark = draw.vivid() if draw.chance(0.7) else draw.fabric(), draw.dark()
    w, depth, high = draw.uniform(0.28, 0.34) / 2, draw.uniform(0.17, 0.22), draw.uniform(0.4, 0.5)
    y = depth / 2 + 0.03
    build.tube((0, y), (0, high * 0.8), (w, depth / 2), cloth, "fabric")
    build.ball((0, y, high * 0.8), (2 * w, depth, high * 0.42), cloth, "fabric")
    build.ball(
        (0, y + depth * 0.45, high * 0.28), (1.5 * w, 0.14, high * 0.5), tone(cloth, 0.75), "fabric"
    )
    build.ball(
        (0, y + depth * 0.4, high * 0.66), (1.3 * w, 0.1, high * 0.25), tone(cloth, 0.75), "fabric"
    )
    for x in (-w * 0.5, w * 0.5):
        build.rod((x, 0.02, high * 0.85), (x * 1.3, 0.0, high * 0.2), 0.018, dark)
    build.rod((-0.04, y - 0.03, high + 0.02), (0.04, y - 0.03, high + 0.02), 0.012, dark)
    return build.piece()


def make_vase(draw: Draw) -> Piece:
    """A vase: bulging, a cone or a cylinder; mostly with flowers."""
    build = Builder("vase", draw)
    clay = draw.vivid() if draw.chance(0.5) else draw.pale()
    radius, high = draw.uniform(0.05, 0.08), draw.uniform(0.18, 0.28)
    style, cover = (
        draw.choice(("bulge", "cone", "tube")),
        draw.choice(("plain", "stone", "stripes")),
    )
    y = radius * 1.3
    if style == "bulge":
        build.ball((0, y, high * 0.42), (2.2 * radius, 2.2 * radius, high * 0.85), clay, cover)
        build.tube((0, y), (high * 0.7, high), radius * 0.45, clay, taper=1.6)
        build.tube((0, y), (0, 0.02), radius * 0.6, clay)
    else:
        build.tube(
            (0, y), (0, high), radius * 0.7, clay, cover, taper=1.5 if style == "cone" else 1.0
        )
    if draw.chance(0.75):
        bloom = draw.hsv((0.8, 1.18), (0.5, 0.9), (0.75, 1.0))
        for stem in range(5):
            c, s = 0.07 * np.cos(2.4 * stem), 0.07 * np.sin(2.4 * stem)
            head = (c, y + s, high + draw.uniform(0.1, 0.2))
            build.rod((c * 0.2, y + s * 0.2, high - 0.02), head, 0.004, (0.25, 0.5, 0.2))
            build.ball(head, (0.065, 0.065, 0.05), bloom, "fur")
    return build.piece()


def make_bottle(draw: Draw) -> Piece:
    """A bottle with a neck, a cap and a label."""
    build = Builder("bottle", draw)
    glass = draw.hsv((0.2, 0.45), (0.4, 0.8), (0.25, 0.5)) if draw.chance(0.6) else draw.vivid()
    radius, high = draw.uniform(0.032, 0.045), draw.uniform(0.22, 0.32)
    y = radius
    build.tube((0, y), (0, high * 0.6), radius, glass, "label")
    build.tube((0, y), (high * 0.6, high * 0.75), radius, glass, taper=0.36)
    build.tube((0, y), (high * 0.75, high), radius * 0.36, glass)
    build.tube((0, y), (high * 0.94, high + 0.01), radius * 0.42, draw.vivid())
    return build.piece()


def make_cup(draw: Draw) -> Piece:
    """A mug with a handle and coffee in it, or a tea cup on a saucer."""
    build = Builder("cup", draw)
    color = draw.vivid() if draw.chance(0.6) else draw.white()
    radius, high = draw.uniform(0.036, 0.048), draw.uniform(0.08, 0.11)
    y = radius + 0.03
    saucer = draw.chance(0.4)
    if saucer:
        build.tube((0, y), (0, 0.012), 0.05, color, taper=1.5)
    build.tube(
        (0, y), (0.004, high), radius * (0.75 if saucer else 1), color, taper=1.33 if saucer else 1
    )
    build.tube((0, y), (high, high + 0.002), radius * 0.88, (0.25, 0.14, 0.07))
    for z in (0.3, 0.75):
        build.rod((radius * 0.9, y, z * high), (radius + 0.03, y, z * high), 0.007, color)
    build.rod((radius + 0.028, y, 0.28 * high), (radius + 0.028, y, 0.77 * high), 0.008, color)
    return build.piece()


def make_teddy_bear(draw: Draw) -> Piece:
    """A sitting plush bear."""
    build = Builder("teddy bear", draw)
    fur = draw.hsv((0.05, 0.1), (0.35, 0.65), (0.45, 0.75))
    s = draw.uniform(0.8, 1.4)
    pale = tone(fur, 1.35)

    def puff(x: float, y: float, z: float, size: tuple[float, float, float], color) -> None:
        wide, deep, tall = size
        build.ball((s * x, s * y, s * z), (s * wide, s * deep, s * tall), color, "fur")

    puff(0, 0.12, 0.13, (0.2, 0.18, 0.26), fur)
    puff(0, 0.16, 0.12, (0.14, 0.14, 0.18), pale)
    puff(0, 0.13, 0.31, (0.18, 0.17, 0.16), fur)
    puff(0, 0.2, 0.29, (0.08, 0.08, 0.065), pale)
    puff(0, 0.24, 0.3, (0.028, 0.02, 0.02), (0.05,) * 3)
    for side in (-1, 1):
        puff(side * 0.075, 0.12, 0.385, (0.065, 0.035, 0.065), fur)
        puff(side * 0.038, 0.208, 0.335, (0.02, 0.02, 0.02), (0.05,) * 3)
        puff(side * 0.12, 0.17, 0.18, (0.07, 0.12, 0.09), fur)
        puff(side * 0.09, 0.24, 0.05, (0.085, 0.2, 0.09), fur)
        puff(side * 0.09, 0.34, 0.055, (0.075, 0.03, 0.09), pale)
    return build.piece()


SHAPES = {
    "pillow": make_pillow,
    "box": make_box,
    "books": make_books,
    "backpack": make_backpack,
    "vase": make_vase,
    "bottle": make_bottle,
    "cup": make_cup,
    "teddy bear": make_teddy_bear,
}
