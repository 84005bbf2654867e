"""A generated miniature of the released layout: train, resume, export, evaluate, every preset."""

import json

import numpy as np
import pytest
from miniature import write_miniature
from small_presets import use_micro_presets
from typer.testing import CliRunner

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.cli.commands import app
from xmask3d_rt.config import RELEASED_PRESETS, get_preset
from xmask3d_rt.data.collection import open_collection
from xmask3d_rt.data.training_views import SceneViewDataset
from xmask3d_rt.engines.manifest import Manifest
from xmask3d_rt.export.build_engines import app as build_app
from xmask3d_rt.many.sources import CheckpointSource, EngineSource
from xmask3d_rt.pipeline.votes import HEADS
from xmask3d_rt.training.checkpoint import LAST

AGREE = 0.995  # share of points with the same label by module and engines
SETTINGS = {
    "loss.points": 64,
    "loss.start_contrast": 1,
    "optim.epochs": 2,
    "optim.batch_size": 1,
    "optim.checkpointing": "none",
    "run.loop": 1,
    "run.workers": 0,
    "run.log_every": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("mini"), 1, 1, views=1, spacing=0.15)


@pytest.fixture
def micro_presets(monkeypatch):
    use_micro_presets(monkeypatch)
    yield
    get_preset.cache_clear()


@pytest.fixture(scope="module")
def engine_dir(tmp_path_factory):
    """One folder for all presets: components of frozen networks are built once."""
    return tmp_path_factory.mktemp("engines") / "small"


def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def train(preset, data, out, *options):
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    folders = ("--preset", preset, "--data", data, "--out", out)
    return run(app, "train", *folders, "--device", "cpu", "--threads", 1, *settings, *options)


def stop_in_second_epoch(monkeypatch):
    """Ctrl-C while the second sample is loaded."""
    load, calls = SceneViewDataset.load, []

    def stopping(self, index, rng):
        calls.append(index)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return load(self, index, rng)

    monkeypatch.setattr(SceneViewDataset, "load", stopping)


def read_losses(out):
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {row["iteration"]: row["losses"] for row in rows if "losses" in row}


def evaluate(preset, data, out, *model):
    file = out / "scores.json"
    common = ("--preset", preset, "--data", data, "--device", "cpu", "--threads", 1)
    result = run(app, "eval", *common, "--state", out / "state", "--json", file, *model)
    assert result.exit_code == 0, result.output
    return json.loads(file.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("preset", RELEASED_PRESETS)
@pytest.mark.usefixtures("micro_presets")
def test_train_resume_export_and_eval(preset, data, engine_dir, tmp_path):
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_in_second_epoch(patch)
        stopped = train(preset, data, out)
    assert stopped.exit_code == 130, stopped.output
    resumed = train(preset, data, out, "--resume")
    assert resumed.exit_code == 0, resumed.output
    losses = read_losses(out)
    assert sorted(losses) == [1, 2]
    assert set(losses[2]) - set(losses[1]) == {"loss_3d_contra"}

    checkpoint = out / LAST
    weights = ("--checkpoint", checkpoint, "--weights", "synthetic")
    target = ("--preset", preset, "--out", engine_dir, "--replace", "--device", "cpu")
    built = run(build_app, *target, "--backend", "onnxruntime", "--precision", "fp32", *weights)
    assert built.exit_code == 0, built.output
    assert "frozen networks are synthetic" in built.output.replace("\n", " ")
    manifest = Manifest.load(engine_dir)
    assert manifest.config.split == get_preset(preset).split
    assert (manifest.weights.kind, manifest.weights.files[0].path) == ("mixed", LAST)

    module = evaluate(preset, data, tmp_path / "module", *weights)
    engines = evaluate(preset, data, tmp_path / "engines", "--engine-dir", engine_dir)
    check_scores(engines, module)
    check_labels(preset, data, engine_dir, checkpoint)


def check_scores(engines, module):
    """The same numbers but for the few points whose two best classes are equally good."""
    for head in HEADS:
        one, two = engines["heads"][head], module["heads"][head]
        assert set(one) == set(two)
        for name in ("hiou", "miou_base", "miou_novel", "miou", "allacc"):
            assert one[name] == pytest.approx(two[name], abs=0.5), (head, name)
    assert engines["labelled_points"] == module["labelled_points"] > 1000


def check_labels(preset, data, engine_dir, checkpoint):
    scene = open_collection(data, "val").scenes[0]
    classes = parse_classes(list(get_preset(preset).split.names))
    sources = (
        EngineSource(engine_dir, "cpu", 1),
        CheckpointSource(checkpoint, get_preset(preset), device="cpu", threads=1),
    )
    engines, module = (
        source.open().run(scene.read_cloud(), classes, views=scene.list_views()).heads
        for source in sources
    )
    for head in HEADS:
        assert np.mean(engines[head] == module[head]) >= AGREE, head
