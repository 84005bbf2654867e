"""The torch module of each engine component: the parts of XMask3D it needs and no others.

A component is built alone, so that the full-size model never has to fit in memory at once.
Its forward takes the contract's inputs in order and returns the outputs in order. `renamed`
maps its state-dict names to those of the whole model, which is what weights are kept under.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from xmask3d_rt.config import ClipConfig, DiffusionConfig, ModelConfig
from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model.clip import Clip, VisionTransformer
from xmask3d_rt.model.diffusion import (
    UnetTaps,
    VaeDecoderTaps,
    VaeEncoderTaps,
    add_noise,
    build_unet,
    build_vae,
    make_noise,
)
from xmask3d_rt.model.mask_decoder import MaskDecoder
from xmask3d_rt.model.pixel_decoder import PixelDecoder
from xmask3d_rt.model.projections import ConditionProjection, FeatureProjections
from xmask3d_rt.model.text_encoder import TextTransformer
from xmask3d_rt.text.tokenizer import sd_empty_prompt_ids

logger = logging.getLogger(__name__)


class TensorReader(Protocol):
    """Anything that gives tensors by their name in the whole model."""

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor `name`, which has `shape`.

        Raises:
            CheckpointError: it is missing or has another shape.
        """


class ComponentModule(nn.Module):
    """A component; subclasses say how their names read in the whole model."""

    prefixes: tuple[tuple[str, str], ...] = ()

    def model_name(self, name: str) -> str:
        """Name in the whole model of an entry of this module's state dict."""
        for prefix, replacement in self.prefixes:
            if name.startswith(prefix):
                return replacement + name.removeprefix(prefix)
        raise KeyError(f"{type(self).__name__}: {name!r} has no place in the whole model")


