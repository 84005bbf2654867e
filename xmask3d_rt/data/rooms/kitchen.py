"""What stands in kitchens, bathrooms and laundries."""

import numpy as np

from xmask3d_rt.data.parts import Builder, Piece, add_basin, add_folds, add_tap
from xmask3d_rt.data.rooms.draws import Draw, tone


def make_counter(draw: Draw) -> Piece:
    """A stone top on base cabinets with a sink let in."""
    build = Builder("counter", draw)
    body, slab = draw.wood() if draw.chance(0.6) else draw.pale(), draw.pale()
    slab = tone(slab, draw.uniform(0.4, 1.0))
    w, top = draw.uniform(1.3, 2.0) / 2, draw.uniform(0.86, 0.94)
    build.add((-w, 0, 0.1), (w, 0.57, top - 0.04), body, "wood", "cabinet")
    build.add((-w, 0, 0), (w, 0.5, 0.1), (0.2, 0.2, 0.2), "plain", "cabinet")
    doors = int(2 * w / 0.45)
    step = 2 * w / doors
    for door in range(doors):
        x = -w + door * step
        build.add(
            (x + 0.01, 0.57, 0.12),
            (x + step - 0.01, 0.585, top - 0.06),
            tone(body, 1.12),
            "wood",
            "cabinet",
        )
        knob = (x + step * 0.35, 0.585, top - 0.14), (x + step * 0.65, 0.61, top - 0.12)
        build.add(*knob, draw.steel(), "metal", "cabinet")
    build.add((-w - 0.01, 0, top - 0.04), (w + 0.01, 0.61, top), slab, "stone")
    x = draw.choice((-1, 1)) * (w - 0.4)
    steel = draw.steel()
    add_basin(build, (x - 0.26, 0.1), (x + 0.26, 0.5), (top, top + 0.07), steel, "metal", "sink")
    add_tap(build, x, 0.06, top, steel, "sink")
    rest = (-w + 0.05, x - 0.35) if x > 0 else (x + 0.35, w - 0.05)
    build.top((rest[0], 0.05), (rest[1], 0.5), top, "counter")
    return build.piece()


def make_refrigerator(draw: Draw) -> Piece:
    """A freezer above or below, or two doors side by side."""
    build = Builder("refrigerator", draw)
    color = draw.white() if draw.chance(0.5) else tone(draw.steel(), draw.uniform(0.75, 1.05))
    w, height = draw.uniform(0.58, 0.72) / 2, draw.uniform(1.55, 1.95)
    dark = draw.dark()
    if draw.chance(0.3):
        w *= 1.3
        build.add((-w, 0, 0.03), (w, 0.6, height), tone(color, 0.85), "plain")
        for x in (-w, 0.004):
            build.add((x, 0.6, 0.06), (x + w - 0.004, 0.67, height), color, "metal")
        for x in (-0.05, 0.05):
            build.add((x - 0.013, 0.67, 0.6), (x + 0.013, 0.72, height - 0.3), dark, "metal")
        build.add((-w * 0.75, 0.67, 1.0), (-w * 0.35, 0.675, 1.3), dark)
        return build.piece()
    split = height * draw.uniform(0.3, 0.68)
    build.add((-w, 0, 0.03), (w, 0.58, height), tone(color, 0.85), "plain")
    build.add((-w, 0.58, 0.06), (w, 0.65, split), color, "metal")
    build.add((-w, 0.58, split + 0.015), (w, 0.65, height), color, "metal")
    for low, high in ((split - 0.4, split - 0.08), (split + 0.1, split + 0.42)):
        build.add((-w + 0.05, 0.65, low), (-w + 0.08, 0.7, high), dark, "metal")
    return build.piece()


def make_stove(draw: Draw) -> Piece:
    """A cooker: hob with burners, knobs, an oven door of dark glass; a hood may hang above."""
    build = Builder("stove", draw)
    color = draw.white() if draw.chance(0.4) else draw.steel() if draw.chance(0.6) else draw.dark()
    w, top = draw.uniform(0.5, 0.75) / 2, draw.uniform(0.85, 0.93)
    build.add((-w, 0, 0.04), (w, 0.58, top - 0.03), tone(color, 0.85))
    build.add((-w, 0, top - 0.03), (w, 0.62, top), (0.09, 0.09, 0.1), "burners")
    build.add((-w + 0.01, 0.58, 0.2), (w - 0.01, 0.605, top - 0.15), color, "glass door")
    build.add((-w + 0.01, 0.58, 0.05), (w - 0.01, 0.6, 0.19), color, "metal")
    build.rod(
        (-w + 0.06, 0.64, top - 0.18), (w - 0.06, 0.64, top - 0.18), 0.014, draw.steel(), "metal"
    )
    for x in np.linspace(-w + 0.09, w - 0.09, 5):
        knob = (float(x), 0.58, top - 0.085), (float(x), 0.625, top - 0.085)
        build.rod(*knob, 0.022, draw.dark())
    if draw.chance(0.6):
        build.add((-w, 0, top), (w, 0.06, top + 0.12), color, "metal")
    return build.piece()


