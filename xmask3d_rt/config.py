"""Model configurations: frozen records and the named presets.

The five released benchmarks (`b15n4`, `b12n7`, `b10n9`, `b170n30`, `b150n50`) share one
architecture and differ in class split and ensemble ratios; `tiny` is the same code at small
widths. A configuration is saved as JSON beside every set of engines (`ModelConfig.to_json`).

Source: released configs of XMask3D (wangzy22/XMask3D @ c393300), Stable Diffusion v1
(v1-inference.yaml), CLIP ViT-L-14; paper arXiv 2411.13243.
"""

import dataclasses
import json
from dataclasses import field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from xmask3d_rt.data.rooms.kinds import KINDS, NOVEL_KINDS
from xmask3d_rt.records import Count, Index, Line, read_values, record

Counts = tuple[Count, ...]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]

ASSETS = Path(__file__).parent / "assets"
BUNDLED_PRESET = "tiny"  # whose weights ship with the package
BUNDLED_WEIGHTS = ASSETS / "tiny.safetensors"


class Precision(StrEnum):
    """Arithmetic of an exported component; norms, softmax and logits stay fp32 in all of them."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


@record()
class SparseUNetConfig:
    """One MinkUNet: four stride-2 stages down, four up, residual basic blocks."""

    planes: Counts = (32, 64, 128, 256, 256, 128, 96, 96)
    layers: Counts = (2, 3, 4, 6, 2, 2, 2, 2)
    stem: Count = 32
    in_channels: Count = 3
    out_channels: Count = 256

    def __post_init__(self) -> None:
        if len(self.planes) != 8 or len(self.layers) != 8:
            raise ValueError(
                f"planes and layers need 8 entries (4 down, 4 up), "
                f"got {len(self.planes)} and {len(self.layers)}"
            )


MINKUNET18A = SparseUNetConfig(
    planes=(32, 64, 128, 256, 128, 128, 96, 96), layers=(2, 2, 2, 2, 2, 2, 2, 2)
)


@record()
class DiffusionConfig:
    """Stable Diffusion v1: the VAE, the UNet, and the encoder of the empty prompt."""

    image_size: Count = 512
    vae_channels: Counts = (128, 256, 512, 512)
    unet_channels: Counts = (320, 640, 1280, 1280)
    attention_heads: Count = 8
    context_dim: Count = 768
    context_length: Count = 77
    text_layers: Count = 12
    text_heads: Count = 12
    latent_channels: Count = 4
    scale_factor: float = 0.18215
    alpha_bar: float = 1 - 0.00085  # cumulative alpha at t = 0 of the "ldm linear" schedule
    noise_seed: Index = 42

    def __post_init__(self) -> None:
        if self.image_size % 64:
            raise ValueError(f"image_size must be a multiple of 64, got {self.image_size}")
        for name in ("vae_channels", "unet_channels"):
            channels = getattr(self, name)
            if len(channels) != 4 or any(c % 32 for c in channels):
                raise ValueError(
                    f"{name} needs 4 multiples of 32 (GroupNorm groups), got {channels}"
                )

    @property
    def latent_size(self) -> int:
        """Side of the square latent; the VAE reduces by 8."""
        return self.image_size // 8

    @property
    def time_dim(self) -> int:
        """Width of the time embedding."""
        return 4 * self.unet_channels[0]


@record()
class MaskHeadConfig:
    """Feature projections, MSDeformAttn pixel decoder and masked-attention mask decoder."""

    projection_dim: Count = 512
    hidden_dim: Count = 256
    heads: Count = 8
    points: Count = 4
    pixel_layers: Count = 6
    pixel_ffn: Count = 1024
    decoder_layers: Count = 9
    decoder_ffn: Count = 2048
    queries: Count = 50

    def __post_init__(self) -> None:
        if self.hidden_dim % self.heads:
            raise ValueError(f"hidden_dim {self.hidden_dim} is not divisible by heads {self.heads}")


@record()
class ClipConfig:
    """Both CLIP towers, quick-gelu; one head per 64 channels."""

    image_size: Count = 224
    patch_size: Count = 14
    vision_width: Count = 1024
    vision_layers: Count = 24
    text_width: Count = 768
    text_layers: Count = 12
    text_heads: Count = 12
    embed_dim: Count = 768
    context_length: Count = 77
    vocab_size: Count = 49408

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size or self.vision_width % 64:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of patch_size "
                f"{self.patch_size}, and vision_width {self.vision_width} of 64"
            )

    @property
    def patches(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def vision_heads(self) -> int:
        """Attention heads of the vision tower."""
        return self.vision_width // 64


@record()
class ViewConfig:
    """How a posed view selects points (design: project and select).

    `mask_shape` is the (rows, columns) grid on which points and masks meet, `border` its
    unused margin in pixels, `depth_tolerance` the relative depth error of a visible point,
    `min_points` the visible points below which a view is skipped.
    """

    mask_shape: tuple[Count, Count] = (240, 320)
    border: Index = 10
    depth_tolerance: float = 0.25
    min_points: Count = 400


@record()
class ClassSplit:
    """Benchmark classes of a checkpoint: those with training labels (base) and those without."""

    names: tuple[Line, ...]
    novel: tuple[Index, ...]

    def __post_init__(self) -> None:
        outside = [i for i in self.novel if not 0 <= i < len(self.names)]
        if outside:
            raise ValueError(f"novel indices {outside} are outside 0..{len(self.names) - 1}")

    @property
    def base_names(self) -> tuple[str, ...]:
        """Names seen in training, in benchmark order."""
        novel = set(self.novel)
        return tuple(name for i, name in enumerate(self.names) if i not in novel)


@record()
class LossConfig:
    """Loss weights and schedule of upstream's training runs."""

    loss_3d: float = 4
    loss_3d_pure: float = 4
    loss_3d_contra: float = 0.5
    loss_explicit_contra: float = 1.5
    loss_explicit_contra_3d: float = 1
    loss_explicit_contra_2d_pre: float = 4
    loss_binary: float = 16
    binary_pos_weight: float = 0.267
    start_contra: Index = 50
    lr_3d: float = 1e-3
    lr_others: float = 1e-4
    batch_size: Count = 64
    epochs: Count = 150


