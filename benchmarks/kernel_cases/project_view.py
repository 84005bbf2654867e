"""project_view: a view's cloud, a scene, a building."""

from functools import partial

import torch

from benchmarks.kernel_cases.views import make_camera, make_points
from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.kernels import project_view


def benchmark_cases() -> list[KernelCase]:
    """Points up to 4 million; read 12 bytes, write row, column, visibility and index."""
    return [
        KernelCase(
            "project_view",
            f"N={n} depth 240x320",
            "fp32",
            partial(_build, n),
            moved_bytes=n * (12 + 4 + 4 + 1 + 8) + 240 * 320 * 4,
            flops=n * 30,
            large=n > 200_000,
        )
        for n in (40_000, 150_995, 1_000_000, 4_000_000)
    ]


def _build(n: int, device: torch.device) -> Forms:
    points = make_points(n, device)
    K, pose, depth = make_camera(device)
    return {
        "ours": lambda: project_view(points, K, pose, depth, 10, 0.25),
        "dense torch": lambda: _project_dense(points, K, pose, depth),
    }


def _project_dense(points, K, pose, depth) -> torch.Tensor:
    """Homogeneous coordinates and boolean indexing, as the released mapper does it."""
    height, width = depth.shape
    homogeneous = torch.cat([points.double(), torch.ones_like(points[:, :1]).double()], dim=1).T
    camera = pose @ homogeneous
    u = (camera[0] * K[0, 0] / camera[2] + K[0, 2]).round().long()
    v = (camera[1] * K[1, 1] / camera[2] + K[1, 2]).round().long()
    inside = (u >= 10) & (v >= 10) & (u < width - 10) & (v < height - 10) & (camera[2] > 0)
    measured = depth[v[inside], u[inside]].double()
    inside[inside.clone()] = (measured - camera[2][inside]).abs() <= 0.25 * measured
    mapping = torch.zeros(3, points.shape[0], dtype=torch.int64, device=points.device)
    mapping[0, inside], mapping[1, inside], mapping[2, inside] = v[inside], u[inside], 1
    return mapping.T
