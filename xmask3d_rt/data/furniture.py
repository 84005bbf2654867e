"""Pieces of furniture as boxes, with sizes and colours drawn from a generator.

Every piece stands at the origin of its own frame: x along its width (centred), y from its back
(0) to its front, z up from the floor. `PIECES` names them by their ScanNet class.
"""

from collections.abc import Callable

import numpy as np

from xmask3d_rt.data.fittings import make_curtain, make_door, make_picture, make_window
from xmask3d_rt.data.parts import (
    Builder,
    Color,
    Piece,
    add_folds,
    draw_fabric,
    draw_pale,
    draw_wood,
)


def _bed(rng: np.random.Generator) -> Piece:
    build = Builder("bed")
    wood, quilt, linen = draw_wood(rng), draw_fabric(rng), draw_pale(rng)
    w = rng.uniform(1.3, 1.8) / 2
    build.add((-w, 0, 0), (w, 0.06, rng.uniform(0.85, 1.1)), wood, "wood")
    build.add((-w, 0.06, 0.12), (w, 2.05, 0.32), wood, "wood")
    build.legs(2 * w, 2.05, 0.12, 0.08, wood)
    build.add((-w + 0.03, 0.06, 0.32), (w - 0.03, 2.03, 0.5), linen, "fabric")
    build.add((-w, 0.62, 0.36), (w, 2.06, 0.53), quilt, "quilt")
    for x in (-w / 2, w / 2):
        build.add((x - 0.3, 0.1, 0.5), (x + 0.3, 0.5, 0.62), linen, "fabric")
    return build.piece()


def _sofa(rng: np.random.Generator) -> Piece:
    build = Builder("sofa")
    cloth, wood = draw_fabric(rng), draw_wood(rng)
    dark: Color = (cloth[0] * 0.85, cloth[1] * 0.85, cloth[2] * 0.85)
    seats = int(rng.integers(2, 4))
    w, depth = (0.62 * seats + 0.36) / 2, rng.uniform(0.82, 0.95)
    build.legs(2 * w, depth, 0.1, 0.06, wood)
    build.add((-w, 0, 0.1), (w, depth, 0.28), dark, "fabric")
    build.add((-w, 0, 0.28), (w, 0.2, rng.uniform(0.75, 0.9)), cloth, "fabric")
    for x in (-w, w - 0.18):
        build.add((x, 0, 0.28), (x + 0.18, depth, 0.6), cloth, "fabric")
    for seat in range(seats):
        x = -w + 0.18 + 0.62 * seat
        build.add((x + 0.01, 0.2, 0.28), (x + 0.61, depth + 0.02, 0.45), cloth, "fabric")
        build.add((x + 0.03, 0.2, 0.45), (x + 0.59, 0.34, 0.72), dark, "fabric")
    if rng.uniform() < 0.7:
        build.add((-w + 0.22, 0.34, 0.45), (-w + 0.62, 0.48, 0.8), draw_fabric(rng), "quilt")
    return build.piece()


def _chair(rng: np.random.Generator) -> Piece:
    build = Builder("chair")
    wood, seat = draw_wood(rng), draw_fabric(rng)
    w, depth, top = rng.uniform(0.4, 0.48) / 2, 0.45, rng.uniform(0.85, 1.0)
    build.legs(2 * w, depth, 0.43, 0.04, wood)
    build.add((-w, 0, 0.43), (w, depth, 0.48), seat, "fabric")
    for x in (-w, w - 0.04):
        build.add((x, 0, 0.48), (x + 0.04, 0.04, top), wood, "wood")
    slats = int(rng.integers(2, 4))
    for z in np.linspace(0.6, top - 0.1, slats):
        build.add((-w + 0.04, 0.01, z), (w - 0.04, 0.03, z + 0.1), wood, "wood")
    return build.piece()


def _table(rng: np.random.Generator) -> Piece:
    build = Builder("table")
    wood = draw_wood(rng)
    w, depth, top = rng.uniform(1.1, 1.6) / 2, rng.uniform(0.75, 0.95), rng.uniform(0.71, 0.77)
    build.legs(2 * w, depth, top - 0.04, 0.07, wood)
    build.add((-w + 0.07, 0.03, top - 0.12), (w - 0.07, depth - 0.03, top - 0.04), wood, "wood")
    build.add((-w - 0.03, -0.03, top - 0.04), (w + 0.03, depth + 0.03, top), wood, "wood")
    if rng.uniform() < 0.6:  # a cloth runner
        build.add(
            (-0.18, -0.035, top), (0.18, depth + 0.035, top + 0.008), draw_fabric(rng), "quilt"
        )
    return build.piece()


