"""mask_pool: mean feature of each hard mask, over pixels or over points."""

from typing import Any

import torch

from xmask3d_rt.kernels.checks import check_device, check_float, check_shape
from xmask3d_rt.kernels.dispatch import Operator
from xmask3d_rt.kernels.mask_pool.reference import EPSILON, make_output, mask_pool_reference


def mask_pool(features: torch.Tensor, mask_logits: torch.Tensor) -> torch.Tensor:
    """Mean feature of each hard mask, sigmoid(logit) > 0.5.

    out[b, q] = sum_l [logit[b, q, l] > 0] * feature[b, :, l] / (count + 1e-8); an empty mask
    gives zeros. Two layouts: over the pixels of images, and over the points of one view.

    Args:
        features: `[B, C, H, W]` pixels or `[N, C]` points, floating point.
        mask_logits: `[B, Q, H, W]` or `[Q, N]` to match.

    Returns:
        `[B, Q, C]` for images, `[Q, C]` for points, in the features' dtype; accumulated in
        float32 or wider. Differentiable in the features.

    Raises:
        ValueError: shapes that do not match either layout, or tensors on two devices.
        TypeError: integer features or logits; float64 features on the GPU.

    Source: ODISE's MaskPooling with hard masks (odise/modeling/meta_arch/odise.py).
    """
    if isinstance(features, torch.Tensor) and features.ndim == 2:
        check_shape("mask_pool", "mask_logits", mask_logits, (None, features.shape[0]), "[Q, N]")
        flat = features.unsqueeze(0)  # [1, N, C]
        logits = mask_logits.unsqueeze(0)  # [1, Q, N]
    else:
        check_shape("mask_pool", "features", features, (None,) * 4, "[B, C, H, W]")
        batch, _, height, width = features.shape
        check_shape(
            "mask_pool", "mask_logits", mask_logits, (batch, None, height, width), "[B, Q, H, W]"
        )
        flat = features.flatten(2).transpose(1, 2)  # [B, HW, C]
        logits = mask_logits.flatten(2)  # [B, Q, HW]
    check_float("mask_pool", features=features, mask_logits=mask_logits)
    check_device("mask_pool", features=features, mask_logits=mask_logits)
    pooled = _mask_pool(flat, logits)
    return pooled[0] if features.ndim == 2 else pooled


def _save(ctx: Any, output: torch.Tensor, mask_logits: torch.Tensor, **_: Any) -> None:
    ctx.save_for_backward(mask_logits)


def _backward(ctx: Any, grad: torch.Tensor) -> dict[str, torch.Tensor | None]:  # grad [B, Q, C]
    (mask_logits,) = ctx.saved_tensors
    inside = (mask_logits > 0).to(grad.dtype)  # [B, Q, L]
    weight = inside / (inside.sum(2, keepdim=True) + EPSILON)
    return {"features": weight.transpose(1, 2) @ grad}


_mask_pool = Operator("mask_pool", mask_pool_reference, make_output)
_mask_pool.define_backward(_backward, _save)
