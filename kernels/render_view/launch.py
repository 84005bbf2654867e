"""Launches of the kernels of render_view; nothing waits for the device."""

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from xmask3d_rt.kernels.render_view import kernel, reference
from xmask3d_rt.kernels.render_view.reference import RenderedView, make_outputs

BLOCK_N = 128  # points; measured rows: benchmarks/results
BLOCK_P = 256  # pixels
SPLAT_SHAPE = {
    "SPLAT": reference.SPLAT,
    "MIN_RADIUS": reference.MIN_RADIUS,
    "MAX_RADIUS": reference.MAX_RADIUS,
    "SUBPIXEL": reference.SUBPIXEL,
}


def launch_render_view(
    points: Tensor,
    rgb: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    size: Sequence[int],
    spacing: Tensor,
    smooth: bool,
) -> RenderedView:
    """See `render_view_reference`."""
    height, width = size
    points, rgb = points.contiguous(), rgb.contiguous()
    camera = torch.cat([world_to_camera.double().flatten(), K.double().flatten()])  # [25]
    pixels = height * width
    by_pixel = (triton.cdiv(pixels, BLOCK_P),)
    keys = points.new_full((pixels,), reference.EMPTY, dtype=torch.int64)
    point_depth = _draw(points, camera, spacing, height, width, keys)
    for _ in range(reference.FILL_PASSES):
        filled = torch.empty_like(keys)
        kernel.fill_holes_kernel[by_pixel](
            keys_ptr=keys,
            height=height,
            width=width,
            filled_ptr=filled,
            BLOCK_P=BLOCK_P,
            FILL_NEIGHBOURS=reference.FILL_NEIGHBOURS,
        )
        keys = filled
    view = make_outputs(points, rgb, size)
    kernel.resolve_keys_kernel[by_pixel](
        keys_ptr=keys,
        rgb_ptr=rgb,
        point_depth_ptr=point_depth,
        n_pixels=pixels,
        image_ptr=view.image,
        depth_ptr=view.depth,
        index_ptr=view.point_index,
        BLOCK_P=BLOCK_P,
    )
    if smooth:
        return view._replace(image=_smooth(view.image, view.depth, camera, spacing))
    return view


def _draw(
    points: Tensor, camera: Tensor, spacing: Tensor, height: int, width: int, keys: Tensor
) -> Tensor:
    """Keys of all splats into `keys` [H * W]; returns the camera depth of each point [N]."""
    n = points.shape[0]
    point_depth = points.new_empty((n,), dtype=torch.float32)
    if n == 0:
        return point_depth
    splats = points.new_empty((n, 4), dtype=torch.int32)
    by_point = (triton.cdiv(n, BLOCK_N),)
    # Fused multiply-adds would round the projection otherwise than the reference.
    kernel.project_splats_kernel[by_point](
        points_ptr=points,
        camera_ptr=camera,
        spacing_ptr=spacing,
        n_points=n,
        height=height,
        width=width,
        splats_ptr=splats,
        depth_ptr=point_depth,
        BLOCK_N=BLOCK_N,
        NEAR=reference.NEAR,
        FAR=reference.FAR,
        DEPTH_UNITS=reference.DEPTH_UNITS,
        **SPLAT_SHAPE,
        enable_fp_fusion=False,
    )
    kernel.draw_splats_kernel[by_point](
        splats_ptr=splats,
        spacing_ptr=spacing,
        n_points=n,
        height=height,
        width=width,
        keys_ptr=keys,
        BLOCK_N=BLOCK_N,
        SUBPIXEL=reference.SUBPIXEL,
        DEPTH_UNITS=reference.DEPTH_UNITS,
        CONE=reference.CONE,
        enable_fp_fusion=False,
    )
    return point_depth


def _smooth(image: Tensor, depth: Tensor, camera: Tensor, spacing: Tensor) -> Tensor:
    """The image with colours averaged within surfaces."""
    height, width = depth.shape
    smoothed = torch.empty_like(image)
    kernel.smooth_image_kernel[(triton.cdiv(height * width, BLOCK_P),)](
        image_ptr=image,
        depth_ptr=depth,
        camera_ptr=camera,
        spacing_ptr=spacing,
        height=height,
        width=width,
        smoothed_ptr=smoothed,
        BLOCK_P=BLOCK_P,
        SMOOTH_DEPTH=reference.SMOOTH_DEPTH,
        **SPLAT_SHAPE,
        enable_fp_fusion=False,
    )
    return smoothed
