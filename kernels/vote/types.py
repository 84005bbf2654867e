"""Votes of a scene, dense or as pairs, and the labels that win."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

DENSE_LIMIT = 1 << 30  # bytes of dense votes; above it the pairs that occur are kept instead


class SceneVotes(NamedTuple):
    """Votes of the views seen so far, one count for each head, point and class.

    Changed in place by `vote`. Scores are those of head 0; their sums are exact in what float32
    can hold, and a sum of ones stops growing at 2^24 views.
    """

    counts: Tensor  # [H, N, C] int32, views that gave the point this class
    score_sums: Tensor  # [N, C] float32, sum of the scores of the votes of head 0
    coverage: Tensor  # [N] int32, views that saw the point

    @property
    def shape(self) -> tuple[int, int, int]:
        """(heads H, points N, classes C)."""
        heads, points, classes = self.counts.shape
        return heads, points, classes


@dataclass(eq=False)
class VotePairs:
    """Votes of one head by the (point, class) pairs that have any, ascending."""

    keys: Tensor  # [P] int64, point * C + class
    counts: Tensor  # [P] int32
    score_sums: Tensor  # [P] float32, or [0] where no scores are kept


@dataclass(frozen=True, eq=False)
class PairVotes:
    """The same votes for many classes, of which a point sees few; changed in place by `vote`.

    12 bytes for each pair that occurs, 16 where scores are kept: at most one pair for each view,
    head and point.
    """

    heads: tuple[VotePairs, ...]
    coverage: Tensor  # [N] int32, views that saw the point
    num_classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(heads H, points N, classes C)."""
        return len(self.heads), self.coverage.shape[0], self.num_classes


class VotedLabels(NamedTuple):
    """Labels of a scene."""

    label: Tensor  # [H, N] int64
    score: Tensor  # [N] float32 in [0, 1], of the labels of head 0


def make_votes(
    num_points: int,
    num_classes: int,
    device: torch.device | str = "cpu",
    num_heads: int = 1,
    dense_limit: int = DENSE_LIMIT,
) -> SceneVotes | PairVotes:
    """No votes yet for `num_points` points and `num_classes` classes.

    Args:
        num_points: N, >= 0.
        num_classes: C, >= 1.
        device: where they are counted.
        num_heads: H, >= 1, how many labels a view gives a point.
        dense_limit: most bytes for dense votes, 4 H + 4 for each point and class.

    Returns:
        `SceneVotes` within the limit, else `PairVotes`: the same labels and scores.

    Raises:
        ValueError: a negative number of points, no classes or no heads.
    """
    if num_points < 0 or num_classes < 1 or num_heads < 1:
        raise ValueError(
            f"make_votes: need num_points >= 0, num_classes >= 1 and num_heads >= 1, "
            f"got {num_points}, {num_classes} and {num_heads}"
        )
    coverage = torch.zeros(num_points, dtype=torch.int32, device=device)
    if 4 * (num_heads + 1) * num_points * num_classes <= dense_limit:
        return SceneVotes(
            coverage.new_zeros(num_heads, num_points, num_classes),
            coverage.new_zeros(num_points, num_classes, dtype=torch.float32),
            coverage,
        )
    none = coverage.new_zeros(0)
    heads = (VotePairs(none.long(), none, none.float()) for _ in range(num_heads))
    return PairVotes(tuple(heads), coverage, num_classes)
