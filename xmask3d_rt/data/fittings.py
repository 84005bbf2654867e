"""What hangs on walls and ceilings and lies flat on floors of a generated room.

Frames as in `parts`: x along the width, y away from the wall, z up from the floor. A ceiling
lamp hangs from z = 0 downwards.
"""

import numpy as np

from xmask3d_rt.data.parts import Builder, Piece, add_folds
from xmask3d_rt.data.rooms.draws import Draw, tone


def make_door(draw: Draw) -> Piece:
    """A door: panelled, plain, or with a pane of glass."""
    build = Builder("door", draw)
    wooden = draw.chance(0.6)
    color, grain = (draw.wood(), "wood") if wooden else (draw.pale(), "plain")
    frame = tone(color, 0.8)
    w, height = draw.uniform(0.8, 0.98) / 2, draw.uniform(1.98, 2.1)
    build.add((-w, 0, 0.01), (w, 0.03, height), color, grain)
    for x in (-w - 0.07, w):
        build.add((x, 0, 0), (x + 0.07, 0.05, height + 0.07), frame, grain)
    build.add((-w, 0, height), (w, 0.05, height + 0.07), frame, grain)
    style = draw.choice(("panels", "plain", "glass"))
    if style == "panels":
        for low, high in ((0.15, 0.9), (1.05, 1.9)):
            build.add((-w + 0.12, 0.03, low), (w - 0.12, 0.04, high), frame, grain)
    elif style == "glass":
        build.add((-w + 0.15, 0.03, 1.1), (w - 0.15, 0.034, 1.9), (0.75, 0.82, 0.85), "mirror")
    brass = (0.75, 0.7, 0.5)
    build.add((w - 0.1, 0.03, 1.0), (w - 0.07, 0.09, 1.03), brass, "metal")
    build.add((w - 0.19, 0.07, 1.0), (w - 0.07, 0.09, 1.03), brass, "metal")
    return build.piece()


def make_window(draw: Draw) -> Piece:
    """A window of one to three lights, with or without a cross bar; heating below it."""
    build = Builder("window", draw)
    frame = draw.white() if draw.chance(0.6) else draw.wood()
    w, low, high = draw.uniform(0.8, 1.8) / 2, draw.uniform(0.85, 1.05), draw.uniform(1.9, 2.2)
    build.add((-w, 0, low), (w, 0.01, high), (0.8, 0.9, 1.0), "sky")
    lights = draw.integers(1, 4)
    for x in np.linspace(-w - 0.03, w + 0.03, lights + 1):
        build.add((float(x) - 0.03, 0, low), (float(x) + 0.03, 0.05, high), frame)
    bars = [low - 0.06, high] + ([low + 0.65 * (high - low)] if draw.chance(0.4) else [])
    for z in bars:
        build.add((-w - 0.06, 0, z), (w + 0.06, 0.05, z + 0.06), frame)
    build.add((-w - 0.1, 0, low - 0.1), (w + 0.1, 0.16, low - 0.06), frame)
    return build.piece()


def make_curtain(draw: Draw) -> Piece:
    """A curtain on a rail, long or short."""
    build = Builder("curtain", draw)
    w, high = draw.uniform(0.22, 0.42), draw.uniform(2.2, 2.35)
    low = 0.06 if draw.chance(0.65) else 0.75
    cover = draw.choice(("fabric", "fabric", "stripes", "dots"))
    add_folds(build, -w, w, 0.03, (low, high), draw.fabric(), cover)
    rail = draw.dark() if draw.chance(0.5) else draw.wood()
    build.rod((-w - 0.06, 0.065, high), (w + 0.06, 0.065, high), 0.014, rail, "metal")
    for x in (-w - 0.06, w + 0.06):
        build.ball((x, 0.065, high), (0.05,) * 3, rail, "metal")
    return build.piece()


