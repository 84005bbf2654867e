"""The comparison itself, on small made-up runs: every kind of difference must show."""

import dataclasses
import json
import math

import numpy as np
import pytest

from xmask3d_rt.config import ClipConfig, Precision
from xmask3d_rt.export.parity.compare import (
    HEADS,
    Row,
    agreement_row,
    compare_case,
    compare_scene,
    list_uncompared,
    relative_l2,
)
from xmask3d_rt.export.parity.limits import STAGES, find_lowest, is_exact
from xmask3d_rt.export.parity.recording import record_case, record_scene

CLIP = ClipConfig(image_size=28, patch_size=14, vision_width=64)
POINTS, VOXELS, COARSE, QUERIES, CLASSES = 40, 30, 5, 4, 3
FP32 = {}


def make_run(seed=0):
    """A trace with every stage the module shows, of sizes that do not matter."""
    rng = np.random.default_rng(seed)
    cells = np.array([(0, x, y, z) for x in range(5) for y in range(3) for z in range(2)])

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    visible = rng.random(POINTS) < 0.7
    seen = int(visible.sum())
    trace = {
        "image": rng.integers(0, 256, (1, 3, 28, 28)).astype(np.float32) / 255,
        "visible": visible,
        "row": rng.integers(0, 20, POINTS).astype(np.int32),
        "col": rng.integers(0, 20, POINTS).astype(np.int32),
        "coords": rng.permutation(cells)[:VOXELS].astype(np.int32),
        "bottleneck_coords": rng.permutation(cells * 16)[:COARSE].astype(np.int32),
        "bottleneck": normal(COARSE, 8),
        "enc_out": normal(VOXELS, 8),
        "pred_3d": normal(VOXELS, 8),
        "binary_logit": normal(VOXELS),
        "text_embed": normal(CLASSES, 8),
        "imp_condition": normal(1, 8),
        "cond_inputs": normal(1, 7, 8),
        "cond_emb": normal(1, 8),
        "latent": normal(1, 4, 8, 8),
        "noisy_latent": normal(1, 4, 8, 8),
        "pred_masks": normal(1, QUERIES, 20, 20) + 0.5,
        "mask_pooled_features": normal(1, QUERIES, 8),
        "mask_embed": normal(1, QUERIES, 8),
        "mask_embed_clip": normal(1, QUERIES, 8),
        "pred_logits": normal(QUERIES, CLASSES + 1),
        "kept": np.array([True, True, False, True]),
        "final": np.array([True, False, False, True]),
        "mask_score": np.array([0.5, 0.25, 0, 0.75], np.float32),
    }
    for stage in STAGES:
        if stage not in trace:
            trace[stage] = normal(1, 4, 34, 34)
    trace |= {f"label_{head}": rng.integers(0, CLASSES, seen) for head in HEADS}
    return trace


@pytest.fixture
def run():
    return make_run()


@pytest.fixture
def golden(run):
    return record_case(run)


def compare(run, golden, precisions=FP32, inputs=None):
    return compare_case(run, inputs or {}, golden, CLIP, precisions)


def failing(rows):
    return {row.stage for row in rows if not row.ok}


def test_a_run_equals_itself(run, golden):
    rows = compare(run, golden)
    assert failing(rows) == set()
    assert {row.value for row in rows} == {0.0, 1.0}
    assert set(STAGES) <= {row.stage for row in rows}
    assert list_uncompared(rows) == []


def test_order_of_voxels_does_not_matter(run, golden):
    order = np.random.default_rng(1).permutation(VOXELS)
    for name in ("coords", "enc_out", "pred_3d", "binary_logit"):
        run[name] = run[name][order]
    order = np.random.default_rng(2).permutation(COARSE)
    for name in ("bottleneck_coords", "bottleneck"):
        run[name] = run[name][order]
    assert failing(compare(run, golden)) == set()


