"""Random voxel sets for the kernel tests."""

import torch
from torch import Tensor

from xmask3d_rt.kernels import voxelize


def random_voxels(n: int, batches: int = 1, spread: float = 0.4, seed: int = 0) -> Tensor:
    """About n distinct voxels [M, 4] around the origin, about half of all cells occupied."""
    generator = torch.Generator().manual_seed(seed)
    side = max(1.0, spread * n ** (1 / 3))
    points = torch.randn(n, 3, generator=generator) * side
    batch = torch.randint(0, batches, (n,), generator=generator)
    return voxelize(points, 1.0, batch).coords


def grid_voxels(size: int) -> Tensor:
    """All voxels of a cube [size³, 4], z fastest."""
    axis = torch.arange(size)
    cells = torch.cartesian_prod(axis, axis, axis)
    return torch.cat([torch.zeros(len(cells), 1, dtype=torch.int64), cells], 1).int()
