"""Where to stand and look in a scene so that few views see most of it.

All of it works in a gravity-aligned frame: z up, floor and walls where they are. A candidate is
a free place at eye height over known floor; what it sees is read from one spherical depth map
per place; views are taken greedily by what they add.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt

CELL = 0.1  # metres, edge of an occupancy cell
MAX_CELLS = 400  # per axis; larger scenes get larger cells
EYE_HEIGHTS = (1.3, 1.5, 1.7)  # metres above the floor
LOW_EYES = (0.55, 0.7, 0.85)  # shares of the height of scenes lower than a person
CLEARANCES = (0.4, 0.25, 0.15)  # metres to the nearest obstacle; the first that leaves a place
PLACES = 80
YAWS = 12
PITCHES = (-8.0, -26.0)  # degrees
BINS = (60, 120)  # elevation x azimuth: 3 degrees each
SIGHT = (1.1, 0.15)  # a point is hidden when farther than depth * 1.1 + 0.15 m
NEAR = 0.6  # metres; surfaces nearer than that fill a picture with one texture
FAR = 3.0  # metres; points beyond count less and less
SMALLEST_RADIUS = 0.1  # metres; a camera cannot come nearer to a single point
SEEN_AGAIN = 0.5  # worth of a point with every view that already sees it


@dataclass(frozen=True)
class Placement:
    """One camera in the gravity-aligned frame."""

    position: np.ndarray  # [3] metres
    yaw: float  # radians from the x axis
    pitch: float  # radians, negative = down

    @property
    def forward(self) -> np.ndarray:
        """Unit viewing direction [3]."""
        flat = np.cos(self.pitch)
        return np.array([flat * np.cos(self.yaw), flat * np.sin(self.yaw), np.sin(self.pitch)])


def plan_views(
    xyz: np.ndarray,
    samples: np.ndarray,
    count: int,
    rng: np.random.Generator,
    tangents: tuple[float, float],
) -> list[Placement]:
    """`count` cameras inside a scene, or around it where there is no place inside.

    Args:
        xyz: all points [N, 3], z up.
        samples: a few thousand of them, evenly spread [S, 3].
        count: views wanted, >= 1.
        rng: generator of the choices left open.
        tangents: tangents of half the vertical and half the horizontal field of view.
    """
    places = find_places(xyz, rng)
    if not len(places):
        return _orbit(samples, count, rng, tangents)
    coverage, quality, placements = _rate_candidates(places, samples, rng, tangents)
    worth = np.ones(len(samples), dtype=np.float32)
    chosen = []
    for _ in range(count):
        gain = (coverage @ worth) * quality
        best = int(gain.argmax())
        chosen.append(placements[best])
        worth = worth * np.where(coverage[best] > 0, SEEN_AGAIN, 1).astype(np.float32)
        quality[best] *= 0.1  # the same picture twice tells nothing new
    return chosen


def find_places(xyz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Free places at eye height above surfaces of the scene, well spread.

    Args:
        xyz: all points [N, 3], z up.
        rng: generator of the first place.

    Returns:
        [P, 3] with P <= PLACES; P = 0 where nobody could stand, as in the scan of one object.
    """
    floor, top = np.quantile(xyz[:, 2], [0.01, 0.99])
    height = top - floor
    if height < max(EYE_HEIGHTS) + 0.2:
        eyes = [floor + share * height for share in LOW_EYES]
    else:
        eyes = [floor + eye for eye in EYE_HEIGHTS]
    low = xyz[:, :2].min(axis=0)
    cell = max(CELL, np.ptp(xyz[:, :2], axis=0).max() / MAX_CELLS)
    index = np.floor((xyz[:, :2] - low) / cell).astype(np.int64)  # [N, 2]
    shape = tuple(index.max(axis=0) + 1)
    for clearance in CLEARANCES:
        free = []
        for eye in eyes:
            mask = _free_cells(index, xyz[:, 2], shape, eye, clearance / cell)
            cells = np.argwhere(mask)
            spots = low + (cells + 0.5) * cell
            free.append(np.column_stack([spots, np.full(len(spots), eye)]))
        places = np.concatenate(free)
        if len(places):
            return _spread(places, rng)
    return np.zeros((0, 3))


def _free_cells(
    index: np.ndarray, z: np.ndarray, shape: tuple[int, int], eye: float, clearance: float
) -> np.ndarray:
    """Cells [X, Y] with something to stand on below and nothing near at eye level.

    `clearance` is in cells.
    """
    blocked = np.zeros(shape, dtype=bool)
    blocked[tuple(index[np.abs(z - eye) < 0.3].T)] = True
    ground = np.zeros(shape, dtype=bool)
    ground[tuple(index[z < eye - 0.5].T)] = True
    ground = binary_dilation(ground, iterations=2)
    free = np.pad(~blocked, 1, constant_values=True)  # outside the scan is unknown, not solid
    distance = distance_transform_edt(free)[1:-1, 1:-1] if blocked.any() else np.inf
    return ground & ~blocked & (distance > clearance)


