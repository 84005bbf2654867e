"""nearest_fill: unseen parts of a scene."""

from functools import partial

import numpy as np
import torch
from scipy.spatial import cKDTree

from benchmarks.kernel_cases.views import make_points
from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.kernels import nearest_fill


def benchmark_cases() -> list[KernelCase]:
    """A third of the points unseen, as one side of the room; read points, write indices."""
    return [
        KernelCase(
            "nearest_fill",
            f"N={n} unseen=1/3",
            "fp32",
            partial(_build, n),
            moved_bytes=n * (12 + 1 + 8),
            large=n > 200_000,
        )
        for n in (31_641, 150_995, 1_000_000, 4_000_000)
    ]


def _build(n: int, device: torch.device) -> Forms:
    points = make_points(n, device)
    known = points[:, 0] < points[:, 0].quantile(2 / 3) if n < 1 << 24 else points[:, 0] < 1
    forms: Forms = {"ours": lambda: nearest_fill(points, known)}
    if n <= 1_000_000:
        forms["scipy cKDTree, one thread"] = lambda: _fill_tree(points, known)
    return forms


def _fill_tree(points: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Any nearest point, as the released code takes it: ties are not resolved."""
    source = known.nonzero().flatten().cpu().numpy()
    xyz = points.double().cpu().numpy()
    nearest = np.arange(len(xyz))
    targets = np.flatnonzero(~known.cpu().numpy())
    nearest[targets] = source[cKDTree(xyz[source]).query(xyz[targets])[1]]
    return torch.from_numpy(nearest).to(points.device)
