"""project_view: pixel and visibility of every point in one posed view."""

import torch

from xmask3d_rt.kernels.checks import check_device, check_float, check_shape
from xmask3d_rt.kernels.dispatch import Operator
from xmask3d_rt.kernels.project_view.reference import (
    ProjectedView,
    make_outputs,
    project_view_reference,
)


def project_view(
    points: torch.Tensor,  # [N, 3]
    K: torch.Tensor,  # [3, 3]
    world_to_camera: torch.Tensor,  # [4, 4]
    depth: torch.Tensor | None = None,  # [H, W]
    border: int = 10,
    tolerance: float = 0.25,
    size: tuple[int, int] | None = None,
) -> ProjectedView:
    """Pixel and visibility of every point in one posed view.

    p = world_to_camera @ point; (u, v) = round-half-even(f * p.xy / p.z + c). Visible: p.z > 0,
    the pixel lies at least `border` pixels inside the image, and, with a depth image,
    |depth[v, u] - p.z| <= tolerance * depth[v, u] where depth 0 means no measurement, hence
    not visible. All arithmetic is float64. Skew (K[0, 1]) is taken as 0.

    Args:
        points: Scene points in metres, `[N, 3]` float; N = 0 is legal.
        K: Intrinsics of the pixel grid that `depth` or `size` describes, `[3, 3]` px.
        world_to_camera: Rigid transform of the scene into the camera, `[4, 4]`.
        depth: Depth image in metres, `[H, W]` float, 0 = no measurement; None for no test.
        border: Unused margin of the image in pixels.
        tolerance: Relative depth error of a visible point.
        size: (H, W) of the pixel grid, needed when `depth` is None.

    Returns:
        `ProjectedView` with row, col `[N]` int32, visible `[N]` bool, indices `[N]` int64 and
        count `[1]` int64.

    Raises:
        ValueError: wrong shapes, tensors on two devices, neither `depth` nor `size`, a `size`
            that differs from the depth image, or a negative border or tolerance.
        TypeError: integer points or depth.

    Source: design of XMask3D, PointCloudToImageMapper; it divides by z before z > 0 is tested.
    """
    check_shape("project_view", "points", points, (None, 3), "[N, 3]")
    check_shape("project_view", "K", K, (3, 3), "[3, 3]")
    check_shape("project_view", "world_to_camera", world_to_camera, (4, 4), "[4, 4]")
    check_float("project_view", points=points, K=K, world_to_camera=world_to_camera)
    check_device("project_view", points=points, K=K, world_to_camera=world_to_camera)
    if border < 0 or tolerance < 0:
        raise ValueError(
            f"project_view: border and tolerance must be >= 0, got {border} and {tolerance}"
        )
    if depth is not None:
        check_shape("project_view", "depth", depth, (None, None), "[H, W]")
        check_float("project_view", depth=depth)
        check_device("project_view", points=points, depth=depth)
        found = (int(depth.shape[0]), int(depth.shape[1]))
        if size is not None and tuple(size) != found:
            raise ValueError(
                f"project_view: size {tuple(size)} differs from the depth image {found}; "
                f"resize the depth or leave size out"
            )
        size = found
    if size is None:
        raise ValueError("project_view: no depth image; pass size=(H, W) of the pixel grid")
    return _project_view(
        points, K, world_to_camera, depth, (int(size[0]), int(size[1])), border, float(tolerance)
    )


_project_view = Operator("project_view", project_view_reference, make_outputs)
