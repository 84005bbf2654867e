"""Hash table of packed voxel keys: insertion, compaction, numbering.

slot(key) = first s in h, h + 1, ... (mod capacity), h = key · 0x9E3779B97F4A7C15 >> (64 - log2
capacity), whose entry is key. owner[slot(key)] = min over all i with keys[i] = key of i.

Sources: multiplicative hashing, Knuth, The Art of Computer Programming 3, section 6.4; the
packing of keys, xmask3d_rt/kernels/coords.py.
"""

import triton
import triton.language as tl

STATUS_RANGE = tl.constexpr(1)  # a coordinate does not fit its key field
STATUS_BATCH = tl.constexpr(2)  # a batch index does not fit its key field
STATUS_TWICE = tl.constexpr(4)  # a key came twice


@triton.jit
def _pack(b, x, y, z, AXIS_BITS: tl.constexpr):
    bias = 1 << (AXIS_BITS - 1)
    key = (b << AXIS_BITS) + x + bias
    key = (key << AXIS_BITS) + y + bias
    return (key << AXIS_BITS) + z + bias


@triton.jit
def hash_slot(key, LOG_CAPACITY: tl.constexpr):
    """First slot to look at, [BLOCK] int32."""
    mixed = key.to(tl.uint64) * 0x9E3779B97F4A7C15
    return (mixed >> (64 - LOG_CAPACITY)).to(tl.int32)