@record()
class ModelConfig:
    """Everything that decides the shape and the arithmetic of one XMask3D.

    `voxel_size` is in metres. `base_ratio` and `novel_ratio` are the exponents r of the
    geometric ensemble p^r * q^(1-r) for base and novel classes; `binary_threshold` the
    P(base) above which a point or a mask counts as base. `base_cosine`: a class without a name of
    the split counts as base if its text embedding has at least this cosine to that of a base class;
    None, as in the released code: names alone decide.
    """

    name: Line
    split: ClassSplit
    point_encoder: SparseUNetConfig = field(default_factory=SparseUNetConfig)
    binary_head: SparseUNetConfig = field(default_factory=lambda: MINKUNET18A)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    mask_head: MaskHeadConfig = field(default_factory=MaskHeadConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    view: ViewConfig = field(default_factory=ViewConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    voxel_size: Positive = 0.02
    base_ratio: Share = 0.65
    novel_ratio: Share = 0.35
    binary_threshold: Share = 0.5
    base_cosine: Share | None = None

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as stored in a manifest."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """The configuration as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Rebuild a configuration from `to_dict`.

        Raises:
            ValueError: an unknown or missing key, or a value outside its range.
        """
        try:
            return read_values(cls, values)
        except ValueError as error:
            raise ValueError(f"ModelConfig: {error}") from error


RELEASED_PRESETS = ("b15n4", "b12n7", "b10n9", "b170n30", "b150n50")
PRESETS = ("tiny", *RELEASED_PRESETS)


@cache
def _read_presets() -> dict[str, dict[str, Any]]:
    return json.loads((ASSETS / "presets.json").read_text())


def _released(name: str) -> ModelConfig:
    row = _read_presets()[name]
    return ModelConfig(
        name=name,
        split=ClassSplit(names=tuple(row["classes"]), novel=tuple(row["novel"])),
        mask_head=MaskHeadConfig(queries=row["num_queries"]),
        loss=LossConfig(
            **row["loss_weight"],
            **{
                key: row[key]
                for key in (
                    "binary_pos_weight",
                    "start_contra",
                    "lr_3d",
                    "lr_others",
                    "batch_size",
                    "epochs",
                )
            },
        ),
        voxel_size=row["voxel_size"],
        base_ratio=row["base_ratio"],
        novel_ratio=row["novel_ratio"],
    )


def _tiny() -> ModelConfig:
    """Every path of the full model at small widths: for CI, demos and small machines."""
    full = _released("b15n4")
    novel = tuple(KINDS.index(name) for name in NOVEL_KINDS)
    return dataclasses.replace(
        full,
        name="tiny",
        split=ClassSplit(names=KINDS, novel=novel),
        point_encoder=SparseUNetConfig(
            planes=(16, 32, 48, 64, 64, 48, 32, 32), layers=(1,) * 8, stem=16, out_channels=64
        ),
        binary_head=SparseUNetConfig(
            planes=(16, 24, 32, 48, 32, 32, 24, 24), layers=(1,) * 8, stem=16, out_channels=32
        ),
        diffusion=DiffusionConfig(
            image_size=256,
            vae_channels=(32, 32, 64, 64),
            unet_channels=(32, 64, 96, 96),
            attention_heads=2,
            context_dim=128,
            text_layers=3,
            text_heads=4,
        ),
        mask_head=MaskHeadConfig(
            projection_dim=64,
            hidden_dim=64,
            heads=4,
            pixel_layers=2,
            pixel_ffn=128,
            decoder_layers=3,
            decoder_ffn=128,
            queries=20,
        ),
        clip=ClipConfig(
            image_size=256,
            patch_size=16,
            vision_width=128,
            vision_layers=4,
            text_width=128,
            text_layers=3,
            text_heads=4,
            embed_dim=128,
        ),
        view=ViewConfig(mask_shape=(120, 160), border=5, min_points=100),
        voxel_size=0.05,
        base_cosine=0.4,
        loss=dataclasses.replace(full.loss, batch_size=4, epochs=20),
    )


@cache
def get_preset(name: str) -> ModelConfig:
    """The configuration of a named preset.

    Raises:
        ValueError: `name` is not one of `PRESETS`.
    """
    if name == "tiny":
        return _tiny()
    if name in RELEASED_PRESETS:
        return _released(name)
    raise ValueError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
