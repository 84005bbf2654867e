"""Alignment of 3D features with MaskCLIP, mask by mask.

Of the masks that hold almost only novel points the four most confident are taken, and of those that
hold almost only base points the one most confident. The mean 3D feature of such a mask's points is
drawn towards the mask's CLIP embedding: mean over masks of 1 − cos. No negatives; gradients reach
the 3D net alone. Which points are novel is taken from the labels of the training scenes (not which
class they are).

Source: released XMask3D (loss_3d_contra).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from xmask3d_rt.training.ranks import Average, divide_by_count, keep_own

MIN_POINTS = 10
NOVEL_RATIO, NOVEL_MIN, NOVEL_KEPT = 1.8, 10, 4
BASE_RATIO, BASE_MIN, BASE_KEPT = 20.0, 150, 1


class MaskSelection(NamedTuple):
    """Chosen masks of one view, novel ones first: `queries` [5], `valid` [5], `inside` [5, n]."""

    queries: Tensor
    valid: Tensor
    inside: Tensor


@torch.no_grad()
def select_masks(
    mask_logits: Tensor,
    mask_shape: tuple[int, int],
    row: Tensor,
    col: Tensor,
    binary_label: Tensor,
) -> MaskSelection:
    """The masks of one view to align.

    Args:
        mask_logits: [Q, h, w]; masks may overlap here.
        mask_shape: (rows, columns) of the grid of `row` and `col`.
        row, col: [n] pixel of each point.
        binary_label: [n], 1 base, 0 novel, others neither.
    """
    logits = mask_logits.float()[None]
    mask = F.interpolate(logits, mask_shape, mode="bilinear", align_corners=False)[0].sigmoid()
    inside = mask[:, row, col] >= 0.5  # [Q, n]
    enough = inside.sum(1) >= MIN_POINTS
    # Without any mask of ten points, query 0 stands for the whole view.
    inside[0] |= ~enough.any()
    points = inside.sum(1)
    novel = (inside & (binary_label == 0)).sum(1)
    base = (inside & (binary_label == 1)).sum(1)
    usable = points >= MIN_POINTS
    is_novel = usable & (novel > NOVEL_RATIO * (points - novel).double()) & (novel > NOVEL_MIN)
    is_base = usable & (base > BASE_RATIO * (points - base).double()) & (base > BASE_MIN)
    certain = mask > 0.5
    confidence = (mask * certain).sum((1, 2)) / certain.sum((1, 2)).clamp(min=1)
    chosen_novel = _most_confident(confidence, is_novel, NOVEL_KEPT)
    chosen_base = _most_confident(confidence, is_base & ~is_novel, BASE_KEPT)
    queries = torch.cat([chosen_novel[0], chosen_base[0]])
    valid = torch.cat([chosen_novel[1], chosen_base[1]])
    return MaskSelection(queries, valid, inside[queries])


def _most_confident(confidence: Tensor, wanted: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` queries by confidence among those wanted, ties in query order."""
    ranked = torch.where(wanted, confidence, -torch.inf)
    order = torch.sort(ranked, descending=True, stable=True).indices[:count]
    return order, wanted[order]


def mask_alignment(
    feats: Tensor, mask_embed_clip: Tensor, selection: MaskSelection
) -> tuple[Tensor, Tensor]:
    """Σ (1 − cos) over the chosen masks of one view, and their number.

    Args:
        feats: [n, E] 3D features of the view's points.
        mask_embed_clip: [Q, E].
        selection: of `select_masks`.
    """
    weight = selection.inside.to(feats.dtype)  # [5, n]
    mean = weight @ feats / weight.sum(1, keepdim=True).clamp(min=1)
    wanted = mask_embed_clip.detach()[selection.queries].to(feats.dtype)
    distance = 1 - F.cosine_similarity(mean, wanted, dim=1)
    return (distance * selection.valid).sum(), selection.valid.sum()


def contrastive_loss(
    totals: list[Tensor], counts: list[Tensor], average: Average = keep_own
) -> Tensor:
    """Mean over the chosen masks of all views; 0 in the graph where none is chosen.

    Args:
        totals, counts: per view, from `mask_alignment`.
        average: mean of a scalar over the processes.
    """
    return divide_by_count(torch.stack(totals).sum(), torch.stack(counts).sum(), average)
