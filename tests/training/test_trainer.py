"""The trainer on a small model and one generated room."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.rooms import RoomViews, make_micro_model
from tests.training.settings import SETTINGS
from xmask3d_rt.errors import CheckpointError, TrainingError
from xmask3d_rt.model.checkpoints import load_checkpoints
from xmask3d_rt.training.checkpoint import BEST, LAST, trained_state, write_tensors
from xmask3d_rt.training.config import make_config
from xmask3d_rt.training.trainer import STOPPED_BATCH, Trainer

ROOT = Path(__file__).parents[2]
SCRIPT = ("-m", "tests.training.train_rooms")


@pytest.fixture(scope="module")
def data():
    return RoomViews(rooms=1, views=2, loop=2, jitter=0.05)


def make_trainer(data, out, *changes):
    return Trainer(make_micro_model(), make_config("tiny", [*SETTINGS, *changes]), data, out)


def read_rows(out, kind):
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {row["iteration"]: row[kind] for row in rows if kind in row}


def read_losses(out):
    return read_rows(out, "losses")


class Interrupted(Exception):
    """Stands for Ctrl-C."""


class Stopping:
    """Data that stops the run at a sample."""

    def __init__(self, data, after):
        self.data, self.after = data, after

    def __len__(self):
        return len(self.data)

    def load(self, index, rng):
        self.after -= 1
        if self.after < 0:
            raise Interrupted
        return self.data.load(index, rng)


@pytest.fixture(scope="module")
def whole_run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    trainer = make_trainer(data, out)
    trainer.encoded = []
    encode = trainer._step.encode_images
    trainer._step.encode_images = lambda x: trainer.encoded.append(len(x)) or encode(x)
    trainer.fit()
    return trainer, out


def test_a_run_logs_every_loss_and_joins_the_contrastive_one_in_its_epoch(whole_run):
    trainer, out = whole_run
    losses = read_losses(out)
    assert sorted(losses) == [1, 2, 3, 4]
    layers = trainer.model.config.mask_head.decoder_layers
    assert len(losses[1]) == 3 * (layers + 1) + 6 + 1
    assert set(losses[3]) - set(losses[1]) == {"loss_3d_contra"}
    for row in losses.values():
        assert row["total"] == pytest.approx(sum(row.values()) - row["total"])
    assert trainer.progress.epoch == 2


@pytest.mark.parametrize("samples", [3, 4, 6])
def test_an_interrupted_run_goes_on_to_the_last_bit(data, whole_run, tmp_path, samples):
    """Stopped within the first epoch, between epochs, and in the second."""
    trainer, out = whole_run
    with pytest.raises(Interrupted):
        make_trainer(Stopping(data, samples), tmp_path).fit()
    again = make_trainer(data, tmp_path)
    torch.manual_seed(99)  # nothing may depend on it
    again.resume()
    assert again.done == samples // 2
    again.fit()
    assert read_losses(tmp_path) == read_losses(out)
    assert read_rows(tmp_path, "scores") == read_rows(out, "scores")
    state, wanted = trained_state(again.model), trained_state(trainer.model)
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_checkpoints_are_of_the_released_format(whole_run):
    trainer, out = whole_run
    for name in (LAST, BEST):
        content = torch.load(out / name, weights_only=True)
        assert {"epoch", "state_dict", "optimizer", "best_iou"} < set(content)
        assert all(key.startswith("module.") for key in content["state_dict"])
    assert torch.load(out / LAST, weights_only=True)["epoch"] == 2
    model = make_micro_model(seed=1)
    load_checkpoints(model, xmask3d=out / LAST)
    loaded, trained = trained_state(model), trained_state(trainer.model)
    assert all(torch.equal(loaded[name], trained[name]) for name in trained)


def test_frozen_networks_run_once_per_image(whole_run):
    trainer, _ = whole_run
    assert sum(trainer.encoded) == 2  # the room has two views, each seen four times


def test_without_a_cache_the_losses_are_the_same(data, whole_run, tmp_path):
    changes = ("run.cache_gb=0", "optim.checkpointing=none", "optim.epochs=1")
    make_trainer(data, tmp_path, *changes).fit()
    assert not (tmp_path / "cache").exists()
    found, wanted = read_losses(tmp_path), read_losses(whole_run[1])
    assert found[1] == pytest.approx(wanted[1], rel=1e-4)


def test_accumulated_parts_make_one_step(data, tmp_path):
    trainer = make_trainer(
        data, tmp_path, "optim.accumulate=2", "optim.clip_norm=1", "optim.epochs=1"
    )
    trainer.fit()
    assert trainer.total == 2
    assert trainer.optimizer.state[trainer.optimizer.param_groups[0]["params"][0]]["step"] == 2


def test_bf16_stays_near_fp32(data, whole_run, tmp_path):
    with pytest.raises(Interrupted):  # after one step
        make_trainer(Stopping(data, 2), tmp_path, "optim.precision=bf16").fit()
    found, wanted = read_losses(tmp_path)[1]["total"], read_losses(whole_run[1])[1]["total"]
    assert found == pytest.approx(wanted, rel=0.05)


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    trainer = make_trainer(data, tmp_path)
    with torch.no_grad():
        trainer.model.pc_binary_head.fc.bias.fill_(torch.nan)
    with pytest.raises(TrainingError, match="loss_binary is nan"):
        trainer.fit()
    batch = torch.load(tmp_path / STOPPED_BATCH, weights_only=True)
    assert len(batch["names"]) == len(batch["images"]) == 2
    assert not (tmp_path / LAST).exists()


def test_resuming_without_a_checkpoint_is_rejected(data, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint to resume"):
        make_trainer(data, tmp_path).resume()


def test_resuming_with_other_settings_is_rejected(data, whole_run):
    trainer = make_trainer(data, whole_run[1], "loss.binary=3")
    with pytest.raises(ValueError, match=r"loss\.binary=16"):
        trainer.resume()


def test_resuming_with_other_frozen_networks_is_rejected(data, whole_run):
    model = make_micro_model()
    with torch.no_grad():
        next(model.diffusion.unet.parameters()).add_(1e-3)
    trainer = Trainer(model, make_config("tiny", SETTINGS), data, whole_run[1])
    with pytest.raises(ValueError, match="resume with the --sd and --clip of the run"):
        trainer.resume()


def test_resuming_from_a_released_checkpoint_is_rejected(data, whole_run, tmp_path):
    content = torch.load(whole_run[1] / LAST, weights_only=True)
    del content["xmask3d_rt"]
    torch.save(content, tmp_path / LAST)
    with pytest.raises(CheckpointError, match="--init"):
        make_trainer(data, tmp_path).resume()


def test_a_damaged_checkpoint_is_rejected(data, whole_run, tmp_path):
    (tmp_path / LAST).write_bytes((whole_run[1] / LAST).read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="truncated"):
        make_trainer(data, tmp_path).resume()


def test_a_checkpoint_that_lacks_a_tensor_is_rejected(data, whole_run, tmp_path):
    content = torch.load(whole_run[1] / LAST, weights_only=True)
    del content["state_dict"]["module.category_head.null_embed"]
    torch.save(content, tmp_path / LAST)
    with pytest.raises(CheckpointError, match=r"category_head\.null_embed"):
        make_trainer(data, tmp_path).resume()


def test_a_disk_that_takes_no_more_is_named_and_the_last_checkpoint_stays(whole_run, tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / LAST
    path.write_bytes(b"before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"cannot write .*{LAST}: file too large") as caught:
            write_tensors(path, {"state_dict": trained_state(whole_run[0].model)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_too_few_samples_are_rejected(data, tmp_path):
    with pytest.raises(ValueError, match=r"fewer than a batch of 8.*run\.loop"):
        make_trainer(data, tmp_path, "optim.batch_size=8")


def test_a_killed_run_loses_nothing_it_has_saved(data, whole_run, tmp_path):
    """SIGKILL at any moment: what is there is whole, and the run goes on from it."""
    command = [sys.executable, *SCRIPT, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / LAST).exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    trainer = make_trainer(data, tmp_path)
    trainer.resume()
    trainer.fit()
    found, wanted = read_losses(tmp_path), read_losses(whole_run[1])
    assert {i: found[i] for i in wanted} == wanted


def test_two_processes_equal_one(whole_run, tmp_path):
    """The same global batch, statistics and means over both processes."""
    together = tmp_path / "together"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
        *("--standalone", *SCRIPT, str(together), "optim.sync_batch_norm=true"),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=env, check=True)
    alone = whole_run[1]
    found, wanted = read_losses(together), read_losses(alone)
    assert found.keys() == wanted.keys()
    for name, value in wanted[1].items():
        assert found[1][name] == pytest.approx(value, rel=1e-4), name
    one, two = (
        torch.load(out / LAST, weights_only=True)["state_dict"] for out in (alone, together)
    )
    moved = {
        n: float((one[n].double() - two[n]).norm() / one[n].double().norm().clamp(min=1e-12))
        for n in one
    }
    assert np.quantile(list(moved.values()), 0.95) < 1e-2
