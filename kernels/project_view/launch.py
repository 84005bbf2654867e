"""Launcher of the kernels of project_view; nothing waits for the device."""

from collections.abc import Sequence

import torch
import triton

from xmask3d_rt.kernels.dispatch import block_size
from xmask3d_rt.kernels.project_view import kernel
from xmask3d_rt.kernels.project_view.reference import ProjectedView, make_outputs

BLOCK = 512


def launch_project_view(
    points: torch.Tensor,
    K: torch.Tensor,
    world_to_camera: torch.Tensor,
    depth: torch.Tensor | None,
    size: Sequence[int],
    border: int,
    tolerance: float,
) -> ProjectedView:
    """See `project_view_reference`."""
    n = points.shape[0]
    outputs = make_outputs(points)
    if not n:
        outputs.count.zero_()
        return outputs
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
        height=size[0],
        width=size[1],
        border=border,
        row_ptr=outputs.row,
        col_ptr=outputs.col,
        visible_ptr=outputs.visible.view(torch.uint8),
        block_count_ptr=block_count,
        HAS_DEPTH=depth is not None,
        TOLERANCE=tolerance,
        BLOCK=block,
        enable_fp_fusion=False,  # a fused multiply-add would round unlike the reference
    )
    block_end = block_count.cumsum(0)
    kernel.compact_kernel[(blocks,)](
        visible_ptr=outputs.visible.view(torch.uint8),
        block_end_ptr=block_end,
        n=n,
        blocks=blocks,
        indices_ptr=outputs.indices,
        BLOCK=block,
    )
    return outputs._replace(count=block_end[-1:])
