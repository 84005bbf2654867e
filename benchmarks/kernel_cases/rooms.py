"""Voxels of a generated room: uneven surfaces, as real scans have them; for the sparse cases."""

from functools import cache

import torch
from torch import Tensor

from xmask3d_rt.kernels import build_kernel_map, build_unet_maps, voxelize

VOXEL_SIZE = 0.02
POINTS_PER_VOXEL = 2  # as in a scan: 31,641 visible points lie in 16,161 voxels


def benchmark_cases() -> list:
    """No case of its own."""
    return []


@cache
def make_surface(n: int) -> Tensor:
    """Points on the walls of a room whose size grows with their number, with 1 cm of noise."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(n, 3, generator=generator)
    wall = torch.randint(0, 3, (n,), generator=generator)
    points[torch.arange(n), wall] = (points[torch.arange(n), wall] > 0.5).float()
    # Six walls of side² cells of 2 cm, two points to a cell.
    side = (n / (6 * POINTS_PER_VOXEL)) ** 0.5 * VOXEL_SIZE
    return points * side + 0.01 * torch.randn(n, 3, generator=generator)


@cache
def make_voxels(count: int) -> Tensor:
    """Exactly `count` voxels of a surface, [count, 4], in ascending order."""
    coords = voxelize(make_surface(2 * count * POINTS_PER_VOXEL), VOXEL_SIZE).coords
    return coords[:count].contiguous()


@cache
def count_pairs(count: int, kernel_size: int) -> int:
    """Entries of the submanifold map of `make_voxels(count)`."""
    return int((build_kernel_map(make_voxels(count), kernel_size).neighbors >= 0).sum())


@cache
def count_unet_pairs(count: int) -> dict[str, list[int]]:
    """Entries of every map of a MinkUNet on `make_voxels(count)`."""
    maps = build_unet_maps(make_voxels(count))
    groups = {"stem": (maps.stem,), "conv": maps.conv, "down": maps.down, "up": maps.up}
    return {
        name: [int((kernel_map.neighbors >= 0).sum()) for kernel_map in group]
        for name, group in groups.items()
    } | {"voxels": [len(coords) for coords in maps.coords]}
