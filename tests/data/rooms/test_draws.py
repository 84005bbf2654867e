"""Parameters of training and held-out rooms: drawn from bands that never touch."""

import numpy as np
import pytest

from xmask3d_rt.data.furniture import SHAPES
from xmask3d_rt.data.rooms.draws import BANDS, HELD_OUT_BANDS, HELD_OUT_FROM, Draw, is_held_out

TRAINING, HELD_OUT = 7, HELD_OUT_FROM + 7


def test_a_seed_says_whether_a_room_is_held_out():
    assert not is_held_out(HELD_OUT_FROM - 1)
    assert is_held_out(HELD_OUT_FROM)
    assert Draw.of_seed(HELD_OUT).held_out
    assert not Draw.of_seed(TRAINING).again(3).held_out


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.3, 1.9), (-0.06, 0.06)])
def test_bands_are_disjoint_and_cover_the_range(low, high):
    bands = {}
    for seed in (TRAINING, HELD_OUT):
        draw = Draw.of_seed(seed)
        values = np.array([draw.uniform(low, high) for _ in range(3000)])
        assert low <= values.min() < low + (high - low) * 0.2
        assert high - (high - low) * 0.23 < values.max() <= high
        bands[seed] = set(np.floor((values - low) / (high - low) * BANDS).astype(int).tolist())
    assert bands[HELD_OUT] == set(HELD_OUT_BANDS)
    assert bands[TRAINING] == set(range(BANDS)) - set(HELD_OUT_BANDS)


def test_colours_and_patterns_are_disjoint():
    training, held_out = Draw.of_seed(TRAINING), Draw.of_seed(HELD_OUT)
    for name in ("wood", "fabric", "vivid", "pale", "white", "dark", "steel"):
        colors = [{getattr(d, name)() for _ in range(300)} for d in (training, held_out)]
        assert all(0 <= c <= 1 for group in colors for color in group for c in color)
        assert not colors[0] & colors[1]
    assert {training.pattern() % 2 for _ in range(50)} == {0}
    assert {held_out.pattern() % 2 for _ in range(50)} == {1}


@pytest.mark.parametrize("name", SHAPES)
def test_no_shape_of_a_held_out_room_occurs_in_training(name):
    """No solid of the one kind of room has colour, size and pattern of one of the other."""
    seen = []
    for seed in (TRAINING, HELD_OUT):
        draw = Draw.of_seed(seed)
        solids = [box for _ in range(12) for box in SHAPES[name](draw).boxes]
        seen.append({box.pattern for box in solids})
        scales = {round(box.scale, 9) for box in solids}
        place = {int((scale - 0.75) / 0.55 * BANDS) for scale in scales}
        assert place <= (set(HELD_OUT_BANDS) if draw.held_out else set(range(BANDS)))
        assert bool(place & set(HELD_OUT_BANDS)) == draw.held_out
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_vary(name):
    draw = Draw.of_seed(TRAINING)
    pieces = [SHAPES[name](draw) for _ in range(8)]
    sizes = {(round(p.width, 3), round(p.depth, 3), round(p.height, 3)) for p in pieces}
    assert len(sizes) >= 7
    assert len({box.color for p in pieces for box in p.boxes}) >= 4
