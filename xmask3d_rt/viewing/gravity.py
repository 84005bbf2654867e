"""Which way is up in an indoor point cloud, from its surfaces alone.

Floors, tables and seats are horizontal; walls and the sides of furniture stand upright, at any
angle to each other. So nearly every surface normal is parallel or perpendicular to the
vertical, and the room is lower than wide. Horizontal surfaces lie below its middle: floors,
seats and tables are scanned from above, ceilings seldom.
"""

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from xmask3d_rt.arrays import check_finite, to_numpy

SAMPLES = 6_000  # surface normals
NEIGHBOURS = 16
MAX_POINTS = 60_000  # points that normals are taken from
FLATNESS = 0.08  # smallest over middle eigenvalue of a flat neighbourhood
CONE = np.deg2rad(12)  # scatter of normals of one surface
CANDIDATES = 5
MASS_WEIGHT = 0.55
MAX_COORDINATE = 1e9  # any unit of a room; extents and products of larger ones overflow
Z_BONUS = 0.05  # most clouds have z up; decides what the surfaces leave open


def check_up(up: Any, where: str) -> np.ndarray:
    """A caller's up direction as a unit vector [3] float64.

    Raises:
        ValueError: not three finite numbers, or all zero.
    """
    vector = to_numpy(up, f"{where}: up").astype(np.float64)
    if vector.shape != (3,):
        raise ValueError(f"{where}: up must be a vector of 3 numbers, got shape {vector.shape}")
    check_finite(vector, f"{where}: up")
    largest = float(np.abs(vector).max())
    if largest == 0:
        raise ValueError(f"{where}: up must not be zero; pass the direction away from the floor")
    vector = vector / largest  # the length of 1e300 is infinite, that of 1e-300 zero
    return vector / np.linalg.norm(vector)


def estimate_up(points: Any) -> np.ndarray:
    """Unit vector [3] float64 that points away from the floor of an indoor cloud.

    Candidates are the most common surface normals, their cross products and the coordinate
    axes. The one wins to which most normals are parallel or perpendicular, preferring
    directions along which the cloud is thin; the sign puts horizontal surfaces below the middle.

    Args:
        points: positions [N, 3], N >= 1, in metres.

    Returns:
        The estimate; (0, 0, 1) where there are too few points for normals.

    Raises:
        ValueError: another shape, no points, NaN, infinite or absurdly large coordinates.
        TypeError: elements that are not numbers.
    """
    xyz = to_numpy(points, "estimate_up: points").astype(np.float64)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or len(xyz) == 0:
        raise ValueError(
            f"estimate_up: points must have shape [N, 3] with N >= 1, got {list(xyz.shape)}"
        )
    low, high = check_finite(xyz, "estimate_up: points")
    if max(-low, high) > MAX_COORDINATE:
        raise ValueError(
            f"estimate_up: coordinates reach {max(-low, high):.6g}; subtract an offset, use metres"
        )
    thinned = thin_points(xyz, MAX_POINTS)
    centers, normals = _find_surfaces(thinned)
    if len(normals) < 3:
        return np.array([0.0, 0.0, 1.0])
    candidates = _list_candidates(normals)
    scores = [_score(axis, normals, thinned) for axis in candidates]
    best = _refine(candidates[int(np.argmax(scores))], normals)
    return best if _is_upright(best, thinned, centers, normals) else -best


def _is_upright(
    axis: np.ndarray, xyz: np.ndarray, centers: np.ndarray, normals: np.ndarray
) -> bool:
    """Whether an axis along the vertical points up rather than down."""
    height = xyz @ axis
    low, high = np.quantile(height, [0.01, 0.99])
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-9)
    level = centers[np.abs(normals @ axis) > np.cos(CONE)] @ axis
    below = ((middle - level) / half).mean() if len(level) else 0.0
    # All surface counts too: it decides a room whose floor and ceiling weigh the same.
    below += MASS_WEIGHT * (2 * (height < middle).mean() - 1)
    return bool(below + np.sign(axis[2]) * _z_bonus(axis) >= 0)


