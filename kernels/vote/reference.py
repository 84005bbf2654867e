"""Voting in plain torch; also the CPU runtime path."""

import torch


def vote_reference(
    counts: torch.Tensor,  # [N, C] int16
    score_sums: torch.Tensor,  # [N, C] float32, or [0, C]
    coverage: torch.Tensor,  # [N] int32
    indices: torch.Tensor,  # [n]
    labels: torch.Tensor,  # [n]
    scores: torch.Tensor,  # [n]
) -> None:
    """Add one view in place; a point occurs at most once in `indices`."""
    flat = indices * counts.shape[1] + labels  # [n]
    counts.view(-1)[flat] += 1
    if score_sums.shape[0]:
        score_sums.view(-1)[flat] += scores
    coverage[indices] += 1


def finish_votes_reference(
    counts: torch.Tensor,  # [N, C] int16
    score_sums: torch.Tensor,  # [N, C] float32, or [0, C]
    coverage: torch.Tensor,  # [N] int32
    nearest: torch.Tensor,  # [N] int64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Winning class and its share of the score, taken at the nearest seen point.

    Returns:
        label [N] int64, score [N] float32.
    """
    label = counts.argmax(1)  # [N], the lowest class among ties
    source = nearest.long()
    if not score_sums.shape[0]:
        return label[source], torch.zeros(len(source), dtype=score_sums.dtype, device=label.device)
    won = score_sums.gather(1, label[:, None])[:, 0]
    score = won / coverage.clamp(min=1)
    return label[source], score[source]
