"""Compile cases of project_view."""

from xmask3d_rt.kernels.aot import CompileCase
from xmask3d_rt.kernels.project_view import kernel
from xmask3d_rt.kernels.project_view.launch import BLOCK


def compile_cases() -> list[CompileCase]:
    """With and without a depth image, float32 and float64 points."""
    cases = []
    for dtype in ("fp32", "fp64"):
        for has_depth in (True, False):
            arguments = {
                "points_ptr": f"*{dtype}",
                "K_ptr": "*fp64",
                "world_to_camera_ptr": "*fp64",
                "depth_ptr": "*fp32",
                "n": "i32",
                "stride_n": "i32",
                "height": "i32",
                "width": "i32",
                "border": "i32",
                "row_ptr": "*i32",
                "col_ptr": "*i32",
                "visible_ptr": "*u8",
                "block_count_ptr": "*i64",
            }
            constants = {"stride_c": 1, "HAS_DEPTH": has_depth, "TOLERANCE": 0.25, "BLOCK": BLOCK}
            variant = f"{dtype}-{'depth' if has_depth else 'no_depth'}"
            cases.append(
                CompileCase("project_view", variant, kernel.project_kernel, arguments, constants)
            )
    arguments = {
        "visible_ptr": "*u8",
        "block_end_ptr": "*i64",
        "n": "i32",
        "blocks": "i32",
        "indices_ptr": "*i64",
    }
    compact = CompileCase(
        "project_view", "base", kernel.compact_kernel, arguments, {"BLOCK": BLOCK}
    )
    return [*cases, compact]
