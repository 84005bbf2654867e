"""Sentences about what a view shows."""

import colorsys
from collections.abc import Collection

import numpy as np

from xmask3d_rt.data.rooms.kinds import KINDS

SHARE = 0.004  # of a view that a kind must cover to be named in its caption
LARGEST = 6  # kinds at most in one caption
COUNTS = ("no", "a", "two", "three", "four", "five", "six")
UNCOUNTED = ("wall", "floor", "books", "blinds")
PLURALS = {"bookshelf": "bookshelves", "shelf": "shelves", "bench": "benches", "box": "boxes"}
OPENINGS = ("{} with ", "a photo of {} with ", "there is {} with ", "in {}: ")


def describe_view(
    kinds: np.ndarray,
    instances: np.ndarray,
    image: np.ndarray,
    room_type: str,
    rng: np.random.Generator,
    unnamed: Collection[str] = (),
) -> str:
    """A caption of a view: the kinds that cover most of it, how many and of which colour.

    Args:
        kinds: index into `KINDS` per pixel [H, W], -1 = none.
        instances: number of the object per pixel [H, W].
        image: its colours [H, W, 3].
        room_type: such as "kitchen".
        rng: of the wording.
        unnamed: kinds that must not be named.
    """
    area = np.bincount(kinds[kinds >= 0], minlength=len(KINDS))
    order = np.argsort(-area, kind="stable")
    shown = [int(k) for k in order if area[k] >= SHARE * kinds.size and KINDS[k] not in unnamed]
    things = [k for k in shown if k > 1] or shown
    parts = [_name(k, kinds, instances, image, rng) for k in things[:LARGEST]]
    text = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + "".join(parts[-1:])
    opening = OPENINGS[int(rng.integers(len(OPENINGS)))].format(_add_article(room_type))
    return opening + (text or "nothing in it")


def _name(
    kind: int, kinds: np.ndarray, instances: np.ndarray, image: np.ndarray, rng: np.random.Generator
) -> str:
    """A kind with its number and now and then its colour: two chairs, a red sofa, books."""
    where = kinds == kind
    sizes = np.unique(instances[where], return_counts=True)[1]
    count = int((sizes >= SHARE / 4 * kinds.size).sum())
    name = KINDS[kind]
    color = name_color(image[where].mean(axis=0)) + " " if rng.uniform() < 0.4 else ""
    if name in UNCOUNTED:
        return color + name
    if count > 1:
        amount = COUNTS[count] if count < len(COUNTS) else "many"
        return f"{amount} {color}{PLURALS.get(name, name + 's')}"
    return _add_article(color + name)


def _add_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def name_color(rgb: np.ndarray) -> str:
    """The basic colour word for a mean colour [3] in 0..255."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(np.asarray(rgb) / 255))
    if value < 0.2:
        return "black"
    if saturation < 0.13:
        return "white" if value > 0.72 else "grey"
    if 0.03 < hue < 0.12 and value < 0.75:
        return "brown"
    bounds = (0.03, 0.11, 0.19, 0.44, 0.55, 0.7, 0.8, 0.93)
    words = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "red")
    return words[int(np.searchsorted(bounds, hue))]
