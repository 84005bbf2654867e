"""The score over held-out rooms: which conditions are asked for, and what is kept of them."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks import rooms
from xmask3d_rt.data.rooms.kinds import KINDS, NOVEL_KINDS, SYNONYMS
from xmask3d_rt.engines.component import WeightSource
from xmask3d_rt.engines.files import FileEntry
from xmask3d_rt.evaluation.evaluate import Conditions, Evaluation
from xmask3d_rt.evaluation.iou import Confusion

WEIGHTS = WeightSource("bundled", (FileEntry("tiny.safetensors", 1, "0123456789abcdef" * 4),))
IS_BASE = np.array([kind not in NOVEL_KINDS for kind in KINDS])


def make_outcome(right, heads=("fused", "2d", "3d")):
    """Base kinds are right, of novel ones a share."""
    counts = np.zeros((len(KINDS), len(KINDS) + 1), np.int64)
    share = np.where(IS_BASE, 100, right)
    counts[np.arange(len(KINDS)), np.arange(len(KINDS))] = share
    counts[:, -1] = 100 - share
    confusion = {head: Confusion(len(KINDS), counts) for head in heads}
    return Evaluation("tiny", "engines", "rooms", list(KINDS), IS_BASE, confusion, 3, 6400, 6400)


@pytest.fixture
def asked(monkeypatch):
    """Folders that were made, and what was evaluated: the score grows with the views."""
    calls = {"made": [], "evaluated": []}

    def make(out, seeds, options, *_):
        calls["made"].append((out.name, list(seeds.values()), options.noise, options.views))

    def evaluate(source, data, classes, preset, conditions, **_):
        calls["evaluated"].append((data.name, conditions))
        views = conditions.views_limit
        heads = ("3d",) if conditions.rendered == 0 else ("fused", "2d", "3d")
        return make_outcome(10 if views is None else views, heads)

    monkeypatch.setattr(rooms.Manifest, "load", lambda folder: SimpleNamespace(weights=WEIGHTS))
    monkeypatch.setattr(rooms, "make_rooms", make)
    monkeypatch.setattr(rooms, "evaluate", evaluate)
    return calls


def test_every_condition_has_its_rows(asked, tmp_path):
    table = tmp_path / "rooms.csv"
    options = ("--engine-dir", tmp_path, "--count", 3, "--out", tmp_path, "--csv", table)
    done = CliRunner().invoke(rooms.app, [*map(str, options), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    seeds = [100_000, 100_001, 100_002]
    assert asked["made"] == [("usual", seeds, 1.0, 16), ("twice", seeds, 2.0, 16)]
    limits = [conditions.views_limit for _, conditions in asked["evaluated"]]
    assert limits == [4, 8, 16, 8, 8, None, None]
    assert [folder for folder, _ in asked["evaluated"]].index("twice") == 4
    prompts = asked["evaluated"][3][1].prompts
    assert prompts.titles == [SYNONYMS[kind][0] for kind in KINDS]
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6 * 3 + 1
    by_name = {(row["condition"], row["head"]): row for row in rows}
    novel = [float(by_name[f"{n} views", "fused"]["miou_novel"]) for n in (4, 8, 16)]
    assert novel == [4.0, 8.0, 16.0]
    assert float(by_name["8 views", "fused"]["miou_base"]) == 100
    assert float(by_name["8 views", "fused"]["hiou"]) == pytest.approx(2 * 800 / 108, abs=0.01)
    assert all(row["device"] and row["date"] for row in rows)
    assert {row["weights"] for row in rows} == {"0123456789ab"}
    assert Image.open(tmp_path / "rooms.png").width > 900


def test_conditions_fit_the_kinds():
    for case in rooms.list_cases():
        case.conditions.check(rooms.parse_classes(list(KINDS)))
    assert len({case.name for case in rooms.list_cases()}) == 7
    assert isinstance(rooms.list_cases()[0].conditions, Conditions)
