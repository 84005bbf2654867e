"""Records: types are checked once, and what is wrong is one line that names the place."""

import dataclasses
from dataclasses import field

import pytest

from xmask3d_rt.errors import EngineError
from xmask3d_rt.records import Count, Line, read_json, read_values, record, show, to_values


@record()
class Leaf:
    size: Count
    name: Line = "leaf"


@record(EngineError)
class Tree:
    leaves: dict[Line, Leaf]
    rows: tuple[Leaf, ...] = ()
    best: Leaf | None = None
    weight: float = 1.0
    note: str = field(default="", compare=False)

    def __post_init__(self):
        if self.weight < 0:
            raise ValueError(f"weight must be positive, got {self.weight}")


TREE = Tree({"a": Leaf(1)}, (Leaf(2, "b"),), Leaf(3))


def test_round_trip():
    assert read_values(Tree, to_values(TREE)) == TREE
    assert to_values(TREE)["rows"] == [{"size": 2, "name": "b"}]
    assert dataclasses.replace(TREE, weight=2).weight == 2.0
    assert hash(Leaf(1)) == hash(Leaf(1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        TREE.weight = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leaves": {"a": {}}}, "leaves.a: missing key 'size'"),
        ({"leaves": {"a": {"size": 0}}}, "leaves.a.size: should be greater than or equal to 1"),
        ({"leaves": {"a": {"size": True}}}, "leaves.a.size: should be a valid integer, got True"),
        ({"leaves": {"a": {"size": 1.0}}}, "leaves.a.size: should be a valid integer, got 1.0"),
        ({"leaves": {"a": {"size": "1"}}}, "leaves.a.size: should be a valid integer, got '1'"),
        ({"leaves": []}, "leaves: should be an object, got []"),
        (
            {"rows": [{"size": 1, "color": 2}]},
            "rows.0: unknown key 'color'; known keys: size, name",
        ),
        ({"best": {"size": 1, "x\n": 2}}, r"best: unknown key 'x\n'; known keys: size, name"),
        ({"leaves": {"\x1b": {}}}, r"leaves.'\x1b'"),
        ({"weight": float("nan")}, "weight: should be a finite number, got nan"),
        ({"weight": -1}, "weight must be positive, got -1.0"),
        ({"best": {"size": 1, "name": "a\nb"}}, r"best.name: should be one line of printable"),
        ({"best": "x" * 500}, "best: should be an object, got 'xxx"),
    ],
)
def test_wrong_values_rejected(change, message):
    with pytest.raises(ValueError) as caught:
        read_values(Tree, to_values(TREE) | change)
    text = str(caught.value)
    assert message in text
    assert text.isprintable()
    assert len(text) < 200


def test_wrong_arguments_rejected():
    with pytest.raises(ValueError, match=r"^Leaf: size: should be a valid integer, got 'x'$"):
        Leaf("x")
    with pytest.raises(ValueError, match=r"^Leaf: missing key 'size'$"):
        Leaf()
    with pytest.raises(ValueError, match=r"^Leaf: 2: unexpected positional argument, got 3$"):
        Leaf(1, "a", 3)
    with pytest.raises(TypeError, match="multiple values"):
        Leaf(1, size=2)
    with pytest.raises(EngineError, match=r"^Tree: weight must be positive, got -2.0$"):
        dataclasses.replace(TREE, weight=-2.0)


def test_damaged_json_rejected():
    for text in (b"{", b"\xff", "[" * 10_000, '{"a": "\\ud800"}'):
        with pytest.raises(ValueError, match="no JSON") as caught:
            read_json(Tree, text)
        assert "\n" not in str(caught.value)


def test_show_is_short_and_printable():
    assert show("a\x00") == r"'a\x00'"
    assert len(show("x" * 1000)) == 60
