"""Masks to classes and to points, and the fusion of mask and point features.

Everything here is differentiable and serves training and the module's own forward pass; at
run time the labelling kernels do the same work in fewer bytes.

Source: released XMask3D (models/utils/fuser.py, cal_pred_logits), arXiv 2411.13243 section 3.3.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmask3d_rt.kernels import mask_class_logits

NO_OBJECT_WEIGHT = 0.1


class Fuser(nn.Module):
    """One linear layer over [mask embedding, 3D feature]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, width)

    def forward(self, mask_embed: Tensor, feats: Tensor) -> Tensor:
        """Fuse rows [n, E] and [n, E] to [n, E]."""
        return self.linear(torch.cat([mask_embed, feats], dim=1))


class FusionHead(nn.Module):
    """The fuser and the class weights of the mask loss; released prefix `criterion`.

    Args:
        width: of the shared embedding space.
        train_classes: classes with training labels; "no object" follows them.
    """

    empty_weight: Tensor

    def __init__(self, width: int, train_classes: int) -> None:
        super().__init__()
        self.fuser = Fuser(width)
        empty_weight = torch.ones(train_classes + 1)
        empty_weight[-1] = NO_OBJECT_WEIGHT
        self.register_buffer("empty_weight", empty_weight)


class CategoryHead(nn.Module):
    """Scaled cosine class logits of masks; holds the learned embedding of "no object"."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.null_embed = nn.Parameter(torch.randn(1, width))

    def forward(
        self, mask_embed: Tensor, text_embed: Tensor, text_class: Tensor, scale: Tensor
    ) -> Tensor:
        """Class logits.

        Args:
            mask_embed: [..., E].
            text_embed: [T, E], one row per name.
            text_class: [T] class of each name, 0..C-1, each class at least once.
            scale: scalar.

        Returns:
            [..., C + 1]: the best name of every class, then "no object".
        """
        classes = int(text_class.max()) + 1
        rows = mask_embed.flatten(0, -2)
        logits = mask_class_logits(rows, text_embed, text_class, classes, self.null_embed, scale)
        return logits.unflatten(0, mask_embed.shape[:-1])


class PointFeatures(NamedTuple):
    """Features [n, E] of the visible points, each space comparable with the text embeddings.

    `two_d` is zero where no mask covers a point, `fused` is the 3D feature there.
    """

    fused: Tensor
    two_d: Tensor
    three_d: Tensor
    covered: Tensor  # [n] bool


@torch.no_grad()
def own_points(
    mask_logits: Tensor,
    class_logits: Tensor,
    mask_shape: tuple[int, int],
    row: Tensor,
    col: Tensor,
) -> Tensor:
    """Which mask owns each visible point of one view, as during training: no base/novel gate.

    A pixel belongs to the query with the largest score · sigmoid(mask), score the largest class
    probability; the point is covered where that sigmoid is at least 0.5.

    Args:
        mask_logits: [Q, h, w].
        class_logits: [Q, C + 1].
        mask_shape: (rows, columns) of the grid of `row` and `col`.
        row: [n] pixel row of each point.
        col: [n] pixel column.

    Returns:
        [n] int64 query, -1 where no mask covers the point.
    """
    resized = F.interpolate(mask_logits[None], mask_shape, mode="bilinear", align_corners=False)[0]
    inside = resized[:, row, col].sigmoid()  # [Q, n]
    score = class_logits.softmax(-1).amax(-1)  # [Q]
    query = (score[:, None] * inside).argmax(0)  # [n]
    return torch.where(inside.gather(0, query[None])[0] >= 0.5, query, -1)


def fuse_points(
    fuser: Fuser, mask_embed: Tensor, point_query: Tensor, feats: Tensor
) -> PointFeatures:
    """Features of one view's visible points.

    Args:
        fuser: the fusion layer.
        mask_embed: [Q, E].
        point_query: [n] query that owns each point, -1 for none.
        feats: [n, E] 3D features.

    Returns:
        `PointFeatures`, differentiable in `mask_embed`, `feats` and the fuser.
    """
    covered = point_query >= 0
    two_d = mask_embed[point_query.clamp(min=0)] * covered[:, None]
    fused = torch.where(covered[:, None], fuser(two_d, feats), feats)
    return PointFeatures(fused, two_d, feats, covered)
