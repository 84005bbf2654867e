"""Pictures of an evaluation: sizes, colours, many classes."""

import numpy as np
import pytest
from PIL import Image

from xmask3d_rt.evaluation.iou import Confusion
from xmask3d_rt.evaluation.plots import BASE, DARK, NOVEL, draw_class_bars, draw_confusion


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)


def count(path, color):
    return int((pixels(path) == np.asarray(color)).all(axis=1).sum())


@pytest.mark.parametrize("classes", [1, 19, 200])
def test_a_perfect_confusion_is_a_full_diagonal(tmp_path, classes):
    confusion = Confusion(classes)
    confusion.add(np.arange(classes), np.arange(classes))
    names = [f"class {i}" for i in range(classes)]
    path = draw_confusion(tmp_path / "deep" / "c.png", "perfect", confusion, names)
    area = count(path, DARK)
    assert area > classes * 30
    worse = Confusion(classes)
    worse.add(np.full(classes, 255), np.arange(classes))
    other = draw_confusion(tmp_path / "w.png", "nothing found", worse, names)
    assert count(other, DARK) == pytest.approx(area, rel=0.2)  # the last column is full
    assert max(Image.open(path).size) < 2500


def test_bars_are_as_long_as_their_values(tmp_path):
    is_base = np.array([True, False])
    path = draw_class_bars(tmp_path / "bars.png", "IoU", [80.0, 20.0], ["wall", "lamp"], is_base)
    base = tuple(int(BASE[i : i + 2], 16) for i in (1, 3, 5))
    novel = tuple(int(NOVEL[i : i + 2], 16) for i in (1, 3, 5))
    legend = 13 * 13
    ratio = (count(path, base) - legend) / (count(path, novel) - legend)
    assert ratio == pytest.approx(4, rel=0.05)
