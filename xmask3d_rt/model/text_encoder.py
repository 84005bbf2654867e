"""The transformer that both text encoders share, and its blocks.

Pre-norm residual blocks with quick-gelu; parameters carry open_clip's names. `TextTransformer`
is Stable Diffusion's encoder as it stands, and CLIP's text tower is built on it (`clip.py`).

Source: CLIP, Radford et al. 2021; names as in open_clip.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VOCABULARY = 49408


def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x), the approximation of GELU that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head attention with packed projections; queries and keys may be different rows."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)

    def forward(
        self, queries: Tensor, keys: Tensor, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Attend from `queries` to `keys`.

        Args:
            queries: [B, L, C].
            keys: [B, S, C], the tokens whose keys and values are computed.
            mask: added to the attention logits, broadcastable to [B, heads, L, S].
            causal: row i attends to rows 0..i only.

        Returns:
            [B, L, C].
        """
        width = queries.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        q = F.linear(queries, weight[:width], bias[:width])  # [B, L, C]
        k, v = F.linear(keys, weight[width:], bias[width:]).chunk(2, dim=-1)  # [B, S, C]
        q, k, v = (self._split_heads(x) for x in (q, k, v))  # [B, heads, L or S, C / heads]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Mlp(nn.Module):
    """Two linear layers around quick-gelu."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[…, C] → […, C]."""
        return self.c_proj(quick_gelu(self.c_fc(x)))


class ResidualBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        first_key: int = 0,
        rows: int | None = None,
    ) -> Tensor:
        """One block.

        Args:
            x: [B, L, C].
            mask: as in `Attention.forward`.
            causal: row i attends to rows 0..i only.
            first_key: rows before this one serve as queries but never as keys.
            rows: compute the first `rows` rows only (default: all).

        Returns:
            [B, rows, C].
        """
        normed = self.ln_1(x)
        x = x[:, :rows] + self.attn(normed[:, :rows], normed[:, first_key:], mask, causal)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of residual blocks under open_clip's name, `resblocks`."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualBlock(width, heads) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """[B, L, C] → [B, L, C]."""
        for block in self.resblocks:
            x = block(x, mask, causal=causal)
        return x


class TextTransformer(nn.Module):
    """Token ids to hidden states: embeddings, causal blocks, final norm.

    Padding is not masked: causal attention keeps it out of everything before it.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        context_length: int = 77,
        vocab_size: int = VOCABULARY,
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        self.transformer = Transformer(width, layers, heads)
        self.ln_final = nn.LayerNorm(width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Hidden states [T, L, C] after the final norm of `token_ids` [T, L] int64."""
        x = self.token_embedding(token_ids) + self.positional_embedding
        return self.ln_final(self.transformer(x, causal=True))
