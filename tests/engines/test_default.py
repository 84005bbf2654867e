"""Engines of the package's own weights: found, built once, built anew where they are damaged."""

import shutil

import pytest
import torch
from typer.testing import CliRunner

from xmask3d_rt.cli import commands as cli
from xmask3d_rt.engines import Manifest, default, rebuild
from xmask3d_rt.errors import EngineError
from xmask3d_rt.segmenter import Segmenter
from xmask3d_rt.system.processes import Outcome

CPU = torch.device("cpu")


@pytest.fixture
def built(tiny_engines, tmp_path, monkeypatch):
    """The commands that were run; each copies engines in place of building them."""
    commands = []

    def run(command):
        commands.append(command)
        shutil.copytree(tiny_engines, command[command.index("--out") + 1], dirs_exist_ok=True)
        return Outcome(0, "", "")

    weights = tmp_path / "tiny.safetensors"
    weights.write_bytes(b"first")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(default, "BUNDLED_WEIGHTS", weights)
    monkeypatch.setattr(rebuild, "run_command", run)
    return commands


def test_engines_are_built_once_for_the_weights_at_hand(built, tmp_path):
    folder = default.prepare_default_engines(CPU)
    assert folder.parent == tmp_path / "cache" / "xmask3d_rt" / "engines"
    assert default.prepare_default_engines(CPU) == folder
    assert len(built) == 1
    wanted = {"--preset": "tiny", "--weights": "bundled", "--device": "cpu", "--out": str(folder)}
    assert {key: built[0][built[0].index(key) + 1] for key in wanted} == wanted
    default.BUNDLED_WEIGHTS.write_bytes(b"second")
    assert default.prepare_default_engines(CPU) != folder
    assert default.find_default_engines(torch.device("cuda", 0)).name.endswith("-cuda")


def test_damaged_engines_are_built_anew(built):
    folder = default.prepare_default_engines(CPU)
    (folder / "manifest.json").write_text("{")
    default.prepare_default_engines(CPU)
    assert len(built) == 2
    assert "--replace" in built[1]
    Manifest.load(folder)


def test_a_segmenter_without_a_folder_uses_them(built, tmp_path):
    segmenter = Segmenter()
    assert segmenter.manifest.root == default.find_default_engines(segmenter.device)
    assert len(built) == 1


def test_commands_use_them(built, tmp_path):
    lines = tmp_path / "scenes"
    room = CliRunner().invoke(
        cli.app, ["rooms", "make", "--out", str(lines), "--views", "1", "--label-set", "scannet20"]
    )
    assert room.exit_code == 0, room.output
    scene = lines / "room00000"
    arguments = ["--classes", "wall,floor", "--out", str(tmp_path / "out.npz"), "--no-views"]
    done = CliRunner().invoke(cli.app, ["segment", str(scene / "scene.ply"), *arguments])
    assert done.exit_code == 0, done.output
    assert len(built) == 1


def test_missing_weights_and_failed_builds_are_named(built, monkeypatch):
    def fail(command):
        return Outcome(2, "", "starting\nno space left\n")

    monkeypatch.setattr(rebuild, "run_command", fail)
    with pytest.raises(EngineError, match=r"default engines in .* failed: no space left$"):
        default.prepare_default_engines(CPU)
    default.BUNDLED_WEIGHTS.unlink()
    with pytest.raises(EngineError, match="is missing, so there are no default engines; install"):
        default.find_default_engines(CPU)
