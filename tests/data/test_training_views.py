"""Training samples from labelled scenes: views, visibility, labels of points and pixels."""

import dataclasses
import json
import logging
import os
import pickle
import shutil

import numpy as np
import pytest
from miniature import make_room, write_miniature

from xmask3d_rt.config import get_preset
from xmask3d_rt.data import view_index
from xmask3d_rt.data.collection import open_collection
from xmask3d_rt.data.labels import make_label_space
from xmask3d_rt.data.room import write_room
from xmask3d_rt.data.training_views import SceneViewDataset, splat_labels
from xmask3d_rt.data.view_index import ViewCount, ViewRule, index_views
from xmask3d_rt.training.batch import collate_samples

CONFIG = get_preset("tiny")


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("mini"), train=2, val=1)


@pytest.fixture(scope="module")
def dataset(released, tmp_path_factory):
    return SceneViewDataset(released, CONFIG, tmp_path_factory.mktemp("index"), loop=3)


def test_an_epoch_visits_every_scene_loop_times(dataset):
    assert len(dataset) == 6
    rng = np.random.default_rng
    scenes = [dataset.load(i, rng(i)).name.split("/")[0] for i in range(len(dataset))]
    assert scenes == ["scene0000_00", "scene0001_00"] * 3
    views = {dataset.load(0, rng(seed)).name for seed in range(12)}
    assert views == {"scene0000_00/0", "scene0000_00/1"}


def test_a_sample_is_what_its_generator_says(dataset):
    one, same, other = (dataset.load(1, np.random.default_rng([7, s])) for s in (0, 0, 1))
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(same, field.name))
    assert not np.array_equal(one.coords, other.coords)
    copy = pickle.loads(pickle.dumps(dataset))  # as a loader process gets it
    np.testing.assert_array_equal(copy.load(1, np.random.default_rng([7, 0])).coords, one.coords)


