"""label_points: the rules by hand-worked examples, the released form, the folding, golden cases."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from xmask3d_rt.config import get_preset
from xmask3d_rt.kernels import assign_masks, build_label_tables, label_points
from xmask3d_rt.kernels.label_points import reference
from xmask3d_rt.kernels.label_points.naive import label_points_naive
from xmask3d_rt.kernels.label_points.tables import split_tf32

E = 6


def one_hot(*places):
    return F.one_hot(torch.tensor(places), E).float()


def simple_tables(is_base, text=None, text_class=None, **options):
    """Classes along the axes, a fuser that keeps the mask half alone, logit scale 10."""
    classes = len(is_base)
    text = one_hot(*range(classes)) if text is None else text
    fuser = torch.cat([torch.eye(E), torch.zeros(E, E)], dim=1)
    return build_label_tables(
        text,
        torch.arange(classes) if text_class is None else torch.tensor(text_class),
        torch.tensor(is_base),
        options.pop("fuser_weight", fuser),
        torch.zeros(E),
        10.0,
        options.pop("base_ratio", 0.65),
        options.pop("novel_ratio", 0.35),
        **options,
    )


def label_simple(tables, feature_3d, query=(-1,), mask=((0.0,) * E,), clip=None, prob=(0.9,)):
    feature_3d = torch.as_tensor(feature_3d, dtype=torch.float32).reshape(-1, E)
    mask = torch.as_tensor(mask, dtype=torch.float32)
    count = len(query)
    return label_points(
        feature_3d,
        torch.arange(count),
        torch.tensor(query, dtype=torch.int32),
        mask,
        mask if clip is None else torch.as_tensor(clip, dtype=torch.float32),
        torch.tensor(prob),
        torch.arange(count)[:, None] * torch.ones(3),
        tables,
    )


def test_tables_read_nothing_of_the_device():
    """Classes were checked on the host: a GPU is not asked for them again."""
    far = torch.zeros(5, E, device="meta")  # no value of it can be read
    tables = build_label_tables(
        far, torch.tensor([0, 1, 1, 2, 2]), far[:3, 0] > 0, far.new_zeros(E, 2 * E), far[0],
        10.0, 0.65, 0.35, voxel_weight=far.new_zeros(E, 4),
    )  # fmt: skip
    assert tables.text.shape == (3 * 2, E)
    assert tables.both_text.device.type == "meta"


def test_uncovered_point_keeps_its_3d_feature():
    labels = label_simple(simple_tables([True] * 3), [0, 2.0, 1, 0, 0, 0])
    assert (labels.fused, labels.three_d, labels.two_d) == (1, 1, 1)
    cosine = torch.tensor([0.0, 2, 1]) / 5**0.5
    assert labels.score.item() == pytest.approx((10 * cosine).softmax(0)[1].item(), rel=1e-5)


def test_covered_point_takes_its_mask():
    labels = label_simple(simple_tables([True] * 3), one_hot(1)[0], (0,), one_hot(2))
    assert (labels.fused, labels.two_d, labels.three_d) == (2, 2, 1)


@pytest.mark.parametrize(("ratio", "label"), [(0.9, 0), (0.1, 1)])
def test_ensemble_weighs_fused_against_clip(ratio, label):
    tables = simple_tables([True] * 2, base_ratio=ratio)
    labels = label_simple(tables, one_hot(3)[0], (0,), one_hot(0), clip=one_hot(1))
    assert labels.fused.item() == label
    logits = 10 * torch.tensor([ratio, 1 - ratio])
    assert labels.score.item() == pytest.approx(logits.softmax(0)[label].item(), rel=1e-5)


def test_novel_points_use_the_novel_ratio():
    tables = simple_tables([True, False, False], base_ratio=1.0, novel_ratio=0.0)
    mask, clip = [[0, 1.0, 0, 0, 0, 0]], [[0, 0, 1.0, 0, 0, 0]]
    labels = label_simple(tables, one_hot(4)[0], (0,), mask, clip, (0.1,))
    assert labels.fused.item() == 2
    labels = label_simple(
        simple_tables([True] * 3, base_ratio=1.0), one_hot(4)[0], (0,), mask, clip
    )
    assert labels.fused.item() == 1


@pytest.mark.parametrize(
    ("prob", "labels"), [(0.51, (0, 0, 0)), (0.5, (1, 1, 1)), (0.2, (1, 1, 1))]
)
def test_gate_applies_to_every_head(prob, labels):
    tables = simple_tables([True, False, True])
    feature = [0.3, 0.2, 0.1, 0, 0, 0]
    result = label_simple(tables, feature, (0,), [feature], prob=(prob,))
    assert tuple(head.item() for head in result[:3]) == labels


@pytest.mark.parametrize("side", [True, False])
def test_one_sided_class_list_is_not_gated(side):
    for prob in (0.1, 0.9):
        labels = label_simple(simple_tables([side] * 3), one_hot(2)[0], prob=(prob,))
        assert labels.fused.item() == 2


def test_ties_go_to_the_lowest_class():
    labels = label_simple(simple_tables([True] * 4), [0, 1.0, 0, 1.0, 0, 0])
    assert (labels.fused.item(), labels.three_d.item()) == (1, 1)
    assert labels.score.item() < 0.5


def test_class_takes_its_best_name():
    text = one_hot(0, 1, 2, 3) * torch.tensor([[1.0], [7.0], [1.0], [0.1]])
    tables = simple_tables([True, True], text, [1, 0, 1, 1])
    labels = label_simple(tables, one_hot(3)[0])
    assert labels.fused.item() == 1
    assert labels.score.item() == pytest.approx(torch.tensor([0.0, 10]).softmax(0)[1].item())


def test_holes_of_the_2d_head_take_the_nearest_mask():
    masks = one_hot(0, 1)
    labels = label_simple(
        simple_tables([True] * 3), one_hot(2, 2, 2, 2), (0, -1, -1, 1), masks, prob=(0.9,) * 4
    )
    assert labels.two_d.tolist() == [0, 0, 1, 1]
    assert labels.three_d.tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("queries", [0, 2])
def test_view_without_masks_uses_the_3d_head(queries):
    masks = torch.ones(queries, E)
    labels = label_simple(
        simple_tables([True] * 3), one_hot(1, 2), (-1, -1), masks, prob=(0.9, 0.9)
    )
    assert labels.fused.tolist() == labels.two_d.tolist() == labels.three_d.tolist() == [1, 2]


def test_no_points():
    tables = simple_tables([True, False])
    empty = torch.zeros(0, dtype=torch.int64)
    labels = label_points(
        torch.zeros(0, E),
        empty,
        empty,
        torch.zeros(3, E),
        torch.zeros(3, E),
        torch.zeros(0),
        torch.zeros(0, 3),
        tables,
    )
    assert all(part.shape == (0,) for part in labels)


def random_case(seed, n, voxels, queries, classes, names, embed=24):
    """Arguments of the released form; some points uncovered, several names per class."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    text_class = torch.cat(
        [torch.arange(classes), torch.randint(classes, (names - classes,), generator=generator)]
    )
    return {
        "voxel_feats": normal(voxels, embed),
        "point_to_voxel": torch.randint(voxels, (n,), generator=generator),
        "point_query": torch.randint(-1, queries, (n,), generator=generator, dtype=torch.int32),
        "mask_embed": normal(queries, embed),
        "mask_embed_clip": normal(queries, embed),
        "text_embed": normal(names, embed),
        "text_class": text_class[torch.randperm(names, generator=generator)],
        "is_base": torch.rand(classes, generator=generator) > 0.4,
        "base_prob": torch.rand(n, generator=generator),
        "fuser_weight": normal(embed, 2 * embed) / embed**0.5,
        "fuser_bias": normal(embed) * 0.1,
        "logit_scale": 14.2857,
        "base_ratio": 0.65,
        "novel_ratio": 0.35,
        "points": normal(n, 3),
    }


