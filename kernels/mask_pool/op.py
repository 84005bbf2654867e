"""mask_pool: mean feature of each hard mask, over pixels or over points."""

import torch

from xmask3d_rt.kernels.checks import check_device, check_float, check_shape
from xmask3d_rt.kernels.mask_pool.reference import mask_pool_reference


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
        TypeError: integer features or logits.

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


@torch.library.custom_op("xmask3d::mask_pool", mutates_args=(), device_types="cpu")
def _mask_pool(features: torch.Tensor, mask_logits: torch.Tensor) -> torch.Tensor:
    return mask_pool_reference(features, mask_logits)


@_mask_pool.register_fake
def _(features, mask_logits):
    return features.new_empty((*mask_logits.shape[:2], features.shape[2]))


def _save_for_backward(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[1])


def _backward(ctx, grad: torch.Tensor):  # grad [B, Q, C]
    (mask_logits,) = ctx.saved_tensors
    inside = (mask_logits > 0).to(grad.dtype)  # [B, Q, L]
    weight = inside / (inside.sum(2, keepdim=True) + 1e-8)
    return weight.transpose(1, 2) @ grad, None


_mask_pool.register_autograd(_backward, setup_context=_save_for_backward)
