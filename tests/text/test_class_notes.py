"""Notes on class lists that cannot work as they are."""

import pytest
import torch

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.text.class_notes import SAME, describe_classes, find_same

LONG = " ".join(["very"] * 80) + " long sofa"
ROWS = {
    "sofa": (1.0, 0.0),
    "couch": (3.0, 0.1),
    "settee": (1.0, 0.02),
    "wall": (0.0, 1.0),
    "Things": (-1.0, 0.0),
    "object": (0.0, -1.0),
    LONG: (-1.0, -1.0),
}


def embed(names):
    return torch.tensor([ROWS[name] for name in names])


def test_a_usual_list_has_no_notes():
    assert describe_classes(parse_classes(["sofa", "wall"]), embed) == ()


def test_vague_names_are_named():
    (note,) = describe_classes(parse_classes(["wall", "Things", "object"]), embed)
    assert note.startswith("'Things', 'object': too vague to mean anything")


def test_cut_names_are_named():
    (note,) = describe_classes(parse_classes(["wall", LONG]), embed)
    assert "longer than the 75 tokens" in note
    assert len(note) < 200


def test_names_that_cannot_be_told_apart_are_named():
    classes = parse_classes(["sofa", "wall", "couch", "settee"])
    assert find_same(classes, embed)[0] == ("couch", "settee")
    (note,) = describe_classes(classes, embed)
    assert "'sofa' and 'settee'" in note
    assert note.endswith("or drop one")


@pytest.mark.parametrize("classes", [[["sofa", "couch", "settee"], "wall"], ["sofa", "wall"]])
def test_synonyms_of_one_class_may_be_the_same(classes):
    assert find_same(parse_classes(classes), embed) == []


def test_the_limit_is_the_cosine():
    angle = torch.tensor([SAME - 1e-3, SAME + 1e-3]).acos()
    rows = {
        "a": (1.0, 0.0),
        "b": (angle[0].cos(), angle[0].sin()),
        "c": (angle[1].cos(), -angle[1].sin()),
    }
    found = find_same(
        parse_classes(["a", "b", "c"]), lambda names: torch.tensor([rows[n] for n in names])
    )
    assert found == [("a", "c")]


def test_many_pairs_are_counted():
    names = [f"chair {i}" for i in range(6)]
    (note,) = describe_classes(parse_classes(names), lambda n: torch.ones(len(n), 2))
    assert "and 12 more: the text encoder hardly tells them apart" in note