def make_washing_machine(draw: Draw) -> Piece:
    """A white cube with a round glass door, a drawer and a dial."""
    build = Builder("washing machine", draw)
    white = draw.white() if draw.chance(0.8) else draw.steel()
    w, depth, top = draw.uniform(0.56, 0.64) / 2, draw.uniform(0.5, 0.6), draw.uniform(0.8, 0.9)
    build.add((-w, 0, 0.02), (w, depth, top), white)
    build.add((-w, 0, top - 0.02), (w, depth + 0.01, top), tone(white, 0.92))
    z, radius = top * 0.45, draw.uniform(0.17, 0.22)
    rings = ((radius, 0.03, tone(draw.steel(), 0.9)), (radius * 0.78, 0.045, draw.dark()))
    for size, reach, color in rings:
        build.rod((0, depth - 0.02, z), (0, depth + reach, z), size, color, "metal")
    build.ball((0, depth + 0.03, z), (radius * 1.4, 0.1, radius * 1.4), (0.2, 0.25, 0.32), "metal")
    build.add((-w + 0.03, depth, top - 0.13), (-0.06, depth + 0.015, top - 0.04), tone(white, 0.9))
    build.rod(
        (0.06, depth, top - 0.085), (0.06, depth + 0.035, top - 0.085), 0.035, draw.steel(), "metal"
    )
    build.add((0.13, depth, top - 0.11), (w - 0.03, depth + 0.005, top - 0.06), draw.dark())
    build.top((-w + 0.05, 0.05), (w - 0.05, depth - 0.05), top, "laundry")
    return build.piece()


def make_microwave(draw: Draw) -> Piece:
    """A small oven: a dark window at the left, buttons at the right."""
    build = Builder("microwave", draw)
    color = draw.steel() if draw.chance(0.5) else draw.white() if draw.chance(0.5) else draw.dark()
    w, depth, high = draw.uniform(0.44, 0.54) / 2, draw.uniform(0.3, 0.38), draw.uniform(0.26, 0.31)
    build.add((-w, 0, 0.01), (w, depth, high), color, "metal")
    build.add((-w + 0.01, depth, 0.02), (w * 0.5, depth + 0.012, high - 0.01), color, "glass door")
    build.add((w * 0.55, depth, 0.02), (w - 0.01, depth + 0.008, high - 0.01), (0.3,) * 3, "keys")
    build.add(
        (w * 0.45, depth + 0.012, 0.05), (w * 0.5, depth + 0.04, high - 0.05), draw.steel(), "metal"
    )
    build.add(
        (w * 0.6, depth + 0.008, high - 0.07),
        (w - 0.03, depth + 0.01, high - 0.03),
        (0.2, 0.8, 0.5),
    )
    return build.piece()


def make_toilet(draw: Draw) -> Piece:
    """A bowl with a lid, closed or open, and a cistern."""
    build = Builder("toilet", draw)
    white = draw.white()
    w, deep = draw.uniform(0.17, 0.21), draw.uniform(0.4, 0.5)
    y = 0.2 + deep / 2
    build.add((-0.22, 0, 0.4), (0.22, 0.18, 0.78), white)
    build.add((-0.23, 0, 0.78), (0.23, 0.19, 0.82), white)
    build.tube((0, 0.35), (0, 0.2), (0.11, 0.2), white)
    build.add((-0.1, 0.03, 0), (0.1, 0.35, 0.38), white)
    build.tube((0, y), (0.16, 0.38), (w, deep / 2), white, taper=1.45)
    build.tube((0, y), (0.38, 0.405), (w + 0.015, deep / 2 + 0.015), white)
    lid = draw.white() if draw.chance(0.7) else draw.fabric()
    if draw.chance(0.5):
        build.tube((0, y), (0.405, 0.43), (w, deep / 2), lid)
    else:
        build.tube((0, y + 0.02), (0.405, 0.409), (w * 0.7, deep * 0.36), (0.45, 0.5, 0.55))
        center = (0.0, 0.225, 0.4 + deep / 2)
        build.solid(center, (2 * w, deep, 0.02), lid, shape="cylinder", tilt=1.5)
    build.tube((0, 0.09), (0.82, 0.83), 0.03, draw.steel(), "metal")
    return build.piece()


