"""Chairs, sofas, stools, benches, ottomans."""

import numpy as np

from xmask3d_rt.data.parts import Builder, Piece
from xmask3d_rt.data.rooms.draws import Color, Draw, tone

CLOTHS = ("fabric", "fabric", "fabric", "stripes", "checker", "dots")


def make_sofa(draw: Draw) -> Piece:
    """A sofa for two or three, with loose seats, or with a chaise longue, or an armchair."""
    build = Builder("sofa", draw)
    cloth, cover = draw.fabric(), draw.choice(("fabric", "fabric", "plain", "stripes"))
    dark = tone(cloth, 0.85)
    style = draw.choice(("square", "round", "chaise", "armchair"))
    seats = 1 if style == "armchair" else draw.integers(2, 4)
    arm = draw.uniform(0.13, 0.24)
    w, depth = (0.62 * seats + 2 * arm) / 2, draw.uniform(0.8, 0.98)
    back, rest = draw.uniform(0.74, 0.95), draw.uniform(0.54, 0.66)
    build.legs(2 * w, depth, 0.1, 0.06, draw.wood())
    build.add((-w, 0, 0.1), (w, depth, 0.28), dark, cover)
    build.add((-w, 0, 0.28), (w, 0.2, back), cloth, cover)
    for x in (-w, w - arm):
        build.add((x, 0, 0.28), (x + arm, depth, rest - 0.05), cloth, cover)
        if style == "round":
            ends = (x + arm / 2, 0.02, rest - 0.05), (x + arm / 2, depth + 0.01, rest - 0.05)
            build.rod(*ends, arm / 2 + 0.02, cloth, cover)
        else:
            build.add((x, 0, rest - 0.05), (x + arm, depth, rest), cloth, cover)
    if style == "round":
        build.rod((-w, 0.1, back), (w, 0.1, back), 0.11, cloth, cover)
    for seat in range(seats):
        x = -w + arm + 0.62 * seat
        reach = depth + (0.65 if style == "chaise" and seat == 0 else 0.02)
        build.add((x + 0.01, 0.2, 0.28), (x + 0.61, reach, 0.45), cloth, cover)
        build.add((x + 0.03, 0.2, 0.45), (x + 0.59, 0.34, back - 0.04), dark, cover)
    if style == "chaise":
        build.add((-w + arm, depth, 0.08), (-w + arm + 0.62, depth + 0.65, 0.28), dark, cover)
    build.top((-w + arm + 0.05, 0.36), (w - arm - 0.05, 0.7), 0.45, "sofa")
    if style != "armchair":
        build.beside("coffee table", 0.0, depth + 0.4, 0.0, 0.8)
        build.beside("lamp", w + 0.3, 0.15, 0.0, 0.35)
    return build.piece()


def make_chair(draw: Draw) -> Piece:
    """A dining chair with slats, spindles or a padded back, or a shell."""
    style = draw.choice(("slats", "spindles", "padded", "shell"))
    build = Builder("chair", draw)
    wood = draw.wood() if draw.chance(0.75) else draw.pale()
    seat, cover = draw.fabric(), draw.choice((*CLOTHS, "wood"))
    seat = wood if cover == "wood" else seat
    w, depth, top = draw.uniform(0.4, 0.5) / 2, draw.uniform(0.4, 0.48), draw.uniform(0.82, 1.02)
    if style == "shell":
        shell, metal = draw.vivid() if draw.chance(0.6) else draw.pale(), draw.steel()
        for side in (-1, 1):
            for y in (0.02, depth - 0.02):
                start = (side * (w + 0.02), y + (0.05 if y > 0.1 else -0.02), 0)
                build.rod(start, (side * w * 0.6, depth / 2, 0.43), 0.014, metal, "metal")
        build.solid((0, depth / 2, 0.44), (2 * w, depth, 0.04), shell)
        for x, yaw in ((-w + 0.02, -0.25), (0.0, 0.0), (w - 0.02, 0.25)):
            middle = (x * 0.75, 0.01 + 0.08 * abs(x) / w, (0.44 + top) / 2)
            build.solid(middle, (w * 0.8, 0.025, top - 0.44), shell, yaw=yaw, tilt=0.12)
        return build.piece()
    build.legs(2 * w, depth, 0.43, draw.uniform(0.032, 0.05), wood, draw.chance(0.4))
    build.add((-w, 0, 0.43), (w, depth, 0.48), seat, cover)
    for x in (-w, w - 0.04):
        build.add((x, 0, 0.48), (x + 0.04, 0.04, top), wood, "wood")
    if style == "slats":
        for z in np.linspace(0.6, top - 0.1, draw.integers(2, 4)):
            build.add((-w + 0.04, 0.01, z), (w - 0.04, 0.03, z + 0.1), wood, "wood")
    elif style == "spindles":
        for x in np.linspace(-w + 0.08, w - 0.08, 4):
            build.tube((x, 0.02), (0.48, top - 0.06), 0.012, wood, "wood")
        build.add((-w, 0, top - 0.07), (w, 0.035, top), wood, "wood")
    else:
        build.add((-w + 0.03, 0.0, 0.56), (w - 0.03, 0.06, top), seat, cover)
    if draw.chance(0.25):
        for x in (-w, w - 0.04):
            build.add((x, 0.02, 0.64), (x + 0.04, depth * 0.85, 0.67), wood, "wood")
            build.add((x, depth * 0.75, 0.43), (x + 0.04, depth * 0.85, 0.64), wood, "wood")
    return build.piece()


