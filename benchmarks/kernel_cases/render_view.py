"""render_view: a room seen from inside at 640 x 480, 150,000 to 4 million points."""

from functools import partial

import torch

from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.kernels import render_view
from xmask3d_rt.kernels.render_view import reference

SIZE = (480, 640)
ROOM = (5.0, 4.0, 2.6)  # metres
AREA = 2 * (5 * 4 + 5 * 2.6 + 4 * 2.6)


def benchmark_cases() -> list[KernelCase]:
    """Points and colours read once, image, depth and index written once."""
    return [
        KernelCase(
            "render_view",
            f"N={n} 480x640{' smooth' if smooth else ''}",
            "fp32",
            partial(_build, n, smooth),
            moved_bytes=n * 15 + SIZE[0] * SIZE[1] * 15,
            large=n > 1_000_000,
        )
        for n, smooth in ((150_995, False), (150_995, True), (1_000_000, False), (4_000_000, False))
    ]


def _build(n: int, smooth: bool, device: torch.device) -> Forms:
    points, rgb = _sample_walls(n)
    intrinsics = torch.tensor([[520.0, 0, 319.5], [0, 520, 239.5], [0, 0, 1]])
    world_to_camera = torch.eye(4)
    world_to_camera[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    world_to_camera[:3, 3] = -world_to_camera[:3, :3] @ torch.tensor([2.5, 0.9, 1.3])
    spacing = torch.full((1,), (AREA / n) ** 0.5, dtype=torch.float64)
    points, rgb = points.to(device), rgb.to(device)
    K, world_to_camera = intrinsics.to(device), world_to_camera.to(device)
    step = spacing.to(device)
    forms: Forms = {
        "ours": lambda: render_view(points, rgb, K, world_to_camera, SIZE, step, smooth)
    }
    if not smooth and n < 1_000_000:  # hundreds of scatters of all points
        forms["one scatter per offset"] = lambda: _draw_by_offset(
            points, rgb, K, world_to_camera, step
        )
    return forms


def _sample_walls(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points spread evenly over the six faces of a room, and random colours."""
    generator = torch.Generator().manual_seed(0)
    extent = torch.tensor(ROOM)
    points = torch.rand(n, 3, generator=generator) * extent
    areas = torch.tensor([ROOM[1] * ROOM[2], ROOM[0] * ROOM[2], ROOM[0] * ROOM[1]]).repeat(2)
    face = torch.multinomial(areas, n, replacement=True, generator=generator)
    points[torch.arange(n), face % 3] = torch.where(face < 3, 0.0, extent[face % 3])
    return points, torch.randint(0, 256, (n, 3), generator=generator).to(torch.uint8)


def _draw_by_offset(
    points: torch.Tensor,
    rgb: torch.Tensor,
    intrinsics: torch.Tensor,
    world_to_camera: torch.Tensor,
    spacing: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All points against every offset of the largest disc; holes stay."""
    height, width = SIZE
    camera = points.double() @ world_to_camera[:3, :3].T.double() + world_to_camera[:3, 3].double()
    z = camera[:, 2]
    front = z > reference.NEAR
    pixel = camera @ intrinsics.T.double() / torch.where(front, z, 1.0)[:, None]
    radius = intrinsics[0, 0] * reference.SPLAT * spacing / torch.where(front, z, 1.0)
    radius = radius.clamp(reference.MIN_RADIUS, reference.MAX_RADIUS)
    index = torch.arange(len(points), device=points.device)
    keys = index.new_full((height * width,), reference.EMPTY)
    reach = int(radius[front].max()) + 1
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            u, v = pixel[:, 0].round() + right, pixel[:, 1].round() + down
            distance = (u - pixel[:, 0]).square() + (v - pixel[:, 1]).square()
            hit = front & (distance <= radius.square())
            hit &= (u >= 0) & (u < width) & (v >= 0) & (v < height)
            depth = z + reference.CONE * spacing * distance / radius.square()
            key = (depth[hit] * reference.DEPTH_UNITS).long() << reference.INDEX_BITS | index[hit]
            keys.scatter_reduce_(0, (v * width + u)[hit].long(), key, "amin")
    covered = keys != reference.EMPTY
    winner = torch.where(covered, keys & ((1 << reference.INDEX_BITS) - 1), 0)
    image = rgb[winner] * covered[:, None]
    return image, z[winner] * covered, torch.where(covered, winner, -1)