TABLE_NAMES = (
    "text_embed",
    "text_class",
    "is_base",
    "fuser_weight",
    "fuser_bias",
    "logit_scale",
    "base_ratio",
    "novel_ratio",
)
VIEW_NAMES = (
    "point_to_voxel",
    "point_query",
    "mask_embed",
    "mask_embed_clip",
    "base_prob",
    "points",
)


def run_folded(case, voxel_feats=None, **projection):
    tables = build_label_tables(**{name: case[name] for name in TABLE_NAMES}, **projection)
    feats = case["voxel_feats"] if voxel_feats is None else voxel_feats
    return label_points(feats, **{name: case[name] for name in VIEW_NAMES}, tables=tables)


def assert_same_labels(result, expected):
    """Labels equal; random features leave margins far above float32 rounding."""
    for ours, theirs in zip(result[:3], expected[:3], strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(result[3], expected[3], rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(0, 9),
)
def test_equals_the_released_form(seed, n, voxels, queries, classes, more_names):
    case = random_case(seed, n, voxels, queries, classes, classes + more_names)
    assert_same_labels(run_folded(case), label_points_naive(**case))


@pytest.mark.parametrize("feat", [10, 23, 24, 40])
@pytest.mark.parametrize("norm_block", [4, 96])
def test_projection_folds_in(monkeypatch, norm_block, feat):
    monkeypatch.setattr(reference, "NORM_BLOCK", norm_block)
    case = random_case(feat, 300, 200, 5, 12, 20)
    generator = torch.Generator().manual_seed(1)
    feats = torch.randn(200, feat, generator=generator)
    weight = torch.randn(24, feat, generator=generator) / feat**0.5
    bias = torch.randn(24, generator=generator)
    expected = label_points_naive(**{**case, "voxel_feats": F.linear(feats, weight, bias)})
    result = run_folded(case, feats, voxel_weight=weight, voxel_bias=bias)
    assert_same_labels(result, expected)


def test_classes_in_blocks_equal_one_block(monkeypatch):
    case = random_case(3, 120, 80, 5, 70, 100)
    whole = run_folded(case)
    monkeypatch.setattr(reference, "BLOCK_ELEMENTS", 1)
    assert_same_labels(run_folded(case), whole)


def test_same_labels_when_compiled():
    case = random_case(4, 50, 30, 4, 7, 9)
    tables = build_label_tables(**{name: case[name] for name in TABLE_NAMES})
    arguments = {name: case[name] for name in ("voxel_feats", *VIEW_NAMES)}
    compiled = torch.compile(label_points, backend="eager", fullgraph=True)
    for ours, theirs in zip(
        compiled(**arguments, tables=tables), label_points(**arguments, tables=tables), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_tf32_split_is_exact_in_ten_bits():
    values = torch.randn(1000) * torch.logspace(-20, 20, 1000)
    high, low = split_tf32(values)
    for part in (high, low):
        assert (part.view(torch.int32) & 0x1FFF).eq(0).all()
    assert ((high.double() + low.double() - values.double()).abs() <= values.abs() * 2.0**-22).all()


@pytest.mark.parametrize("case", ["case_A", "case_C"])
def test_golden_rows(golden, case):
    """Scores of sampled points, from the 3D features recorded for them."""
    inputs, expected = golden(f"{case}_inputs"), golden(f"{case}_golden")
    rows = torch.from_numpy(expected["pt_rows"])
    get = {name: torch.from_numpy(expected[name]) for name in GOLDEN_ARRAYS}
    is_base = torch.ones(19, dtype=torch.bool)
    is_base[list(get_preset("b15n4").split.novel)] = False
    row = torch.from_numpy(inputs["x_label"].astype(np.int32))
    col = torch.from_numpy(inputs["y_label"].astype(np.int32))
    prob = get["binary_score_point"]
    owner = assign_masks(
        get["pred_masks"], (240, 320), row, col, prob, get["pred_logits"], is_base
    ).point_query
    visible = np.unpackbits(inputs["visible_mask"])[: len(inputs["points_xyz"])] > 0
    points = torch.from_numpy(inputs["points_xyz"][visible])
    preset = get_preset("b15n4")
    # a fuser that passes 3D features through: the recorded fused features stand in for both
    fuser = torch.cat([torch.zeros(768, 768), torch.eye(768)], dim=1)
    tables = build_label_tables(
        get["text_embed"],
        torch.arange(19),
        is_base,
        fuser,
        torch.zeros(768),
        float(expected["logit_scale"]),
        preset.base_ratio,
        preset.novel_ratio,
    )

    def label(features):
        feats = torch.zeros(len(points), 768)
        feats[rows] = features
        every = torch.arange(len(points))
        masks = get["mask_embed"], get["mask_embed_clip"]
        return label_points(feats, every, owner, *masks, prob, points, tables)

    fused = label(get["fused_rows"])
    assert torch.equal(fused.fused[rows], get["label_fused"].long()[rows])
    assert torch.equal(fused.two_d, get["label_2d"].long())
    three_d = label(get["pure3d_rows"]).three_d[rows]
    assert torch.equal(three_d, get["label_3d"].long()[rows])
    logits = get["final_logits_fused_rows"].masked_fill(
        get["final_logits_fused_rows"] <= -1e9, -1e30
    )
    covered = owner[rows] >= 0
    score = logits[covered].softmax(1).amax(1)
    torch.testing.assert_close(fused.score[rows][covered], score, rtol=1e-4, atol=1e-5)


GOLDEN_ARRAYS = (
    "pt_rows",
    "pred_masks",
    "pred_logits",
    "binary_score_point",
    "mask_embed",
    "mask_embed_clip",
    "text_embed",
    "fused_rows",
    "pure3d_rows",
    "label_fused",
    "label_2d",
    "label_3d",
    "final_logits_fused_rows",
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_class": torch.tensor([0, 0])}, "class 1 has no name"),
        ({"text_class": torch.tensor([0, 5])}, "text_class holds 5"),
        ({"text_class": torch.tensor([0])}, r"text_class must have shape \[T\]"),
        ({"fuser_weight": torch.zeros(E, E)}, r"fuser_weight must have shape \[E, 2E\]"),
        ({"fuser_bias": torch.zeros(2)}, r"fuser_bias must have shape \[E\]"),
        ({"voxel_weight": torch.zeros(3, 4)}, r"voxel_weight must have shape \[E, F\]"),
        ({"voxel_bias": torch.zeros(3)}, r"voxel_bias must have shape \[E\]"),
        ({"fuser_bias": torch.zeros(E, device="meta")}, "one device"),
    ],
)
def test_bad_tables_rejected(change, message):
    arguments = {
        "text_embed": torch.zeros(2, E),
        "text_class": torch.tensor([0, 1]),
        "is_base": torch.tensor([True, False]),
        "fuser_weight": torch.zeros(E, 2 * E),
        "fuser_bias": torch.zeros(E),
        "logit_scale": 10.0,
        "base_ratio": 0.65,
        "novel_ratio": 0.35,
    }
    with pytest.raises(ValueError, match=message):
        build_label_tables(**{**arguments, **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"voxel_feats": torch.zeros(3, E + 1)}, ValueError, r"voxel_feats must have shape"),
        ({"point_query": torch.zeros(5).int()}, ValueError, r"point_query must have shape \[n\]"),
        ({"base_prob": torch.zeros(5)}, ValueError, r"base_prob must have shape \[n\]"),
        ({"points": torch.zeros(4, 2)}, ValueError, r"points must have shape \[n, 3\]"),
        ({"mask_embed": torch.zeros(2, 3)}, ValueError, r"mask_embed must have shape \[Q, E\]"),
        ({"mask_embed_clip": torch.zeros(3, E)}, ValueError, r"mask_embed_clip must have shape"),
        ({"points": torch.zeros(4, 3, device="meta")}, ValueError, "one device"),
        ({"point_to_voxel": torch.zeros(4)}, TypeError, "must hold integers"),
        ({"voxel_feats": torch.zeros(3, E).int()}, TypeError, "must be floating point"),
    ],
)
def test_bad_arguments_rejected(change, error, message):
    arguments = {
        "voxel_feats": torch.zeros(3, E),
        "point_to_voxel": torch.zeros(4, dtype=torch.int64),
        "point_query": torch.zeros(4, dtype=torch.int32),
        "mask_embed": torch.zeros(2, E),
        "mask_embed_clip": torch.zeros(2, E),
        "base_prob": torch.zeros(4),
        "points": torch.zeros(4, 3),
    }
    with pytest.raises(error, match=message):
        label_points(**{**arguments, **change}, tables=simple_tables([True, False]))
