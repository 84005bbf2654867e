"""Point labels of the three heads, streaming over classes; see `tables` for the algebra.

For a point of voxel feature x, mask m (or none) and side g = [P(base) > threshold]:

    |raw| = |R x + r|,  |fused|^2 = |A x + a|^2 + 2 (k_m . x + k0_m) + |h_m|^2,  h_m = Wm m + b
    z_c = r s max_j fused . t_cj / |fused| + (1 - r) s max_j cos(clip_m, t_cj)   if covered
    z_c = s max_j raw . t_cj / |raw|                                             if not
    fused label = arg-max of z over the classes of side g; score = its softmax among them
    3D label = arg-max of max_j raw . t_cj over the classes of side g

The normalisers of upstream's softmaxes are equal for all classes a point may take, so they
cancel. The soft-max over class blocks is the running one of Milakov and Gimelshein,
arXiv 1805.02867.

Products are float32-accurate on tf32 units: a factor is cut into the part tf32 holds and the
rest, tables beforehand, float32 features here, and high * high + high * low + low * high summed;
half-precision features are exact in tf32 and need two products.

Sources: XMask3D.forward and run/infer.py (released code); Ootomo and Yokota, arXiv 2203.03341,
for the split products.
"""

import triton
import triton.language as tl

BLOCKED = tl.constexpr(-1e30)  # score of a class the gate excludes
TINY = tl.constexpr(1e-12)  # smallest norm that is divided by


@triton.jit
def _product(x, high_ptr, low_ptr, place, mask, total):
    """total + x @ table, [rows, BLOCK_F] by [BLOCK_F, columns]."""
    high = tl.load(high_ptr + place, mask=mask, other=0.0)
    low = tl.load(low_ptr + place, mask=mask, other=0.0)
    value = x.to(tl.float32)
    if x.dtype == tl.float32:
        bits = value.to(tl.int32, bitcast=True)
        main = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
        total = tl.dot(value - main, high, total, input_precision="tf32")
        value = main
    total = tl.dot(value, low, total, input_precision="tf32")
    return tl.dot(value, high, total, input_precision="tf32")