def _cabinet(rng: np.random.Generator) -> Piece:
    build = Builder("cabinet")
    body = draw_wood(rng) if rng.uniform() < 0.5 else draw_pale(rng)
    front: Color = (body[0] * 0.88, body[1] * 0.88, body[2] * 0.88)
    w, depth = rng.uniform(0.8, 1.3) / 2, rng.uniform(0.4, 0.55)
    height = rng.uniform(0.8, 1.1) if rng.uniform() < 0.5 else rng.uniform(1.7, 2.0)
    build.add((-w, 0, 0.06), (w, depth, height), body, "wood")
    build.add((-w + 0.03, 0, 0), (w - 0.03, depth - 0.05, 0.06), front)
    rows = 2 if height > 1.5 else 1
    step = (height - 0.12) / rows
    for row in range(rows):
        for x in (-w, 0.0):
            low, high = 0.09 + row * step, 0.06 + (row + 1) * step
            build.add((x + 0.02, depth, low), (x + w - 0.02, depth + 0.02, high), front, "wood")
            knob = -0.06 if x < 0 else 0.04
            z = high - 0.25 if row == 0 else low + 0.15
            build.add(
                (knob, depth + 0.02, z), (knob + 0.02, depth + 0.05, z + 0.1), (0.75,) * 3, "metal"
            )
    return build.piece()


def _bookshelf(rng: np.random.Generator) -> Piece:
    build = Builder("bookshelf")
    wood = draw_wood(rng)
    w, depth, shelves = rng.uniform(0.8, 1.2) / 2, 0.3, int(rng.integers(4, 6))
    height = 0.36 * shelves + 0.05
    build.add((-w, 0, 0), (w, 0.02, height), wood, "wood")
    for x in (-w, w - 0.03):
        build.add((x, 0.02, 0), (x + 0.03, depth, height), wood, "wood")
    for shelf in range(shelves + 1):
        z = 0.36 * shelf
        build.add((-w + 0.03, 0.02, z), (w - 0.03, depth, z + 0.03), wood, "wood")
        if shelf == shelves:
            continue
        x = -w + 0.03
        while x < w - 0.2:
            end = min(x + rng.uniform(0.2, 0.5), w - 0.03)
            if rng.uniform() < 0.8:
                top = z + 0.03 + rng.uniform(0.22, 0.3)
                front = depth - rng.uniform(0.02, 0.08)
                build.add((x, 0.03, z + 0.03), (end, front, top), (0.5, 0.4, 0.3), "books")
            x = end
    return build.piece()


def _desk(rng: np.random.Generator) -> Piece:
    build = Builder("desk")
    wood = draw_wood(rng) if rng.uniform() < 0.6 else draw_pale(rng)
    w, depth, top = rng.uniform(1.1, 1.5) / 2, rng.uniform(0.6, 0.7), 0.74
    build.add((-w, 0, top - 0.03), (w, depth, top), wood, "wood")
    build.add((-w + 0.02, 0.03, 0), (-w + 0.06, depth - 0.03, top - 0.03), wood, "wood")
    build.add((w - 0.45, 0.03, 0), (w - 0.02, depth - 0.04, top - 0.03), wood, "wood")
    for z in (0.06, 0.29, 0.52):
        build.add((w - 0.44, depth - 0.04, z), (w - 0.03, depth - 0.02, z + 0.17), wood, "wood")
        build.add(
            (w - 0.3, depth - 0.02, z + 0.08), (w - 0.17, depth, z + 0.1), (0.7,) * 3, "metal"
        )
    build.add((-w + 0.06, 0.03, 0.3), (w - 0.45, 0.05, top - 0.03), wood, "wood")
    return build.piece()


def _counter(rng: np.random.Generator) -> Piece:
    build = Builder("counter")
    body, slab = draw_wood(rng), draw_pale(rng)
    w = rng.uniform(1.4, 2.0) / 2
    build.add((-w, 0, 0.1), (w, 0.57, 0.86), body, "wood", "cabinet")
    build.add((-w, 0, 0), (w, 0.5, 0.1), (0.2, 0.2, 0.2), "plain", "cabinet")
    doors = int(2 * w / 0.45)
    for door in range(doors):
        x, step = -w + door * 2 * w / doors, 2 * w / doors
        build.add((x + 0.01, 0.57, 0.12), (x + step - 0.01, 0.585, 0.84), body, "wood", "cabinet")
        knob = (x + step * 0.8, 0.585, 0.74), (x + step * 0.9, 0.61, 0.76)
        build.add(*knob, (0.75,) * 3, "metal", "cabinet")
    build.add((-w - 0.01, 0, 0.86), (w + 0.01, 0.61, 0.9), slab, "plain")
    x = rng.uniform(-w + 0.35, w - 0.35)
    steel: Color = (0.72, 0.74, 0.76)
    _basin(build, (x - 0.26, 0.1), (x + 0.26, 0.5), 0.9, 0.99, steel)
    build.add((x - 0.015, 0.05, 0.9), (x + 0.015, 0.08, 1.18), steel, "metal", "sink")
    build.add((x - 0.015, 0.05, 1.16), (x + 0.015, 0.24, 1.18), steel, "metal", "sink")
    return build.piece()