def make_sink(draw: Draw) -> Piece:
    """A washbasin: on a column, on a vanity, or oval on brackets; a mirror hangs above."""
    build = Builder("sink", draw)
    white = draw.white()
    w, depth, top = draw.uniform(0.5, 0.7) / 2, draw.uniform(0.4, 0.48), draw.uniform(0.8, 0.88)
    style = draw.choice(("column", "vanity", "oval"))
    if style == "vanity":
        wood = draw.wood()
        build.add((-w - 0.05, 0, 0.05), (w + 0.05, depth, top - 0.13), wood, "wood", "cabinet")
        for x in (-w - 0.04, 0.01):
            face = (x, depth, 0.07), (x + w + 0.03, depth + 0.015, top - 0.15)
            build.add(*face, tone(wood, 1.15), "wood", "cabinet")
    elif style == "column":
        build.tube((0, 0.16), (0, top - 0.12), 0.1, white, taper=0.85)
    if style == "oval":
        build.tube((0, depth / 2), (top - 0.2, top), (w, depth / 2), white, taper=1.5)
        build.tube(
            (0, depth / 2 + 0.02), (top, top + 0.004), (w * 0.8, depth * 0.36), (0.6, 0.64, 0.68)
        )
        build.add((-0.1, 0, top - 0.15), (0.1, 0.1, top), white)
    else:
        build.add((-w, 0, top - 0.13), (w, depth, top - 0.1), white)
        add_basin(build, (-w, 0), (w, depth), (top - 0.11, top), white, thick=0.06)
    add_tap(build, 0, 0.05, top, draw.steel(), "sink")
    build.beside("mirror", 0.0, 0.0, 0.0, 0.8)
    return build.piece()


def make_bathtub(draw: Draw) -> Piece:
    """A built-in tub or one with round ends on feet, with a shower curtain on a rail or without."""
    build = Builder("bathtub", draw)
    white = draw.white()
    w, depth, top = draw.uniform(1.45, 1.75) / 2, draw.uniform(0.7, 0.8), draw.uniform(0.5, 0.6)
    steel = draw.steel()
    if draw.chance(0.65):
        build.add((-w, 0, 0), (w, depth, 0.12), white)
        add_basin(build, (-w, 0), (w, depth), (0.1, top), white, thick=0.06)
    else:
        for x in (-w + 0.25, w - 0.25):
            for y in (0.15, depth - 0.15):
                build.tube((x, y), (0, 0.12), 0.03, steel, "metal")
        build.tube((0, depth / 2), (0.1, top), (w, depth / 2), white, taper=1.15)
        build.tube((0, depth / 2), (top, top + 0.005), (w * 0.93, depth * 0.43), (0.66, 0.71, 0.75))
    build.add(
        (-w + 0.02, depth / 2 - 0.03, top),
        (-w + 0.05, depth / 2 + 0.03, top + 0.25),
        steel,
        "metal",
    )
    build.rod(
        (-w + 0.04, depth / 2, top + 0.2), (-w + 0.2, depth / 2, top + 0.16), 0.018, steel, "metal"
    )
    if draw.chance(0.75):
        cover = draw.choice(("stripes", "dots", "checker", "fabric"))
        cloth = draw.fabric()
        low, kind = draw.uniform(0.15, 0.3), "shower curtain"
        add_folds(build, -w + 0.05, w * 0.3, depth + 0.02, (low, 2.0), cloth, cover, kind)
        build.rod((-w, depth + 0.05, 2.0), (w, depth + 0.05, 2.0), 0.013, steel, "metal", kind=kind)
    return build.piece()


SHAPES = {
    "counter": make_counter,
    "refrigerator": make_refrigerator,
    "stove": make_stove,
    "washing machine": make_washing_machine,
    "microwave": make_microwave,
    "toilet": make_toilet,
    "sink": make_sink,
    "bathtub": make_bathtub,
}
