"""Text in pictures: a font for every character, lines that fit, and nothing cut."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from xmask3d_rt.viewing import fonts
from xmask3d_rt.viewing.fonts import draw_text, measure_text, split_runs, wrap_text


@pytest.fixture
def two_fonts(monkeypatch):
    """A font that has Latin letters alone, before one that has hanzi as well."""
    held = {"latin.ttf": set("abc "), "han.ttc": set("abc 椅子")}
    monkeypatch.setattr(fonts, "FONT_FILES", ("missing.ttf", *held))
    monkeypatch.setattr(fonts, "_exists", lambda name: name in held)
    monkeypatch.setattr(fonts, "_has", lambda name, char: char in held[name])
    fonts._pick_font.cache_clear()
    yield
    fonts._pick_font.cache_clear()


def test_each_character_gets_the_first_font_that_has_it(two_fonts):
    assert list(split_runs("ab 椅子 c")) == [
        ("ab ", "latin.ttf"),
        ("椅子 ", "han.ttc"),
        ("c", "latin.ttf"),
    ]
    assert list(split_runs("a\u0301")) == [("a\u0301", "latin.ttf")]  # a mark stays at its letter
    assert list(split_runs("ж")) == [("ж", "latin.ttf")]  # nobody has it: the sign for that
    assert list(split_runs("")) == []


def test_without_any_font_pil_draws(monkeypatch):
    monkeypatch.setattr(fonts, "FONT_FILES", ("missing.ttf",))
    fonts._pick_font.cache_clear()
    assert list(split_runs("wall")) == [("wall", "")]
    assert measure_text("wall", 20) == ImageFont.load_default(20).getlength("wall")
    fonts._pick_font.cache_clear()


def test_fonts_are_told_apart_by_what_they_draw():
    name = next((name for name in fonts.FONT_FILES if fonts._exists(name)), None)
    if name is None:
        pytest.skip("this machine has none of the fonts")
    assert fonts._has(name, "a")
    assert not fonts._has(name, "\U0010fffe")


@pytest.mark.parametrize("text", ["стул", "καρέκλα", "wall"])
def test_letters_differ(text):
    """The sign for a missing letter would be the same for all of them."""
    if not fonts._exists("DejaVuSans.ttf") and not fonts._exists("NotoSans-Regular.ttf"):
        pytest.skip("this machine has no font with these scripts")
    drawn = set()
    for letter in set(text):
        canvas = Image.new("RGB", (40, 40), "white")
        draw_text(ImageDraw.Draw(canvas), (5, 30), letter, 24, (0, 0, 0))
        drawn.add(canvas.tobytes())
    assert len(drawn) == len(set(text))
    assert np.ptp(np.asarray(canvas)) > 200


def test_lines_fit_and_lose_nothing():
    text = "a class whose name is far too long for averyveryverylongword in it"
    lines = wrap_text(text, 20, 120)
    assert len(lines) > 3
    assert all(measure_text(line, 20) <= 120 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrap_text("wall", 20, 1) == ["w", "a", "l", "l"]
    assert wrap_text("wall", 20, 500) == ["wall"]


def test_control_characters_are_written_out():
    assert measure_text("a\x1b[31m", 20) == measure_text("a\\x1b[31m", 20)
    assert wrap_text("a\nb\ud800", 20, 500) == ["a b\\ud800"]
