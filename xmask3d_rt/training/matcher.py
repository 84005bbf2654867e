"""Which query answers for which target mask: the cheapest assignment, image by image.

    cost[q, t] = 5 · bce(q, t) − 2 · P_q(label of t) + 5 · dice(q, t)

over points drawn in the image. The targets of an image are the distinct labels of its label map,
"everything else" among them.

Source: Mask2Former (arXiv 2112.01527); H. W. Kuhn, 1955.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from xmask3d_rt.model.xmask3d import MaskOutput
from xmask3d_rt.training.points import PointSampler, sample_masks


@dataclass(frozen=True, eq=False)
class MaskTargets:
    """Target masks of one image: `labels` [T] int64 (C = everything else), `masks` [T, H, W]."""

    labels: Tensor
    masks: Tensor


@dataclass(frozen=True, eq=False)
class Match:
    """Pairs of one image and head: `query` [K] ascending, `target` [K]; int64."""

    query: Tensor
    target: Tensor


@dataclass(frozen=True)
class CostWeights:
    """Weights of the three parts of a matching cost, those of the losses by default."""

    ce: float = 2
    mask: float = 5
    dice: float = 5


def make_targets(label_2d: Tensor) -> MaskTargets:
    """One mask per distinct label of a label map [H, W], in ascending order.

    The region of everything else (label C) is a mask of its own: the released recipe teaches
    masks to cover novel objects that way.
    """
    labels = label_2d.unique()
    return MaskTargets(labels, (label_2d == labels[:, None, None]).float())


@torch.no_grad()
def compute_costs(
    class_logits: Tensor,
    mask_logits: Tensor,
    targets: MaskTargets,
    points: Tensor,
    weights: CostWeights = CostWeights(),
) -> Tensor:
    """Matching costs of one image.

    Args:
        class_logits: [Q, C + 1].
        mask_logits: [Q, h, w].
        targets: T masks.
        points: [P, 2].
        weights: of the three parts.

    Returns:
        [Q, T] float32.
    """
    probability = class_logits.float().softmax(-1)[:, targets.labels]  # [Q, T]
    logits = sample_masks(mask_logits.float(), points)  # [Q, P]
    wanted = sample_masks(targets.masks, points)  # [T, P]
    bce = F.softplus(-logits) @ wanted.T + F.softplus(logits) @ (1 - wanted).T
    inside = logits.sigmoid()
    overlap = 2 * (inside @ wanted.T) + 1
    dice = 1 - overlap / (inside.sum(1)[:, None] + wanted.sum(1) + 1)
    return weights.mask * bce / len(points) - weights.ce * probability + weights.dice * dice


def match_costs(costs: Tensor) -> Match:
    """The cheapest pairs of costs [Q, T]: min(Q, T) of them, queries ascending.

    Costs that are not finite count as 0: the losses of such a step are not finite either, and
    the trainer names them.
    """
    query, target = linear_sum_assignment(costs.nan_to_num(0, 0, 0).cpu().numpy())
    pairs = torch.from_numpy(np.stack([query, target]).astype(np.int64)).to(costs.device)
    return Match(pairs[0], pairs[1])


def match_heads(
    heads: Sequence[MaskOutput],
    targets: Sequence[MaskTargets],
    sampler: PointSampler,
    weights: CostWeights = CostWeights(),
) -> list[list[Match]]:
    """Pairs of every head and image: `[head][image]`.

    The costs of all of them go to the host at once: a GPU waits once, not heads · images times.
    """
    costs = [
        compute_costs(
            head.pred_logits[i], head.pred_masks[i], target, sampler.draw_matching(i), weights
        )
        for head in heads
        for i, target in enumerate(targets)
    ]
    on_host = torch.cat([cost.flatten() for cost in costs]).cpu()
    parts = on_host.split([cost.numel() for cost in costs])
    matches = [match_costs(part.view(cost.shape)) for part, cost in zip(parts, costs, strict=True)]
    device = costs[0].device
    moved = [Match(match.query.to(device), match.target.to(device)) for match in matches]
    return [moved[i : i + len(targets)] for i in range(0, len(moved), len(targets))]
