"""Evaluation over data sets: all presets, heads, restart, other class lists, the command."""

import dataclasses
import json
import os
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from miniature import make_room, write_miniature
from PIL import Image
from small_presets import small_config
from typer.testing import CliRunner

from tests.training.rooms import micro_config
from xmask3d_rt.classes import parse_classes
from xmask3d_rt.cli import commands as cli
from xmask3d_rt.config import RELEASED_PRESETS, ModelConfig, get_preset
from xmask3d_rt.data.check import check_data
from xmask3d_rt.data.collection import open_collection
from xmask3d_rt.data.convert import convert_released
from xmask3d_rt.data.labels import own_label_source
from xmask3d_rt.data.room import write_room
from xmask3d_rt.data.training_views import SceneViewDataset
from xmask3d_rt.data.view_index import count_views
from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.evaluation.evaluate import (
    Conditions,
    EvaluateScenes,
    Evaluation,
    check_split,
    evaluate,
)
from xmask3d_rt.evaluation.iou import Confusion, score
from xmask3d_rt.export.parity.module_pipeline import load_synthetic_module, make_module_segmenter
from xmask3d_rt.many.sources import CheckpointSource, EngineSource, share_device

TINY = get_preset("tiny")


@dataclass(frozen=True)
class ModuleSource:
    """The module with synthetic weights."""

    config: ModelConfig
    title: str = "module"

    def read_config(self):
        return self.config

    def fingerprint(self):
        return self.config.to_json()

    def open(self, number=0):
        return make_module_segmenter(load_synthetic_module(self.config))


@dataclass
class FakeSource:
    """A segmenter that knows the labels: each head errs at its own rate."""

    config: ModelConfig = TINY
    answers: dict | None = None
    title: str = "fake"
    calls: tuple = ()
    asked: tuple = ()

    def read_config(self):
        return self.config

    def fingerprint(self):
        return self.title

    def open(self, number=0):
        return self

    def run(self, cloud, classes, views=None, virtual_views=None):
        if views == "none":
            asked = "3d"
        else:
            asked = virtual_views or [view.name for view in views or ()]
        self.calls = (*self.calls, asked)
        self.asked = classes.titles
        answer = self.answers[len(cloud)]
        return FakeResult({"3d": answer.heads["3d"]}, ()) if asked == "3d" else answer


@dataclass
class FakeResult:
    heads: dict
    views: tuple = ("0",)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("mini"), train=1, val=2)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms")
    for seed in range(2):
        write_room(make_room(seed), root / f"room{seed}")
    return root


def make_fake(rates=(0.9, 0.7, 0.5)):
    """Answers for the rooms 0 and 1, and the confusion they should come to."""
    rng = np.random.default_rng(0)
    answers, expected = {}, {head: Confusion(19) for head in ("fused", "2d", "3d")}
    for seed in range(2):
        labels = make_room(seed).labels
        heads = {}
        for head, rate in zip(expected, rates, strict=True):
            right = rng.random(len(labels)) < rate
            heads[head] = np.where(right, labels, rng.integers(0, 19, len(labels))) % 19
            expected[head].add(heads[head], labels)
        answers[len(labels)] = FakeResult(heads)
    return FakeSource(answers=answers), expected


def evaluate_rooms(source, rooms, state, **options):
    return evaluate(source, rooms, parse_classes("b15n4"), "tiny", state_dir=state, **options)


def find_base():
    """Which of ScanNet's classes tiny is trained on, [19] bool."""
    return np.isin(parse_classes("b15n4").titles, TINY.split.base_names)


