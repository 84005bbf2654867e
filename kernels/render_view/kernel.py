"""Z-buffered splats.

A point at camera depth z with projection c covers the pixels p with |p - c| <= r, where
r = focal * SPLAT * spacing / z. Its key at p is
(z + CONE * spacing * |p - c|^2 / r^2) << 31 | index with z in 2^-16 m: the 64-bit minimum of
depth and index. All of it is integer arithmetic after the projection, so images are equal on
every device. Then holes are filled from the farthest covered neighbour, and keys resolved.

Source: cones as Voronoi diagrams, Hoff et al. 1999; constants in reference.py.
"""

import triton
import triton.language as tl

EMPTY = tl.constexpr(2**63 - 1)
INDEX_MASK = tl.constexpr(2**31 - 1)


@triton.jit
def project_splats_kernel(
    points_ptr,
    camera_ptr,
    spacing_ptr,
    n_points,
    height,
    width,
    splats_ptr,
    depth_ptr,
    BLOCK_N: tl.constexpr,
    NEAR: tl.constexpr,
    FAR: tl.constexpr,
    SPLAT: tl.constexpr,
    MIN_RADIUS: tl.constexpr,
    MAX_RADIUS: tl.constexpr,
    SUBPIXEL: tl.constexpr,
    DEPTH_UNITS: tl.constexpr,
):
    """Splat of every point: (u, v, radius, depth) in integer units; radius -1 = not drawn.

    camera_ptr holds world_to_camera (16) followed by K (9), float64.
    """
    offs_n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)  # [BLOCK_N]
    mask_n = offs_n < n_points
    # [BLOCK_N]
    x = tl.load(points_ptr + offs_n * 3, mask=mask_n, other=0.0).to(tl.float64)
    y = tl.load(points_ptr + offs_n * 3 + 1, mask=mask_n, other=0.0).to(tl.float64)
    z = tl.load(points_ptr + offs_n * 3 + 2, mask=mask_n, other=0.0).to(tl.float64)
    w = camera_ptr
    cam_x = tl.load(w) * x + tl.load(w + 1) * y + tl.load(w + 2) * z + tl.load(w + 3)
    cam_y = tl.load(w + 4) * x + tl.load(w + 5) * y + tl.load(w + 6) * z + tl.load(w + 7)
    cam_z = tl.load(w + 8) * x + tl.load(w + 9) * y + tl.load(w + 10) * z + tl.load(w + 11)
    drawn = mask_n & (cam_z > NEAR) & (cam_z < FAR)
    scale = tl.where(drawn, cam_z, 1.0)
    fx = tl.load(w + 16)
    fy = tl.load(w + 20)
    u = fx * cam_x / scale + tl.load(w + 18)
    v = fy * cam_y / scale + tl.load(w + 21)
    radius = tl.maximum(fx, fy) * (SPLAT * tl.load(spacing_ptr)) / scale
    radius = tl.minimum(tl.maximum(radius, MIN_RADIUS), MAX_RADIUS)
    drawn = drawn & (u > -radius - 1) & (u < width + radius)
    drawn = drawn & (v > -radius - 1) & (v < height + radius)
    # Positions off the screen would overflow int32.
    u = tl.floor(tl.where(drawn, u, 0.0) * SUBPIXEL + 0.5).to(tl.int32)
    v = tl.floor(tl.where(drawn, v, 0.0) * SUBPIXEL + 0.5).to(tl.int32)
    radius = tl.where(drawn, tl.floor(radius * SUBPIXEL + 0.5).to(tl.int32), -1)
    units = tl.floor(tl.where(drawn, cam_z, 0.0) * DEPTH_UNITS + 0.5).to(tl.int32)
    tl.store(splats_ptr + offs_n * 4, u, mask=mask_n)
    tl.store(splats_ptr + offs_n * 4 + 1, v, mask=mask_n)
    tl.store(splats_ptr + offs_n * 4 + 2, radius, mask=mask_n)
    tl.store(splats_ptr + offs_n * 4 + 3, units, mask=mask_n)
    tl.store(depth_ptr + offs_n, tl.where(drawn, cam_z, 0.0).to(tl.float32), mask=mask_n)


