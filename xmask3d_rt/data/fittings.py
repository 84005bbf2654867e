"""What hangs on the walls of a generated room: doors, windows, curtains, pictures.

Frames as in `furniture`: x along the width, y away from the wall, z up from the floor.
"""

import numpy as np

from xmask3d_rt.data.parts import (
    Builder,
    Color,
    Piece,
    add_folds,
    draw_fabric,
    draw_pale,
    draw_wood,
)


def make_door(rng: np.random.Generator) -> Piece:
    """A door."""
    build = Builder("door")
    color = draw_wood(rng) if rng.uniform() < 0.6 else draw_pale(rng)
    frame: Color = (color[0] * 0.8, color[1] * 0.8, color[2] * 0.8)
    w, height = rng.uniform(0.8, 0.95) / 2, 2.05
    build.add((-w, 0, 0.01), (w, 0.03, height), color, "wood")
    for x in (-w - 0.07, w):
        build.add((x, 0, 0), (x + 0.07, 0.05, height + 0.07), frame, "wood")
    build.add((-w, 0, height), (w, 0.05, height + 0.07), frame, "wood")
    for low, high in ((0.15, 0.9), (1.05, 1.9)):
        build.add((-w + 0.12, 0.03, low), (w - 0.12, 0.04, high), frame, "wood")
    build.add((w - 0.1, 0.03, 1.0), (w - 0.07, 0.09, 1.03), (0.75, 0.7, 0.5), "metal")
    build.add((w - 0.19, 0.07, 1.0), (w - 0.07, 0.09, 1.03), (0.75, 0.7, 0.5), "metal")
    return build.piece()


def make_window(rng: np.random.Generator) -> Piece:
    """A window."""
    build = Builder("window")
    frame: Color = draw_pale(rng)
    w, low, high = rng.uniform(1.0, 1.8) / 2, rng.uniform(0.85, 1.0), rng.uniform(2.0, 2.2)
    build.add((-w, 0, low), (w, 0.01, high), (0.8, 0.9, 1.0), "sky")
    for x in (-w - 0.06, -0.03, w):
        build.add((x, 0, low), (x + 0.06, 0.05, high), frame)
    for z in (low - 0.06, high):
        build.add((-w - 0.06, 0, z), (w + 0.06, 0.05, z + 0.06), frame)
    build.add((-w - 0.1, 0, low - 0.1), (w + 0.1, 0.16, low - 0.06), frame)
    return build.piece()


def make_curtain(rng: np.random.Generator) -> Piece:
    """A curtain."""
    build = Builder("curtain")
    cloth = draw_fabric(rng)
    add_folds(build, -0.28, 0.28, 0.03, (0.06, 2.32), cloth, "curtain")
    build.add((-0.34, 0.04, 2.32), (0.34, 0.07, 2.35), (0.4, 0.35, 0.3), "metal")
    return build.piece()


def make_picture(rng: np.random.Generator) -> Piece:
    """A picture."""
    build = Builder("picture")
    w, height = rng.uniform(0.5, 1.1) / 2, rng.uniform(0.4, 0.75)
    low = 1.62 - height / 2
    frame = draw_wood(rng)
    build.add((-w, 0, low), (w, 0.03, low + height), frame, "wood")
    canvas = (-w + 0.04, 0.03, low + 0.04), (w - 0.04, 0.035, low + height - 0.04)
    build.add(*canvas, draw_fabric(rng), "painting")
    return build.piece()
