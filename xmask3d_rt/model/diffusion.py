"""Stable Diffusion v1 as a feature extractor: the UNet, the VAE, and the taps into them.

The networks are diffusers' own, built offline from a `DiffusionConfig`. A tap is the INPUT of a
residual block. The forward functions here run the sub-modules one by one and stop at the last
tap ("pruned"), which saves 63 of 803 GFLOP in the UNet and 1,892 of 2,515 in the VAE decoder;
unpruned they run everything, as the released code does.

Taps, in the order used downstream (diffusers' names):

    enc5, enc7   inputs of vae.encoder.down_blocks[2].resnets[1], down_blocks[3].resnets[1]
    unet2 .. 11  inputs of unet.up_blocks[0..3].resnets[2], after the skip concatenation
    dec2, dec5   inputs of vae.decoder.up_blocks[0].resnets[2], up_blocks[1].resnets[2]

Source: released XMask3D (LdmExtractor), Stable Diffusion's v1-inference.yaml.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from xmask3d_rt.config import DiffusionConfig
from xmask3d_rt.model.layers import count_groups, run_checkpointed
from xmask3d_rt.model.text_encoder import TextTransformer
from xmask3d_rt.text.tokenizer import sd_empty_prompt_ids

TAPPED_RESNET = 2  # of the three residual blocks of an up block
LAST_DECODER_TAP = 1  # up block of the VAE decoder with the last tap


def build_unet(config: DiffusionConfig) -> UNet2DConditionModel:
    """UNet of Stable Diffusion v1 with the widths of `config`, randomly initialised."""
    return UNet2DConditionModel(
        sample_size=config.latent_size,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=config.unet_channels,
        layers_per_block=2,
        norm_num_groups=count_groups(min(config.unet_channels)),
        cross_attention_dim=config.context_dim,
        attention_head_dim=config.attention_heads,  # diffusers' v1 configs: the number of heads
    )


def build_vae(config: DiffusionConfig) -> AutoencoderKL:
    """KL autoencoder of Stable Diffusion v1 with the widths of `config`, randomly initialised."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=config.vae_channels,
        layers_per_block=2,
        latent_channels=config.latent_channels,
        norm_num_groups=count_groups(min(config.vae_channels)),
        sample_size=config.image_size,
        scaling_factor=config.scale_factor,
    )


def make_noise(config: DiffusionConfig) -> Tensor:
    """The one noise tensor every view shares, [1, C, S/8, S/8]; a CPU generator makes it."""
    shape = (1, config.latent_channels, config.latent_size, config.latent_size)
    generator = torch.Generator("cpu").manual_seed(config.noise_seed)
    return torch.randn(shape, generator=generator, device="cpu")


def add_noise(latent: Tensor, noise: Tensor, alpha_bar: float) -> Tensor:
    """√ᾱ·latent + √(1−ᾱ)·noise, the forward process at one step.

    Args:
        latent: [B, C, h, w].
        noise: [1, C, h, w].
        alpha_bar: cumulative alpha of the step.

    Returns:
        [B, C, h, w].
    """
    return math.sqrt(alpha_bar) * latent + math.sqrt(1 - alpha_bar) * noise


class ImageFeatures(NamedTuple):
    """What the VAE makes of images: nothing trained comes before it, so it can be kept.

    `latent` [B, 4, S/8, S/8] scaled; `enc5`, `enc7`, `dec2`, `dec5` [B, C_i, h_i, w_i].
    """

    latent: Tensor
    enc5: Tensor
    enc7: Tensor
    dec2: Tensor
    dec5: Tensor


