"""Compile cases of render_view."""

from collections.abc import Mapping
from typing import Any

from xmask3d_rt.kernels.aot import CompileCase
from xmask3d_rt.kernels.render_view import kernel, reference
from xmask3d_rt.kernels.render_view.launch import BLOCK_N, BLOCK_P, SPLAT_SHAPE

_SIZE = {"height": "i32", "width": "i32"}


def compile_cases() -> list[CompileCase]:
    """Every specialisation that launch.py makes."""
    cases = [
        _case(
            kernel.project_splats_kernel,
            dtype,
            {
                "points_ptr": f"*{dtype}",
                "camera_ptr": "*fp64",
                "spacing_ptr": "*fp64",
                "n_points": "i32",
                "splats_ptr": "*i32",
                "depth_ptr": "*fp32",
                **_SIZE,
            },
            {
                "BLOCK_N": BLOCK_N,
                "NEAR": reference.NEAR,
                "FAR": reference.FAR,
                "DEPTH_UNITS": reference.DEPTH_UNITS,
                **SPLAT_SHAPE,
            },
        )
        for dtype in ("fp16", "fp32", "fp64")
    ]
    return [
        *cases,
        _case(
            kernel.draw_splats_kernel,
            "i64",
            {
                "splats_ptr": "*i32",
                "spacing_ptr": "*fp64",
                "n_points": "i32",
                "keys_ptr": "*i64",
                **_SIZE,
            },
            {
                "BLOCK_N": BLOCK_N,
                "SUBPIXEL": reference.SUBPIXEL,
                "DEPTH_UNITS": reference.DEPTH_UNITS,
                "CONE": reference.CONE,
            },
        ),
        _case(
            kernel.fill_holes_kernel,
            "i64",
            {"keys_ptr": "*i64", "filled_ptr": "*i64", **_SIZE},
            {"BLOCK_P": BLOCK_P, "FILL_NEIGHBOURS": reference.FILL_NEIGHBOURS},
        ),
        _case(
            kernel.resolve_keys_kernel,
            "u8",
            {
                "keys_ptr": "*i64",
                "rgb_ptr": "*u8",
                "point_depth_ptr": "*fp32",
                "n_pixels": "i32",
                "image_ptr": "*u8",
                "depth_ptr": "*fp32",
                "index_ptr": "*i64",
            },
            {"BLOCK_P": BLOCK_P},
        ),
        _case(
            kernel.smooth_image_kernel,
            "u8",
            {
                "image_ptr": "*u8",
                "depth_ptr": "*fp32",
                "camera_ptr": "*fp64",
                "spacing_ptr": "*fp64",
                "smoothed_ptr": "*u8",
                **_SIZE,
            },
            {"BLOCK_P": BLOCK_P, "SMOOTH_DEPTH": reference.SMOOTH_DEPTH, **SPLAT_SHAPE},
        ),
    ]


def _case(
    function: Any, variant: str, arguments: Mapping[str, str], constants: Mapping[str, Any]
) -> CompileCase:
    return CompileCase("render_view", variant, function, arguments, constants)
