"""Voting: one addition per visible point, and the winning class of each scene point.

counts[p, label] += 1, score_sums[p, label] += score (where scores are kept), coverage[p] += 1 for
each visible p; a point occurs once in a view, so the additions need no atomics and their result
no order.

Source: run/infer.py of XMask3D; arg-max over votes, ties to the lowest class.
"""

import triton
import triton.language as tl


@triton.jit
def vote_kernel(
    indices_ptr,
    labels_ptr,
    scores_ptr,
    n,
    classes,
    counts_ptr,
    score_sums_ptr,
    coverage_ptr,
    SCORED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add the votes of one view; entries of indices below 0 are padding."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    # [BLOCK]
    point = tl.load(indices_ptr + offs, mask=offs < n, other=-1).to(tl.int64)
    mask = point >= 0
    label = tl.load(labels_ptr + offs, mask=mask, other=0).to(tl.int64)
    place = point * classes + label
    count = tl.load(counts_ptr + place, mask=mask, other=0)
    seen = tl.load(coverage_ptr + point, mask=mask, other=0)
    if SCORED:
        score = tl.load(scores_ptr + offs, mask=mask, other=0.0).to(tl.float32)
        total = tl.load(score_sums_ptr + place, mask=mask, other=0.0)
        tl.store(score_sums_ptr + place, total + score, mask=mask)
    tl.store(counts_ptr + place, (count + 1).to(tl.int16), mask=mask)
    tl.store(coverage_ptr + point, seen + 1, mask=mask)


@triton.jit
def finish_votes_kernel(
    counts_ptr,
    score_sums_ptr,
    coverage_ptr,
    nearest_ptr,
    n,
    classes,
    label_ptr,
    score_ptr,
    SCORED: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Winning class of the nearest seen point, and its score over the views that saw it."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = offs < n
    # [BLOCK_N]
    point = tl.load(nearest_ptr + offs, mask=mask, other=0).to(tl.int64)
    best = tl.full([BLOCK_N], -1, dtype=tl.int32)
    label = tl.zeros([BLOCK_N], dtype=tl.int32)
    for start in range(0, classes, BLOCK_C):
        offs_c = start + tl.arange(0, BLOCK_C)
        # [BLOCK_N, BLOCK_C]
        count = tl.load(
            counts_ptr + point[:, None] * classes + offs_c[None, :],
            mask=mask[:, None] & (offs_c < classes)[None, :],
            other=-1,
        ).to(tl.int32)
        top = tl.max(count, 1)
        index = start + tl.argmax(count, 1, tie_break_left=True)
        label = tl.where(top > best, index, label)
        best = tl.maximum(top, best)
    tl.store(label_ptr + offs, label.to(tl.int64), mask=mask)
    score = tl.zeros([BLOCK_N], dtype=tl.float32)
    if SCORED:
        won = tl.load(score_sums_ptr + point * classes + label, mask=mask, other=0.0)
        seen = tl.load(coverage_ptr + point, mask=mask, other=1)
        score = won / tl.maximum(seen, 1).to(tl.float32)
    tl.store(score_ptr + offs, score, mask=mask)
