"""render_view: a point cloud drawn into a pinhole camera."""

import torch
from torch import Tensor

from xmask3d_rt.kernels.checks import check_device, check_float, check_shape
from xmask3d_rt.kernels.dispatch import Operator
from xmask3d_rt.kernels.render_view.reference import (
    RenderedView,
    make_outputs,
    render_view_reference,
)
from xmask3d_rt.kernels.render_view.spacing import estimate_spacing

MAX_POINTS = 2**31 - 1
MAX_SPACING = 1000.0  # metres


def render_view(
    points: Tensor,  # [N, 3]
    rgb: Tensor,  # [N, 3]
    K: Tensor,  # [3, 3]
    world_to_camera: Tensor,  # [4, 4]
    size: tuple[int, int],
    spacing: float | Tensor | None = None,
    smooth: bool = False,
) -> RenderedView:
    """Draw a coloured point cloud as z-buffered discs, with small holes filled.

    A point at camera depth z is a disc of radius 0.75 * spacing * focal / z pixels (0.5 to 24)
    around its projection; of the points that cover a pixel the nearest to the camera wins, and
    among those of one surface the nearest to the pixel. Pixels that no disc covers, but most of
    their neighbours are covered, take the farthest neighbour's point, three times over. The
    same image on every device: what decides is integer arithmetic.

    Args:
        points: Positions in metres, `[N, 3]` float; N = 0 is legal; points that are not finite,
            nearer than 6 cm or farther than 32 km are not drawn.
        rgb: Colours, `[N, 3]` uint8.
        K: Intrinsics of the image, `[3, 3]` px; skew is taken as 0.
        world_to_camera: Transform of the points into the camera (x right, y down, z forward),
            `[4, 4]`.
        size: (H, W) of the image.
        spacing: Distance between neighbouring points in metres, a number or a tensor `[1]`;
            None estimates it (`estimate_spacing`; pass it when drawing many views).
        smooth: Average colours over the radius of a disc within a surface, which takes the
            mosaic out of sparse clouds. Else image = rgb[point_index].

    Returns:
        RenderedView(image [H, W, 3] uint8, depth [H, W] float32, point_index [H, W] int64);
        a filled pixel carries depth and index of the point it took.

    Raises:
        ValueError: wrong shapes, tensors on two devices, an empty size, more than 2^31 - 1
            points, or a spacing outside (0, 1000] metres.
        TypeError: integer points or matrices, colours that are not uint8.
    """
    check_shape("render_view", "points", points, (None, 3), "[N, 3]")
    check_shape("render_view", "rgb", rgb, (points.shape[0], 3), "[N, 3]")
    check_shape("render_view", "K", K, (3, 3), "[3, 3]")
    check_shape("render_view", "world_to_camera", world_to_camera, (4, 4), "[4, 4]")
    check_float("render_view", points=points, K=K, world_to_camera=world_to_camera)
    check_device("render_view", points=points, rgb=rgb, K=K, world_to_camera=world_to_camera)
    if rgb.dtype != torch.uint8:
        raise TypeError(f"render_view: rgb must be uint8 (0-255), got {rgb.dtype}")
    if points.shape[0] > MAX_POINTS:
        raise ValueError(
            f"render_view: {points.shape[0]} points exceed {MAX_POINTS}; render parts of the cloud"
        )
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"render_view: size must be (H, W), both at least 1, got {size}")
    step = _spacing_tensor(points, spacing)
    height, width = (int(extent) for extent in size)
    return _render_view(points, rgb, K, world_to_camera, (height, width), step, smooth)


def _spacing_tensor(points: Tensor, spacing: float | Tensor | None) -> Tensor:
    """[1] float64 on the device of the points."""
    if spacing is None:
        return estimate_spacing(points)
    if isinstance(spacing, Tensor):
        check_shape("render_view", "spacing", spacing, (1,), "[1]")
        check_device("render_view", points=points, spacing=spacing)
        return spacing.double()
    if not 0 < spacing <= MAX_SPACING:
        raise ValueError(
            f"render_view: spacing must lie in (0, {MAX_SPACING:g}] metres, got {spacing}"
        )
    return torch.full((1,), spacing, dtype=torch.float64, device=points.device)


_render_view = Operator("render_view", render_view_reference, make_outputs)
