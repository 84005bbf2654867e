"""MaskCLIP against dense attention over all tokens, the text tower against torch's own layers."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.clip import IMAGE_MEAN, IMAGE_STD, Clip
from xmask3d_rt.model.text_encoder import TextTransformer
from xmask3d_rt.text.tokenizer import tokenize

CONFIG = dataclasses.replace(get_preset("tiny").clip, text_layers=2, vision_layers=2)


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return randomise(Clip(CONFIG)).eval()


def randomise(module):
    """Norm gains and biases too: their initial values would hide a missing term."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def dense_block(block, x, blocked):
    """nn.MultiheadAttention over every token, with a full [L, L] mask of blocked pairs."""
    attention = torch.nn.MultiheadAttention(x.shape[-1], block.attn.heads, batch_first=True).eval()
    attention.load_state_dict(block.attn.state_dict())
    normed = block.ln_1(x)
    x = x + attention(normed, normed, normed, attn_mask=blocked, need_weights=False)[0]
    hidden = F.linear(block.ln_2(x), block.mlp.c_fc.weight, block.mlp.c_fc.bias)
    hidden = hidden * (1 + torch.exp(-1.702 * hidden)) ** -1
    return x + F.linear(hidden, block.mlp.c_proj.weight, block.mlp.c_proj.bias)


def dense_mask_embed(visual, image, mask_logits):
    """One image, all mask, class and patch tokens in one matrix, mask columns blocked."""
    size, patch = CONFIG.image_size, CONFIG.patch_size
    queries, patches = mask_logits.shape[1], CONFIG.patches**2
    image = F.interpolate(image, (size, size), mode="bilinear")
    image = torch.stack(
        [(c - m) / s for c, m, s in zip(image[0], IMAGE_MEAN, IMAGE_STD, strict=True)]
    )
    tokens = F.unfold(image[None], patch, stride=patch)[0].T @ visual.conv1.weight.flatten(1).T
    tokens = torch.cat((visual.class_embedding[None], tokens)) + visual.positional_embedding
    tokens = visual.ln_pre(tokens)
    x = torch.cat((tokens[:1].repeat(queries, 1), tokens))[None]

    probability = F.interpolate(mask_logits, (size, size), mode="bilinear")[0].sigmoid()
    reached = F.unfold(probability[:, None], patch, stride=patch).amax(1) >= 0.5  # [Q, P]
    blocked = torch.zeros(queries + 1 + patches, queries + 1 + patches, dtype=torch.bool)
    blocked[:, :queries] = True
    blocked[:queries, queries + 1 :] = ~reached
    for block in visual.transformer.resblocks:
        x = dense_block(block, x, blocked)
    return visual.ln_post(x[:, :queries]) @ visual.proj


def smooth_masks(queries, generator):
    coarse = torch.randn(1, queries, 5, 5, generator=generator)
    return 4 * F.interpolate(coarse, (64, 64), mode="bicubic") - 1


@torch.no_grad()
def test_mask_embed_equals_dense_attention(clip):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 3, 256, 256, generator=generator)
    masks = smooth_masks(7, generator)
    masks[0, 3] = -50.0  # touches no patch: the class token alone
    masks[0, 4] = 50.0  # touches all

    embed = clip.encode_masks(image, masks)

    reached = clip.visual.allowed_patches(masks)[0].sum(-1)
    assert reached[3] == 0
    assert reached[4] == CONFIG.patches**2
    assert 0 < reached[0] < CONFIG.patches**2
    torch.testing.assert_close(
        embed, dense_mask_embed(clip.visual, image, masks), atol=2e-5, rtol=1e-4
    )


@torch.no_grad()
def test_a_mask_does_not_see_the_others(clip):
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(1, 3, 64, 64, generator=generator)
    masks = smooth_masks(3, generator)
    alone = clip.encode_masks(image, masks[:, 1:2])
    torch.testing.assert_close(clip.encode_masks(image, masks)[:, 1:2], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_images_of_a_batch_are_independent(clip):
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, 64, 64, generator=generator)
    masks = torch.cat((smooth_masks(3, generator), smooth_masks(3, generator)))
    both = clip.encode_masks(image, masks)
    for i in range(2):
        one = clip.encode_masks(image[i : i + 1], masks[i : i + 1])
        torch.testing.assert_close(both[i : i + 1], one, atol=1e-5, rtol=1e-4)


def test_one_pixel_at_one_half_opens_a_patch(clip):
    size = CONFIG.image_size  # no resampling: the mask is already at the tower's input size
    masks = torch.full((1, 1, size, size), -1e-3)
    masks[0, 0, CONFIG.patch_size, 5] = 0.0
    allowed = clip.visual.allowed_patches(masks)[0, 0]
    assert allowed.nonzero().flatten().tolist() == [CONFIG.patches]


@torch.no_grad()
def test_text_tower_equals_torch_layers(clip):
    ids = tokenize(["chair", "shower curtain", ""])
    x = clip.token_embedding.weight[ids] + clip.positional_embedding
    blocked = torch.ones(77, 77, dtype=torch.bool).triu(1)
    for block in clip.transformer.resblocks:
        x = dense_block(block, x, blocked)
    hidden = clip.ln_final(x)
    ends = [ids[i].tolist().index(49407) for i in range(3)]
    expected = torch.stack([hidden[i, end] for i, end in enumerate(ends)]) @ clip.text_projection
    torch.testing.assert_close(clip.encode_text(ids), expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_tokens_after_the_end_do_not_matter(clip):
    ids = tokenize(["chair"])
    padded = ids.clone()
    padded[0, 3:] = 7
    torch.testing.assert_close(clip.encode_text(padded), clip.encode_text(ids))


def test_temperature_is_capped(clip):
    assert clip.temperature().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        clip.logit_scale.add_(10)
        assert clip.temperature().item() == 100
        clip.logit_scale.sub_(10)


def test_gradients_reach_every_parameter_of_a_text_transformer():
    encoder = TextTransformer(width=32, layers=2, heads=2)
    encoder(tokenize(["chair"])).square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
