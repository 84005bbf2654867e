"""The user's entry point on tiny engines: results, determinism, inputs and errors."""

import dataclasses
import json
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from xmask3d_rt import EngineError, PointCloud, Segmenter, View
from xmask3d_rt.data.room import generate_room, write_room
from xmask3d_rt.scene.rgbd import read_rgbd

CLASSES = ["wall", "floor", ["sofa", "couch"], "potted plant"]


@pytest.fixture(scope="module")
def segmenter(tiny_engines):
    return Segmenter(tiny_engines, device="cpu", threads=1)


@pytest.fixture(scope="module")
def room():
    return generate_room(seed=3, views=3, image_size=(120, 160), point_spacing=0.08)


@pytest.fixture(scope="module")
def cloud(room):
    return PointCloud(room.points, room.rgb)


@pytest.fixture(scope="module")
def result(segmenter, room, cloud):
    return segmenter.run(cloud, CLASSES, room.views)


def test_every_point_gets_a_label(result, cloud):
    assert len(result) == len(cloud)
    assert result.labels.dtype == np.int64
    assert set(np.unique(result.labels)) <= set(range(len(CLASSES)))
    assert result.scores.min() >= 0
    assert result.scores.max() <= 1
    assert set(result.heads) == {"fused", "2d", "3d"}
    np.testing.assert_array_equal(result.heads["fused"], result.labels)
    assert result.mode == "views"
    assert len(result.views) == 3
    assert 0 < (result.coverage > 0).mean() <= 1
    assert result.coverage.max() <= 3
    assert all(seconds > 0 for seconds in result.timings.values())


def test_unseen_points_copy_the_nearest_seen_one(result, cloud):
    unseen = np.flatnonzero(result.coverage == 0)[:20]
    seen = np.flatnonzero(result.coverage > 0)
    for point in unseen:
        distance = np.linalg.norm(
            cloud.xyz[seen].astype(np.float64) - cloud.xyz[point].astype(np.float64), axis=1
        )
        nearest = seen[np.argmin(distance)]
        assert result.labels[point] == result.labels[nearest]
        assert result.scores[point] == result.scores[nearest]


def test_same_input_same_labels(segmenter, room, cloud, result):
    again = segmenter.run(cloud, CLASSES, room.views)
    np.testing.assert_array_equal(again.labels, result.labels)
    np.testing.assert_array_equal(again.scores, result.scores)


def test_arrays_tensors_and_folders_agree(segmenter, room, cloud, result, tmp_path):
    array = np.concatenate([cloud.xyz, cloud.rgb.astype(np.float32)], axis=1)
    for points in (array, torch.from_numpy(array)):
        got = segmenter.run(points, CLASSES, room.views)
        np.testing.assert_array_equal(got.labels, result.labels)
    folder = write_room(room, tmp_path / "room")
    got = segmenter.run(folder / "scene.ply", CLASSES, views=folder)
    # Colours pass through JPEG, so labels may move a little.
    assert (got.labels == result.labels).mean() > 0.8


def test_frames_left_out_are_noted(segmenter, room, cloud, tmp_path):
    folder = write_room(room, tmp_path / "room")
    (folder / "pose/1.txt").write_text("")
    got = segmenter.run(cloud, CLASSES, views=folder)
    assert got.views == ("0", "2")
    assert f"{folder}: left out 1 of 3 frames: 1 with empty pose file (1)" in got.notes


def test_damaged_frames_of_a_folder_are_left_out(segmenter, room, cloud, tmp_path):
    write_room(room, tmp_path / "scan")
    color, depth = tmp_path / "scan/color/0.jpg", tmp_path / "scan/depth/1.png"
    color.write_bytes(color.read_bytes()[:2000])
    depth.write_bytes(depth.read_bytes()[:500])
    done = []
    result = segmenter.run(
        cloud, CLASSES, views=tmp_path / "scan", progress=lambda *counts: done.append(counts)
    )
    rest = read_rgbd(tmp_path / "scan").views[2:]
    assert result.views == tuple(view.name for view in rest)
    assert done[-1] == (len(rest), len(rest))
    np.testing.assert_array_equal(result.labels, segmenter.run(cloud, CLASSES, views=rest).labels)
    said = f"left out 2 of {len(rest) + 2} views that cannot be read (0, 1; the first: "
    assert [note for note in result.notes if note.startswith(f"{said}{color} cannot be read")]


