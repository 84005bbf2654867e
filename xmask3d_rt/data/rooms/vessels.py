"""Bins, buckets and baskets."""

from itertools import pairwise

import numpy as np

from xmask3d_rt.data.parts import Builder, Piece
from xmask3d_rt.data.rooms.draws import Draw, tone


def make_trash_can(draw: Draw) -> Piece:
    """A bin: an open round one, a pedal bin, or a tall one with a swing lid."""
    build = Builder("trash can", draw)
    color = draw.choice((draw.steel(), draw.dark(), draw.vivid()))
    radius, high = draw.uniform(0.12, 0.18), draw.uniform(0.28, 0.62)
    style = draw.choice(("open", "pedal", "square"))
    y = radius * 1.1
    if style == "square":
        build.add((-radius, 0, 0), (radius, 2 * radius, high), color)
        build.add(
            (-radius * 1.05, -0.01, high),
            (radius * 1.05, 2 * radius + 0.01, high + 0.05),
            draw.dark(),
        )
        build.solid(
            (0, radius, high + 0.07),
            (1.6 * radius, 1.5 * radius, 0.03),
            tone(color, 0.8),
            tilt=0.25,
        )
    else:
        texture = draw.choice(("metal", "plain", "slats"))
        build.tube(
            (0, y), (0, high), radius * 0.85, color, texture, taper=1.2 if style == "open" else 1.0
        )
        if style == "open":
            build.tube((0, y), (high, high + 0.004), radius * 0.93, (0.08, 0.08, 0.08))
            for turn in range(3):
                at = (0.4 * radius * np.cos(2 * turn), y + 0.4 * radius * np.sin(2 * turn), high)
                build.ball(at, (0.09, 0.09, 0.07), (0.93, 0.92, 0.88), "fur")
        else:
            build.tube((0, y), (high, high + 0.02), radius * 0.88, draw.dark())
            build.ball((0, y, high + 0.02), (radius * 1.7, radius * 1.7, 0.12), color, "metal")
            build.add((-0.03, y + radius * 0.8, 0.01), (0.03, y + radius * 1.15, 0.03), draw.dark())
    return build.piece()


def make_bucket(draw: Draw) -> Piece:
    """A pail of plastic or zinc with a bow handle and water in it."""
    build = Builder("bucket", draw)
    color = draw.vivid() if draw.chance(0.75) else draw.steel()
    radius, high = draw.uniform(0.12, 0.15), draw.uniform(0.24, 0.32)
    y = radius * 1.3
    build.tube((0, y), (0, high), radius * 0.75, color, "plain", taper=1.4)
    build.tube((0, y), (high - 0.02, high), radius * 1.1, color)
    build.tube((0, y), (high, high + 0.003), radius * 0.95, (0.25, 0.35, 0.42))
    arc = [(np.cos(a), np.sin(a)) for a in np.linspace(0, np.pi, 7)]
    for (c, s), (d, t) in pairwise(arc):
        start = (radius * 1.1 * c, y, high + radius * 0.9 * s)
        build.rod(
            start, (radius * 1.1 * d, y, high + radius * 0.9 * t), 0.007, draw.steel(), "metal"
        )
    return build.piece()


def make_basket(draw: Draw) -> Piece:
    """A woven basket, round or square, with laundry or a lid."""
    build = Builder("basket", draw)
    cane = draw.hsv((0.07, 0.12), (0.35, 0.6), (0.5, 0.8))
    radius, high = draw.uniform(0.18, 0.26), draw.uniform(0.28, 0.6)
    y = radius * 1.1
    if draw.chance(0.6):
        build.tube((0, y), (0, high), radius * 0.88, cane, "wicker", taper=1.14)
        build.tube((0, y), (high - 0.03, high + 0.01), radius * 1.02, tone(cane, 0.75), "wicker")
    else:
        build.add((-radius, 0, 0), (radius, 2 * y, high), cane, "wicker")
        build.add(
            (-radius - 0.01, -0.01, high - 0.03),
            (radius + 0.01, 2 * y + 0.01, high + 0.005),
            tone(cane, 0.75),
            "wicker",
        )
    for side in (-1, 1):
        build.ball(
            (side * radius * 0.3, y, high + 0.02),
            (radius * 1.1, radius, 0.18),
            draw.fabric(),
            "fabric",
        )
        build.ball(
            (side * radius * 1.05, y, high - 0.1), (0.03, 0.16, 0.08), tone(cane, 0.7), "wicker"
        )
    return build.piece()


SHAPES = {
    "trash can": make_trash_can,
    "bucket": make_bucket,
    "basket": make_basket,
}
