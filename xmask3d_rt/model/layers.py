"""Small layers that several parts of the model share.

Sources: detectron2's Conv2d (a convolution that owns its norm) and `get_norm("GN")`;
Mask2Former's MLP and PositionEmbeddingSine (facebookresearch/Mask2Former).
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

GROUPS = 32
LEAST_IN_GROUP = 4  # channels: a group of one keeps nothing of how bright an image is


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 32 groups, fewer where they would have less than 4 channels."""
    return nn.GroupNorm(count_groups(channels), channels)


def count_groups(channels: int) -> int:
    """Groups of GroupNorm: 32 as in the released networks, fewer in narrow ones."""
    return max(1, min(GROUPS, channels // LEAST_IN_GROUP))


def run_checkpointed(function: Callable[..., Any], *args: Any, enabled: bool) -> Any:
    """`function(*args)`; where enabled, its activations are computed again in the backward pass.

    Frozen weights inside stay without a gradient.
    """
    if not enabled or not torch.is_grad_enabled():
        return function(*args)
    return checkpoint(function, *args, use_reentrant=False)


class ConvNorm(nn.Conv2d):
    """Bias-free convolution followed by GroupNorm, named `weight` and `norm.*`."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.norm = group_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise `x` [B, C, H, W]; no activation."""
        return self.norm(super().forward(x))


class MLP(nn.Module):
    """Linear layers with ReLU between them, named `layers.{i}`."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, depth: int = 3) -> None:
        super().__init__()
        widths = [in_dim, *[hidden_dim] * (depth - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Apply all layers to `x` [..., in_dim]."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def sine_position(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Sine embedding of normalised pixel positions.

    Positions 1..H and 1..W are divided by (H + 1e-6) and (W + 1e-6) and scaled to 2π; the first
    half of the channels encodes y, the second x; sines and cosines alternate within a half.

    Returns:
        [channels, height, width] float32.

    Source: Mask2Former's PositionEmbeddingSine(normalize=True); eps 1e-6, temperature 10000.
    """
    half = channels // 2
    exponent = torch.arange(half, dtype=torch.float32, device=device) // 2 * 2 / half
    frequency = 10000**exponent  # [half]

    def encode(size: int) -> Tensor:
        position = torch.arange(1, size + 1, dtype=torch.float32, device=device)
        angle = (position / (size + 1e-6) * (2 * math.pi))[:, None] / frequency  # [size, half]
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)

    y = encode(height).T[:, :, None].expand(half, height, width)
    x = encode(width).T[:, None, :].expand(half, height, width)
    return torch.cat([y, x])
