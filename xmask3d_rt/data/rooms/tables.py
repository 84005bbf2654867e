"""Tables, desks, beds, cribs, nightstands."""

import numpy as np

from xmask3d_rt.data.parts import Builder, Piece
from xmask3d_rt.data.rooms.draws import Draw, tone


def make_table(draw: Draw) -> Piece:
    """A dining table: rectangular on four legs or on trestles, or round on a column."""
    style = draw.choice(("legs", "legs", "round", "trestle"))
    build = Builder("table", draw)
    wood = draw.wood() if draw.chance(0.8) else draw.pale()
    w, depth, top = draw.uniform(1.0, 1.7) / 2, draw.uniform(0.7, 0.98), draw.uniform(0.7, 0.78)
    if style == "round":
        radius = draw.uniform(0.42, 0.6)
        build.tube((0, radius), (top - 0.04, top), radius, wood, "wood")
        build.tube((0, radius), (0.04, top - 0.04), 0.07, wood, "wood", taper=0.7)
        build.tube((0, radius), (0, 0.05), 0.3, wood, "wood", taper=0.7)
        inner = radius * 0.6
        build.top((-inner, radius - inner), (inner, radius + inner), top, "table")
        return build.piece()
    if style == "legs":
        build.legs(2 * w, depth, top - 0.04, draw.uniform(0.05, 0.09), wood, draw.chance(0.3))
        build.add((-w + 0.07, 0.03, top - 0.12), (w - 0.07, depth - 0.03, top - 0.04), wood, "wood")
    else:
        for x in (-w + 0.2, w - 0.2):
            build.rod((x, 0.02, 0), (x, depth / 2, top - 0.05), 0.03, wood, "wood")
            build.rod((x, depth - 0.02, 0), (x, depth / 2, top - 0.05), 0.03, wood, "wood")
        build.add(
            (-w + 0.2, depth / 2 - 0.02, 0.3), (w - 0.2, depth / 2 + 0.02, 0.36), wood, "wood"
        )
    build.add((-w - 0.03, -0.03, top - 0.04), (w + 0.03, depth + 0.03, top), wood, "wood")
    if draw.chance(0.4):  # a cloth runner
        cloth = draw.fabric()
        build.add((-0.18, -0.035, top), (0.18, depth + 0.035, top + 0.006), cloth, "quilt")
    build.top((-w + 0.02, 0.02), (w - 0.02, depth - 0.02), top, "table")
    return build.piece()


def make_coffee_table(draw: Draw) -> Piece:
    """A low table: with a shelf, round, or a solid block."""
    build = Builder("table", draw)
    wood = draw.wood() if draw.chance(0.75) else draw.pale()
    w, depth, top = draw.uniform(0.75, 1.15) / 2, draw.uniform(0.45, 0.62), draw.uniform(0.36, 0.48)
    style = draw.choice(("shelf", "round", "plain"))
    if style == "round":
        radius = draw.uniform(0.32, 0.45)
        build.tube((0, radius), (top - 0.035, top), radius, wood, "wood")
        for leg in range(3):
            angle = 0.5 + 2 * np.pi * leg / 3
            x, y = radius * np.cos(angle), radius * np.sin(angle)
            ends = (0.85 * x, radius + 0.85 * y, 0), (0.5 * x, radius + 0.5 * y, top - 0.03)
            build.rod(*ends, 0.02, wood, "wood")
        w = depth = radius * 1.2
        build.top((-w / 2, radius - w / 2), (w / 2, radius + w / 2), top, "coffee")
        return build.piece()
    build.legs(2 * w, depth, top - 0.04, 0.055, wood)
    build.add((-w - 0.02, -0.02, top - 0.04), (w + 0.02, depth + 0.02, top), wood, "wood")
    if style == "shelf":
        build.add((-w + 0.03, 0.03, 0.12), (w - 0.03, depth - 0.03, 0.14), wood, "wood")
    build.top((-w + 0.02, 0.02), (w - 0.02, depth - 0.02), top, "coffee")
    return build.piece()


