"""The extra class: its name, colour, rivals and gate."""

import numpy as np
import pytest

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.text.other_class import (
    NEUTRAL_NAMES,
    append_class,
    check_other,
    gate_neutral,
    list_neutral,
)

CLASSES = parse_classes(["wall", ["Sofa", "couch"]])


@pytest.mark.parametrize(
    ("other", "title"), [(False, None), (None, None), (True, "other"), (" all  else ", "all else")]
)
def test_titles(other, title):
    assert check_other(other, CLASSES) == title


def test_appended_class_is_last_and_has_its_own_colour():
    classes = append_class(append_class(CLASSES, "other"), "rest")
    assert classes.titles == ["wall", "Sofa", "other", "rest"]
    assert len({tuple(color) for color in classes.colors.tolist()}) == 4
    np.testing.assert_array_equal(classes.colors[:2], CLASSES.colors)


def test_neutral_names_are_no_names_of_classes():
    assert list_neutral(CLASSES) == NEUTRAL_NAMES
    assert "stuff" not in list_neutral(parse_classes(["wall", "Stuff"]))
    assert list_neutral(parse_classes([[*NEUTRAL_NAMES]])) == ("other",)


@pytest.mark.parametrize(
    ("is_base", "copies"),
    [([True, True], [True]), ([False], [False]), ([True, False, True], [False, True])],
)
def test_every_side_that_has_classes_gets_a_copy(is_base, copies):
    assert gate_neutral(np.array(is_base)).tolist() == copies
