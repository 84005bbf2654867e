"""Voting: one addition per head and visible point, and the winning class of each scene point.

counts[h, p, label[h]] += 1, score_sums[p, label[0]] += score, coverage[p] += 1 for each visible
p; a point occurs once in a view, so the additions need no atomics and their result no order.

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
    points,
    classes,
    counts_ptr,
    score_sums_ptr,
    coverage_ptr,
    BLOCK: tl.constexpr,
):
    """Add the votes of one view, a head per program; entries of indices below 0 are padding."""
    head = tl.program_id(1).to(tl.int64)
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    # [BLOCK]
    point = tl.load(indices_ptr + offs, mask=offs < n, other=-1).to(tl.int64)
    mask = point >= 0
    label = tl.load(labels_ptr + head * n + offs, mask=mask, other=0).to(tl.int64)
    place = counts_ptr + (head * points + point) * classes + label
    tl.store(place, tl.load(place, mask=mask, other=0) + 1, mask=mask)
    if head == 0:
        total = score_sums_ptr + point * classes + label
        score = tl.load(scores_ptr + offs, mask=mask, other=0.0).to(tl.float32)
        tl.store(total, tl.load(total, mask=mask, other=0.0) + score, mask=mask)
        seen = tl.load(coverage_ptr + point, mask=mask, other=0)
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
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Winning class of the nearest seen point by each head, and head 0's score over all views."""
    head = tl.program_id(1).to(tl.int64)
    offs = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = offs < n
    # [BLOCK_N]
    point = tl.load(nearest_ptr + offs, mask=mask, other=0).to(tl.int64)
    row = counts_ptr + (head * n + point) * classes
    best = tl.full([BLOCK_N], -1, dtype=tl.int32)
    label = tl.zeros([BLOCK_N], dtype=tl.int32)
    for start in range(0, classes, BLOCK_C):
        offs_c = start + tl.arange(0, BLOCK_C)
        # [BLOCK_N, BLOCK_C]
        count = tl.load(
            row[:, None] + offs_c[None, :],
            mask=mask[:, None] & (offs_c < classes)[None, :],
            other=-1,
        )
        top = tl.max(count, 1)
        index = start + tl.argmax(count, 1, tie_break_left=True)
        label = tl.where(top > best, index, label)
        best = tl.maximum(top, best)
    tl.store(label_ptr + head * n + offs, label.to(tl.int64), mask=mask)
    if head == 0:
        won = tl.load(score_sums_ptr + point * classes + label, mask=mask, other=0.0)
        seen = tl.load(coverage_ptr + point, mask=mask, other=1)
        tl.store(score_ptr + offs, won / tl.maximum(seen, 1).to(tl.float32), mask=mask)
