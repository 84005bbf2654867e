"""Settings of a run: the presets' recipes, and changes to them."""

import pytest

from xmask3d_rt.config import RELEASED_PRESETS
from xmask3d_rt.training.config import TrainingConfig, make_config

# binary, contrast, start_contrast, binary_pos_weight
RECIPES = {
    "b15n4": (16, 0.5, 50, 0.267),
    "b12n7": (12, 0.5, 50, 0.583),
    "b10n9": (8, 1, 50, 0.5),
    "b150n50": (32, 2, 75, 0.167),
    "b170n30": (48, 2, 75, 0.1),
}


@pytest.mark.parametrize("preset", RELEASED_PRESETS)
def test_presets_have_the_released_recipe(preset):
    config = make_config(preset)
    loss = config.loss
    found = (loss.binary, loss.contrast, loss.start_contrast, loss.binary_pos_weight)
    assert found == RECIPES[preset]
    assert (loss.ce, loss.mask, loss.dice, loss.fused, loss.pure) == (2, 5, 5, 4, 4)
    assert (loss.caption, loss.caption_3d, loss.caption_2d) == (1.5, 1, 4)
    optim = config.optim
    assert (optim.lr_3d, optim.lr_others, optim.batch_size, optim.epochs) == (1e-3, 1e-4, 64, 150)
    assert config.run.loop == 16


def test_settings_change_by_their_path():
    changes = ["loss.binary=3", "optim.clip_norm=0.5", "optim.precision=bf16", "run.loop=2"]
    config = make_config("b15n4", changes)
    assert (config.loss.binary, config.optim.clip_norm) == (3, 0.5)
    assert (config.optim.precision, config.run.loop) == ("bf16", 2)
    assert make_config("b15n4", ["optim.clip_norm=none"]).optim.clip_norm is None
    assert make_config("b15n4", ["optim.checkpointing=none"]).optim.checkpointing == "none"


def test_the_model_gets_the_weight_of_base_points():
    config = make_config("b15n4", ["loss.binary_pos_weight=0.4"])
    assert config.model.loss.binary_pos_weight == 0.4


def test_settings_survive_json():
    config = make_config("b170n30", ["run.workers=3"])
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("binary=16", "SECTION.NAME=VALUE"),
        ("loss.binary", "SECTION.NAME=VALUE"),
        ("data.loop=3", "loss, optim, run"),
        ("loss.binray=16", r"--set loss: unknown key 'binray'; known keys: ce, mask"),
        ("loss.binary=much", r"loss\.binary: .*number.*'much'"),
        ("optim.lr_3d=-1", r"optim\.lr_3d: .*greater than 0"),
        ("optim.lr_3d=inf", r"optim\.lr_3d: .*finite number"),
        ("run.seed=99999999999999999999", r"run\.seed: .*less than"),
        ("optim.precision=fp16", r"optim\.precision: .*'fp32' or 'bf16'"),
    ],
)
def test_wrong_settings_are_rejected(change, message):
    with pytest.raises(ValueError, match=message):
        make_config("b15n4", [change])


def test_batches_divide_among_processes_and_parts():
    config = make_config("b15n4", ["optim.accumulate=2"])
    assert config.micro_batch(4) == 8
    with pytest.raises(ValueError, match="64 does not divide among 3 processes"):
        config.micro_batch(3)