def test_scores_are_those_of_all_points_of_all_scenes(rooms, tmp_path):
    source, expected = make_fake()
    outcome = evaluate_rooms(source, rooms, tmp_path)
    is_base = find_base()
    np.testing.assert_array_equal(outcome.is_base, is_base)
    for head, confusion in expected.items():
        np.testing.assert_array_equal(outcome.confusion[head].counts, confusion.counts)
        assert outcome.scores[head] == score(confusion, outcome.classes, is_base)
    fused = outcome.scores["fused"]
    assert fused.hiou > outcome.scores["2d"].hiou > outcome.scores["3d"].hiou > 0
    labelled = sum(int((make_room(seed).labels < 19).sum()) for seed in range(2))
    assert outcome.labelled == labelled
    assert outcome.scenes == 2
    row = f"| TINY | {fused.hiou:.1f} / {fused.miou_base:.1f} / {fused.miou_novel:.1f} |"
    assert outcome.markdown == row
    values = json.loads(json.dumps(outcome.to_dict()))
    assert values["heads"]["2d"]["per_class"]["wall"] == outcome.scores["2d"].per_class["wall"]
    assert values["novel"] == ["bookshelf", "refrigerator", "toilet"]
    assert set(values["absent"]) < set(outcome.classes)


def test_conditions_decide_what_the_segmenter_is_given(rooms, tmp_path):
    source, expected = make_fake()
    few = evaluate_rooms(source, rooms, tmp_path, conditions=Conditions(views_limit=1))
    assert source.calls == (["0"], ["0"])
    assert few.main_head == "fused"
    evaluate_rooms(source, rooms, tmp_path, conditions=Conditions(rendered=3))
    assert source.calls[2:] == (3, 3)
    alone = evaluate_rooms(source, rooms, tmp_path, conditions=Conditions(rendered=0))
    assert source.calls[4:] == ("3d", "3d")
    assert list(alone.scores) == ["3d"]
    np.testing.assert_array_equal(alone.confusion["3d"].counts, expected["3d"].counts)
    assert f"{alone.scores['3d'].miou_base:.1f}" in alone.markdown
    words = [f"word {number}" for number in range(19)]
    asked = evaluate_rooms(
        source, rooms, tmp_path, conditions=Conditions(prompts=parse_classes(words))
    )
    assert source.asked == words
    assert asked.classes == parse_classes("b15n4").titles
    np.testing.assert_array_equal(asked.is_base, find_base())
    calls = len(source.calls)
    evaluate_rooms(source, rooms, tmp_path, conditions=Conditions(prompts=parse_classes(words)))
    assert len(source.calls) == calls  # nothing is done twice


def test_unfit_conditions_rejected(rooms, tmp_path):
    source, _ = make_fake()
    two = Conditions(prompts=parse_classes(["one", "two"]))
    with pytest.raises(ValueError, match="2 prompts for 19 classes; give one for each"):
        evaluate_rooms(source, rooms, tmp_path, conditions=two)
    both = Conditions(views_limit=1, rendered=2)
    with pytest.raises(ValueError, match="excludes rendered ones"):
        evaluate_rooms(source, rooms, tmp_path, conditions=both)


def test_changed_labels_or_meanings_are_counted_anew(tmp_path):
    source, _ = make_fake()
    room = make_room(0)
    write_room(room, tmp_path / "rooms" / "room0")
    first = evaluate_rooms(source, tmp_path / "rooms", tmp_path / "state")
    lines = tmp_path / "rooms" / "room0" / "labels.txt"
    np.savetxt(lines, np.where(room.labels == 0, 1, room.labels), fmt="%d")
    second = evaluate_rooms(source, tmp_path / "rooms", tmp_path / "state")
    assert first.confusion["fused"].target[0] > 0
    assert second.confusion["fused"].target[0] == 0
    names = tmp_path / "rooms" / "room0" / "classes.txt"
    wall, floor, *rest = names.read_text().splitlines()
    names.write_text("\n".join([floor, wall, *rest]))
    third = evaluate_rooms(source, tmp_path / "rooms", tmp_path / "state")
    assert third.confusion["fused"].target[1] == 0
    assert len(source.calls) == 3


def test_a_stopped_evaluation_goes_on(rooms, tmp_path):
    class Stopped(Exception):
        pass

    def stop(done, total):
        if done == 1:
            raise Stopped

    source, expected = make_fake()
    with pytest.raises(Stopped):
        evaluate_rooms(source, rooms, tmp_path, progress=stop)
    outcome = evaluate_rooms(source, rooms, tmp_path)
    assert len(source.calls) == 2  # the first scene was not labelled again
    np.testing.assert_array_equal(outcome.confusion["2d"].counts, expected["2d"].counts)
    source.title = "other weights"
    evaluate_rooms(source, rooms, tmp_path)
    assert len(source.calls) == 4


