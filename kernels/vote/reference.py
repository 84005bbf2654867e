"""Voting in plain torch; also the CPU runtime path."""

import torch
from torch import Tensor


def vote_reference(
    counts: Tensor,  # [H, N, C] int32
    score_sums: Tensor,  # [N, C] float32
    coverage: Tensor,  # [N] int32
    indices: Tensor,  # [n], -1 is skipped
    labels: Tensor,  # [H, n]
    scores: Tensor,  # [n]
) -> None:
    """Add one view in place; a point occurs at most once in `indices`."""
    valid = indices >= 0
    if not valid.all():
        indices, labels, scores = indices[valid], labels[:, valid], scores[valid]
    indices = indices.long()
    heads, points, classes = counts.shape
    rows = indices + points * torch.arange(heads, device=indices.device)[:, None]  # [H, n]
    flat = rows * classes + labels  # [H, n]
    counts.view(-1)[flat] += 1
    score_sums.view(-1)[flat[0]] += scores.float()
    coverage[indices] += 1


def finish_votes_reference(
    counts: Tensor,  # [H, N, C] int32
    score_sums: Tensor,  # [N, C] float32
    coverage: Tensor,  # [N] int32
    nearest: Tensor,  # [N]
) -> tuple[Tensor, Tensor]:
    """Winning classes, and the share of the score of head 0, taken at the nearest seen point.

    Returns:
        label [H, N] int64, score [N] float32.
    """
    label = counts.argmax(2)  # [H, N], the lowest class among ties
    won = score_sums.gather(1, label[0][:, None])[:, 0]
    score = won / coverage.clamp(min=1)
    source = nearest.long()
    return label[:, source], score[source]
