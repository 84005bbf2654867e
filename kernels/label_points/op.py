"""label_points: labels of the three heads for the visible points of a view."""

import torch

from xmask3d_rt.kernels.checks import check_device, check_float, check_integer, check_shape
from xmask3d_rt.kernels.dispatch import Operator
from xmask3d_rt.kernels.label_points.reference import (
    PointLabels,
    label_points_reference,
    make_outputs,
)
from xmask3d_rt.kernels.label_points.tables import LabelTables


def label_points(
    voxel_feats: torch.Tensor,  # [M, F]
    point_to_voxel: torch.Tensor,  # [n]
    point_query: torch.Tensor,  # [n]
    mask_embed: torch.Tensor,  # [Q, E]
    mask_embed_clip: torch.Tensor,  # [Q, E]
    base_prob: torch.Tensor,  # [n]
    points: torch.Tensor,  # [n, 3]
    tables: LabelTables,
) -> PointLabels:
    """Labels of the three heads for the visible points of a view.

    Fused: f = W [mask_embed; feature3d] + b where a mask covers the point, else f = feature3d;
    p = softmax(s * cos(f, text)); with q = softmax(s * cos(mask_embed_clip, text)) a covered
    point scores p^r * q^(1-r), r by base or novel class. Points with P(base) above the
    threshold take base classes only, others novel classes only; arg-max, ties to the lowest
    class. 3D: cos(feature3d, text), gated alike. 2D: cos(mask_embed, text) of the point's mask,
    or of the mask of the nearest covered point; the 3D label where no point is covered.
    A class with several names takes the largest cosine in each of the terms.

    Args:
        voxel_feats: Voxel features, `[M, F]` float16, bfloat16 or float32: the input of the
            projection that `tables` hold, or the 3D features where they hold none.
        point_to_voxel: Voxel of each visible point, `[n]` integers; n = 0 is legal.
        point_query: Mask of each point, `[n]` integers, -1 = none; see `assign_masks`.
        mask_embed: `[Q, E]`; Q = 0 is legal.
        mask_embed_clip: `[Q, E]`.
        base_prob: P(base) of each point, `[n]`.
        points: Positions in metres, `[n, 3]`, for the holes of the 2D head.
        tables: From `build_label_tables`.

    Returns:
        `PointLabels`; score is the probability of the fused label among the classes its gate
        allows, softmax of log(p^r * q^(1-r)), or of s * cos(feature3d, text) if uncovered.

    Raises:
        ValueError: shapes that disagree or tensors on two devices.
        TypeError: a dtype other than the ones above.

    Source: XMask3D.forward (evaluation) and run/infer.py; see `tables` for the arithmetic.
    """
    op = "label_points"
    embed, feat = tables.point_weight.shape
    check_shape(op, "voxel_feats", voxel_feats, (None, feat), "[M, F]")
    check_shape(op, "point_to_voxel", point_to_voxel, (None,), "[n]")
    count = point_to_voxel.shape[0]
    check_shape(op, "point_query", point_query, (count,), "[n]")
    check_shape(op, "base_prob", base_prob, (count,), "[n]")
    check_shape(op, "points", points, (count, 3), "[n, 3]")
    check_shape(op, "mask_embed", mask_embed, (None, embed), "[Q, E]")
    check_shape(op, "mask_embed_clip", mask_embed_clip, tuple(mask_embed.shape), "[Q, E]")
    check_float(
        op,
        voxel_feats=voxel_feats,
        mask_embed=mask_embed,
        mask_embed_clip=mask_embed_clip,
        base_prob=base_prob,
        points=points,
    )
    check_integer(op, point_to_voxel=point_to_voxel, point_query=point_query)
    check_device(
        op,
        voxel_feats=voxel_feats,
        point_to_voxel=point_to_voxel,
        point_query=point_query,
        mask_embed=mask_embed,
        mask_embed_clip=mask_embed_clip,
        base_prob=base_prob,
        points=points,
        tables=tables.text,
    )
    return _label_points(
        voxel_feats,
        point_to_voxel,
        point_query,
        mask_embed,
        mask_embed_clip,
        base_prob,
        points,
        tables,
    )


_label_points = Operator("label_points", label_points_reference, make_outputs)