def make_desk(draw: Draw) -> Piece:
    """A desk: drawers at one side, at both, or a frame of steel; a chair belongs to it."""
    build = Builder("desk", draw)
    wood = draw.wood() if draw.chance(0.6) else draw.pale()
    w, depth, top = draw.uniform(1.05, 1.6) / 2, draw.uniform(0.58, 0.75), draw.uniform(0.71, 0.77)
    build.add((-w, 0, top - 0.03), (w, depth, top), wood, "wood")
    style = draw.choice(("one", "both", "frame"))
    if style == "frame":
        steel = draw.dark() if draw.chance(0.5) else draw.steel()
        for x in (-w + 0.05, w - 0.09):
            build.add((x, 0.02, 0), (x + 0.04, depth - 0.02, 0.04), steel, "metal")
            build.add(
                (x, depth / 2 - 0.04, 0.04),
                (x + 0.04, depth / 2 + 0.04, top - 0.03),
                steel,
                "metal",
            )
    else:
        sides = (1,) if style == "one" else (-1, 1)
        for side in sides:
            low, high = sorted((side * (w - 0.02), side * (w - 0.42)))
            build.add((low, 0.03, 0), (high, depth - 0.04, top - 0.03), wood, "wood")
            for z in (0.06, 0.28, 0.5):
                face = (low + 0.01, depth - 0.04, z), (high - 0.01, depth - 0.02, z + 0.18)
                build.add(*face, tone(wood, 1.15), "wood")
                x = (low + high) / 2
                build.add(
                    (x - 0.06, depth - 0.02, z + 0.09),
                    (x + 0.06, depth, z + 0.11),
                    (0.7,) * 3,
                    "metal",
                )
        if style == "one":
            build.add((-w + 0.02, 0.03, 0), (-w + 0.06, depth - 0.03, top - 0.03), wood, "wood")
        build.add((-w + 0.06, 0.03, 0.3), (w - 0.44, 0.05, top - 0.03), wood, "wood")
    build.top((-w + 0.05, 0.06), (w - 0.05, depth - 0.05), top, "desk")
    build.beside("office chair", -0.1, depth + 0.55, np.pi, 0.65)
    build.beside("chair", -0.1, depth + 0.5, np.pi, 0.8)
    build.beside("trash can", -w - 0.2, 0.1, 0.0, 0.5)
    return build.piece()


def make_bed(draw: Draw) -> Piece:
    """A single or double bed: with a headboard, with a footboard too, of bars, or upholstered."""
    build = Builder("bed", draw)
    wood, quilt, linen = draw.wood(), draw.fabric(), draw.pale()
    w = (draw.uniform(0.9, 1.1) if draw.chance(0.4) else draw.uniform(1.35, 1.8)) / 2
    long, high = draw.uniform(1.95, 2.15), draw.uniform(0.8, 1.2)
    style = draw.choice(("board", "foot", "bars", "soft"))
    if style == "bars":
        for x in np.linspace(-w + 0.03, w - 0.03, 8):
            build.tube((float(x), 0.03), (0, high), 0.016, wood, "metal")
        build.rod((-w, 0.03, high), (w, 0.03, high), 0.022, wood, "metal")
    elif style == "soft":
        build.add((-w - 0.04, 0, 0), (w + 0.04, 0.1, high), quilt, "quilt")
    else:
        build.add((-w, 0, 0), (w, 0.06, high), wood, "wood")
    if style == "foot":
        build.add((-w, long, 0), (w, long + 0.05, 0.62), wood, "wood")
    build.add((-w, 0.06, 0.14), (w, long, 0.32), wood, "wood")
    build.legs(2 * w, long, 0.14, 0.08, wood)
    build.add((-w + 0.03, 0.06, 0.32), (w - 0.03, long - 0.02, 0.5), linen, "fabric")
    cover = draw.choice(("quilt", "fabric", "stripes", "checker", "dots"))
    start = draw.uniform(0.55, 0.8)
    build.add((-w - 0.01, start, 0.3), (w + 0.01, long - 0.01, 0.535), quilt, cover)
    build.add(
        (-w - 0.015, start, 0.53), (w + 0.015, start + 0.25, 0.55), tone(quilt, 1.3), "fabric"
    )
    for x in (-w / 2, w / 2) if w > 0.6 else (0.0,):
        build.top((x - 0.02, 0.26), (x + 0.02, 0.3), 0.5, "bed")
    build.top((-w + 0.3, 1.1), (w - 0.3, 1.7), 0.535, "quilt")
    build.beside("nightstand", w + 0.3, 0.0, 0.0, 0.95)
    build.beside("nightstand", -w - 0.3, 0.0, 0.0, 0.8)
    return build.piece()


