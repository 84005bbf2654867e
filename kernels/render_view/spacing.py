"""Typical distance between neighbouring points of a surface cloud."""

import torch
from scipy.spatial import cKDTree
from torch import Tensor

QUERIES = 256
NEIGHBOURS = 4  # as many as a point of a square grid has at the distance of its spacing
CHUNK = 1 << 14  # points compared with all queries at a time
DEFAULT_SPACING = 0.02  # metres, where a cloud has too few points to tell
SMALLEST_SPACING = 1e-4  # metres


def estimate_spacing(points: Tensor) -> Tensor:
    """Median distance from a point to its fourth neighbour, over 256 evenly chosen points.

    About the voxel size of a cloud with a point per voxel.

    Args:
        points: positions in metres, `[N, 3]` float; those that are not finite do not count.

    Returns:
        [1] float64 on the device of the points, at least 0.1 mm; 0.02 for fewer than five.
    """
    if not points.is_cuda:
        points = points[points.isfinite().all(dim=1)]
    if points.shape[0] <= NEIGHBOURS:
        return torch.full((1,), DEFAULT_SPACING, dtype=torch.float64, device=points.device)
    queries = points[:: max(points.shape[0] // QUERIES, 1)][:QUERIES].double()  # [q, 3]
    # The nearest is the point itself.
    fourth = (_measure_on_device if points.is_cuda else _measure_on_host)(points, queries)
    median = fourth.nanmedian().nan_to_num(nan=DEFAULT_SPACING, posinf=DEFAULT_SPACING)
    return median.clamp_min(SMALLEST_SPACING).reshape(1)


def _measure_on_host(points: Tensor, queries: Tensor) -> Tensor:
    """Distance [q] to the fourth neighbour, by KD-tree."""
    tree = cKDTree(points.double().numpy(), balanced_tree=False, compact_nodes=False)
    distance, _ = tree.query(queries.numpy(), k=[NEIGHBOURS + 1])
    return torch.from_numpy(distance[:, 0])


def _measure_on_device(points: Tensor, queries: Tensor) -> Tensor:
    """Distance [q] to the fourth neighbour, by comparing all pairs; NaN for a query of NaN.

    topk takes NaN for the largest, so points that are not finite are nobody's neighbours.
    """
    best = queries.new_full((len(queries), NEIGHBOURS + 1), torch.inf)
    for chunk in points.split(CHUNK):
        square = (queries[:, None] - chunk[None].double()).square().sum(2)  # [q, chunk]
        best = torch.cat([best, square], dim=1).topk(NEIGHBOURS + 1, largest=False).values
    return best[:, NEIGHBOURS].sqrt()
