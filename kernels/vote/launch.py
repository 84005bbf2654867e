"""Launchers of the voting kernels."""

import torch
import triton
from torch import Tensor

from xmask3d_rt.kernels.dispatch import block_size
from xmask3d_rt.kernels.vote import kernel

BLOCK = 512


def launch_vote(
    counts: Tensor,
    score_sums: Tensor,
    coverage: Tensor,
    indices: Tensor,
    labels: Tensor,
    scores: Tensor,
) -> None:
    """See `vote_reference`."""
    n, (heads, points, classes) = indices.shape[0], counts.shape
    if n:
        block = block_size(BLOCK)
        kernel.vote_kernel[(triton.cdiv(n, block), heads)](
            indices_ptr=indices.contiguous(),
            labels_ptr=labels.contiguous(),
            scores_ptr=scores.contiguous(),
            n=n,
            points=points,
            classes=classes,
            counts_ptr=counts,
            score_sums_ptr=score_sums,
            coverage_ptr=coverage,
            BLOCK=block,
        )


def launch_finish_votes(
    counts: Tensor, score_sums: Tensor, coverage: Tensor, nearest: Tensor
) -> tuple[Tensor, Tensor]:
    """See `finish_votes_reference`."""
    heads, n, classes = counts.shape
    label = torch.empty(heads, n, dtype=torch.int64, device=counts.device)
    score = torch.empty(n, dtype=torch.float32, device=counts.device)
    if n:
        block_n, block_c = finish_blocks(classes)
        block_n = block_size(block_n)
        kernel.finish_votes_kernel[(triton.cdiv(n, block_n), heads)](
            counts_ptr=counts,
            score_sums_ptr=score_sums,
            coverage_ptr=coverage,
            nearest_ptr=nearest.contiguous(),
            n=n,
            classes=classes,
            label_ptr=label,
            score_ptr=score,
            BLOCK_N=block_n,
            BLOCK_C=block_c,
        )
    return label, score


def finish_blocks(classes: int) -> tuple[int, int]:
    """Points and classes of one tile of the arg-max: 1,024 counts in all."""
    block_c = min(64, 1 << (classes - 1).bit_length())
    return 1024 // block_c, block_c
