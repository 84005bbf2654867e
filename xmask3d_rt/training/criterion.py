"""All losses of one step, weighted, by their released names.

Names without a suffix belong to the last prediction head; `loss_ce_0` … are the heads before each
layer of the mask decoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from xmask3d_rt.model.fusion import PointFeatures
from xmask3d_rt.model.xmask3d import (
    MaskOutput,
    ModelOutput,
    SparseOutput,
    ViewBatch,
    XMask3D,
)
from xmask3d_rt.training.batch import TrainingBatch
from xmask3d_rt.training.config import LossSettings
from xmask3d_rt.training.contrastive import (
    MaskSelection,
    contrastive_loss,
    mask_alignment,
    select_masks,
)
from xmask3d_rt.training.matcher import CostWeights, MaskTargets, Match, make_targets, match_heads
from xmask3d_rt.training.point_losses import binary_loss, caption_loss, point_class_loss
from xmask3d_rt.training.points import PointSampler
from xmask3d_rt.training.ranks import Average, average_over_ranks, keep_own
from xmask3d_rt.training.set_loss import (
    class_loss,
    count_targets,
    draw_loss_points,
    mask_losses,
)

Part = TypeVar("Part", SparseOutput, MaskOutput)


@dataclass(frozen=True, eq=False)
class Losses:
    """Weighted losses of a step by name, and the choices they rest on.

    `matches` [head][image] with the last head first; `selections` per view, empty without the
    contrastive loss; `points` the features of the visible points, view by view.
    """

    values: dict[str, Tensor]
    matches: list[list[Match]]
    selections: list[MaskSelection]
    points: PointFeatures

    @property
    def total(self) -> Tensor:
        """The plain sum."""
        return torch.stack(list(self.values.values())).sum()


class Criterion:
    """Losses of a model's output in training mode.

    Args:
        settings: weights and constants.
    """

    def __init__(self, settings: LossSettings) -> None:
        self._settings = settings
        self._costs = CostWeights(settings.ce, settings.mask, settings.dice)

    @property
    def _average(self) -> Average:
        return average_over_ranks if self._settings.global_means else keep_own

    def __call__(
        self,
        model: XMask3D,
        batch: TrainingBatch,
        views: ViewBatch,
        output: ModelOutput,
        caption_embed: Tensor,
        sampler: PointSampler,
    ) -> Losses:
        """Compute every loss; the contrastive one where masks were embedded with MaskCLIP.

        Args:
            model: gives fuser, embeddings and constants.
            batch: has the labels.
            views: of the batch, what `output` was computed from.
            output: of the model in training mode.
            caption_embed: [B, E].
            sampler: where masks are compared.
        """
        output = _to_float(output)
        targets = [make_targets(label) for label in batch.label_2d]
        heads = [output.masks, *output.aux_masks]
        matches = match_heads(heads, targets, sampler, self._costs)
        names = ["", *(f"_{i}" for i in range(len(output.aux_masks)))]
        points = fuse_views(model, views, output)
        values: dict[str, Tensor] = {}
        selections: list[MaskSelection] = []
        for head, name, found in zip(heads, names, matches, strict=True):
            losses = self._set_losses(head, targets, found, model, sampler)
            values |= {f"{key}{name}": value for key, value in losses.items()}
            if not name:
                contrast, selections = self._contrast(model, batch, output, points)
                values |= contrast | self._classes(model, batch, output, views.text_class, points)
        values |= self._captions(batch, caption_embed, points)
        values |= self._binary(model, batch, output)
        return Losses(values, matches, selections, points)

    def _set_losses(
        self,
        head: MaskOutput,
        targets: Sequence[MaskTargets],
        matches: Sequence[Match],
        model: XMask3D,
        sampler: PointSampler,
    ) -> dict[str, Tensor]:
        """The three losses of one prediction head."""
        masks = head.pred_masks
        num_masks = count_targets(targets, average_over_ranks, masks.device)
        drawn = draw_loss_points(masks, matches, sampler)
        mask, dice = mask_losses(masks, targets, matches, drawn, num_masks)
        weight = model.criterion.empty_weight
        ce = class_loss(head.pred_logits, targets, matches, weight, self._average)
        settings = self._settings
        return {
            "loss_ce": settings.ce * ce,
            "loss_mask": settings.mask * mask,
            "loss_dice": settings.dice * dice,
        }

    def _contrast(
        self, model: XMask3D, batch: TrainingBatch, output: ModelOutput, points: PointFeatures
    ) -> tuple[dict[str, Tensor], list[MaskSelection]]:
        """Alignment of 3D features with MaskCLIP; nothing where masks were not embedded."""
        if not output.mask_embed_clip.shape[1]:
            return {}, []
        selections, totals, counts = [], [], []
        for view in range(len(batch)):
            here = batch.point_view == view
            selection = select_masks(
                output.masks.pred_masks[view],
                model.config.view.mask_shape,
                batch.row[here],
                batch.col[here],
                batch.binary_label[here],
            )
            embed = output.mask_embed_clip[view]
            total, count = mask_alignment(points.three_d[here], embed, selection)
            selections.append(selection)
            totals.append(total)
            counts.append(count)
        loss = contrastive_loss(totals, counts, self._average)
        return {"loss_3d_contra": self._settings.contrast * loss}, selections

    def _classes(
        self,
        model: XMask3D,
        batch: TrainingBatch,
        output: ModelOutput,
        text_class: Tensor,
        points: PointFeatures,
    ) -> dict[str, Tensor]:
        """Classes of points by fused and by 3D features."""
        settings = self._settings
        weights = {
            "loss_3d": (settings.fused, points.fused),
            "loss_3d_pure": (settings.pure, points.three_d),
        }
        return {
            name: weight
            * point_class_loss(
                feats,
                batch.labels_3d,
                output.text_embed,
                text_class,
                model.category_head.null_embed,
                output.logit_scale,
                self._average,
            )
            for name, (weight, feats) in weights.items()
        }

    def _captions(
        self, batch: TrainingBatch, caption_embed: Tensor, points: PointFeatures
    ) -> dict[str, Tensor]:
        """Captions by fused, 2D and 3D features; 2D ones of covered points alone."""
        settings, view, covered = self._settings, batch.point_view, points.covered
        two_d = caption_loss(points.two_d[covered], view[covered], caption_embed)
        return {
            "loss_explicit_contra": settings.caption
            * caption_loss(points.fused, view, caption_embed),
            "loss_explicit_contra_2d_pre": settings.caption_2d * two_d,
            "loss_explicit_contra_3d": settings.caption_3d
            * caption_loss(points.three_d, view, caption_embed),
        }

    def _binary(
        self, model: XMask3D, batch: TrainingBatch, output: ModelOutput
    ) -> dict[str, Tensor]:
        """Base or novel."""
        logits = output.sparse.binary_logit[batch.point_to_voxel]
        ratio: Any = model.binary_loss_func.pos_weight
        loss = binary_loss(logits, batch.binary_label, ratio, self._average)
        return {"loss_binary": self._settings.binary * loss}


def fuse_views(model: XMask3D, views: ViewBatch, output: ModelOutput) -> PointFeatures:
    """Features of all visible points of the batch, in its order."""
    features = model.fuse(views, output)
    return PointFeatures(*(torch.cat(parts) for parts in zip(*features, strict=True)))


def _to_float(output: ModelOutput) -> ModelOutput:
    """What losses are computed from, in float32."""
    return replace(
        output,
        sparse=_widen(output.sparse),
        masks=_widen(output.masks),
        aux_masks=tuple(_widen(head) for head in output.aux_masks),
        mask_embed_clip=output.mask_embed_clip.float(),
        text_embed=output.text_embed.float(),
    )


def _widen(part: Part) -> Part:
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    return replace(part, **{k: v.float() for k, v in values.items() if v.is_floating_point()})
