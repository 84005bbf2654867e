"""assign_masks: which mask query owns each visible point."""

import torch

from xmask3d_rt.kernels.assign_masks.reference import (
    MaskAssignment,
    assign_masks_reference,
    make_outputs,
)
from xmask3d_rt.kernels.checks import (
    check_bool,
    check_device,
    check_float,
    check_integer,
    check_shape,
)
from xmask3d_rt.kernels.dispatch import Operator


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
    return _assign_masks(
        mask_logits,
        (height, width),
        row,
        col,
        base_prob,
        class_logits,
        is_base,
        float(binary_threshold),
    )


_assign_masks = Operator("assign_masks", assign_masks_reference, make_outputs)
