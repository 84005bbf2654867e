"""Mask decoder: queries attend to the image levels inside their own masks, layer by layer.

Each of the decoder layers is masked cross-attention, self-attention and a perceptron, each with
a residual and LayerNorm behind it. Before the first layer and after every one a prediction head
turns the queries into masks, mask = MLP(norm(query)) · mask_features; a query then attends only
where its resized mask has sigmoid ≥ 0.5, and everywhere if that is nowhere. Resizing is linear,
so the mask features are resized once per level in place of every mask before every layer.

`PooledMaskEmbed` gives a mask its CLIP-space embedding: mask features averaged over the hard
mask, projected, added to the query, through an MLP. Class logits do not come from the queries.

Sources: Mask2Former (arXiv 2112.01527), ODISE (arXiv 2303.04803), released XMask3D.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmask3d_rt.config import MaskHeadConfig
from xmask3d_rt.model.layers import MLP, sine_position

LEVELS = 3
MAX_LOGIT_SCALE = 100.0
TEMPERATURE = 0.07


class Attention(nn.Module):
    """Multi-head attention with the parameter names of `nn.MultiheadAttention`, batch first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Args:
            query: [B, Q, C].
            key, value: [B, S, C].
            allowed: [B, Q, S] bool, or None for everywhere.

        Returns:
            [B, Q, C].
        """
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )  # [B, heads, Q or S, C/heads]
        mask = None if allowed is None else allowed[:, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class CrossAttentionLayer(nn.Module):
    """Masked attention from the queries to one image level."""

    def __init__(self, config: MaskHeadConfig) -> None:
        super().__init__()
        self.multihead_attn = Attention(config.hidden_dim, config.heads)
        self.norm = nn.LayerNorm(config.hidden_dim)

    def forward(
        self, x: Tensor, x_position: Tensor, level: Tensor, position: Tensor, allowed: Tensor
    ) -> Tensor:
        """[B, Q, C] queries attending to `level` [B, S, C] where `allowed` [B, Q, S]."""
        attended = self.multihead_attn(x + x_position, level + position, level, allowed)
        return self.norm(x + attended)


class SelfAttentionLayer(nn.Module):
    """Attention among the queries."""

    def __init__(self, config: MaskHeadConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config.hidden_dim, config.heads)
        self.norm = nn.LayerNorm(config.hidden_dim)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """[B, Q, C] to [B, Q, C]."""
        placed = x + position
        return self.norm(x + self.self_attn(placed, placed, x))


class FeedForwardLayer(nn.Module):
    """Two-layer perceptron on each query."""

    def __init__(self, config: MaskHeadConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.hidden_dim, config.decoder_ffn)
        self.linear2 = nn.Linear(config.decoder_ffn, config.hidden_dim)
        self.norm = nn.LayerNorm(config.hidden_dim)
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Q, C] to [B, Q, C]."""
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))


class PooledMaskEmbed(nn.Module):
    """CLIP-space embedding of each mask from its pooled features and its query."""

    def __init__(self, config: MaskHeadConfig, embed_dim: int) -> None:
        super().__init__()
        width = config.hidden_dim
        self.pool_proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.mask_embed = nn.Sequential(nn.LayerNorm(width), MLP(width, width, embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))

    def forward(self, pooled: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Embed.

        Args:
            pooled: [B, Q, D] mask features averaged over each mask.
            queries: [B, Q, D] normalised decoder output.

        Returns:
            mask_embed [B, Q, E]; mask_pooled_features [B, Q, D], the MLP's input.
        """
        mask_pooled_features = self.pool_proj(pooled) + queries
        return self.mask_embed(mask_pooled_features), mask_pooled_features

    def scale(self) -> Tensor:
        """exp(logit_scale), at most 100, as a scalar tensor."""
        return self.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)


class MaskDecoder(nn.Module):
    """Queries to masks through masked attention; released names, prefix `predictor`."""

    def __init__(self, config: MaskHeadConfig, embed_dim: int) -> None:
        super().__init__()
        width, depth = config.hidden_dim, config.decoder_layers
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttentionLayer(config) for _ in range(depth)
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttentionLayer(config) for _ in range(depth)
        )
        self.transformer_ffn_layers = nn.ModuleList(FeedForwardLayer(config) for _ in range(depth))
        self.decoder_norm = nn.LayerNorm(width)
        self.query_feat = nn.Embedding(config.queries, width)
        self.query_embed = nn.Embedding(config.queries, width)
        self.level_embed = nn.Embedding(LEVELS, width)
        self.mask_embed = MLP(width, width, width)
        self.post_mask_embed = PooledMaskEmbed(config, embed_dim)

    def forward(self, levels: Sequence[Tensor], mask_features: Tensor) -> tuple[Tensor, Tensor]:
        """The last head's masks and queries.

        Args:
            levels: [B, D, h, w], coarse to fine.
            mask_features: [B, D, H, W].

        Returns:
            pred_masks [B, Q, H, W] logits; queries [B, Q, D] after the decoder norm.
        """
        queries = self.decode(levels, mask_features)[-1]
        return self.predict_masks(queries, mask_features), queries

    def decode(self, levels: Sequence[Tensor], mask_features: Tensor) -> list[Tensor]:
        """Normalised queries [B, Q, D] before the first layer and after every layer."""
        batch = mask_features.shape[0]
        resized = [_resize(mask_features, level) for level in levels]
        keys, positions = self._prepare_levels(levels)
        x_position = self.query_embed.weight
        x = self.query_feat.weight.expand(batch, -1, -1)
        heads = [self.decoder_norm(x)]
        for i, cross_attention in enumerate(self.transformer_cross_attention_layers):
            level = i % LEVELS
            allowed = attention_region(self.predict_masks(heads[-1], resized[level]))
            x = cross_attention(x, x_position, keys[level], positions[level], allowed)
            x = self.transformer_self_attention_layers[i](x, x_position)
            x = self.transformer_ffn_layers[i](x)
            heads.append(self.decoder_norm(x))
        return heads

    def predict_masks(self, queries: Tensor, mask_features: Tensor) -> Tensor:
        """Mask logits [B, Q, H, W] of normalised queries [B, Q, D]."""
        return torch.einsum("bqd,bdhw->bqhw", self.mask_embed(queries), mask_features)

    def _prepare_levels(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Level features [B, h·w, D] with the level embedding, and positions [h·w, D]."""
        keys = [
            level.flatten(2).transpose(1, 2) + embed
            for level, embed in zip(levels, self.level_embed.weight, strict=True)
        ]
        positions = [
            sine_position(h, w, d, level.device).flatten(1).T.to(level.dtype)
            for level, (_, d, h, w) in zip(levels, (x.shape for x in levels), strict=True)
        ]
        return keys, positions


def attention_region(mask_logits: Tensor) -> Tensor:
    """Where each query may attend: its mask at the level's size, or everywhere if that is empty.

    Args:
        mask_logits: [B, Q, h, w].

    Returns:
        [B, Q, h·w] bool. No gradient.
    """
    inside = (mask_logits.detach().sigmoid() >= 0.5).flatten(2)
    return inside | ~inside.any(-1, keepdim=True)


def _resize(features: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of `features` [B, D, H, W] to the height and width of `like`."""
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)
