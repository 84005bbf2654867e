"""project_view: pixel and visibility of every point in one posed view."""

import struct
from dataclasses import dataclass

import torch

from xmask3d_rt.kernels.checks import check_device, check_float, check_shape
from xmask3d_rt.kernels.dispatch import block_size, define_op
from xmask3d_rt.kernels.project_view.reference import project_view_reference

BLOCK = 512


@dataclass(frozen=True)
class ProjectedView:
    """Where each point falls in a view.

    `indices` lists the visible points in ascending order in its first `count` entries; the
    rest is -1, so that its shape does not depend on the data and no host sync is needed.
    """

    row: torch.Tensor  # [N] int32, 0 where not visible
    col: torch.Tensor  # [N] int32, 0 where not visible
    visible: torch.Tensor  # [N] bool
    indices: torch.Tensor  # [N] int64
    count: torch.Tensor  # [1] int64

    def visible_indices(self) -> torch.Tensor:
        """The visible points, [n] int64 ascending; waits for the device."""
        return self.indices[: int(self.count)]


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
    return ProjectedView(
        *_project_view(
            points, K, world_to_camera, depth, int(size[0]), int(size[1]), border, tolerance
        )
    )


def _project_view_cpu(
    points: torch.Tensor,
    K: torch.Tensor,
    world_to_camera: torch.Tensor,
    depth: torch.Tensor | None,
    height: int,
    width: int,
    border: int,
    tolerance: float,
) -> tuple[torch.Tensor, ...]:
    row, col, visible = project_view_reference(
        points, K, world_to_camera, depth, (height, width), border, tolerance
    )
    found = visible.nonzero().flatten()
    indices = found.new_full((points.shape[0],), -1)
    indices[: found.numel()] = found
    return row, col, visible, indices, torch.tensor([found.numel()])


def _project_view_triton(
    points: torch.Tensor,
    K: torch.Tensor,
    world_to_camera: torch.Tensor,
    depth: torch.Tensor | None,
    height: int,
    width: int,
    border: int,
    tolerance: float,
) -> tuple[torch.Tensor, ...]:
    import triton

    from xmask3d_rt.kernels.project_view import kernel

    n = points.shape[0]
    row, col, visible, indices, count = _project_view_fake(
        points, K, world_to_camera, depth, height, width, border, tolerance
    )
    if not n:
        return row, col, visible, indices, count.zero_()
    block = block_size(BLOCK)
    blocks = triton.cdiv(n, block)
    block_count = torch.empty(blocks, dtype=torch.int64, device=points.device)
    kernel.project_kernel[(blocks,)](
        points_ptr=points,
        K_ptr=K.double().contiguous(),
        world_to_camera_ptr=world_to_camera.double().contiguous(),
        depth_ptr=points if depth is None else depth.contiguous(),
        n=n,
        stride_n=points.stride(0),
        stride_c=points.stride(1),
        height=height,
        width=width,
        border=border,
        tolerance_bits=struct.unpack("<q", struct.pack("<d", tolerance))[0],
        row_ptr=row,
        col_ptr=col,
        visible_ptr=visible.view(torch.uint8),
        block_count_ptr=block_count,
        HAS_DEPTH=depth is not None,
        BLOCK=block,
        enable_fp_fusion=False,  # a fused multiply-add would round unlike the reference
    )
    block_end = block_count.cumsum(0)
    kernel.compact_kernel[(blocks,)](
        visible_ptr=visible.view(torch.uint8),
        block_end_ptr=block_end,
        n=n,
        blocks=blocks,
        indices_ptr=indices,
        BLOCK=block,
    )
    return row, col, visible, indices, block_end[-1:]


def _project_view_fake(points, K, world_to_camera, depth, height, width, border, tolerance):
    n = points.shape[0]
    return (
        points.new_empty((n,), dtype=torch.int32),
        points.new_empty((n,), dtype=torch.int32),
        points.new_empty((n,), dtype=torch.bool),
        points.new_empty((n,), dtype=torch.int64),
        points.new_empty((1,), dtype=torch.int64),
    )


_project_view = define_op(
    "project_view(Tensor points, Tensor K, Tensor world_to_camera, Tensor? depth, int height, "
    "int width, int border, float tolerance) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=_project_view_cpu,
    triton=_project_view_triton,
    fake=_project_view_fake,
)
