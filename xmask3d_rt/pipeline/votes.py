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

HEADS = ("fused", "2d", "3d")  # scores are those of the first


class HeadVotes:
    """One vote of each head per view and point; only the fused head's scores are kept.

    Args:
        points: number of points N of the scene.
        classes: number of classes C.
        device: where votes are counted; they take 16 bytes per point and class, and beyond 1 GiB
            40 bytes at most for each view and point.
    """

    def __init__(self, points: int, classes: int, device: torch.device) -> None:
        self._votes = make_votes(points, classes, device, num_heads=len(HEADS))

    @property
    def coverage(self) -> Tensor:
        """Views that labelled each point, [N] int32."""
        return self._votes.coverage

    def add(self, indices: Tensor, labels: PointLabels) -> None:
        """Count the labels of one view, given to the points `indices` [n]."""
        by_head = torch.stack([labels.fused, labels.two_d, labels.three_d])
        vote(self._votes, indices, by_head, labels.score)

    def finish(self, points: Tensor) -> VotedLabels:
        """Winning labels, a row for each of `HEADS`; unseen points take the nearest seen one's.

        Args:
            points: of the scene [N, 3]; at least one must have a vote, which is not checked.
        """
        return finish_votes(self._votes, nearest_known(points, self.coverage > 0))