def test_labels_of_points_and_pixels_agree(dataset):
    sample = dataset.load_view(0, "1", None)
    rows, cols = CONFIG.view.mask_shape
    size = CONFIG.diffusion.image_size
    assert sample.image.shape == (size, size, 3)
    assert sample.label_2d.shape == (size, size)
    base = dataset.space.num_base
    assert base == len(CONFIG.split.base_names) == 54
    assert sample.labels_3d.max() == base
    assert sample.label_2d.max() == base
    in_image = sample.label_2d[sample.row * size // rows, sample.col * size // cols]
    labelled = sample.labels_3d < base
    # The depth tolerance lets points a little behind thin things through.
    assert (in_image[labelled] == sample.labels_3d[labelled]).mean() > 0.7
    assert set(np.unique(sample.binary_label)) <= {0, 1, 64, 65}
    np.testing.assert_array_equal(sample.labels_3d < base, sample.binary_label == 1)
    assert sample.caption == "view 1 of a room"
    assert len(sample.row) == len(sample.point_to_voxel) > 400
    assert sample.row.min() >= CONFIG.view.border


def test_samples_are_collated(dataset):
    samples = [dataset.load(i, np.random.default_rng(i)) for i in range(2)]
    batch = collate_samples(samples, (3, 4, 5))
    assert batch.images.shape == (2, 3, 256, 256)
    assert int(batch.point_to_voxel.max()) == len(batch.coords) - 1
    assert batch.coords[:, 1:].amin(0).tolist() == [3, 4, 5]


def test_own_scans_need_no_label_images(tmp_path):
    write_room(make_room(0), tmp_path / "room")
    with_images = SceneViewDataset(tmp_path, CONFIG, tmp_path / "index").load_view(0, "0", None)
    for file in (tmp_path / "room" / "label").iterdir():
        file.unlink()
    (tmp_path / "room" / "captions.json").unlink()
    without = SceneViewDataset(tmp_path, CONFIG, tmp_path / "index").load_view(0, "0", None)
    np.testing.assert_array_equal(without.labels_3d, with_images.labels_3d)
    # As above; and labels spread from points over the gaps between them.
    assert (without.label_2d == with_images.label_2d).mean() > 0.65
    assert " a living room" in with_images.caption
    assert without.caption == ""


def test_points_spread_over_a_few_pixels():
    image = splat_labels(np.array([5, 5]), np.array([2, 20]), np.array([1, 0]), (11, 30), 7)
    assert image[5, 2] == image[5, 5] == image[8, 2] == 1
    assert image[5, 20] == 0
    assert image[5, 6] == image[0, 2] == 7


@pytest.mark.parametrize(
    ("visible", "labelled", "training", "evaluation"),
    [
        (400, 11, False, True),
        (401, 11, True, True),
        (401, 10, False, True),
        (401, 9, False, False),
        (399, 50, False, False),
        (65_000, 50, False, True),
        (64_999, 50, True, True),
        (65_001, 50, False, False),
    ],
)
def test_bounds_of_a_view_are_strict_in_training_alone(visible, labelled, training, evaluation):
    view = dataclasses.replace(CONFIG.view, min_points=400)
    count = ViewCount("0", visible, labelled)
    assert ViewRule.for_training(view).allows(count) is training
    assert ViewRule.for_evaluation(view, 65_000).allows(count) is evaluation


def test_views_are_counted_once(released, tmp_path, monkeypatch, caplog):
    collection = open_collection(released, "train")
    classes = make_label_space_inputs(collection)
    options = (collection, *classes, CONFIG.view)
    everything = ViewRule(1, 10**9, 0, strict=True)
    seen = []
    index = index_views(*options, everything, tmp_path, lambda *done: seen.append(done))
    assert index == {"scene0000_00": ["0", "1"], "scene0001_00": ["0", "1"]}
    assert seen == [(0, 2), (1, 2), (2, 2)]
    monkeypatch.setattr(view_index, "count_views", None)  # would fail if called again
    counts = {f.name[:12]: f.read_text() for f in tmp_path.glob("*.json")}
    assert index_views(*options, everything, tmp_path) == index
    visible = [n for text in counts.values() for _, n, _ in json.loads(text)]
    most = dataclasses.replace(everything, least=sorted(visible)[-2])
    with caplog.at_level(logging.WARNING):
        index = index_views(*options, most, tmp_path)
    assert sum(map(len, index.values())) == 1
    assert "1 scenes have no usable view and are left out" in caplog.text
    with pytest.raises(
        ValueError,
        match=r"where 1,000,000 to .* are needed; check poses",
    ):
        index_views(*options, dataclasses.replace(everything, least=10**6), tmp_path)
    crowded = dataclasses.replace(everything, most=2)
    with pytest.raises(ValueError, match="where 1 to 2 and 0 are needed; thin the clouds out"):
        index_views(*options, crowded, tmp_path)


@pytest.mark.slow
def test_several_processes_count_the_same_views(released, tmp_path):
    collection = open_collection(released, "train")
    options = (collection, *make_label_space_inputs(collection), CONFIG.view)
    rule = ViewRule(1, 10**9, 0, strict=True)
    alone = index_views(*options, rule, tmp_path / "alone")
    assert index_views(*options, rule, tmp_path / "two", workers=2) == alone
    texts = [
        {path.name: path.read_text() for path in (tmp_path / name).glob("*.json")}
        for name in ("alone", "two")
    ]
    assert texts[0] == texts[1]
    rows = (tmp_path / "two" / "done.jsonl").read_text().splitlines()
    processes = {json.loads(row)["worker"].rpartition(":")[2] for row in rows}
    assert str(os.getpid()) not in processes


def test_a_scene_that_cannot_be_read_is_named(released, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(released, data)
    collection = open_collection(data, "train")
    options = (collection, *make_label_space_inputs(collection), CONFIG.view)
    collection.scenes[1].cloud_file.write_bytes(b"none")
    with pytest.raises(ValueError, match=r"scene scene0001_00 of .* cannot be used: ValueError"):
        index_views(*options, ViewRule(1, 10**9, 0, strict=True), tmp_path / "index")


def make_label_space_inputs(collection):
    from xmask3d_rt.classes import parse_classes

    classes = parse_classes("b15n4")
    source = collection.pick_source(classes)
    return make_label_space(classes, CONFIG.split, source), source
