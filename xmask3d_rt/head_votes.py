"""Votes of the three heads over the views of a scene."""

import torch
from torch import Tensor

from xmask3d_rt.kernels import (
    PointLabels,
    VotedLabels,
    finish_votes,
    make_votes,
    nearest_known,
    vote,
)

HEADS = ("fused", "2d", "3d")


class HeadVotes:
    """One vote of each head per view and point; only the fused head's scores are kept.

    Args:
        points: number of points N of the scene.
        classes: number of classes C.
        device: where votes are counted; they take 10 bytes per point and class.
    """

    def __init__(self, points: int, classes: int, device: torch.device) -> None:
        self._votes = {
            head: make_votes(points, classes, device, keep_scores=head == "fused") for head in HEADS
        }

    @property
    def coverage(self) -> Tensor:
        """Views that labelled each point, [N] int32."""
        return self._votes["fused"].coverage

    def add(self, indices: Tensor, labels: PointLabels) -> None:
        """Count the labels of one view, given to the points `indices` [n]."""
        by_head = {"fused": labels.fused, "2d": labels.two_d, "3d": labels.three_d}
        for head, votes in self._votes.items():
            vote(votes, indices, by_head[head], labels.score)

    def finish(self, points: Tensor) -> dict[str, VotedLabels]:
        """Winning labels by head; unseen points take those of the nearest seen one.

        Args:
            points: of the scene [N, 3]; at least one must have a vote, which is not checked.
        """
        nearest = nearest_known(points, self.coverage > 0)
        return {head: finish_votes(votes, nearest) for head, votes in self._votes.items()}
