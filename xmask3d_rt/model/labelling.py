"""Labels of the visible points from a forward pass of the module: steps 9 to 11 of the method.

The kernels that the runtime labels with do the work here as well, so the module and the engines
differ in what runs before them and in nothing else.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from xmask3d_rt.kernels import (
    LabelTables,
    MaskAssignment,
    PointLabels,
    assign_masks,
    build_label_tables,
    label_points,
)
from xmask3d_rt.model.xmask3d import ModelOutput, ViewBatch, XMask3D


class ViewLabels(NamedTuple):
    """One view: which mask owns each of its points, and the labels of the three heads."""

    assignment: MaskAssignment
    labels: PointLabels


@torch.no_grad()
def label_views(
    model: XMask3D, batch: ViewBatch, output: ModelOutput, points: Tensor, is_base: Tensor
) -> list[ViewLabels]:
    """Label the visible points of every view.

    Args:
        model: gives the fuser and the configuration.
        batch: what `output` was computed from.
        output: of `model(batch)`.
        points: [n, 3] positions in metres of the batch's points.
        is_base: [C] bool, whether a class was trained with labels.

    Returns:
        One `ViewLabels` per view, for its points in the order of the batch.

    Raises:
        ValueError: `points` or `is_base` disagree with the batch.
    """
    tables = _make_tables(model, batch, output, is_base)
    views = []
    for view in range(len(batch.images)):
        here = batch.point_view == view
        point_to_voxel = batch.point_to_voxel[here]
        base_prob = output.sparse.binary_logit.sigmoid()[point_to_voxel]
        assignment = assign_masks(
            output.masks.pred_masks[view],
            model.config.view.mask_shape,
            batch.row[here],
            batch.col[here],
            base_prob,
            output.masks.pred_logits[view],
            is_base,
            model.config.binary_threshold,
        )
        labels = label_points(
            voxel_feats=output.sparse.pred_3d,
            point_to_voxel=point_to_voxel,
            point_query=assignment.point_query,
            mask_embed=output.masks.mask_embed[view],
            mask_embed_clip=output.mask_embed_clip[view],
            base_prob=base_prob,
            points=points[here],
            tables=tables,
        )
        views.append(ViewLabels(assignment, labels))
    return views


def _make_tables(
    model: XMask3D, batch: ViewBatch, output: ModelOutput, is_base: Tensor
) -> LabelTables:
    """Text, fuser and thresholds as the labelling kernel takes them."""
    fuser = model.criterion.fuser.linear
    return build_label_tables(
        batch.text_embed,
        batch.text_class,
        is_base,
        fuser.weight,
        fuser.bias,
        output.logit_scale,
        model.config.base_ratio,
        model.config.novel_ratio,
        model.config.binary_threshold,
    )
