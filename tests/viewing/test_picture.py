"""Pictures of results: title, panels and legend stand in their places, whole."""

import numpy as np
import pytest
from PIL import Image

from xmask3d_rt.viewing.legend import LegendRow, draw_rows, list_rows
from xmask3d_rt.viewing.picture import PANEL, draw_picture

COLORS = np.random.default_rng(0).integers(40, 220, (40, 3)).astype(np.uint8)
PANELS = [("colours", np.full((30, 400, 3), 9, np.uint8)), ("labels", np.zeros((30, 400, 3)))]
PANELS = [(caption, image.astype(np.uint8)) for caption, image in PANELS]


def make_rows(names):
    return [
        LegendRow(name, tuple(map(int, color)), 0.5)
        for name, color in zip(names, COLORS, strict=False)
    ]


def test_a_page_shows_it_at_half_its_size():
    assert 1640 <= 2 * PANEL[1] + 60 <= 1680


def test_panels_stand_under_the_title_over_the_legend():
    rows = make_rows(["wall", "floor"])
    picture = np.asarray(draw_picture("title", PANELS, rows))
    first = np.argwhere((picture == 9).all(axis=2))
    second = np.argwhere((picture == 0).all(axis=2))
    assert len(first) == len(second) == 30 * 400
    assert first[:, 1].max() < second[:, 1].min()
    for row in rows:
        swatch = np.argwhere((picture == row.color).all(axis=2))
        assert len(swatch) > 500
        assert swatch[:, 0].min() > first[:, 0].max()
    assert (picture[: first[:, 0].min()] < 100).any()  # title and captions


def test_long_names_are_broken_into_lines_not_cut():
    short = draw_picture("t", PANELS, make_rows(["wall", "floor"]))
    long = draw_picture("t", PANELS, make_rows(["wall", "a very long name " * 12]))
    assert long.width == short.width
    assert long.height > short.height
    assert draw_picture("t " * 200, PANELS, []).height > draw_picture("t", PANELS, []).height


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_every_row_is_drawn(count):
    rows = make_rows([f"class {i}" for i in range(count)])
    drawn = np.asarray(draw_rows(rows, 3, 200, 20))
    assert all((drawn == row.color).all(axis=2).any() for row in rows)
    assert drawn.shape[1] <= 600


def test_rows_below_a_twentieth_of_a_percent_are_left_out():
    names = ["a", "b", "c", "d"]
    rows = list_rows(names, COLORS[:4], [9000, 1000, 4, 0])
    assert [row.name for row in rows] == ["a", "b"]
    assert [row.name for row in list_rows(names, COLORS[:4])] == names
    assert [row.name for row in list_rows(names, COLORS[:4], [5, 4, 3, 2], limit=2)] == [
        "a",
        "b",
        "2 more",
    ]
    assert list_rows([], np.zeros((0, 3)), []) == []


def test_the_picture_of_the_readme_fits_a_page(request):
    picture = Image.open(request.config.rootpath / "docs" / "demo.png")
    assert picture.width <= 2 * 840
