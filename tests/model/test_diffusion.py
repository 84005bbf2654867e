"""Taps into the diffusion networks: shapes, pruning, noise."""

import math

import pytest
import torch

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.diffusion import (
    UnetTaps,
    VaeDecoderTaps,
    VaeEncoderTaps,
    add_noise,
    build_unet,
    build_vae,
    make_noise,
)
from xmask3d_rt.model.projections import feature_channels

CONFIG = get_preset("tiny")
DIFFUSION = CONFIG.diffusion


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return build_unet(DIFFUSION).eval(), build_vae(DIFFUSION).eval()


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    side = DIFFUSION.latent_size
    return {
        "latent": torch.randn(2, 4, side, side, generator=generator),
        "cond_inputs": torch.randn(
            2, DIFFUSION.context_length, DIFFUSION.context_dim, generator=generator
        ),
        "cond_emb": torch.randn(2, DIFFUSION.time_dim, generator=generator),
    }


def count_parameters(module):
    return sum(p.numel() for p in module.parameters())


def catch_inputs(blocks):
    """Record what each block is called with; returns the records and the hooks."""
    caught: list[torch.Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args: caught.append(args[0])) for block in blocks
    ]
    return caught, hooks


@torch.no_grad()
def test_unet_taps_are_the_inputs_of_the_named_blocks(networks, inputs):
    unet = networks[0]
    blocks = [block.resnets[2] for block in unet.up_blocks]
    caught, hooks = catch_inputs(blocks)
    context = inputs["cond_inputs"]
    temb = unet.time_embedding.register_forward_hook(lambda _, __, out: out + inputs["cond_emb"])
    unet(inputs["latent"], 0, encoder_hidden_states=context)
    for hook in (*hooks, temb):
        hook.remove()
    taps = UnetTaps(unet)(inputs["latent"], context, inputs["cond_emb"])
    assert len(taps) == len(caught) == 4
    for tap, expected in zip(taps, caught, strict=True):
        torch.testing.assert_close(tap, expected)


@torch.no_grad()
def test_vae_taps_are_the_inputs_of_the_named_blocks(networks):
    vae = networks[1]
    image = torch.rand(1, 3, DIFFUSION.image_size, DIFFUSION.image_size)
    encoder_blocks = [vae.encoder.down_blocks[i].resnets[1] for i in (2, 3)]
    decoder_blocks = [vae.decoder.up_blocks[i].resnets[2] for i in (0, 1)]
    caught, hooks = catch_inputs(encoder_blocks + decoder_blocks)
    mean = vae.encode(image * 2 - 1).latent_dist.mean
    vae.decode(mean)
    for hook in hooks:
        hook.remove()
    latent, enc5, enc7 = VaeEncoderTaps(vae, DIFFUSION.scale_factor)(image)
    dec2, dec5 = VaeDecoderTaps(vae, DIFFUSION.scale_factor)(latent)
    torch.testing.assert_close(latent, DIFFUSION.scale_factor * mean)
    for tap, expected in zip((enc5, enc7, dec2, dec5), caught, strict=True):
        torch.testing.assert_close(tap, expected)


@torch.no_grad()
def test_pruned_taps_equal_unpruned_and_hold_less(networks, inputs):
    unet, vae = networks
    full, pruned = UnetTaps(unet, pruned=False), UnetTaps(unet)
    arguments = (inputs["latent"], inputs["cond_inputs"], inputs["cond_emb"])
    for a, b in zip(full(*arguments), pruned(*arguments), strict=True):
        assert torch.equal(a, b)
    last = unet.up_blocks[3]
    dead = (last.resnets[2], last.attentions[2], unet.conv_norm_out, unet.conv_out)
    assert count_parameters(full) - count_parameters(pruned) == sum(map(count_parameters, dead))
    assert count_parameters(unet) == count_parameters(full)

    decoders = [VaeDecoderTaps(vae, DIFFUSION.scale_factor, pruned=p) for p in (False, True)]
    for a, b in zip(*(decoder(inputs["latent"]) for decoder in decoders), strict=True):
        assert torch.equal(a, b)
    blocks = vae.decoder.up_blocks
    dead = (blocks[1].resnets[2], blocks[1].upsamplers, *blocks[2:])
    dead = (*dead, vae.decoder.conv_norm_out, vae.decoder.conv_out)
    removed = count_parameters(decoders[0]) - count_parameters(decoders[1])
    assert removed == sum(map(count_parameters, dead))


@torch.no_grad()
def test_tap_shapes_follow_the_contract(networks, inputs):
    unet, vae = networks
    side = DIFFUSION.image_size
    image = torch.rand(1, 3, side, side)
    latent, enc5, enc7 = VaeEncoderTaps(vae, DIFFUSION.scale_factor)(image)
    taps = UnetTaps(unet)(latent, inputs["cond_inputs"][:1], inputs["cond_emb"][:1])
    decoded = VaeDecoderTaps(vae, DIFFUSION.scale_factor)(latent)
    features = (enc5, enc7, *taps, *decoded)
    assert latent.shape == (1, 4, side // 8, side // 8)
    strides = (4, 8, 64, 32, 16, 8, 8, 4)
    expected = [
        (1, channels, side // stride, side // stride)
        for channels, stride in zip(feature_channels(CONFIG), strides, strict=True)
    ]
    assert [tuple(feature.shape) for feature in features] == expected


def test_full_size_channels():
    assert feature_channels(get_preset("b15n4")) == (512, 512, 2560, 1920, 960, 640, 512, 512)


def test_noise_is_the_shared_one():
    noise = make_noise(get_preset("b15n4").diffusion)
    assert noise.shape == (1, 4, 64, 64)
    # the first numbers of torch's CPU generator at seed 42
    torch.testing.assert_close(
        noise[0, 0, 0, :3], torch.tensor([1.92691529, 1.48728406, 0.90071720])
    )
    assert torch.equal(noise, make_noise(get_preset("b15n4").diffusion))


def test_add_noise_keeps_unit_variance():
    latent = torch.full((1, 4, 8, 8), 2.0)
    noisy = add_noise(latent, torch.ones(1, 4, 8, 8), 0.64)
    torch.testing.assert_close(noisy, torch.full_like(latent, 0.8 * 2 + 0.6))
    assert math.isclose(0.8**2 + 0.6**2, 1)
