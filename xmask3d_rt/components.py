"""The components of the model: names, inputs, outputs and weight files, for runtime and export.

Tensors of one name are the same quantity everywhere, so names alone say what follows from what.
Free of torch: shapes and types are in the contracts of the export.
"""

from dataclasses import dataclass

VAE_ENCODER_FEATURES = ("enc5", "enc7")
UNET_FEATURES = ("unet2", "unet5", "unet8", "unet11")
VAE_DECODER_FEATURES = ("dec2", "dec5")
# Diffusion features in the order of the mask head's projections.
FEATURES = (*VAE_ENCODER_FEATURES, *UNET_FEATURES, *VAE_DECODER_FEATURES)

IMAGES, TEXTS = "B", "T"  # symbolic axes: what one call of an engine may take several of


@dataclass(frozen=True)
class ComponentSpec:
    """One component as declared.

    Attributes:
        name: in manifests and on the command line.
        inputs: names of what it takes, in order.
        outputs: names of what it gives, in order; of a sparse net with what the small heads
            behind it make of that.
        namespaces: weight files it draws on, among xmask3d, sd and clip.
        axis: first axis of its tensors, `IMAGES` or `TEXTS`; None where it is no engine.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    namespaces: tuple[str, ...]
    axis: str | None = None


# Engines in the order of a view; then the weights that run outside engines.
COMPONENTS: dict[str, ComponentSpec] = {
    spec.name: spec
    for spec in (
        ComponentSpec(
            "vae_encoder", ("image",), ("latent", *VAE_ENCODER_FEATURES), ("sd",), IMAGES
        ),
        ComponentSpec(
            "unet", ("latent", "imp_condition"), UNET_FEATURES, ("sd", "xmask3d"), IMAGES
        ),
        ComponentSpec("vae_decoder", ("latent",), VAE_DECODER_FEATURES, ("sd",), IMAGES),
        ComponentSpec(
            "mask_head", FEATURES, ("mask_features", "pred_masks", "queries"), ("xmask3d",), IMAGES
        ),
        ComponentSpec(
            "mask_clip", ("image", "pred_masks"), ("mask_embed_clip",), ("clip",), IMAGES
        ),
        ComponentSpec("text_encoder", ("token_ids",), ("text_embed",), ("clip",), TEXTS),
        ComponentSpec(
            "point_encoder",
            ("coords", "colors"),
            ("bottleneck", "enc_out", "pred_3d", "imp_condition"),
            ("xmask3d",),
        ),
        ComponentSpec("binary_head", ("coords", "colors"), ("binary_logit",), ("xmask3d",)),
        ComponentSpec("heads", (), (), ("xmask3d",)),
    )
}
ENGINES = tuple(name for name, spec in COMPONENTS.items() if spec.axis is not None)
VIEW_ENGINES = tuple(name for name, spec in COMPONENTS.items() if spec.axis == IMAGES)
SPARSE_NETS = tuple(name for name, spec in COMPONENTS.items() if "coords" in spec.inputs)
# Those kept as tensors, which torch runs.
TENSORS = tuple(name for name, spec in COMPONENTS.items() if spec.axis is None)


def list_upstream(name: str) -> tuple[str, ...]:
    """Components whose outputs a component takes."""
    needed = set(COMPONENTS[name].inputs)
    return tuple(other for other, spec in COMPONENTS.items() if needed & set(spec.outputs))
