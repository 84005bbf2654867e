"""assign_masks: a case-A view, and one with many queries and classes."""

from functools import partial

import torch

from benchmarks.kernel_cases.views import MASK_SHAPE, make_base, make_mask_logits, make_pixels
from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.kernels import assign_masks
from xmask3d_rt.kernels.assign_masks.naive import assign_masks_naive


def benchmark_cases() -> list[KernelCase]:
    """31,641 points on a 240 x 320 grid."""
    return [
        KernelCase(
            "assign_masks",
            f"Q={queries} 128x128 to 240x320 n={n} C={classes}",
            "fp32",
            partial(_build, queries, classes, n),
            moved_bytes=queries * (128 * 128 + classes) * 4 + n * 16,
            flops=240 * 320 * queries * 20,
            large=queries > 50,
        )
        for queries, classes, n in ((50, 19, 31_641), (200, 200, 31_641))
    ]


def _build(queries: int, classes: int, n: int, device: torch.device) -> Forms:
    torch.manual_seed(0)
    arguments = (
        make_mask_logits(queries, 128, device),
        MASK_SHAPE,
        *make_pixels(n, device),
        torch.rand(n, device=device),
        torch.randn(queries, classes + 1, device=device) * 4,
        make_base(classes, device),
    )
    return {
        "ours": lambda: assign_masks(*arguments),
        "loop over queries": lambda: assign_masks_naive(*arguments),
    }
