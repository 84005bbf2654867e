"""Random views with the sizes of a real one; shared by the post-processing cases."""

import torch
import torch.nn.functional as F

MASK_SHAPE = (240, 320)
K = ((290.0, 0.0, 159.5), (0.0, 290.0, 119.5), (0.0, 0.0, 1.0))


def benchmark_cases() -> list:
    """No case of its own."""
    return []


def make_points(n: int, device: torch.device) -> torch.Tensor:
    """Points on the walls of a 6 x 3 x 6 metre room in front of the camera, [n, 3]."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(n, 3, generator=generator) * 2 - 1
    wall = torch.randint(0, 3, (n,), generator=generator)
    points[torch.arange(n), wall] = points[torch.arange(n), wall].sign()
    return (points * torch.tensor([3.0, 1.5, 3.0]) + torch.tensor([0.0, 0.0, 3.5])).to(device)


def make_seen_points(n: int, device: torch.device) -> torch.Tensor:
    """Points on the surface of `make_camera`'s depth image; a fifth lies far behind it, [n, 3]."""
    generator = torch.Generator().manual_seed(4)
    u = torch.rand(n, generator=generator) * 300 + 10
    v = torch.rand(n, generator=generator) * 220 + 10
    z = _depth()[v.round().long(), u.round().long()]
    z = z * torch.where(torch.rand(n, generator=generator) < 0.2, 2.0, 1.0)
    focal, x0, y0 = K[0][0], K[0][2], K[1][2]
    return torch.stack([(u - x0) * z / focal, (v - y0) * z / focal, z], dim=1).to(device)


def make_camera(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Intrinsics, world_to_camera and a depth image in metres."""
    pose = torch.eye(4, dtype=torch.float64)
    return torch.tensor(K, dtype=torch.float64).to(device), pose.to(device), _depth().to(device)


def _depth() -> torch.Tensor:
    """A smooth surface 2 to 3 metres away, [240, 320]."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 1, 4, 5, generator=generator) + 2.0
    return F.interpolate(coarse, MASK_SHAPE, mode="bicubic")[0, 0]


def make_mask_logits(queries: int, size: int, device: torch.device) -> torch.Tensor:
    """Blobs, [Q, size, size]; about a third of the pixels inside each."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randn(1, queries, 8, 8, generator=generator) - 0.4
    return (F.interpolate(coarse, (size, size), mode="bilinear")[0] * 4).to(device)


def make_pixels(n: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column of n visible points."""
    generator = torch.Generator().manual_seed(3)
    row = torch.randint(10, MASK_SHAPE[0] - 10, (n,), generator=generator, dtype=torch.int32)
    col = torch.randint(10, MASK_SHAPE[1] - 10, (n,), generator=generator, dtype=torch.int32)
    return row.to(device), col.to(device)


def make_base(classes: int, device: torch.device) -> torch.Tensor:
    """Every fourth class is novel."""
    return (torch.arange(classes, device=device) % 4 != 3) | (classes == 1)