def _spread(places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to PLACES of the places, each as far as possible from those before it."""
    chosen = [int(rng.integers(len(places)))]
    distance = np.full(len(places), np.inf)
    while len(chosen) < min(PLACES, len(places)):
        offset = places - places[chosen[-1]]
        distance = np.minimum(distance, (offset**2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return places[chosen]


def _rate_candidates(
    places: np.ndarray,
    samples: np.ndarray,
    rng: np.random.Generator,
    tangents: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray, list[Placement]]:
    """What every place sees in every direction.

    Returns:
        coverage [V, S] float32 (worth of each sample in each view, 0 = not seen), quality [V]
        (1 = full of surfaces at a good distance), and the V views.
    """
    yaws = rng.uniform(0, 2 * np.pi) + np.arange(YAWS) * (2 * np.pi / YAWS)
    aims = [(yaw, np.deg2rad(pitch)) for yaw in yaws for pitch in PITCHES]
    windows = _view_windows(aims, tangents)  # [A, bins]
    solid = np.repeat(np.cos(_bin_elevations()), BINS[1])  # [bins], size on the sphere
    share = windows * solid / (windows * solid).sum(axis=1, keepdims=True)
    coverage = np.zeros((len(places), len(aims), len(samples)), dtype=np.float32)
    quality = np.zeros((len(places), len(aims)), dtype=np.float32)
    for row, place in enumerate(places):
        visible, bins, distance, depth = _look_around(place, samples)
        worth = np.exp(-np.maximum(distance - FAR, 0) / FAR).astype(np.float32)
        coverage[row][:, visible] = windows[:, bins] * worth
        filled = share @ np.isfinite(depth)
        crowded = share @ (depth < NEAR)
        quality[row] = filled**1.5 * (1 - crowded) ** 2
    placements = [Placement(place, *aim) for place in places for aim in aims]
    return coverage.reshape(-1, len(samples)), quality.ravel(), placements


def _bin_elevations() -> np.ndarray:
    """Elevation [rows] of the middle of every row of the spherical map, radians."""
    return (np.arange(BINS[0]) + 0.5) * (np.pi / BINS[0]) - np.pi / 2


def _view_windows(aims: list[tuple[float, float]], tangents: tuple[float, float]) -> np.ndarray:
    """Which bins of the sphere each (yaw, pitch) sees [A, bins] bool."""
    elevation = _bin_elevations()[:, None]
    azimuth = (np.arange(BINS[1]) + 0.5)[None, :] * (2 * np.pi / BINS[1]) - np.pi
    x, y = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)
    rays = np.stack([x, y, np.broadcast_to(np.sin(elevation), x.shape)], axis=-1).reshape(-1, 3)
    windows = []
    for yaw, pitch in aims:
        forward = Placement(np.zeros(3), yaw, pitch).forward
        right = np.array([np.sin(yaw), -np.cos(yaw), 0])
        ahead = rays @ forward
        across, down = rays @ right, rays @ np.cross(forward, right)
        seen = (ahead > 0) & (np.abs(across) < tangents[1] * ahead)
        windows.append(seen & (np.abs(down) < tangents[0] * ahead))
    return np.stack(windows)


def _look_around(
    place: np.ndarray, samples: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Spherical view of the samples from a place.

    Returns:
        rows of the visible samples [v], their bins [v] and distances [v], and the depth of
        every bin (inf = nothing) [bins].
    """
    offset = samples - place
    distance = np.linalg.norm(offset, axis=1)
    elevation = np.arcsin(np.clip(offset[:, 2] / np.maximum(distance, 1e-9), -1, 1))
    azimuth = np.arctan2(offset[:, 1], offset[:, 0])
    row = ((elevation / np.pi + 0.5) * BINS[0]).astype(np.int64).clip(0, BINS[0] - 1)
    col = ((azimuth / np.pi + 1) / 2 * BINS[1]).astype(np.int64).clip(0, BINS[1] - 1)
    bins = row * BINS[1] + col
    depth = np.full(BINS[0] * BINS[1], np.inf)
    np.minimum.at(depth, bins, distance)
    # Samples lie apart: each stands for a patch that also covers the neighbouring bins.
    wide = np.pad(depth.reshape(BINS), ((0, 0), (1, 1)), mode="wrap")
    wide = np.minimum(np.minimum(wide[:, :-2], wide[:, 1:-1]), wide[:, 2:])
    wide = np.pad(wide, ((1, 1), (0, 0)), mode="edge")
    wide = np.minimum(np.minimum(wide[:-2], wide[1:-1]), wide[2:]).ravel()
    visible = np.flatnonzero(distance <= SIGHT[0] * wide[bins] + SIGHT[1])
    return visible, bins[visible], distance[visible], wide


def _orbit(
    samples: np.ndarray, count: int, rng: np.random.Generator, tangents: tuple[float, float]
) -> list[Placement]:
    """Cameras around an object, looking down at its middle, from where all of it fits."""
    low, high = np.quantile(samples, [0.005, 0.995], axis=0)
    center, radius = (low + high) / 2, max(np.linalg.norm(high - low) / 2, SMALLEST_RADIUS)
    distance = radius / np.sin(np.arctan(min(tangents)))
    start = rng.uniform(0, 2 * np.pi)
    placements = []
    for index in range(count):
        yaw = start + 2 * np.pi * index / count
        aim = Placement(center, yaw, np.deg2rad((-20, -40)[index % 2]))
        placements.append(Placement(center - distance * aim.forward, aim.yaw, aim.pitch))
    return placements
