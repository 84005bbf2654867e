"""Compile cases of label_points."""

from xmask3d_rt.kernels.aot import CompileCase
from xmask3d_rt.kernels.label_points import kernel
from xmask3d_rt.kernels.label_points.launch import (
    BLOCK,
    BLOCK_F,
    BLOCK_G,
    BLOCK_M,
    BLOCK_N,
    MAX_REGISTERS,
    NUM_STAGES,
    NUM_WARPS,
    TILE_NAMES,
)

_TABLES = (
    "raw_square_ptr",
    "fused_square_ptr",
    "cross_weight_ptr",
    "cross_bias_ptr",
    "half_square_ptr",
    "text_ptr",
    "text_bias_ptr",
    "half_text_ptr",
    "clip_cosine_ptr",
    "constants_ptr",
)


def compile_cases() -> list[CompileCase]:
    """Features of each dtype, rows a multiple of 16 long or any, one and more names per class."""
    cases = []
    for dtype in ("fp32", "fp16", "bf16"):
        for aligned in ((), ("stride_m", "feat")):
            cases.append(_measure_case(dtype, aligned))
            for names in (1, 2, 4, 8):
                cases.append(_label_case(dtype, names, aligned))
    arguments = {
        "nearest_ptr": "*i64",
        "point_query_ptr": "*i32",
        "side_ptr": "*u8",
        "mask_label_ptr": "*i64",
        "three_d_ptr": "*i64",
        "n": "i32",
        "two_d_ptr": "*i64",
    }
    two_d = CompileCase(
        "label_points", "base", kernel.label_two_d_kernel, arguments, {"BLOCK": BLOCK}
    )
    return [*cases, two_d]


def _measure_case(dtype: str, aligned: tuple[str, ...]) -> CompileCase:
    arguments = {
        "voxel_feats_ptr": f"*{dtype}",
        "stride_m": "i32",
        "weight_ptr": "*fp32",
        "bias_ptr": "*fp32",
        "voxels": "i32",
        "feat": "i32",
        "rows": "i32",
        "square_ptr": "*fp32",
    }
    constants = {"stride_f": 1, "BLOCK_M": BLOCK_M, "BLOCK_G": BLOCK_G, "BLOCK_F": BLOCK_F}
    return CompileCase(
        "label_points",
        f"{dtype}{'-aligned' if aligned else ''}",
        kernel.measure_voxels_kernel,
        arguments,
        constants,
        num_warps=NUM_WARPS,
        num_stages=NUM_STAGES,
        divisible=aligned,
    )


def _label_case(dtype: str, names: int, aligned: tuple[str, ...]) -> CompileCase:
    arguments = {
        "voxel_feats_ptr": f"*{dtype}",
        "stride_m": "i32",
        "point_to_voxel_ptr": "*i64",
        "point_query_ptr": "*i32",
        "base_prob_ptr": "*fp32",
        **dict.fromkeys(_TABLES, "*fp32"),
        "is_base_ptr": "*u8",
        "mixed_ptr": "*u8",
        "n": "i32",
        "feat": "i32",
        "classes": "i32",
        "fused_ptr": "*i64",
        "three_d_ptr": "*i64",
        "score_ptr": "*fp32",
        "side_ptr": "*u8",
    }
    constants = {
        "stride_f": 1,
        "NAMES": names,
        "BLOCK_N": BLOCK_N,
        "BLOCK_C": TILE_NAMES // names,
        "BLOCK_F": BLOCK_F,
    }
    return CompileCase(
        "label_points",
        f"{dtype}-names{names}{'-aligned' if aligned else ''}",
        kernel.label_points_kernel,
        arguments,
        constants,
        num_warps=NUM_WARPS,
        num_stages=NUM_STAGES,
        divisible=aligned,
        max_registers=MAX_REGISTERS,
    )
