"""The command line: options, outputs, and one line with the right exit code for every error."""

import functools
import importlib
import io
import json
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from fuzzing import FUZZ
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from plyfile import PlyData
from rich.console import Console
from typer.testing import CliRunner

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.cli import commands as cli
from xmask3d_rt.cli.demo import has_engines, is_outdated
from xmask3d_rt.cli.doctor import diagnose
from xmask3d_rt.cli.errors import one_line_errors
from xmask3d_rt.cli.steps import Steps
from xmask3d_rt.config import BUNDLED_WEIGHTS, Precision, get_preset
from xmask3d_rt.data.room import generate_training_room
from xmask3d_rt.engines.component import Component, Parity, WeightSource
from xmask3d_rt.engines.files import FileEntry, describe_file, hash_file
from xmask3d_rt.engines.manifest import Manifest
from xmask3d_rt.errors import CheckpointError, EngineError, ExportMismatch
from xmask3d_rt.result import Result
from xmask3d_rt.scene.cloud import as_point_cloud
from xmask3d_rt.scene.rgbd import load_rgbd
from xmask3d_rt.scene.view import View

XYZ = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
K = np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])


class FakeSegmenter:
    """Labels by point order and remembers how it was called."""

    calls: list = []  # noqa: RUF012
    failure: BaseException | None = None

    def __init__(self, engine_dir, device, threads=None):
        self.manifest = Manifest.load(engine_dir)
        self.device = torch.device(device.replace("auto", "cpu"))
        self.calls.append({"device": device} | ({"threads": threads} if threads else {}))

    def run(self, points, classes, views=None, up=None, virtual_views=8, progress=None, **extra):
        if self.failure is not None:
            raise self.failure
        self.calls[-1].update(extra)
        points, classes = as_point_cloud(points), parse_classes(classes)
        if isinstance(views, str):
            self.calls[-1]["views"] = views
            views = None
        views = load_rgbd(views) if isinstance(views, Path) else views
        named = None if views is None else [view.name for view in views]
        self.calls[-1].setdefault("views", named)
        for done in range(3):
            progress(done + 1, 3)
        labels = np.arange(len(points)) % len(classes)
        return Result(
            points,
            classes,
            labels,
            np.full(len(points), 0.5),
            {"fused": labels},
            np.ones(len(points)),
            timings={"project": 0.5},
            views=("0", "1"),
            notes=("skipped [2] views",),
        )


@pytest.fixture
def segmenter(monkeypatch):
    module = types.ModuleType("xmask3d_rt.segmenter")
    fake = type("Fake", (FakeSegmenter,), {"calls": []})
    module.Segmenter = fake
    monkeypatch.setitem(sys.modules, "xmask3d_rt.segmenter", module)
    return fake


@pytest.fixture
def room(tmp_path):
    """A cloud, three views and an engine folder with one component."""
    np.savez(tmp_path / "scene.npz", xyz=XYZ, rgb=np.zeros((6, 3), np.uint8))
    for name in ("color", "pose"):
        (tmp_path / name).mkdir()
    for i in range(3):
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / f"color/{i}.png")
        np.savetxt(tmp_path / f"pose/{i}.txt", np.eye(4))
    np.savetxt(tmp_path / "intrinsics.txt", K)
    make_engines(tmp_path / "engines")
    return tmp_path


def make_engines(root, kind="synthetic"):
    root.mkdir()
    (root / "unet.onnx").write_bytes(b"x" * 1500)
    component = Component(
        name="unet",
        backend="onnxruntime",
        precision=Precision.FP32,
        files=(describe_file(root / "unet.onnx"),),
        signature=None,
        fingerprint="f",
        parity=Parity("module", {"unet2": 1e-5, "unet5": 9e-1}, {"unet2": 2e-6, "unet5": 1e-3}),
        reason="fastest that passed",
    )
    weights = WeightSource(kind)
    copied = replace(component, name="heads", parity=Parity("copy", {"a": 0.0}, {"a": 0.0}))
    components = {"unet": component, "heads": copied}
    Manifest(get_preset("tiny"), weights, {"torch": "2.13"}, components, root).save()


