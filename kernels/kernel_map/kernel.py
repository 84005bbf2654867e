"""Neighbour look-up in the voxel hash table.

neighbors[o, k] = row of the voxel at out[o] + offset[k], or -1;
offset k = i0 + K·i1 + K²·i2, (i - ⌊K/2⌋ or i) · tensor_stride along each axis.

Sources: MinkowskiEngine 0.5.4 (kernel_region), for the order of offsets; the table,
xmask3d_rt/kernels/voxelize/kernel.py.
"""

import triton
import triton.language as tl

from xmask3d_rt.kernels.voxelize.kernel import _pack, hash_slot


@triton.jit
def find_neighbors_kernel(
    coords_ptr,
    table_keys_ptr,
    table_rows_ptr,
    m,
    stride_m,
    stride_c,
    tensor_stride,
    neighbors_ptr,
    KERNEL_SIZE: tl.constexpr,
    AXIS_BITS: tl.constexpr,
    LOG_CAPACITY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One lane per (output voxel, offset), offsets fastest, so that stores are contiguous."""
    OFFSETS: tl.constexpr = KERNEL_SIZE * KERNEL_SIZE * KERNEL_SIZE
    FIRST: tl.constexpr = -(KERNEL_SIZE // 2) if KERNEL_SIZE % 2 == 1 else 0
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs // OFFSETS < m
    k = (offs % OFFSETS).to(tl.int32)
    row = coords_ptr + offs // OFFSETS * stride_m
    # [BLOCK]
    b = tl.load(row, mask=mask, other=0).to(tl.int64)
    x = tl.load(row + stride_c, mask=mask, other=0).to(tl.int64)
    y = tl.load(row + 2 * stride_c, mask=mask, other=0).to(tl.int64)
    z = tl.load(row + 3 * stride_c, mask=mask, other=0).to(tl.int64)
    x += (k % KERNEL_SIZE + FIRST) * tensor_stride
    y += (k // KERNEL_SIZE % KERNEL_SIZE + FIRST) * tensor_stride
    z += (k // (KERNEL_SIZE * KERNEL_SIZE) + FIRST) * tensor_stride
    key = _pack(b, x, y, z, AXIS_BITS)
    slot = hash_slot(key, LOG_CAPACITY)
    found = tl.full([BLOCK], -1, tl.int32)
    active = mask
    while tl.max(active.to(tl.int32), 0) > 0:
        # [BLOCK]
        seen = tl.load(table_keys_ptr + slot, mask=active, other=-1)
        hit = active & (seen == key)
        found = tl.where(hit, tl.load(table_rows_ptr + slot, mask=hit, other=-1), found)
        active = active & (seen != -1) & (seen != key)
        slot = (slot + 1) & ((1 << LOG_CAPACITY) - 1)
    tl.store(neighbors_ptr + offs, found, mask=mask)


@triton.jit
def row_masks_kernel(
    neighbors_ptr,
    m,
    masks_ptr,
    OFFSETS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """masks[o] = Σ_k [neighbors[o, k] >= 0] · 2^k, for at most 62 offsets."""
    offs_m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_k = tl.arange(0, BLOCK_K)
    mask = (offs_m < m)[:, None] & (offs_k < OFFSETS)[None, :]
    # [BLOCK_M, BLOCK_K]
    near = tl.load(neighbors_ptr + offs_m[:, None] * OFFSETS + offs_k[None, :], mask=mask, other=-1)
    bits = (near >= 0).to(tl.int64) << offs_k.to(tl.int64)[None, :]
    tl.store(masks_ptr + offs_m, tl.sum(bits, axis=1), mask=offs_m < m)


@triton.jit
def columns_kernel(
    neighbors_ptr,
    order_ptr,
    m,
    columns_ptr,
    OFFSETS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """columns[k, o] = neighbors[order[o], k]."""
    offs_m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_k = tl.arange(0, BLOCK_K)
    mask_m = offs_m < m
    mask = mask_m[:, None] & (offs_k < OFFSETS)[None, :]
    # [BLOCK_M]
    row = tl.load(order_ptr + offs_m, mask=mask_m, other=0)
    # [BLOCK_M, BLOCK_K]
    near = tl.load(neighbors_ptr + row[:, None] * OFFSETS + offs_k[None, :], mask=mask, other=-1)
    tl.store(columns_ptr + offs_k.to(tl.int64)[None, :] * m + offs_m[:, None], near, mask=mask)
