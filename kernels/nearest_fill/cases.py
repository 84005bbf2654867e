"""Compile cases of nearest_fill."""

from xmask3d_rt.kernels.aot import CompileCase
from xmask3d_rt.kernels.nearest_fill import kernel
from xmask3d_rt.kernels.nearest_fill.launch import BLOCK_KEYS, BLOCK_TARGETS


def compile_cases() -> list[CompileCase]:
    """Float32 and float64 points."""
    cases = []
    for dtype in ("fp32", "fp64"):
        keys = {
            "points_ptr": f"*{dtype}",
            "known_ptr": "*u8",
            "frame_ptr": "*fp64",
            "n": "i32",
            "stride_n": "i32",
            "keys_ptr": "*i64",
        }
        search = {
            "sorted_points_ptr": f"*{dtype}",
            "sorted_keys_ptr": "*i64",
            "order_ptr": "*i64",
            "frame_ptr": "*fp64",
            "known_count_ptr": "*i64",
            "first_level_ptr": "*i64",
            "n": "i32",
            "search_steps": "i32",
            "nearest_ptr": "*i64",
        }
        cases += [
            CompileCase(
                "nearest_fill",
                dtype,
                kernel.cell_keys_kernel,
                keys,
                {"stride_c": 1, "BLOCK": BLOCK_KEYS},
            ),
            CompileCase(
                "nearest_fill",
                dtype,
                kernel.nearest_kernel,
                search,
                {"BLOCK": BLOCK_TARGETS},
                num_warps=1,
            ),
        ]
    counting = {"sorted_keys_ptr": "*i64", "known_count_ptr": "*i64", "counts_ptr": "*i32"}
    count = CompileCase(
        "nearest_fill", "base", kernel.count_cells_kernel, counting, {"BLOCK": BLOCK_KEYS}
    )
    return [*cases, count]
