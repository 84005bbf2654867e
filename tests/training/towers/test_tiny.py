"""From nothing to packed weights with a schedule of a minute and a teacher made up here."""

import json
import zlib

import numpy as np
import pytest
import torch
from test_wordnet import DATA, INDEX
from typer.testing import CliRunner

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.bundled import read_packed
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.training import tiny
from xmask3d_rt.training.towers import text_tower
from xmask3d_rt.training.towers.fit import Plan
from xmask3d_rt.training.towers.schedule import SCHEDULES, Schedule

MOST_BYTES = 25e6
PLAN = Plan(steps=2, batch=2, warm_up=1)
MINUTE = Schedule(
    rooms=1,
    validation_rooms=1,
    views=2,
    words=250,
    text=Plan(steps=4, batch=16, warm_up=1),
    image=PLAN,
    vae=PLAN,
    unet=PLAN,
    settings=(
        *("loss.points=64", "optim.epochs=1", "optim.batch_size=1", "run.loop=1"),
        *("run.workers=0", "loss.start_contrast=0", "optim.checkpointing=none"),
    ),
)


class LetterEncoder:
    """Texts with common words are alike."""

    def __init__(self, device):
        pass

    def encode(self, texts):
        rows = np.stack([self._encode(text) for text in texts])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def _encode(self, text):
        seeds = (zlib.crc32(word.encode()) for word in text.split())
        return sum(np.random.default_rng(s).standard_normal(384, np.float32) for s in seeds)


@pytest.fixture
def wordnet(tmp_path, monkeypatch):
    monkeypatch.setattr(text_tower, "SentenceEncoder", LetterEncoder)
    monkeypatch.setitem(SCHEDULES, "short", MINUTE)
    folder = tmp_path / "wordnet"
    folder.mkdir()
    (folder / "index.noun").write_text(INDEX)
    (folder / "data.noun").write_text(DATA)
    return folder


def run(out, wordnet, *options):
    command = ["--out", str(out), "--schedule", "short", "--wordnet", str(wordnet)]
    return CliRunner().invoke(tiny.app, [*command, "--device", "cpu", *options])


@pytest.mark.slow
def test_all_stages_end_in_weights_that_ship(tmp_path, wordnet):
    out = tmp_path / "work"
    result = run(out, wordnet, "--minutes", "0")
    assert result.exit_code == tiny.EXIT_UNFINISHED
    assert "rooms: stopped after 0 minutes; run the same again" in result.output
    result = run(out, wordnet)
    assert result.exit_code == 0, result.output
    assert [line for line in result.output.splitlines() if line.endswith(": done")] == [
        f"{stage}: done" for stage in ("rooms", "text", "image", "diffusion", "model", "pack")
    ]
    assert json.loads((out / "text" / "scores.json").read_text())["synonyms"] >= 0
    assert {"base", "synonym_base"} <= set(json.loads((out / "image" / "scores.json").read_text()))
    captions = json.loads((out / "rooms/train/room000000/captions.json").read_text())
    novel = [get_preset("tiny").split.names[i] for i in get_preset("tiny").split.novel]
    assert not [name for name in novel for caption in captions.values() if name in caption]

    packed = out / "tiny.safetensors"
    assert packed.stat().st_size < MOST_BYTES
    model = XMask3D(get_preset("tiny"))
    model.load_state_dict(read_packed(packed, model.state_dict()))
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    made = packed.stat().st_mtime_ns
    assert run(out, wordnet).exit_code == 0
    assert packed.stat().st_mtime_ns == made  # nothing is done twice


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--schedule", "long"], "unknown schedule 'long'; choose one of short"),
        (["--stages", "text,magic"], "unknown stage 'magic'; choose from rooms, text"),
    ],
)
def test_wrong_options_are_rejected(tmp_path, wordnet, options, message):
    result = run(tmp_path / "work", wordnet, *options)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "work").exists()
