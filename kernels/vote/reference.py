"""Voting in plain torch; also the CPU runtime path."""

from typing import Any

import torch
from torch import Tensor

from xmask3d_rt.kernels.vote.types import SceneVotes, VotedLabels


def make_outputs(votes: SceneVotes, **_: Any) -> VotedLabels:
    """Results of the right shapes, not yet filled."""
    heads, points, _classes = votes.shape
    label = votes.counts.new_empty((heads, points), dtype=torch.int64)
    return VotedLabels(label, votes.score_sums.new_empty((points,)))


def vote_reference(
    votes: SceneVotes,
    indices: Tensor,  # [n], -1 is skipped
    labels: Tensor,  # [H, n]
    scores: Tensor,  # [n]
) -> None:
    """Add one view in place; a point occurs at most once in `indices`."""
    valid = indices >= 0
    if not valid.all():
        indices, labels, scores = indices[valid], labels[:, valid], scores[valid]
    indices = indices.long()
    heads, points, classes = votes.counts.shape
    rows = indices + points * torch.arange(heads, device=indices.device)[:, None]  # [H, n]
    flat = rows * classes + labels  # [H, n]
    votes.counts.view(-1)[flat] += 1
    votes.score_sums.view(-1)[flat[0]] += scores.float()
    votes.coverage[indices] += 1


def finish_votes_reference(
    votes: SceneVotes,
    nearest: Tensor,  # [N]
) -> VotedLabels:
    """Winning classes, and the share of the score of head 0, taken at the nearest seen point."""
    label = votes.counts.argmax(2)  # [H, N], the lowest class among ties
    won = votes.score_sums.gather(1, label[0][:, None])[:, 0]
    score = won / votes.coverage.clamp(min=1)
    source = nearest.long()
    return VotedLabels(label[:, source], score[source])