def test_a_failed_scene_is_named(rooms, tmp_path):
    source, expected = make_fake()
    missing = len(make_room(1).labels)
    answer = source.answers.pop(missing)
    outcome = evaluate_rooms(source, rooms, tmp_path, attempts=1)
    assert list(outcome.failed) == ["room1"]
    assert outcome.scenes == 1
    assert outcome.confusion["fused"].counts.sum() < expected["fused"].counts.sum()
    source.answers[missing] = answer
    again = evaluate_rooms(source, rooms, tmp_path, attempts=1)
    np.testing.assert_array_equal(again.confusion["fused"].counts, expected["fused"].counts)
    source.answers.clear()
    source.title = "always fails"
    with pytest.raises(ValueError, match="every scene failed; room0: KeyError"):
        evaluate_rooms(source, rooms, tmp_path, attempts=1)


def test_released_rule_leaves_views_out(released, tmp_path):
    answers = {}
    for seed in (1, 2):
        labels = make_room(seed).labels % 19
        answers[len(labels)] = FakeResult(dict.fromkeys(("fused", "2d", "3d"), labels))
    source = FakeSource(answers=answers)
    classes = parse_classes("b15n4")
    options = (released, classes, "tiny")
    evaluate(source, *options, state_dir=tmp_path)
    assert source.calls == (["0", "1"], ["0", "1"])
    evaluate(source, *options, state_dir=tmp_path, released_views=True)
    assert source.calls[2:] == source.calls[:2]  # room views see enough
    task = EvaluateScenes(source, released, "val", classes, tmp_path)
    space, label_set = task.make_space(TINY)
    visible = {}
    for scene in open_collection(released, "val").scenes:
        labels = space.read_points(scene.read_labels(label_set))
        counts = count_views(scene, scene.read_cloud(), labels, space, TINY.view)
        visible |= {(scene.name, count.view): count.visible for count in counts}
    scene, view = min(visible, key=visible.__getitem__)
    limited = dataclasses.replace(task, released_views=visible[scene, view])
    limited(0)(scene)
    assert source.calls[-1] == [view]  # the other view sees more than the limit
    none = dataclasses.replace(task, released_views=visible[scene, view] - 1)
    with pytest.raises(ValueError, match="the released rule leaves no view"):
        none(0)(scene)


