"""Nearest known point on a grid of cells kept in Morton order, exact.

Known points sorted by the Morton code of their cell form every coarser grid at once: the cell
of level l around code k holds the run of points whose code >> 3 l equals k >> 3 l. A target
scans the 27 cells around it at the finest level with two points per cell, skipping cells
farther than its best, and goes one level up while its best does not lie inside the scanned
block. So nothing is missed, and a target far from every known point costs a few levels, not a
growing number of empty rings.

Distance is (dx*dx + dy*dy) + dz*dz in float64; ties go to the lowest index.

Source: Morton, A computer oriented geodetic data base (1966); linear octrees as in Karras,
Maximizing parallelism in the construction of BVHs, octrees and k-d trees (HPG 2012).
"""

import triton
import triton.language as tl

LEVELS = tl.constexpr(16)  # cells of level 0 along an axis: 2^16
UNKNOWN = tl.constexpr(1 << 48)  # added to the key of an unknown point, past all codes
SLACK = tl.constexpr(1e-6)  # of a cell: covers the rounding of cell indices, 2^16 * 2^-52


@triton.jit
def _spread(v):
    """Bits of v, up to 21 of them, moved three places apart."""
    v = (v | (v << 32)) & 0x1F00000000FFFF
    v = (v | (v << 16)) & 0x1F0000FF0000FF
    v = (v | (v << 8)) & 0x100F00F00F00F00F
    v = (v | (v << 4)) & 0x10C30C30C30C30C3
    return (v | (v << 2)) & 0x1249249249249249


@triton.jit
def _morton(x, y, z):
    return _spread(x) | (_spread(y) << 1) | (_spread(z) << 2)


@triton.jit
def _cell(p, origin, size):
    """Cell of level 0 along one axis, clamped to the grid."""
    cell = tl.floor((p - origin) / size)
    return tl.minimum(tl.maximum(cell, 0.0), 65535.0).to(tl.int64)


@triton.jit
def cell_keys_kernel(
    points_ptr,
    known_ptr,
    frame_ptr,
    n,
    stride_n,
    stride_c,
    keys_ptr,
    BLOCK: tl.constexpr,
):
    """Morton code of each point's cell, unknown points after all known ones."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    size = tl.load(frame_ptr + 3)
    row = points_ptr + offs * stride_n
    # [BLOCK]
    x = tl.load(row, mask=mask, other=0.0).to(tl.float64)
    y = tl.load(row + stride_c, mask=mask, other=0.0).to(tl.float64)
    z = tl.load(row + 2 * stride_c, mask=mask, other=0.0).to(tl.float64)
    known = tl.load(known_ptr + offs, mask=mask, other=0)
    key = _morton(
        _cell(x, tl.load(frame_ptr), size),
        _cell(y, tl.load(frame_ptr + 1), size),
        _cell(z, tl.load(frame_ptr + 2), size),
    )
    tl.store(keys_ptr + offs, tl.where(known != 0, key, key + UNKNOWN), mask=mask)


@triton.jit
def count_cells_kernel(
    sorted_keys_ptr,
    known_count_ptr,
    counts_ptr,
    BLOCK: tl.constexpr,
):
    """counts[l] += known points whose cell of level l differs from that of the point before."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = (offs > 0) & (offs < tl.load(known_count_ptr))
    # [BLOCK]
    key = tl.load(sorted_keys_ptr + offs, mask=mask, other=0)
    before = tl.load(sorted_keys_ptr + offs - 1, mask=mask, other=0)
    for level in tl.static_range(LEVELS):
        differs = ((key ^ before) >> (3 * level)) != 0
        tl.atomic_add(counts_ptr + level, tl.sum(differs.to(tl.int32), 0))


