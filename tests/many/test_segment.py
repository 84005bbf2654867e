"""Labelling many scenes: the list, the files, restart, and errors of single scenes."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
from plyfile import PlyData
from typer.testing import CliRunner

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.cli import commands as cli
from xmask3d_rt.data.room import generate_room, write_room
from xmask3d_rt.many.jobs import LOG_FILE, JobLog, run_jobs
from xmask3d_rt.many.segment import SceneFiles, SegmentScenes, read_scene_list
from xmask3d_rt.many.slots import open_slots
from xmask3d_rt.many.sources import EngineSource
from xmask3d_rt.many.workers import Resources
from xmask3d_rt.segmenter import Segmenter

CLASSES = "wall,floor,chair"


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms")
    for seed in range(3):
        room = generate_room(seed, views=1, image_size=(120, 160), point_spacing=0.08)
        write_room(room, root / f"room{seed}")
    return root


def run(*args):
    return CliRunner().invoke(cli.app, ["segment-many", *map(str, args)])


def test_a_folder_and_a_list_name_the_same_scenes(rooms, tmp_path):
    listed = read_scene_list(rooms)
    assert [scene.name for scene in listed] == ["room0", "room1", "room2"]
    assert listed[1] == SceneFiles("room1", rooms / "room1" / "scene.ply", rooms / "room1")
    lines = tmp_path / "scenes.txt"
    (tmp_path / "my clouds").symlink_to(rooms)
    lines.write_text(
        f"# mine\n'my clouds/room0'\n\n{rooms}/room1/scene.ply {rooms}/room1  # with its views\n"
    )
    first, second = read_scene_list(lines)
    assert (first.name, first.rgbd) == ("room0", tmp_path / "my clouds" / "room0")
    assert (second.name, second.rgbd) == ("scene", rooms / "room1")
    clouds = tmp_path / "clouds"
    clouds.mkdir()
    np.save(clouds / "b.npy", np.zeros((1, 6)))
    (clouds / "notes.md").write_text("")
    for encoding in ("utf-8-sig", "utf-16"):
        lines.write_text("clouds/b.npy\n", encoding=encoding)
        assert read_scene_list(lines) == [SceneFiles("b", clouds / "b.npy")]
    (clouds / "c.csv").write_text("0,0,0\n")
    assert [scene.name for scene in read_scene_list(clouds)] == ["b", "c"]
    (clouds / "c.csv").unlink()
    assert read_scene_list(clouds) == [SceneFiles("b", clouds / "b.npy")]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValueError, "names no scene"),
        ("absent.ply", FileNotFoundError, "line 1: no "),
        ("a.npy b.npy c.npy", ValueError, "at most one RGB-D folder, got 3 words"),
        ("empty", ValueError, "is a folder without scene.ply"),
        ("a.npy\nother/a.npy", ValueError, "are both called 'a'"),
        ("'a.npy", ValueError, "No closing quotation"),
    ],
)
def test_bad_lists_rejected(tmp_path, text, error, message):
    for name in ("a.npy", "b.npy", "c.npy", "other/a.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, np.zeros((1, 6)))
    (tmp_path / "empty").mkdir()
    lines = tmp_path / "scenes.txt"
    lines.write_text(text)
    with pytest.raises(error, match=message):
        read_scene_list(lines)
    with pytest.raises(FileNotFoundError, match="no scene list"):
        read_scene_list(tmp_path / "nothing.txt")


def test_results_equal_single_runs_and_are_made_once(rooms, tiny_engines, tmp_path):
    options = (rooms, "--out", tmp_path, "--classes", CLASSES, "--engine-dir", tiny_engines)
    outcome = run(*options, "--suffix", ".ply", "--suffix", ".json", "--threads", 1)
    assert outcome.exit_code == 0, outcome.output
    assert "3 of 3 scenes labelled" in outcome.output
    segmenter = Segmenter(tiny_engines, device="cpu", threads=1)
    for seed in range(3):
        folder = rooms / f"room{seed}"
        alone = segmenter.run(folder / "scene.ply", CLASSES, folder)
        vertex = PlyData.read(str(tmp_path / f"room{seed}.ply"))["vertex"].data
        np.testing.assert_array_equal(vertex["label"], alone.labels)
    records = [json.loads(x) for x in (tmp_path / "done.jsonl").read_text().splitlines()]
    assert records[0]["views"] == 1
    (tmp_path / "room1.json").unlink()
    before = (tmp_path / "room0.ply").stat().st_mtime_ns
    assert run(*options, "--suffix", ".ply", "--suffix", ".json", "--threads", 1).exit_code == 0
    assert (tmp_path / "room1.json").is_file()
    assert (tmp_path / "room0.ply").stat().st_mtime_ns == before


def test_a_damaged_scene_fails_alone(rooms, tiny_engines, tmp_path):
    lines = tmp_path / "scenes.txt"
    (tmp_path / "bad.ply").write_text("ply\n")
    lines.write_text(f"bad.ply\n{rooms}/room0\n")
    out = tmp_path / "out"
    options = ("--classes", CLASSES, "--engine-dir", tiny_engines, "--threads", 1)
    outcome = run(lines, "--out", out, *options, "--attempts", 1)
    assert outcome.exit_code == 1
    assert "1 of 2 scenes labelled" in outcome.output
    assert "failed: bad: ValueError" in outcome.output
    assert (out / "room0.ply").is_file()


def test_bad_options_end_with_one_line(rooms, tiny_engines, tmp_path):
    options = (rooms, "--out", tmp_path / "out", "--classes", CLASSES)
    outcome = run(*options, "--engine-dir", tmp_path / "none")
    assert outcome.exit_code == 2
    assert "has no manifest.json" in outcome.output
    outcome = run(*options, "--engine-dir", tiny_engines, "--suffix", ".doc")
    assert outcome.exit_code == 2
    assert "cannot write a result to '.doc'" in outcome.output
    for option, value, message in (
        ("--suffix", "x/.ply", "cannot write a result to 'x/.ply'"),
        ("--workers", 10**9, "workers must lie in 1.."),
        ("--threads", 10**9, "threads must lie in 1.."),
        ("--device", "tpu", "unknown device 'tpu'"),
        ("--device", "cuda:99", "device cuda:99 asked for"),
    ):
        outcome = run(*options, "--engine-dir", tiny_engines, option, value)
        assert outcome.exit_code == 2
        assert outcome.output.startswith("error: ")
        assert message in outcome.output
    assert not list((tmp_path / "out").glob("*.ply"))


def test_a_link_to_itself_is_no_folder(rooms, tiny_engines, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for out, engines in ((tmp_path / "loop", tiny_engines), (tmp_path, tmp_path / "loop")):
        outcome = run(rooms, "--out", out, "--classes", CLASSES, "--engine-dir", engines)
        assert outcome.exit_code == 2
        assert "loop" in outcome.output


def test_views_may_be_limited_or_left_out(rooms, tiny_engines, tmp_path):
    source = EngineSource(tiny_engines, "cpu", 1)
    segmenter = source.open()
    scene = read_scene_list(rooms)[0]
    alone = SceneFiles("alone", scene.cloud)
    task = SegmentScenes(source, parse_classes(CLASSES), tmp_path, (".npz",), 1, virtual_views=0)
    assert task.label_scene(segmenter, scene)["views"] == 1
    assert task.label_scene(segmenter, alone)["views"] == 0
    keys = {job.key for job in task.make_jobs([scene, alone])}
    assert len(keys) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_two_workers_one_killed_half_way_equal_a_serial_run(
    rooms, tiny_engines, tmp_path, monkeypatch, kind
):
    """Twelve scenes, kill −9 after six: none missing, none doubled, the same labels."""
    if kind == "ray":
        ray = pytest.importorskip("ray")
        monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    listed = read_scene_list(rooms)
    scenes = [dataclasses.replace(listed[i % 3], name=f"scene{i:02d}") for i in range(12)]
    task = SegmentScenes(
        EngineSource(tiny_engines, "cpu", 1), parse_classes(CLASSES), tmp_path, (".npz",)
    )
    killed = []

    def kill_half_way(done, total):
        assert total == 12
        if done == 6 and not killed:
            last = json.loads((tmp_path / LOG_FILE).read_text().splitlines()[-1])
            killed.append(int(last["worker"].rsplit(":", 1)[1]))
            os.kill(killed[0], signal.SIGKILL)

    address = "local" if kind == "ray" else None
    with (
        JobLog.open(tmp_path) as log,
        open_slots(task, 2, address, Resources()) as slots,
    ):
        assert run_jobs(task.make_jobs(scenes), slots, log, progress=kill_half_way) == {}
    if kind == "ray":
        ray.shutdown()
    assert killed
    records = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert sorted(record["scene"] for record in records) == [scene.name for scene in scenes]
    assert len({record["worker"] for record in records}) == 3
    serial = Segmenter(tiny_engines, device="cpu", threads=1)
    expected = [serial.run(scene.cloud, CLASSES, scene.rgbd).labels for scene in listed]
    for i, scene in enumerate(scenes):
        labels = np.load(tmp_path / f"{scene.name}.npz")["labels"]
        np.testing.assert_array_equal(labels, expected[i % 3])