@triton.jit
def draw_splats_kernel(
    splats_ptr,
    spacing_ptr,
    n_points,
    height,
    width,
    keys_ptr,
    BLOCK_N: tl.constexpr,
    SUBPIXEL: tl.constexpr,
    DEPTH_UNITS: tl.constexpr,
    CONE: tl.constexpr,
):
    """Atomic minimum of every splat's keys into keys [H * W]; the order does not matter."""
    offs_n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)  # [BLOCK_N]
    mask_n = offs_n < n_points
    # [BLOCK_N]
    center_u = tl.load(splats_ptr + offs_n * 4, mask=mask_n, other=0)
    center_v = tl.load(splats_ptr + offs_n * 4 + 1, mask=mask_n, other=0)
    radius = tl.load(splats_ptr + offs_n * 4 + 2, mask=mask_n, other=-1)
    units = tl.load(splats_ptr + offs_n * 4 + 3, mask=mask_n, other=0).to(tl.int64)
    cone = tl.floor(tl.load(spacing_ptr) * CONE * DEPTH_UNITS + 0.5).to(tl.int64)
    square = tl.maximum(radius * radius, 1)
    # Shifts round towards minus infinity, as the reference's floor division does.
    base_u = (center_u + SUBPIXEL // 2) >> 4
    base_v = (center_v + SUBPIXEL // 2) >> 4
    reach = tl.max(tl.where(radius >= 0, (radius + SUBPIXEL // 2) >> 4, -1), axis=0)
    for step_v in range(-reach, reach + 1):
        pixel_v = base_v + step_v
        delta_v = pixel_v * SUBPIXEL - center_v
        mask_v = (radius >= 0) & (pixel_v >= 0) & (pixel_v < height)
        for step_u in range(-reach, reach + 1):
            pixel_u = base_u + step_u
            delta_u = pixel_u * SUBPIXEL - center_u
            distance = delta_u * delta_u + delta_v * delta_v
            inside = (distance <= radius * radius) | ((step_u == 0) & (step_v == 0))
            mask = mask_v & inside & (pixel_u >= 0) & (pixel_u < width)
            behind = cone * distance.to(tl.int64) // square.to(tl.int64)
            key = ((units + behind) << 31) | offs_n
            address = keys_ptr + pixel_v.to(tl.int64) * width + pixel_u
            # Keys only shrink: a stale value can cause a needless atomic, never a lost one.
            mask = mask & (key < tl.load(address, mask=mask, other=0))
            tl.atomic_min(address, key, mask=mask)


@triton.jit
def fill_holes_kernel(
    keys_ptr,
    height,
    width,
    filled_ptr,
    BLOCK_P: tl.constexpr,
    FILL_NEIGHBOURS: tl.constexpr,
):
    """Uncovered pixels with enough covered neighbours take the farthest one's key."""
    offs_p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)  # [BLOCK_P]
    mask_p = offs_p < height * width
    row = offs_p // width
    col = offs_p % width
    key = tl.load(keys_ptr + offs_p, mask=mask_p, other=EMPTY)  # [BLOCK_P]
    count = tl.zeros([BLOCK_P], dtype=tl.int32)
    farthest = tl.full([BLOCK_P], -1, dtype=tl.int64)
    for step in tl.static_range(9):
        r = row + (step // 3 - 1)
        c = col + (step % 3 - 1)
        inside = mask_p & (r >= 0) & (r < height) & (c >= 0) & (c < width)
        neighbour = tl.load(keys_ptr + r * width + c, mask=inside, other=EMPTY)  # [BLOCK_P]
        covered = neighbour != EMPTY
        count += covered.to(tl.int32)
        farthest = tl.where(covered, tl.maximum(farthest, neighbour), farthest)
    hole = (key == EMPTY) & (count >= FILL_NEIGHBOURS)
    tl.store(filled_ptr + offs_p, tl.where(hole, farthest, key), mask=mask_p)


@triton.jit
def resolve_keys_kernel(
    keys_ptr,
    rgb_ptr,
    point_depth_ptr,
    n_pixels,
    image_ptr,
    depth_ptr,
    index_ptr,
    BLOCK_P: tl.constexpr,
):
    """Colour, depth and index of the point that owns each pixel."""
    offs_p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)  # [BLOCK_P]
    mask_p = offs_p < n_pixels
    key = tl.load(keys_ptr + offs_p, mask=mask_p, other=EMPTY)  # [BLOCK_P]
    covered = mask_p & (key != EMPTY)
    index = key & INDEX_MASK
    for channel in tl.static_range(3):
        color = tl.load(rgb_ptr + index * 3 + channel, mask=covered, other=0)  # [BLOCK_P]
        tl.store(image_ptr + offs_p * 3 + channel, color, mask=mask_p)
    depth = tl.load(point_depth_ptr + index, mask=covered, other=0.0)  # [BLOCK_P]
    tl.store(depth_ptr + offs_p, depth, mask=mask_p)
    tl.store(index_ptr + offs_p, tl.where(covered, index, -1), mask=mask_p)


@triton.jit
def smooth_image_kernel(
    image_ptr,
    depth_ptr,
    camera_ptr,
    spacing_ptr,
    height,
    width,
    smoothed_ptr,
    BLOCK_P: tl.constexpr,
    SPLAT: tl.constexpr,
    MIN_RADIUS: tl.constexpr,
    MAX_RADIUS: tl.constexpr,
    SUBPIXEL: tl.constexpr,
    SMOOTH_DEPTH: tl.constexpr,
):
    """Mean colour of 3 x 3 pixels spread over each pixel's splat, weights (1 2 1)^2."""
    offs_p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)  # [BLOCK_P]
    mask_p = offs_p < height * width
    row = offs_p // width
    col = offs_p % width
    depth = tl.load(depth_ptr + offs_p, mask=mask_p, other=0.0)  # [BLOCK_P]
    covered = depth > 0
    spacing = tl.load(spacing_ptr)
    focal = tl.maximum(tl.load(camera_ptr + 16), tl.load(camera_ptr + 20))
    radius = focal * (SPLAT * spacing) / tl.where(covered, depth.to(tl.float64), 1.0)
    radius = tl.minimum(tl.maximum(radius, MIN_RADIUS), MAX_RADIUS)
    radius = tl.floor(radius * SUBPIXEL + 0.5).to(tl.int32)
    reach = (spacing * SMOOTH_DEPTH).to(tl.float32)
    weights = tl.zeros([BLOCK_P], dtype=tl.int32)
    red = tl.zeros([BLOCK_P], dtype=tl.int32)
    green = tl.zeros([BLOCK_P], dtype=tl.int32)
    blue = tl.zeros([BLOCK_P], dtype=tl.int32)
    for i in range(-1, 2):
        r = tl.minimum(tl.maximum(row + ((3 * i * radius + 2 * SUBPIXEL) >> 6), 0), height - 1)
        for j in range(-1, 2):
            c = tl.minimum(tl.maximum(col + ((3 * j * radius + 2 * SUBPIXEL) >> 6), 0), width - 1)
            source = r * width + c
            near = tl.load(depth_ptr + source, mask=mask_p, other=0.0)  # [BLOCK_P]
            weight = tl.where(
                (near > 0) & (tl.abs(near - depth) <= reach), (2 - i * i) * (2 - j * j), 0
            )
            weights += weight
            # [BLOCK_P]
            rgb = image_ptr + source * 3
            red += weight * tl.load(rgb, mask=mask_p, other=0).to(tl.int32)
            green += weight * tl.load(rgb + 1, mask=mask_p, other=0).to(tl.int32)
            blue += weight * tl.load(rgb + 2, mask=mask_p, other=0).to(tl.int32)
    weights = tl.maximum(weights, 1)
    red = tl.where(covered, (2 * red + weights) // (2 * weights), 0)
    green = tl.where(covered, (2 * green + weights) // (2 * weights), 0)
    blue = tl.where(covered, (2 * blue + weights) // (2 * weights), 0)
    tl.store(smoothed_ptr + offs_p * 3, red.to(tl.uint8), mask=mask_p)
    tl.store(smoothed_ptr + offs_p * 3 + 1, green.to(tl.uint8), mask=mask_p)
    tl.store(smoothed_ptr + offs_p * 3 + 2, blue.to(tl.uint8), mask=mask_p)