def run(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], catch_exceptions=False)


def segment(room, *extra, classes="wall,floor;ground"):
    return run(
        "segment",
        room / "scene.npz",
        "--classes",
        classes,
        "--engine-dir",
        room / "engines",
        "--out",
        room / "out/labels.ply",
        *extra,
    )


def test_segment_writes_and_reports(room, segmenter):
    outcome = segment(room, "--rgbd", room, "--out", room / "out/labels.json", "--device", "cpu")
    assert outcome.exit_code == 0, outcome.output
    assert segmenter.calls == [{"device": "cpu", "views": ["0", "1", "2"]}]
    labels = PlyData.read(str(room / "out/labels.ply"))["vertex"]["label"]
    assert labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert json.loads((room / "out/labels.json").read_text())["classes"][1]["names"] == [
        "floor",
        "ground",
    ]
    assert "6 points labelled by the full pipeline on the given views, 2 views" in outcome.stdout
    assert "note: skipped [2] views" in outcome.stdout
    assert f"wrote {room / 'out/labels.ply'}" in outcome.stdout
    assert "synthetic" in outcome.stderr
    assert "labels mean nothing" in outcome.stderr


def test_memory_of_a_gpu_is_reported_where_there_is_one(room, segmenter, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 << 30, 10 << 30))
    assert "GPU memory in use: 7.00 GiB" in segment(room, "--device", "cuda").stdout
    assert "GPU memory" not in segment(room, "--device", "cpu").stdout


def test_segment_without_views(room, segmenter):
    assert segment(room).exit_code == 0
    assert segmenter.calls == [{"device": "auto", "views": None}]


def test_no_views(room, segmenter):
    assert segment(room, "--no-views", "--threads", 3).exit_code == 0
    assert segmenter.calls == [{"device": "auto", "threads": 3, "views": "none"}]
    outcome = segment(room, "--no-views", "--rgbd", room)
    assert outcome.exit_code == 2
    assert "--no-views and --rgbd exclude each other" in outcome.stderr


def test_demo_builds_once_and_leaves_pictures(tmp_path, segmenter, monkeypatch):
    small = functools.partial(generate_training_room, image_size=(48, 64), point_spacing=0.15)
    monkeypatch.setattr("xmask3d_rt.cli.demo.generate_training_room", small)
    monkeypatch.setattr("xmask3d_rt.cli.demo.PANEL", (48, 64))
    builds = []

    def build(args):
        builds.append(args)
        make_engines(tmp_path / "tiny")

    monkeypatch.setattr(cli, "run_build", build)
    options = ("--out", tmp_path / "demo", "--engine-dir", tmp_path / "tiny", "--views", 2)
    for _ in range(2):
        outcome = run("demo", *options, "--device", "cpu")
        assert outcome.exit_code == 0, outcome.output
    target = str(tmp_path / "tiny")
    weights = ["--preset", "tiny", "--weights", "bundled", "--replace"]
    assert builds == [[*weights, "--out", target, "--device", "cpu"]]
    assert segmenter.calls[0] == {"device": "cpu", "views": ["0", "1"]}
    for suffix in ("ply", "png", "json"):
        assert f"wrote {tmp_path / 'demo/room_labelled'}.{suffix}" in outcome.stdout
        assert (tmp_path / f"demo/room_labelled.{suffix}").is_file()
    assert Image.open(tmp_path / "demo/room_labelled.png").width > 3 * 64
    assert "of the points are labelled rightly; mean IoU" in outcome.stdout
    assert outcome.stderr.count("labels mean nothing") == 1
    assert "total: " in outcome.stdout


