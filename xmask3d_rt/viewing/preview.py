"""Pictures of a labelled cloud that people can look at: the room from above.

The near walls and the ceiling are left out, so that one looks into the room; edges are
darkened by what stands in front of what.

Source: eye-dome lighting, Boucheny 2009 (Interactive scientific visualization of large
datasets), for the edges.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from xmask3d_rt.arrays import check_finite, to_numpy
from xmask3d_rt.kernels import RenderedView, estimate_spacing, render_view
from xmask3d_rt.viewing.gravity import check_up, estimate_up, thin_points
from xmask3d_rt.viewing.legend import BACKGROUND, draw_legend
from xmask3d_rt.viewing.virtual import level_rotation

__all__ = ["BACKGROUND", "draw_legend", "render_preview", "render_previews"]

OVERSAMPLING = 2
PITCH = np.deg2rad(-52)
TANGENT = np.tan(np.deg2rad(15))  # of half the field of view of the longer side
MARGIN = 1.03
AZIMUTHS = 12
STRAY = 0.001  # share of the points, at either end of each axis, that may leave the picture
OVERLAP = 1.15  # of splats: the picture shows no gaps, at the cost of fine edges
TRIAL_POINTS = 20_000
TRIAL_SIZE = (120, 160)
CEILING_BAND = 0.3  # metres below the top
CEILING_COVER = 0.35  # share of the footprint over which a ceiling lies
CELL = 0.1  # metres, of the footprint
WALL_DEPTH = 0.05  # metres; scatter of a scanned wall
WALL_SLANT = 0.3  # metres that a wall may recede across one slice
WALL_HEIGHT = 0.6  # share of the room's height that makes a wall
WALL_KEEP = 0.1  # metres of a near wall that stay, to show where it stood
EDGE_STRENGTH = 60.0
EDGE_REACH = 2  # pixels


def render_preview(
    points: Any, colors: Any, size: tuple[int, int] = (900, 1200), up: Any = None
) -> np.ndarray:
    """Picture of a cloud seen obliquely from above, near walls and ceiling cut away.

    Args:
        points: positions in metres, [N, 3] with N >= 1.
        colors: colours [N, 3] uint8, for instance those of the points' classes.
        size: (rows, columns) of the picture.
        up: direction away from the floor [3]; None estimates it.

    Returns:
        [H, W, 3] uint8 on a light background.

    Raises:
        ValueError: an empty cloud, wrong shapes, NaN or infinite positions, a size below 16.
        TypeError: colours that are not uint8.
    """
    return render_previews(points, [colors], size, up)[0]


def render_previews(
    points: Any, colorings: Sequence[Any], size: tuple[int, int] = (900, 1200), up: Any = None
) -> list[np.ndarray]:
    """The same picture of a cloud in several colourings, for little more than the time of one.

    Args:
        points: as for `render_preview`.
        colorings: colours [N, 3] uint8 each.
        size: as for `render_preview`.
        up: as for `render_preview`.

    Returns:
        [H, W, 3] uint8 per colouring.

    Raises:
        ValueError, TypeError: as `render_preview`.
    """
    xyz = _check_points(points)
    tables = [_check_colors(colors, xyz.shape) for colors in colorings]
    if len(size) != 2 or min(size) < 16:
        raise ValueError(f"render_preview: size must be (rows, columns) of 16 or more, got {size}")
    vertical = estimate_up(xyz) if up is None else check_up(up, "render_preview")
    level = xyz @ level_rotation(vertical).T  # z up
    kept = (~_find_ceiling(level)).nonzero()[0]
    yaw = _choose_yaw(level[kept])
    kept = kept[~_find_near_walls(level[kept], yaw)]
    return _draw(level[kept], [colors[kept] for colors in tables], yaw, size)


def _check_points(points: Any) -> np.ndarray:
    """Positions [N, 3] float64."""
    xyz = to_numpy(points, "render_preview: points")
    if xyz.ndim != 2 or xyz.shape[1] != 3 or len(xyz) == 0:
        raise ValueError(
            f"render_preview: points must have shape [N, 3] with N >= 1, got {list(xyz.shape)}"
        )
    check_finite(xyz, "render_preview: points")
    return xyz.astype(np.float64)


def _check_colors(colors: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Colours [N, 3] uint8."""
    rgb = to_numpy(colors, "render_preview: colors")
    if rgb.shape != shape:
        raise ValueError(
            f"render_preview: colors must have shape {list(shape)} like points, "
            f"got {list(rgb.shape)}"
        )
    if rgb.dtype != np.uint8:
        raise TypeError(f"render_preview: colors must be uint8 (0-255), got {rgb.dtype}")
    return rgb


def _footprint(xy: np.ndarray, low: np.ndarray) -> int:
    """Number of cells that points [n, 2] occupy."""
    cell = np.floor((xy - low) / CELL).astype(np.int64)
    return len(np.unique(cell[:, 0] * (1 << 31) + cell[:, 1]))


def _find_ceiling(level: np.ndarray) -> np.ndarray:
    """Points [N] bool of a ceiling: a band at the top, if it lies over much of the footprint."""
    low, high = np.quantile(level[:, 2], [0.005, 0.995])
    band = level[:, 2] > high - CEILING_BAND
    if high - low < 3 * CEILING_BAND:
        return np.zeros(len(level), dtype=bool)
    corner = level[:, :2].min(axis=0)
    covered = _footprint(level[band, :2], corner) / _footprint(level[:, :2], corner)
    return band & (covered > CEILING_COVER)


