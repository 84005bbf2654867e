"""Hard mask pooling as a split matrix product that never writes the masks.

pooled[b, q, c] = sum_l [logit[b, q, l] > 0] * feature[b, l, c] / (count[b, q] + 1e-8)

A mask entry is exactly 0 or 1 in every float format, so float32 features need two tf32 products
for float32 accuracy, where two rounded factors would need three. The places l are split over
programs; their float32 partial sums are added in a fixed order, so the result does not depend
on scheduling.

Source: ODISE, MaskPooling (odise/modeling/meta_arch/odise.py).
"""

import triton
import triton.language as tl


@triton.jit
def partial_pool_kernel(
    features_ptr,
    mask_logits_ptr,
    places,
    channels,
    queries,
    stride_fb,
    stride_fl,
    stride_fc,
    stride_mb,
    stride_mq,
    stride_ml,
    steps_per_split,
    sums_ptr,
    counts_ptr,
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """sums [S, B, Q, C] and counts [S, B, Q] of one split of the places."""
    pid_s = tl.program_id(0)
    c_blocks = tl.cdiv(channels, BLOCK_C)
    pid_q = tl.program_id(1) // c_blocks
    pid_c = tl.program_id(1) % c_blocks
    b_batch = tl.program_id(2).to(tl.int64)
    offs_q = pid_q * BLOCK_Q + tl.arange(0, BLOCK_Q)
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    offs_l = tl.arange(0, BLOCK_L)
    mask_q = offs_q < queries
    mask_c = offs_c < channels
    start = pid_s.to(tl.int64) * steps_per_split * BLOCK_L
    features_ptr += b_batch * stride_fb + start * stride_fl
    mask_logits_ptr += b_batch * stride_mb + start * stride_ml
    left = (places - start).to(tl.int32)
    feature_place = offs_l[:, None] * stride_fl + offs_c[None, :] * stride_fc
    logit_place = offs_q[:, None] * stride_mq + offs_l[None, :] * stride_ml
    total = tl.zeros([BLOCK_Q, BLOCK_C], dtype=tl.float32)
    count = tl.zeros([BLOCK_Q], dtype=tl.int32)
    for _ in range(steps_per_split):
        mask_l = offs_l < left
        # [BLOCK_Q, BLOCK_L]
        logits = tl.load(
            mask_logits_ptr + logit_place, mask=mask_q[:, None] & mask_l[None, :], other=0.0
        )
        # [BLOCK_L, BLOCK_C]
        feature = tl.load(
            features_ptr + feature_place, mask=mask_l[:, None] & mask_c[None, :], other=0.0
        )
        inside = logits > 0
        if UPCAST:
            feature = feature.to(tl.float32)
        if feature.dtype == tl.float32:
            # the part that tf32 holds, rounded, and the exact rest
            bits = feature.to(tl.int32, bitcast=True)
            high = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
            weight = inside.to(tl.float32)
            total = tl.dot(weight, high, total, input_precision="tf32")
            total = tl.dot(weight, feature - high, total, input_precision="tf32")
        else:
            total = tl.dot(inside.to(feature.dtype), feature, total)
        count += tl.sum(inside.to(tl.int32), 1)
        features_ptr += BLOCK_L * stride_fl
        mask_logits_ptr += BLOCK_L * stride_ml
        left -= BLOCK_L
    row = (pid_s * tl.num_programs(2) + b_batch) * queries + offs_q
    tl.store(
        sums_ptr + row[:, None] * channels + offs_c[None, :],
        total,
        mask=mask_q[:, None] & mask_c[None, :],
    )
    tl.store(counts_ptr + row, count, mask=mask_q & (pid_c == 0))


@triton.jit
def finish_pool_kernel(
    sums_ptr,
    counts_ptr,
    splits,
    rows,
    channels,
    pooled_ptr,
    BLOCK_C: tl.constexpr,
):
    """Mean of one mask over all splits, in the order of the splits."""
    row = tl.program_id(0).to(tl.int64)
    offs_c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    mask_c = offs_c < channels
    total = tl.zeros([BLOCK_C], dtype=tl.float32)
    count = tl.zeros([BLOCK_C], dtype=tl.int32)
    for split in range(splits):
        place = split * rows + row
        # [BLOCK_C]
        total += tl.load(sums_ptr + place * channels + offs_c, mask=mask_c, other=0.0)
        count += tl.load(counts_ptr + place)
    mean = total / (count.to(tl.float32) + 1e-8)
    tl.store(
        pooled_ptr + row * channels + offs_c, mean.to(pooled_ptr.dtype.element_ty), mask=mask_c
    )
