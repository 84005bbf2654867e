"""Masks of views and what is computed from the mask head's outputs outside engines."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xmask3d_rt.errors import EngineError
from xmask3d_rt.kernels import mask_pool
from xmask3d_rt.nets.heads import Heads


@dataclass(frozen=True)
class ViewMasks:
    """Masks of B views and the two embeddings of each.

    `pred_masks` [B, Q, h, w] logits, `mask_embed` and `mask_embed_clip` [B, Q, E]; `finite`
    says by component whether its embedding is free of NaN and infinity, each a bool tensor []
    on the device, for `check_finite`.
    """

    pred_masks: Tensor
    mask_embed: Tensor
    mask_embed_clip: Tensor
    finite: Mapping[str, Tensor]

    def cut(self, view: int) -> "ViewMasks":
        """Those of one view, B = 1; the flags are of the whole batch."""
        one = slice(view, view + 1)
        return ViewMasks(
            self.pred_masks[one], self.mask_embed[one], self.mask_embed_clip[one], self.finite
        )


def embed_masks(heads: Heads, masks: Mapping[str, Tensor]) -> Tensor:
    """Mask embeddings [B, Q, E] from the outputs of the mask head.

    Args:
        heads: holds the embedding's layers.
        masks: `mask_features` [B, D, h, w], `pred_masks` [B, Q, h, w], `queries` [B, Q, D].
    """
    pooled = mask_pool(masks["mask_features"], masks["pred_masks"])  # [B, Q, D]
    embed = heads.mask_embed(pooled.flatten(0, 1), masks["queries"].flatten(0, 1))
    return embed.unflatten(0, pooled.shape[:2])


def is_finite(embedding: Tensor) -> Tensor:
    """Whether no value is NaN or infinite: bool [] on the embedding's device."""
    return torch.isfinite(embedding).all()


def check_finite(flags: Iterable[Mapping[str, Tensor]]) -> None:
    """Raise if an embedding of some view was not finite; waits for the device once.

    Args:
        flags: `ViewMasks.finite` of every batch of a scene; may be empty.

    Raises:
        EngineError: naming the component.
    """
    listed = [by_name for by_name in flags if by_name]
    if not listed:
        return
    names = list(listed[0])
    stacked = torch.stack([torch.stack([by_name[name] for name in names]) for by_name in listed])
    for name, finite in zip(names, stacked.all(0).tolist(), strict=True):
        if not finite:
            raise EngineError(
                f"{name}: its embedding is not finite (NaN or inf); rebuild this component in "
                f"a wider precision: --only {name} --precision fp32 --force"
            )
