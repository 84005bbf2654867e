"""The released presets at small widths: their classes and recipes in seconds."""

import dataclasses

from tests.training.rooms import micro_config
from xmask3d_rt import config as config_module
from xmask3d_rt.config import ModelConfig, get_preset

SHARED = ("name", "split", "base_ratio", "novel_ratio", "loss")


def small_config(preset: str, narrow: ModelConfig | None = None) -> ModelConfig:
    """A preset's classes, ratios and recipe at the widths of `narrow`, without it of `tiny`."""
    released = get_preset(preset)
    kept = {name: getattr(released, name) for name in SHARED}
    return dataclasses.replace(narrow or get_preset("tiny"), **kept)


def use_micro_presets(monkeypatch) -> None:
    """Let every command take a preset of micro widths for the released one of that name."""
    micro = micro_config()
    small = {name: small_config(name, micro) for name in config_module.RELEASED_PRESETS}
    tiny = get_preset("tiny")
    get_preset.cache_clear()
    monkeypatch.setattr(config_module, "_released", small.__getitem__)
    monkeypatch.setattr(config_module, "_tiny", lambda: tiny)
