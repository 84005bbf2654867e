"""Losses of one prediction head: classes of all queries, masks of the matched ones.

    ce    Σ w·nll / Σ w over all queries; an unmatched query's class is "no object" (w = 0.1)
    mask  Σ over pairs of the mean binary cross-entropy at the pair's points / number of targets
    dice  Σ over pairs of 1 − (2Σσ(x)y + 1) / (Σσ(x) + Σy + 1)              / number of targets

Source: Mask2Former (arXiv 2112.01527).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from xmask3d_rt.training.matcher import MaskTargets, Match
from xmask3d_rt.training.points import PointSampler, sample_masks
from xmask3d_rt.training.ranks import Average, divide_by_count, keep_own


class SetLosses(NamedTuple):
    """The three losses of a head, not weighted."""

    ce: Tensor
    mask: Tensor
    dice: Tensor


def count_targets(targets: Sequence[MaskTargets], average: Average, device: torch.device) -> Tensor:
    """Targets of a batch, averaged over the processes, at least 1: what mask losses divide by.

    Targets in excess of the queries count as well.
    """
    total = torch.tensor(float(sum(len(t.labels) for t in targets)), device=device)
    return average(total).clamp(min=1)


def class_loss(
    class_logits: Tensor,
    targets: Sequence[MaskTargets],
    matches: Sequence[Match],
    class_weight: Tensor,
    average: Average = keep_own,
) -> Tensor:
    """Weighted cross-entropy of class logits [B, Q, C + 1].

    Args:
        class_logits: of one head.
        targets, matches: one per image.
        class_weight: [C + 1], "no object" last.
        average: mean of a scalar over the processes.
    """
    wanted = torch.full(
        class_logits.shape[:2], len(class_weight) - 1, device=class_logits.device
    )  # [B, Q]
    for row, target, match in zip(wanted, targets, matches, strict=True):
        row[match.query] = target.labels[match.target]
    total = F.cross_entropy(class_logits.mT.float(), wanted, class_weight, reduction="sum")
    return divide_by_count(total, class_weight[wanted].sum(), average)


def draw_loss_points(
    mask_logits: Tensor, matches: Sequence[Match], sampler: PointSampler
) -> Tensor:
    """Points [pairs, P, 2] of all matched masks of mask logits [B, Q, h, w], image by image."""
    drawn = [
        sampler.draw_loss(i, mask_logits[i, match.query].detach().float())
        for i, match in enumerate(matches)
    ]
    return torch.cat(drawn)


def mask_losses(
    mask_logits: Tensor,
    targets: Sequence[MaskTargets],
    matches: Sequence[Match],
    points: Tensor,
    num_masks: Tensor,
) -> tuple[Tensor, Tensor]:
    """Mask and dice loss of mask logits [B, Q, h, w]; 0 in the graph without any pair.

    Args:
        mask_logits: of one head.
        targets, matches: one per image.
        points: [pairs, P, 2], image by image.
        num_masks: what the sums are divided by.
    """
    predicted = torch.cat([masks[m.query] for masks, m in zip(mask_logits, matches, strict=True)])
    if not len(predicted):
        nothing = mask_logits.sum() * 0
        return nothing, nothing
    drawn = points.split([len(match.query) for match in matches])
    with torch.no_grad():  # image by image: label maps may differ in size
        wanted = torch.cat(
            [
                sample_masks(target.masks[match.target], part)
                for target, match, part in zip(targets, matches, drawn, strict=True)
                if len(match.query)
            ]
        )  # [pairs, P]
    logits = sample_masks(predicted.float(), points)
    bce = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)
    inside = logits.sigmoid()
    dice = 1 - (2 * (inside * wanted).sum(1) + 1) / (inside.sum(1) + wanted.sum(1) + 1)
    return bce.sum() / num_masks, dice.sum() / num_masks
