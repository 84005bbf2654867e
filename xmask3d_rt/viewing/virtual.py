"""Views of a coloured point cloud that comes without any: cameras inside it, rendered."""

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from xmask3d_rt.arrays import check_finite, to_numpy
from xmask3d_rt.kernels import estimate_spacing, render_view
from xmask3d_rt.scene.cloud import MAX_COORDINATE
from xmask3d_rt.scene.view import View
from xmask3d_rt.scene.view_checks import check_number
from xmask3d_rt.viewing.gravity import check_up, estimate_up, thin_points
from xmask3d_rt.viewing.planning import Placement, plan_views

SAMPLES = 8_000  # points that coverage is counted on
NEAR = 256.0  # metres; a cloud is planned this near to the origin, wherever it lies
MIN_EXTENT = 8  # pixels
MAX_PIXELS = 1 << 25  # of a view; 7680 x 4320 has 33 million
MAX_HELD = 1 << 30  # pixels of all views, 7 bytes each


def place_views(
    points: Any,
    rgb: Any,
    up: Any = None,
    count: int = 8,
    seed: int = 0,
    size: tuple[int, int] = (480, 640),
    fov: float = 65.0,
    device: torch.device | None = None,
) -> list[View]:
    """Place cameras inside a scene by what they see, and render them.

    Cameras stand at eye height in free space above known floor, upright, looking level or
    slightly down; each one is the best of about 2,000 candidates by the surface that the ones
    before it do not show. A scan too small to stand in is seen from around it.

    Args:
        points: positions in metres, [N, 3]: an array, or a tensor on any device.
        rgb: colours [N, 3] uint8.
        up: direction away from the floor [3]; None estimates it.
        count: number of views, >= 1.
        seed: decides what is left open; equal seeds, equal views.
        size: (rows, columns) of the images.
        fov: horizontal field of view in degrees, 20 to 120.
        device: where views are rendered; None is where the points are.

    Returns:
        Views with image, depth in metres, intrinsics and camera_to_world; pixels that see no
        point are black with depth 0.

    Raises:
        ValueError: an empty cloud, wrong shapes, or a count, seed, size, field of view or up
            direction out of range.
        TypeError: colours that are not uint8, a count, seed or size that is no integer.
    """
    xyz = _check_cloud(points, rgb)
    origin = np.round(xyz.mean(axis=0) / NEAR) * NEAR  # 0 for most clouds
    xyz -= origin
    count, seed, size = _check_counts(count, seed, size)
    fov = check_number(fov, "place_views: fov")
    if not 20 <= fov <= 120:
        raise ValueError(f"place_views: fov must lie in 20..120 degrees, got {fov}")
    vertical = estimate_up(xyz) if up is None else check_up(up, "place_views")
    rng = np.random.default_rng(seed)
    world_to_level = level_rotation(vertical)
    tangent = float(np.tan(np.deg2rad(fov) / 2))
    placements = plan_views(
        xyz @ world_to_level.T,
        thin_points(xyz, SAMPLES) @ world_to_level.T,
        count,
        rng,
        (tangent * size[0] / size[1], tangent),
    )
    poses = [_pose(placement, world_to_level, origin) for placement in placements]
    return render_views(points, rgb, poses, size, view_intrinsics(size, fov), device)


def render_views(
    points: Any,
    rgb: Any,
    poses: list[np.ndarray],
    size: tuple[int, int],
    intrinsics: np.ndarray,
    device: torch.device | None = None,
) -> list[View]:
    """Render a cloud from given cameras.

    Args:
        points: positions [N, 3].
        rgb: colours [N, 3] uint8.
        poses: camera_to_world [4, 4] of every view.
        size: (rows, columns).
        intrinsics: K [3, 3] px of all views.
        device: where to render; None is where the points are.
    """
    cloud = _as_tensor(points, "points").to(device)
    cloud = cloud if cloud.is_floating_point() else cloud.double()
    colors = _as_tensor(rgb, "rgb").to(cloud.device)
    camera = torch.as_tensor(intrinsics, device=cloud.device)
    spacing = estimate_spacing(cloud)
    views = []
    for index, camera_to_world in enumerate(poses):
        world_to_camera = torch.as_tensor(np.linalg.inv(camera_to_world), device=cloud.device)
        drawn = render_view(cloud, colors, camera, world_to_camera, size, spacing, smooth=True)
        image, depth = drawn.image.cpu().numpy(), drawn.depth.cpu().numpy()
        views.append(View(image, depth, intrinsics, camera_to_world, name=f"virtual {index}"))
    return views