def _z_bonus(axis: np.ndarray) -> float:
    return Z_BONUS if abs(axis[2]) > np.cos(CONE) else 0.0


def thin_points(xyz: np.ndarray, limit: int) -> np.ndarray:
    """One point per voxel, voxels just large enough that at most `limit` points remain."""
    step = np.ptp(xyz, axis=0).max() / 256
    while len(xyz) > limit or step == 0:
        step = max(step, 1e-3)
        cell = np.floor((xyz - xyz.min(axis=0)) / step).astype(np.int64)
        span = cell.max(axis=0) + 1
        _, first = np.unique(np.ravel_multi_index(tuple(cell.T), span), return_index=True)
        if len(first) <= limit:
            return xyz[np.sort(first)]
        step *= 1.3
    return xyz


def _find_surfaces(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points [n, 3] with flat neighbourhoods and their unit normals [n, 3], sign arbitrary."""
    if len(xyz) < NEIGHBOURS:
        return np.zeros((0, 3)), np.zeros((0, 3))
    chosen = xyz[np.linspace(0, len(xyz) - 1, min(SAMPLES, len(xyz))).astype(np.int64)]
    _, rows = cKDTree(xyz).query(chosen, k=NEIGHBOURS)
    around = xyz[rows]  # [n, k, 3]
    around = around - around.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))
    flat = values[:, 0] < FLATNESS * values[:, 1]
    return chosen[flat], vectors[flat, :, 0]


def _list_candidates(normals: np.ndarray) -> np.ndarray:
    """Unit vectors [c, 3]: peaks of the normals, cross products of peaks, coordinate axes."""
    trial = normals[:: max(len(normals) // 600, 1)]
    aligned = np.abs(trial @ normals.T) > np.cos(CONE)  # [t, n]
    peaks: list[np.ndarray] = []
    while len(peaks) < CANDIDATES and aligned.any():
        best = int(aligned.sum(axis=1).argmax())
        peaks.append(_mean_axis(normals[aligned[best]]))
        aligned[:, np.abs(normals @ peaks[-1]) > np.cos(2 * CONE)] = False
    crosses = [np.cross(a, b) for i, a in enumerate(peaks) for b in peaks[:i]]
    crosses = [c / np.linalg.norm(c) for c in crosses if np.linalg.norm(c) > 0.5]
    return np.stack([*peaks, *crosses, *np.eye(3)])


def _mean_axis(normals: np.ndarray) -> np.ndarray:
    """The axis that unsigned normals agree on most."""
    return np.linalg.eigh(normals.T @ normals)[1][:, -1]


def _score(axis: np.ndarray, normals: np.ndarray, xyz: np.ndarray) -> float:
    """How well an axis serves as the vertical."""
    cosine = np.abs(normals @ axis)
    parallel = (cosine > np.cos(CONE)).mean()
    upright = (cosine < np.sin(CONE)).mean()
    low, high = np.quantile(xyz @ axis, [0.01, 0.99])
    extent = (high - low) / max(np.linalg.norm(np.ptp(xyz, axis=0)), 1e-9)
    return float(1.5 * parallel + upright - 0.5 * extent + _z_bonus(axis))


def _refine(axis: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """The axis to which the parallel normals are most parallel and the upright ones most normal."""
    for _ in range(4):
        cosine = np.abs(normals @ axis)
        parallel, upright = normals[cosine > np.cos(CONE)], normals[cosine < np.sin(CONE)]
        scatter = upright.T @ upright - parallel.T @ parallel
        found = np.linalg.eigh(scatter)[1][:, 0]
        if not len(parallel) or abs(found @ axis) < np.cos(CONE):
            break
        axis = found if found @ axis > 0 else -found
    return axis
