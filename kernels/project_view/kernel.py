"""Projection of points into one view, and ordered compaction of the visible ones.

p = R @ point + t; (u, v) = round-half-even(f * p.xy / p.z + c); visible = p.z > 0, the pixel at
least `border` inside, and |depth[v, u] - p.z| <= tolerance * depth[v, u]. All in float64.

Sources: XMask3D, dataset/fusion_util.py (PointCloudToImageMapper); round-half-even by adding
and subtracting 1.5 * 2^52, Hacker's Delight, chapter 17.
"""

import triton
import triton.language as tl

ROUNDER = tl.constexpr(6755399441055744.0)  # 1.5 * 2^52, exact in float32 too


@triton.jit
def project_kernel(
    points_ptr,
    K_ptr,
    world_to_camera_ptr,
    depth_ptr,
    n,
    stride_n,
    stride_c,
    height,
    width,
    border,
    row_ptr,
    col_ptr,
    visible_ptr,
    block_count_ptr,
    HAS_DEPTH: tl.constexpr,
    TOLERANCE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Pixel and visibility of each point, and the number of visible points of each block.

    The tolerance is a constant of the model: a float argument would be rounded to float32.
    """
    pid = tl.program_id(0)
    offs = pid.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    w = world_to_camera_ptr
    # [BLOCK]
    x = tl.load(points_ptr + offs * stride_n, mask=mask, other=0.0).to(tl.float64)
    y = tl.load(points_ptr + offs * stride_n + stride_c, mask=mask, other=0.0).to(tl.float64)
    z = tl.load(points_ptr + offs * stride_n + 2 * stride_c, mask=mask, other=0.0).to(tl.float64)
    cam_x = tl.load(w) * x + tl.load(w + 1) * y + tl.load(w + 2) * z + tl.load(w + 3)
    cam_y = tl.load(w + 4) * x + tl.load(w + 5) * y + tl.load(w + 6) * z + tl.load(w + 7)
    cam_z = tl.load(w + 8) * x + tl.load(w + 9) * y + tl.load(w + 10) * z + tl.load(w + 11)
    visible = mask & (cam_z > 0)
    scale = tl.where(visible, cam_z, 1.0)
    u = (cam_x * tl.load(K_ptr) / scale + tl.load(K_ptr + 2) + ROUNDER) - ROUNDER
    v = (cam_y * tl.load(K_ptr + 4) / scale + tl.load(K_ptr + 5) + ROUNDER) - ROUNDER
    visible = visible & (u >= border) & (u < width - border)
    visible = visible & (v >= border) & (v < height - border)
    col = tl.where(visible, u, 0.0).to(tl.int32)
    row = tl.where(visible, v, 0.0).to(tl.int32)
    if HAS_DEPTH:
        # [BLOCK]
        measured = tl.load(depth_ptr + row.to(tl.int64) * width + col, mask=visible, other=0.0)
        measured = measured.to(tl.float64)
        tolerance = tl.full([1], TOLERANCE, tl.float64)
        # no measurement (0) fails by itself, since cam_z > 0
        visible = visible & (tl.abs(measured - cam_z) <= tolerance * measured)
    tl.store(row_ptr + offs, tl.where(visible, row, 0), mask=mask)
    tl.store(col_ptr + offs, tl.where(visible, col, 0), mask=mask)
    tl.store(visible_ptr + offs, visible.to(tl.uint8), mask=mask)
    tl.store(block_count_ptr + pid, tl.sum(visible.to(tl.int32), 0))


@triton.jit
def compact_kernel(
    visible_ptr,
    block_end_ptr,
    n,
    blocks,
    indices_ptr,
    BLOCK: tl.constexpr,
):
    """Visible points first, ascending, then -1; block_end is the inclusive sum of the counts."""
    pid = tl.program_id(0)
    offs = pid.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    # [BLOCK]
    visible = tl.load(visible_ptr + offs, mask=mask, other=0).to(tl.int32)
    rank = tl.cumsum(visible, 0) - visible
    start = tl.load(block_end_ptr + pid) - tl.sum(visible, 0)
    total = tl.load(block_end_ptr + blocks - 1)
    before = start + rank
    target = tl.where(visible != 0, before, total + offs - before)
    tl.store(indices_ptr + target, tl.where(visible != 0, offs, -1), mask=mask)
