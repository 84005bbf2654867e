"""Class lists: from what a caller writes to names, synonyms and colours."""

import difflib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from xmask3d_rt.config import ASSETS, PRESETS, ClassSplit, get_preset
from xmask3d_rt.errors import one_line
from xmask3d_rt.text.class_files import parse_class_text, read_class_file, split_row
from xmask3d_rt.viewing.class_colors import choose_colors

CLASS_LISTS = ("scannet20", "scannet200", "nyu40")
REPR_CLASSES = 8
FILE_SUFFIXES = (
    *(".txt", ".csv", ".tsv", ".list", ".names", ".labels", ".json", ".jsonl", ".yaml", ".yml"),
    *(".xml", ".toml", ".ini", ".md", ".doc", ".docx", ".pdf", ".xls", ".xlsx", ".npy", ".npz"),
    *(".pkl", ".py", ".ply", ".pcd", ".xyz"),
)
SEPARATORS = ("/", "\\")
MAX_NAME = 1_000  # characters; the text encoder reads 77 tokens
JOINERS = "\u200c\u200d"  # invisible, but part of Persian and Hindi words


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
        key = normalize_name(name)
        found = (i for i, names in enumerate(self.names) if key in map(normalize_name, names))
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
            synonyms, `#` starts a comment; also tables and JSON, see `class_files`), a text of
            several such lines, or "wall,chair;armchair,table".
        where: name of the call, which starts every message.

    Returns:
        The classes in the given order; colours are ScanNet's where a name is known there,
        else generated, distinct and the same on every call.

    Raises:
        ValueError: no classes, a blank name, one with control characters or given twice, an
            unknown class list, a file of another encoding or form.
        TypeError: a name that is not a string; a set or a dictionary.
        FileNotFoundError: no such file.
    """
    if isinstance(classes, ClassList):
        return classes
    entries: Sequence[str | Sequence[str]]
    if isinstance(classes, os.PathLike) or (isinstance(classes, str) and _is_file(Path(classes))):
        path = Path(classes)
        where = f"{where}: {one_line(path)}"
        entries = _read_file(path, where)
    elif isinstance(classes, str):
        entries = _read_entries(classes, where)
    elif isinstance(classes, (Mapping, Set)):
        raise TypeError(
            f"{where}: classes must be names in an order, got {type(classes).__name__}; pass a "
            "list, with a list of names for a class with synonyms"
        )
    elif isinstance(classes, Iterable):
        entries = list(classes)
    else:
        raise TypeError(f"{where}: classes must be names, got {type(classes).__name__}")
    if not entries:
        raise ValueError(f"{where}: no classes; pass at least one name, or a list like scannet20")
    names = tuple(_clean_names(entry, i, where) for i, entry in enumerate(entries))
    _check_duplicates(names, where)
    return ClassList(names, choose_colors([_find_color(synonyms) for synonyms in names]))


def split_base_novel(classes: ClassList, split: ClassSplit) -> np.ndarray:
    """Which classes were trained with labels: any of its names is among the training classes.

    Args:
        classes: the caller's classes.
        split: the classes of the checkpoint.

    Returns:
        is_base [C] bool. Case and white space of names do not count.
    """
    trained = {normalize_name(name) for name in split.base_names}
    return np.array(
        [any(normalize_name(name) in trained for name in names) for names in classes.names],
        dtype=bool,
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


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a long list of names, or one with NUL, is no file name
        return False


def _read_file(path: Path, where: str) -> list[list[str]]:
    if not path.exists():
        raise FileNotFoundError(f"{where}: no such class file")
    if not path.is_file():
        raise ValueError(f"{where} is no file; give a file with one class per line")
    return read_class_file(path, where)


def _read_entries(text: str, where: str) -> Sequence[str | Sequence[str]]:
    """Entries of a string that is no file: list name, preset, lines, or comma-separated names."""
    key = text.strip().lower()
    if not key:
        raise ValueError(f"{where}: no classes; pass at least one name, or a list like scannet20")
    if key in CLASS_LISTS:
        return [name for name, _ in load_class_list(key)]
    if key in PRESETS:
        return list(get_preset(key).split.names)
    lines = text.strip().splitlines()
    if len(lines) == 1 and not key.startswith(("[", "{")):
        return _split_line(text, where)
    if len(lines) > 1 and all(line.rstrip().endswith(",") for line in lines[:-1]):
        return [entry.split(";") for entry in text.strip().removesuffix(",").split(",")]
    return parse_class_text(text, where)


def _split_line(text: str, where: str) -> list[list[str]]:
    """Names with `,` between classes; a word that must be a file or a list is neither."""
    entries = split_row(text, where)
    key = text.strip().lower()
    alone = len(entries) == 1 == len(entries[0])
    for name in (name for entry in entries for name in entry):
        if name.lower().endswith(FILE_SUFFIXES) or (alone and any(c in name for c in SEPARATORS)):
            raise FileNotFoundError(f"{where}: no class file {one_line(name)}")
    known = (*CLASS_LISTS, *PRESETS)
    if alone and _is_near_list(key, known):
        raise ValueError(
            f"{where}: unknown class list {one_line(text)!r}; known lists: "
            f"{', '.join(CLASS_LISTS)}, presets: {', '.join(PRESETS)}, or give names with ',' "
            "between classes"
        )
    return entries


def _is_near_list(key: str, known: Sequence[str]) -> bool:
    """Whether a name is a misspelt list: close to one, or one with another number."""
    numbered = [name for name in known if any(char.isdigit() for char in name)]
    stems = {re.sub(r"\d+", "0", name) for name in numbered}
    return re.sub(r"\d+", "0", key) in stems or bool(
        difflib.get_close_matches(key, numbered, cutoff=0.75)
    )


def _clean_names(entry: object, index: int, where: str) -> tuple[str, ...]:
    """The names of one class, white space collapsed."""
    names = [entry] if isinstance(entry, str) else entry
    if not isinstance(names, Iterable):
        raise TypeError(f"{where}: class {index} must be a name or names, got {_show(entry)}")
    cleaned = []
    for name in names:
        if not isinstance(name, str):
            shown = _show(name)
            raise TypeError(f"{where}: class {index} has a name that is not a string: {shown}")
        cleaned.append(" ".join(name.split()))
        _check_characters(cleaned[-1], f"{where}: class {index}")
    if not cleaned or not all(cleaned):
        raise ValueError(f"{where}: class {index} has a blank name; remove it")
    return tuple(cleaned)


def _check_characters(name: str, where: str) -> None:
    """Refuse what no text holds, before an encoder, a terminal or a JSON file meets it."""
    if len(name) > MAX_NAME:
        raise ValueError(
            f"{where} has a name of {len(name):,} characters ({_show(name)}); {MAX_NAME:,} at most"
        )
    if name.isprintable():
        return
    for char in name:
        if unicodedata.category(char) in ("Cc", "Cf", "Cs") and char not in JOINERS:
            raise ValueError(
                f"{where} has a name with the control character U+{ord(char):04X}: {_show(name)}; "
                "remove it"
            )


def _show(value: object) -> str:
    """A value for a message, not longer than a line."""
    return one_line(repr(value), limit=80)


def normalize_name(name: str) -> str:
    """A class name as names are compared: without case and surplus white space."""
    return " ".join(name.split()).casefold()


def _check_duplicates(names: tuple[tuple[str, ...], ...], where: str) -> None:
    seen: dict[str, int] = {}
    for index, synonyms in enumerate(names):
        for name in synonyms:
            first = seen.setdefault(normalize_name(name), index)
            if first != index:
                raise ValueError(
                    f"{where}: duplicate class name {_show(name)} in classes {first} and {index}; "
                    "each name may stand for one class only"
                )
    if len(seen) < sum(map(len, names)):
        index = next(i for i, s in enumerate(names) if len({normalize_name(n) for n in s}) < len(s))
        listed = one_line(", ".join(names[index]), limit=200)
        raise ValueError(f"{where}: class {index} lists a name twice: {listed}")


@cache
def _known_colors() -> dict[str, tuple[int, int, int]]:
    """ScanNet's colour of every name that has one; ScanNet20 goes first."""
    colors: dict[str, tuple[int, int, int]] = {}
    for list_name in CLASS_LISTS:
        for name, color in load_class_list(list_name):
            if color is not None:
                colors.setdefault(normalize_name(name), color)
    return colors


def _find_color(names: tuple[str, ...]) -> tuple[int, int, int] | None:
    """ScanNet's colour of the first name that has one."""
    known = _known_colors()
    return next((known[key] for key in map(normalize_name, names) if key in known), None)
