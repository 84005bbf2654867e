"""Voting by the (point, class) pairs that occur, in plain torch: any number of classes.

A view looks its pairs up in those known so far, adds to the ones it finds and merges the others
in. Every pair is added to once per view, in the order of the views, so the sums are bit for bit
those of the dense form.
"""

import torch
from torch import Tensor

from xmask3d_rt.kernels.vote.types import PairVotes, VotedLabels, VotePairs

CHUNK = 1 << 22  # pairs ranked at a time, bounds memory


def vote_pairs(votes: PairVotes, indices: Tensor, labels: Tensor, scores: Tensor) -> None:
    """See `vote`; waits for a GPU twice per head, for the number of new pairs."""
    valid = indices >= 0
    indices, labels, scores = indices[valid], labels[:, valid], scores[valid]
    indices, order = torch.sort(indices.long())
    votes.coverage[indices] += 1
    for head, pairs in enumerate(votes.heads):
        keys = indices * votes.num_classes + labels[head, order].long()
        _add(pairs, keys, scores[order].float() if head == 0 else None)


def finish_vote_pairs(votes: PairVotes, nearest: Tensor) -> VotedLabels:
    """See `finish_votes`; waits for nothing."""
    labels = torch.stack([_find_winners(votes, pairs) for pairs in votes.heads])  # [H, N]
    _, points, classes = votes.shape
    keys = torch.arange(points, device=nearest.device) * classes + labels[0]
    score = _sums_of(votes.heads[0], keys) / votes.coverage.clamp(min=1)
    nearest = nearest.long()
    return VotedLabels(labels[:, nearest], score[nearest])


def _add(pairs: VotePairs, keys: Tensor, scores: Tensor | None) -> None:
    """One vote for each key [n] int64, distinct and ascending."""
    place = torch.searchsorted(pairs.keys, keys)  # [n]
    known = torch.zeros_like(keys, dtype=torch.bool)
    if len(pairs.keys):
        known = pairs.keys[place.clamp(max=len(pairs.keys) - 1)] == keys
    pairs.counts[place[known]] += 1
    if scores is not None:
        pairs.score_sums[place[known]] += scores[known]
    new = known.logical_not_()
    fresh = place[new]
    fresh += torch.arange(len(fresh), device=fresh.device)  # rows of the new pairs, merged
    kept = torch.ones(len(pairs.keys) + len(fresh), dtype=torch.bool, device=fresh.device)
    kept[fresh] = False
    pairs.keys = _merge(pairs.keys, kept, keys[new], fresh)
    pairs.counts = _merge(pairs.counts, kept, torch.ones_like(fresh, dtype=torch.int32), fresh)
    if scores is not None:
        pairs.score_sums = _merge(pairs.score_sums, kept, scores[new], fresh)


def _merge(old: Tensor, kept: Tensor, new: Tensor, fresh: Tensor) -> Tensor:
    """`new` at the rows `fresh`, `old` in order at the rows where `kept`."""
    merged = old.new_empty(len(kept))
    merged[fresh] = new
    return merged.masked_scatter_(kept, old)


def _find_winners(votes: PairVotes, pairs: VotePairs) -> Tensor:
    """The class with most votes of every point [N] int64, the lowest of ties; 0 without votes."""
    _, points, classes = votes.shape
    best = torch.full((points,), classes - 1, dtype=torch.int64, device=pairs.keys.device)
    for keys, counts in zip(pairs.keys.split(CHUNK), pairs.counts.split(CHUNK), strict=True):
        rank = counts.long() * classes + (classes - 1 - keys % classes)  # more for a lower class
        best.scatter_reduce_(0, keys // classes, rank, "amax")
    return classes - 1 - best % classes


def _sums_of(pairs: VotePairs, keys: Tensor) -> Tensor:
    """Sum of scores of each key, 0 for those without votes."""
    if not len(pairs.keys):
        return torch.zeros(len(keys), device=keys.device)
    place = torch.searchsorted(pairs.keys, keys).clamp_(max=len(pairs.keys) - 1)
    return torch.where(pairs.keys[place] == keys, pairs.score_sums[place], 0.0)
