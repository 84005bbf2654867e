"""From the 3D condition into Stable Diffusion, and from its features to the mask head.

`ConditionProjection` makes the text condition and the time condition from the 3D feature of a
view; `FeatureProjections` brings the eight diffusion features to one width and four strides.

Source: released XMask3D (LdmImplicitCaptionerExtractor, FeatureExtractorBackbone); detectron2's
BottleneckBlock with GroupNorm.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.model.layers import ConvNorm, run_checkpointed

# Which features are summed at which stride: enc5 + dec5, enc7 + unet11 + dec2, unet8,
# unet2 + unet5, as indices into (enc5, enc7, unet2, unet5, unet8, unet11, dec2, dec5).
LEVELS = {4: (0, 7), 8: (1, 5, 6), 16: (4,), 32: (2, 3)}


class PositionalLinear(nn.Module):
    """A linear layer repeated over `length` positions, each with its own learned offset."""

    def __init__(self, in_dim: int, out_dim: int, length: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)
        self.positional_embedding = nn.Parameter(torch.zeros(1, length, out_dim))
        nn.init.trunc_normal_(self.positional_embedding, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_dim] to [B, length, out_dim]."""
        return self.linear(x)[:, None] + self.positional_embedding


class ConditionProjection(nn.Module):
    """Text condition and time condition of the UNet from the 3D condition of a view.

    cond_inputs = uncond + tanh(alpha_cond) · (W c + positions), and the time condition is
    tanh(alpha_cond_time_embed) · (V c + position); both gates start at zero.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        diffusion = config.diffusion
        length, width = diffusion.context_length, diffusion.context_dim
        self.alpha_cond = nn.Parameter(torch.zeros(1, length, width))
        self.alpha_cond_time_embed = nn.Parameter(torch.zeros(diffusion.time_dim))
        self.clip_project = PositionalLinear(config.clip.embed_dim, width, length)
        self.time_embed_project = PositionalLinear(config.clip.embed_dim, diffusion.time_dim, 1)

    def forward(self, imp_condition: Tensor, uncond_inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Project.

        Args:
            imp_condition: [B, E] 3D condition.
            uncond_inputs: [1, 77, context_dim] embedding of "".

        Returns:
            cond_inputs [B, 77, context_dim], cond_emb [B, time_dim].
        """
        cond_inputs = uncond_inputs + self.alpha_cond.tanh() * self.clip_project(imp_condition)
        time = self.time_embed_project(imp_condition)[:, 0]
        return cond_inputs, self.alpha_cond_time_embed.tanh() * time


class Bottleneck(nn.Module):
    """ResNet bottleneck 1×1, 3×3, 1×1 with GroupNorm; a 1×1 shortcut where the width changes."""

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        changes = in_channels != out_channels
        self.shortcut = ConvNorm(in_channels, out_channels, 1) if changes else None
        self.conv1 = ConvNorm(in_channels, mid_channels, 1)
        self.conv2 = ConvNorm(mid_channels, mid_channels, 3)
        self.conv3 = ConvNorm(mid_channels, out_channels, 1)
        for conv in (self.shortcut, self.conv1, self.conv2, self.conv3):
            if conv is not None:
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] to [B, out, H, W]."""
        h = F.relu(self.conv1(x))
        h = self.conv3(F.relu(self.conv2(h)))
        return F.relu(h + (x if self.shortcut is None else self.shortcut(x)))


def feature_channels(config: ModelConfig) -> tuple[int, ...]:
    """Widths of the eight diffusion features, in the order of `LEVELS`."""
    vae, unet = config.diffusion.vae_channels, config.diffusion.unet_channels
    unet_taps = (2 * unet[3], unet[2] + unet[1], unet[1] + unet[0], 2 * unet[0])
    return (vae[2], vae[3], *unet_taps, vae[3], vae[3])


class FeatureProjections(nn.ModuleList):
    """One bottleneck block per diffusion feature, summed per stride; named `{i}.0.*`."""

    def __init__(self, config: ModelConfig) -> None:
        width = config.mask_head.projection_dim
        super().__init__(
            nn.Sequential(Bottleneck(channels, width // 4, width))
            for channels in feature_channels(config)
        )
        self.image_size = config.diffusion.image_size
        self.checkpointed = False  # whether to save memory for a backward pass

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Project and sum.

        Args:
            features: enc5, enc7, unet2, unet5, unet8, unet11, dec2, dec5, each [B, C_i, h_i, w_i].

        Returns:
            s2, s3, s4, s5, each [B, projection_dim, S/stride, S/stride], strides 4, 8, 16, 32.
        """
        outputs = []
        for stride, indices in LEVELS.items():
            side = self.image_size // stride
            parts = [
                run_checkpointed(
                    self[i], _resize_nearest(features[i], side), enabled=self.checkpointed
                )
                for i in indices
            ]
            outputs.append(sum(parts[1:], parts[0]))
        return outputs


def _resize_nearest(x: Tensor, side: int) -> Tensor:
    """Nearest resize of [B, C, h, w] to [B, C, side, side]; unchanged where it already fits."""
    if x.shape[-1] == side:
        return x
    return F.interpolate(x, size=(side, side), mode="nearest")
