"""A colour for every class: known ones where a name has one, the others far from all before."""

import colorsys
from collections.abc import Sequence

import numpy as np

HUES = 48
# Beyond this many hues of a tone no new colour of 8 bits appears; farthest-point traversal then
# has about 3,200 colours to choose from.
MOST_HUES = 2048
TONES = ((0.75, 0.95), (0.95, 0.7), (0.45, 0.9), (0.6, 0.55))  # saturation, value
COLORS = 1 << 24
# Odd, hence a permutation of the colours; near 2^24 / golden ratio, so that neighbours differ.
STRIDE = 10_368_889

Color = tuple[int, int, int]


def choose_colors(known: Sequence[Color | None]) -> np.ndarray:
    """[C, 3] uint8, all distinct, the same on every call.

    Args:
        known: the colour each class should have, None where any will do; a colour that an
            earlier class has counts as None.

    Raises:
        ValueError: more classes than there are colours of 8 bits.
    """
    if len(known) > COLORS:
        raise ValueError(f"{len(known)} classes; there are {COLORS} distinct colours")
    colors = np.zeros((len(known), 3), np.uint8)
    open_classes = []
    used: set[Color] = set()
    for index, color in enumerate(known):
        if color is None or color in used:
            open_classes.append(index)
            continue
        used.add(color)
        colors[index] = color
    if open_classes:
        taken = np.array(sorted(used), np.int64).reshape(-1, 3)
        spread = _spread_colors(len(open_classes), taken)
        taken = np.concatenate([taken, spread])
        rest = _list_others(len(open_classes) - len(spread), taken)
        colors[open_classes] = np.concatenate([spread, rest])
    return colors


def _spread_colors(count: int, used: np.ndarray) -> np.ndarray:
    """Up to `count` colours [n, 3], each the candidate farthest from all before and from `used`.

    Candidates are hues at a few tones, more hues where many classes need them; after
    Gonzalez, farthest-point traversal.
    """
    hues = min(max(HUES, 2 * count // len(TONES) + len(used)), MOST_HUES)
    candidates = np.unique(
        np.rint(
            [
                [255 * part for part in colorsys.hsv_to_rgb(i / hues, saturation, value)]
                for saturation, value in TONES
                for i in range(hues)
            ]
        ).astype(np.int64),
        axis=0,
    )
    distance = np.full(len(candidates), 3 * 255**2 + 1)
    for color in used:
        distance = np.minimum(distance, ((candidates - color) ** 2).sum(axis=1))
    chosen: list[np.ndarray] = []
    while len(chosen) < count and distance.any():
        best = candidates[int(distance.argmax())]
        chosen.append(best)
        distance = np.minimum(distance, ((candidates - best) ** 2).sum(axis=1))
    return np.array(chosen, np.int64).reshape(-1, 3)


def _list_others(count: int, used: np.ndarray) -> np.ndarray:
    """`count` colours [n, 3] that are not among `used`, in a fixed scattered order."""
    codes = np.arange(count + len(used), dtype=np.int64) * STRIDE % COLORS
    free = codes[~np.isin(codes, used @ (1 << 16, 1 << 8, 1))][:count]
    return np.stack([free >> 16, free >> 8 & 255, free & 255], axis=1)
