"""Z-buffered splats in plain torch; also the CPU runtime path.

Every quantity that decides which point wins a pixel is an integer, so that the result does not
depend on the device: pixel positions in 1/16 px, depth in 2^-16 m.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SUBPIXEL = 16  # units per pixel of splat centres and radii
DEPTH_UNITS = 65536  # units per metre of the depth in a key
# Constants are exact in float32, to which Triton rounds float literals.
NEAR = 0.0625  # metres; nothing closer to the camera is drawn
FAR = 32767.0  # metres; depth in DEPTH_UNITS fits 31 bits
SPLAT = 0.75  # radius of a splat over the point spacing: discs on a square grid close at 0.71
MIN_RADIUS = 0.5  # px
MAX_RADIUS = 24.0  # px; reached nearer than half a metre with 2 cm clouds at 640 px
CONE = 1.5  # depth that the rim of a splat lies behind its centre, over the point spacing
FILL_PASSES = 3
FILL_NEIGHBOURS = 5  # covered ones of eight
SMOOTH_WEIGHTS = (1, 2, 1)  # at -3/4, 0, 3/4 splat radius
CHANNEL_BITS = 20  # per colour in a sum of packed colours
SMOOTH_DEPTH = 3.0  # depth difference that still blends, over the point spacing
INDEX_BITS = 31
EMPTY = torch.iinfo(torch.int64).max
OFF_SCREEN = 1 << 24  # squared distance, in squared subpixels, beyond every radius
CHUNK = 1 << 18  # candidate pixels at a time, bounds memory


class RenderedView(NamedTuple):
    """What a camera sees of a point cloud."""

    image: Tensor  # [H, W, 3] uint8, 0 where nothing was drawn
    depth: Tensor  # [H, W] float32 metres along the camera's z axis, 0 = none
    point_index: Tensor  # [H, W] int64, -1 = none


def make_outputs(points: Tensor, rgb: Tensor, size: Sequence[int], **_: Any) -> RenderedView:
    """Results of the right shapes, not yet filled."""
    return RenderedView(
        image=rgb.new_empty((*size, 3)),
        depth=points.new_empty(tuple(size), dtype=torch.float32),
        point_index=points.new_empty(tuple(size), dtype=torch.int64),
    )


def render_view_reference(
    points: Tensor,  # [N, 3]
    rgb: Tensor,  # [N, 3] uint8
    K: Tensor,  # [3, 3]
    world_to_camera: Tensor,  # [4, 4]
    size: Sequence[int],
    spacing: Tensor,  # [1] float64
    smooth: bool,
) -> RenderedView:
    """Image, depth and point index of a cloud drawn as discs that face the camera.

    A point at camera depth z covers the pixels within r = f * SPLAT * spacing / z of its
    projection. Pixel p belongs to the point with the smallest
    z + CONE * spacing * |p - projection|^2 / r^2, ties to the lowest index: the cones make the
    nearest of the points on one surface win, not the frontmost. Then uncovered pixels with at
    least FILL_NEIGHBOURS covered ones of their eight neighbours take the farthest of those,
    FILL_PASSES times. With `smooth`, colours are averaged over the radius of a splat, across
    pixels whose depth differs by at most SMOOTH_DEPTH * spacing.

    Source: cones as Voronoi diagrams, Hoff et al. 1999 (Fast computation of generalized
    Voronoi diagrams using graphics hardware).
    """
    height, width = size
    index, z, center, radius = _project(points, K, world_to_camera, spacing, height, width)
    keys = points.new_full((height * width,), EMPTY, dtype=torch.int64)
    cone = _to_units(spacing * CONE, DEPTH_UNITS)
    packed = (_to_units(z, DEPTH_UNITS) << INDEX_BITS) | index
    for reach, rows in _splat_batches(radius):
        _splat(keys, packed[rows], center[rows], radius[rows], reach, cone, width)
    keys = keys.view(height, width)
    for _ in range(FILL_PASSES):
        keys = _fill_holes(keys)

    covered = keys != EMPTY
    winner = keys[covered] & ((1 << INDEX_BITS) - 1)  # [P]
    point_index = torch.full_like(keys, -1)
    point_index[covered] = winner
    image = rgb.new_zeros((height, width, 3))
    image[covered] = rgb[winner]
    depth = z.new_zeros((height, width), dtype=torch.float32)
    point_depth = depth.new_zeros(points.shape[0])
    point_depth[index] = z.float()
    depth[covered] = point_depth[winner]
    if smooth:
        image = _smooth(image, depth, torch.maximum(K[0, 0], K[1, 1]).double(), spacing)
    return RenderedView(image, depth, point_index)


def _to_units(value: Tensor, units: int) -> Tensor:
    """Nearest multiple of 1/units as int64, halves upwards."""
    return torch.floor(value * units + 0.5).long()


def _project(
    points: Tensor, K: Tensor, world_to_camera: Tensor, spacing: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points whose splat may reach the image: index [n] ascending, depth z [n] float64,
    projection [n, 2] (u, v) and radius [n] int32 in 1/SUBPIXEL px.
    """
    x, y, z = points.double().unbind(1)
    w, k = world_to_camera.double(), K.double()
    cam_z = w[2, 0] * x + w[2, 1] * y + w[2, 2] * z + w[2, 3]
    index = ((cam_z > NEAR) & (cam_z < FAR)).nonzero().flatten()
    x, y, z, cam_z = x[index], y[index], z[index], cam_z[index]
    u = k[0, 0] * (w[0, 0] * x + w[0, 1] * y + w[0, 2] * z + w[0, 3]) / cam_z + k[0, 2]
    v = k[1, 1] * (w[1, 0] * x + w[1, 1] * y + w[1, 2] * z + w[1, 3]) / cam_z + k[1, 2]
    radius = _splat_radius(torch.maximum(k[0, 0], k[1, 1]), spacing, cam_z)
    near = (u > -radius - 1) & (u < width + radius) & (v > -radius - 1) & (v < height + radius)
    center = _to_units(torch.stack([u[near], v[near]], dim=1), SUBPIXEL)
    return index[near], cam_z[near], center.int(), _to_units(radius[near], SUBPIXEL).int()


