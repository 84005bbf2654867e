"""What each engine component promises: shapes and types of its tensors, and tolerances.

A contract follows from the model configuration alone. The exported graph is checked against it
and the runtime checks every call against it, so it is written once, here; the names are those of
`xmask3d_rt.components`.

Axes: B images, T texts; every other size is fixed by the configuration.
"""

from dataclasses import dataclass

from xmask3d_rt.components import (
    COMPONENTS,
    ENGINES,
    IMAGES,
    TEXTS,
    UNET_FEATURES,
    VAE_DECODER_FEATURES,
    VAE_ENCODER_FEATURES,
)
from xmask3d_rt.config import ModelConfig, Precision
from xmask3d_rt.engines.base import Axis, AxisRange, Signature, TensorSpec
from xmask3d_rt.errors import EngineError

PROFILE = {IMAGES: AxisRange(1, 1, 1), TEXTS: AxisRange(1, 32, 256)}


@dataclass(frozen=True)
class Contract:
    """One engine component as declared, at the sizes of a configuration.

    Attributes:
        name: component name.
        signature: inputs, outputs and profile.
        code: modules whose code decides the result, for the incremental build.
        tolerances: largest relative L2 error of each output in fp32.
        sensitive: why it is kept in fp32 at every precision; empty where it is not.
        coarse_in_bf16: why fp32 takes the place of bf16; empty where it does not.
    """

    name: str
    signature: Signature
    code: tuple[str, ...]
    tolerances: dict[str, float]
    sensitive: str = ""
    coarse_in_bf16: str = ""

    def tolerance(self, output: str, precision: Precision) -> float:
        """Largest relative L2 error allowed for one output at one precision."""
        return max(self.tolerances[output], PRECISION_FLOOR[precision])


# Relative L2 of one component alone: about the rounding error of the format times the depth of
# the network; fp16 keeps 11 bits and bf16 8.
PRECISION_FLOOR = {Precision.FP32: 0.0, Precision.FP16: 5e-3, Precision.BF16: 4e-2}
TOLERANCE = 1e-5
_TOLERANCES = {
    # a query attends inside its own thresholded mask: one flipped pixel moves the rest
    "mask_features": 2e-5,
    "pred_masks": 1e-4,
    "queries": 5e-4,
    "mask_embed_clip": 2e-5,
}
_CODE = {
    "vae_encoder": ("xmask3d_rt.model.diffusion",),
    "unet": (
        "xmask3d_rt.model.diffusion",
        "xmask3d_rt.model.projections",
        "xmask3d_rt.model.text_encoder",
    ),
    "vae_decoder": ("xmask3d_rt.model.diffusion",),
    "mask_head": (
        "xmask3d_rt.model.projections",
        "xmask3d_rt.model.pixel_decoder",
        "xmask3d_rt.model.mask_decoder",
        "xmask3d_rt.model.layers",
    ),
    "mask_clip": ("xmask3d_rt.model.clip", "xmask3d_rt.model.text_encoder"),
    "text_encoder": ("xmask3d_rt.model.clip", "xmask3d_rt.model.text_encoder"),
}
_SENSITIVE = {
    "mask_head": "thresholds inside turn rounding into flipped pixels",
    "text_encoder": "every label is a distance to its output, which is computed once per class",
}
_COARSE_IN_BF16 = {
    # in bf16 the labels of the 2D head agree to 91.2 % in reference case C (limit 93 %), with
    # this one in fp32 to 95.5 %; it costs 1.33 s a view in place of 0.72 (on 4 cores)
    "vae_encoder": "its latent feeds the UNet and the VAE decoder, which pass its rounding on",
    # in bf16 the fused head gave 95.6 % of the fp32 labels on a view of the kitchen (limit
    # 96 %), with this one in fp32 96.5 %; it costs 0.23 s a view in place of 0.14
    "mask_clip": "the fused head raises its probabilities to a power, their rounding with it",
}


def get_contract(name: str, config: ModelConfig) -> Contract:
    """The contract of an engine component.

    Raises:
        EngineError: no engine of this name.
    """
    if name not in ENGINES:
        raise EngineError(f"unknown component {name!r}; engines are {', '.join(ENGINES)}")
    component, tensors = COMPONENTS[name], describe_tensors(config)
    return Contract(
        name=name,
        signature=Signature(
            inputs=tuple(tensors[tensor] for tensor in component.inputs),
            outputs=tuple(tensors[tensor] for tensor in component.outputs),
            profile={axis: PROFILE[axis] for axis in PROFILE if axis == component.axis},
        ),
        code=_CODE[name],
        tolerances={tensor: _TOLERANCES.get(tensor, TOLERANCE) for tensor in component.outputs},
        sensitive=_SENSITIVE.get(name, ""),
        coarse_in_bf16=_COARSE_IN_BF16.get(name, ""),
    )


def describe_tensors(config: ModelConfig) -> dict[str, TensorSpec]:
    """Every tensor that an engine takes or gives, by name."""
    side, queries = config.diffusion.image_size, config.mask_head.queries
    embed, width = config.clip.embed_dim, config.mask_head.hidden_dim
    latent, quarter = config.diffusion.latent_size, side // 4
    shapes: dict[str, tuple[Axis, ...]] = {
        "image": (IMAGES, 3, side, side),
        "latent": (IMAGES, config.diffusion.latent_channels, latent, latent),
        "imp_condition": (IMAGES, embed),
        **_describe_features(config),
        "mask_features": (IMAGES, width, quarter, quarter),
        "pred_masks": (IMAGES, queries, quarter, quarter),
        "queries": (IMAGES, queries, width),
        "mask_embed_clip": (IMAGES, queries, embed),
        "token_ids": (TEXTS, config.clip.context_length),
        "text_embed": (TEXTS, embed),
    }
    return {
        name: TensorSpec(name, "int64" if name == "token_ids" else "float32", shape)
        for name, shape in shapes.items()
    }


def _describe_features(config: ModelConfig) -> dict[str, tuple[Axis, ...]]:
    """Shapes of the diffusion features."""
    vae, unet = config.diffusion.vae_channels, config.diffusion.unet_channels
    side = config.diffusion.latent_size
    groups = {
        VAE_ENCODER_FEATURES: ((vae[2], 2 * side), (vae[3], side)),
        UNET_FEATURES: (
            (unet[3] + unet[2], side // 8),
            (unet[2] + unet[1], side // 4),
            (unet[1] + unet[0], side // 2),
            (2 * unet[0], side),
        ),
        VAE_DECODER_FEATURES: ((vae[3], side), (vae[3], 2 * side)),
    }
    return {
        name: (IMAGES, channels, size, size)
        for names, sizes in groups.items()
        for name, (channels, size) in zip(names, sizes, strict=True)
    }
