"""Points on the surfaces of generated rooms: jittered grids, without what cannot be seen."""

from typing import NamedTuple

import numpy as np

from xmask3d_rt.data.boxes import BALL, BOX, BoxArrays

CONTACT = 1e-3  # metres; a face this close to another solid is hidden
EDGE = 1e-6  # metres; a point this close to a face lies on it
OVERSAMPLING = 0.7  # grid step over voxel edge, so that hardly a voxel of a surface stays empty
SIDE, BOTTOM, TOP, SPHERE = 6, 7, 8, 9  # patches after the six faces of boxes


class Patches(NamedTuple):
    """Pieces of surface, one row each, with the steps of the grid on them."""

    box: np.ndarray  # [F]
    kind: np.ndarray  # [F]: 0-5 faces of a box (2 axis + upper), SIDE, BOTTOM, TOP, SPHERE
    steps: np.ndarray  # [F, 2]


def sample_surfaces(
    boxes: BoxArrays,
    room_size: tuple[float, float],
    rng: np.random.Generator,
    spacing: float,
    jitter: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points on everything that can be seen, one per voxel.

    Every labelled solid carries a jittered grid; points inside another solid, touching one or
    outside the room are dropped, then the first point of every voxel is kept.

    Args:
        boxes: the scene.
        room_size: width and depth of the room, metres.
        rng: of the grid's jitter and of which point a voxel keeps.
        spacing: edge of a voxel, metres.
        jitter: standard deviation in metres of each coordinate's noise.

    Returns:
        points [N, 3] float64 exactly on the surfaces, the same with noise, and their solids [N].
    """
    patches = _list_patches(boxes, spacing)
    local, outward, owner = _sample_patches(boxes, patches, rng)
    xyz = boxes.to_world(local, owner) + boxes.center[owner]
    probe = xyz + CONTACT * boxes.to_world(outward, owner)
    inside = (xyz >= -EDGE).all(axis=1) & (xyz[:, :2] <= np.add(room_size, EDGE)).all(axis=1)
    xyz, owner, probe = xyz[inside], owner[inside], probe[inside]
    order = np.argsort(probe[:, 0], kind="stable")
    xyz, owner, probe = xyz[order], owner[order], probe[order]
    order = rng.permutation(np.flatnonzero(~_find_covered(boxes, probe, owner)))
    xyz, owner = xyz[order], owner[order]
    noisy = xyz + rng.normal(0, jitter, xyz.shape) if jitter else xyz
    # Rounded, all points of a wall at 0 share a voxel layer; as computed, some lie at -1e-19.
    noisy = noisy.round(5).astype(np.float32).astype(np.float64) + 0.0
    cell = np.floor(noisy / spacing).astype(np.int64)
    cell -= cell.min(axis=0)
    span = cell.max(axis=0) + 1
    _, first = np.unique(np.ravel_multi_index(tuple(cell.T), span), return_index=True)
    return xyz[first], noisy[first], owner[first]


def _list_patches(boxes: BoxArrays, spacing: float) -> Patches:
    """The faces of all labelled solids."""
    labelled = boxes.label >= 0
    x, y, z = boxes.half.T
    radius = np.maximum(x, y)
    around, disc = 2 * np.pi * radius, 1.6 * radius
    lengths = {
        **dict.fromkeys((0, 1), (2 * y, 2 * z)),
        **dict.fromkeys((2, 3), (2 * x, 2 * z)),
        **dict.fromkeys((4, 5), (2 * x, 2 * y)),
        SIDE: (around, 2 * z),
        **dict.fromkeys((BOTTOM, TOP), (disc, 2 * disc)),
        SPHERE: (around, np.maximum(2 * z, np.pi / 2 * radius)),
    }
    box, kind, steps = [], [], []
    for number, size in lengths.items():
        shape = BOX if number < SIDE else BALL if number == SPHERE else 1
        rows = np.flatnonzero(labelled & (boxes.shape == shape))
        grid = np.ceil(np.stack(size, axis=1)[rows] / (OVERSAMPLING * spacing))
        box.append(rows)
        kind.append(np.full(len(rows), number))
        steps.append(np.maximum(grid, 1).astype(np.int64))
    return Patches(np.concatenate(box), np.concatenate(kind), np.concatenate(steps))


def _sample_patches(
    boxes: BoxArrays, patches: Patches, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A jittered grid on every patch: points [P, 3] and normals in the solid's frame, solids."""
    count = patches.steps.prod(axis=1)
    row = np.repeat(np.arange(len(count)), count)
    within = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    steps = patches.steps[row]
    cell = np.stack([within // steps[:, 1], within % steps[:, 1]], axis=1)
    st = (cell + rng.uniform(0.1, 0.9, cell.shape)) / steps  # in (0, 1)
    box, kind = patches.box[row], patches.kind[row]
    unit, normal = np.zeros((len(row), 3)), np.zeros((len(row), 3))
    for axis in range(3):
        on = np.flatnonzero((kind == 2 * axis) | (kind == 2 * axis + 1))
        sign = 2 * (kind[on] % 2) - 1
        a, b = (k for k in range(3) if k != axis)
        unit[on, axis], normal[on, axis] = sign, sign
        unit[on, a], unit[on, b] = 2 * st[on, 0] - 1, 2 * st[on, 1] - 1
    on = np.flatnonzero(kind >= SIDE)
    unit[on], normal[on] = _sample_round(boxes, box[on], kind[on], st[on])
    return unit * boxes.half[box], normal, box


def _sample_round(
    boxes: BoxArrays, box: np.ndarray, kind: np.ndarray, st: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals of unit cylinders and balls at (s, t) in [0, 1]²."""
    angle = 2 * np.pi * np.where(kind >= SPHERE, st[:, 0], 0.0)
    angle = np.where(kind == SIDE, 2 * np.pi * st[:, 0], angle)
    cap = (kind == BOTTOM) | (kind == TOP)
    angle = np.where(cap, 2 * np.pi * st[:, 1], angle)
    z = np.where(cap, np.where(kind == TOP, 1.0, -1.0), 2 * st[:, 1] - 1)
    radius = np.where(cap, np.sqrt(st[:, 0]), 1.0) * boxes.radius_at(z, box)
    ball = kind == SPHERE
    radius = np.where(ball, np.sqrt(np.maximum(1 - z**2, 0)), radius)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    unit = np.stack([x, y, z], axis=1)
    flat = np.stack([0 * x, 0 * y, z], axis=1)
    around = np.stack([np.cos(angle), np.sin(angle), 0 * z], axis=1)
    normal = np.where(cap[:, None], flat, np.where(ball[:, None], unit, around))
    return unit, normal


def _find_covered(boxes: BoxArrays, xyz: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Which points [N] bool lie inside a solid other than their own; `xyz` is sorted by x."""
    covered = np.zeros(len(xyz), dtype=bool)
    reach = np.einsum("bij,bj->bi", np.abs(boxes.turn), boxes.half)  # of the upright hull
    low, high = boxes.center - reach, boxes.center + reach
    start, end = np.searchsorted(xyz[:, 0], low[:, 0]), np.searchsorted(xyz[:, 0], high[:, 0])
    y, z = np.ascontiguousarray(xyz[:, 1]), np.ascontiguousarray(xyz[:, 2])
    for b in range(len(boxes.center)):
        rows = slice(start[b], end[b])
        near = (z[rows] > low[b, 2]) & (z[rows] < high[b, 2])
        near &= (y[rows] > low[b, 1]) & (y[rows] < high[b, 1])
        near &= owner[rows] != b
        near = start[b] + np.flatnonzero(near)
        if len(near):
            local = (xyz[near] - boxes.center[b]) @ boxes.turn[b]
            covered[near[boxes.contains(local, b)]] = True
    return covered
