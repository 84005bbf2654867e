"""Settings of a training run: typed, frozen, saved as JSON beside the checkpoints.

`make_config(preset, ["loss.binary=16", "optim.epochs=30"])` starts from the preset's released
recipe and changes single values by their path.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from xmask3d_rt.config import ModelConfig, Precision, get_preset
from xmask3d_rt.records import describe_problem

BATCH_RULE = "the batch size is per optimiser step, over all processes"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LossSettings(_Settings):
    """Weights of the losses, and what their formulas need.

    `ce`, `mask`, `dice` are those of every prediction head; `fused` and `pure` the classes of
    points by fused and by 3D features; `caption`, `caption_3d`, `caption_2d` the captions by
    fused, 3D and 2D features; `contrast` joins at epoch `start_contrast` (from 0).
    """

    ce: NonNegativeFloat = 2
    mask: NonNegativeFloat = 5
    dice: NonNegativeFloat = 5
    fused: NonNegativeFloat = 4
    pure: NonNegativeFloat = 4
    contrast: NonNegativeFloat = 0.5
    caption: NonNegativeFloat = 1.5
    caption_3d: NonNegativeFloat = 1
    caption_2d: NonNegativeFloat = 4
    binary: NonNegativeFloat = 16
    binary_pos_weight: PositiveFloat = 0.267
    start_contrast: NonNegativeInt = 50
    points: PositiveInt = 12_544
    # Means over the global batch; False takes them over each process's own, as was released.
    global_means: bool = True


class OptimSettings(_Settings):
    """Optimiser, schedule and arithmetic.

    `batch_size` is per optimiser step, over all processes and accumulated parts.
    """

    lr_3d: PositiveFloat = 1e-3
    lr_others: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 0.01
    epochs: PositiveInt = 150
    batch_size: PositiveInt = 64
    accumulate: PositiveInt = 1
    clip_norm: PositiveFloat | None = None
    precision: Literal["fp32", "bf16"] = Precision.FP32.value
    checkpointing: Literal["none", "unet", "all"] = "all"
    sync_batch_norm: bool = False

    @field_validator("clip_norm", mode="before")
    @classmethod
    def _read_none(cls, value: Any) -> Any:
        """The command line writes "none" for no clipping."""
        return None if value == "none" else value


class RunSettings(_Settings):
    """Seed, loading, saving and logging.

    `cache_gb` limits what is kept on disk of the frozen networks' outputs, 0 keeps nothing.
    `validate_scenes` scenes of the `val` split are labelled from `validate_views` views each after
    every epoch, and the best checkpoint is the one with the best hIoU there; 0 leaves that out.
    """

    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 5557  # what torch takes
    loop: PositiveInt = 16
    workers: NonNegativeInt = 1
    cache_gb: NonNegativeFloat = 20
    save_every: PositiveInt = 200
    log_every: PositiveInt = 10
    tensorboard: bool = False
    validate_scenes: NonNegativeInt = 0
    validate_views: PositiveInt = 8


class TrainingConfig(_Settings):
    """Everything a run is decided by beside the model, its data and its first weights."""

    preset: str
    loss: LossSettings = Field(default_factory=LossSettings)
    optim: OptimSettings = Field(default_factory=OptimSettings)
    run: RunSettings = Field(default_factory=RunSettings)

    @property
    def model(self) -> ModelConfig:
        """Shapes and arithmetic of the network."""
        preset = get_preset(self.preset)
        ratio = self.loss.binary_pos_weight
        return replace(preset, loss=replace(preset.loss, binary_pos_weight=ratio))

    def micro_batch(self, world_size: int) -> int:
        """Samples one process takes at once.

        Raises:
            ValueError: the batch does not divide among processes and accumulated parts.
        """
        parts = world_size * self.optim.accumulate
        if self.optim.batch_size % parts:
            raise ValueError(
                f"optim.batch_size {self.optim.batch_size} does not divide among {world_size} "
                f"processes times optim.accumulate {self.optim.accumulate}; {BATCH_RULE}"
            )
        return self.optim.batch_size // parts


def make_config(preset: str, changes: Iterable[str] = ()) -> TrainingConfig:
    """The released recipe of a preset, changed where asked.

    Args:
        preset: name of a preset.
        changes: such as `loss.binary=16`.

    Raises:
        ValueError: an unknown preset or setting, or a value of another type or range.
    """
    loss = get_preset(preset).loss
    values: dict[str, Any] = {
        "preset": preset,
        "loss": {
            "fused": loss.loss_3d,
            "pure": loss.loss_3d_pure,
            "contrast": loss.loss_3d_contra,
            "caption": loss.loss_explicit_contra,
            "caption_3d": loss.loss_explicit_contra_3d,
            "caption_2d": loss.loss_explicit_contra_2d_pre,
            "binary": loss.loss_binary,
            "binary_pos_weight": loss.binary_pos_weight,
            "start_contrast": loss.start_contra,
        },
        "optim": {
            "lr_3d": loss.lr_3d,
            "lr_others": loss.lr_others,
            "batch_size": loss.batch_size,
            "epochs": loss.epochs,
        },
        "run": {},
    }
    for change in changes:
        path, equals, value = change.partition("=")
        section, dot, name = path.strip().partition(".")
        if not equals or not dot or section not in ("loss", "optim", "run"):
            raise ValueError(
                f"--set {change!r}: expected SECTION.NAME=VALUE with a section of loss, optim, run"
            )
        values[section][name] = value.strip()
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"--set {describe_problem(error, TrainingConfig)}") from error