class VaeEncoderTaps(nn.Module):
    """Image to latent, with the two encoder features; nothing in the encoder is dead.

    Args:
        vae: the autoencoder; its encoder and `quant_conv` are used, not copied.
        scale_factor: of the latent.
    """

    encoder: Any
    quant_conv: Any

    def __init__(self, vae: Any, scale_factor: float) -> None:
        super().__init__()
        self.encoder = vae.encoder
        self.quant_conv = vae.quant_conv
        self.scale_factor = scale_factor

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode.

        Args:
            image: [B, 3, S, S] in [0, 1].

        Returns:
            latent [B, 4, S/8, S/8] = scale_factor · mean; enc5 [B, c2, S/4, S/4];
            enc7 [B, c3, S/8, S/8].
        """
        encoder = self.encoder
        taps = []
        h = encoder.conv_in((image - 0.5) / 0.5)
        for level, block in enumerate(encoder.down_blocks):
            h = block.resnets[0](h, None)
            if level >= 2:
                taps.append(h)
            h = block.resnets[1](h, None)
            for downsample in block.downsamplers or []:
                h = downsample(h)
        h = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(encoder.mid_block(h))))
        mean, _ = self.quant_conv(h).chunk(2, dim=1)
        return self.scale_factor * mean, taps[0], taps[1]


class UnetTaps(nn.Module):
    """One UNet pass at t = 0, stopping at the last of the four taps.

    Args:
        unet: its sub-modules are used, not copied.
        pruned: leave out, and do not hold, what lies behind the last tap.
        checkpointed: keep no activations inside a block for the backward pass.
    """

    unet: Any

    def __init__(self, unet: Any, pruned: bool = True, checkpointed: bool = False) -> None:
        super().__init__()
        self.pruned = pruned
        self.checkpointed = checkpointed
        self.unet = prune_unet(unet) if pruned else unet

    def forward(self, noisy_latent: Tensor, cond_inputs: Tensor, cond_emb: Tensor) -> list[Tensor]:
        """Run the UNet.

        Args:
            noisy_latent: [B, 4, h, w].
            cond_inputs: [B, 77, E] text condition of the cross attention.
            cond_emb: [B, time_dim], added to the time embedding.

        Returns:
            unet2 [B, 2·c3, h/8, w/8], unet5 [B, c3 + c2, h/4, w/4], unet8 [B, c2 + c1, h/2, w/2],
            unet11 [B, 2·c0, h, w], of UNet widths c0..c3.
        """
        unet = self.unet
        step = torch.zeros(noisy_latent.shape[0], device=noisy_latent.device)
        temb = unet.time_embedding(unet.time_proj(step).to(noisy_latent.dtype)) + cond_emb
        h, skips = self._run_down(noisy_latent, temb, cond_inputs)
        h = self._run(_run_mid, unet.mid_block, h, temb, cond_inputs)
        taps = []
        for block in unet.up_blocks:
            for i in range(TAPPED_RESNET + 1):
                h = torch.cat([h, skips.pop()], dim=1)
                if i == TAPPED_RESNET:
                    taps.append(h)
                    if i == len(block.resnets):
                        return taps
                h = self._run(_run_layer, block, i, h, temb, cond_inputs)
            for upsample in block.upsamplers or []:
                h = upsample(h)
        unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))
        return taps

    def _run_down(
        self, noisy_latent: Tensor, temb: Tensor, context: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The down blocks: their output and all twelve skips."""
        h = self.unet.conv_in(noisy_latent)
        skips = [h]
        for block in self.unet.down_blocks:
            for i in range(len(block.resnets)):
                h = self._run(_run_layer, block, i, h, temb, context)
                skips.append(h)
            for downsample in block.downsamplers or []:
                h = downsample(h)
                skips.append(h)
        return h, skips

    def _run(self, function: Callable[..., Tensor], *args: Any) -> Tensor:
        return run_checkpointed(function, *args, enabled=self.checkpointed)


def _run_layer(block: Any, index: int, h: Tensor, temb: Tensor, context: Tensor) -> Tensor:
    """One residual block of a level, and the attention behind it where the level has any."""
    h = block.resnets[index](h, temb)
    attentions = getattr(block, "attentions", None)
    if attentions is None:
        return h
    return attentions[index](h, encoder_hidden_states=context, return_dict=False)[0]


def _run_mid(block: Any, h: Tensor, temb: Tensor, context: Tensor) -> Tensor:
    return block(h, temb, encoder_hidden_states=context)


