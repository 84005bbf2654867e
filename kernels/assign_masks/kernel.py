"""Mask-to-point assignment in four passes that never write the resized masks.

    logit(q, v, u)  = bilinear(mask_logits[q]) at the centre of pixel (v, u)
    base_score[q]   = mean of P(base) over the points whose pixel has logit(q) > 0
    score[q]        = largest softmax probability over the classes the mask may take
    owner(v, u)     = first q with the largest score[q] * sigmoid(logit(q)), if logit(q) >= 0

Sources: XMask3D.forward, evaluation branch (models/xmask3d.py); the source coordinate of
torch.nn.functional.interpolate(mode="bilinear", align_corners=False).
"""

import triton
import triton.language as tl

BLOCKED = tl.constexpr(-1e30)  # logit of a class the gate excludes


@triton.jit
def _taps(target, scale, size):
    """The two source positions of a target position and the weight of the second."""
    source = tl.maximum((target.to(tl.float32) + 0.5) * scale - 0.5, 0.0)
    low = tl.minimum(source.to(tl.int32), size - 1)
    high = tl.minimum(low + 1, size - 1)
    return low, high, source - low.to(tl.float32)


@triton.jit
def _bilinear(image_ptr, y0, y1, wy, x0, x1, wx, width, mask):
    """Weighted mean of the four neighbours, in the order of torch's interpolation."""
    top_left = tl.load(image_ptr + y0 * width + x0, mask=mask, other=0.0).to(tl.float32)
    top_right = tl.load(image_ptr + y0 * width + x1, mask=mask, other=0.0).to(tl.float32)
    low_left = tl.load(image_ptr + y1 * width + x0, mask=mask, other=0.0).to(tl.float32)
    low_right = tl.load(image_ptr + y1 * width + x1, mask=mask, other=0.0).to(tl.float32)
    top = (1 - wx) * top_left + wx * top_right
    low = (1 - wx) * low_left + wx * low_right
    return (1 - wy) * top + wy * low


@triton.jit
def sum_points_kernel(
    mask_logits_ptr,
    row_ptr,
    col_ptr,
    base_prob_ptr,
    n,
    queries,
    mask_height,
    mask_width,
    scale_y,
    scale_x,
    sums_ptr,
    counts_ptr,
    BLOCK_N: tl.constexpr,
    BLOCK_Q: tl.constexpr,
):
    """Points inside each mask and their P(base), summed over one block of points."""
    pid_n = tl.program_id(0)
    offs_n = pid_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_q = tl.program_id(1) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    mask_n = offs_n < n
    mask_q = offs_q < queries
    # [BLOCK_N]
    row = tl.load(row_ptr + offs_n, mask=mask_n, other=0)
    col = tl.load(col_ptr + offs_n, mask=mask_n, other=0)
    prob = tl.load(base_prob_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)
    y0, y1, wy = _taps(row, scale_y, mask_height)
    x0, x1, wx = _taps(col, scale_x, mask_width)
    images = mask_logits_ptr + offs_q.to(tl.int64)[None, :] * mask_height * mask_width
    mask = mask_n[:, None] & mask_q[None, :]
    # [BLOCK_N, BLOCK_Q]
    logit = _bilinear(
        images,
        y0[:, None],
        y1[:, None],
        wy[:, None],
        x0[:, None],
        x1[:, None],
        wx[:, None],
        mask_width,
        mask,
    )
    inside = mask & (logit > 0)
    total = tl.sum(tl.where(inside, prob[:, None], 0.0), 0)
    place = pid_n.to(tl.int64) * queries + offs_q
    tl.store(sums_ptr + place, total, mask=mask_q)
    tl.store(counts_ptr + place, tl.sum(inside.to(tl.int32), 0), mask=mask_q)


