"""mask_pool: the mask head's features, and features of points."""

from functools import partial

import torch

from benchmarks.kernel_cases.views import make_mask_logits
from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.kernels import mask_pool

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def benchmark_cases() -> list[KernelCase]:
    """50 queries of 256 channels at 128 x 128 and 256 x 256."""
    return [
        KernelCase(
            "mask_pool",
            f"B=1 C=256 Q=50 {size}x{size}",
            dtype,
            partial(_build, size, DTYPES[dtype]),
            moved_bytes=size * size * (256 + 50) * DTYPES[dtype].itemsize,
            flops=2 * size * size * 256 * 50,
            large=size > 128,
        )
        for size in (128, 256)
        for dtype in DTYPES
    ]


def _build(size: int, dtype: torch.dtype, device: torch.device) -> Forms:
    features = torch.randn(1, 256, size, size, device=device).to(dtype)
    mask_logits = make_mask_logits(50, size, device)[None].to(dtype)
    return {
        "ours": lambda: mask_pool(features, mask_logits),
        "einsum": lambda: _pool_einsum(features, mask_logits),
        "loop": lambda: [_pool_one(features, mask_logits, q) for q in range(50)],
    }


def _pool_einsum(features: torch.Tensor, mask_logits: torch.Tensor) -> torch.Tensor:
    """The mask tensor written out and normalised, then one product."""
    inside = (mask_logits > 0).to(features.dtype)
    weight = inside / (inside.sum((2, 3), keepdim=True) + 1e-8)
    return torch.einsum("bchw,bqhw->bqc", features, weight)


def _pool_one(features: torch.Tensor, mask_logits: torch.Tensor, query: int) -> torch.Tensor:
    inside = (mask_logits[:, query : query + 1] > 0).to(features.dtype)
    return (features * inside).sum((2, 3)) / (inside.sum() + 1e-8)