def make_blinds(draw: Draw) -> Piece:
    """Venetian blinds before a part of the wall: tilted slats between two cords."""
    build = Builder("blinds", draw)
    color = draw.pale() if draw.chance(0.6) else draw.wood()
    w, high, long = draw.uniform(0.7, 1.2) / 2, draw.uniform(2.0, 2.2), draw.uniform(0.8, 1.15)
    build.add((-w, 0.02, high), (w, 0.09, high + 0.06), tone(color, 0.9))
    slats = int(long / 0.055)
    for slat in range(slats):
        z = high - 0.03 - 0.055 * slat
        build.solid((0, 0.055, z), (2 * w, 0.05, 0.004), color, tilt=0.6)
    build.add((-w, 0.035, high - long - 0.02), (w, 0.075, high - long + 0.01), tone(color, 0.9))
    for x in (-w * 0.6, w * 0.6):
        build.tube((x, 0.085), (high - long, high), 0.004, (0.9,) * 3)
    return build.piece()


def make_picture(draw: Draw) -> Piece:
    """A framed picture, upright or across, with a mount or without, or a poster."""
    build = Builder("picture", draw)
    w, height = draw.uniform(0.4, 1.1) / 2, draw.uniform(0.4, 0.8)
    low = 1.62 - height / 2
    frame = draw.choice((draw.wood(), draw.dark(), (0.8, 0.68, 0.35)))
    edge = 0.0 if draw.chance(0.2) else draw.uniform(0.02, 0.05)
    build.add((-w, 0, low), (w, 0.03, low + height), frame, "wood")
    if draw.chance(0.4) and edge:
        mount = (-w + edge, 0.03, low + edge), (w - edge, 0.032, low + height - edge)
        build.add(*mount, (0.93, 0.92, 0.88))
        edge += 0.06
    canvas = (-w + edge, 0.03, low + edge), (w - edge, 0.036, low + height - edge)
    build.add(*canvas, draw.fabric(), "painting")
    return build.piece()


def make_mirror(draw: Draw) -> Piece:
    """A mirror: rectangular, oval, or tall enough to stand before."""
    build = Builder("mirror", draw)
    frame = draw.choice((draw.wood(), draw.steel(), (0.8, 0.68, 0.35)))
    style = draw.choice(("flat", "round", "tall"))
    w, height, low = draw.uniform(0.45, 0.7) / 2, draw.uniform(0.6, 0.85), draw.uniform(1.15, 1.25)
    if style == "tall":
        w, height, low = draw.uniform(0.4, 0.55) / 2, draw.uniform(1.4, 1.6), 0.25
    if style == "round":
        middle = low + height / 2
        for size, y, color, cover in (
            (1.0, 0.012, frame, "metal"),
            (0.9, 0.02, (0.8,) * 3, "mirror"),
        ):
            shape = (2 * w * size, height * size, 0.024)
            build.solid((0, y, middle), shape, color, cover, shape="cylinder", tilt=-np.pi / 2)
    else:
        build.add((-w, 0, low), (w, 0.03, low + height), frame, "wood")
        glass = (-w + 0.035, 0.03, low + 0.035), (w - 0.035, 0.034, low + height - 0.035)
        build.add(*glass, (0.8,) * 3, "mirror")
    return build.piece()


def make_whiteboard(draw: Draw) -> Piece:
    """A large white board with writing, in a steel frame with a tray of pens."""
    build = Builder("whiteboard", draw)
    w, height, low = draw.uniform(1.1, 1.9) / 2, draw.uniform(0.8, 1.1), draw.uniform(0.85, 1.0)
    steel = draw.steel()
    build.add((-w, 0, low), (w, 0.02, low + height), steel, "metal")
    build.add(
        (-w + 0.02, 0.02, low + 0.02),
        (w - 0.02, 0.024, low + height - 0.02),
        (0.95,) * 3,
        "scribble",
    )
    build.add((-w * 0.6, 0.02, low - 0.01), (w * 0.6, 0.09, low + 0.005), steel, "metal")
    for x in (-0.2, 0.0, 0.15):
        pen = (x, 0.06, low + 0.015), (x + 0.12, 0.06, low + 0.015)
        build.rod(*pen, 0.01, draw.vivid())
    return build.piece()