class VaeEncoder(ComponentModule):
    """`vae_encoder`: image to latent, enc5, enc7."""

    prefixes = (("taps.", "diffusion.vae."),)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        vae = build_vae(config.diffusion)
        self.taps = VaeEncoderTaps(vae, config.diffusion.scale_factor)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image [B, 3, S, S] in [0, 1] → latent, enc5, enc7."""
        return self.taps(image)


class Unet(ComponentModule):
    """`unet`: latent and 3D condition to the four UNet features.

    The shared noise and the embedding of the empty prompt are constants inside.
    """

    prefixes = (
        ("taps.unet.", "diffusion.unet."),
        ("condition.", "backbone.feature_extractor."),
    )
    noise: Tensor
    uncond_inputs: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        diffusion = config.diffusion
        self.alpha_bar = diffusion.alpha_bar
        self.taps = UnetTaps(build_unet(diffusion))
        self.condition = ConditionProjection(config)
        empty = torch.zeros(1, diffusion.context_length, diffusion.context_dim)
        self.register_buffer("noise", make_noise(diffusion), persistent=False)
        self.register_buffer("uncond_inputs", empty, persistent=False)

    def forward(self, latent: Tensor, imp_condition: Tensor) -> tuple[Tensor, ...]:
        """latent [B, 4, h, w], imp_condition [B, E] → unet2, unet5, unet8, unet11."""
        cond_inputs, cond_emb = self.condition(imp_condition, self.uncond_inputs)
        noisy = add_noise(latent, self.noise, self.alpha_bar)
        return tuple(self.taps(noisy, cond_inputs, cond_emb))


class VaeDecoder(ComponentModule):
    """`vae_decoder`: latent to dec2, dec5."""

    prefixes = (("taps.", "diffusion.vae."),)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        vae = build_vae(config.diffusion)
        self.taps = VaeDecoderTaps(vae, config.diffusion.scale_factor)

    def forward(self, latent: Tensor) -> tuple[Tensor, ...]:
        """latent [B, 4, h, w] → dec2, dec5."""
        return self.taps(latent)


class MaskHead(ComponentModule):
    """`mask_head`: the eight diffusion features to mask features, masks and queries."""

    prefixes = (
        ("feature_projections.", "backbone.feature_projections."),
        ("pixel_decoder.", "sem_seg_head.pixel_decoder."),
        ("predictor.", "sem_seg_head.predictor."),
    )

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.feature_projections = FeatureProjections(config)
        self.pixel_decoder = PixelDecoder(config.mask_head)
        self.predictor = MaskDecoder(config.mask_head, config.clip.embed_dim)
        del self.predictor.post_mask_embed  # runs outside, on the pooled features

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        """enc5, enc7, unet2, unet5, unet8, unet11, dec2, dec5 → mask_features, masks, queries."""
        mask_features, levels = self.pixel_decoder(self.feature_projections(features))
        pred_masks, queries = self.predictor(levels, mask_features)
        return mask_features, pred_masks, queries


class MaskClip(ComponentModule):
    """`mask_clip`: the image under each mask to mask_embed_clip."""

    prefixes = (("visual.", "clip.visual."),)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.visual = VisionTransformer(config.clip)

    def forward(self, image: Tensor, pred_masks: Tensor) -> tuple[Tensor, ...]:
        """image [B, 3, S, S], pred_masks [B, Q, h, w] → mask_embed_clip."""
        return (self.visual(image, pred_masks),)


class TextEncoder(ComponentModule):
    """`text_encoder`: token ids to text_embed."""

    prefixes = (("text.", "clip."),)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.text = build_text_tower(config.clip)

    def forward(self, token_ids: Tensor) -> tuple[Tensor, ...]:
        """token_ids [T, 77] → text_embed [T, E]."""
        return (self.text.encode_text(token_ids),)


def build_text_tower(config: ClipConfig) -> Clip:
    """CLIP without its vision tower and without the temperature."""
    clip = Clip(config)
    del clip.visual
    del clip.logit_scale
    return clip


MODULES: dict[str, Callable[[ModelConfig], ComponentModule]] = {
    "vae_encoder": VaeEncoder,
    "unet": Unet,
    "vae_decoder": VaeDecoder,
    "mask_head": MaskHead,
    "mask_clip": MaskClip,
    "text_encoder": TextEncoder,
}


def build_module(name: str, config: ModelConfig, weights: TensorReader) -> ComponentModule:
    """The torch module of a component, with its weights, in evaluation mode.

    Raises:
        CheckpointError: a tensor is missing or has another shape.
    """
    with skip_initialization():
        module = MODULES[name](config)
    load_weights(module, weights, module.model_name)
    if isinstance(module, Unet):
        module.uncond_inputs = embed_empty_prompt(config.diffusion, weights)
    return module.eval().requires_grad_(False)


def embed_empty_prompt(config: DiffusionConfig, weights: TensorReader) -> Tensor:
    """Hidden states [1, 77, context_dim] of "" from Stable Diffusion's text encoder."""
    with skip_initialization():
        encoder = TextTransformer(
            config.context_dim, config.text_layers, config.text_heads, config.context_length
        )
    load_weights(encoder, weights, lambda name: f"diffusion.text_encoder.{name}")
    with torch.no_grad():
        return encoder.eval()(sd_empty_prompt_ids(config.context_length))


def load_weights(
    module: nn.Module, weights: TensorReader, model_name: Callable[[str], str]
) -> None:
    """Replace every tensor of a module's state dict by the reader's.

    Args:
        module: receives the tensors themselves, without a copy.
        weights: where they come from.
        model_name: from a name in `module` to the name in the whole model.

    Raises:
        CheckpointError: a tensor is missing or has another shape.
    """
    state = {}
    for name, current in module.state_dict().items():
        tensor = weights.read(model_name(name), tuple(current.shape))
        if tensor.shape != current.shape:
            raise CheckpointError(
                f"{model_name(name)} has shape {list(tensor.shape)}, expected "
                f"{list(current.shape)}; the weights belong to another configuration"
            )
        state[name] = tensor.to(current.dtype)
    module.load_state_dict(state, strict=True, assign=True)


_INITIALIZERS = (
    "uniform_",
    "normal_",
    "trunc_normal_",
    "constant_",
    "ones_",
    "zeros_",
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
)


@contextmanager
def skip_initialization() -> Iterator[None]:
    """Leave new parameters unset: every one is replaced right after, and memory that is never
    written is never used (3.4 GB and about ten seconds for the full-size UNet)."""

    def keep(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
        return tensor

    originals = {name: getattr(nn.init, name) for name in _INITIALIZERS}
    try:
        for name in _INITIALIZERS:
            setattr(nn.init, name, keep)
        yield
    finally:
        for name, function in originals.items():
            setattr(nn.init, name, function)