def test_demo_replaces_its_own_damaged_engines_alone(tmp_path, segmenter, monkeypatch):
    make_engines(tmp_path / "tiny")
    (tmp_path / "tiny/unet.onnx").write_bytes(b"broken")
    assert not has_engines(tmp_path / "tiny")
    path = tmp_path / "tiny/manifest.json"
    path.write_text(path.read_text()[: path.read_text().index('"components"')])
    assert not has_engines(tmp_path / "tiny")
    make_engines(tmp_path / "real", kind="files")
    assert has_engines(tmp_path / "real")
    (tmp_path / "real/unet.onnx").write_bytes(b"broken")
    make_engines(tmp_path / "other")
    path = tmp_path / "other/manifest.json"
    path.write_text(path.read_text().replace('"tiny"', '"b15n4"'))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/manifest.json").write_text("{")
    monkeypatch.setattr(cli, "run_build", lambda args: pytest.fail("built"))
    for name in ("real", "other", "torn"):
        (tmp_path / name / "unet.onnx").write_bytes(b"broken")
        outcome = run("demo", "--out", tmp_path / "d", "--engine-dir", tmp_path / name)
        assert outcome.exit_code == 2
        assert "the demo does not replace other engines than its own" in outcome.stderr
        assert not (tmp_path / "d").exists()


def test_demo_follows_the_weights_of_the_package():
    present = FileEntry("tiny.safetensors", 1, hash_file(BUNDLED_WEIGHTS))
    assert not is_outdated(WeightSource("bundled", (present,)))
    assert is_outdated(WeightSource("bundled", (replace(present, sha256="0" * 64),)))
    assert not is_outdated(WeightSource("synthetic"))


def test_views_limit(room, segmenter):
    assert segment(room, "--rgbd", room, "--views-limit", 2).exit_code == 0
    assert segmenter.calls[0]["views"] == ["0", "2"]


def test_trained_weights_give_no_warning(room, segmenter):
    for path in (room / "engines").iterdir():
        path.unlink()
    (room / "engines").rmdir()
    make_engines(room / "engines", kind="files")
    assert "synthetic" not in segment(room).stderr


@pytest.mark.parametrize(
    ("extra", "classes", "message"),
    [
        ((), "wall,,floor", "--classes: class 1 has a blank name"),
        (("--views-limit", 2), "wall", "--views-limit needs --rgbd"),
        (("--up", "0,0,1", "--no-views"), "wall", "--up and --no-views exclude each other"),
        (("--up", "0,0,1", "--rgbd", "."), "wall", "--up and --rgbd exclude each other"),
        (("--virtual-views", 8, "--rgbd", "."), "wall", "--virtual-views and --rgbd exclude"),
        (("--virtual-views", 2, "--no-views"), "wall", "--virtual-views and --no-views exclude"),
        (("--preview", "p.ply"), "wall", "--preview must be a .png file, got 'p.ply'"),
        (("--out", "a.ply", "--out", "./a.ply"), "wall", "a.ply is given twice"),
        (("--preview", "a.png", "--out", "a.png"), "wall", "a.png is given twice"),
        (("--out", "/dev/null/a.ply"), "wall", "cannot write to /dev/null"),
        (("--up", "abc"), "wall", "--up must be 3 numbers such as 0,0,1, got 'abc'"),
        (("--up", "0,0,0"), "wall", "--up: up must not be zero"),
        (("--up", "nan,0,0"), "wall", "--up: up has 1 NaN or infinite values"),
        (("--device", "gpu"), "wall", "unknown device 'gpu'; use auto, cpu, cuda or cuda:N"),
        (("--other", "Wall"), "wall", "other='Wall' is a name of class 0 already"),
        (("--other", " "), "wall", "other is blank"),
        (("--min-score", 2), "wall", "min_score must lie in 0..1, got 2.0"),
        (("--min-score", "nan"), "wall", "min_score must lie in 0..1, got nan"),
        (("--threads", 0), "wall", "Invalid value for '--threads': "),
        (("--nonsense",), "wall", "No such option: --nonsense"),
        (("--device", "c\nu\x1b[31m"), "wall", "unknown device 'c\\nu\\x1b[31m'"),
        ((), "wall,Wall", "duplicate class name 'Wall'"),
        ((), "scannet21", "unknown class list 'scannet21'; known lists: scannet20"),
        (("--out", "x.las"), "wall", "cannot write a result to 'x.las'"),
        (("--rgbd", "/nowhere"), "wall", "no RGB-D folder /nowhere"),
        (("--engine-dir", "/nowhere"), "wall", "/nowhere has no manifest.json"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(room, segmenter, extra, classes, message):
    outcome = segment(room, *extra, classes=classes)
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    assert message in outcome.stderr
    assert not (room / "out").exists()
    assert segmenter.calls in ([], [{"device": "auto"}])  # found before engines are loaded


def test_other_and_min_score(room, segmenter):
    assert segment(room, "--other", "rest", "--min-score", 0.25).exit_code == 0
    assert segmenter.calls[0]["other"] == "rest"
    assert segmenter.calls[0]["min_score"] == 0.25


def test_an_output_that_fails_loses_no_other(room, segmenter, monkeypatch):
    def fail(self, path):
        raise OSError(28, "No space left on device", "/tmp/.hidden-temporary")

    monkeypatch.setattr(Result, "_save_npz", fail)
    outcome = segment(room, "--out", room / "out/a.npz", "--out", room / "out/a.json")
    assert outcome.exit_code == 2
    assert outcome.stderr.splitlines()[-1] == (
        f"error: cannot write {room / 'out/a.npz'}: No space left on device"
    )
    assert (room / "out/a.json").is_file()
    assert f"wrote {room / 'out/a.json'}" in outcome.stdout
    assert "a.npz" not in outcome.stdout


def test_steps_are_named_while_they_take_time(room, segmenter, monkeypatch):
    def load(self, *args, **options):
        time.sleep(0.05)
        FakeSegmenter.__init__(self, *args, **options)

    segmenter.__init__ = load
    monkeypatch.setattr("xmask3d_rt.cli.steps.LINE_AFTER", 0)
    monkeypatch.setattr("xmask3d_rt.cli.steps.LINE_EVERY", 0)
    outcome = segment(room, "--rgbd", room, "--out", room / "out/a.json")
    assert outcome.exit_code == 0
    lines = outcome.stderr.splitlines()
    assert f"loading engines from {room / 'engines'}" in lines
    assert [line for line in lines if line.startswith("views")][-3:] == [
        "views 1/3",
        "views 2/3",
        "views 3/3",
    ]
    assert "reading" not in outcome.stdout
    assert outcome.stdout.splitlines()[-1].startswith("total: ")


def test_quick_steps_leave_no_line(room, segmenter):
    lines = segment(room, "--device", "cpu").stderr.splitlines()
    assert [line for line in lines if "synthetic" not in line] == []


def test_steps_draw_one_line_on_a_terminal():
    stream = io.StringIO()
    with Steps(Console(file=stream, force_terminal=True, width=80)) as steps:
        steps.start("reading [b]scene.ply[/b]")
        steps.start("views 0/2")
        steps.count("views", 1, 2)
    assert "views 1/2" in stream.getvalue()
    assert steps.seconds > 0


def test_missing_scene_rejected(room):
    outcome = run(
        "segment", room / "gone.ply", "--classes", "a", "--engine-dir", room, "--out", "a.ply"
    )
    assert outcome.exit_code == 2
    assert outcome.stderr == f"error: no point cloud file {room / 'gone.ply'}\n"


def test_corrupt_engine_file_rejected(room, segmenter):
    (room / "engines/unet.onnx").write_bytes(b"y" * 1500)
    outcome = segment(room)
    assert outcome.exit_code == 2
    assert "unet.onnx" in outcome.stderr


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (
            ValueError("run: no view sees [400] points"),
            2,
            "error: run: no view sees [400] points\n",
        ),
        (TypeError("t"), 2, "error: t\n"),
        (EngineError("e"), 2, "error: e\n"),
        (CheckpointError("c"), 2, "error: c\n"),
        (
            PermissionError(13, "Permission denied", "/x"),
            2,
            "error: /x: Permission denied; check the path and the disk\n",
        ),
        (OSError(5, "Input/output error"), 2, "error: Input/output error; check the path and th"),
        (ExportMismatch("m"), 1, "error: m\n"),
        (MemoryError(), 2, "error: out of memory; ask for less at a time\n"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 4 bytes"),
            2,
            "error: [enforce fail] DefaultCPUAllocator: can't allocate memory: 4 bytes\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_exit_codes(room, segmenter, failure, code, message):
    segmenter.failure = failure
    outcome = segment(room)
    assert outcome.exit_code == code
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (room / "out").exists()


def test_verbose_shows_the_traceback(room, segmenter):
    segmenter.failure = ValueError("deep inside")
    outcome = CliRunner().invoke(
        cli.app,
        ["-v", "segment", str(room / "scene.npz"), "--classes", "a", "--out", "a.ply"]
        + ["--engine-dir", str(room / "engines")],
    )
    assert outcome.exit_code == 2
    assert "Traceback" in outcome.stderr


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_may_follow_the_command(room, segmenter, option):
    segmenter.failure = ValueError("deep inside")
    outcome = segment(room, option)
    assert outcome.exit_code == 2
    assert "Traceback" in outcome.stderr


def test_bugs_are_not_hidden(room, segmenter):
    segmenter.failure = KeyError("bug")
    with pytest.raises(KeyError, match="bug"):
        segment(room)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["segment"], "Missing argument 'SCENE'"),
        (["nonsense"], "No such command 'nonsense'"),
        (["--nonsense"], "No such option: --nonsense"),
        (["segment", "a", "--views-limit", "0"], "Invalid value for '--views-limit': "),
        (["weights", "inspect"], "Missing argument 'FILE'"),
        (["weights", "nonsense"], "No such command"),
        (["build", "--nonsense"], "No such option: --nonsense"),
        (["info", "a\nb", "c\x1b[31m"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(args, message):
    outcome = run(*args)
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    assert message in outcome.stderr
    assert "--help" in outcome.stderr


def test_no_arguments_show_the_help():
    assert "segment" in run().output
    assert "inspect" in run("weights").output


def test_info(room, monkeypatch):
    monkeypatch.setattr(cli, "out", Console(width=200))
    outcome = run("info", room / "engines", "--verify")
    assert outcome.exit_code == 0
    for word in (
        "tiny",
        "54 base, 10 novel",
        "synthetic",
        "0.0 MiB",
        "a 0.0e+00",
        "hashed anew",
        "onnxruntime",
    ):
        assert word in outcome.stdout, word
    assert "unet2 2.0e-06 <= 1e-05" in outcome.stdout
    values = json.loads(run("info", room / "engines", "--json").stdout)
    assert values["config"]["name"] == "tiny"


def test_info_of_a_newer_schema_rejected(room):
    path = room / "engines/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    outcome = run("info", room / "engines")
    assert outcome.exit_code == 2
    assert "has schema 99" in outcome.stderr


def test_doctor(monkeypatch):
    monkeypatch.setattr("xmask3d_rt.cli.doctor.diagnose", functools.cache(diagnose))
    outcome = run("doctor")
    assert outcome.exit_code == 0
    for word in ("processor", "torch", "openvino", "backends", "tensorrt_rtx"):
        assert word in outcome.stdout, word
    assert json.loads(run("doctor", "--json").stdout)["system"]["python"]


@pytest.fixture
def placed(monkeypatch, room):
    """Stands in for the placing of cameras: two views, and what was asked for."""
    asked = {}

    def place_views(points, rgb, **options):
        asked.update(options, points=len(points))
        rows, cols = options["size"]
        k = np.array([[cols, 0, cols / 2], [0, cols, rows / 2], [0, 0, 1]])
        image, depth = np.zeros((rows, cols, 3), np.uint8), np.ones((rows, cols), np.float32)
        return [View(image, depth, k, np.eye(4)) for _ in range(2)]

    module = types.ModuleType("xmask3d_rt.viewing.virtual")
    module.place_views = place_views
    monkeypatch.setitem(sys.modules, "xmask3d_rt.viewing.virtual", module)
    return asked


def test_render_writes_an_rgbd_folder(room, placed):
    options = ("--views", 2, "--size", "32x24", "--up", "0,-1,0.5", "--seed", 3)
    outcome = run("render", room / "scene.npz", "--out", room / "views", *options)
    assert outcome.exit_code == 0, outcome.output
    assert "wrote 2 views to" in outcome.stdout
    up = [0.0, -1.0, 0.5]
    assert placed == {"up": up, "count": 2, "seed": 3, "size": (24, 32), "points": 6}
    assert [view.name for view in load_rgbd(room / "views")] == ["0", "1"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--size", "640"), "--size must be 2 numbers such as 640x480, got '640'"),
        (("--size", "infx480"), "--size must be 2 numbers such as 640x480, got 'infx480'"),
        (("--size", "6e2x480"), "--size must be 2 numbers such as 640x480, got '6e2x480'"),
        (("--size", "²x480"), "--size must be 2 numbers such as 640x480, got '²x480'"),
        (
            ("--size", "99999999x8"),
            "--size must lie between 8 and 8192 pixels a side, got '99999999x8'",
        ),
        (("--size", "7x8"), "--size must lie between 8 and 8192 pixels a side, got '7x8'"),
        (("--up", "0,0,up"), "--up must be 3 numbers such as 0,0,1, got '0,0,up'"),
    ],
)
def test_bad_render_options_rejected(room, placed, option, message):
    outcome = run("render", room / "scene.npz", "--out", room / "views", *option)
    assert outcome.exit_code == 2
    assert outcome.stderr == f"error: {message}\n"


@pytest.mark.parametrize("target", ["file", "dangling", "full", "file/views"])
def test_render_names_a_bad_folder_before_it_works(room, placed, target):
    (room / "file").write_text("")
    (room / "dangling").symlink_to(room / "none")
    (room / "full").mkdir()
    (room / "full/letter.txt").write_text("")
    outcome = run("render", room / "scene.npz", "--out", room / target)
    assert outcome.exit_code == 2
    assert outcome.stderr.count("\n") == 1
    assert outcome.stderr.endswith(" folder\n")
    assert not placed


def test_render_needs_colours(room, placed):
    np.save(room / "bare.npy", XYZ)
    outcome = run("render", room / "bare.npy", "--out", room / "views")
    assert outcome.exit_code == 2
    assert "render: the cloud has no colours" in outcome.stderr


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", ["build", "verify"])
def test_forwarded_commands_keep_their_own_options(command, option):
    outcome = run(command, option)
    assert outcome.exit_code == 0
    assert "--preset" in outcome.stdout
    assert f"xmask3d {command}" in outcome.stdout
    assert run(command, "--nonsense").exit_code == 2


def test_build_errors_are_one_line():
    outcome = run("build", "--preset", "b15n4", "--out", "/nowhere/never")
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("error: preset b15n4 needs --checkpoint")


def test_version_and_help():
    assert run("--version").stdout == "0.1.0\n"
    for option in ("-h", "--help"):
        assert "segment" in run(option).stdout
        assert "--rgbd" in run("segment", option).stdout
        assert "FILE" in run("weights", "inspect", option).stdout


def test_python_runs_the_package():
    outcome = subprocess.run(
        [sys.executable, "-m", "xmask3d_rt", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert outcome.stdout == "0.1.0\n"


@pytest.mark.parametrize("module", ["xmask3d_rt.cli.commands", "typer", "numpy"])
def test_ctrl_c_while_modules_load_is_one_line(module, tmp_path):
    """Whichever module is being imported when the key is pressed."""
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from xmask3d_rt.__main__ import main\n"
        "main()\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code, "info", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 130
    assert outcome.stderr == "interrupted\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from xmask3d_rt.cli.commands import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'onnx', 'diffusers', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "segment" in outcome.stdout


OPTIONS = {
    "segment": (
        *("--classes", "--engine-dir", "--out", "--rgbd", "--preview", "--views-limit", "--other"),
        *("--no-views", "--virtual-views", "--up", "--device", "--threads", "--min-score"),
    ),
    "render": ("--out", "--views", "--size", "--up", "--seed"),
    "info": ("--verify", "--json", "--no-verify"),
}
VALUES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            *("", "-1", "0", "1", "3", "2.5", "nan", "inf", "-inf", "1e300", "9" * 20),
            *("0,0,1", "0,0,0", "1,2", "nan,0,1", "1e300,0,0"),
            *("8x8", "infx8", "99999999x8", "²x9", "--", "-h"),
            *("cpu", "cuda:x", "cuda:99", "auto", "meta"),
            *("wall", "3d printer", "a,b;c", ",", "a\nb", "\ud800"),
            *(".", "/", "a.ply", "a.png", "/dev/null/a.ply", "\x1b[31m.png"),
        ]
    ),
)


@pytest.fixture(scope="module")
def fuzzed_room(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzzed")
    np.savez(root / "scene.npz", xyz=XYZ, rgb=np.zeros((6, 3), np.uint8))
    make_engines(root / "engines")
    # Imports take longer than an example may.
    for name in ("cli.output", "result", "scene.rgbd", "scene.rgbd_writer", "viewing.virtual"):
        importlib.import_module(f"xmask3d_rt.{name}")
    return root


@pytest.mark.fuzz
@pytest.mark.parametrize("command", OPTIONS)
@settings(FUZZ, deadline=60_000)  # ms; a command loads modules and tries folders, too
@given(data=st.data())
def test_any_options_run_or_are_refused_in_one_line(fuzzed_room, monkeypatch, command, data):
    """Only the run, the placing of views and the saving are left out."""
    monkeypatch.chdir(fuzzed_room)
    monkeypatch.setattr(Result, "save", lambda self, path: path)
    module = types.ModuleType("xmask3d_rt.segmenter")
    module.Segmenter = FakeSegmenter
    monkeypatch.setitem(sys.modules, "xmask3d_rt.segmenter", module)
    monkeypatch.setattr("xmask3d_rt.viewing.virtual.place_views", lambda *args, **options: [])
    monkeypatch.setattr("xmask3d_rt.scene.rgbd_writer.write_rgbd", lambda views, folder: folder)
    target = "engines" if command == "info" else "scene.npz"
    args = [command, data.draw(st.one_of(st.just(target), st.just(target), VALUES))]
    if command == "segment":
        args += ["--classes", "wall,floor", "--engine-dir", "engines", "--out", "o.ply"]
    if command == "render":
        args += ["--out", "views"]
    for _ in range(data.draw(st.integers(0, 4))):
        args.append(data.draw(st.sampled_from(OPTIONS[command])))
        if data.draw(st.booleans()):
            args.append(data.draw(VALUES))
    outcome = run(*args)
    assert outcome.exit_code in (0, 2), args
    assert "Traceback" not in outcome.output
    if outcome.exit_code == 2:
        errors = [line for line in outcome.stderr.split("\n") if line.startswith("error: ")]
        assert len(errors) == 1, outcome.stderr
        assert outcome.stderr.endswith(errors[0] + "\n")
        assert errors[0].isprintable()


def test_exhausted_memory_is_one_line(capsys):
    with pytest.raises(typer.Exit) as ended, one_line_errors():
        np.zeros((1 << 40, 1 << 10))
    assert ended.value.exit_code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: Unable to allocate 8.00 PiB")
    assert said.count("\n") == 1