class VaeDecoderTaps(nn.Module):
    """Clean latent to the two decoder features.

    Args:
        vae: its decoder and `post_quant_conv` are used, not copied.
        scale_factor: of the latent.
        pruned: leave out, and do not hold, what lies behind the last tap.
    """

    decoder: Any
    post_quant_conv: Any

    def __init__(self, vae: Any, scale_factor: float, pruned: bool = True) -> None:
        super().__init__()
        self.pruned = pruned
        self.decoder = prune_decoder(vae.decoder) if pruned else vae.decoder
        self.post_quant_conv = vae.post_quant_conv
        self.scale_factor = scale_factor

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Decode as far as the last tap.

        Args:
            latent: [B, 4, h, w], scaled.

        Returns:
            dec2 [B, c3, h, w], dec5 [B, c3, 2h, 2w], of VAE widths c0..c3.
        """
        decoder = self.decoder
        h = decoder.conv_in(self.post_quant_conv(latent / self.scale_factor))
        h = decoder.mid_block(h)
        taps = []
        for level, block in enumerate(decoder.up_blocks):
            for i in range(TAPPED_RESNET + 1):
                if i == TAPPED_RESNET and level <= LAST_DECODER_TAP:
                    taps.append(h)
                    if i == len(block.resnets):
                        return taps[0], taps[1]
                h = block.resnets[i](h, None)
            for upsample in block.upsamplers or []:
                h = upsample(h)
        decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(h)))
        return taps[0], taps[1]


class Diffusion(nn.Module):
    """The frozen diffusion model: `unet`, `vae`, `text_encoder`, and two constants.

    The shared noise comes from the configuration. The embedding of "" follows from the text
    encoder's weights, so it must be made (`embed_empty_prompt`) or given (`set_uncond`) once
    they are loaded; neither constant is part of the state dict.

    Args:
        config: widths and sizes.
        pruned: stop at the last tap; False runs the dead blocks too, as the released code does.
    """

    noise: Tensor
    _uncond: Tensor | None

    def __init__(self, config: DiffusionConfig, pruned: bool = True) -> None:
        super().__init__()
        self.config = config
        self.pruned = pruned
        self.checkpointed = False  # whether `run_unet` saves memory for a backward pass
        self.unet = build_unet(config)
        self.vae = build_vae(config)
        self.text_encoder = TextTransformer(
            config.context_dim, config.text_layers, config.text_heads, config.context_length
        )
        self.register_buffer("noise", make_noise(config), persistent=False)
        self.register_buffer("_uncond", None, persistent=False)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "Diffusion":
        """Stay in evaluation mode: this part is never trained."""
        return super().train(False)

    @property
    def uncond_inputs(self) -> Tensor:
        """Embedding of "" [1, 77, context_dim].

        Raises:
            ValueError: it has not been made yet.
        """
        if self._uncond is None:
            raise ValueError(
                "Diffusion: the embedding of the empty prompt is not set; call "
                "embed_empty_prompt() after loading the weights"
            )
        return self._uncond

    def set_uncond(self, uncond_inputs: Tensor) -> None:
        """Set the embedding of "" [1, 77, context_dim]."""
        self._uncond = uncond_inputs.detach().to(self.noise.device)

    @torch.no_grad()
    def embed_empty_prompt(self) -> None:
        """Make the embedding of "" with the text encoder as it is now."""
        ids = sd_empty_prompt_ids(self.config.context_length).to(self.noise.device)
        self.set_uncond(self.text_encoder(ids))

    @torch.no_grad()
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latent, enc5, enc7 of images [B, 3, S, S]; see `VaeEncoderTaps`."""
        return VaeEncoderTaps(self.vae, self.config.scale_factor)(image)

    @torch.no_grad()
    def decode(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """dec2, dec5 of latents; see `VaeDecoderTaps`."""
        return VaeDecoderTaps(self.vae, self.config.scale_factor, self.pruned)(latent)

    def encode_images(self, images: Tensor) -> ImageFeatures:
        """Everything that depends on images [B, 3, S, S] alone."""
        latent, enc5, enc7 = self.encode(images)
        return ImageFeatures(latent, enc5, enc7, *self.decode(latent))

    def add_noise(self, latent: Tensor) -> Tensor:
        """The latent with the shared noise at t = 0."""
        return add_noise(latent, self.noise, self.config.alpha_bar)

    def run_unet(self, noisy_latent: Tensor, cond_inputs: Tensor, cond_emb: Tensor) -> list[Tensor]:
        """unet2, unet5, unet8, unet11; gradients flow to the conditions. See `UnetTaps`."""
        taps = UnetTaps(self.unet, self.pruned, self.checkpointed)
        return taps(noisy_latent, cond_inputs, cond_emb)


def prune_unet(unet: Any) -> Any:
    """The same UNet without the parameters behind the last tap; shares all others.

    Dead: the third residual block and attention of the last up block, the output convolution.
    """
    pruned = _shallow_copy(unet)
    pruned.up_blocks = _shallow_copy(unet.up_blocks)
    last = _shallow_copy(unet.up_blocks[-1])
    last.resnets = unet.up_blocks[-1].resnets[:TAPPED_RESNET]
    last.attentions = unet.up_blocks[-1].attentions[:TAPPED_RESNET]
    pruned.up_blocks[-1] = last
    for name in ("conv_norm_out", "conv_act", "conv_out"):
        setattr(pruned, name, None)
    return pruned


def prune_decoder(decoder: Any) -> Any:
    """The same VAE decoder without the parameters behind the last tap; shares all others.

    Dead: from the third residual block of the second up block on.
    """
    pruned = _shallow_copy(decoder)
    blocks = decoder.up_blocks
    last = _shallow_copy(blocks[LAST_DECODER_TAP])
    last.resnets = blocks[LAST_DECODER_TAP].resnets[:TAPPED_RESNET]
    last.upsamplers = None
    pruned.up_blocks = nn.ModuleList([*blocks[:LAST_DECODER_TAP], last])
    for name in ("conv_norm_out", "conv_act", "conv_out"):
        setattr(pruned, name, None)
    return pruned


def _shallow_copy(module: nn.Module) -> Any:
    """A module of its own whose children and parameters are the original's."""
    shell = copy.copy(module)
    shell.__dict__["_modules"] = dict(module._modules)
    return shell
