"""voxelize: clouds up to 4 M points."""

from functools import partial

import torch

from benchmarks.kernel_cases.rooms import VOXEL_SIZE, make_surface
from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.kernels import voxelize


def benchmark_cases() -> list[KernelCase]:
    """Read points, write the voxel of each; gb_per_s · 10⁹ / 20 is points per second."""
    return [
        KernelCase(
            "voxelize",
            f"N={n}",
            "fp32",
            partial(_build, n),
            moved_bytes=n * (12 + 8),
            large=n > 1_000_000,
        )
        for n in (31_641, 150_995, 1_000_000, 4_000_000)
    ]


def _build(n: int, device: torch.device) -> Forms:
    points = make_surface(n).to(device)
    return {
        "ours": lambda: voxelize(points, VOXEL_SIZE),
        "torch.unique of rows": lambda: _voxelize_unique(points),
    }


def _voxelize_unique(points: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Cells as rows; the first point of a cell is the minimum over its points."""
    cells = torch.floor(points.double() / VOXEL_SIZE).int()
    coords, inverse = torch.unique(cells, dim=0, return_inverse=True)
    index = torch.arange(len(points), device=points.device)
    first = torch.full((len(coords),), len(points), device=points.device)
    return coords, inverse, first.scatter_reduce(0, inverse, index, "amin")
