"""Random parameters of generated rooms, of which training and held-out rooms share none.

Every range is cut into `BANDS` equal bands. Rooms with a seed below `HELD_OUT_FROM` draw from
the training bands, all others from the held-out bands between them. So held-out rooms look like
training rooms, but no size, proportion, colour, texture scale or light of theirs occurs in one.
Which variant of a shape is built, how many of a thing there are and where they stand is drawn
without bands.
"""

import colorsys
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

HELD_OUT_FROM = 100_000  # seeds from here on make held-out rooms
BANDS = 9
HELD_OUT_BANDS = (1, 4, 7)
TRAINING_BANDS = tuple(band for band in range(BANDS) if band not in HELD_OUT_BANDS)
STREAM = 2999  # of random numbers, beside the seed
PATTERNS = 2**20  # texture patterns; even ones in training rooms, odd ones in held-out rooms

Color = tuple[float, float, float]
T = TypeVar("T")


def is_held_out(seed: int) -> bool:
    """Whether the room of a seed is held out from training."""
    return seed >= HELD_OUT_FROM


class Draw:
    """Draws the parameters of a room.

    Attributes:
        rng: generator behind it, for places and whatever else needs no bands.
        held_out: which of the two sets of bands is drawn from.

    Args:
        rng: generator behind it.
        held_out: which of the two sets of bands is drawn from.
    """

    def __init__(self, rng: np.random.Generator, held_out: bool = False) -> None:
        self.rng = rng
        self.held_out = held_out

    @classmethod
    def of_seed(cls, seed: int) -> "Draw":
        """The draws of a room."""
        return cls(np.random.default_rng((seed, STREAM)), is_held_out(seed))

    def again(self, seed: int) -> "Draw":
        """Draws of their own from the same bands; equal seeds, equal draws."""
        return Draw(np.random.default_rng(seed), self.held_out)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A parameter between two bounds, from the bands of the room."""
        bands = HELD_OUT_BANDS if self.held_out else TRAINING_BANDS
        band = bands[int(self.rng.integers(len(bands)))]
        return low + (high - low) * (band + float(self.rng.uniform())) / BANDS

    def integers(self, low: int, high: int) -> int:
        """A count from `low` to `high` - 1."""
        return int(self.rng.integers(low, high))

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return bool(self.rng.uniform() < probability)

    def choice(self, options: Sequence[T]) -> T:
        """One of several variants."""
        return options[int(self.rng.integers(len(options)))]

    def pattern(self) -> int:
        """Number of a texture pattern."""
        return 2 * int(self.rng.integers(PATTERNS // 2)) + self.held_out

    def hsv(
        self, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]
    ) -> Color:
        """A colour with hue, saturation and value from three ranges in [0, 1]."""
        h, s, v = (self.uniform(*bounds) for bounds in (hue, saturation, value))
        return colorsys.hsv_to_rgb(h % 1.0, s, v)

    def wood(self) -> Color:
        """A brown between pine and walnut."""
        return self.hsv((0.05, 0.1), (0.35, 0.65), (0.35, 0.85))

    def fabric(self) -> Color:
        """Any hue, moderately saturated."""
        return self.hsv((0, 1), (0.2, 0.7), (0.35, 0.8))

    def vivid(self) -> Color:
        """Any hue, strongly saturated, as of plastic."""
        return self.hsv((0, 1), (0.6, 0.9), (0.55, 0.9))

    def pale(self) -> Color:
        """White to pastel."""
        return self.hsv((0, 1), (0.02, 0.18), (0.8, 0.95))

    def white(self) -> Color:
        """Enamel, ceramics, white plastic."""
        return self.hsv((0.05, 0.6), (0.0, 0.04), (0.86, 0.97))

    def dark(self) -> Color:
        """Black plastic, cast iron."""
        return self.hsv((0, 1), (0.0, 0.15), (0.07, 0.2))

    def steel(self) -> Color:
        """Bare metal."""
        return self.hsv((0.5, 0.65), (0.0, 0.06), (0.62, 0.82))


def tone(color: Color, factor: float) -> Color:
    """The colour lighter or darker by a factor."""
    r, g, b = (min(channel * factor, 1.0) for channel in color)
    return r, g, b
