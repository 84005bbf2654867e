"""How far a run may be from its reference, and where each limit comes from.

fp32 limits are measured noise of the full-size model times a margin: image noise of 1e-6, another
thread count, float64. A half-precision run is judged by its labels and by the stages that no
half-precision component comes before; what relative noise of 1e-3 (about fp16) and 1e-2 (about
bf16) on every component's output did to the labels of thin-margin weights sets those limits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from xmask3d_rt.components import (
    UNET_FEATURES,
    VAE_DECODER_FEATURES,
    VAE_ENCODER_FEATURES,
    list_upstream,
)
from xmask3d_rt.config import Precision

Precisions = Mapping[str, Precision]  # of each component; one that is not named counts as fp32


@dataclass(frozen=True)
class Stage:
    """A recorded tensor: its largest relative L2 error in fp32, the components it comes from."""

    limit: float
    made_by: tuple[str, ...]


def _stages(limit: float, component: str, *names: str) -> dict[str, Stage]:
    return {name: Stage(limit, (component,)) for name in names}


# In the method's order, which is that of the table.
STAGES: dict[str, Stage] = {
    **_stages(5e-6, "text_encoder", "text_embed"),
    **_stages(5e-6, "point_encoder", "bottleneck", "enc_out", "pred_3d", "imp_condition"),
    **_stages(5e-6, "binary_head", "binary_logit"),
    **_stages(1e-5, "vae_encoder", "latent", "noisy_latent", *VAE_ENCODER_FEATURES),
    **_stages(5e-6, "point_encoder", "cond_inputs", "cond_emb"),
    **_stages(1e-5, "unet", *UNET_FEATURES),
    **_stages(1e-5, "vae_decoder", *VAE_DECODER_FEATURES),
    **_stages(1e-5, "mask_head", "s2", "s3", "s4", "s5", "ms0", "ms1", "ms2"),
    **_stages(2e-5, "mask_head", "mask_features"),
    **_stages(1e-4, "mask_head", "pred_masks"),
    **_stages(5e-4, "mask_head", "mask_pooled_features", "mask_embed"),
    "pred_logits": Stage(5e-4, ("mask_head", "text_encoder")),
    **_stages(2e-5, "mask_clip", "mask_embed_clip"),
}
QUERIES = Stage(0, ("mask_head", "binary_head", "text_encoder"))

PATCH_FLIP_LIMIT = 5e-3  # mask_embed_clip once a bit of a patch mask flips
MAX_FLIP_SHARE = 50 / 819_200  # mask logits that change sign
# A mask of few pixels may appear or vanish with one flip, and one whose mean P(base) is next to
# the threshold may change sides: masks differ in that way between equally right runs.
MAX_CHANGED_QUERIES = 1
SCORE_TOLERANCE = 1e-2  # of one mask's probability: 5e-4 of logits that reach 14

MIN_AGREEMENT = {
    Precision.FP32: {"fused": 0.9995, "2d": 0.9995, "3d": 0.9995},
    Precision.FP16: {"fused": 0.992, "2d": 0.990, "3d": 0.992},
    Precision.BF16: {"fused": 0.96, "2d": 0.93, "3d": 0.993},
}


def is_exact(stage: Stage, precisions: Precisions) -> bool:
    """Whether everything that a stage depends on runs in fp32."""
    pending, seen = list(stage.made_by), set()
    while pending:
        component = pending.pop()
        if precisions.get(component, Precision.FP32) is not Precision.FP32:
            return False
        if component not in seen:
            seen.add(component)
            pending += list_upstream(component)
    return True


def find_lowest(precisions: Precisions) -> Precision:
    """The precision with the fewest mantissa bits of any component; fp32 if none is named."""
    used = set(precisions.values())
    for precision in (Precision.BF16, Precision.FP16):
        if precision in used:
            return precision
    return Precision.FP32