def test_a_folder_of_damaged_frames_alone_rejected(segmenter, room, cloud, tmp_path):
    write_room(room, tmp_path / "scan")
    for color in (tmp_path / "scan/color").iterdir():
        color.write_bytes(color.read_bytes()[:2000])
    with pytest.raises(
        ValueError, match=r"run: left out .* views that cannot be read \(0, .*0\.jpg"
    ):
        segmenter.run(cloud, CLASSES, views=tmp_path / "scan")
    given = View(tmp_path / "scan/color/0.jpg", None, room.views[0].intrinsics, np.eye(4))
    with pytest.raises(ValueError, match=r"0\.jpg cannot be read as an image"):
        segmenter.run(cloud, CLASSES, views=[given])


def test_trained_classes_alone_are_not_gated(segmenter, room, cloud):
    got = segmenter.run(cloud, ["wall", "floor"], room.views)
    assert set(np.unique(got.labels)) <= {0, 1}


def test_synonyms_do_not_add_classes(segmenter, cloud):
    got = segmenter.run(cloud, [["wall", "partition"], "floor"], views="none")
    assert len(got.classes) == 2


def test_without_views_the_3d_head_labels(segmenter, cloud):
    got = segmenter.run(cloud, CLASSES, views="none")
    assert got.mode == "3d"
    assert set(got.heads) == {"3d"}
    assert "3D head" in got.notes[0]
    np.testing.assert_array_equal(got.heads["3d"], got.labels)
    assert (got.coverage == 0).all()


@pytest.mark.parametrize("views", ["none", None])
def test_what_was_done_on_reading_is_noted(segmenter, cloud, views):
    read = dataclasses.replace(cloud, notes=("3 of 9 points are NaN or infinite: left out",))
    got = segmenter.run(read, CLASSES, views, virtual_views=2, up=(0, 0, 1))
    assert read.notes[0] in got.notes
    assert len(got.notes) > 1


def test_a_cloud_alone_gets_rendered_views(segmenter, cloud):
    got = segmenter.run(cloud, CLASSES, virtual_views=2, up=(0, 0, 1))
    assert got.mode == "virtual"
    assert len(got.views) == 2
    assert "2 were rendered" in got.notes[0]
    assert (got.coverage > 0).mean() > 0.2
    assert set(got.heads) == {"fused", "2d", "3d"}


def test_many_scenes_come_in_order(segmenter, room, cloud, result):
    half = PointCloud(cloud.xyz[::2], cloud.rgb[::2])
    scenes = ((points, views) for points, views in [(half, "none"), (cloud, room.views)])
    first, second = segmenter.run_many(scenes, CLASSES)
    assert len(first) == len(half)
    np.testing.assert_array_equal(second.labels, result.labels)
    bad = segmenter.run_many([(cloud, "none"), (np.zeros((2, 5)), "none")], CLASSES)
    assert len(next(bad)) == len(cloud)
    with pytest.raises(ValueError, match=r"got \[2, 5\]"):
        next(bad)


def test_many_clouds_may_come_without_views(segmenter, room, cloud):
    small = PointCloud(cloud.xyz[::4], cloud.rgb[::4])
    rows = np.concatenate([small.xyz, small.rgb.astype(np.float32)], axis=1)
    scenes = [small, rows, (small, "none"), [small, room.views[:1]], rows[:2].tolist()]
    options = {"virtual_views": 1, "up": (0, 0, 1)}
    runs = segmenter.run_many(scenes, CLASSES, **options)
    assert [next(runs).mode for _ in scenes[:4]] == ["virtual", "virtual", "3d", "views"]
    with pytest.raises(ValueError, match="no view sees"):  # two points, not a pair
        next(runs)


def test_repr_names_engines_and_device(segmenter):
    root = str(segmenter.manifest.root)
    assert repr(segmenter) == f"Segmenter({root!r}, model tiny, device cpu)"


