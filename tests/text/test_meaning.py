"""Classes that mean what was trained count as trained."""

import numpy as np
import pytest
import torch

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.config import ClassSplit
from xmask3d_rt.text.meaning import split_by_meaning

SPLIT = ClassSplit(names=("sofa", "wall", "piano"), novel=(2,))
WORDS = {
    "sofa": (1.0, 0.0, 0.0),
    "wall": (0.0, 1.0, 0.0),
    "piano": (0.0, 0.0, 1.0),
    "couch": (2.0, 0.2, 0.1),
    "organ": (0.6, 0.0, 0.8),
    "cloud": (0.5, 0.5, -0.7),
}
asked = []


def embed(names):
    asked.append(list(names))
    return torch.tensor([WORDS[name.strip().lower()] for name in names])


@pytest.mark.parametrize(
    ("classes", "is_base"),
    [
        (["Wall ", "couch", "piano"], [True, True, False]),
        (["organ", "sofa"], [False, True]),  # nearest to a novel class
        (["cloud"], [False]),  # near to nothing
        ([["cloud", "couch"], ["organ", "wall"]], [True, True]),
        ([["piano", "couch"]], [False]),  # a name of the split decides alone
    ],
)
def test_meaning_decides_where_no_name_does(classes, is_base):
    found = split_by_meaning(parse_classes(classes), SPLIT, embed, 0.6)
    np.testing.assert_array_equal(found, is_base)


def test_known_names_are_not_embedded():
    asked.clear()
    split_by_meaning(parse_classes(["wall", "piano"]), SPLIT, embed, 0.6)
    assert not asked


def test_farther_words_stay_novel():
    classes = parse_classes(["couch"])
    assert split_by_meaning(classes, SPLIT, embed, 0.99).tolist() == [True]
    assert split_by_meaning(classes, SPLIT, embed, 1.0).tolist() == [False]
