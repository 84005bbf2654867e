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
        rng: of the grid's jitter.
        spacing: edge of a voxel, metres.
        jitter: standard deviation in metres of each coordinate's noise.

    Returns:
        points [N, 3] float64 exactly on the surfaces, the same with noise, and their solids [N].
    """
    patches = _list_patches(boxes, spacing)
    parts = [_sample_flat(boxes, patches, rng), _sample_round(boxes, patches, rng)]
    xyz, probe, owner = (np.concatenate(part) for part in zip(*parts, strict=True))
    inside = (xyz >= -EDGE).all(axis=1) & (xyz[:, :2] <= np.add(room_size, EDGE)).all(axis=1)
    xyz, probe, owner = xyz[inside], probe[inside], owner[inside]
    noisy = xyz + rng.normal(0, jitter, xyz.shape) if jitter else xyz
    # Rounded, all points of a wall at 0 share a voxel layer; as computed, some lie at -1e-19.
    noisy = noisy.round(5).astype(np.float32).astype(np.float64) + 0.0
    cell = np.floor(noisy / spacing).astype(np.int64)
    cell -= cell.min(axis=0)
    voxel = np.ravel_multi_index(tuple(cell.T), cell.max(axis=0) + 1)
    order = np.argsort(voxel, kind="stable")
    order = order[~_find_covered(boxes, probe[order], owner[order], spacing + 6 * jitter)]
    voxel = voxel[order]
    first = order[np.flatnonzero(np.diff(voxel, prepend=-1))]
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


def _spread(steps: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Jittered grids of steps [F, 2]: the row of each point [P], its place [P, 2] in (0, 1)."""
    count = steps.prod(axis=1)
    row = np.repeat(np.arange(len(count)), count)
    within = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    across = steps[row, 1]
    cell = np.stack([within // across, within % across], axis=1)
    return row, (cell + rng.uniform(0.1, 0.9, cell.shape)) / steps[row]


def _sample_flat(
    boxes: BoxArrays, patches: Patches, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [P, 3] on the faces of boxes, the same a little outside, their solids [P]."""
    box, kind, steps = (part[patches.kind < SIDE] for part in patches)
    face = np.arange(len(box))
    normal_axis = kind // 2
    first = np.where(normal_axis == 0, 1, 0)
    second = np.where(normal_axis == 2, 1, 2)
    turn, half = boxes.turn[box], boxes.half[box]
    outward = turn[face, :, normal_axis] * (2 * (kind % 2) - 1)[:, None]  # [F, 3]
    edge_a = turn[face, :, first] * half[face, first][:, None]
    edge_b = turn[face, :, second] * half[face, second][:, None]
    start = boxes.center[box] + outward * half[face, normal_axis][:, None] - edge_a - edge_b
    row, place = _spread(steps, rng)
    xyz = start[row]
    xyz += (2 * place[:, :1]) * edge_a[row]
    xyz += (2 * place[:, 1:]) * edge_b[row]
    return xyz, xyz + (CONTACT * outward)[row], box[row]


def _sample_round(
    boxes: BoxArrays, patches: Patches, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [P, 3] on cylinders and balls, the same a little outside, their solids [P]."""
    patch_box, patch_kind, steps = (part[patches.kind >= SIDE] for part in patches)
    row, st = _spread(steps, rng)
    box, kind = patch_box[row], patch_kind[row]
    cap = (kind == BOTTOM) | (kind == TOP)
    ball = kind == SPHERE
    angle = 2 * np.pi * np.where(cap, st[:, 1], st[:, 0])
    z = np.where(cap, np.where(kind == TOP, 1.0, -1.0), 2 * st[:, 1] - 1)
    radius = np.where(cap, np.sqrt(st[:, 0]), 1.0) * boxes.radius_at(z, box)
    radius = np.where(ball, np.sqrt(np.maximum(1 - z**2, 0)), radius)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    local = np.stack([x, y, z], axis=1) * boxes.half[box]
    around = np.stack([np.cos(angle), np.sin(angle), np.where(cap | ball, z, 0.0)], axis=1)
    around[:, :2] *= np.where(cap, 0.0, np.where(ball, radius, 1.0))[:, None]
    xyz = boxes.to_world(local, box) + boxes.center[box]
    return xyz, xyz + CONTACT * boxes.to_world(around, box), box


def _find_covered(boxes: BoxArrays, xyz: np.ndarray, owner: np.ndarray, slack: float) -> np.ndarray:
    """Which points [N] bool lie inside a solid other than their own.

    Args:
        boxes: the scene.
        xyz: [N, 3], along x in order but for `slack` metres.
        owner: solid of each point [N].
        slack: see `xyz`.
    """
    covered = np.zeros(len(xyz), dtype=bool)
    reach = np.einsum("bij,bj->bi", np.abs(boxes.turn), boxes.half)  # of the upright hull
    low, high = boxes.center - reach, boxes.center + reach
    x, y, z = np.ascontiguousarray(xyz.T)
    x = np.maximum.accumulate(x)
    start = np.searchsorted(x, low[:, 0])
    end = np.searchsorted(x, high[:, 0] + slack)
    for b in range(len(boxes.center)):
        rows = slice(start[b], end[b])
        near = (z[rows] > low[b, 2]) & (z[rows] < high[b, 2])
        near &= (y[rows] > low[b, 1]) & (y[rows] < high[b, 1])
        near &= owner[rows] != b
        found = start[b] + np.flatnonzero(near)
        if len(found):
            local = (xyz[found] - boxes.center[b]) @ boxes.turn[b]
            covered[found[boxes.contains(local, b)]] = True
    return covered