def test_notes_say_that_the_weights_are_synthetic(segmenter, cloud, result):
    alone = segmenter.run(cloud, CLASSES, views="none")
    for found in (result, alone):
        assert (
            "are synthetic (made by a rule, not trained): the labels mean nothing"
            in (found.notes[-1])
        )
        assert str(segmenter.manifest.root) in found.notes[-1]


def test_other_takes_what_fits_no_class(segmenter, room, cloud):
    alone = segmenter.run(cloud, ["sofa"], room.views[:1])
    assert (alone.scores == 1).all()
    assert any("'sofa' is the only class, so every point has it" in note for note in alone.notes)
    found = segmenter.run(cloud, ["sofa"], room.views[:1], other=True)
    assert found.classes.titles == ["sofa", "other"]
    assert (found.labels == 1).any()
    assert not any("only class" in note for note in found.notes)
    assert any("class 'other' is whatever the names object, things" in n for n in found.notes)
    assert len({tuple(color) for color in found.colors.tolist()}) == 2


@pytest.mark.parametrize("views", [True, False])
def test_other_is_open_to_base_and_novel_points(segmenter, room, cloud, views):
    given = room.views[:1] if views else "none"
    gated = segmenter.run(cloud, ["sofa", "potted plant"], given)
    found = segmenter.run(cloud, ["sofa", "potted plant"], given, other="rest")
    assert found.classes.titles == ["sofa", "potted plant", "rest"]
    # A point keeps its class or loses it to the rest; the gate between the two stays.
    moved = found.heads["3d"] != gated.heads["3d"]
    assert set(np.unique(found.heads["3d"][moved])) <= {2}
    for head in found.heads.values():
        assert head.max() <= 2


def test_uncertain_points_leave_their_class(segmenter, room, cloud, result):
    least = float(np.median(result.scores))
    found = segmenter.run(cloud, CLASSES, room.views, min_score=least)
    np.testing.assert_array_equal(found.scores, result.scores)
    uncertain = result.scores < np.float32(least)
    np.testing.assert_array_equal(found.labels, np.where(uncertain, 4, result.labels))
    np.testing.assert_array_equal(found.heads["fused"], found.labels)
    assert found.classes.titles[4] == "other"
    assert f"{uncertain.sum():,} points score below" in found.notes[-1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"other": "Couch"}, ValueError, "other='Couch' is a name of class 2 already"),
        ({"other": " "}, ValueError, "other is blank"),
        ({"other": 3}, TypeError, "other must be True, False or a name, got 3"),
        ({"min_score": 1.5}, ValueError, r"min_score must lie in 0..1, got 1.5"),
        ({"min_score": float("nan")}, ValueError, "min_score must lie in 0..1, got nan"),
        ({"min_score": "high"}, ValueError, "min_score must lie in 0..1, got 'high'"),
    ],
)
def test_bad_other_rejected(segmenter, cloud, options, error, message):
    with pytest.raises(error, match=message):
        segmenter.run(cloud, CLASSES, views="none", **options)


@pytest.mark.parametrize("callback", ["progress", "observe"])
def test_a_run_inside_its_own_callback_rejected(segmenter, room, cloud, callback):
    def again(*_):
        segmenter.run(cloud, CLASSES, "none")

    with pytest.raises(EngineError, match="called from the progress or observe of a run"):
        segmenter.run(cloud, CLASSES, room.views[:1], **{callback: again})
    with pytest.raises(EngineError, match="called from the progress"):
        segmenter.run(
            cloud,
            CLASSES,
            room.views[:1],
            **{callback: lambda *_: segmenter.trace_view(cloud, CLASSES, room.views[0])},
        )
    assert len(segmenter.run(cloud, CLASSES, "none")) == len(cloud)  # the turn is over


def test_concurrent_calls_give_the_labels_of_serial_ones(segmenter, room, cloud, result):
    alone = segmenter.run(cloud, ["wall", "lamp"], views="none")
    with ThreadPoolExecutor(3) as pool:
        full = [pool.submit(segmenter.run, cloud, CLASSES, room.views) for _ in range(2)]
        other = pool.submit(segmenter.run, cloud, ["wall", "lamp"], views="none")
    for future in full:
        np.testing.assert_array_equal(future.result().labels, result.labels)
    np.testing.assert_array_equal(other.result().labels, alone.labels)


