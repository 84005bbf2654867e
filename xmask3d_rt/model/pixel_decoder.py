"""Pixel decoder: multi-scale deformable attention over s3–s5, then one FPN step to s2.

A query at pixel p of any level attends, per head, to `points` sampled positions in each of the
three levels:

    out(p) = W_o Σ_h Σ_l Σ_k  a_hlk · V_hl( p + Δ_hlk )       bilinear, zero outside the map

with softmax weights a over all l, k, and offsets Δ in pixels of the level.

Sources: Deformable DETR (arXiv 2010.04159), Mask2Former's MSDeformAttnPixelDecoder
(facebookresearch/Mask2Former); levels run from coarse (s5) to fine (s3).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmask3d_rt.config import MaskHeadConfig
from xmask3d_rt.model.layers import ConvNorm, group_norm, run_checkpointed, sine_position

LEVELS = 3

Shapes = Sequence[tuple[int, int]]
SampleLevels = Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]


def sample_levels(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples from every level, by `grid_sample`.

    Args:
        value: [B, S, heads, D], the levels one after the other, S = Σ h·w.
        shapes: (h, w) of each level.
        locations: [B, Q, heads, L, P, 2] as (x, y), 0..1 over the edges of a level.
        weights: [B, Q, heads, L, P].

    Returns:
        [B, Q, heads · D].

    Source: formula of Deformable DETR, equation 3.
    """
    batch, queries, heads, _, _, _ = locations.shape
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # [L, B·heads, Q, P, 2]
    weights = weights.permute(3, 0, 2, 1, 4).flatten(1, 2)[:, :, None]  # [L, B·heads, 1, Q, P]
    output = value.new_zeros(())
    sizes = [height * width for height, width in shapes]
    for level, part in enumerate(value.split(sizes, dim=1)):
        image = part.permute(0, 2, 3, 1).reshape(batch * heads, -1, *shapes[level])
        sampled = F.grid_sample(image, grids[level], padding_mode="zeros", align_corners=False)
        output = output + (sampled * weights[level]).sum(-1)  # [B·heads, D, Q]
    return output.view(batch, -1, queries).transpose(1, 2)


def sample_levels_gather(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor
) -> Tensor:
    """`sample_levels` without GridSample: one row gather for each of the four corners.

    Args and Returns: as `sample_levels`.
    """
    batch, total, heads, depth = value.shape
    device = value.device
    starts = torch.tensor(_level_starts(shapes), device=device)[:, None]  # [L, 1]
    first = torch.arange(batch, device=device).view(-1, 1, 1, 1, 1) * total
    head = torch.arange(heads, device=device).view(1, 1, -1, 1, 1)
    widths = torch.tensor([w for _, w in shapes], dtype=locations.dtype, device=device)[:, None]
    heights = torch.tensor([h for h, _ in shapes], dtype=locations.dtype, device=device)[:, None]
    rows = value.reshape(batch * total * heads, depth)
    output = value.new_zeros(())
    for y, share_y in _neighbours(locations[..., 1], heights):
        for x, share_x in _neighbours(locations[..., 0], widths):
            index = first + starts + y.long() * widths.long() + x.long()
            gathered = rows.index_select(0, (index * heads + head).flatten())
            gathered = gathered.view(*weights.shape[:3], -1, depth)  # [B, Q, heads, L·P, D]
            share = (share_y * share_x * weights).flatten(3)  # [B, Q, heads, L·P]
            output = output + (share[..., None, :] @ gathered)[..., 0, :]
    return output.flatten(2)


def _neighbours(location: Tensor, size: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The two pixels beside a location along one axis and their shares; 0 outside the level.

    Args:
        location: 0..1 over the edges, [B, Q, heads, L, P].
        size: pixels of each level along that axis, [L, 1].

    Returns:
        (pixel, share) twice, both of the dtype and shape of `location`, pixels within the level.
    """
    position = location * size - 0.5
    low = position.floor()
    fraction = position - low
    found = []
    for pixel, share in ((low, 1 - fraction), (low + 1, fraction)):
        kept = torch.minimum(pixel.clamp(min=0), size - 1)
        found.append((kept, share * (kept == pixel)))
    return found


def _level_starts(shapes: Shapes) -> list[int]:
    """Row at which each level starts in the concatenated value."""
    starts = [0]
    for height, width in shapes[:-1]:
        starts.append(starts[-1] + height * width)
    return starts


class DeformableAttention(nn.Module):
    """Multi-scale deformable self-attention; `sample` may be replaced by an equivalent form."""

    def __init__(self, config: MaskHeadConfig) -> None:
        super().__init__()
        width, self.heads, self.points = config.hidden_dim, config.heads, config.points
        samples = self.heads * LEVELS * self.points
        self.sampling_offsets = nn.Linear(width, samples * 2)
        self.attention_weights = nn.Linear(width, samples)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self.sample: SampleLevels = sample_levels
        self._reset()

    def _reset(self) -> None:
        """Start from uniform weights and sample points on rays, one direction per head."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ray = torch.stack([angle.cos(), angle.sin()], -1)
        ray = ray / ray.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1).view(1, 1, -1, 1)
        offsets = (ray[:, None, None] * steps).expand(-1, LEVELS, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.reshape(-1))

    def forward(self, query: Tensor, value: Tensor, reference: Tensor, shapes: Shapes) -> Tensor:
        """Attend.

        Args:
            query: [B, S, C], position embedding included.
            value: [B, S, C] without it.
            reference: [S, 2] centre (x, y) of each query pixel, in 0..1.
            shapes: (h, w) of each level.

        Returns:
            [B, S, C].
        """
        batch, total, _ = query.shape
        size = torch.tensor([(w, h) for h, w in shapes], dtype=query.dtype, device=query.device)
        offsets = self.sampling_offsets(query)
        offsets = offsets.view(batch, total, self.heads, LEVELS, self.points, 2) / size[:, None]
        weights = self.attention_weights(query).view(batch, total, self.heads, -1).softmax(-1)
        weights = weights.view(batch, total, self.heads, LEVELS, self.points)
        values = self.value_proj(value).view(batch, total, self.heads, -1)
        locations = reference.view(1, total, 1, 1, 1, 2) + offsets
        return self.output_proj(self.sample(values, shapes, locations, weights))


