"""Which tensors of which weight file make each tensor of the module.

Three weight files, three namespaces, each with the key names of its best known form:

    xmask3d  the released checkpoint (without its `module.` prefix): same names as the module
    sd       Stable Diffusion v1 in CompVis' names; the module holds diffusers' networks and
             the text transformer of `text_encoder.py`
    clip     ViT-L-14 in open_clip's names: same names as the module

Everything here is arithmetic on names; widths and depths do not matter, only Stable
Diffusion's plan of four levels with two residual blocks each.

Source: key lists of the three files; CompVis' and diffusers' module trees.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

NAMESPACES = ("xmask3d", "sd", "clip")

# Keys of a real Stable Diffusion file that no tensor of the module comes from.
SD_UNUSED = re.compile(
    r"betas|alphas_cumprod|alphas_cumprod_prev"  # the noise schedule; t = 0 needs one number
    r"|(sqrt|log)_(one_minus|recip|recipm1)?_?alphas_cumprod"
    r"|posterior_(variance|log_variance_clipped|mean_coef[12])"
    r"|lvlb_weights|logvar|scale_factor"
    r"|model_ema\..*"  # moving averages kept beside the weights proper
    r"|cond_stage_model\..*position_ids"  # 0..76
    r"|first_stage_model\.loss\..*"  # discriminator of the autoencoder's training
)
_TRAINED = (
    *("pc_decoder.", "pc_binary_head.", "backbone.", "sem_seg_head."),
    *("criterion.", "category_head.", "binary_loss_func."),
)


class Transform(StrEnum):
    """How the tensors of a file become one tensor of the module."""

    IDENTITY = "identity"
    CONCAT = "concat"  # along the first axis, equal parts
    SQUEEZE = "squeeze"  # 1×1 convolution [C, C, 1, 1] to matrix [C, C]
    TRANSPOSE = "transpose"  # matrix of a linear layer, used as x @ W


@dataclass(frozen=True)
class Source:
    """Where one module tensor comes from."""

    namespace: str
    keys: tuple[str, ...]
    transform: Transform = Transform.IDENTITY

    def shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Shape of each source tensor, given the module tensor's."""
        first, *rest = shape if len(shape) else (0,)
        match self.transform:
            case Transform.CONCAT:
                return [(first // len(self.keys), *rest)] * len(self.keys)
            case Transform.SQUEEZE:
                return [(first, *rest, 1, 1)]
            case Transform.TRANSPOSE:
                return [(*rest, first)]
            case _:
                return [tuple(shape)]

    def assemble(self, tensors: Sequence[Tensor]) -> Tensor:
        """The module tensor from its source tensors."""
        match self.transform:
            case Transform.CONCAT:
                return torch.cat(list(tensors))
            case Transform.SQUEEZE:
                return tensors[0].flatten(1)
            case Transform.TRANSPOSE:
                return tensors[0].T
            case _:
                return tensors[0]


def build_key_map(model: nn.Module) -> dict[str, Source]:
    """Source of every tensor in the state dict of an `XMask3D`, on any device.

    Raises:
        KeyError: a tensor that no weight file provides.
    """
    return map_names(model.state_dict())


def map_names(names: Iterable[str]) -> dict[str, Source]:
    """`map_name` for many names."""
    return {name: map_name(name) for name in names}


def map_name(name: str) -> Source:
    """Source of one module tensor.

    Raises:
        KeyError: no weight file provides it.
    """
    if name.startswith("clip."):
        return Source("clip", (name.removeprefix("clip."),))
    if name.startswith(_TRAINED):
        return Source("xmask3d", (name,))
    for prefix, translate in _DIFFUSION:
        if name.startswith(prefix):
            return translate(name.removeprefix(prefix))
    raise KeyError(f"map_name: no weight file provides {name!r}")


def _rename(name: str, table: Sequence[tuple[str, str]]) -> str:
    """Replace the first matching whole-path prefix or inner part of `name`."""
    for old, new in table:
        if name == old or name.startswith(old + "."):
            return new + name[len(old) :]
    return name


_UNET_RESNET = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
)
_UNET_ENDS = (
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
)
_UNET_BLOCK = re.compile(
    r"(down|mid|up)_block(?:s\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)


def map_unet(name: str) -> Source:
    """Source of a tensor of diffusers' UNet2DConditionModel.

    CompVis numbers the encoder's blocks through: one convolution, then per level two blocks
    and a downsampling; the decoder's: three blocks per level, the last with the upsampling.
    Inside a block, part 0 is residual, part 1 attention, and the upsampling comes last.
    """
    if (match := _UNET_BLOCK.fullmatch(name)) is None:
        return _sd("model.diffusion_model." + _rename(name, _UNET_ENDS))
    side, level, kind, index, rest = match.groups()
    i = int(index)
    if kind == "resnets":
        rest = _rename(rest, _UNET_RESNET)
    part = 1 if kind == "attentions" else 0
    if side == "mid":
        block = f"middle_block.{2 * i + part}"
    elif side == "down":
        if kind == "downsamplers":
            i, rest = 2, "op." + rest.removeprefix("conv.")
        block = f"input_blocks.{1 + 3 * int(level) + i}.{part}"
    else:
        if kind == "upsamplers":
            i, part = 2, 1 if level == "0" else 2  # the innermost level has no attention
        block = f"output_blocks.{3 * int(level) + i}.{part}"
    return _sd(f"model.diffusion_model.{block}.{rest}")


_VAE_LEVELS = 4
_VAE_ENDS = (("conv_norm_out", "norm_out"),)
_VAE_RESNET = (("conv_shortcut", "nin_shortcut"),)
_VAE_ATTENTION = (
    ("group_norm", "norm"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "proj_out"),
)
_VAE_BLOCK = re.compile(r"(down|mid|up)_block(?:s\.(\d+))?\.(\w+)\.(\d+)\.(.+)")


def map_vae(name: str) -> Source:
    """Source of a tensor of diffusers' AutoencoderKL.

    CompVis counts the decoder's levels from the outside in; its attention projections are
    1×1 convolutions.
    """
    coder, _, inner = name.partition(".")
    if coder not in ("encoder", "decoder"):
        return _sd("first_stage_model." + name)
    prefix = f"first_stage_model.{coder}."
    if (match := _VAE_BLOCK.fullmatch(inner)) is None:
        return _sd(prefix + _rename(inner, _VAE_ENDS))
    side, level, kind, index, rest = match.groups()
    if kind == "attentions":
        renamed = _rename(rest, _VAE_ATTENTION)
        matrix = rest.endswith(".weight") and not rest.startswith("group_norm")
        transform = Transform.SQUEEZE if matrix else Transform.IDENTITY
        return _sd(f"{prefix}mid.attn_1.{renamed}", transform=transform)
    if kind == "resnets":
        rest = _rename(rest, _VAE_RESNET)
    if side == "mid":
        return _sd(f"{prefix}mid.block_{int(index) + 1}.{rest}")
    number = int(level) if side == "down" else _VAE_LEVELS - 1 - int(level)
    part = f"block.{index}" if kind == "resnets" else f"{side}sample"
    return _sd(f"{prefix}{side}.{number}.{part}.{rest}")


# open_clip's names, and Hugging Face's
_HF_BLOCK = (
    ("ln_1", "layer_norm1"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)
_HF_TEXT = (
    ("token_embedding", "embeddings.token_embedding"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_final", "final_layer_norm"),
)
_HF_VISION = (
    ("conv1", "embeddings.patch_embedding"),
    ("class_embedding", "embeddings.class_embedding"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_pre", "pre_layrnorm"),  # so spelt
    ("ln_post", "post_layernorm"),
)
_TEXT_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_SD_TEXT = "cond_stage_model.transformer.text_model."


def map_sd_text(name: str) -> Source:
    """Source of a tensor of Stable Diffusion's text transformer."""
    return _hf_transformer("sd", _SD_TEXT, name, _HF_TEXT)


def map_hf_clip(name: str) -> Source:
    """Source of a tensor of `Clip` in a file of Hugging Face's CLIPModel."""
    if name == "logit_scale":
        return Source("clip", (name,))
    if name == "text_projection":
        return Source("clip", ("text_projection.weight",), Transform.TRANSPOSE)
    if name == "visual.proj":
        return Source("clip", ("visual_projection.weight",), Transform.TRANSPOSE)
    if name.startswith("visual."):
        inner = name.removeprefix("visual.")
        return _hf_transformer("clip", "vision_model.", inner, _HF_VISION)
    return _hf_transformer("clip", "text_model.", name, _HF_TEXT)


def _hf_transformer(
    namespace: str, prefix: str, name: str, ends: Sequence[tuple[str, str]]
) -> Source:
    """Hugging Face's key of a tensor of a tower, or the three keys of packed projections.

    Args:
        namespace: of the result.
        prefix: of its keys.
        name: open_clip's name within the tower.
        ends: (open_clip's, Hugging Face's) names outside the blocks.
    """
    if (match := _TEXT_BLOCK.fullmatch(name)) is None:
        return Source(namespace, (prefix + _rename(name, ends),))
    number, rest = match.groups()
    layer = f"{prefix}encoder.layers.{number}."
    if rest.startswith("attn.in_proj_"):
        kind = rest.removeprefix("attn.in_proj_")
        keys = tuple(f"{layer}self_attn.{part}_proj.{kind}" for part in "qkv")
        return Source(namespace, keys, Transform.CONCAT)
    return Source(namespace, (layer + _rename(rest, _HF_BLOCK),))


def _sd(*keys: str, transform: Transform = Transform.IDENTITY) -> Source:
    return Source("sd", keys, transform)


_DIFFUSION = (
    ("diffusion.unet.", map_unet),
    ("diffusion.vae.", map_vae),
    ("diffusion.text_encoder.", map_sd_text),
)
