"""Masked attention, mask pooling and the mask decoder."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.mask_decoder import Attention, MaskDecoder, attention_region

CONFIG = get_preset("tiny").mask_head


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    return MaskDecoder(CONFIG, embed_dim=24).eval()


def make_inputs(batch=2):
    generator = torch.Generator().manual_seed(3)
    levels = [
        torch.randn(batch, CONFIG.hidden_dim, side, side, generator=generator)
        for side in (4, 8, 16)
    ]
    return levels, torch.randn(batch, CONFIG.hidden_dim, 32, 32, generator=generator)


def test_attention_equals_torch_multihead_attention():
    torch.manual_seed(0)
    ours, theirs = Attention(32, 4), nn.MultiheadAttention(32, 4, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    query, key, value = torch.randn(2, 5, 32), torch.randn(2, 7, 32), torch.randn(2, 7, 32)
    allowed = torch.rand(2, 5, 7) > 0.5
    allowed[..., 0] = True
    expected, _ = theirs(query, key, value, attn_mask=~allowed.repeat_interleave(4, 0))
    torch.testing.assert_close(ours(query, key, value, allowed), expected)
    torch.testing.assert_close(ours(query, key, value), theirs(query, key, value)[0])


def test_attention_ignores_what_it_may_not_see():
    torch.manual_seed(0)
    attention = Attention(16, 2)
    query, memory = torch.randn(1, 3, 16), torch.randn(1, 6, 16)
    allowed = torch.zeros(1, 3, 6, dtype=torch.bool)
    allowed[..., :2] = True
    expected = attention(query, memory[:, :2], memory[:, :2])
    torch.testing.assert_close(attention(query, memory, memory, allowed), expected)


def test_attention_region_threshold_and_empty_rows():
    logits = torch.tensor([[[-1.0, 0.0], [2.0, -3.0]], [[-1.0, -1.0], [-1.0, -1.0]]])[None]
    allowed = attention_region(logits)
    # sigmoid(0) = 0.5 is inside; a mask that is nowhere attends everywhere
    assert allowed.tolist() == [[[False, True, True, False], [True] * 4]]


@torch.no_grad()
def test_resized_features_give_resized_masks(decoder):
    _, mask_features = make_inputs()
    queries = torch.randn(2, CONFIG.queries, CONFIG.hidden_dim)
    masks = decoder.predict_masks(queries, mask_features)
    for side in (4, 8, 16):
        resize = {"size": (side, side), "mode": "bilinear", "align_corners": False}
        small = decoder.predict_masks(queries, F.interpolate(mask_features, **resize))
        torch.testing.assert_close(small, F.interpolate(masks, **resize), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_decoder_against_plain_layers(decoder):
    """The whole decoder, rebuilt from torch's attention and full-size masks."""
    levels, mask_features = make_inputs(batch=1)
    flat = [x.flatten(2).transpose(1, 2) for x in levels]
    keys, positions = decoder._prepare_levels(levels)
    for key, x, embed in zip(keys, flat, decoder.level_embed.weight, strict=True):
        torch.testing.assert_close(key, x + embed)
    attention = nn.MultiheadAttention(CONFIG.hidden_dim, CONFIG.heads, batch_first=True)
    place = decoder.query_embed.weight[None]
    x = decoder.query_feat.weight[None]
    for i in range(CONFIG.decoder_layers):
        masks = decoder.predict_masks(decoder.decoder_norm(x), mask_features)
        size = levels[i % 3].shape[-2:]
        masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
        blocked = (masks.sigmoid() < 0.5).flatten(2)[0]
        blocked[blocked.all(1)] = False
        cross = decoder.transformer_cross_attention_layers[i]
        attention.load_state_dict(cross.multihead_attn.state_dict())
        key = keys[i % 3]
        out, _ = attention(x + place, key + positions[i % 3], key, attn_mask=blocked)
        x = cross.norm(x + out)
        own = decoder.transformer_self_attention_layers[i]
        attention.load_state_dict(own.self_attn.state_dict())
        x = own.norm(x + attention(x + place, x + place, x)[0])
        feed = decoder.transformer_ffn_layers[i]
        x = feed.norm(x + feed.linear2(F.relu(feed.linear1(x))))
    queries = decoder.decoder_norm(x)
    pred_masks, actual = decoder(levels, mask_features)
    torch.testing.assert_close(actual, queries, rtol=1e-4, atol=1e-4)
    expected = torch.einsum("qd,dhw->qhw", decoder.mask_embed(queries)[0], mask_features[0])
    torch.testing.assert_close(pred_masks[0], expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_images_of_a_batch_are_independent(decoder):
    levels, mask_features = make_inputs()
    masks, queries = decoder(levels, mask_features)
    alone = decoder([level[1:] for level in levels], mask_features[1:])
    torch.testing.assert_close(queries[1:], alone[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(masks[1:], alone[0], rtol=1e-3, atol=1e-3)


def test_mask_embedding_starts_at_clip_temperature(decoder):
    head = decoder.post_mask_embed
    torch.testing.assert_close(head.scale(), torch.tensor(1 / 0.07))
    pooled, queries = torch.randn(1, 20, CONFIG.hidden_dim), torch.randn(1, 20, CONFIG.hidden_dim)
    mask_embed, mask_pooled_features = head(pooled, queries)
    assert mask_embed.shape == (1, 20, 24)
    torch.testing.assert_close(mask_pooled_features - queries, head.pool_proj(pooled))