@triton.jit
def _square(
    x_ptr,
    stride_f,
    high_ptr,
    low_ptr,
    bias_ptr,
    feat,
    rows,
    BLOCK_M: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    """|weight x + bias|^2 of each voxel of the tile, weight upper triangular; [BLOCK_M]."""
    offs_f = tl.arange(0, BLOCK_F)
    square = tl.zeros([BLOCK_M], dtype=tl.float32)
    for start_g in range(0, rows, BLOCK_G):
        offs_g = start_g + tl.arange(0, BLOCK_G)
        mask_g = offs_g < rows
        product = tl.zeros([BLOCK_M, BLOCK_G], dtype=tl.float32)
        for start_f in range(start_g // BLOCK_F * BLOCK_F, feat, BLOCK_F):
            mask_f = offs_f < feat - start_f
            # [BLOCK_M, BLOCK_F]
            x = tl.load(
                x_ptr[:, None] + (start_f + offs_f)[None, :] * stride_f,
                mask=mask_f[None, :],
                other=0.0,
            )
            # [BLOCK_F, BLOCK_G]
            place = offs_g[None, :] * feat + (start_f + offs_f)[:, None]
            mask = mask_f[:, None] & mask_g[None, :]
            product = _product(x, high_ptr, low_ptr, place, mask, product)
        # [BLOCK_G]
        product += tl.load(bias_ptr + offs_g, mask=mask_g, other=0.0)[None, :]
        square += tl.sum(product * product, 1)
    return square


@triton.jit
def measure_voxels_kernel(
    voxel_feats_ptr,
    stride_m,
    stride_f,
    weight_ptr,
    bias_ptr,
    voxels,
    feat,
    rows,
    square_ptr,
    BLOCK_M: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    """|weight x + bias|^2 of each voxel; |x|^2 where the weight [2, rows, F] has no rows."""
    offs_m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_m < voxels
    x_ptr = voxel_feats_ptr + tl.where(mask_m, offs_m, 0) * stride_m
    if rows == 0:
        square = tl.zeros([BLOCK_M], dtype=tl.float32)
        for start_f in range(0, feat, BLOCK_F):
            offs_f = start_f + tl.arange(0, BLOCK_F)
            # [BLOCK_M, BLOCK_F]
            x = tl.load(
                x_ptr[:, None] + offs_f[None, :] * stride_f,
                mask=(offs_f < feat)[None, :],
                other=0.0,
            ).to(tl.float32)
            square += tl.sum(x * x, 1)
    else:
        square = _square(
            x_ptr,
            stride_f,
            weight_ptr,
            weight_ptr + rows * feat,
            bias_ptr,
            feat,
            rows,
            BLOCK_M,
            BLOCK_G,
            BLOCK_F,
        )
    tl.store(square_ptr + offs_m, square, mask=mask_m)


@triton.jit
def label_points_kernel(
    voxel_feats_ptr,
    stride_m,
    stride_f,
    point_to_voxel_ptr,
    point_query_ptr,
    base_prob_ptr,
    raw_square_ptr,
    fused_square_ptr,
    cross_weight_ptr,
    cross_bias_ptr,
    half_square_ptr,
    text_ptr,
    text_bias_ptr,
    half_text_ptr,
    clip_cosine_ptr,
    is_base_ptr,
    mixed_ptr,
    constants_ptr,
    n,
    feat,
    classes,
    fused_ptr,
    three_d_ptr,
    score_ptr,
    side_ptr,
    NAMES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    """Fused label, 3D label, score and side of each point."""
    offs_n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_n = offs_n < n
    # [BLOCK_N]
    voxel = tl.load(point_to_voxel_ptr + offs_n, mask=mask_n, other=0).to(tl.int64)
    query = tl.load(point_query_ptr + offs_n, mask=mask_n, other=-1).to(tl.int64)
    prob = tl.load(base_prob_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)
    covered = query >= 0
    query = tl.maximum(query, 0)
    offs_f = tl.arange(0, BLOCK_F)
    x_ptr = voxel_feats_ptr + voxel * stride_m
    mixed = tl.load(mixed_ptr) != 0
    first = tl.load(is_base_ptr).to(tl.int32)
    side = tl.where(mixed, (prob > tl.load(constants_ptr + 3)).to(tl.int32), first)

    cross = tl.zeros([BLOCK_N], dtype=tl.float32)
    for start_f in range(0, feat, BLOCK_F):
        mask_f = (offs_f < feat - start_f)[None, :]
        place_f = (start_f + offs_f)[None, :]
        # [BLOCK_N, BLOCK_F]
        x = tl.load(x_ptr[:, None] + place_f * stride_f, mask=mask_f, other=0.0).to(tl.float32)
        key_ptr = cross_weight_ptr + query * feat
        cross += tl.sum(x * tl.load(key_ptr[:, None] + place_f, mask=mask_f, other=0.0), 1)
    cross += tl.load(cross_bias_ptr + query)
    square = tl.load(fused_square_ptr + voxel) + 2 * cross + tl.load(half_square_ptr + query)
    fused_norm = tl.sqrt(tl.maximum(square, TINY * TINY))
    logit_scale = tl.load(constants_ptr)
    exponent = tl.where(side != 0, tl.load(constants_ptr + 1), tl.load(constants_ptr + 2))
    exponent = tl.where(covered, exponent, 1.0)
    raw_norm = tl.maximum(tl.sqrt(tl.load(raw_square_ptr + voxel)), TINY)
    norm = tl.where(covered, fused_norm, raw_norm)
    factor = exponent * logit_scale / norm
    clip_factor = (1 - exponent) * logit_scale

    best = tl.full([BLOCK_N], BLOCKED * 2, dtype=tl.float32)
    best_raw = tl.full([BLOCK_N], BLOCKED * 2, dtype=tl.float32)
    label = tl.zeros([BLOCK_N], dtype=tl.int32)
    label_raw = tl.zeros([BLOCK_N], dtype=tl.int32)
    mass = tl.zeros([BLOCK_N], dtype=tl.float32)
    low_ptr = text_ptr + classes * NAMES * 2 * feat
    for start_c in range(0, classes, BLOCK_C):
        offs_t = start_c * NAMES + tl.arange(0, BLOCK_C * NAMES)
        offs_r = start_c * NAMES * 2 + tl.arange(0, BLOCK_C * NAMES * 2)
        mask_r = offs_r < classes * NAMES * 2
        both = tl.zeros([BLOCK_N, BLOCK_C * NAMES * 2], dtype=tl.float32)
        for start_f in range(0, feat, BLOCK_F):
            mask_f = offs_f < feat - start_f
            # [BLOCK_N, BLOCK_F]
            x = tl.load(
                x_ptr[:, None] + (start_f + offs_f)[None, :] * stride_f,
                mask=mask_f[None, :],
                other=0.0,
            )
            # [BLOCK_F, BLOCK_C * NAMES * 2]
            place = offs_r[None, :] * feat + (start_f + offs_f)[:, None]
            mask = mask_f[:, None] & mask_r[None, :]
            both = _product(x, text_ptr, low_ptr, place, mask, both)
        both += tl.load(text_bias_ptr + offs_r, mask=mask_r, other=0.0)[None, :]
        raw, fused = tl.split(tl.reshape(both, [BLOCK_N, BLOCK_C * NAMES, 2]))
        # [BLOCK_N, BLOCK_C * NAMES]
        half_ptr = half_text_ptr + query * classes * NAMES
        mask_t = (offs_t < classes * NAMES)[None, :]
        fused += tl.load(half_ptr[:, None] + offs_t[None, :], mask=mask_t, other=0.0)
        picked = tl.where(covered[:, None], fused, raw)
        if NAMES > 1:
            picked = tl.max(tl.reshape(picked, [BLOCK_N, BLOCK_C, NAMES]), 2)
            raw = tl.max(tl.reshape(raw, [BLOCK_N, BLOCK_C, NAMES]), 2)
        offs_c = start_c + tl.arange(0, BLOCK_C)
        mask_c = offs_c < classes
        # [BLOCK_N, BLOCK_C]
        clip_ptr = clip_cosine_ptr + query * classes
        by_clip = tl.load(clip_ptr[:, None] + offs_c[None, :], mask=mask_c[None, :], other=0.0)
        # [BLOCK_C]
        is_base = tl.load(is_base_ptr + offs_c, mask=mask_c, other=0).to(tl.int32)
        closed = (is_base[None, :] != side[:, None]) | (offs_c >= classes)[None, :]
        logit = picked * factor[:, None] + by_clip * clip_factor[:, None]
        logit = tl.where(closed, BLOCKED, logit)
        raw = tl.where(closed, BLOCKED, raw)
        top = tl.max(logit, 1)
        index = start_c + tl.argmax(logit, 1, tie_break_left=True)
        label = tl.where(top > best, index, label)
        highest = tl.maximum(top, best)
        mass = mass * tl.exp(best - highest) + tl.sum(tl.exp(logit - highest[:, None]), 1)
        best = highest
        top = tl.max(raw, 1)
        index = start_c + tl.argmax(raw, 1, tie_break_left=True)
        label_raw = tl.where(top > best_raw, index, label_raw)
        best_raw = tl.maximum(top, best_raw)
    tl.store(fused_ptr + offs_n, label.to(tl.int64), mask=mask_n)
    tl.store(three_d_ptr + offs_n, label_raw.to(tl.int64), mask=mask_n)
    tl.store(score_ptr + offs_n, 1 / mass, mask=mask_n)
    tl.store(side_ptr + offs_n, side.to(tl.uint8), mask=mask_n)


@triton.jit
def label_two_d_kernel(
    nearest_ptr,
    point_query_ptr,
    side_ptr,
    mask_label_ptr,
    three_d_ptr,
    n,
    two_d_ptr,
    BLOCK: tl.constexpr,
):
    """Label of the nearest covered point's mask on the point's own side; 3D where there is none."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    # [BLOCK]
    nearest = tl.load(nearest_ptr + offs, mask=mask, other=-1)
    side = tl.load(side_ptr + offs, mask=mask, other=0).to(tl.int64)
    three_d = tl.load(three_d_ptr + offs, mask=mask, other=0)
    found = nearest >= 0
    query = tl.load(point_query_ptr + nearest, mask=found, other=0).to(tl.int64)
    by_mask = tl.load(mask_label_ptr + query * 2 + side, mask=found, other=0)
    tl.store(two_d_ptr + offs, tl.where(found, by_mask, three_d), mask=mask)
