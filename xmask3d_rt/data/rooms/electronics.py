"""Screens, keyboards, printers, fans, lamps, radiators."""

import numpy as np

from xmask3d_rt.data.parts import Builder, Piece
from xmask3d_rt.data.rooms.draws import Draw, tone


def make_monitor(draw: Draw) -> Piece:
    """A computer screen on a stand."""
    build = Builder("monitor", draw)
    black = draw.dark() if draw.chance(0.7) else draw.steel()
    w, tall, z = draw.uniform(0.46, 0.64) / 2, draw.uniform(0.27, 0.37), draw.uniform(0.1, 0.15)
    build.add((-0.12, 0.0, 0), (0.12, 0.18, 0.015), black)
    build.add((-0.025, 0.04, 0.015), (0.025, 0.07, z + tall / 2), black)
    build.add((-w, 0.07, z), (w, 0.11, z + tall), black)
    screen = draw.hsv((0.5, 0.75), (0.3, 0.7), (0.6, 0.95))
    build.add((-w + 0.012, 0.11, z + 0.02), (w - 0.012, 0.113, z + tall - 0.012), screen, "desktop")
    return build.piece()


def make_television(draw: Draw) -> Piece:
    """A wide flat screen with a thin black frame on two feet."""
    build = Builder("television", draw)
    black = draw.dark()
    w = draw.uniform(0.85, 1.35) / 2
    tall = 2 * w * draw.uniform(0.55, 0.6)
    for x in (-w * 0.6, w * 0.6):
        build.add((x - 0.02, 0.0, 0), (x + 0.02, 0.2, 0.015), black)
        build.add((x - 0.015, 0.08, 0.015), (x + 0.015, 0.11, 0.07), black)
    build.add((-w, 0.07, 0.06), (w, 0.12, 0.06 + tall), black)
    build.add((-w + 0.015, 0.12, 0.08), (w - 0.015, 0.123, 0.045 + tall), (0.1, 0.1, 0.1), "film")
    return build.piece()


def make_keyboard(draw: Draw) -> Piece:
    """A computer keyboard."""
    build = Builder("keyboard", draw)
    color = draw.choice((draw.dark(), draw.white(), draw.steel()))
    w, depth = draw.uniform(0.38, 0.46) / 2, draw.uniform(0.13, 0.16)
    build.add((-w, 0, 0), (w, depth, 0.018), tone(color, 0.8))
    build.add((-w + 0.01, 0.012, 0.018), (w - 0.01, depth - 0.012, 0.026), color, "keys")
    return build.piece()


def make_laptop(draw: Draw) -> Piece:
    """A portable computer, opened."""
    build = Builder("laptop", draw)
    color = draw.steel() if draw.chance(0.6) else draw.dark()
    w, depth = draw.uniform(0.3, 0.37) / 2, draw.uniform(0.21, 0.25)
    lean = draw.uniform(0.15, 0.5)
    build.add((-w, 0, 0), (w, depth, 0.018), color, "metal")
    build.add((-w + 0.02, 0.02, 0.018), (w - 0.02, depth * 0.6, 0.021), tone(color, 0.5), "keys")
    y, z = -np.sin(lean) * depth / 2, 0.018 + np.cos(lean) * depth / 2
    build.solid((0, y, z), (2 * w, 0.012, depth), color, "metal", tilt=lean)
    y, z = y + 0.008 * np.cos(lean), z + 0.008 * np.sin(lean)
    screen = draw.hsv((0, 1), (0.3, 0.7), (0.6, 0.95))
    build.solid((0, y, z), (2 * w - 0.025, 0.004, depth - 0.03), screen, "desktop", tilt=lean)
    return build.piece()


def make_printer(draw: Draw) -> Piece:
    """A printer with a tray of paper, or a copier that stands on the floor."""
    build = Builder("printer", draw)
    color, dark = draw.white() if draw.chance(0.6) else draw.dark(), draw.dark()
    w, depth, high = draw.uniform(0.38, 0.5) / 2, draw.uniform(0.3, 0.4), draw.uniform(0.18, 0.28)
    build.add((-w, 0, 0), (w, depth, high), color)
    build.add((-w + 0.03, 0.02, high), (w - 0.03, depth - 0.1, high + 0.03), tone(color, 0.75))
    build.add((-w + 0.06, depth, 0.05), (w - 0.06, depth + 0.004, 0.12), dark)
    build.add((-w + 0.08, depth, 0.05), (w - 0.08, depth + 0.16, 0.065), tone(color, 0.9))
    build.add((-w + 0.1, depth + 0.01, 0.065), (w - 0.1, depth + 0.14, 0.075), (0.97, 0.97, 0.95))
    build.solid((0, 0.02, high + 0.1), (2 * w - 0.14, 0.006, 0.2), (0.96, 0.96, 0.94), tilt=0.3)
    build.add((w * 0.3, depth, high - 0.07), (w - 0.02, depth + 0.006, high - 0.02), dark, "keys")
    return build.piece()