@pytest.mark.parametrize("stage", STAGES)
def test_error_above_the_limit_fails_that_stage_alone(run, golden, stage):
    noise = np.random.default_rng(3).normal(size=run[stage].shape)
    limit = STAGES[stage].limit
    scale = np.linalg.norm(run[stage]) / np.linalg.norm(noise)
    exact = run[stage].astype(np.float64)
    run[stage] = exact + 0.3 * limit * scale * noise
    assert failing(compare(run, golden)) == set()
    run[stage] = exact + 3 * limit * scale * noise
    assert failing(compare(run, golden)) == {stage}


@pytest.mark.parametrize(
    ("name", "change", "stage"),
    [
        ("visible", lambda a: np.where(np.arange(POINTS) == 3, ~a, a), "projection"),
        ("row", lambda a: a + 1, "projection"),
        ("col", lambda a: a - 1, "projection"),
        ("coords", lambda a: a + np.eye(4, dtype=int)[1], "voxels"),
        ("coords", lambda a: a[:-1], "voxels"),
        ("bottleneck_coords", lambda a: a + np.eye(4, dtype=int)[3], "coarse voxels"),
        ("bottleneck_coords", lambda a: a[1:], "coarse voxels"),
        ("kept", np.logical_not, "kept masks"),
        ("final", np.logical_not, "final masks"),
        ("mask_score", lambda a: a * 1.02, "mask scores"),
        ("label_fused", lambda a: (a + 1) % CLASSES, "label_fused"),
        ("label_2d", lambda a: (a + 1) % CLASSES, "label_2d"),
        ("label_3d", lambda a: a[:-1], "label_3d"),
    ],
)
def test_other_differences_fail(run, golden, name, change, stage):
    run[name] = change(run[name])
    assert stage in failing(compare(run, golden))


@pytest.mark.parametrize("stage", ["latent", "pred_masks", "label_fused"])
def test_nan_fails(run, golden, stage):
    run[stage] = run[stage].astype(np.float32)
    run[stage].flat[0] = np.nan
    assert stage in failing(compare(run, golden))
    if stage == "latent":
        assert stage in failing(compare(run, golden, {"vae_encoder": Precision.BF16}))


def test_wrong_pixel_of_the_image_fails(run, golden):
    image = np.rint(run["image"][0].transpose(1, 2, 0) * 255).astype(np.uint8)
    rows = compare(run, golden, inputs={"image_512": image})
    assert rows[0] == Row("image", "pixels differ", 0, 0)
    image = image.copy()
    image[3, 4, 1] ^= 1
    assert compare(run, golden, inputs={"image_512": image})[0] == Row(
        "image", "pixels differ", 1, 0
    )


def test_pixels_of_invisible_points_do_not_count(run, golden):
    run["row"] = np.where(run["visible"], run["row"], 999)
    assert failing(compare(run, golden)) == set()


def test_one_changed_mask_is_noise_and_two_are_not(run, golden):
    run["kept"] = np.array([True, True, True, True])
    assert failing(compare(run, golden)) == set()
    run["kept"] = np.array([True, False, True, True])
    assert "kept masks" in failing(compare(run, golden))


def test_sign_flips_are_counted(run, golden):
    flat = run["pred_masks"] = run["pred_masks"].copy()
    smallest = np.argsort(np.abs(flat.ravel()))[:3]
    flat.ravel()[smallest] *= -1e-6
    flips = next(row for row in compare(run, golden) if row.metric == "sign flips")
    assert flips == Row("pred_masks", "sign flips", 3, 1)


def test_limit_of_sign_flips_at_full_size():
    run = make_run()
    run["pred_masks"] = np.ones((1, 50, 128, 128), np.float32)
    flips = [row for row in compare(run, record_case(run)) if row.metric == "sign flips"]
    assert [row.limit for row in flips] == [50]


