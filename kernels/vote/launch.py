"""Launchers of the voting kernels."""

import triton
from torch import Tensor

from xmask3d_rt.kernels.dispatch import block_size
from xmask3d_rt.kernels.vote import kernel
from xmask3d_rt.kernels.vote.reference import make_outputs
from xmask3d_rt.kernels.vote.types import SceneVotes, VotedLabels

BLOCK = 512


def launch_vote(
    votes: SceneVotes,
    indices: Tensor,
    labels: Tensor,
    scores: Tensor,
) -> None:
    """See `vote_reference`."""
    n, (heads, points, classes) = indices.shape[0], votes.shape
    if n:
        block = block_size(BLOCK)
        kernel.vote_kernel[(triton.cdiv(n, block), heads)](
            indices_ptr=indices.contiguous(),
            labels_ptr=labels.contiguous(),
            scores_ptr=scores.contiguous(),
            n=n,
            points=points,
            classes=classes,
            counts_ptr=votes.counts,
            score_sums_ptr=votes.score_sums,
            coverage_ptr=votes.coverage,
            BLOCK=block,
        )


def launch_finish_votes(votes: SceneVotes, nearest: Tensor) -> VotedLabels:
    """See `finish_votes_reference`."""
    heads, n, classes = votes.shape
    voted = make_outputs(votes)
    if n:
        block_n, block_c = finish_blocks(classes)
        block_n = block_size(block_n)
        kernel.finish_votes_kernel[(triton.cdiv(n, block_n), heads)](
            counts_ptr=votes.counts,
            score_sums_ptr=votes.score_sums,
            coverage_ptr=votes.coverage,
            nearest_ptr=nearest.contiguous(),
            n=n,
            classes=classes,
            label_ptr=voted.label,
            score_ptr=voted.score,
            BLOCK_N=block_n,
            BLOCK_C=block_c,
        )
    return voted


def finish_blocks(classes: int) -> tuple[int, int]:
    """Points and classes of one tile of the arg-max: 1,024 counts in all."""
    block_c = min(64, 1 << (classes - 1).bit_length())
    return 1024 // block_c, block_c