@triton.jit
def point_keys_kernel(
    points_ptr,
    batch_ptr,
    n,
    stride_n,
    stride_c,
    keys_ptr,
    status_ptr,
    HAS_BATCH: tl.constexpr,
    INV_VOXEL: tl.constexpr,
    AXIS_BITS: tl.constexpr,
    COORD_LIMIT: tl.constexpr,
    BATCH_LIMIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """keys[i] = pack(batch[i], floor(float64(points[i]) · INV_VOXEL)); status |= what is wrong.

    The reciprocal is a constant of the model: a float argument would be rounded to float32.
    """
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    inv_voxel = tl.full([1], INV_VOXEL, tl.float64)
    row = points_ptr + offs * stride_n
    # [BLOCK]
    x = tl.floor(tl.load(row, mask=mask, other=0.0).to(tl.float64) * inv_voxel)
    y = tl.floor(tl.load(row + stride_c, mask=mask, other=0.0).to(tl.float64) * inv_voxel)
    z = tl.floor(tl.load(row + 2 * stride_c, mask=mask, other=0.0).to(tl.float64) * inv_voxel)
    # Written so that NaN fails it.
    fits = (x >= -COORD_LIMIT) & (x < COORD_LIMIT)
    fits = fits & (y >= -COORD_LIMIT) & (y < COORD_LIMIT)
    fits = fits & (z >= -COORD_LIMIT) & (z < COORD_LIMIT)
    x = tl.where(fits, x, 0.0)
    y = tl.where(fits, y, 0.0)
    z = tl.where(fits, z, 0.0)
    status = tl.where(fits, 0, STATUS_RANGE)
    b = tl.zeros([BLOCK], dtype=tl.int64)
    if HAS_BATCH:
        b = tl.load(batch_ptr + offs, mask=mask, other=0).to(tl.int64)
        batch_fits = (b >= 0) & (b < BATCH_LIMIT)
        status = status | tl.where(batch_fits, 0, STATUS_BATCH)
        b = tl.where(batch_fits, b, 0)
    key = _pack(b, x.to(tl.int64), y.to(tl.int64), z.to(tl.int64), AXIS_BITS)
    tl.store(keys_ptr + offs, key, mask=mask)
    tl.atomic_or(status_ptr + tl.zeros([BLOCK], tl.int32), status, mask=mask & (status != 0))


@triton.jit
def coord_keys_kernel(
    coords_ptr,
    m,
    stride_m,
    stride_c,
    tensor_stride,
    keys_ptr,
    status_ptr,
    AXIS_BITS: tl.constexpr,
    COORD_LIMIT: tl.constexpr,
    BATCH_LIMIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """keys[i] = pack(batch, ⌊coords[i] / stride⌋ · stride); status |= what is wrong."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < m
    row = coords_ptr + offs * stride_m
    # [BLOCK]
    b = tl.load(row, mask=mask, other=0).to(tl.int64)
    x = tl.load(row + stride_c, mask=mask, other=0).to(tl.int64)
    y = tl.load(row + 2 * stride_c, mask=mask, other=0).to(tl.int64)
    z = tl.load(row + 3 * stride_c, mask=mask, other=0).to(tl.int64)
    fits = (x >= -COORD_LIMIT) & (x < COORD_LIMIT)
    fits = fits & (y >= -COORD_LIMIT) & (y < COORD_LIMIT)
    fits = fits & (z >= -COORD_LIMIT) & (z < COORD_LIMIT)
    batch_fits = (b >= 0) & (b < BATCH_LIMIT)
    status = tl.where(fits, 0, STATUS_RANGE) | tl.where(batch_fits, 0, STATUS_BATCH)
    # Integer division truncates: shift to non-negative by a multiple of the stride first.
    bias = 1 << (AXIS_BITS - 1)
    base = (bias // tensor_stride + 1) * tensor_stride
    x = (x + base) // tensor_stride * tensor_stride - base
    y = (y + base) // tensor_stride * tensor_stride - base
    z = (z + base) // tensor_stride * tensor_stride - base
    key = _pack(b, x, y, z, AXIS_BITS)
    tl.store(keys_ptr + offs, tl.where(status == 0, key, 0), mask=mask)
    tl.atomic_or(status_ptr + tl.zeros([BLOCK], tl.int32), status, mask=mask & (status != 0))


@triton.jit
def insert_kernel(
    keys_ptr,
    n,
    table_keys_ptr,
    table_owner_ptr,
    slots_ptr,
    status_ptr,
    LOG_CAPACITY: tl.constexpr,
    UNIQUE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Insert keys; slots[i] = slot of keys[i]; owner[slot] = smallest index with that key.

    Lanes that are done repeat a comparison that cannot succeed, each at an address of its own
    (atomic_cas takes no mask): tail lanes own the BLOCK spare entries behind the table.
    """
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    # [BLOCK]
    key = tl.load(keys_ptr + offs, mask=mask, other=0)
    spare = (1 << LOG_CAPACITY) + tl.arange(0, BLOCK)
    slot = tl.where(mask, hash_slot(key, LOG_CAPACITY), spare)
    empty = tl.full([BLOCK], -1, tl.int64)
    active = mask
    while tl.max(active.to(tl.int32), 0) > 0:
        expected = tl.where(active, empty, empty - 1)
        seen = tl.atomic_cas(table_keys_ptr + slot, expected, key, sem="relaxed")
        active = active & (seen != empty) & (seen != key)
        slot = tl.where(active, (slot + 1) & ((1 << LOG_CAPACITY) - 1), slot)
    before = tl.atomic_min(table_owner_ptr + slot, offs, mask=mask, sem="relaxed")
    if UNIQUE:
        twice = mask & (before != 0x7FFFFFFF)
        tl.atomic_or(status_ptr + tl.zeros([BLOCK], tl.int32), STATUS_TWICE, mask=twice)
    else:
        tl.store(slots_ptr + offs, slot, mask=mask)


@triton.jit
def mark_first_kernel(
    slots_ptr,
    table_owner_ptr,
    n,
    is_first_ptr,
    BLOCK: tl.constexpr,
):
    """is_first[i] = 1 where i is the smallest index with its key."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    # [BLOCK]
    slot = tl.load(slots_ptr + offs, mask=mask, other=0)
    owner = tl.load(table_owner_ptr + slot, mask=mask, other=-1)
    tl.store(is_first_ptr + offs, (owner == offs).to(tl.int32), mask=mask)


@triton.jit
def compact_kernel(
    keys_ptr,
    is_first_ptr,
    rank_ptr,
    n,
    unique_keys_ptr,
    first_ptr,
    BLOCK: tl.constexpr,
):
    """Keys and indices of the first occurrences, in order of index; rank is the inclusive sum."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    # [BLOCK]
    is_first = tl.load(is_first_ptr + offs, mask=offs < n, other=0) != 0
    target = tl.load(rank_ptr + offs, mask=is_first, other=1) - 1
    key = tl.load(keys_ptr + offs, mask=is_first, other=0)
    tl.store(unique_keys_ptr + target, key, mask=is_first)
    tl.store(first_ptr + target, offs.to(tl.int64), mask=is_first)


@triton.jit
def number_kernel(
    sorted_keys_ptr,
    order_ptr,
    first_ptr,
    slots_ptr,
    m,
    coords_ptr,
    sorted_first_ptr,
    table_owner_ptr,
    AXIS_BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Unpack the sorted keys into coords, reorder first, and make owner[slot] the voxel's row."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < m
    # [BLOCK]
    key = tl.load(sorted_keys_ptr + offs, mask=mask, other=0)
    order = tl.load(order_ptr + offs, mask=mask, other=0)
    first = tl.load(first_ptr + order, mask=mask, other=0)
    slot = tl.load(slots_ptr + first, mask=mask, other=0)
    tl.store(sorted_first_ptr + offs, first, mask=mask)
    tl.store(table_owner_ptr + slot, offs.to(tl.int32), mask=mask)
    bias = 1 << (AXIS_BITS - 1)
    field = (1 << AXIS_BITS) - 1
    row = coords_ptr + offs * 4
    tl.store(row, (key >> (3 * AXIS_BITS)).to(tl.int32), mask=mask)
    tl.store(row + 1, (((key >> (2 * AXIS_BITS)) & field) - bias).to(tl.int32), mask=mask)
    tl.store(row + 2, (((key >> AXIS_BITS) & field) - bias).to(tl.int32), mask=mask)
    tl.store(row + 3, ((key & field) - bias).to(tl.int32), mask=mask)


@triton.jit
def gather_rows_kernel(
    slots_ptr,
    table_owner_ptr,
    n,
    rows_ptr,
    BLOCK: tl.constexpr,
):
    """rows[i] = owner[slots[i]]."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    # [BLOCK]
    slot = tl.load(slots_ptr + offs, mask=mask, other=0)
    row = tl.load(table_owner_ptr + slot, mask=mask, other=0)
    tl.store(rows_ptr + offs, row.to(tl.int64), mask=mask)