@pytest.fixture(scope="module")
def converted(released, tmp_path_factory):
    assert check_data(released).ok
    folder = tmp_path_factory.mktemp("converted")
    convert_released(released, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("preset", RELEASED_PRESETS)
def test_miniature_runs_through_for_every_preset(converted, tmp_path, preset):
    """check → convert → samples to train on → evaluation, at small widths."""
    config = small_config(preset, micro_config())
    dataset = SceneViewDataset(converted, config, tmp_path / "index", loop=1)
    sample = dataset.load(0, np.random.default_rng(0))
    assert sample.labels_3d.max() <= len(config.split.base_names)
    assert (sample.labels_3d < len(config.split.base_names)).sum() > 10
    source = ModuleSource(config)
    classes = parse_classes(list(config.split.names))
    outcome = evaluate(source, converted, classes, preset, state_dir=tmp_path / "state")
    for head in ("fused", "2d", "3d"):
        assert outcome.confusion[head].counts.sum() == outcome.labelled > 10_000
    values = outcome.to_dict()
    assert len(values["heads"]["fused"]["per_class"]) == len(config.split.names)
    assert len(values["novel"]) == len(config.split.novel)


@pytest.mark.parametrize("classes", ["scannet20", "scannet200", "sofa;couch,lamp,wall"])
def test_other_class_lists(released, tmp_path, classes):
    class_list = parse_classes(classes)
    rng = np.random.default_rng(0)
    answers = {}
    for seed in (1, 2):
        points = len(make_room(seed).labels)
        found = rng.integers(0, len(class_list), points)
        answers[points] = FakeResult(dict.fromkeys(("fused", "2d", "3d"), found))
    source = FakeSource(answers=answers)
    outcome = evaluate(source, released, class_list, "tiny", state_dir=tmp_path)
    assert outcome.classes == class_list.titles
    base = {name.casefold() for name in TINY.split.base_names}
    expected = [any(n in base for n in names) for names in class_list.names]
    assert outcome.is_base.tolist() == expected
    assert outcome.labelled > 1000


def test_workers_need_picklable_tasks(rooms, tiny_engines, tmp_path):
    import pickle

    source = EngineSource(tiny_engines, "cpu", 1)
    task = EvaluateScenes(source, rooms, "val", parse_classes("b15n4"), tmp_path)
    assert pickle.loads(pickle.dumps(task)).source == source


def run_eval(*args):
    return CliRunner().invoke(cli.app, ["eval", *map(str, args)])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The trained part of the synthetic module, as a released checkpoint holds it."""
    path = tmp_path_factory.mktemp("weights") / "model_last.pth.tar"
    state = load_synthetic_module(TINY).state_dict()
    trained = {
        f"module.{name}": value
        for name, value in state.items()
        if not name.startswith(("diffusion.", "clip."))
    }
    torch.save({"epoch": 3, "state_dict": trained, "best_iou": 0}, path)
    return path


@pytest.fixture(scope="module")
def one_room(tmp_path_factory):
    root = tmp_path_factory.mktemp("one")
    write_room(make_room(0, spacing=0.1), root / "room0")
    return root


@pytest.mark.slow
def test_engines_and_checkpoint_agree(one_room, tiny_engines, checkpoint, tmp_path):
    common = ("--data", one_room, "--preset", "tiny", "--device", "cpu", "--threads", 1)
    common += ("--state", tmp_path / "state")
    plots = ("--plots", tmp_path / "plots")
    engine_json, module_json = tmp_path / "engines.json", tmp_path / "deep" / "module.json"
    outcome = run_eval("--engine-dir", tiny_engines, *common, "--json", engine_json, *plots)
    assert outcome.exit_code == 0, outcome.output
    outcome = run_eval("--checkpoint", checkpoint, *common, "--json", module_json)
    assert outcome.exit_code == 0, outcome.output
    engines, module = (json.loads(path.read_text()) for path in (engine_json, module_json))
    assert engines["markdown"] in outcome.output
    for head in ("fused", "2d", "3d"):
        for key in ("miou_base", "miou_novel", "allacc"):
            one, two = engines["heads"][head][key], module["heads"][head][key]
            assert one == pytest.approx(two, abs=0.5)
    files = sorted(path.name for path in (tmp_path / "plots").iterdir())
    kinds = [
        f"{kind}_{head}.png" for kind in ("confusion", "iou") for head in ("2d", "3d", "fused")
    ]
    assert files == kinds
    for name in files:
        picture = np.asarray(Image.open(tmp_path / "plots" / name))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def test_bad_requests_rejected(rooms, tiny_engines, checkpoint, tmp_path):
    common = ("--data", rooms, "--preset", "b15n4", "--state", tmp_path)
    for options, message in (
        ((), "give either --engine-dir or --checkpoint"),
        (
            ("--engine-dir", tiny_engines, "--sd", "x"),
            "--sd, --clip and --weights belong to --checkpoint",
        ),
        (("--checkpoint", checkpoint), "of preset b15n4 needs --sd and --clip"),
        (("--checkpoint", checkpoint, "--weights", "x"), "--weights must be synthetic, got 'x'"),
        (
            ("--checkpoint", checkpoint, "--weights", "synthetic", "--sd", "x"),
            "--weights synthetic excludes --sd and --clip",
        ),
        (("--engine-dir", tiny_engines, "--weights", "synthetic"), "belong to --checkpoint"),
        (("--engine-dir", tmp_path / "none"), "has no manifest.json"),
        (("--engine-dir", tiny_engines, "--split", "vla"), "--split must be one of train, val, te"),
    ):
        outcome = run_eval(*common, *options)
        assert outcome.exit_code == 2, outcome.output
        assert message in outcome.output
    outcome = run_eval(
        "--data", tmp_path / "none", "--preset", "tiny", "--engine-dir", tiny_engines
    )
    assert outcome.exit_code == 2
    assert "no data folder" in outcome.output
    with pytest.raises(ValueError, match="not with the 170 of --preset b170n30"):
        check_split(TINY, "b170n30")
    with pytest.raises(ValueError, match="needs both --sd and --clip"):
        CheckpointSource(checkpoint, TINY, sd=checkpoint)
    with pytest.raises(CheckpointError, match="no such file or folder"):
        CheckpointSource(tmp_path / "none.pth", TINY).read_config()


def test_outputs_that_cannot_be_written_are_named_before_the_work(rooms, tiny_engines, tmp_path):
    (tmp_path / "file").write_text("")
    common = ("--data", rooms, "--preset", "tiny", "--engine-dir", tiny_engines)
    common += ("--state", tmp_path / "state")
    for options, message in (
        (("--json", tmp_path), "it is a folder; give a file name"),
        (("--json", tmp_path / "file/x.json"), "cannot write to"),
        (("--plots", tmp_path / "file"), "it is a file; give a folder"),
        (("--plots", tmp_path / "file/plots"), "cannot write to"),
    ):
        outcome = run_eval(*common, *options)
        assert outcome.exit_code == 2
        assert message in outcome.output
    assert not (tmp_path / "state").exists()


def test_weight_files_are_checked_before_a_model_is_made(rooms, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(CheckpointSource, "open", None)
    (tmp_path / "bad").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    common = ("--data", rooms, "--state", tmp_path / "state")
    for options, message in (
        (("--preset", "tiny", "--checkpoint", tmp_path / "bad"), "bad: no weight file"),
        (("--preset", "tiny", "--checkpoint", tmp_path / "pipe"), "pipe: neither a file nor a"),
        (("--preset", "tiny", "--checkpoint", tmp_path / "loop"), "loop: cannot be read"),
        (
            ("--preset", "tiny", "--checkpoint", checkpoint, "--sd", checkpoint, "--clip", "x"),
            "expected Stable Diffusion v1",
        ),
        (("--preset", "tiny", "--checkpoint", checkpoint, "--data", tmp_path / "loop"), "no data "),
    ):
        outcome = run_eval(*common, *options)
        assert outcome.exit_code == 2
        assert outcome.output.strip().startswith("error: ")
        assert message in outcome.output
    assert not (tmp_path / "state").exists()


def test_a_failed_scene_ends_the_command_unless_skipped(rooms, tiny_engines, tmp_path):
    data = tmp_path / "data"
    write_room(make_room(0), data / "good")
    write_room(make_room(1), data / "bad")
    (data / "bad" / "scene.ply").write_text("ply\n")
    common = ("--data", data, "--preset", "tiny", "--engine-dir", tiny_engines, "--threads", 1)
    common += ("--state", tmp_path / "state", "--attempts", 1, "--device", "cpu")
    outcome = run_eval(*common)
    assert outcome.exit_code == 1
    assert "failed: bad: ValueError" in outcome.output
    assert "hIoU" not in outcome.output
    outcome = run_eval(*common, "--skip-failed")
    assert outcome.exit_code == 0
    assert "left out: bad" in outcome.output
    assert "1 scenes" in outcome.output


def test_several_gpus_are_shared_out(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [share_device("auto", n) for n in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert share_device("cpu", 1) == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert share_device("auto", 1) == "auto"


def test_an_evaluation_without_novel_classes_prints_dashes():
    confusion = {head: Confusion(2) for head in ("fused", "2d", "3d")}
    outcome = Evaluation("mine", "m", "d", ["a", "b"], np.ones(2, bool), confusion, 1, 1, 1)
    assert outcome.markdown == "| MINE | – / 0.0 / – |"
    assert own_label_source(["a"]).points == {0: "a"}
