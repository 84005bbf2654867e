"""A generated miniature of the released layout: train, resume, export, evaluate, every preset.

Presets differ in their classes and recipe, not in their graphs. So the engines of all five are
traced TorchScript, which takes seconds; ONNX Runtime, which takes a minute, has one preset.
"""

import json
import shutil

import numpy as np
import pytest
from miniature import write_miniature
from small_presets import use_micro_presets
from typer.testing import CliRunner

from tests.export import toy_backend
from tests.kept_traces import hash_module
from xmask3d_rt.cli.commands import app
from xmask3d_rt.config import RELEASED_PRESETS, get_preset
from xmask3d_rt.data.training_views import SceneViewDataset
from xmask3d_rt.engines.backends import BACKENDS
from xmask3d_rt.engines.manifest import Manifest
from xmask3d_rt.export.build_engines import app as build_app
from xmask3d_rt.pipeline.votes import HEADS
from xmask3d_rt.segmenter import Segmenter
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
def traced_once(tmp_path_factory):
    """What presets share, the frozen networks, is traced once."""
    folder, trace = tmp_path_factory.mktemp("traced"), toy_backend.trace

    def trace_once(job):
        kept = folder / hash_module(job.module, (job.component, [x.shape for x in job.inputs]))
        if not kept.is_file():
            trace(job)
            shutil.copy(job.output, kept)
        shutil.copy(kept, job.output)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_backend, "trace", trace_once)
        yield


@pytest.fixture
def results(monkeypatch):
    """What every segmenter gives, in order."""
    given, run = [], Segmenter.run

    def keep(self, *arguments, **options):
        given.append(run(self, *arguments, **options))
        return given[-1]

    monkeypatch.setattr(Segmenter, "run", keep)
    return given


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


ONNX = pytest.param("b15n4", "onnxruntime", marks=pytest.mark.full)


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "backend"), [*((p, "script") for p in RELEASED_PRESETS), ONNX])
@pytest.mark.usefixtures("micro_presets", "traced_once")
def test_train_resume_export_and_eval(preset, backend, data, results, tmp_path, monkeypatch):
    monkeypatch.setitem(BACKENDS, toy_backend.BACKEND.name, toy_backend.BACKEND)
    out, engine_dir = tmp_path / "run", tmp_path / "engines"
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
    target = ("--preset", preset, "--out", engine_dir, "--device", "cpu")
    built = run(build_app, *target, "--backend", backend, "--precision", "fp32", *weights)
    assert built.exit_code == 0, built.output
    assert "frozen networks are synthetic" in built.output.replace("\n", " ")
    manifest = Manifest.load(engine_dir)
    assert manifest.config.split == get_preset(preset).split
    assert (manifest.weights.kind, manifest.weights.files[0].path) == ("mixed", LAST)

    module = evaluate(preset, data, tmp_path / "module", *weights)
    engines = evaluate(preset, data, tmp_path / "engines", "--engine-dir", engine_dir)
    check_scores(engines, module)
    first, second = results
    for head in HEADS:
        assert np.mean(first.heads[head] == second.heads[head]) >= AGREE, head


def check_scores(engines, module):
    """The same numbers but for the few points whose two best classes are equally good."""
    for head in HEADS:
        one, two = engines["heads"][head], module["heads"][head]
        assert set(one) == set(two)
        for name in ("hiou", "miou_base", "miou_novel", "miou", "allacc"):
            assert one[name] == pytest.approx(two[name], abs=0.5), (head, name)
    assert engines["labelled_points"] == module["labelled_points"] > 1000
