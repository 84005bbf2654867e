"""Compile cases of assign_masks."""

from xmask3d_rt.kernels.aot import CompileCase
from xmask3d_rt.kernels.assign_masks import kernel
from xmask3d_rt.kernels.assign_masks.launch import (
    BLOCK_C,
    BLOCK_G,
    BLOCK_N,
    BLOCK_PIXELS,
    BLOCK_Q,
)

_GRID = {"mask_height": "i32", "mask_width": "i32", "scale_y": "fp32", "scale_x": "fp32"}


def compile_cases() -> list[CompileCase]:
    """Every kernel, mask logits in each dtype."""
    cases = []
    for dtype in ("fp32", "fp16", "bf16"):
        cases += [_sum_case(dtype), _own_case(dtype)]
    return [*cases, _score_case(), _points_case()]


def _sum_case(dtype: str) -> CompileCase:
    arguments = {
        "mask_logits_ptr": f"*{dtype}",
        "row_ptr": "*i32",
        "col_ptr": "*i32",
        "base_prob_ptr": "*fp32",
        "n": "i32",
        "queries": "i32",
        "sums_ptr": "*fp32",
        "counts_ptr": "*i32",
        **_GRID,
    }
    constants = {"BLOCK_N": BLOCK_N, "BLOCK_Q": BLOCK_Q}
    return CompileCase("assign_masks", dtype, kernel.sum_points_kernel, arguments, constants)


def _own_case(dtype: str) -> CompileCase:
    arguments = {
        "mask_logits_ptr": f"*{dtype}",
        "score_ptr": "*fp32",
        "queries": "i32",
        "height": "i32",
        "width": "i32",
        "owner_ptr": "*i32",
        "final_ptr": "*u8",
        **_GRID,
    }
    return CompileCase(
        "assign_masks", dtype, kernel.own_pixels_kernel, arguments, {"BLOCK": BLOCK_PIXELS}
    )


def _score_case() -> CompileCase:
    arguments = {
        "sums_ptr": "*fp32",
        "counts_ptr": "*i32",
        "class_logits_ptr": "*fp32",
        "is_base_ptr": "*u8",
        "mixed_ptr": "*u8",
        "queries": "i32",
        "blocks": "i32",
        "classes": "i32",
        "binary_threshold": "fp32",
        "kept_ptr": "*u8",
        "base_score_ptr": "*fp32",
        "score_ptr": "*fp32",
        "label_ptr": "*i64",
    }
    constants = {"BLOCK_G": BLOCK_G, "BLOCK_C": BLOCK_C}
    return CompileCase("assign_masks", "base", kernel.score_masks_kernel, arguments, constants)


def _points_case() -> CompileCase:
    arguments = {
        "owner_ptr": "*i32",
        "row_ptr": "*i32",
        "col_ptr": "*i32",
        "n": "i32",
        "width": "i32",
        "point_query_ptr": "*i32",
    }
    return CompileCase(
        "assign_masks", "base", kernel.own_points_kernel, arguments, {"BLOCK": BLOCK_PIXELS}
    )