def _basin(
    build: Builder,
    low: tuple[float, float],
    high: tuple[float, float],
    bottom: float,
    top: float,
    color: Color,
    label: str = "sink",
) -> None:
    """Four rims and a bottom between two corners of a rectangle."""
    (x0, y0), (x1, y1), thick = low, high, 0.04
    build.add((x0, y0, bottom), (x1, y1, bottom + 0.02), color, "metal", label)
    build.add((x0, y0, bottom), (x1, y0 + thick, top), color, "metal", label)
    build.add((x0, y1 - thick, bottom), (x1, y1, top), color, "metal", label)
    build.add((x0, y0, bottom), (x0 + thick, y1, top), color, "metal", label)
    build.add((x1 - thick, y0, bottom), (x1, y1, top), color, "metal", label)


def _refrigerator(rng: np.random.Generator) -> Piece:
    build = Builder("refrigerator")
    tone = rng.uniform(0.6, 0.92)
    color: Color = (tone, tone, min(tone * 1.02, 1))
    w, height = rng.uniform(0.6, 0.8) / 2, rng.uniform(1.6, 1.9)
    split = height * rng.uniform(0.3, 0.65)
    build.add((-w, 0, 0.03), (w, 0.58, height), (tone * 0.8,) * 3, "plain")
    build.add((-w, 0.58, 0.06), (w, 0.65, split), color, "metal")
    build.add((-w, 0.58, split + 0.015), (w, 0.65, height), color, "metal")
    for low, high in ((split - 0.4, split - 0.08), (split + 0.1, split + 0.42)):
        build.add((-w + 0.05, 0.65, low), (-w + 0.08, 0.7, high), (0.35,) * 3, "metal")
    return build.piece()


def _toilet(rng: np.random.Generator) -> Piece:
    build = Builder("toilet")
    white: Color = (0.93, 0.93, 0.92)
    build.add((-0.22, 0, 0.38), (0.22, 0.2, 0.8), white)
    build.add((-0.24, 0, 0.8), (0.24, 0.22, 0.84), white)
    build.add((-0.13, 0.05, 0), (0.13, 0.55, 0.3), white)
    build.add((-0.19, 0.2, 0.25), (0.19, 0.68, 0.4), white)
    lid = draw_pale(rng)
    build.add((-0.2, 0.2, 0.4), (0.2, 0.69, 0.43), lid)
    build.add((-0.03, 0.2, 0.7), (0.03, 0.22, 0.72), (0.7,) * 3, "metal")
    return build.piece()


def _bathtub(rng: np.random.Generator) -> Piece:
    build = Builder("bathtub")
    white: Color = (0.93, 0.94, 0.95)
    w, depth, top = rng.uniform(1.5, 1.7) / 2, 0.75, 0.55
    build.add((-w, 0, 0), (w, depth, 0.12), white)
    _basin(build, (-w, 0), (w, depth), 0.12, top, white, "bathtub")
    steel: Color = (0.75, 0.75, 0.78)
    build.add((-w + 0.02, 0.34, top), (-w + 0.05, 0.4, 0.8), steel, "metal")
    cloth = draw_fabric(rng)
    add_folds(build, -w + 0.05, w * 0.3, depth + 0.02, (0.2, 2.0), cloth, "shower curtain")
    build.add((-w, depth + 0.03, 2.0), (w, depth + 0.05, 2.02), steel, "metal", "shower curtain")
    return build.piece()


def _nightstand(rng: np.random.Generator) -> Piece:
    build = Builder("otherfurniture")
    wood, shade_color = draw_wood(rng), draw_pale(rng)
    build.add((-0.22, 0, 0), (0.22, 0.4, 0.5), wood, "wood")
    for z in (0.06, 0.28):
        build.add((-0.2, 0.4, z), (0.2, 0.415, z + 0.18), wood, "wood")
        build.add((-0.03, 0.415, z + 0.08), (0.03, 0.44, z + 0.1), (0.75,) * 3, "metal")
    build.add((-0.02, 0.18, 0.5), (0.02, 0.22, 0.75), (0.3,) * 3, "metal")
    build.add((-0.13, 0.07, 0.72), (0.13, 0.33, 0.95), shade_color, "fabric")
    return build.piece()


PIECES: dict[str, Callable[[np.random.Generator], Piece]] = {
    "bed": _bed,
    "sofa": _sofa,
    "chair": _chair,
    "table": _table,
    "cabinet": _cabinet,
    "bookshelf": _bookshelf,
    "desk": _desk,
    "counter": _counter,
    "refrigerator": _refrigerator,
    "toilet": _toilet,
    "bathtub": _bathtub,
    "otherfurniture": _nightstand,
    "door": make_door,
    "window": make_window,
    "curtain": make_curtain,
    "picture": make_picture,
}
