"""Label tables: ids of files to labels of training and evaluation."""

import numpy as np
import pytest

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.config import RELEASED_PRESETS, ClassSplit, get_preset
from xmask3d_rt.data.labels import (
    LabelSpace,
    known_label_source,
    make_label_space,
    own_label_source,
    pick_label_set,
    preset_label_space,
)


@pytest.mark.parametrize("preset", RELEASED_PRESETS)
def test_tables_equal_the_released_loader(shared, preset):
    space = preset_label_space(preset)
    with np.load(shared / "golden" / "train_losses.npz") as golden:
        recorded = {
            key.removeprefix(f"remap.{preset.upper()}."): golden[key]
            for key in golden.files
            if key.startswith(f"remap.{preset.upper()}.")
        }
    labels = space.read_points(recorded["raw_3d"])
    np.testing.assert_array_equal(labels, recorded["val.label_3d"])
    np.testing.assert_array_equal(space.point_targets(labels), recorded["train.label_3d"])
    for split in ("train", "val"):
        binary = recorded[f"{split}.binary_label"]
        np.testing.assert_array_equal(space.binary_targets(labels), binary)
    raw = recorded["raw_2d"]
    np.testing.assert_array_equal(space.image_targets(raw), recorded["train.label_2d"])
    np.testing.assert_array_equal(space.read_image(raw), recorded["val.label_2d"])


@pytest.mark.parametrize("preset", RELEASED_PRESETS)
def test_ids_of_a_preset_are_those_of_its_config(preset):
    from xmask3d_rt.config import _read_presets

    space = preset_label_space(preset)
    assert list(space.image_classes) == _read_presets()[preset]["label_2d_ids"]
    assert space.num_base == len(get_preset(preset).split.base_names)


def test_own_classes_are_matched_by_name_and_synonym():
    classes = parse_classes([["couch", "Sofa"], "lamp", "wall"])
    split = ClassSplit(names=("wall", "sofa", "lamp"), novel=(1,))
    space = make_label_space(classes, split, own_label_source(["wall", "sofa", "rug"]))
    assert space.is_base.tolist() == [False, True, True]
    labels = space.read_points(np.array([0, 1, 2, 255, -1]))
    assert labels.tolist() == [2, 0, 3, 4, 4]  # rug is outside the list, 255 no label
    assert space.point_targets(labels).tolist() == [1, 2, 2, 2, 2]
    assert space.binary_targets(labels).tolist() == [1, 0, 3, 4, 4]
    assert space.read_image(np.array([[0, 2], [7, 1]], np.uint8)).tolist() == [[2, 3], [-1, 0]]
    assert space.image_targets(np.array([0, 2, 7, 1])).tolist() == [1, 2, 2, 2]


def test_label_set_is_the_one_that_knows_more_classes():
    both = ("scannet20", "scannet200")
    assert pick_label_set(parse_classes("b15n4"), both).name == "scannet20"
    assert pick_label_set(parse_classes("b170n30"), both).name == "scannet200"
    assert pick_label_set(parse_classes("b170n30"), both[:1]).name == "scannet20"
    assert pick_label_set(parse_classes(["keyboard piano", "wall"]), both).name == "scannet200"


def test_bad_label_spaces_rejected():
    split = ClassSplit(names=("wall",), novel=())
    with pytest.raises(ValueError, match="no label of the data means any of the classes lamp"):
        make_label_space(parse_classes(["lamp"]), split, own_label_source(["wall"]))
    with pytest.raises(ValueError, match=r"is_base must have shape \[1\]"):
        LabelSpace(parse_classes(["wall"]), np.zeros(2, bool), {0: 0}, {})
    with pytest.raises(ValueError, match="unknown label set 'nyu13'; known sets: scannet20"):
        known_label_source("nyu13")
    with pytest.raises(ValueError, match="the data has no labels of points"):
        pick_label_set(parse_classes(["wall"]), ())