def make_crib(draw: Draw) -> Piece:
    """A baby's bed with bars all around."""
    build = Builder("crib", draw)
    wood = draw.wood() if draw.chance(0.5) else draw.white()
    w, depth, high = draw.uniform(1.15, 1.35) / 2, draw.uniform(0.62, 0.74), draw.uniform(0.85, 1.0)
    build.legs(2 * w, depth, high, 0.05, wood)
    for z in (0.22, high - 0.05):
        for y in (0, depth - 0.04):
            build.add((-w, y, z), (w, y + 0.04, z + 0.05), wood, "wood")
        for x in (-w, w - 0.04):
            build.add((x, 0, z), (x + 0.04, depth, z + 0.05), wood, "wood")
    for x in np.linspace(-w + 0.1, w - 0.1, 9):
        for y in (0.02, depth - 0.02):
            build.tube((float(x), y), (0.25, high - 0.03), 0.012, wood)
    for y in np.linspace(0.12, depth - 0.12, 4):
        for x in (-w + 0.02, w - 0.02):
            build.tube((x, float(y)), (0.25, high - 0.03), 0.012, wood)
    cover = draw.choice(("dots", "checker", "quilt"))
    build.add((-w + 0.05, 0.05, 0.24), (w - 0.05, depth - 0.05, 0.38), draw.pale(), "fabric")
    build.add((-w + 0.3, 0.06, 0.38), (w - 0.06, depth - 0.06, 0.42), draw.fabric(), cover)
    return build.piece()


def make_nightstand(draw: Draw) -> Piece:
    """A small chest beside a bed: two drawers, or a drawer over an open shelf on legs."""
    build = Builder("nightstand", draw)
    wood = draw.wood() if draw.chance(0.7) else draw.pale()
    w, depth, high = draw.uniform(0.38, 0.5) / 2, draw.uniform(0.34, 0.42), draw.uniform(0.45, 0.6)
    if draw.chance(0.5):
        build.legs(2 * w, depth, high - 0.18, 0.04, wood)
        build.add((-w, 0, high - 0.18), (w, depth, high), wood, "wood")
        build.add((-w + 0.02, 0.02, 0.12), (w - 0.02, depth - 0.02, 0.14), wood, "wood")
        drawers = [high - 0.16]
    else:
        build.add((-w, 0, 0), (w, depth, high), wood, "wood")
        drawers = [0.05, high / 2 + 0.01]
    for z in drawers:
        tall = 0.13 if len(drawers) == 1 else high / 2 - 0.06
        build.add(
            (-w + 0.02, depth, z), (w - 0.02, depth + 0.015, z + tall), tone(wood, 1.15), "wood"
        )
        build.ball(
            (0, depth + 0.03, z + tall / 2), (0.035, 0.035, 0.035), (0.75, 0.7, 0.5), "metal"
        )
    build.top((-w + 0.02, 0.03), (w - 0.02, depth - 0.02), high, "nightstand")
    return build.piece()


SHAPES = {
    "table": make_table,
    "desk": make_desk,
    "bed": make_bed,
    "crib": make_crib,
    "nightstand": make_nightstand,
}
