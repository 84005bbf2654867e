"""Kinds of objects, recipes and captions."""

import numpy as np
import pytest

from xmask3d_rt.data.furniture import PIECES, SHAPES
from xmask3d_rt.data.layout import HUNG, LOOSE, LYING, furnish_room
from xmask3d_rt.data.rooms.captions import describe_view, name_color
from xmask3d_rt.data.rooms.draws import BANDS, HELD_OUT_FROM, Draw
from xmask3d_rt.data.rooms.kinds import (
    ATTRIBUTES,
    BASE_KINDS,
    KINDS,
    NOVEL_KINDS,
    SCANNET_CLASSES,
    SYNONYMS,
    list_classes,
)
from xmask3d_rt.data.rooms.recipes import RECIPES, ROOM_TYPES, SIZES, THINGS


def test_kinds_begin_with_scannets_classes():
    assert KINDS[:19] == SCANNET_CLASSES[:19]
    assert len(KINDS) == len(set(KINDS)) >= 42 + 19
    assert set(PIECES) == set(KINDS) - {"wall", "floor", "shower curtain"}  # part of a bathtub


def test_base_and_novel_kinds_part_all_kinds():
    assert set(BASE_KINDS) | set(NOVEL_KINDS) == set(KINDS)
    assert len(BASE_KINDS) + len(NOVEL_KINDS) == len(KINDS)
    assert len(NOVEL_KINDS) == 10
    assert not set(NOVEL_KINDS) & {"wall", "floor"}


def test_no_word_means_two_kinds():
    words = [*KINDS, *(word for kind in KINDS for word in SYNONYMS[kind])]
    assert len(words) == len(set(words))
    assert all(len(SYNONYMS[kind]) >= 2 and len(ATTRIBUTES[kind]) >= 2 for kind in KINDS)


def test_list_classes():
    assert list_classes("kinds") == list(KINDS)
    assert list_classes("scannet20") == list(SCANNET_CLASSES)
    with pytest.raises(ValueError, match="unknown label set 'scannet200' of rooms; pass kinds"):
        list_classes("scannet200")


def test_recipes_and_surfaces_name_shapes_that_exist():
    named = {name for recipe in RECIPES.values() for name, _ in recipe}
    named |= {thing.shape for things in THINGS.values() for thing in things}
    assert named <= set(SHAPES)
    assert set(ROOM_TYPES) == set(RECIPES)
    assert set(SIZES) <= set(RECIPES)
    assert {*HUNG, *LOOSE, *LYING} <= set(PIECES)
    draw = Draw.of_seed(0)
    uses = {top.use for name in SHAPES for _ in range(6) for top in SHAPES[name](draw).tops}
    assert uses == set(THINGS)


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_stands_on_its_own_frame(name):
    draw = Draw.of_seed(1)
    for _ in range(5):
        piece = SHAPES[name](draw)
        assert piece.kind in KINDS
        assert KINDS.index(piece.kind) in {box.label for box in piece.boxes}
        assert 0.05 < piece.width < 3
        assert all(min(box.size) > 0 for box in piece.boxes)
        low = min(box.center[2] for box in piece.boxes)
        assert -1.2 < low < 2.5


@pytest.mark.parametrize("first", [0, HELD_OUT_FROM])
def test_every_kind_occurs_in_rooms_of_both_sorts(first):
    layouts = [furnish_room(Draw.of_seed(first + n), None, True) for n in range(120)]
    rooms_with = np.zeros(len(KINDS), dtype=int)
    for layout in layouts:
        rooms_with[list({box.label for box in layout.boxes if box.label >= 0})] += 1
    assert rooms_with.min() >= 3, KINDS[rooms_with.argmin()]
    assert min(rooms_with[KINDS.index(name)] for name in NOVEL_KINDS) >= 8
    assert {layout.room_type for layout in layouts} == set(RECIPES)


def test_no_size_of_a_held_out_room_occurs_in_training():
    sizes = []
    for first in (0, HELD_OUT_FROM):
        layouts = [furnish_room(Draw.of_seed(first + n), None, True) for n in range(25)]
        sizes.append({round(layout.height, 6) for layout in layouts})
    places = [np.floor((np.array([*group]) - 2.45) / 0.4 * BANDS).astype(int) for group in sizes]
    assert not set(places[0].tolist()) & set(places[1].tolist())


def test_captions_name_what_covers_a_view():
    kinds = np.full((100, 100), KINDS.index("wall"), dtype=np.int16)
    kinds[:40, :50], kinds[60:, :30], kinds[60:, 40:60] = (
        KINDS.index(name) for name in ("sofa", "plant", "plant")
    )
    numbers = np.zeros((100, 100), dtype=np.int16)
    numbers[:40, :50], numbers[60:, :30], numbers[60:, 40:60] = 1, 2, 3
    image = np.full((100, 100, 3), (200, 20, 20), dtype=np.uint8)
    rng = np.random.default_rng(0)
    texts = {describe_view(kinds, numbers, image, "living room", rng) for _ in range(40)}
    assert all("living room" in t and "sofa" in t and "plants" in t for t in texts)
    assert any("two red plants" in t for t in texts)
    assert any("two plants" in t for t in texts)
    unnamed = {
        describe_view(kinds, numbers, image, "room", rng, ("plant", "sofa")) for _ in range(9)
    }
    assert all("wall" in t and "plant" not in t for t in unnamed)
    nothing = np.full((10, 10), -1)
    assert "nothing" in describe_view(nothing, nothing, image[:10, :10], "room", rng)


@pytest.mark.parametrize(
    ("rgb", "word"),
    [
        ((10, 10, 12), "black"),
        ((240, 240, 238), "white"),
        ((130, 130, 130), "grey"),
        ((120, 75, 40), "brown"),
        ((210, 30, 30), "red"),
        ((40, 160, 50), "green"),
        ((40, 70, 200), "blue"),
    ],
)
def test_colour_words(rgb, word):
    assert name_color(rgb) == word
