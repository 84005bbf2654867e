"""Compile cases of mask_pool."""

from xmask3d_rt.kernels.aot import CompileCase
from xmask3d_rt.kernels.mask_pool import kernel
from xmask3d_rt.kernels.mask_pool.launch import BLOCK_C, BLOCK_L, NUM_WARPS


def compile_cases() -> list[CompileCase]:
    """Both layouts (pixels: places contiguous; points: channels contiguous), each dtype."""
    cases = []
    for dtype in ("fp32", "fp16", "bf16"):
        for layout in ("pixels", "points"):
            for block_q in (16, 64):
                for aligned in (False, True):
                    cases.append(_partial_case(dtype, layout, block_q, aligned))
        arguments = {
            "sums_ptr": "*fp32",
            "counts_ptr": "*i32",
            "splits": "i32",
            "rows": "i32",
            "channels": "i32",
            "pooled_ptr": f"*{dtype}",
        }
        cases.append(
            CompileCase(
                "mask_pool", dtype, kernel.finish_pool_kernel, arguments, {"BLOCK_C": BLOCK_C}
            )
        )
    return cases


def _partial_case(dtype: str, layout: str, block_q: int, aligned: bool) -> CompileCase:
    strides = ("stride_fb", "stride_fl", "stride_fc", "stride_mb", "stride_mq", "stride_ml")
    unit = "stride_fl" if layout == "pixels" else "stride_fc"
    integers = ("places", "channels", "queries", "steps_per_split", *strides)
    arguments = {
        "features_ptr": f"*{dtype}",
        "mask_logits_ptr": f"*{dtype}",
        "sums_ptr": "*fp32",
        "counts_ptr": "*i32",
        **{name: "i32" for name in integers if name not in (unit, "stride_ml")},
    }
    constants = {
        unit: 1,
        "stride_ml": 1,
        "BLOCK_Q": block_q,
        "BLOCK_C": BLOCK_C,
        "BLOCK_L": BLOCK_L[4 if dtype == "fp32" else 2],
        "UPCAST": False,
    }
    return CompileCase(
        "mask_pool",
        f"{dtype}-{layout}-q{block_q}{'-aligned' if aligned else ''}",
        kernel.partial_pool_kernel,
        arguments,
        constants,
        num_warps=NUM_WARPS,
        divisible=tuple(
            name for name in ("places", "channels", *strides) if aligned and name in arguments
        ),
    )