@triton.jit
def score_masks_kernel(
    sums_ptr,
    counts_ptr,
    class_logits_ptr,
    is_base_ptr,
    mixed_ptr,
    queries,
    blocks,
    classes,
    binary_threshold,
    kept_ptr,
    base_score_ptr,
    score_ptr,
    label_ptr,
    BLOCK_G: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Base score, gated class score and label of one query; score 0 where it is not kept."""
    query = tl.program_id(0).to(tl.int64)
    counts = tl.zeros([BLOCK_G], dtype=tl.int32)
    totals = tl.zeros([BLOCK_G], dtype=tl.float32)
    for start in range(0, blocks, BLOCK_G):
        offs_g = start + tl.arange(0, BLOCK_G)
        place = offs_g * queries + query
        # [BLOCK_G]
        counts += tl.load(counts_ptr + place, mask=offs_g < blocks, other=0)
        totals += tl.load(sums_ptr + place, mask=offs_g < blocks, other=0.0)
    count = tl.sum(counts, 0)
    total = tl.sum(totals, 0)
    kept = count > 0
    base_score = total / (count.to(tl.float32) + 1e-10)
    side = (base_score > binary_threshold).to(tl.int32)
    mixed = tl.load(mixed_ptr) != 0
    best = BLOCKED * 2.0
    mass = 0.0
    label = 0
    for start in range(0, classes + 1, BLOCK_C):
        offs_c = start + tl.arange(0, BLOCK_C)
        # [BLOCK_C]; "no object", the class after the last, counts as base
        is_base = tl.load(is_base_ptr + offs_c, mask=offs_c < classes, other=1).to(tl.int32)
        logit = tl.load(
            class_logits_ptr + query * (classes + 1) + offs_c, mask=offs_c <= classes, other=0.0
        ).to(tl.float32)
        logit = tl.where(mixed & (is_base != side), BLOCKED, logit)
        logit = tl.where(offs_c <= classes, logit, BLOCKED * 2.0)
        top = tl.max(logit, 0)
        index = start + tl.argmax(logit, 0, tie_break_left=True)
        label = tl.where(top > best, index, label)
        highest = tl.maximum(top, best)
        mass = mass * tl.exp(best - highest) + tl.sum(tl.exp(logit - highest), 0)
        best = highest
    score = tl.where(kept, 1.0 / mass, 0.0)
    tl.store(kept_ptr + query, kept.to(tl.uint8))
    tl.store(base_score_ptr + query, base_score)
    tl.store(score_ptr + query, score)
    tl.store(label_ptr + query, tl.where(kept, label, -1).to(tl.int64))


@triton.jit
def own_pixels_kernel(
    mask_logits_ptr,
    score_ptr,
    queries,
    mask_height,
    mask_width,
    height,
    width,
    scale_y,
    scale_x,
    owner_ptr,
    final_ptr,
    BLOCK: tl.constexpr,
):
    """Owner of each pixel, -1 for none; final[q] = 1 for every owner (all write the same 1)."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < height * width
    y0, y1, wy = _taps(offs // width, scale_y, mask_height)
    x0, x1, wx = _taps(offs % width, scale_x, mask_width)
    best = tl.zeros([BLOCK], dtype=tl.float32)
    best_logit = tl.full([BLOCK], -1.0, dtype=tl.float32)
    owner = tl.full([BLOCK], -1, dtype=tl.int32)
    for query in range(queries):
        # [BLOCK]
        logit = _bilinear(mask_logits_ptr, y0, y1, wy, x0, x1, wx, mask_width, mask)
        mask_logits_ptr += mask_height * mask_width
        claim = tl.load(score_ptr + query) * tl.sigmoid(logit)
        better = claim > best
        best = tl.where(better, claim, best)
        best_logit = tl.where(better, logit, best_logit)
        owner = tl.where(better, query, owner)
    owned = mask & (best_logit >= 0)
    tl.store(owner_ptr + offs, tl.where(owned, owner, -1), mask=mask)
    tl.store(final_ptr + owner, tl.full([BLOCK], 1, tl.uint8), mask=owned)


@triton.jit
def own_points_kernel(
    owner_ptr,
    row_ptr,
    col_ptr,
    n,
    width,
    point_query_ptr,
    BLOCK: tl.constexpr,
):
    """Owner of the pixel of each point."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    # [BLOCK]
    row = tl.load(row_ptr + offs, mask=mask, other=0).to(tl.int64)
    col = tl.load(col_ptr + offs, mask=mask, other=0)
    owner = tl.load(owner_ptr + row * width + col, mask=mask, other=-1)
    tl.store(point_query_ptr + offs, owner, mask=mask)
