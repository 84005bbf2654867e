"""What pieces of furniture are put together from: boxes by their corners, and drawn colours."""

import colorsys
from typing import NamedTuple

import numpy as np

from xmask3d_rt.data.boxes import Box

# The ScanNet benchmark's classes in its order; a label is an index into this tuple.
ROOM_CLASSES = (
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "desk",
    "curtain",
    "refrigerator",
    "shower curtain",
    "toilet",
    "sink",
    "bathtub",
    "otherfurniture",
)
Color = tuple[float, float, float]


class Piece(NamedTuple):
    """One piece of furniture in its own frame."""

    boxes: list[Box]
    width: float  # metres along x
    depth: float  # metres along y
    height: float


class Builder:
    """Collects the boxes of one piece; every part is given by two opposite corners."""

    def __init__(self, label: str) -> None:
        self.label = ROOM_CLASSES.index(label)
        self.boxes: list[Box] = []

    def add(
        self,
        low: tuple[float, float, float],
        high: tuple[float, float, float],
        color: Color,
        texture: str = "plain",
        label: str | None = None,
    ) -> None:
        """Append the box between two corners, of the piece's class unless told otherwise."""
        center = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
        size = tuple(b - a for a, b in zip(low, high, strict=True))
        index = self.label if label is None else ROOM_CLASSES.index(label)
        self.boxes.append(Box(center, size, color, texture, index))  # type: ignore[arg-type]

    def legs(self, width: float, depth: float, height: float, thick: float, color: Color) -> None:
        """Four legs at the corners of a width x depth footprint."""
        for x in (-width / 2, width / 2 - thick):
            for y in (0.0, depth - thick):
                self.add((x, y, 0), (x + thick, y + thick, height), color, "wood")

    def piece(self) -> Piece:
        """The collected boxes with their common footprint."""
        low = np.min([np.subtract(b.center, np.divide(b.size, 2)) for b in self.boxes], axis=0)
        high = np.max([np.add(b.center, np.divide(b.size, 2)) for b in self.boxes], axis=0)
        width = 2 * max(-low[0], high[0])
        return Piece(self.boxes, float(width), float(high[1]), float(high[2]))


def draw_wood(rng: np.random.Generator) -> Color:
    """A brown between pine and walnut."""
    return colorsys.hsv_to_rgb(
        rng.uniform(0.05, 0.1), rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.85)
    )


def draw_fabric(rng: np.random.Generator) -> Color:
    """Any hue, moderately saturated."""
    return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.25, 0.7), rng.uniform(0.4, 0.8))


def draw_pale(rng: np.random.Generator) -> Color:
    """White to pastel."""
    return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.02, 0.18), rng.uniform(0.8, 0.95))


def add_folds(
    build: Builder,
    start: float,
    end: float,
    y: float,
    heights: tuple[float, float],
    color: Color,
    label: str,
) -> None:
    """Hanging cloth: narrow strips that step back and forth."""
    strips = max(int((end - start) / 0.07), 2)
    edges = np.linspace(start, end, strips + 1)
    for strip in range(strips):
        shift = 0.035 * (strip % 2)
        low = (edges[strip], y + shift, heights[0])
        build.add(low, (edges[strip + 1], y + shift + 0.02, heights[1]), color, "fabric", label)
