"""Nearest known point with scipy's KD-tree and an exact tie rule; also the CPU runtime path."""

from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

FIRST_NEIGHBOURS = 2  # a second neighbour shows whether the first one ties
GROWTH = 4
DEDUPLICATE_AT = 32  # more equidistant neighbours than that are nearly always duplicates
REPEATS = 0.1  # share of coinciding points from which they are removed beforehand
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
CHUNK = 1 << 22  # candidate pairs per tree query, bounds memory
SLACK = 1 + 1e-12  # distances closer than this are compared in the exact form


def make_output(points: torch.Tensor, **_: Any) -> torch.Tensor:
    """A result of the right shape, not yet filled."""
    return points.new_empty((points.shape[0],), dtype=torch.int64)


def nearest_fill_reference(
    points: torch.Tensor,  # [N, 3]
    known: torch.Tensor,  # [N] bool
) -> torch.Tensor:
    """Index of the nearest known point; itself where known; -1 where nothing is known.

    Distance (dx*dx + dy*dy) + dz*dz in float64; ties go to the lowest index.

    Returns:
        [N] int64.
    """
    nearest = torch.arange(points.shape[0])
    sources = known.nonzero().flatten()
    targets = (~known).nonzero().flatten()
    if not targets.numel():
        return nearest
    if not sources.numel():
        return torch.full_like(nearest, -1)
    xyz = points.detach().double().numpy()
    source_index = sources.numpy()
    found = _query(xyz[source_index], xyz[targets.numpy()])
    nearest[targets] = torch.from_numpy(source_index[found])
    return nearest


def _query(sources: np.ndarray, targets: np.ndarray, distinct: bool = False) -> np.ndarray:
    """Row of `sources` nearest to each target, lowest row on ties."""
    if not distinct and _repeats_often(sources):
        return _query_distinct(sources, targets)
    tree = cKDTree(sources, balanced_tree=False, compact_nodes=False)
    found = np.zeros(len(targets), np.int64)
    open_rows = np.arange(len(targets))
    k = min(FIRST_NEIGHBOURS, len(sources))
    while len(open_rows):
        unresolved = []
        for rows in np.array_split(open_rows, max(1, len(open_rows) * k // CHUNK)):
            best, complete = _nearest_of(tree, sources, targets[rows], k)
            found[rows] = best
            unresolved.append(rows[~complete])
        open_rows = np.concatenate(unresolved)
        if len(open_rows) and k >= DEDUPLICATE_AT and not distinct:
            found[open_rows] = _query_distinct(sources, targets[open_rows])
            break
        k = min(k * GROWTH, len(sources))
    return found


def _query_distinct(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The same answer from the first of each set of coinciding points."""
    _, first = np.unique(sources, axis=0, return_index=True)
    order = np.sort(first)  # keeps "lowest row" the same question
    return order[_query(sources[order], targets, distinct=True)]


def _repeats_often(sources: np.ndarray) -> bool:
    """Whether many points coincide, which makes a leaf of the tree as long as their number."""
    mixed = np.zeros(len(sources), np.uint64)
    for column in np.ascontiguousarray(sources.T).view(np.uint64):
        mixed = (mixed ^ column) * HASH_FACTOR
        mixed ^= mixed >> np.uint64(29)
    mixed.sort()
    return int((mixed[1:] == mixed[:-1]).sum()) > len(sources) * REPEATS


def _nearest_of(
    tree: cKDTree, sources: np.ndarray, targets: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Best of the k nearest, and whether every tie is among them."""
    distance, row = tree.query(targets, k=k, workers=torch.get_num_threads())
    distance = distance.reshape(len(targets), k)
    row = row.reshape(len(targets), k)
    complete = (distance[:, -1] > distance[:, 0] * SLACK) | (k == len(sources))
    best = row[:, 0].copy()
    tied = np.flatnonzero(complete & (distance[:, min(1, k - 1)] <= distance[:, 0] * SLACK))
    if len(tied):
        delta = sources[row[tied]] - targets[tied, None]  # [t, k, 3]
        dx, dy, dz = np.moveaxis(delta, -1, 0)
        square = (dx * dx + dy * dy) + dz * dz  # [t, k]
        smallest = square == square.min(1, keepdims=True)
        best[tied] = np.where(smallest, row[tied], len(sources)).min(1)
    return best, complete
