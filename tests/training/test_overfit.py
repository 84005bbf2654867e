"""Two generated rooms are learnt by heart: every loss falls and the labels become right."""

import json
import time

import numpy as np
import pytest
import torch

from tests.training.rooms import RoomViews
from xmask3d_rt.config import get_preset
from xmask3d_rt.training.config import make_config
from xmask3d_rt.training.first_weights import make_model
from xmask3d_rt.training.trainer import Trainer

EPOCHS = 12
SETTINGS = (
    f"optim.epochs={EPOCHS}",
    "optim.batch_size=2",
    "optim.lr_3d=5e-3",
    "optim.lr_others=1e-3",
    "optim.checkpointing=none",
    "loss.points=512",
    "loss.start_contrast=0",
    "run.workers=0",
    "run.log_every=1",
    "run.save_every=1000",
)
STEPS = 12  # of each epoch


def overfit(out):
    """Scores of every epoch and losses of every step."""
    config = make_config("tiny", SETTINGS)
    data = RoomViews(rooms=2, views=1, loop=STEPS, config=get_preset("tiny"), spacing=0.08)
    started = time.process_time()
    Trainer(make_model(config, torch.device("cpu")), config, data, out).fit()
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [row["losses"] for row in rows if "losses" in row]
    scores = [row["scores"] for row in rows if "scores" in row]
    print(f"{time.process_time() - started:.0f} s of CPU")
    return losses, scores


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_rooms_are_learnt_by_heart(tmp_path):
    losses, scores = overfit(tmp_path)
    assert len(losses) == EPOCHS * STEPS
    first, last = losses[:STEPS], losses[-STEPS:]
    for name in losses[0]:
        before, after = (np.mean([row[name] for row in rows]) for rows in (first, last))
        print(f"{name:<32}{before:10.4f}{after:10.4f}")
        assert after < before, name
    print(scores[-1])
    assert scores[-1]["train_fused"] > 80
    assert scores[-1]["train_3d"] > 80
