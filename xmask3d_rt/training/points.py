"""Points at which masks are compared, and the values of masks there.

Coordinates are (x, y) in [0, 1] over the edges of a mask. The points of a mask loss lean towards
where the prediction is undecided: of three times as many uniform candidates those with the smallest
|logit| are kept for three quarters of the points, the rest is uniform.

Source: PointRend (arXiv 1912.08193), section 3.1; Mask2Former (arXiv 2112.01527).
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

OVERSAMPLE = 3
UNCERTAIN_SHARE = 0.75


class PointSampler(Protocol):
    """Where to compare masks; no gradient flows through the choice."""

    def draw_matching(self, image: int) -> Tensor:
        """Points [P, 2] at which all queries and targets of one image are matched."""

    def draw_loss(self, image: int, mask_logits: Tensor) -> Tensor:
        """Points [K, P, 2] for the K matched predictions [K, h, w] of one image."""


class RandomPoints:
    """Fresh points on every call, from one generator per image.

    Args:
        count: points P per mask.
        seeds: of each image of the batch; equal seeds, equal points.
        device: where points are drawn.
    """

    def __init__(self, count: int, seeds: Sequence[int], device: torch.device) -> None:
        self._count = count
        self._device = device
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def draw_matching(self, image: int) -> Tensor:
        """Uniform points [P, 2]."""
        return self._draw(image, self._count, 2)

    @torch.no_grad()
    def draw_loss(self, image: int, mask_logits: Tensor) -> Tensor:
        """Points [K, P, 2], most where the prediction is undecided."""
        masks = len(mask_logits)
        rest = self._count - count_uncertain(self._count)
        candidates = self._draw(image, masks, int(OVERSAMPLE * self._count), 2)
        return choose_points(mask_logits, candidates, self._draw(image, masks, rest, 2))

    def _draw(self, image: int, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generators[image], device=self._device)


class FixedPoints:
    """The same points [P, 2] for every mask of every image, as reference steps have them."""

    def __init__(self, points: Tensor) -> None:
        self._points = points

    def draw_matching(self, image: int) -> Tensor:
        """The points [P, 2]."""
        return self._points

    def draw_loss(self, image: int, mask_logits: Tensor) -> Tensor:
        """The points, repeated [K, P, 2]."""
        return self._points.expand(len(mask_logits), -1, -1)


def count_uncertain(count: int) -> int:
    """How many of a mask's points go where the prediction is undecided."""
    return int(UNCERTAIN_SHARE * count)


@torch.no_grad()
def choose_points(mask_logits: Tensor, candidates: Tensor, rest: Tensor) -> Tensor:
    """The undecided points of each mask, followed by the uniform ones.

    Args:
        mask_logits: [K, h, w].
        candidates: [K, 3P, 2] uniform.
        rest: [K, P/4, 2] uniform.

    Returns:
        [K, P, 2]: the 3P/4 candidates of smallest |logit|, then `rest`.
    """
    kept = count_uncertain(candidates.shape[1] // OVERSAMPLE)
    undecided = -sample_masks(mask_logits, candidates).abs()  # [K, 3P]
    index = undecided.topk(kept, dim=1).indices
    chosen = candidates.gather(1, index[..., None].expand(-1, -1, 2))
    return torch.cat([chosen, rest], dim=1)


def sample_masks(masks: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of masks, zero outside.

    Args:
        masks: [K, h, w].
        points: [K, P, 2], or [P, 2] for the same points in every mask.

    Returns:
        [K, P].
    """
    if points.dim() == 2:
        image, grid = masks[None], points[None, :, None]  # [1, K, h, w], [1, P, 1, 2]
    else:
        image, grid = masks[:, None], points[:, :, None]  # [K, 1, h, w], [K, P, 1, 2]
    sampled = F.grid_sample(image, 2 * grid - 1, padding_mode="zeros", align_corners=False)
    return sampled.squeeze(3).flatten(0, 1)
