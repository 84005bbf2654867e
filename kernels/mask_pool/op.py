"""mask_pool: mean feature of each hard mask, over pixels or over points."""

import torch

from xmask3d_rt.kernels.checks import check_device, check_float, check_shape
from xmask3d_rt.kernels.dispatch import define_backward, define_op, interprets_triton
from xmask3d_rt.kernels.mask_pool.reference import EPSILON, mask_pool_reference

BLOCK_C = 64
BLOCK_L = {4: 16, 2: 32}  # by bytes per feature; larger float32 tiles spill
NUM_WARPS = 8
TARGET_PROGRAMS = 264  # two for each of an H100's 132 multiprocessors


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


def _mask_pool_triton(features: torch.Tensor, mask_logits: torch.Tensor) -> torch.Tensor:
    import triton

    from xmask3d_rt.kernels.mask_pool import kernel

    if features.element_size() not in BLOCK_L:
        raise TypeError(
            f"mask_pool: on the GPU features must be float16, bfloat16 or float32, "
            f"got {features.dtype}; pass features.float()"
        )
    batch, places, channels = features.shape
    queries = mask_logits.shape[1]
    pooled = _mask_pool_fake(features, mask_logits)
    if not pooled.numel() or not places:
        return pooled.zero_()
    block_q = min(64, max(16, triton.next_power_of_2(queries)))
    q_blocks, c_blocks = triton.cdiv(queries, block_q), triton.cdiv(channels, BLOCK_C)
    tiles = q_blocks * c_blocks * batch
    block_l = BLOCK_L[features.element_size()]
    steps = triton.cdiv(places, block_l)
    steps_per_split = max(1, triton.cdiv(steps * tiles, TARGET_PROGRAMS))
    splits = triton.cdiv(steps, steps_per_split)
    sums = features.new_empty((splits, batch, queries, channels), dtype=torch.float32)
    counts = features.new_empty((splits, batch, queries), dtype=torch.int32)
    kernel.partial_pool_kernel[(splits, q_blocks * c_blocks, batch)](
        features_ptr=features,
        mask_logits_ptr=mask_logits,
        places=places,
        channels=channels,
        queries=queries,
        stride_fb=features.stride(0),
        stride_fl=features.stride(1),
        stride_fc=features.stride(2),
        stride_mb=mask_logits.stride(0),
        stride_mq=mask_logits.stride(1),
        stride_ml=mask_logits.stride(2),
        steps_per_split=steps_per_split,
        sums_ptr=sums,
        counts_ptr=counts,
        BLOCK_Q=block_q,
        BLOCK_C=BLOCK_C,
        BLOCK_L=block_l,
        UPCAST=interprets_triton(),
        num_warps=NUM_WARPS,
    )
    kernel.finish_pool_kernel[(batch * queries, triton.cdiv(channels, BLOCK_C))](
        sums_ptr=sums,
        counts_ptr=counts,
        splits=splits,
        rows=batch * queries,
        channels=channels,
        pooled_ptr=pooled,
        BLOCK_C=BLOCK_C,
    )
    return pooled


def _mask_pool_fake(features: torch.Tensor, mask_logits: torch.Tensor) -> torch.Tensor:
    return features.new_empty((*mask_logits.shape[:2], features.shape[2]))


def _save_for_backward(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[1])


def _backward(ctx, grad: torch.Tensor):  # grad [B, Q, C]
    (mask_logits,) = ctx.saved_tensors
    inside = (mask_logits > 0).to(grad.dtype)  # [B, Q, L]
    weight = inside / (inside.sum(2, keepdim=True) + EPSILON)
    return weight.transpose(1, 2) @ grad, None


_mask_pool = define_op(
    "mask_pool(Tensor features, Tensor mask_logits) -> Tensor",
    reference=mask_pool_reference,
    triton=_mask_pool_triton,
    fake=_mask_pool_fake,
)
define_backward("mask_pool", _backward, _save_for_backward)
