"""Hard mask pooling in plain torch; also the CPU runtime path."""

import torch

EPSILON = 1e-8  # upstream's guard of the division; an empty mask pools to 0


def make_output(features: torch.Tensor, mask_logits: torch.Tensor) -> torch.Tensor:
    """A result of the right shape, not yet filled."""
    return features.new_empty((*mask_logits.shape[:2], features.shape[2]))


def mask_pool_reference(
    features: torch.Tensor,  # [B, L, C], any strides
    mask_logits: torch.Tensor,  # [B, Q, L]
) -> torch.Tensor:
    """Sum of the features where the logit is positive, over the count of such places.

    Returns:
        [B, Q, C] in the features' dtype; sums in float32 (float64 for float64).
    """
    dtype = torch.promote_types(features.dtype, torch.float32)
    inside = (mask_logits > 0).to(dtype)  # [B, Q, L]
    count = inside.sum(2, keepdim=True)  # [B, Q, 1]
    return (inside @ features.to(dtype) / (count + EPSILON)).to(features.dtype)
