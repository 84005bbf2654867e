"""`xmask3d rooms`: what it writes and what it refuses."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.cli import commands as cli
from xmask3d_rt.config import get_preset
from xmask3d_rt.data.labels import make_label_space
from xmask3d_rt.data.room import generate_room
from xmask3d_rt.data.rooms.kinds import KINDS
from xmask3d_rt.data.rooms.preview import draw_room
from xmask3d_rt.data.scene_folders import open_scene_folders
from xmask3d_rt.data.view_index import ViewRule, count_views


def run(*args):
    return CliRunner().invoke(cli.app, ["rooms", *map(str, args)])


def test_made_rooms_are_scene_folders(tmp_path):
    options = ("make", "--seed", 7, "--count", 2, "--views", 2, "--out", tmp_path, "--workers", 1)
    outcome = run(*options)
    assert outcome.exit_code == 0, outcome.output
    assert "2 rooms with 2 views each" in outcome.output
    collection = open_scene_folders(tmp_path, "train")
    scenes = collection.scenes
    assert [scene.name for scene in scenes] == ["room00007", "room00008"]
    cloud, labels = scenes[0].read_cloud(), scenes[0].read_labels("own")
    assert len(cloud) == len(labels) > 50_000
    config = get_preset("tiny")
    space = make_label_space(parse_classes(list(KINDS)), config.split, collection.own_source)
    counts = count_views(scenes[0], cloud, space.read_points(labels), space, config.view)
    rule = ViewRule.for_training(config.view)
    assert all(rule.allows(count) for count in counts), counts
    assert {"wall", "floor", "door"} <= {KINDS[k] for k in np.unique(labels)}
    views = scenes[0].list_views()
    assert len(views) == 2
    assert set(scenes[0].read_captions()) == {"0", "1"}
    assert (views[0].read_depth() == 0).any()  # noise leaves holes
    assert np.asarray(Image.open(scenes[0].root / "instance" / "0.png")).dtype == np.uint16
    written = scenes[0].cloud_file.stat().st_mtime_ns
    assert run(*options).exit_code == 0
    assert scenes[0].cloud_file.stat().st_mtime_ns == written


def test_preview_draws_views_and_labels(tmp_path):
    outcome = run("preview", "--seed", 7, "--views", 3, "--out", tmp_path / "room.png")
    assert outcome.exit_code == 0, outcome.output
    picture = np.asarray(Image.open(tmp_path / "room.png"))
    assert picture.shape[1] >= 4 * 320
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize("command", ["make", "preview"])
def test_an_output_of_the_wrong_kind_is_named(tmp_path, command):
    target = tmp_path / "a.png"
    target.write_text("") if command == "make" else target.mkdir()
    outcome = run(command, "--out", target)
    assert outcome.exit_code == 2
    assert "a.png: it is a f" in outcome.output.replace("\n", "")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("make", "--label-set", "nyu40"), "unknown label set 'nyu40'"),
        (("make", "--count", "0"), "count"),
        (("make", "--count", "9999999999999"), "less than or equal to 1000000"),
        (("make", "--views", "99999999999"), "less than or equal to 10000"),
        (("make", "--noise", "inf"), "noise"),
        (("preview", "--noise", "1e300"), "noise"),
        (("preview",), "must end in .png"),
    ],
)
def test_bad_options_rejected(tmp_path, options, message):
    outcome = run(*options, "--out", tmp_path / "rooms")
    assert outcome.exit_code == 2
    assert message in outcome.output
    assert not (tmp_path / "rooms").exists()


def test_room_without_views_rejected():
    room = generate_room(0, 0, point_spacing=0.2)
    with pytest.raises(ValueError, match="the room has no views"):
        draw_room(room, 0)
