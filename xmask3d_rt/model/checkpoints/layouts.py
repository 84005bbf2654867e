"""The kinds of weight file: how to tell them apart, and where each keeps a module tensor."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from xmask3d_rt.model.key_map import SD_UNUSED, Source, map_hf_clip, map_name

CONVERTED_FORMAT = "xmask3d_rt 1"  # in the header of converted copies

_NOTHING = re.compile(r"(?!)")
_POSITION_IDS = re.compile(r".*position_ids")
# Constants OpenAI's archive and old open_clip files hold beside the weights.
_CLIP_UNUSED = re.compile(r"input_resolution|context_length|vocab_size|attn_mask")
# transformers.CLIPTextModelWithProjection adds it; the safety checker does not belong here.
_DIFFUSERS_UNUSED = re.compile(r"text_encoder/(embeddings\.position_ids|text_projection\.weight)")


@dataclass(frozen=True)
class Layout:
    """One kind of weight file.

    Attributes:
        title: in words, for messages.
        namespace: `xmask3d`, `sd` or `clip`.
        locate: module tensor name → keys in the file and how to join them.
        unused: keys that such files hold and that nothing needs.
    """

    title: str
    namespace: str
    locate: Callable[[str], Source]
    unused: re.Pattern[str] = _NOTHING


def _locate_diffusers(name: str) -> Source:
    """A diffusers folder has the module's own names for UNet and VAE, one folder each."""
    inner = name.removeprefix("diffusion.")
    if not inner.startswith("text_encoder."):
        return Source("sd", (inner.replace(".", "/", 1),))
    source = map_name(name)
    prefix = "cond_stage_model.transformer.text_model."
    keys = tuple("text_encoder/" + key.removeprefix(prefix) for key in source.keys)
    return Source("sd", keys, source.transform)


def _locate_hf_clip(name: str) -> Source:
    return map_hf_clip(name.removeprefix("clip."))


def converted_layout(namespace: str) -> Layout:
    """Layout of this package's own converted copies: the module's names."""
    titles = {"xmask3d": "XMask3D", "sd": "Stable Diffusion v1", "clip": "CLIP"}
    title = f"converted copy of {titles[namespace]}"
    return Layout(title, namespace, lambda name: Source(namespace, (name,)))


XMASK3D = Layout("XMask3D", "xmask3d", map_name)
SD_COMPVIS = Layout("Stable Diffusion v1 with CompVis names", "sd", map_name, SD_UNUSED)
SD_DIFFUSERS = Layout(
    "Stable Diffusion v1 as a diffusers folder", "sd", _locate_diffusers, _DIFFUSERS_UNUSED
)
CLIP_OPENAI = Layout("CLIP as OpenAI's archive", "clip", map_name, _CLIP_UNUSED)
CLIP_OPEN_CLIP = Layout("CLIP with open_clip names", "clip", map_name, _CLIP_UNUSED)
CLIP_HUGGING_FACE = Layout("CLIP with Hugging Face names", "clip", _locate_hf_clip, _POSITION_IDS)


def recognise(names: Collection[str]) -> Layout | None:
    """The layout of a single file with these tensor names, if it is one."""
    if _any_start_with(names, "pc_decoder.", "sem_seg_head.", "pc_binary_head."):
        return XMASK3D
    if _any_start_with(names, "model.diffusion_model.", "first_stage_model."):
        return SD_COMPVIS
    if _any_start_with(names, "visual.transformer.", "visual.conv1."):
        return CLIP_OPEN_CLIP
    if _any_start_with(names, "vision_model.") and _any_start_with(names, "text_model."):
        return CLIP_HUGGING_FACE
    return None


def describe_unknown(names: Collection[str]) -> str:
    """What a file without a layout looks like, in words, with the way out where there is one."""
    if _any_start_with(names, "down_blocks.", "encoder.down_blocks.", "encoder.layers.") or (
        _any_start_with(names, "text_model.")
    ):
        return (
            "one part of a diffusers or Hugging Face model; pass the folder that holds "
            "unet/, vae/ and text_encoder/, or the whole CLIPModel"
        )
    first = ", ".join(sorted(names)[:3])
    return f"{len(names)} tensors of no model known here (the first: {first})"


def _any_start_with(names: Collection[str], *prefixes: str) -> bool:
    return any(name.startswith(prefixes) for name in names)
