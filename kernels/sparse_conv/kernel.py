"""Implicit-GEMM sparse convolution, forward and weight gradient.

out[o] = act(Σ_k [in1, in2][neighbors[o, k]] @ W[k] + bias + residual[o]);
dW[k] = Σ_l in[in_maps[l]]ᵀ @ grad[out_maps[l]] over the entries l of offset k.

Sources: implicit GEMM with sorted row masks, Yan Yan, spconv 2 (docs/spconv2_algo.pdf), and
TorchSparse++ (Tang et al., MICRO 2023), section 3. The gradient of the inputs is the forward
kernel on the swapped map with transposed weights.
"""

import triton
import triton.language as tl

GROUP = tl.constexpr(32)  # offsets whose occupancy fits one bit mask


@triton.jit
def _lowest_bit(bits):
    """Position of the lowest set bit of a scalar int64 > 0: the exponent of a power of two."""
    power = (bits & -bits).to(tl.float32)
    return (power.to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def _multiply(a, b, acc, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    if UPCAST:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def _or(a, b):
    return a | b


@triton.jit
def _accumulate_source(
    acc,
    bits,
    count,
    first_k,
    feats_ptr,
    channels,
    weight_ptr,
    columns_ptr,
    m_out,
    stride_wk,
    stride_wc,
    stride_wn,
    offs_m,
    mask_m,
    offs_n,
    mask_n,
    HAS_MAP: tl.constexpr,
    EVEN_C: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """acc += Σ over the occupied offsets of a group of in[columns[k, rows]] @ W[k].

    One loop over (offset, channel block) pairs, so that loads of the next pair overlap with
    the product of this one; the offset is the lowest set bit that is left.
    """
    blocks = tl.cdiv(channels, BLOCK_C)
    for step in range(count * blocks):
        block = step % blocks
        k = (first_k + _lowest_bit(bits)).to(tl.int64)
        bits = tl.where(block == blocks - 1, bits & (bits - 1), bits)
        if HAS_MAP:
            # [BLOCK_M]
            source = tl.load(columns_ptr + k * m_out + offs_m, mask=mask_m, other=-1)
        else:
            source = tl.where(mask_m, offs_m, -1)
        offs_c = block * BLOCK_C + tl.arange(0, BLOCK_C)
        mask_a = (source >= 0)[:, None]
        mask_b = mask_n[None, :]
        if not EVEN_C:
            mask_a = mask_a & (offs_c < channels)[None, :]
            mask_b = mask_b & (offs_c < channels)[:, None]
        # [BLOCK_M, BLOCK_C]
        a_ptr = feats_ptr + source.to(tl.int64)[:, None] * channels + offs_c[None, :]
        a = tl.load(a_ptr, mask=mask_a, other=0.0)
        # [BLOCK_C, BLOCK_N]
        b_ptr = weight_ptr + k * stride_wk
        b_ptr = b_ptr + offs_c[:, None] * stride_wc + offs_n[None, :] * stride_wn
        b = tl.load(b_ptr, mask=mask_b, other=0.0)
        acc = _multiply(a, b, acc, PRECISION, UPCAST)
    return acc


@triton.jit
def _write_tile(
    acc,
    bias_ptr,
    residual_ptr,
    rows,
    mask_m,
    offs_n,
    mask_n,
    out_channels,
    out_ptr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
):
    mask = mask_m[:, None] & mask_n[None, :]
    offs_out = rows[:, None] * out_channels + offs_n[None, :]
    if HAS_BIAS:
        # [BLOCK_N]
        acc += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]
    if HAS_RESIDUAL:
        # [BLOCK_M, BLOCK_N]
        acc += tl.load(residual_ptr + offs_out, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        acc = tl.maximum(acc, 0.0)
    tl.store(out_ptr + offs_out, acc.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def sparse_conv_kernel(
    feats_ptr,
    skip_ptr,
    weight_ptr,
    columns_ptr,
    row_order_ptr,
    row_masks_ptr,
    bias_ptr,
    residual_ptr,
    m_out,
    feats_channels,
    skip_channels,
    out_channels,
    kernel_volume,
    stride_wk,
    stride_wc,
    stride_wn,
    out_ptr,
    HAS_MAP: tl.constexpr,
    SORTED: tl.constexpr,
    HAS_SKIP: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    EVEN_C: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """One tile of BLOCK_M rows (in row order) and BLOCK_N channels of the output."""
    tiles_n = tl.cdiv(out_channels, BLOCK_N)
    pid_m = tl.program_id(0) // tiles_n
    pid_n = tl.program_id(0) % tiles_n
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m = offs_m < m_out
    mask_n = offs_n < out_channels
    acc = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for first_k in range(0, kernel_volume, GROUP):
        bits = tl.full([], -1, tl.int64)
        count = tl.minimum(kernel_volume - first_k, GROUP)
        if SORTED:
            # [BLOCK_M]
            masks = tl.load(row_masks_ptr + offs_m, mask=mask_m, other=0) >> first_k
            bits = tl.reduce(masks, 0, _or) & 0xFFFFFFFF
            count = tl.sum((bits >> tl.arange(0, GROUP).to(tl.int64)) & 1, axis=0).to(tl.int32)
        acc = _accumulate_source(
            acc, bits, count, first_k, feats_ptr, feats_channels, weight_ptr, columns_ptr,
            m_out, stride_wk, stride_wc, stride_wn, offs_m, mask_m, offs_n, mask_n,
            HAS_MAP, EVEN_C, PRECISION, UPCAST, BLOCK_C,
        )  # fmt: skip
        if HAS_SKIP:
            acc = _accumulate_source(
                acc, bits, count, first_k, skip_ptr, skip_channels,
                weight_ptr + feats_channels * stride_wc, columns_ptr,
                m_out, stride_wk, stride_wc, stride_wn, offs_m, mask_m, offs_n, mask_n,
                HAS_MAP, EVEN_C, PRECISION, UPCAST, BLOCK_C,
            )  # fmt: skip
    rows = offs_m.to(tl.int64)
    if SORTED:
        # [BLOCK_M]
        rows = tl.load(row_order_ptr + offs_m, mask=mask_m, other=0).to(tl.int64)
    _write_tile(
        acc, bias_ptr, residual_ptr, rows, mask_m, offs_n, mask_n, out_channels, out_ptr,
        HAS_BIAS, HAS_RESIDUAL, RELU,
    )  # fmt: skip


@triton.jit
def sparse_conv_thin_kernel(
    feats_ptr,
    weight_ptr,
    neighbors_ptr,
    bias_ptr,
    residual_ptr,
    m_out,
    out_channels,
    kernel_volume,
    stride_wk,
    stride_wc,
    stride_wn,
    out_ptr,
    CHANNELS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """The same for few input channels: (offset, channel) pairs form one reduction axis.

    A 5³ kernel on 3 channels reduces over 375 pairs in 12 blocks of 32, where one product per
    offset would pad 125 times 3 channels to 16.
    """
    tiles_n = tl.cdiv(out_channels, BLOCK_N)
    pid_m = tl.program_id(0) // tiles_n
    pid_n = tl.program_id(0) % tiles_n
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m = offs_m < m_out
    mask_n = offs_n < out_channels
    rows = offs_m.to(tl.int64)
    acc = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for start in range(0, kernel_volume * CHANNELS, BLOCK_R):
        offs_r = start + tl.arange(0, BLOCK_R)
        k = offs_r // CHANNELS
        c = offs_r % CHANNELS
        mask_r = k < kernel_volume
        # [BLOCK_M, BLOCK_R]
        near_ptr = neighbors_ptr + rows[:, None] * kernel_volume + k[None, :]
        source = tl.load(near_ptr, mask=mask_m[:, None] & mask_r[None, :], other=-1)
        a_ptr = feats_ptr + source.to(tl.int64) * CHANNELS + c[None, :]
        a = tl.load(a_ptr, mask=source >= 0, other=0.0)
        # [BLOCK_R, BLOCK_N]
        b_ptr = weight_ptr + k.to(tl.int64)[:, None] * stride_wk + c[:, None] * stride_wc
        b_ptr = b_ptr + offs_n[None, :] * stride_wn
        b = tl.load(b_ptr, mask=mask_r[:, None] & mask_n[None, :], other=0.0)
        acc = _multiply(a, b, acc, PRECISION, UPCAST)
    _write_tile(
        acc, bias_ptr, residual_ptr, rows, mask_m, offs_n, mask_n, out_channels, out_ptr,
        HAS_BIAS, HAS_RESIDUAL, RELU,
    )  # fmt: skip


@triton.jit
def sparse_conv_wgrad_kernel(
    feats_ptr,
    grad_ptr,
    in_maps_ptr,
    out_maps_ptr,
    offsets_ptr,
    in_channels,
    out_channels,
    kernel_volume,
    splits,
    partial_ptr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """partial[s, k] = gradient of W[k] over the s-th of `splits` equal parts of its entries."""
    k = tl.program_id(0) % kernel_volume
    split = tl.program_id(0) // kernel_volume
    offs_c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    offs_n = tl.program_id(2) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_c = offs_c < in_channels
    mask_n = offs_n < out_channels
    first = tl.load(offsets_ptr + k)
    last = tl.load(offsets_ptr + k + 1)
    share = tl.cdiv(last - first, splits)
    start = first + share * split
    end = tl.minimum(start + share, last)
    acc = tl.zeros([BLOCK_C, BLOCK_N], dtype=tl.float32)
    for entry in range(start, end, BLOCK_L):
        offs_l = entry + tl.arange(0, BLOCK_L)
        mask_l = offs_l < end
        # [BLOCK_L]
        in_row = tl.load(in_maps_ptr + offs_l, mask=mask_l, other=0).to(tl.int64)
        out_row = tl.load(out_maps_ptr + offs_l, mask=mask_l, other=0).to(tl.int64)
        # [BLOCK_C, BLOCK_L]
        a_ptr = feats_ptr + in_row[None, :] * in_channels + offs_c[:, None]
        a = tl.load(a_ptr, mask=mask_c[:, None] & mask_l[None, :], other=0.0)
        # [BLOCK_L, BLOCK_N]
        b_ptr = grad_ptr + out_row[:, None] * out_channels + offs_n[None, :]
        b = tl.load(b_ptr, mask=mask_l[:, None] & mask_n[None, :], other=0.0)
        acc = _multiply(a, b, acc, PRECISION, UPCAST)
    row = (split * kernel_volume + k).to(tl.int64) * in_channels + offs_c
    mask = mask_c[:, None] & mask_n[None, :]
    tl.store(partial_ptr + row[:, None] * out_channels + offs_n[None, :], acc, mask=mask)