@triton.jit
def nearest_kernel(
    sorted_points_ptr,
    sorted_keys_ptr,
    order_ptr,
    frame_ptr,
    known_count_ptr,
    first_level_ptr,
    n,
    search_steps,
    nearest_ptr,
    BLOCK: tl.constexpr,
):
    """Nearest known point of each point, in Morton order so that neighbours scan the same cells."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    known_count = tl.load(known_count_ptr)
    origin_x = tl.load(frame_ptr)
    origin_y = tl.load(frame_ptr + 1)
    origin_z = tl.load(frame_ptr + 2)
    fine = tl.load(frame_ptr + 3)
    # [BLOCK]
    own = tl.load(order_ptr + offs, mask=mask, other=0)
    px = tl.load(sorted_points_ptr + offs * 3, mask=mask, other=0.0).to(tl.float64)
    py = tl.load(sorted_points_ptr + offs * 3 + 1, mask=mask, other=0.0).to(tl.float64)
    pz = tl.load(sorted_points_ptr + offs * 3 + 2, mask=mask, other=0.0).to(tl.float64)
    active = mask & (offs >= known_count) & (known_count > 0)
    found = tl.where(offs < known_count, own, -1)
    best = tl.full([BLOCK], float("inf"), dtype=tl.float64)
    level = tl.load(first_level_ptr)
    while (level <= LEVELS) & (tl.max(active.to(tl.int32), 0) > 0):
        size = fine * (1 << level).to(tl.float64)
        cx = _cell(px, origin_x, fine) >> level
        cy = _cell(py, origin_y, fine) >> level
        cz = _cell(pz, origin_z, fine) >> level
        for step in range(27):
            place = (step + 13) % 27  # the cell of the target first
            nx = cx + place % 3 - 1
            ny = cy + place // 3 % 3 - 1
            nz = cz + place // 9 - 1
            gap_x = _gap(px, origin_x, nx, size)
            gap_y = _gap(py, origin_y, ny, size)
            gap_z = _gap(pz, origin_z, nz, size)
            near = gap_x * gap_x + gap_y * gap_y + gap_z * gap_z <= best
            last = (65536 >> level) - 1  # 2^(LEVELS - level) cells
            inside = (tl.minimum(tl.minimum(nx, ny), nz) >= 0) & (
                tl.maximum(tl.maximum(nx, ny), nz) <= last
            )
            scan = active & inside & near
            if tl.max(scan.to(tl.int32), 0) > 0:
                prefix = tl.where(scan, _morton(nx, ny, nz), 0)
                low = tl.zeros([BLOCK], dtype=tl.int64)
                high = low + known_count
                for _ in range(search_steps):
                    middle = (low + high) >> 1
                    open_range = scan & (low < high)
                    key = tl.load(sorted_keys_ptr + middle, mask=open_range, other=0)
                    right = open_range & (key < (prefix << (3 * level)))
                    high = tl.where(open_range & (~right), middle, high)
                    low = tl.where(right, middle + 1, low)
                scan = scan & (low < known_count)
                key = tl.load(sorted_keys_ptr + low, mask=scan, other=0)
                scan = scan & ((key >> (3 * level)) == prefix)
                while tl.max(scan.to(tl.int32), 0) > 0:
                    row = sorted_points_ptr + low * 3
                    dx = tl.load(row, mask=scan, other=0.0).to(tl.float64) - px
                    dy = tl.load(row + 1, mask=scan, other=0.0).to(tl.float64) - py
                    dz = tl.load(row + 2, mask=scan, other=0.0).to(tl.float64) - pz
                    square = (dx * dx + dy * dy) + dz * dz
                    index = tl.load(order_ptr + low, mask=scan, other=0)
                    better = scan & ((square < best) | ((square == best) & (index < found)))
                    best = tl.where(better, square, best)
                    found = tl.where(better, index, found)
                    low += 1
                    scan = scan & (low < known_count)
                    key = tl.load(sorted_keys_ptr + low, mask=scan, other=0)
                    scan = scan & ((key >> (3 * level)) == prefix)
        reach = tl.minimum(
            tl.minimum(_reach(px, origin_x, cx, size), _reach(py, origin_y, cy, size)),
            _reach(pz, origin_z, cz, size),
        )
        active = active & (best >= reach * reach)
        level += 1
    tl.store(nearest_ptr + own, found, mask=mask)


@triton.jit
def _gap(p, origin, cell, size):
    """Distance along one axis from p to a cell, a little less than exact, 0 inside."""
    low = origin + cell.to(tl.float64) * size
    return tl.maximum(tl.maximum(low - p, p - (low + size)) - SLACK * size, 0.0)


@triton.jit
def _reach(p, origin, cell, size):
    """Distance along one axis from p to the edge of the three cells around it, a little less."""
    low = origin + (cell - 1).to(tl.float64) * size
    return tl.minimum(p - low, (low + 3 * size) - p) - SLACK * size
