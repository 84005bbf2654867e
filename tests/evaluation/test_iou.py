"""IoU: numbers computed by hand, and two libraries beside them."""

import numpy as np
import pytest

from xmask3d_rt.evaluation.iou import Confusion, harmonic_mean, score

NAMES = ["wall", "chair", "lamp"]
IS_BASE = np.array([True, True, False])


def make(predictions, targets, classes=3):
    confusion = Confusion(classes)
    confusion.add(np.array(predictions), np.array(targets))
    return confusion


def test_hand_computed_case():
    # target   wall wall wall wall chair chair lamp lamp other
    # found    wall wall chair lamp chair chair lamp wall lamp
    confusion = make([0, 0, 1, 2, 1, 1, 2, 0, 2], [0, 0, 0, 0, 1, 1, 2, 2, 3])
    assert confusion.counts.tolist() == [[2, 1, 1, 0], [0, 2, 0, 0], [1, 0, 1, 0]]
    # wall: 2 / (4 + 3 - 2); chair: 2 / (2 + 3 - 2); lamp: 1 / (2 + 2 - 1), "other" left out
    np.testing.assert_allclose(confusion.iou, [2 / 5, 2 / 3, 1 / 3])
    np.testing.assert_allclose(confusion.accuracy, [1 / 2, 1, 1 / 2])
    result = score(confusion, NAMES, IS_BASE)
    base, novel = 100 * (2 / 5 + 2 / 3) / 2, 100 / 3
    assert result.miou_base == pytest.approx(base)
    assert result.miou_novel == pytest.approx(novel)
    assert result.hiou == pytest.approx(2 * base * novel / (base + novel))
    assert result.miou == pytest.approx(100 * (2 / 5 + 2 / 3 + 1 / 3) / 3)
    assert result.macc_base == pytest.approx(75)
    assert result.macc_novel == pytest.approx(50)
    assert result.allacc == pytest.approx(100 * 5 / 8)
    assert result.allacc_base == pytest.approx(100 * 4 / 6)
    assert result.allacc_novel == pytest.approx(50)
    assert list(result.per_class) == NAMES
    assert result.per_class["chair"] == pytest.approx(200 / 3)
    assert result.to_dict()["per_class"]["lamp"] == pytest.approx(100 / 3)


def test_published_harmonic_mean():
    assert harmonic_mean(69.8, 70.2) == pytest.approx(70.0, abs=0.01)
    assert harmonic_mean(0.0, 0.0) == 0
    assert harmonic_mean(None, 3.0) is None


def test_a_class_that_never_occurs_counts_as_zero():
    result = score(make([0, 0], [0, 0]), NAMES, IS_BASE)
    assert result.miou_base == pytest.approx(50)
    assert result.miou_novel == 0
    assert result.hiou == 0


def test_predictions_outside_the_classes_are_wrong_and_no_class_pays_for_them():
    confusion = make([0, 255, -1, 3], [0, 0, 1, 1])
    np.testing.assert_allclose(confusion.iou, [1 / 2, 0, 0])
    assert confusion.counts[:, 3].tolist() == [1, 2, 0]


def test_ignored_targets_do_not_count():
    assert make([0, 1, 2], [-1, 3, 255]).counts.sum() == 0
    assert make([], []).counts.sum() == 0


def test_scenes_are_summed_before_dividing():
    one, two = make([0, 1], [0, 0]), make([0, 0, 0], [0, 0, 0])
    one.merge(two)
    assert one.iou[0] == pytest.approx(4 / 5)
    again = Confusion(3, one.counts)
    np.testing.assert_array_equal(again.counts, one.counts)


def test_a_list_without_novel_classes_has_no_harmonic_mean():
    result = score(make([0, 1], [0, 1]), NAMES, np.ones(3, bool))
    assert result.miou_novel is None
    assert result.hiou is None
    assert result.miou == pytest.approx(200 / 3)


@pytest.mark.parametrize("classes", [3, 19, 200])
def test_scikit_learn_agrees(classes):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(classes)
    targets = rng.integers(0, classes + 2, 20_000)
    predictions = np.where(rng.random(20_000) < 0.6, targets, rng.integers(0, classes, 20_000))
    used = targets < classes
    confusion = make(predictions, targets, classes)
    labels = np.arange(classes)
    expected = metrics.jaccard_score(
        targets[used], predictions[used], labels=labels, average=None, zero_division=0
    )
    np.testing.assert_allclose(confusion.iou, expected, atol=1e-9)
    recall = metrics.recall_score(
        targets[used], predictions[used], labels=labels, average=None, zero_division=0
    )
    np.testing.assert_allclose(confusion.accuracy, recall, atol=1e-9)
    matrix = metrics.confusion_matrix(targets[used], predictions[used], labels=labels)
    np.testing.assert_array_equal(confusion.counts[:, :classes], matrix)


def test_bad_input_rejected():
    with pytest.raises(ValueError, match="classes must be >= 1, got 0"):
        Confusion(0)
    with pytest.raises(ValueError, match=r"counts must have shape \[3, 4\], got \[3, 3\]"):
        Confusion(3, np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"must have one shape, got \[1\] and \[2\]"):
        make([0], [0, 1])
    with pytest.raises(ValueError, match="cannot add 2 classes to 3"):
        Confusion(3).merge(Confusion(2))
    with pytest.raises(ValueError, match="3 classes, but 2 names and 3 entries"):
        score(Confusion(3), NAMES[:2], IS_BASE)
