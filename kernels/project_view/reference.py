"""Projection of points into one view in plain torch; also the CPU runtime path."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch


class ProjectedView(NamedTuple):
    """Where each point falls in a view.

    `indices` lists the visible points in ascending order in its first `count` entries; the
    rest is -1, so that its shape does not depend on the data and no host sync is needed.
    """

    row: torch.Tensor  # [N] int32, 0 where not visible
    col: torch.Tensor  # [N] int32, 0 where not visible
    visible: torch.Tensor  # [N] bool
    indices: torch.Tensor  # [N] int64
    count: torch.Tensor  # type: ignore[assignment]  # [1] int64; hides tuple.count

    def visible_indices(self) -> torch.Tensor:
        """The visible points, [n] int64 ascending; waits for the device."""
        return self.indices[: int(self.count)]


def make_outputs(points: torch.Tensor, **_: Any) -> ProjectedView:
    """Results of the right shapes, not yet filled."""
    n = points.shape[0]
    return ProjectedView(
        row=points.new_empty((n,), dtype=torch.int32),
        col=points.new_empty((n,), dtype=torch.int32),
        visible=points.new_empty((n,), dtype=torch.bool),
        indices=points.new_empty((n,), dtype=torch.int64),
        count=points.new_empty((1,), dtype=torch.int64),
    )


def project_view_reference(
    points: torch.Tensor,  # [N, 3]
    K: torch.Tensor,  # [3, 3]
    world_to_camera: torch.Tensor,  # [4, 4]
    depth: torch.Tensor | None,  # [H, W]
    size: Sequence[int],
    border: int,
    tolerance: float,
) -> ProjectedView:
    """See `xmask3d_rt.kernels.project_view`.

    Float64 throughout: a pixel is round-half-even of a projection, and a float32 product is
    off by up to half a pixel's rounding margin for scenes far from the origin.
    """
    height, width = size
    x, y, z = points.double().unbind(1)
    w = world_to_camera.double()
    cam_x = w[0, 0] * x + w[0, 1] * y + w[0, 2] * z + w[0, 3]
    cam_y = w[1, 0] * x + w[1, 1] * y + w[1, 2] * z + w[1, 3]
    cam_z = w[2, 0] * x + w[2, 1] * y + w[2, 2] * z + w[2, 3]
    visible = cam_z > 0
    scale = torch.where(visible, cam_z, 1.0)
    u = torch.round(cam_x * K[0, 0].double() / scale + K[0, 2].double())
    v = torch.round(cam_y * K[1, 1].double() / scale + K[1, 2].double())
    visible &= (u >= border) & (u < width - border) & (v >= border) & (v < height - border)
    col = torch.where(visible, u, 0.0).int()
    row = torch.where(visible, v, 0.0).int()
    if depth is not None:
        measured = depth.double().flatten()[row.long() * width + col]
        # no measurement (0) fails by itself, since cam_z > 0
        visible &= (measured - cam_z).abs() <= tolerance * measured
        row = row * visible
        col = col * visible
    found = visible.nonzero().flatten()
    indices = found.new_full((points.shape[0],), -1)
    indices[: found.numel()] = found
    return ProjectedView(row, col, visible, indices, found.new_tensor([found.numel()]))
