"""Results: what they count and what they write."""

import json

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.result import Result
from xmask3d_rt.scene import PointCloud

XYZ = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
RGB = np.arange(15, dtype=np.uint8).reshape(5, 3)


@pytest.fixture
def result():
    return make_result()


def make_result(**change):
    labels = np.array([2, 0, 0, 2, 0], np.int32)
    fields = {
        "cloud": PointCloud(XYZ, RGB),
        "classes": parse_classes(["wall", ["chair", "seat"], "lämp"]),
        "labels": labels,
        "scores": np.array([0.25, 1, 0.5, 0.75, 0]),
        "heads": {"fused": labels, "2d": 0 * labels, "3d": labels},
        "coverage": np.array([0, 1, 2, 3, 0]),
        "timings": {"project": 0.25},
        "views": ("0", "186"),
    }
    return Result(**(fields | change))


def test_fields_have_their_dtypes(result):
    assert result.labels.dtype == np.int64
    assert result.scores.dtype == np.float32
    assert result.coverage.dtype == np.int32
    assert result.heads["2d"].dtype == np.int64
    assert len(result) == 5
    assert result.classes[result.labels[0]] == "lämp"
    np.testing.assert_array_equal(result.point_colors[0], result.colors[2])
    assert result.counts.tolist() == [3, 0, 2]


def test_summary(result):
    summary = result.summarize()
    assert summary["points"] == 5
    assert summary["seen_share"] == 0.6
    assert [row["points"] for row in summary["classes"]] == [3, 0, 2]
    assert [row["mean_score"] for row in summary["classes"]] == [0.5, None, 0.5]
    assert summary["classes"][1]["names"] == ["chair", "seat"]


def test_json(result, tmp_path):
    path = result.save(tmp_path / "new/folder/out.json")
    assert json.loads(path.read_text()) == result.summarize()
    assert "lämp" in path.read_text()


def test_npz(result, tmp_path):
    with np.load(result.save(str(tmp_path / "out.npz")), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["labels"], result.labels)
        np.testing.assert_array_equal(arrays["head_2d"], result.heads["2d"])
        np.testing.assert_array_equal(arrays["rgb"], RGB)
        assert arrays["class_names"].tolist() == ["wall", "chair;seat", "lämp"]
    cloud = PointCloud.load(result.save(tmp_path / "again.NPZ"))
    np.testing.assert_array_equal(cloud.xyz, XYZ)


def test_ply(result, tmp_path):
    vertex = PlyData.read(str(result.save(tmp_path / "out.PLY")))["vertex"]
    np.testing.assert_array_equal(vertex["label"], result.labels)
    np.testing.assert_array_equal(vertex["score"], result.scores)
    np.testing.assert_array_equal(vertex["orig_blue"], RGB[:, 2])
    np.testing.assert_array_equal(vertex["red"], result.point_colors[:, 0])


def test_png_shows_the_classes_and_names_them(tmp_path):
    floor = np.stack(np.meshgrid(np.arange(40), np.arange(30), [0]), axis=-1).reshape(-1, 3) / 10
    labels = np.where(floor[:, 0] < 2, 0, 1)
    result = make_result(
        cloud=PointCloud(floor),
        classes=parse_classes("wall,floor,lamp"),
        labels=labels,
        scores=np.ones(len(floor)),
        heads={"3d": labels},
        coverage=np.zeros(len(floor)),
    )
    picture = np.asarray(Image.open(result.save(tmp_path / "out.PNG")))
    assert picture.ndim == 3
    assert picture.dtype == np.uint8
    legend = picture[:, 1200:].reshape(-1, 3).tolist()
    shown = picture[:, :1200].reshape(-1, 3).astype(int)
    for color in result.colors[:2]:
        assert color.tolist() in legend
        assert (np.abs(shown - color).max(axis=1) < 8).sum() > 10_000
    assert result.colors[2].tolist() not in legend


def test_png_of_many_classes_names_the_most_frequent(tmp_path):
    points = np.random.default_rng(1).uniform(0, 4, (6000, 3))
    labels = np.minimum(np.arange(6000) // 25, 199)
    result = make_result(
        cloud=PointCloud(points),
        classes=parse_classes("scannet200"),
        labels=labels,
        scores=np.ones(6000),
        heads={},
        coverage=np.zeros(6000),
    )
    picture = Image.open(result.save(tmp_path / "out.png"))
    assert 1200 < picture.width < 2000


def test_unknown_suffix_rejected(result, tmp_path):
    with pytest.raises(
        ValueError, match=r"cannot write a result to 'out\.las'; use one of .* \.ply"
    ):
        result.save(tmp_path / "out.las")
    (tmp_path / "d.ply").mkdir()
    with pytest.raises(ValueError, match="it is a folder"):
        result.save(tmp_path / "d.ply")
    assert [path.name for path in tmp_path.iterdir()] == ["d.ply"]


def test_failed_write_leaves_the_old_file(result, tmp_path, monkeypatch):
    (tmp_path / "out.json").write_text("old")

    def fail(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Result, "summarize", fail)
    with pytest.raises(KeyboardInterrupt):
        result.save(tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_lengths_that_disagree_rejected():
    with pytest.raises(ValueError, match=r"scores must have shape \[5\] like the points, got \[4"):
        make_result(scores=np.zeros(4))
    with pytest.raises(ValueError, match=r"heads\['2d'\] must have shape"):
        make_result(heads={"2d": np.zeros((5, 1))})