def make_fan(draw: Draw) -> Piece:
    """A round cage of blades on a pole."""
    build = Builder("fan", draw)
    color = draw.white() if draw.chance(0.5) else draw.dark()
    high, radius = draw.uniform(0.9, 1.3), draw.uniform(0.2, 0.26)
    build.tube((0, 0.22), (0, 0.04), 0.2, color, taper=0.8)
    build.tube((0, 0.22), (0.04, high), 0.018, draw.steel(), "metal")
    build.rod((0, 0.14, high), (0, 0.28, high), 0.06, color)
    for y in (0.27, 0.33):
        for spoke in range(24):
            angle, end = 2 * np.pi * spoke / 24, 2 * np.pi * (spoke + 1) / 24
            start = (radius * np.cos(angle), y, high + radius * np.sin(angle))
            stop = (radius * np.cos(end), y, high + radius * np.sin(end))
            if spoke % 2 == 0:
                stop_ring = 2 * np.pi * (spoke + 2) / 24
                stop = (radius * np.cos(stop_ring), y, high + radius * np.sin(stop_ring))
                build.rod(start, stop, 0.008, color)
            elif y > 0.3:
                build.rod((0, y, high), start, 0.004, color)
    blade = draw.vivid() if draw.chance(0.6) else tone(color, 0.8)
    for wing in range(3):
        angle = 0.4 + 2 * np.pi * wing / 3
        at = (radius * 0.5 * np.cos(angle), 0.3, high + radius * 0.5 * np.sin(angle))
        build.ball(at, (radius * 0.75, 0.012, radius * 0.75), blade)
    build.rod((0, 0.3, high), (0, 0.34, high), 0.045, tone(color, 0.8))
    return build.piece()


def make_lamp(draw: Draw) -> Piece:
    """A floor lamp: a shade on a tall pole, an arc, or a globe."""
    build = Builder("lamp", draw)
    metal = draw.dark() if draw.chance(0.5) else draw.steel()
    glow = draw.hsv((0.08, 0.16), (0.05, 0.35), (0.95, 1.3))
    high, radius = draw.uniform(1.35, 1.75), draw.uniform(0.16, 0.24)
    build.tube((0, 0.25), (0, 0.03), 0.15, metal, "metal")
    style = draw.choice(("shade", "shade", "globe", "tripod"))
    if style == "tripod":
        for leg in range(3):
            angle = 0.5 + 2 * np.pi * leg / 3
            foot = (0.24 * np.cos(angle), 0.25 + 0.24 * np.sin(angle), 0)
            build.rod(foot, (0, 0.25, high - 0.25), 0.016, draw.wood(), "wood")
    else:
        build.tube((0, 0.25), (0.03, high - 0.1), 0.014, metal, "metal")
    if style == "globe":
        build.ball((0, 0.25, high), (1.5 * radius,) * 3, glow)
    else:
        build.tube(
            (0, 0.25), (high - 0.28, high), radius, glow, "fabric", taper=draw.uniform(0.5, 0.85)
        )
    return build.piece()


def make_table_lamp(draw: Draw) -> Piece:
    """A shade on a foot like a vase or a stick, or a desk lamp with an arm."""
    build = Builder("lamp", draw)
    glow = draw.hsv((0.08, 0.16), (0.05, 0.4), (0.95, 1.3))
    high, radius = draw.uniform(0.36, 0.52), draw.uniform(0.1, 0.15)
    y = radius
    style = draw.choice(("vase", "stick", "arm"))
    if style == "arm":
        color = draw.vivid() if draw.chance(0.6) else draw.dark()
        build.tube((0, y), (0, 0.025), 0.08, color)
        build.rod((0, y, 0.02), (0, y - 0.06, high * 0.6), 0.012, color, "metal")
        build.rod((0, y - 0.06, high * 0.6), (0, y + 0.12, high), 0.012, color, "metal")
        build.rod((0, y + 0.1, high + 0.03), (0, y + 0.16, high - 0.08), 0.035, color, taper=2.0)
        return build.piece()
    if style == "vase":
        build.ball((0, y, 0.1), (0.16, 0.16, 0.2), draw.fabric(), "stone")
    else:
        build.tube((0, y), (0, 0.02), 0.07, draw.dark())
    build.tube((0, y), (0.02, high - 0.1), 0.013, draw.steel(), "metal")
    build.tube((0, y), (high - 0.2, high), radius, glow, "fabric", taper=draw.uniform(0.5, 0.85))
    return build.piece()


def make_radiator(draw: Draw) -> Piece:
    """A ribbed heater below a window: round columns or a panel."""
    build = Builder("radiator", draw)
    white = draw.white()
    w, high = draw.uniform(0.6, 1.3) / 2, draw.uniform(0.5, 0.68)
    if draw.chance(0.6):
        ribs = int(2 * w / draw.uniform(0.06, 0.08))
        for x in np.linspace(-w, w, ribs):
            build.tube((float(x), 0.08), (0.12, high), (0.024, 0.055), white)
        for z in (0.17, high - 0.06):
            build.rod((-w, 0.08, z), (w, 0.08, z), 0.022, white)
    else:
        build.add((-w, 0.04, 0.12), (w, 0.12, high), white, "slats")
        build.add((-w - 0.005, 0.035, high - 0.02), (w + 0.005, 0.125, high + 0.01), white)
    for x in (-w + 0.05, w - 0.05):
        build.tube((x, 0.08), (0, 0.14), 0.013, draw.steel(), "metal")
    build.rod((w, 0.08, high - 0.06), (w + 0.09, 0.08, high - 0.06), 0.022, draw.white())
    return build.piece()


SHAPES = {
    "monitor": make_monitor,
    "television": make_television,
    "keyboard": make_keyboard,
    "laptop": make_laptop,
    "printer": make_printer,
    "fan": make_fan,
    "lamp": make_lamp,
    "radiator": make_radiator,
}
