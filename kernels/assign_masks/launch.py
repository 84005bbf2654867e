"""Launcher of the kernels of assign_masks."""

from collections.abc import Sequence

import torch
import triton

from xmask3d_rt.kernels.assign_masks import kernel
from xmask3d_rt.kernels.assign_masks.reference import MaskAssignment, make_outputs
from xmask3d_rt.kernels.dispatch import block_size

BLOCK_N = 128
BLOCK_Q = 16
BLOCK_G = 256
BLOCK_C = 256
BLOCK_PIXELS = 256


def launch_assign_masks(
    mask_logits: torch.Tensor,
    mask_shape: Sequence[int],
    row: torch.Tensor,
    col: torch.Tensor,
    base_prob: torch.Tensor,
    class_logits: torch.Tensor,
    is_base: torch.Tensor,
    binary_threshold: float,
) -> MaskAssignment:
    """See `assign_masks_reference`."""
    height, width = mask_shape
    n = row.shape[0]
    queries, mask_height, mask_width = mask_logits.shape
    outputs = make_outputs(mask_logits, row)
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
