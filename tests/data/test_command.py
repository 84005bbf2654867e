"""`xmask3d data`: what its commands print and where they end."""

import json

import pytest
from miniature import write_miniature
from typer.testing import CliRunner

from xmask3d_rt.cli import commands as cli


def run(*args):
    return CliRunner().invoke(cli.app, ["data", *map(str, args)])


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("mini"), train=1, val=1, views=1)


def test_check_and_convert(released, tmp_path):
    outcome = run("check", released, "--full")
    assert outcome.exit_code == 0, outcome.output
    assert "processed ScanNet as released" in outcome.output
    outcome = run("convert", released, "--out", tmp_path / "out")
    assert "2 scenes converted, 0 were there" in outcome.output
    assert (
        "0 scenes converted, 2 were there"
        in run("convert", released, "--out", tmp_path / "out").output
    )
    outcome = run("check", tmp_path / "out", "--json")
    assert json.loads(outcome.output)["layout"] == "folder of scene folders"
    (released / "scannet_3d" / "val" / "scene0001_00_vh_clean_2.pth").rename(tmp_path / "away")
    outcome = run("check", released)
    assert outcome.exit_code == 1
    assert "not complete" in outcome.output
    (tmp_path / "away").rename(released / "scannet_3d" / "val" / "scene0001_00_vh_clean_2.pth")


def test_wrong_folders_end_with_one_line(tmp_path):
    outcome = run("check", tmp_path / "none")
    assert outcome.exit_code == 2
    assert "no data folder" in outcome.output
    outcome = run("convert", tmp_path, "--out", tmp_path / "out")
    assert outcome.exit_code == 2
    assert "no scene of processed ScanNet" in outcome.output


def test_no_room_rejected(tmp_path):
    outcome = run("rooms", "--out", tmp_path / "rooms", "--train", 0, "--val", 0)
    assert outcome.exit_code == 2
    assert "--train 0 --val 0 makes no room" in outcome.output
    assert not (tmp_path / "rooms").exists()


@pytest.mark.slow
def test_rooms_are_generated_and_continued(tmp_path):
    options = ("rooms", "--out", tmp_path, "--train", 1, "--val", 1, "--views", 1)
    outcome = run(*options)
    assert outcome.exit_code == 0, outcome.output
    assert run("check", tmp_path).exit_code == 0
    before = (tmp_path / "train/room00000/scene.ply").stat().st_mtime_ns
    (tmp_path / "val/room00001/scene.ply").unlink()
    assert run(*options).exit_code == 0
    assert (tmp_path / "train/room00000/scene.ply").stat().st_mtime_ns == before
    assert (tmp_path / "val/room00001/scene.ply").is_file()
