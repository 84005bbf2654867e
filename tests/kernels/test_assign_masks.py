"""assign_masks: gating and ownership by hand-worked examples, the loop form, golden cases."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmask3d_rt.config import get_preset
from xmask3d_rt.kernels import MaskAssignment, assign_masks, mask_class_logits
from xmask3d_rt.kernels.assign_masks.naive import assign_masks_naive

BASE = torch.tensor([True, True, False])  # two base classes, one novel
LOGITS = torch.tensor([[1.0, 2.0, 3.0, 4.0]])  # class 2 is novel, the last is "no object"


def assign_one(mask_logits, base_prob, class_logits=LOGITS, is_base=BASE, **options):
    """Masks on a 1 x 2 grid of their own resolution, one point on the left pixel."""
    place = torch.zeros(len(base_prob), dtype=torch.int32)
    return assign_masks(
        torch.tensor(mask_logits).reshape(-1, 1, 2),
        (1, 2),
        place,
        place,
        torch.tensor(base_prob),
        class_logits,
        is_base,
        **options,
    )


def test_base_mask_may_be_no_object_but_not_novel():
    result = assign_one([[2.0, -2.0]], [0.9])
    assert result.label.tolist() == [3]
    expected = LOGITS[0, [0, 1, 3]].softmax(0).max()
    assert result.score.item() == pytest.approx(expected.item())
    assert result.base_score.item() == pytest.approx(0.9)


def test_novel_mask_takes_novel_classes_alone():
    result = assign_one([[2.0, -2.0]], [0.5])  # 0.5 does not exceed the threshold
    assert result.label.tolist() == [2]
    assert result.score.item() == pytest.approx(1.0)


def test_threshold_is_an_argument():
    assert assign_one([[2.0, -2.0]], [0.5], binary_threshold=0.4).label.tolist() == [3]


@pytest.mark.parametrize("side", [True, False])
def test_one_sided_class_list_is_not_gated(side):
    result = assign_one([[2.0, -2.0]], [0.9], is_base=torch.full((3,), side))
    assert result.label.tolist() == [3]
    assert result.score.item() == pytest.approx(LOGITS[0].softmax(0).max().item())


def test_base_score_is_the_mean_over_points_inside():
    result = assign_masks(
        torch.tensor([[[2.0, 2.0, -2.0]]]),
        (1, 3),
        torch.zeros(4, dtype=torch.int32),
        torch.tensor([0, 1, 1, 2]),
        torch.tensor([0.2, 0.3, 0.7, 0.9]),
        LOGITS,
        BASE,
    )
    assert result.base_score.item() == pytest.approx((0.2 + 0.3 + 0.7) / 3)


def test_mask_without_a_visible_point_is_dropped():
    result = assign_one([[-2.0, 8.0], [1.0, 1.0]], [0.9], LOGITS.repeat(2, 1))
    assert result.kept.tolist() == [False, True]
    assert result.final.tolist() == [False, True]
    assert (result.score[0], result.base_score[0], result.label[0]) == (0, 0, -1)
    assert result.point_query.tolist() == [1]


def test_pixel_goes_to_the_largest_product_of_score_and_mask():
    # the first mask is surer of the pixel, the second of its class
    class_logits = torch.tensor([[0.0, 0.0, 0.0, 0.1], [9.0, 0.0, 0.0, 0.0]])
    result = assign_one([[3.0, -9.0], [1.0, -9.0]], [0.9], class_logits)
    assert result.point_query.tolist() == [1]
    assert result.final.tolist() == [False, True]


def test_equal_claims_go_to_the_lowest_query():
    result = assign_one([[1.0, 1.0], [1.0, 1.0]], [0.9], LOGITS.repeat(2, 1))
    assert result.point_query.tolist() == [0]
    assert result.final.tolist() == [True, False]


def test_owner_below_one_half_leaves_the_pixel_free():
    # the winner of the left pixel is the second mask with logit -1, so nobody covers the point
    class_logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0]])
    masks = torch.tensor([[[0.01, -9.0, -9.0]], [[-0.1, 5.0, -9.0]]])
    result = assign_masks(
        masks,
        (1, 3),
        torch.zeros(2, dtype=torch.int32),
        torch.tensor([0, 1]),
        torch.tensor([0.9, 0.9]),
        class_logits,
        BASE,
    )
    assert result.kept.tolist() == [True, True]
    assert result.point_query.tolist() == [-1, 1]
    assert result.final.tolist() == [False, True]


def test_no_points_keeps_no_mask():
    result = assign_one([[2.0, 2.0]], [])
    assert result.point_query.shape == (0,)
    assert not result.kept.any()
    assert not result.final.any()


def random_case(seed, queries, classes, n, logits_shape=(9, 11), mask_shape=(24, 32)):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randn(queries, *logits_shape, generator=generator) * 3
    row = torch.randint(0, mask_shape[0], (n,), generator=generator, dtype=torch.int32)
    col = torch.randint(0, mask_shape[1], (n,), generator=generator, dtype=torch.int32)
    class_logits = torch.randn(queries, classes + 1, generator=generator) * 4
    is_base = torch.rand(classes, generator=generator) > 0.4
    prob = torch.rand(n, generator=generator)
    return masks, mask_shape, row, col, prob, class_logits, is_base


def assert_same(result, expected):
    for name, ours, theirs in zip(MaskAssignment._fields, result, expected, strict=True):
        assert ours.dtype == theirs.dtype, name
        if ours.is_floating_point():
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)
        else:
            assert torch.equal(ours, theirs), name


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 12), st.integers(0, 80))
def test_equals_the_loop_over_queries(seed, queries, classes, n):
    case = random_case(seed, queries, classes, n)
    assert_same(assign_masks(*case), assign_masks_naive(*case))


@pytest.mark.parametrize("case", ["case_A", "case_C"])
def test_golden(golden, case):
    inputs, expected = golden(f"{case}_inputs"), golden(f"{case}_golden")
    text_embed = torch.from_numpy(expected["text_embed"])
    class_logits = mask_class_logits(
        torch.from_numpy(expected["mask_embed"]),
        text_embed,
        torch.arange(19),
        19,
        torch.from_numpy(expected["null_embed"]),
        float(expected["logit_scale"]),
    )
    reference_logits = torch.from_numpy(expected["pred_logits"])
    torch.testing.assert_close(class_logits, reference_logits, rtol=1e-5, atol=1e-5)
    is_base = torch.ones(19, dtype=torch.bool)
    is_base[list(get_preset("b15n4").split.novel)] = False
    result = assign_masks(
        torch.from_numpy(expected["pred_masks"]),
        (240, 320),
        torch.from_numpy(inputs["x_label"].astype(np.int32)),
        torch.from_numpy(inputs["y_label"].astype(np.int32)),
        torch.from_numpy(expected["binary_score_point"]),
        class_logits,
        is_base,
    )
    kept = torch.from_numpy(expected["keep_full"])
    assert torch.equal(result.kept, kept)
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(
        result.base_score[kept], torch.from_numpy(expected["mask_binary_mean"]), **close
    )
    torch.testing.assert_close(
        result.score[kept], torch.from_numpy(expected["mask_scores"]), **close
    )
    assert torch.equal(result.label[kept], torch.from_numpy(expected["mask_labels"]).long())
    final = torch.from_numpy(expected["final_keep_query"])
    assert torch.equal(result.final.nonzero().flatten(), final)
    bits = np.unpackbits(expected["final_mask_3d"], axis=1)[:, : expected["final_mask_3d_shape"][1]]
    owned = result.point_query[None] == final[:, None]
    assert torch.equal(owned, torch.from_numpy(bits.astype(bool)))


def test_class_logits_take_the_best_name():
    text = torch.tensor([[1.0, 0], [0, 2.0], [0, -3.0]])
    logits = mask_class_logits(
        torch.tensor([[0.0, 5.0]]), text, torch.tensor([1, 0, 1]), 2, torch.tensor([[1.0, 1]]), 10.0
    )
    torch.testing.assert_close(logits, torch.tensor([[10.0, 0.0, 10 / 2**0.5]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_logits": torch.zeros(2, 3)}, r"mask_logits must have shape \[Q, h, w\]"),
        ({"col": torch.zeros(3, dtype=torch.int32)}, r"col must have shape \[n\]"),
        ({"base_prob": torch.zeros(3)}, r"base_prob must have shape \[n\]"),
        ({"class_logits": torch.zeros(1, 3)}, r"class_logits must have shape \[Q, C \+ 1\]"),
        ({"is_base": torch.ones(4, dtype=torch.bool)}, r"\[Q, C \+ 1\]"),
        ({"class_logits": torch.zeros(1, 4, device="meta")}, "one device"),
    ],
)
def test_bad_shapes_rejected(change, message):
    with pytest.raises(ValueError, match=message):
        assign_masks(**{**default_arguments(), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"row": torch.zeros(2)},
        {"is_base": torch.ones(3)},
        {"mask_logits": torch.zeros(1, 2, 2).int()},
    ],
)
def test_bad_dtypes_rejected(change):
    with pytest.raises(TypeError, match="assign_masks: "):
        assign_masks(**{**default_arguments(), **change})


def default_arguments():
    return {
        "mask_logits": torch.zeros(1, 2, 2),
        "mask_shape": (4, 4),
        "row": torch.zeros(2, dtype=torch.int32),
        "col": torch.zeros(2, dtype=torch.int32),
        "base_prob": torch.zeros(2),
        "class_logits": torch.zeros(1, 4),
        "is_base": BASE,
    }
