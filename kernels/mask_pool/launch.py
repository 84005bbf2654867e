"""Launcher of the kernels of mask_pool."""

import torch
import triton

from xmask3d_rt.kernels.dispatch import interprets_triton
from xmask3d_rt.kernels.mask_pool import kernel
from xmask3d_rt.kernels.mask_pool.reference import make_output

BLOCK_C = 64
BLOCK_L = {4: 16, 2: 32}  # by bytes per feature; larger float32 tiles spill
NUM_WARPS = 8
TARGET_PROGRAMS = 264  # two for each of an H100's 132 multiprocessors


def launch_mask_pool(features: torch.Tensor, mask_logits: torch.Tensor) -> torch.Tensor:
    """See `mask_pool_reference`."""
    if features.element_size() not in BLOCK_L:
        raise TypeError(
            f"mask_pool: on the GPU features must be float16, bfloat16 or float32, "
            f"got {features.dtype}; pass features.float()"
        )
    batch, places, channels = features.shape
    queries = mask_logits.shape[1]
    pooled = make_output(features, mask_logits)
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