def test_masks_move_the_limit_of_mask_clip_only_where_a_patch_flips(run):
    """One pixel opens a patch: a mask with two of them in it may lose one, not both."""
    masks = np.full((1, QUERIES, 28, 28), -1, np.float32)
    masks[0, :, 5, 5] = masks[0, :, 5, 7] = 1e-4
    run["pred_masks"] = masks
    golden = record_case(run)

    def limit_of(changed):
        rows = compare(run | {"pred_masks": changed}, golden)
        return next(row.limit for row in rows if row.stage == "mask_embed_clip")

    one, both = masks.copy(), masks.copy()
    one[0, 1, 5, 5] = -1e-4
    both[0, 1, 5, [5, 7]] = -1e-4
    assert limit_of(masks) == 2e-5
    assert limit_of(one) == 2e-5
    assert limit_of(both) == 5e-3


def test_borderline_patch_may_go_either_way(run):
    run["pred_masks"] = np.full((1, QUERIES, 28, 28), -1, np.float32)
    run["pred_masks"][0, 2, 20, 20] = -1e-9
    rows = compare(run, record_case(run))
    assert next(row.limit for row in rows if row.stage == "mask_embed_clip") == 5e-3


def test_half_precision_frees_what_comes_behind_it(run, golden):
    limits = {
        row.stage: row.limit
        for row in compare(run, golden, {"unet": Precision.BF16, "mask_head": Precision.FP32})
    }
    bounded = {"latent", "enc5", "dec2", "enc_out", "text_embed", "imp_condition", "binary_logit"}
    free = {"unet2", "unet11", "s5", "mask_features", "pred_masks", "mask_embed_clip"}
    assert all(limits[stage] == STAGES[stage].limit for stage in bounded)
    assert {limits[stage] for stage in free | {"kept masks", "mask scores"}} == {None}
    assert limits["voxels"] == limits["projection"] == 0
    assert [limits[f"label_{head}"] for head in HEADS] == [0.96, 0.93, 0.993]


@pytest.mark.parametrize(
    ("precision", "limits"),
    [
        (Precision.FP32, [0.9995, 0.9995, 0.9995]),
        (Precision.FP16, [0.992, 0.99, 0.992]),
        (Precision.BF16, [0.96, 0.93, 0.993]),
    ],
)
def test_label_limits_of_a_precision(run, golden, precision, limits):
    rows = compare(run, golden, {"vae_encoder": precision, "text_encoder": Precision.FP32})
    found = {row.stage: row.limit for row in rows}
    assert [found[f"label_{head}"] for head in HEADS] == limits


def test_lowest_precision():
    assert find_lowest({}) is Precision.FP32
    assert find_lowest({"a": Precision.FP16, "b": Precision.FP32}) is Precision.FP16
    assert find_lowest({"a": Precision.FP16, "b": Precision.BF16}) is Precision.BF16


def test_exactness_follows_the_order_of_the_components():
    clip = STAGES["mask_embed_clip"]
    assert is_exact(clip, {"text_encoder": Precision.BF16})
    for component in ("vae_encoder", "unet", "vae_decoder", "mask_head", "point_encoder"):
        assert not is_exact(clip, {component: Precision.FP16}), component


def test_stages_that_one_side_lacks_are_listed(run, golden):
    for name in ("sd_feat3_sub", "mask_embed"):
        del golden[name]
    del run["cond_emb"]
    rows = compare(run, golden)
    assert failing(rows) == set()
    assert set(list_uncompared(rows)) == {"unet5", "mask_embed", "cond_emb"}


@pytest.mark.parametrize("missing", ["mapping", "voxel_coords"])
def test_case_without_geometry_rejected(run, golden, missing):
    del golden[missing]
    with pytest.raises(ValueError, match=f"no '{missing}'"):
        compare(run, golden)


def test_other_cloud_rejected(run, golden):
    golden["mapping"] = golden["mapping"][:-1]
    with pytest.raises(ValueError, match="another cloud"):
        compare(run, golden)


def test_other_shape_rejected(run, golden):
    golden["mask_embed"] = golden["mask_embed"][:, :-1]
    with pytest.raises(ValueError, match=r"mask_embed has shape \[4, 8\] in the run and \[4, 7\]"):
        compare(run, golden)


