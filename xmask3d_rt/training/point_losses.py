"""Losses on points: their class by 3D features, base or novel, and captions.

Every loss is per point, so a voxel counts as often as it has points. Where no point has a label the
loss is 0 and stays in the graph.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from xmask3d_rt.kernels import mask_class_logits
from xmask3d_rt.training.ranks import Average, divide_by_count, keep_own


def point_class_loss(
    feats: Tensor,
    labels: Tensor,
    text_embed: Tensor,
    text_class: Tensor,
    null_embed: Tensor,
    scale: Tensor,
    average: Average = keep_own,
) -> Tensor:
    """Cross-entropy of scaled cosines with the base classes and "no object".

    "No object" takes part in the soft-max and is never a target.

    Args:
        feats: [n, E], of any length.
        labels: [n] int64 in 0..C, C = ignored.
        text_embed: [T, E], one row per name.
        text_class: [T] class of each name.
        null_embed: [1, E].
        scale: scalar.
        average: mean of a scalar over the processes.

    Returns:
        Mean over the points with a label.
    """
    classes = int(text_class.max()) + 1
    logits = mask_class_logits(feats, text_embed, text_class, classes, null_embed, scale)
    total = F.cross_entropy(logits, labels, ignore_index=classes, reduction="sum")
    return divide_by_count(total, (labels != classes).sum(), average)


def binary_loss(
    logits: Tensor, binary_label: Tensor, pos_weight: Tensor, average: Average = keep_own
) -> Tensor:
    """−[r·y·logσ(x) + (1−y)·logσ(−x)], mean over the points that are base (1) or novel (0).

    Args:
        logits: [n] of P(base).
        binary_label: [n]; others than 0 and 1 are left out.
        pos_weight: r, [1].
        average: mean of a scalar over the processes.
    """
    known = (binary_label == 0) | (binary_label == 1)
    wanted = (binary_label == 1).to(logits.dtype)
    each = F.binary_cross_entropy_with_logits(
        logits, wanted, pos_weight=pos_weight, reduction="none"
    )
    return divide_by_count((each * known).sum(), known.sum(), average)


def mean_per_view(feats: Tensor, view: Tensor, views: int) -> tuple[Tensor, Tensor]:
    """Mean feature of the points of each view.

    Args:
        feats: [n, E].
        view: [n] view of each point.
        views: B.

    Returns:
        [B, E], zero for a view without points; [B] number of its points.
    """
    total = feats.new_zeros(views, feats.shape[1]).index_add(0, view, feats)
    count = torch.bincount(view, minlength=views)
    return total / count.clamp(min=1)[:, None], count


def caption_loss(feats: Tensor, view: Tensor, caption_embed: Tensor) -> Tensor:
    """Mean over views of 1 − cos(mean feature of the view's points, its caption).

    A view without points adds nothing.

    Args:
        feats: [n, E].
        view: [n] view of each point.
        caption_embed: [B, E].
    """
    mean, count = mean_per_view(feats, view, len(caption_embed))
    distance = 1 - F.cosine_similarity(mean, caption_embed.to(mean.dtype), dim=1)
    return (distance * (count > 0)).mean()
