"""label_points: a case-A view with 19 to 2,000 classes."""

from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.kernel_cases.views import make_base, make_points
from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.kernels import build_label_tables, label_points
from xmask3d_rt.kernels.label_points.naive import label_points_naive

POINTS, VOXELS, FEAT, EMBED, QUERIES = 31_641, 16_161, 256, 768, 50
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


def benchmark_cases() -> list[KernelCase]:
    """Norms per voxel, two cosines per point and class."""
    return [
        KernelCase(
            "label_points",
            f"n={POINTS} M={VOXELS} F={FEAT} E={EMBED} Q={QUERIES} C={classes}",
            dtype,
            partial(_build, classes, DTYPES[dtype]),
            moved_bytes=VOXELS * FEAT * DTYPES[dtype].itemsize + POINTS * 56,
            flops=VOXELS * 2 * FEAT * FEAT + POINTS * 4 * FEAT * classes,
            large=classes > 200,
        )
        for classes in (19, 200, 2000)
        for dtype in DTYPES
        if dtype == "fp32" or classes == 19
    ]


def _build(classes: int, dtype: torch.dtype, device: torch.device) -> Forms:
    torch.manual_seed(0)
    text = torch.randn(classes, EMBED, device=device)
    fixed = {
        "text_embed": text,
        "text_class": torch.arange(classes, device=device),
        "is_base": make_base(classes, device),
        "fuser_weight": torch.randn(EMBED, 2 * EMBED, device=device) / EMBED**0.5,
        "fuser_bias": torch.randn(EMBED, device=device) * 0.1,
        "logit_scale": 14.2857,
        "base_ratio": 0.65,
        "novel_ratio": 0.35,
    }
    weight = torch.randn(EMBED, FEAT, device=device) / FEAT**0.5
    bias = torch.randn(EMBED, device=device) * 0.1
    view = {
        "point_to_voxel": torch.randint(VOXELS, (POINTS,), device=device),
        "point_query": torch.randint(-6, QUERIES, (POINTS,), device=device).clamp(min=-1).int(),
        "mask_embed": torch.randn(QUERIES, EMBED, device=device),
        "mask_embed_clip": torch.randn(QUERIES, EMBED, device=device),
        "base_prob": torch.rand(POINTS, device=device),
        "points": make_points(POINTS, device),
    }
    feats = torch.randn(VOXELS, FEAT, device=device).to(dtype)
    tables = build_label_tables(**fixed, voxel_weight=weight, voxel_bias=bias)

    def released() -> tuple[torch.Tensor, ...]:
        return label_points_naive(F.linear(feats.float(), weight, bias), **view, **fixed)

    return {
        "ours": lambda: label_points(feats, **view, tables=tables),
        "released form": released,
    }