def _as_tensor(values: Any, name: str) -> torch.Tensor:
    """A tensor on the device it is on, or one on the host."""
    if isinstance(values, torch.Tensor):
        return values
    return torch.from_numpy(np.require(to_numpy(values, f"render_views: {name}"), None, ["C", "W"]))


def view_intrinsics(size: tuple[int, int], fov: float) -> np.ndarray:
    """K [3, 3] of a centred camera with square pixels, `fov` degrees wide."""
    height, width = size
    focal = width / 2 / np.tan(np.deg2rad(fov) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def level_rotation(up: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] that takes the unit vector `up` to z."""
    helper = np.eye(3)[int(np.abs(up).argmin())]
    x = np.cross(helper, up)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(up, x), up])


def _pose(placement: Placement, world_to_level: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """camera_to_world [4, 4] of a camera given in the level frame around `origin` [3]."""
    forward = placement.forward
    right = np.array([np.sin(placement.yaw), -np.cos(placement.yaw), 0.0])
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)  # level frame
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = world_to_level.T @ axes
    camera_to_world[:3, 3] = world_to_level.T @ placement.position + origin
    return camera_to_world


def _check_counts(count: Any, seed: Any, size: Any) -> tuple[int, int, tuple[int, int]]:
    """Number of views, seed and (rows, columns), within what memory holds."""
    count, seed = _as_integer(count, "count"), _as_integer(seed, "seed")
    if count < 1:
        raise ValueError(f"place_views: count must be >= 1, got {count}")
    if seed < 0:
        raise ValueError(f"place_views: seed must be >= 0, got {seed}")
    extents = tuple(size) if isinstance(size, Iterable) else (size,)
    if len(extents) != 2:
        raise ValueError(f"place_views: size must be (rows, columns), got {size!r}")
    rows, columns = (_as_integer(extent, "size") for extent in extents)
    if min(rows, columns) < MIN_EXTENT or rows * columns > MAX_PIXELS:
        raise ValueError(
            f"place_views: size must be (rows, columns) of {MIN_EXTENT} or more and at most "
            f"{MAX_PIXELS:,} pixels, got ({rows}, {columns})"
        )
    if count * rows * columns > MAX_HELD:
        raise ValueError(
            f"place_views: count is {count}, but views of {columns}x{rows} fit into memory "
            f"{MAX_HELD // (rows * columns)} times at most; ask for fewer or smaller ones"
        )
    return count, seed, (rows, columns)


def _as_integer(value: Any, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        raise TypeError(
            f"place_views: {name} must be an integer, got {type(value).__name__}"
        ) from error


def _check_cloud(points: Any, rgb: Any) -> np.ndarray:
    """Positions on the host as [N, 3] float64."""
    xyz, colors = to_numpy(points, "place_views: points"), to_numpy(rgb, "place_views: rgb")
    if xyz.ndim != 2 or xyz.shape[1] != 3 or len(xyz) == 0:
        raise ValueError(
            f"place_views: points must have shape [N, 3] with N >= 1, got {list(xyz.shape)}"
        )
    if colors.shape != xyz.shape:
        raise ValueError(
            f"place_views: rgb must have shape {list(xyz.shape)} like points, "
            f"got {list(colors.shape)}"
        )
    if colors.dtype != np.uint8:
        raise TypeError(f"place_views: rgb must be uint8 (0-255), got {colors.dtype}")
    low, high = check_finite(xyz, "place_views: points")
    if max(-low, high) > MAX_COORDINATE:
        raise ValueError(
            f"place_views: coordinates reach {max(-low, high):.6g} m, at most {MAX_COORDINATE:,}; "
            "subtract an offset from the points"
        )
    return xyz.astype(np.float64)