class EncoderLayer(nn.Module):
    """Deformable self-attention and a two-layer perceptron, each followed by LayerNorm."""

    def __init__(self, config: MaskHeadConfig) -> None:
        super().__init__()
        width = config.hidden_dim
        self.self_attn = DeformableAttention(config)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.pixel_ffn)
        self.linear2 = nn.Linear(config.pixel_ffn, width)
        self.norm2 = nn.LayerNorm(width)
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor, position: Tensor, reference: Tensor, shapes: Shapes) -> Tensor:
        """[B, S, C] to [B, S, C]; arguments as `DeformableAttention.forward`."""
        x = self.norm1(x + self.self_attn(x + position, x, reference, shapes))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class EncoderStack(nn.Module):
    """Holder of the layers, for the released names `encoder.layers.{i}`."""

    def __init__(self, config: MaskHeadConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.pixel_layers))
        self.checkpointed = False  # whether to save memory for a backward pass

    def forward(self, x: Tensor, position: Tensor, reference: Tensor, shapes: Shapes) -> Tensor:
        """[B, S, C] to [B, S, C]; arguments as `DeformableAttention.forward`."""
        for layer in self.layers:
            x = run_checkpointed(layer, x, position, reference, shapes, enabled=self.checkpointed)
        return x


class PixelEncoder(nn.Module):
    """Deformable attention over all levels at once, flattened and concatenated."""

    def __init__(self, config: MaskHeadConfig) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(LEVELS, config.hidden_dim))
        self.encoder = EncoderStack(config)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Refine maps [B, C, h, w], coarse to fine; the same shapes come back."""
        shapes = [(level.shape[2], level.shape[3]) for level in levels]
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)  # [B, S, C]
        channels = x.shape[2]
        positions = [
            sine_position(h, w, channels, x.device).flatten(1).T.to(x.dtype) + embed
            for (h, w), embed in zip(shapes, self.level_embed, strict=True)
        ]
        position = torch.cat(positions)  # [S, C]
        reference = torch.cat([_pixel_centres(h, w, x) for h, w in shapes])  # [S, 2]
        x = self.encoder(x, position, reference, shapes)
        parts = x.split([h * w for h, w in shapes], dim=1)
        return [
            part.transpose(1, 2).reshape(-1, channels, h, w)
            for part, (h, w) in zip(parts, shapes, strict=True)
        ]


def _pixel_centres(height: int, width: int, like: Tensor) -> Tensor:
    """Centres (x, y) of all pixels, row by row, over 0..1: [h·w, 2], dtype and device of `like`."""
    y = (torch.arange(height, device=like.device) + 0.5) / height
    x = (torch.arange(width, device=like.device) + 0.5) / width
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x.flatten(), grid_y.flatten()], -1).to(like.dtype)


class PixelDecoder(nn.Module):
    """Projected features s2–s5 to mask features and three refined levels.

    Released names: `input_proj.{i}`, `transformer.*`, `adapter_1`, `layer_1`, `mask_features`.
    """

    def __init__(self, config: MaskHeadConfig) -> None:
        super().__init__()
        source, width = config.projection_dim, config.hidden_dim
        convs = [nn.Conv2d(source, width, 1) for _ in range(LEVELS)]
        self.input_proj = nn.ModuleList(nn.Sequential(conv, group_norm(width)) for conv in convs)
        self.transformer = PixelEncoder(config)
        self.adapter_1 = ConvNorm(source, width, 1)
        self.layer_1 = ConvNorm(width, width, 3)
        self.mask_features = nn.Conv2d(width, width, 1)
        for conv in convs:
            nn.init.xavier_uniform_(conv.weight)
        for conv in (self.adapter_1, self.layer_1, self.mask_features):
            nn.init.kaiming_uniform_(conv.weight, a=1)
        for conv in (*convs, self.mask_features):
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode.

        Args:
            features: s2, s3, s4, s5, each [B, projection_dim, h, w].

        Returns:
            mask_features [B, D, S/4, S/4]; levels [B, D, h, w] at strides 32, 16, 8.
        """
        s2, *rest = features
        coarse_to_fine = rest[::-1]
        levels = self.transformer(
            [proj(x) for proj, x in zip(self.input_proj, coarse_to_fine, strict=True)]
        )
        size = s2.shape[-2:]
        upsampled = F.interpolate(levels[-1], size=size, mode="bilinear", align_corners=False)
        merged = F.relu(self.layer_1(self.adapter_1(s2) + upsampled))
        return self.mask_features(merged), levels
