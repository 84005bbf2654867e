"""A class for what is none of the named ones.

A label is the likeliest of the named classes, so something always wins, and a class without
rivals wins with score 1. Two things help: neutral names that compete for every point, and a
score that a label must reach. Both put points into one extra class at the end of the list.

Source: the neutral names are the canonical phrases of LERF, Kerr et al. 2023 (section 3.3).
"""

import math
from typing import Any

import numpy as np

from xmask3d_rt.classes import ClassList, parse_classes

NEUTRAL_NAMES = ("object", "things", "stuff", "texture")
DEFAULT_TITLE = "other"
GRAY = 150  # of the extra class, where no class has that colour


def check_other(other: Any, classes: ClassList, where: str = "run") -> str | None:
    """Title of the class that neutral names stand for; None where there is to be none.

    Args:
        other: False or None, True for the title "other", or a title.
        classes: the named ones.
        where: name of the call, which starts every message.

    Raises:
        TypeError: `other` is neither a bool nor a string.
        ValueError: a title that is blank or no name, or that is the name of a class.
    """
    if other is None or other is False:
        return None
    title = DEFAULT_TITLE if other is True else other
    if not isinstance(title, str):
        raise TypeError(f"{where}: other must be True, False or a name, got {other!r}")
    title = " ".join(title.split())
    if not title:
        raise ValueError(f"{where}: other is blank; give the extra class a name, such as 'other'")
    title = parse_classes([title], f"{where}: other")[0]
    taken = classes.find(title)
    if taken is not None:
        raise ValueError(
            f"{where}: other={title!r} is a name of class {taken} already; give the extra class "
            "another name"
        )
    return title


def check_min_score(min_score: Any, where: str = "run") -> float:
    """The score a label must reach, in [0, 1].

    Raises:
        ValueError: anything else.
    """
    try:
        value = float(min_score)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError(f"{where}: min_score must lie in 0..1, got {min_score!r}")
    return value


def append_class(classes: ClassList, title: str) -> ClassList:
    """The classes and one more, in a grey that none of them has."""
    used = {tuple(color) for color in classes.colors.tolist()}
    gray = next(level for level in range(GRAY, -1, -1) if (level,) * 3 not in used)
    colors = np.vstack([classes.colors, np.full((1, 3), gray, np.uint8)])
    return ClassList((*classes.names, (title,)), colors)


def list_neutral(classes: ClassList) -> tuple[str, ...]:
    """The neutral names that are no names of classes themselves; at least one."""
    free = tuple(name for name in NEUTRAL_NAMES if classes.find(name) is None)
    return free or (DEFAULT_TITLE,)


def gate_neutral(is_base: np.ndarray) -> np.ndarray:
    """Whether each copy of the extra class is base: one copy on every side that has a class.

    Points that count as base may take base classes only, the others novel ones only, unless one
    side is empty. The extra class must be open to both kinds of points and may not bring a gate
    where there was none.

    Args:
        is_base: [C] bool of the named classes.

    Returns:
        [1 or 2] bool.
    """
    return np.unique(is_base)
