"""The released presets at the widths of `tiny`: their classes and recipes in seconds."""

import dataclasses

from xmask3d_rt import config as config_module
from xmask3d_rt.config import ModelConfig, get_preset

SHARED = ("name", "split", "base_ratio", "novel_ratio", "loss")


def small_config(preset: str) -> ModelConfig:
    """A preset's classes, ratios and recipe at the widths of `tiny`."""
    released = get_preset(preset)
    return dataclasses.replace(
        get_preset("tiny"), **{name: getattr(released, name) for name in SHARED}
    )


def use_small_presets(monkeypatch) -> None:
    """Let every command take `small_config` for the preset of that name."""
    small = {name: small_config(name) for name in config_module.RELEASED_PRESETS}
    tiny = get_preset("tiny")
    get_preset.cache_clear()
    monkeypatch.setattr(config_module, "_released", small.__getitem__)
    monkeypatch.setattr(config_module, "_tiny", lambda: tiny)