def test_progress_and_observer_see_every_view(segmenter, room, cloud):
    steps, seen = [], []
    segmenter.run(
        cloud,
        CLASSES,
        room.views,
        progress=lambda done, total: steps.append((done, total)),
        observe=lambda name, projected, labels: seen.append((name, len(labels.fused))),
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert len(seen) == 3
    assert all(count > 0 for _, count in seen)


def test_blind_views_are_skipped_with_a_note(segmenter, room, cloud, caplog):
    away = np.array(room.views[0].camera_to_world)
    away[:3, 3] += 1000
    blind = dataclasses.replace(room.views[0], camera_to_world=away, name="lost")
    with caplog.at_level(logging.WARNING):
        got = segmenter.run(cloud, CLASSES, [*room.views, blind])
    assert "lost" not in got.views
    assert "'lost' (0)" in got.notes[0]
    assert "lost" in caplog.text
    with pytest.raises(ValueError, match="no view sees 100 points or more"):
        segmenter.run(cloud, CLASSES, [blind])


def test_saved_result_holds_the_labels(result, tmp_path):
    path = result.save(tmp_path / "out.json")
    rows = json.loads(path.read_text())["classes"]
    assert [row["points"] for row in rows] == np.bincount(result.labels, minlength=4).tolist()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((10, 4)), r"\[N, 3\] or \[N, 6\], got \[10, 4\]"),
        (np.zeros((0, 6)), "empty"),
        (np.zeros((10, 3)), "no colours"),
        (np.full((10, 6), np.nan), "NaN"),
    ],
)
def test_bad_points_rejected(segmenter, points, message):
    with pytest.raises(ValueError, match=message):
        segmenter.run(points, CLASSES)


def test_bad_classes_rejected(segmenter, cloud):
    with pytest.raises(ValueError, match="no classes"):
        segmenter.run(cloud, [])
    with pytest.raises(ValueError, match="duplicate"):
        segmenter.run(cloud, ["wall", "Wall"])


def test_bad_views_rejected(segmenter, room, cloud):
    with pytest.raises(ValueError, match="views is empty"):
        segmenter.run(cloud, CLASSES, views=[])
    with pytest.raises(TypeError, match="must be View objects"):
        segmenter.run(cloud, CLASSES, views=[room.views[0].read_image()])
    with pytest.raises(FileNotFoundError, match="no RGB-D folder"):
        segmenter.run(cloud, CLASSES, views="nowhere")
    first = room.views[0]
    with pytest.raises(ValueError, match="singular"):
        View(first.image, first.depth, first.intrinsics, np.zeros((4, 4)))


def test_missing_engines_rejected(tmp_path):
    with pytest.raises(EngineError, match=r"has no manifest\.json; build engines"):
        Segmenter(tmp_path)


def test_class_lists_are_prepared_once(segmenter, room, cloud, monkeypatch):
    prepared = []
    make = segmenter._pipeline.make_target

    def record(text_embed, text_class, is_base):
        prepared.append(len(text_embed))
        return make(text_embed, text_class, is_base)

    monkeypatch.setattr(segmenter._pipeline, "make_target", record)
    monkeypatch.setattr(segmenter, "_known", {})
    noted = []

    def note(classes):
        noted.append(len(classes.flat_names))
        return ("a note",)

    monkeypatch.setattr(segmenter, "_describe_names", note)
    monkeypatch.setattr("xmask3d_rt.segmenter.KEPT_LISTS", 2)
    joined, apart = [["wall", "floor"], "sofa"], ["wall", ["floor", "sofa"]]
    for classes in (joined, apart, joined, ["sofa", "bed", "lamp", "tv"], apart):
        found = segmenter.run(cloud, classes, room.views[:1])
        assert found.labels.max() < len(classes)
        assert "a note" in found.notes
    assert prepared == [3, 3, 4, 3]  # same names, other classes; the list unused longest went
    assert noted == prepared
