"""Class lists: from what a caller writes to names, synonyms and colours."""

import colorsys
import difflib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from xmask3d_rt.config import ASSETS, PRESETS, ClassSplit, get_preset

CLASS_LISTS = ("scannet20", "scannet200", "nyu40")
REPR_CLASSES = 8
GENERATED_HUES = 48
GENERATED_TONES = ((0.75, 0.95), (0.95, 0.7), (0.45, 0.9), (0.6, 0.55))  # saturation, value


@dataclass(frozen=True, eq=False)
class ClassList:
    """Classes to tell apart: per class its names (the first is the title) and a colour.

    `names` holds a tuple of synonyms per class; `colors` [C, 3] uint8. Indexing and iterating
    give titles: `result.classes[result.labels[0]]` is the class of point 0.
    """

    names: tuple[tuple[str, ...], ...]
    colors: np.ndarray  # [C, 3] uint8

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> str:
        return self.names[index][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.titles)

    def __repr__(self) -> str:
        first = ", ".join(map(repr, self.titles[:REPR_CLASSES]))
        more = len(self) - REPR_CLASSES
        return f"ClassList({len(self)} classes: {first}{f', {more} more' if more > 0 else ''})"

    def find(self, name: str) -> int | None:
        """Index of the class that has a name, case and white space aside; None for no class."""
        key = _normalise(name)
        found = (i for i, names in enumerate(self.names) if key in map(_normalise, names))
        return next(found, None)

    @property
    def titles(self) -> list[str]:
        """The first name of every class."""
        return [names[0] for names in self.names]

    @property
    def flat_names(self) -> list[str]:
        """All names [T], class by class, as the text encoder takes them."""
        return [name for names in self.names for name in names]

    @property
    def name_class(self) -> np.ndarray:
        """Class of every name in `flat_names`, [T] int64."""
        counts = [len(names) for names in self.names]
        return np.repeat(np.arange(len(self.names)), counts)


ClassesLike = str | os.PathLike[str] | ClassList | Sequence[str | Sequence[str]]


def parse_classes(classes: ClassesLike, where: str = "run") -> ClassList:
    """Classes from names, a list of the package, a file or a command-line string.

    Args:
        classes: a sequence with a name or a sequence of synonyms per class; or one string:
            a class list (`scannet20`, `scannet200`, `nyu40`), a preset (`b15n4` ...: the
            classes of its benchmark), the path of a file with a class per line (`;` between
            synonyms, `#` starts a comment), or "wall,chair;armchair,table".
        where: name of the call, which starts every message.

    Returns:
        The classes in the given order; colours are ScanNet's where a name is known there,
        else generated, distinct and the same on every call.

    Raises:
        ValueError: no classes, a blank name, a name given twice, an unknown class list.
        TypeError: a name that is not a string.
        FileNotFoundError: no such file.
    """
    if isinstance(classes, ClassList):
        return classes
    entries: Sequence[str | Sequence[str]]
    if isinstance(classes, (str, os.PathLike)):
        entries = _read_entries(os.fspath(classes), where)
    elif isinstance(classes, Iterable):
        entries = list(classes)
    else:
        raise TypeError(f"{where}: classes must be names, got {type(classes).__name__}")
    if not entries:
        raise ValueError(f"{where}: no classes; pass at least one name, or a list like scannet20")
    names = tuple(_clean_names(entry, i, where) for i, entry in enumerate(entries))
    _check_duplicates(names, where)
    return ClassList(names, _choose_colors(names))


def split_base_novel(classes: ClassList, split: ClassSplit) -> np.ndarray:
    """Which classes were trained with labels: any of its names is among the training classes.

    Args:
        classes: the caller's classes.
        split: the classes of the checkpoint.

    Returns:
        is_base [C] bool. Case and white space of names do not count.
    """
    trained = {_normalise(name) for name in split.base_names}
    return np.array(
        [any(_normalise(name) in trained for name in names) for names in classes.names], dtype=bool
    )


@cache
def load_class_list(name: str) -> tuple[tuple[str, tuple[int, int, int] | None], ...]:
    """(name, colour or None) of each class of a list that ships with the package.

    Raises:
        ValueError: `name` is not one of `CLASS_LISTS`.
    """
    if name not in CLASS_LISTS:
        raise ValueError(f"unknown class list {name!r}; known lists: {', '.join(CLASS_LISTS)}")
    rows = json.loads((ASSETS / "classes" / f"{name}.json").read_text())["classes"]
    return tuple((row["name"], tuple(row["color"]) if "color" in row else None) for row in rows)