def make_office_chair(draw: Draw) -> Piece:
    """A swivel chair: five feet on castors, a column, a padded seat and back."""
    build = Builder("chair", draw)
    cloth = draw.fabric() if draw.chance(0.5) else draw.dark()
    black = draw.dark()
    w, high = draw.uniform(0.44, 0.52) / 2, draw.uniform(0.92, 1.2)
    for foot in range(5):
        angle = 0.3 + 2 * np.pi * foot / 5
        x, y = 0.28 * np.cos(angle), 0.25 + 0.28 * np.sin(angle)
        build.rod((0, 0.25, 0.1), (x, y, 0.07), 0.022, black, "metal")
        build.ball((x, y, 0.03), (0.06, 0.06, 0.06), black)
    build.tube((0, 0.25), (0.08, 0.43), 0.03, draw.steel(), "metal")
    build.add((-w, 0.03, 0.42), (w, 0.5, 0.5), cloth, "fabric")
    build.add((-0.03, -0.02, 0.4), (0.03, 0.02, 0.65), black)
    middle = (0, -0.01, (0.56 + high) / 2)
    build.solid(middle, (2 * w - 0.04, 0.07, high - 0.56), cloth, "fabric", tilt=0.08)
    if draw.chance(0.7):
        for x in (-w - 0.03, w + 0.03):
            build.add((x - 0.025, 0.2, 0.45), (x + 0.025, 0.25, 0.68), black)
            build.add((x - 0.03, 0.1, 0.68), (x + 0.03, 0.36, 0.71), black)
    return build.piece()


def make_stool(draw: Draw) -> Piece:
    """A round seat without a back on three or four slanting legs, or on one column."""
    build = Builder("stool", draw)
    color: Color = draw.wood() if draw.chance(0.5) else draw.vivid()
    high, radius = draw.uniform(0.45, 0.8), draw.uniform(0.15, 0.2)
    y = radius + 0.05
    if draw.chance(0.3):
        metal = draw.steel()
        build.tube((0, y), (0, 0.03), radius * 1.05, metal, "metal")
        build.tube((0, y), (0.03, high - 0.05), 0.03, metal, "metal")
    else:
        legs = draw.integers(3, 5)
        for leg in range(legs):
            angle = 0.4 + 2 * np.pi * leg / legs
            c, s = np.cos(angle), np.sin(angle)
            foot = (radius * 1.15 * c, y + radius * 1.15 * s, 0)
            build.rod(
                foot, (radius * 0.6 * c, y + radius * 0.6 * s, high - 0.04), 0.017, color, "wood"
            )
        build.tube((0, y), (high * 0.35, high * 0.35 + 0.02), radius * 0.95, color, "wood")
    build.tube((0, y), (high - 0.05, high), radius, color, draw.choice(("wood", "plain", "fabric")))
    return build.piece()


def make_bench(draw: Draw) -> Piece:
    """A long low seat without a back: planks on two trestles, or padded on legs."""
    build = Builder("bench", draw)
    wood = draw.wood()
    w, depth, high = draw.uniform(0.95, 1.5) / 2, draw.uniform(0.32, 0.42), draw.uniform(0.42, 0.48)
    if draw.chance(0.5):
        for row in range(3):
            y = row * depth / 3
            build.add((-w, y + 0.008, high - 0.045), (w, y + depth / 3 - 0.008, high), wood, "wood")
        for x in (-w + 0.12, w - 0.12):
            build.add((x - 0.03, 0.02, 0), (x + 0.03, depth - 0.02, high - 0.045), wood, "wood")
        build.add(
            (-w + 0.1, depth / 2 - 0.02, 0.12), (w - 0.1, depth / 2 + 0.02, 0.2), wood, "wood"
        )
    else:
        build.legs(2 * w, depth, high - 0.1, 0.06, wood)
        build.add((-w, 0, high - 0.1), (w, depth, high - 0.06), wood, "wood")
        build.add((-w, 0, high - 0.06), (w, depth, high + 0.02), draw.fabric(), draw.choice(CLOTHS))
    return build.piece()


def make_ottoman(draw: Draw) -> Piece:
    """An upholstered cube, drum or ball to rest the feet on."""
    build = Builder("ottoman", draw)
    cloth, cover = draw.fabric(), draw.choice((*CLOTHS, "quilt"))
    size, high = draw.uniform(0.42, 0.62), draw.uniform(0.34, 0.45)
    y = size / 2
    style = draw.choice(("cube", "drum", "pouf"))
    if style == "cube":
        build.legs(size, size, 0.06, 0.05, draw.wood())
        build.add((-y, 0, 0.06), (y, size, high - 0.08), tone(cloth, 0.85), cover)
        build.add((-y - 0.01, -0.01, high - 0.08), (y + 0.01, size + 0.01, high), cloth, cover)
    elif style == "drum":
        build.tube((0, y), (0.02, high), y, cloth, cover)
        build.tube((0, y), (high * 0.45, high * 0.55), y + 0.012, tone(cloth, 0.6))
        build.tube((0, y), (high, high + 0.015), y * 0.92, tone(cloth, 1.1), cover)
    else:
        build.ball((0, y, high / 2), (size, size, high * 1.05), cloth, "stripes")
        build.tube((0, y), (high * 0.98, high * 1.05), 0.03, tone(cloth, 0.6))
    return build.piece()


SHAPES = {
    "sofa": make_sofa,
    "chair": make_chair,
    "stool": make_stool,
    "bench": make_bench,
    "ottoman": make_ottoman,
}
