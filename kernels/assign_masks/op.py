"""assign_masks: which mask query owns each visible point."""

from typing import NamedTuple

import torch

from xmask3d_rt.kernels.assign_masks.reference import assign_masks_reference
from xmask3d_rt.kernels.checks import (
    check_bool,
    check_device,
    check_float,
    check_integer,
    check_shape,
)
from xmask3d_rt.kernels.dispatch import block_size, define_op

BLOCK_N = 128
BLOCK_Q = 16
BLOCK_G = 256
BLOCK_C = 256
BLOCK_PIXELS = 256


class MaskAssignment(NamedTuple):
    """Mask queries of one view and the points they own."""

    point_query: torch.Tensor  # [n] int32, -1 where no mask covers the point
    kept: torch.Tensor  # [Q] bool, at least one visible point inside
    base_score: torch.Tensor  # [Q] float32, mean P(base) over its points, 0 where not kept
    score: torch.Tensor  # [Q] float32, largest class probability, 0 where not kept
    label: torch.Tensor  # [Q] int64, C for "no object", -1 where not kept
    final: torch.Tensor  # [Q] bool, still owns a pixel of the mask grid


def assign_masks(
    mask_logits: torch.Tensor,  # [Q, h, w]
    mask_shape: tuple[int, int],
    row: torch.Tensor,  # [n]
    col: torch.Tensor,  # [n]
    base_prob: torch.Tensor,  # [n]
    class_logits: torch.Tensor,  # [Q, C + 1]
    is_base: torch.Tensor,  # [C]
    binary_threshold: float = 0.5,
) -> MaskAssignment:
    """Which mask query owns each visible point of a view.

    Masks are resized to `mask_shape` (bilinear, align_corners=False). A query with a visible
    point in sigmoid > 0.5 is kept; it is base if the mean P(base) of those points exceeds
    `binary_threshold`. Base masks may not take novel classes, novel ones neither base classes
    nor "no object"; score = largest class probability. A pixel belongs to the kept query with
    the largest score * sigmoid(logit) (ties: lowest query), if that sigmoid is >= 0.5, and a
    point to the query of its pixel. If all classes are base, or none is, nothing is gated.

    Args:
        mask_logits: Mask logits at the head's resolution, `[Q, h, w]`.
        mask_shape: (rows, columns) of the grid on which points and masks meet.
        row: Pixel row of each visible point in that grid, `[n]` integers; n = 0 is legal.
        col: Pixel column, `[n]` integers.
        base_prob: P(base) of each visible point, `[n]` in [0, 1].
        class_logits: Scaled class logits with "no object" last, `[Q, C + 1]`; see
            `mask_class_logits`.
        is_base: Which classes are base, `[C]` bool.
        binary_threshold: P(base) above which a mask counts as base.

    Returns:
        `MaskAssignment`.

    Raises:
        ValueError: shapes that disagree or tensors on two devices.
        TypeError: a dtype other than the ones above.

    Source: XMask3D.forward, evaluation branch (models/xmask3d.py), which loops over queries.
    """
    op = "assign_masks"
    check_shape(op, "mask_logits", mask_logits, (None, None, None), "[Q, h, w]")
    check_shape(op, "row", row, (None,), "[n]")
    check_shape(op, "col", col, (row.shape[0],), "[n]")
    check_shape(op, "base_prob", base_prob, (row.shape[0],), "[n]")
    check_shape(op, "is_base", is_base, (None,), "[C]")
    classes = is_base.shape[0]
    check_shape(op, "class_logits", class_logits, (mask_logits.shape[0], classes + 1), "[Q, C + 1]")
    check_float(op, mask_logits=mask_logits, base_prob=base_prob, class_logits=class_logits)
    check_integer(op, row=row, col=col)
    check_bool(op, is_base=is_base)
    check_device(op, mask_logits=mask_logits, row=row, col=col, base_prob=base_prob)
    check_device(op, mask_logits=mask_logits, class_logits=class_logits, is_base=is_base)
    height, width = (int(extent) for extent in mask_shape)
    return MaskAssignment(
        *_assign_masks(
            mask_logits,
            height,
            width,
            row,
            col,
            base_prob,
            class_logits,
            is_base,
            float(binary_threshold),
        )
    )