def _read_entries(text: str, where: str) -> Sequence[str | Sequence[str]]:
    """Entries of a string: list name, preset, file, or comma-separated names."""
    key = text.strip().lower()
    if not key:
        raise ValueError(f"{where}: no classes; pass at least one name, or a list like scannet20")
    if key in CLASS_LISTS:
        return [name for name, _ in load_class_list(key)]
    if key in PRESETS:
        return list(get_preset(key).split.names)
    path = Path(text)
    if _is_file(path):
        return _read_file(path)
    if "," in text or ";" in text:
        return [entry.split(";") for entry in text.split(",")]
    if path.suffix in (".txt", ".csv", ".list") or os.sep in text:
        raise FileNotFoundError(f"{where}: no class file {text}")
    known = (*CLASS_LISTS, *PRESETS)
    if any(char.isdigit() for char in key) or difflib.get_close_matches(key, known, cutoff=0.75):
        raise ValueError(
            f"{where}: unknown class list {text!r}; known lists: {', '.join(CLASS_LISTS)}, "
            f"presets: {', '.join(PRESETS)}, or give names with ',' between classes"
        )
    return [text]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a long list of names is no file name
        return False


def _read_file(path: Path) -> list[list[str]]:
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    entries = [line.split(";") for line in lines if line]
    if not entries:
        raise ValueError(f"{path} holds no classes; write one class per line")
    return entries


def _clean_names(entry: object, index: int, where: str) -> tuple[str, ...]:
    """The names of one class, white space collapsed."""
    names = [entry] if isinstance(entry, str) else entry
    if not isinstance(names, Iterable):
        raise TypeError(f"{where}: class {index} must be a name or names, got {entry!r}")
    cleaned = []
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{where}: class {index} has a name that is not a string: {name!r}")
        cleaned.append(" ".join(name.split()))
    if not cleaned or not all(cleaned):
        raise ValueError(f"{where}: class {index} has a blank name; remove it")
    return tuple(cleaned)


def _normalise(name: str) -> str:
    return " ".join(name.split()).casefold()


def _check_duplicates(names: tuple[tuple[str, ...], ...], where: str) -> None:
    seen: dict[str, int] = {}
    for index, synonyms in enumerate(names):
        for name in synonyms:
            first = seen.setdefault(_normalise(name), index)
            if first != index:
                raise ValueError(
                    f"{where}: duplicate class name {name!r} in classes {first} and {index}; "
                    "each name may stand for one class only"
                )
    if len(seen) < sum(map(len, names)):
        index = next(i for i, s in enumerate(names) if len({_normalise(n) for n in s}) < len(s))
        raise ValueError(f"{where}: class {index} lists a name twice: {', '.join(names[index])}")


@cache
def _known_colors() -> dict[str, tuple[int, int, int]]:
    """ScanNet's colour of every name that has one; ScanNet20 goes first."""
    colors: dict[str, tuple[int, int, int]] = {}
    for list_name in CLASS_LISTS:
        for name, color in load_class_list(list_name):
            if color is not None:
                colors.setdefault(_normalise(name), color)
    return colors


def _choose_colors(names: tuple[tuple[str, ...], ...]) -> np.ndarray:
    """[C, 3] uint8, all distinct: known colours first, the others as far from them as possible."""
    known = _known_colors()
    colors = np.zeros((len(names), 3), np.uint8)
    open_classes = []
    used: set[tuple[int, int, int]] = set()
    for index, synonyms in enumerate(names):
        color = next((known[key] for key in map(_normalise, synonyms) if key in known), None)
        if color is None or color in used:
            open_classes.append(index)
            continue
        used.add(color)
        colors[index] = color
    if open_classes:
        colors[open_classes] = _spread_colors(len(open_classes), np.array(sorted(used)))
    return colors


def _spread_colors(count: int, used: np.ndarray) -> np.ndarray:
    """`count` colours, each the candidate farthest from all chosen before and from `used`.

    Candidates are hues at a few tones, more hues where many classes need them; after
    Gonzalez, farthest-point traversal.
    """
    hues = max(GENERATED_HUES, 2 * count // len(GENERATED_TONES) + len(used))
    candidates = np.unique(
        np.rint(
            [
                [255 * part for part in colorsys.hsv_to_rgb(i / hues, saturation, value)]
                for saturation, value in GENERATED_TONES
                for i in range(hues)
            ]
        ).astype(np.int64),
        axis=0,
    )
    distance = np.full(len(candidates), 3 * 255**2 + 1)
    for color in used.reshape(-1, 3):
        distance = np.minimum(distance, ((candidates - color) ** 2).sum(axis=1))
    chosen = np.empty((count, 3), np.uint8)
    for i in range(count):
        best = int(distance.argmax())
        chosen[i] = candidates[best]
        distance = np.minimum(distance, ((candidates - candidates[best]) ** 2).sum(axis=1))
    return chosen
