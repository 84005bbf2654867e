"""Presets and the JSON form of a configuration."""

import dataclasses
import json

import pytest

from xmask3d_rt.config import PRESETS, ModelConfig, SparseUNetConfig, get_preset


@pytest.mark.parametrize("name", PRESETS)
def test_config_survives_json(name):
    config = get_preset(name)
    assert ModelConfig.from_dict(config.to_dict()) == config

    assert ModelConfig.from_dict(json.loads(config.to_json())) == config


@pytest.mark.parametrize(
    ("name", "base", "novel", "novel_ratio"),
    [
        ("b15n4", 15, 4, 0.35),
        ("b12n7", 12, 7, 0.35),
        ("b10n9", 10, 9, 0.2),
        ("b170n30", 170, 30, 0.25),
        ("b150n50", 150, 50, 0.35),
    ],
)
def test_released_splits(name, base, novel, novel_ratio):
    config = get_preset(name)
    assert len(config.split.base_names) == base
    assert len(config.split.novel) == novel
    assert config.novel_ratio == novel_ratio


def test_unknown_preset_rejected():
    with pytest.raises(ValueError, match="choose one of tiny"):
        get_preset("b16n3")


def test_unknown_key_rejected():
    values = get_preset("tiny").to_dict() | {"voxelsize": 1}
    with pytest.raises(ValueError, match="unknown key 'voxelsize'"):
        ModelConfig.from_dict(values)


def test_missing_key_rejected():
    with pytest.raises(ValueError, match="missing key 'name'"):
        ModelConfig.from_dict({"split": {"names": ["wall"], "novel": []}})


def test_bad_values_rejected():
    with pytest.raises(ValueError, match="8 entries"):
        SparseUNetConfig(planes=(32,))
    with pytest.raises(ValueError, match="voxel_size"):
        dataclasses.replace(get_preset("tiny"), voxel_size=0.0)
