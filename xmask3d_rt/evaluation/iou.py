"""Intersection over union as ScanNet's benchmark script defines it.

Over all points whose target is one of the K classes, summed over scenes before dividing:

    IoU_c = I_c / (P_c + T_c - I_c + 1e-10)        accuracy_c = I_c / (T_c + 1e-10)
    mIoU of a group = plain mean over its classes (a class that never occurs counts as 0)
    hIoU = 2·b·n / (b + n) of the base and the novel mIoU

Source: ScanNet evaluate_semantic_label.py; XMask3D (wangzy22/XMask3D @ c393300), whose paper
publishes hIoU / mIoU_b / mIoU_n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

EPSILON = 1e-10


class Confusion:
    """Points by target (row) and prediction (column); the last column is "none of the classes".

    Attributes:
        counts: [K, K + 1] int64.
    """

    def __init__(self, classes: int, counts: np.ndarray | None = None) -> None:
        """Start empty, or from counts that were saved.

        Raises:
            ValueError: no classes, or counts of another shape.
        """
        if classes < 1:
            raise ValueError(f"Confusion: classes must be >= 1, got {classes}")
        shape = (classes, classes + 1)
        if counts is not None and counts.shape != shape:
            raise ValueError(
                f"Confusion: counts must have shape {list(shape)}, got {list(counts.shape)}"
            )
        self.counts = np.zeros(shape, np.int64) if counts is None else counts.astype(np.int64)

    def add(self, predictions: np.ndarray, targets: np.ndarray) -> None:
        """Count points.

        Args:
            predictions: [N] integer; anything outside 0..K-1 is none of the classes.
            targets: [N] integer; points whose target is outside 0..K-1 are left out.

        Raises:
            ValueError: another shape.
        """
        if predictions.shape != targets.shape:
            raise ValueError(
                f"Confusion: predictions and targets must have one shape, got "
                f"{list(predictions.shape)} and {list(targets.shape)}"
            )
        classes = len(self.counts)
        used = (targets >= 0) & (targets < classes)
        target, found = targets[used].astype(np.int64), predictions[used].astype(np.int64)
        found = np.where((found >= 0) & (found < classes), found, classes)
        flat = np.bincount(target * (classes + 1) + found, minlength=self.counts.size)
        self.counts += flat.reshape(self.counts.shape)

    def merge(self, other: "Confusion") -> None:
        """Add the counts of another one over the same classes.

        Raises:
            ValueError: another number of classes.
        """
        if other.counts.shape != self.counts.shape:
            raise ValueError(
                f"Confusion: cannot add {len(other.counts)} classes to {len(self.counts)}"
            )
        self.counts += other.counts

    @property
    def intersection(self) -> np.ndarray:
        """Points of each class that are predicted as it, [K] int64."""
        return self.counts.diagonal()

    @property
    def target(self) -> np.ndarray:
        """Points of each class, [K] int64."""
        return self.counts.sum(axis=1)

    @property
    def iou(self) -> np.ndarray:
        """IoU of each class in 0..1, [K] float64."""
        predicted = self.counts[:, :-1].sum(axis=0)
        return self.intersection / (predicted + self.target - self.intersection + EPSILON)

    @property
    def accuracy(self) -> np.ndarray:
        """Share of each class's points that are predicted as it, [K] float64."""
        return self.intersection / (self.target + EPSILON)


@dataclass(frozen=True)
class Score:
    """What the points of one head come to, in percent; None where a group has no class.

    `miou_*` and `macc_*` are plain means over a group's classes, `allacc*` the share of its
    points that are right, `per_class` IoU by name, in the order of the classes.
    """

    hiou: float | None
    miou: float
    miou_base: float | None
    miou_novel: float | None
    macc: float
    macc_base: float | None
    macc_novel: float | None
    allacc: float
    allacc_base: float | None
    allacc_novel: float | None
    per_class: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dict(vars(self))


def score(confusion: Confusion, names: Sequence[str], is_base: np.ndarray) -> Score:
    """IoU, accuracy and their means over all, base and novel classes.

    Args:
        confusion: over K classes.
        names: of the classes.
        is_base: [K] bool.

    Raises:
        ValueError: names or is_base of another length.
    """
    if not len(names) == len(is_base) == len(confusion.counts):
        raise ValueError(
            f"score: {len(confusion.counts)} classes, but {len(names)} names and "
            f"{len(is_base)} entries of is_base"
        )
    groups = {"": np.ones(len(names), bool), "_base": is_base, "_novel": ~is_base}
    values: dict[str, Any] = {}
    for suffix, group in groups.items():
        values["miou" + suffix] = _mean(confusion.iou, group)
        values["macc" + suffix] = _mean(confusion.accuracy, group)
        right, total = confusion.intersection[group].sum(), confusion.target[group].sum()
        values["allacc" + suffix] = 100 * float(right / (total + EPSILON)) if group.any() else None
    per_class = dict(zip(names, (100 * confusion.iou).tolist(), strict=True))
    hiou = harmonic_mean(values["miou_base"], values["miou_novel"])
    return Score(hiou=hiou, per_class=per_class, **values)


def harmonic_mean(base: float | None, novel: float | None) -> float | None:
    """2·b·n / (b + n); 0 where both are, None where one is missing."""
    if base is None or novel is None:
        return None
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def _mean(values: np.ndarray, group: np.ndarray) -> float | None:
    return 100 * float(values[group].mean()) if group.any() else None