def _splat_radius(focal: Tensor, spacing: Tensor, z: Tensor) -> Tensor:
    """Radius in pixels of splats at depth z."""
    return (focal * (SPLAT * spacing) / z).clamp(MIN_RADIUS, MAX_RADIUS)


def _splat_batches(radius: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Rows of splats that reach equally many whole pixels from the pixel of their centre."""
    # The centre is rounded to a whole pixel by at most half a pixel along each axis.
    reach = (radius + SUBPIXEL // 2) // SUBPIXEL
    order = reach.argsort()
    sizes, counts = reach[order].unique_consecutive(return_counts=True)
    for size, rows in zip(sizes.tolist(), order.split(counts.tolist()), strict=True):
        for batch in rows.split(max(CHUNK // (2 * size + 1) ** 2, 1)):
            yield size, batch


def _splat(
    keys: Tensor,
    packed: Tensor,
    center: Tensor,
    radius: Tensor,
    reach: int,
    cone: Tensor,
    width: int,
) -> None:
    """Minimum of the keys of a batch of splats into `keys` [H * W], in place."""
    height = keys.shape[0] // width
    step = torch.arange(-reach, reach + 1, dtype=torch.int32)
    nearest = (center + SUBPIXEL // 2) // SUBPIXEL  # [n, 2] px
    u = nearest[:, :1] + step  # [n, 2 * reach + 1]
    v = nearest[:, 1:] + step
    across = (u * SUBPIXEL - center[:, :1]).square()
    down = (v * SUBPIXEL - center[:, 1:]).square()
    square = radius.square()
    across[(u < 0) | (u >= width)] = OFF_SCREEN
    down[(v < 0) | (v >= height)] = OFF_SCREEN
    distance = down[:, :, None] + across[:, None, :]  # [n, 2 * reach + 1, 2 * reach + 1]
    hits = distance <= square[:, None, None]
    hits[:, reach, reach] = distance[:, reach, reach] < OFF_SCREEN  # however small the disc
    # Quotients of integers below 2^53: float64 gives their exact floor, several times as fast.
    behind = distance.double().mul_(cone).div_(square[:, None, None]).floor_().long()
    key = behind.bitwise_left_shift_(INDEX_BITS).add_(packed[:, None, None])
    key.masked_fill_(~hits, EMPTY)  # whatever pixel an index off the screen is moved to
    line = v.clamp(0, height - 1).long() * width
    pixel = line[:, :, None] + u.clamp(0, width - 1)[:, None, :]
    keys.scatter_reduce_(0, pixel.flatten(), key.flatten(), "amin")


def _fill_holes(keys: Tensor) -> Tensor:
    """One pass of hole filling over the key image [H, W]."""
    height, width = keys.shape
    covered = keys != EMPTY
    padded = F.pad(covered.to(torch.uint8), (1, 1, 1, 1))
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]  # [H, W]; an empty pixel adds nothing
    hole = ((around >= FILL_NEIGHBOURS) & ~covered).flatten().nonzero().flatten()  # [h]
    step = torch.tensor([-1, 0, 1])
    # Beyond the border the pixels at it count again, which changes no maximum.
    row = (hole[:, None] // width + step).clamp_(0, height - 1)  # [h, 3]
    col = (hole[:, None] % width + step).clamp_(0, width - 1)
    neighbours = keys[row[:, :, None], col[:, None, :]].flatten(1)  # [h, 9]
    filled = keys.flatten().clone()
    filled[hole] = torch.where(neighbours != EMPTY, neighbours, -1).amax(dim=1)
    return filled.view(height, width)


def _smooth(image: Tensor, depth: Tensor, focal: Tensor, spacing: Tensor) -> Tensor:
    """Weighted mean of 3 x 3 pixels spread over each pixel's splat, on the same surface."""
    height, width = depth.shape
    z = depth.double()
    radius = _to_units(_splat_radius(focal, spacing, torch.where(z > 0, z, 1.0)), SUBPIXEL)
    # 3/4 of the radius, whole pixels, halves upwards
    steps = [((i - 1) * 3 * radius + 2 * SUBPIXEL) // (4 * SUBPIXEL) for i in range(3)]
    reach = (spacing * SMOOTH_DEPTH).float()
    row = torch.arange(height, device=depth.device)[:, None]
    col = torch.arange(width, device=depth.device)[None, :]
    shifts = torch.arange(3, device=depth.device) * CHANNEL_BITS
    packed = (image.view(-1, 3).long() << shifts).sum(dim=1)  # [P], a sum of three fields
    flat_depth = depth.flatten()
    total = torch.zeros_like(depth, dtype=torch.int64)
    weights = torch.zeros_like(depth, dtype=torch.int64)
    for down, v_step in zip(SMOOTH_WEIGHTS, steps, strict=True):
        line = (row + v_step).clamp_(0, height - 1) * width
        for right, u_step in zip(SMOOTH_WEIGHTS, steps, strict=True):
            source = line + (col + u_step).clamp_(0, width - 1)
            near = flat_depth[source]
            blends = (near > 0) & ((near - depth).abs() <= reach)
            weight = blends * (down * right)
            total += weight * packed[source]
            weights += weight
    weights = torch.where(depth > 0, weights, 1)[..., None]
    sums = (total[..., None] >> shifts) & ((1 << CHANNEL_BITS) - 1)  # [H, W, 3]
    mean = ((2 * sums + weights) // (2 * weights)).to(torch.uint8)
    return torch.where(depth[..., None] > 0, mean, image)
