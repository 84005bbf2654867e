"""From the ids that label files hold to the labels that training and evaluation use.

A label file has ids of its own: ScanNet's 20 benchmark classes as 0..19 in clouds and as NYU40 ids
in images, ScanNet200's ids in both, or a user's own. A `LabelSource` says which name each id
stands for, a `LabelSpace` which class of a list each name is:

    0..K-1   the classes to tell apart, in the list's order
    K        a class that is not in the list ("other")
    last     no label; K too where every id of the source is in the list

Training knows the C base classes only: they are closed up to 0..C-1 in ascending order, and C
is everything else.

Source: data loader of XMask3D (wangzy22/XMask3D @ c393300).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xmask3d_rt.classes import ClassList, normalize_name, parse_classes, split_base_novel
from xmask3d_rt.config import ASSETS, ClassSplit, get_preset

NO_CLASS = -1  # of a pixel that evaluation does not use
LABEL_SETS = ("scannet20", "scannet200")


@dataclass(frozen=True)
class LabelSource:
    """Names behind the ids of label files: `points` for clouds, `images` for label images."""

    name: str
    points: Mapping[int, str]
    images: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class LabelSpace:
    """Classes to tell apart, which of them are trained with labels, and the ids that mean them.

    Attributes:
        classes: the K classes.
        is_base: [K] bool.
        point_classes: id in a cloud → 0..K; an id that is absent is no label.
        image_classes: id in a label image → 0..K; likewise.
    """

    classes: ClassList
    is_base: np.ndarray
    point_classes: Mapping[int, int]
    image_classes: Mapping[int, int]

    def __post_init__(self) -> None:
        """Check that something can be learnt or judged.

        Raises:
            ValueError: `is_base` of another length, or no id means any of the classes.
        """
        if self.is_base.shape != (len(self.classes),):
            raise ValueError(
                f"LabelSpace: is_base must have shape [{len(self.classes)}] like the classes, "
                f"got {list(self.is_base.shape)}"
            )
        if not any(found < len(self.classes) for found in self.point_classes.values()):
            raise ValueError(
                f"no label of the data means any of the classes {', '.join(self.classes.titles)}; "
                "name the classes as the data's own list does"
            )

    @property
    def point_ids(self) -> list[tuple[int, int]]:
        """What the ids of clouds mean, in order: a key of whatever depends on it."""
        return sorted(self.point_classes.items())

    @property
    def other(self) -> int:
        """Label K of a class outside the list."""
        return len(self.classes)

    @cached_property
    def unlabelled(self) -> int:
        """Label of a point without one: K + 1 where the source knows classes outside the list."""
        return self.other + (self.other in self.point_classes.values())

    @property
    def num_base(self) -> int:
        """Number of base classes C, which is also the training label of everything else."""
        return int(self.is_base.sum())

    def read_points(self, ids: np.ndarray) -> np.ndarray:
        """Evaluation labels [N] int64 of a cloud's ids: 0..K-1, `other` or `unlabelled`."""
        return _look_up(ids, self.point_classes, self.unlabelled)

    def read_image(self, ids: np.ndarray) -> np.ndarray:
        """Classes [H, W] int64 of a label image's ids: 0..K, or `NO_CLASS`."""
        return _look_up(ids, self.image_classes, NO_CLASS)

    def point_targets(self, labels: np.ndarray) -> np.ndarray:
        """Training labels [N] int64 of evaluation labels: 0..C-1, C = ignored."""
        return self._targets[labels]

    def image_targets(self, ids: np.ndarray) -> np.ndarray:
        """Training labels [H, W] int64 of a label image's ids: 0..C-1, C = everything else."""
        return self._targets[self.read_image(ids)]

    def binary_targets(self, labels: np.ndarray) -> np.ndarray:
        """1 for a base class, 0 for a novel one, else the evaluation label itself, [N] int64."""
        rest = np.arange(self.other, self.unlabelled + 1)
        return np.concatenate([self.is_base.astype(np.int64), rest])[labels]

    @cached_property
    def _targets(self) -> np.ndarray:
        """Training label of every evaluation label; the last entry is that of `NO_CLASS`."""
        targets = np.full(self.unlabelled + 2, self.num_base, np.int64)
        targets[np.flatnonzero(self.is_base)] = np.arange(self.num_base)
        return targets


def make_label_space(classes: ClassList, split: ClassSplit, source: LabelSource) -> LabelSpace:
    """Match classes with a source's ids by name; any synonym counts, case does not.

    Raises:
        ValueError: no id of the source means any of the classes.
    """
    of_name = {
        normalize_name(name): index for index, names in enumerate(classes.names) for name in names
    }

    def match(names: Mapping[int, str]) -> dict[int, int]:
        return {k: of_name.get(normalize_name(name), len(classes)) for k, name in names.items()}

    is_base = split_base_novel(classes, split)
    return LabelSpace(classes, is_base, match(source.points), match(source.images))


def preset_label_space(preset: str) -> LabelSpace:
    """The labels of a released benchmark on the data it was released with.

    Raises:
        ValueError: unknown preset.
    """
    split = get_preset(preset).split
    classes = parse_classes(list(split.names))
    return make_label_space(classes, split, pick_label_set(classes, LABEL_SETS))


def known_label_source(name: str) -> LabelSource:
    """The ids of `scannet20` (clouds 0..19, images NYU40) or `scannet200` (the same in both).

    Raises:
        ValueError: another name.
    """
    if name not in LABEL_SETS:
        raise ValueError(f"unknown label set {name!r}; known sets: {', '.join(LABEL_SETS)}")
    rows = json.loads((ASSETS / "classes" / f"{name}.json").read_text())["classes"]
    images = {row["id"]: row["name"] for row in rows}
    points = images if name == "scannet200" else dict(enumerate(images.values()))
    return LabelSource(name, points, images)


def own_label_source(names: Sequence[str]) -> LabelSource:
    """The ids of a `classes.txt`: line i (from 0) names id i, in clouds and images."""
    table = dict(enumerate(names))
    return LabelSource("classes.txt", table, table)


def pick_label_set(classes: ClassList, available: Sequence[str]) -> LabelSource:
    """Of the label sets that data has, the one that knows most of the classes; ties: the first.

    Raises:
        ValueError: none is available.
    """
    if not available:
        raise ValueError("the data has no labels of points; training and evaluation need them")
    sources = [known_label_source(name) for name in available]
    wanted = [{normalize_name(name) for name in names} for names in classes.names]

    def count_known(source: LabelSource) -> int:
        known = {normalize_name(name) for name in source.points.values()}
        return sum(bool(names & known) for names in wanted)

    return max(sources, key=count_known)


def _look_up(ids: np.ndarray, table: Mapping[int, int], default: int) -> np.ndarray:
    """`table[id]` of every entry, `default` where it has none."""
    keys = np.array(sorted(table), np.int64)
    values = np.array([table[int(key)] for key in keys], np.int64)
    ids = np.asarray(ids)
    place = np.searchsorted(keys, ids).clip(max=len(keys) - 1)
    return np.where(keys[place] == ids, values[place], default)