def test_strides_may_be_left_out(run, golden):
    for name in ("ms0", "mask_features"):
        golden[f"{name}_sub"] = run[name][0, ::2, ::4, ::3]
        del golden[f"{name}_stride"]
    assert failing(compare(run, golden)) == set()


def test_relative_l2():
    got, want = np.array([3.0, 4.5], np.float32), np.array([3.0, 4.0], np.float32)
    assert relative_l2(got, want) == pytest.approx(0.1)
    assert relative_l2(np.zeros(2), np.zeros(2)) == 0
    assert math.isnan(relative_l2(np.array([np.nan]), np.ones(1)))
    with pytest.raises(ValueError, match="shapes differ"):
        relative_l2(np.zeros(2), np.zeros(3))


def test_agreement():
    row = agreement_row("x", np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0]), 0.75)
    assert (row.value, row.ok) == (0.75, True)
    assert not dataclasses.replace(row, limit=0.76).ok
    assert agreement_row("x", np.zeros(3), np.zeros(2), 0.1).value == 0
    assert agreement_row("x", np.zeros(0), np.zeros(0), 1.0).ok


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("at_least", [False, True])
@pytest.mark.parametrize("limit", [0.5, None])
def test_rows_are_strict_json_and_nan_never_passes(value, at_least, limit):
    row = Row("x", "relative L2", value, limit, at_least)
    assert not row.ok or (value == math.inf and at_least and limit is not None)
    text = json.dumps(row.to_dict(), allow_nan=False)
    assert json.loads(text)["limit"] == limit


VIEWS = ["0", "186"]


@pytest.fixture
def scene_run():
    rng = np.random.default_rng(5)
    views = []
    for _ in VIEWS:
        visible = rng.random(POINTS) < 0.6
        labels = {f"label_{head}": rng.integers(0, 3, visible.sum()) for head in HEADS}
        views.append({"visible": visible, **labels})
    return views, {f"scene_label_{head}": rng.integers(0, 3, POINTS) for head in HEADS}


def test_a_scene_equals_itself(scene_run):
    golden = record_scene(VIEWS, *scene_run)
    rows = compare_scene(golden, *scene_run, FP32)
    assert len(rows) == 2 * 4 + 3
    assert failing(rows) == set()


@pytest.mark.parametrize(
    ("array", "stage"),
    [
        ("visible_mask_1", "view 186"),
        ("label_2d_0", "view 0 2d"),
        ("label_3d_1", "view 186 3d"),
        ("scene_label_fused", "scene fused"),
    ],
)
def test_changed_scene_fails(scene_run, array, stage):
    golden = record_scene(VIEWS, *scene_run)
    golden[array] = golden[array].copy()
    golden[array][0] ^= 128 if array.startswith("visible") else 1
    assert failing(compare_scene(golden, *scene_run, FP32)) == {stage}


def test_scene_limits_follow_the_precision(scene_run):
    golden = record_scene(VIEWS, *scene_run)
    rows = compare_scene(golden, *scene_run, {"unet": Precision.FP16})
    assert [row.limit for row in rows if row.stage == "scene 2d"] == [0.99]
    assert [row.limit for row in rows if row.stage == "view 0"] == [0]


def test_scene_of_another_cloud_rejected(scene_run):
    golden = record_scene(VIEWS, *scene_run)
    golden["scene_label_fused"] = golden["scene_label_fused"][:-1]
    with pytest.raises(ValueError, match="different clouds"):
        compare_scene(golden, *scene_run, FP32)


@pytest.mark.parametrize("side", ["run", "reference"])
@pytest.mark.parametrize("stage", [*STAGES, "mask scores"])
def test_numbers_that_are_none_fail(run, golden, stage, side):
    """NaN is on no side of a limit, whichever of the two has it."""
    names = {"mask scores": "mask_score"}
    name = names.get(stage, stage)
    if side == "run":
        run[name] = run[name] * np.float32("nan")
    else:
        golden |= record_case(run | {name: run[name] * np.nan})
    assert stage in failing(compare(run, golden))