def _camera_axes(yaw: float) -> np.ndarray:
    """Rows right, down, forward [3, 3] of a camera that looks along `yaw`, tilted by PITCH."""
    flat = np.cos(PITCH)
    forward = np.array([flat * np.cos(yaw), flat * np.sin(yaw), np.sin(PITCH)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    return np.stack([right, np.cross(forward, right), forward])


def _find_near_walls(level: np.ndarray, yaw: float) -> np.ndarray:
    """Points [N] bool of walls between a camera looking along `yaw` and the room.

    In every vertical slice along the view direction, the foremost layer is a wall if it reaches
    up to WALL_HEIGHT of the room; its foot stays.
    """
    low, high = np.quantile(level[:, 2], [0.01, 0.99])
    height = level[:, 2] - low
    across = level[:, :2] @ (np.sin(yaw), -np.cos(yaw))
    away = level[:, :2] @ (np.cos(yaw), np.sin(yaw))
    step = np.floor((across - across.min()) / CELL).astype(np.int64)
    front = np.full(step.max() + 1, np.inf)
    np.minimum.at(front, step, away)
    # Slices between others may hold no point.
    filled = np.isfinite(front)
    front = np.interp(np.arange(len(front)), np.flatnonzero(filled), front[filled])
    slant = np.abs(np.gradient(front)) if len(front) > 1 else np.zeros(1)
    foremost = away < (front + WALL_DEPTH + np.minimum(slant, WALL_SLANT))[step]
    reach = np.zeros(len(front))
    np.maximum.at(reach, step[foremost], height[foremost])
    wall = reach > WALL_HEIGHT * (high - low)
    return foremost & wall[step] & (height > WALL_KEEP)


def _choose_yaw(level: np.ndarray) -> float:
    """The direction of view, of AZIMUTHS even ones, in which most of the cloud shows."""
    trial = thin_points(level, TRIAL_POINTS)
    yaws = np.arange(AZIMUTHS) * (2 * np.pi / AZIMUTHS)
    shown = []
    for yaw in yaws:
        kept = trial[~_find_near_walls(trial, yaw)]
        index = _render(kept, yaw, TRIAL_SIZE).point_index
        shown.append(len(index[index >= 0].unique()))
    return float(yaws[int(np.argmax(shown))])


def _render(level: np.ndarray, yaw: float, size: tuple[int, int]) -> RenderedView:
    """Depth and point index of the cloud, fitted into the picture; its image is black."""
    axes = _camera_axes(yaw)
    camera = axes @ level.T  # [3, N]: NumPy is slow along rows of three
    focal = max(size) / 2 / TANGENT
    tangents = np.array([size[1], size[0]]) / 2 / focal / MARGIN
    low, high = np.quantile(camera, [STRAY, 1 - STRAY], axis=1)[..., None]
    body = camera[:, ((camera >= low) & (camera <= high)).all(axis=0)]
    body = body if body.size else camera
    center = (body.min(axis=1) + body.max(axis=1)) / 2
    for _ in range(3):  # perspective moves the middle; three rounds settle it
        x, y, z = body - center[:, None]
        needed = max((np.abs(x) / tangents[0] - z).max(), (np.abs(y) / tangents[1] - z).max())
        distance = max(needed, 0.2 - z.min())
        for axis, values in enumerate((x, y)):
            screen = values / (z + distance)
            center[axis] += (screen.min() + screen.max()) / 2 * distance
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = axes
    world_to_camera[:3, 3] = (0, 0, distance) - center
    intrinsics = np.array([[focal, 0, (size[1] - 1) / 2], [0, focal, (size[0] - 1) / 2], [0, 0, 1]])
    cloud = torch.from_numpy(level)
    return render_view(
        cloud,
        torch.zeros(cloud.shape, dtype=torch.uint8),
        torch.from_numpy(intrinsics),
        torch.from_numpy(world_to_camera),
        size,
        OVERLAP * estimate_spacing(cloud),
    )


def _draw(
    level: np.ndarray, colorings: Sequence[np.ndarray], yaw: float, size: tuple[int, int]
) -> list[np.ndarray]:
    """The shaded pictures, averaged down from OVERSAMPLING times their size."""
    view = _render(level, yaw, (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING))
    index = view.point_index.numpy()
    shade = _edge_shade(view.depth.numpy())
    shade[index < 0] = 1
    return [_color(index, shade, colors, size) for colors in colorings]


def _color(
    index: np.ndarray, shade: np.ndarray, colors: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """One picture from the point behind every pixel; -1 finds the background, the last row."""
    table = np.vstack([colors, np.array([BACKGROUND], np.uint8)])
    picture = (table.take(index, axis=0) * shade[..., None]).astype(np.uint8)
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BOX))


def _edge_shade(depth: np.ndarray) -> np.ndarray:
    """Brightness [H, W] in (0, 1]: darker the farther a pixel lies behind its neighbours."""
    logarithm = np.log2(np.where(depth > 0, depth, depth.max(initial=1.0)))
    reach = EDGE_REACH * OVERSAMPLING // 2
    padded = np.pad(logarithm, reach, mode="edge")
    height, width = depth.shape
    behind = np.zeros_like(logarithm)
    for row in (0, reach, 2 * reach):
        for col in (0, reach, 2 * reach):
            neighbour = padded[row : row + height, col : col + width]
            behind += np.maximum(logarithm - neighbour, 0)
    return np.exp(-EDGE_STRENGTH * behind / 8)