def make_clock(draw: Draw) -> Piece:
    """A round or square wall clock."""
    build = Builder("clock", draw)
    color = draw.choice((draw.dark(), draw.wood(), draw.vivid()))
    size, z = draw.uniform(0.28, 0.42), draw.uniform(1.75, 1.95)
    across = (size, size, 0.04)
    if draw.chance(0.75):
        build.solid((0, 0.02, z), across, color, shape="cylinder", tilt=-np.pi / 2)
    else:
        build.add((-size / 2, 0, z - size / 2), (size / 2, 0.04, z + size / 2), color)
    face = (size * 0.88, size * 0.88, 0.012)
    build.solid((0, 0.042, z), face, (0.95,) * 3, "dial", shape="cylinder", tilt=-np.pi / 2)
    return build.piece()


def make_towel(draw: Draw) -> Piece:
    """A towel over a rail, or two."""
    build = Builder("towel", draw)
    cloth, steel = draw.fabric(), draw.steel()
    w, top, long = draw.uniform(0.2, 0.32), draw.uniform(1.15, 1.4), draw.uniform(0.45, 0.75)
    build.rod((-w - 0.1, 0.08, top), (w + 0.1, 0.08, top), 0.012, steel, "metal")
    for x in (-w - 0.09, w + 0.09):
        build.rod((x, 0, top), (x, 0.09, top), 0.012, steel, "metal")
    spans = (
        ((-w, w, cloth),) if draw.chance(0.6) else ((-w, -0.02, cloth), (0.02, w, draw.fabric()))
    )
    for left, right, color in spans:
        build.add((left, 0.095, top - long), (right, 0.11, top + 0.012), color, "terry")
        build.add((left, 0.05, top - long * 0.8), (right, 0.065, top + 0.012), color, "terry")
        build.add((left, 0.05, top + 0.01), (right, 0.11, top + 0.022), color, "terry")
    return build.piece()


def make_rug(draw: Draw) -> Piece:
    """A rug: rectangular with a border, striped, or round."""
    build = Builder("rug", draw)
    w, depth = draw.uniform(0.9, 2.0) / 2, draw.uniform(0.7, 1.4)
    color, cover = draw.fabric(), draw.choice(("carpet", "stripes", "checker", "quilt"))
    if draw.chance(0.3):
        build.tube((0, depth / 2), (0, 0.014), depth / 2, color, cover)
        build.tube((0, depth / 2), (0, 0.017), depth * 0.36, tone(color, 1.3), "carpet")
    else:
        build.add((-w, 0, 0), (w, depth, 0.014), color, cover)
        if draw.chance(0.5):
            for x in np.linspace(-w, w, 2):
                build.add(
                    (x - 0.03, 0.01, 0), (x + 0.03, depth - 0.01, 0.008), (0.9, 0.87, 0.8), "slats"
                )
    return build.piece()


def make_ceiling_lamp(draw: Draw) -> Piece:
    """A lamp on a cord: a shade, a globe, or a ring of bulbs."""
    build = Builder("ceiling lamp", draw)
    glow = draw.hsv((0.1, 0.17), (0.02, 0.25), (1.0, 1.4))
    metal, drop = draw.dark(), draw.uniform(0.3, 0.65)
    build.tube((0, 0), (-0.03, 0), 0.06, metal)
    build.tube((0, 0), (-drop, 0), 0.008, metal)
    style = draw.choice(("shade", "globe", "ring"))
    radius = draw.uniform(0.15, 0.24)
    if style == "shade":
        build.tube((0, 0), (-drop - 0.16, -drop), radius, draw.vivid(), taper=0.35)
        build.ball((0, 0, -drop - 0.14), (0.1, 0.1, 0.1), glow)
    elif style == "globe":
        build.ball((0, 0, -drop - radius * 0.7), (1.6 * radius,) * 3, glow)
    else:
        for arm in range(5):
            c, s = radius * np.cos(1.2566 * arm), radius * np.sin(1.2566 * arm)
            build.rod((0, 0, -drop), (c, s, -drop - 0.04), 0.009, metal, "metal")
            build.ball((c, s, -drop - 0.08), (0.1, 0.1, 0.12), glow)
    return build.piece()


SHAPES = {
    "door": make_door,
    "window": make_window,
    "curtain": make_curtain,
    "blinds": make_blinds,
    "picture": make_picture,
    "mirror": make_mirror,
    "whiteboard": make_whiteboard,
    "clock": make_clock,
    "towel": make_towel,
    "rug": make_rug,
    "ceiling lamp": make_ceiling_lamp,
}