def _assign_masks_cpu(
    mask_logits: torch.Tensor,
    height: int,
    width: int,
    row: torch.Tensor,
    col: torch.Tensor,
    base_prob: torch.Tensor,
    class_logits: torch.Tensor,
    is_base: torch.Tensor,
    binary_threshold: float,
) -> tuple[torch.Tensor, ...]:
    return assign_masks_reference(
        mask_logits, (height, width), row, col, base_prob, class_logits, is_base, binary_threshold
    )


def _assign_masks_triton(
    mask_logits: torch.Tensor,
    height: int,
    width: int,
    row: torch.Tensor,
    col: torch.Tensor,
    base_prob: torch.Tensor,
    class_logits: torch.Tensor,
    is_base: torch.Tensor,
    binary_threshold: float,
) -> tuple[torch.Tensor, ...]:
    import triton

    from xmask3d_rt.kernels.assign_masks import kernel

    n = row.shape[0]
    queries, mask_height, mask_width = mask_logits.shape
    outputs = _assign_masks_fake(
        mask_logits, height, width, row, col, base_prob, class_logits, is_base, binary_threshold
    )
    point_query, kept, base_score, score, label, final = outputs
    if not queries:
        point_query.fill_(-1)
        return outputs
    mask_logits, row, col = mask_logits.contiguous(), row.contiguous(), col.contiguous()
    blocks = triton.cdiv(n, BLOCK_N)
    sums = mask_logits.new_empty((blocks, queries), dtype=torch.float32)
    counts = mask_logits.new_empty((blocks, queries), dtype=torch.int32)
    owner = mask_logits.new_empty((height * width,), dtype=torch.int32)
    grid = {
        "mask_height": mask_height,
        "mask_width": mask_width,
        "scale_y": mask_height / height,
        "scale_x": mask_width / width,
    }
    if blocks:
        kernel.sum_points_kernel[(blocks, triton.cdiv(queries, BLOCK_Q))](
            mask_logits_ptr=mask_logits,
            row_ptr=row,
            col_ptr=col,
            base_prob_ptr=base_prob.contiguous(),
            n=n,
            queries=queries,
            sums_ptr=sums,
            counts_ptr=counts,
            BLOCK_N=BLOCK_N,
            BLOCK_Q=BLOCK_Q,
            **grid,
        )
    kernel.score_masks_kernel[(queries,)](
        sums_ptr=sums,
        counts_ptr=counts,
        class_logits_ptr=class_logits.contiguous(),
        is_base_ptr=is_base.contiguous().view(torch.uint8),
        mixed_ptr=(is_base.any() & (~is_base).any()).view(1).view(torch.uint8),
        queries=queries,
        blocks=blocks,
        classes=is_base.shape[0],
        binary_threshold=binary_threshold,
        kept_ptr=kept.view(torch.uint8),
        base_score_ptr=base_score,
        score_ptr=score,
        label_ptr=label,
        BLOCK_G=BLOCK_G,
        BLOCK_C=BLOCK_C,
    )
    block = block_size(BLOCK_PIXELS)
    kernel.own_pixels_kernel[(triton.cdiv(height * width, block),)](
        mask_logits_ptr=mask_logits,
        score_ptr=score,
        queries=queries,
        height=height,
        width=width,
        owner_ptr=owner,
        final_ptr=final.zero_().view(torch.uint8),
        BLOCK=block,
        **grid,
    )
    if blocks:
        kernel.own_points_kernel[(triton.cdiv(n, block),)](
            owner_ptr=owner,
            row_ptr=row,
            col_ptr=col,
            n=n,
            width=width,
            point_query_ptr=point_query,
            BLOCK=block,
        )
    return outputs


def _assign_masks_fake(
    mask_logits, height, width, row, col, base_prob, class_logits, is_base, binary_threshold
):
    queries = mask_logits.shape[0]
    return (
        row.new_empty((row.shape[0],), dtype=torch.int32),
        mask_logits.new_empty((queries,), dtype=torch.bool),
        mask_logits.new_empty((queries,), dtype=torch.float32),
        mask_logits.new_empty((queries,), dtype=torch.float32),
        mask_logits.new_empty((queries,), dtype=torch.int64),
        mask_logits.new_empty((queries,), dtype=torch.bool),
    )


_assign_masks = define_op(
    "assign_masks(Tensor mask_logits, int height, int width, Tensor row, Tensor col, "
    "Tensor base_prob, Tensor class_logits, Tensor is_base, float binary_threshold) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=_assign_masks_cpu,
    triton=_assign_masks_triton,
    fake=_assign_masks_fake,
)
