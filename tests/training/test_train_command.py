"""`xmask3d train` on a generated room, from its options to a checkpoint."""

import json

import pytest
from typer.testing import CliRunner

from xmask3d_rt.cli.commands import app
from xmask3d_rt.data.room import generate_room, write_room
from xmask3d_rt.training.checkpoint import LAST

SETTINGS = {
    "loss.points": 64,
    "optim.epochs": 1,
    "optim.batch_size": 1,
    "run.loop": 1,
    "run.workers": 0,
    "run.log_every": 1,
    "run.validate_scenes": 1,
    "run.validate_views": 1,
}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms")
    write_room(generate_room(0, 2, (120, 160), point_spacing=0.1), folder / "room0")
    return folder


def test_help_names_every_option():
    result = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    options = ["preset", "data", "out", "resume", "set", "sd", "clip", "init", "device", "workers"]
    assert all(f"--{option} " in result.output for option in options)


def test_missing_data_is_rejected(tmp_path):
    result = train(tmp_path / "none", tmp_path / "run")
    assert result.exit_code == 2
    assert len(result.output.strip().splitlines()) == 1
    assert "no data folder" in result.output


def test_an_output_that_is_a_file_is_named_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    result = train(tmp_path, tmp_path / "file")
    assert result.exit_code == 2
    assert "file: it is a file; give a folder" in result.output.replace("\n", "")


def train(rooms, out, *options):
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    command = ["train", "--preset", "tiny", "--data", str(rooms), "--out", str(out)]
    return CliRunner().invoke(app, [*command, "--device", "cpu", *settings, *options])


@pytest.mark.slow
def test_a_run_from_the_command_line(rooms, tmp_path):
    out = tmp_path / "run"
    result = train(rooms, out)
    assert result.exit_code == 0, result.output
    assert {LAST, "model_best.pth.tar", "log.jsonl", "settings.json"} <= {
        path.name for path in out.iterdir()
    }
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"train_fused", "val_hiou", "val_miou_novel"} <= set(rows[-1]["scores"])

    result = train(rooms, out)
    assert result.exit_code == 2
    assert "give --resume" in result.output
    assert train(rooms, out, "--resume").exit_code == 0
    result = train(rooms, out, "--resume", "--set", "loss.binary=3")
    assert result.exit_code == 2
    assert "loss.binary=16" in result.output
    result = train(rooms, out, "--resume", "--preset", "b15n4")
    assert result.exit_code == 2
    said = result.output.replace("\n", " ")
    assert "is of preset tiny, not b15n4; give the preset it was trained as" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "loss.binray=1"], "--set loss: unknown key 'binray'; known keys"),
        (["--resume", "--init", "x.pth.tar"], "exclude each other"),
        (["--resume"], "no checkpoint to resume"),
    ],
)
def test_wrong_options_are_rejected(rooms, tmp_path, options, message):
    result = train(rooms, tmp_path, *options)
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")
