"""The loop of the stand-ins' training: it stops anywhere and ends with the same weights."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from xmask3d_rt.training.towers.fit import Clock, Fit, Plan

PLAN = Plan(steps=12, batch=4, warm_up=3, save_every=5, log_every=4)


class Steps(Clock):
    """Time for some steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    @property
    def is_over(self):
        self.left -= 1
        return self.left < 0


def make_fit(folder, plan=PLAN):
    torch.manual_seed(0)
    network = nn.Linear(3, 2)

    def losses(rng):
        x = torch.from_numpy(rng.standard_normal((plan.batch, 3), np.float32))
        return {"square": (network(x) - x[:, :2]).square().mean()}

    return Fit("line", folder, network, losses, plan), network


def test_a_run_in_parts_ends_as_one_in_one_piece(tmp_path):
    fit, whole = make_fit(tmp_path / "whole")
    assert fit.run(Clock())
    for steps in (1, 6, 0):
        fit, _ = make_fit(tmp_path / "parts")
        assert not fit.run(Steps(steps))
    fit, parts = make_fit(tmp_path / "parts")
    assert fit.run(Clock())
    assert fit.step == PLAN.steps
    torch.testing.assert_close(parts.weight, whole.weight, rtol=0, atol=0)


def test_a_finished_run_is_only_read(tmp_path):
    fit, trained = make_fit(tmp_path)
    fit.run(Clock())
    fit, again = make_fit(tmp_path)
    assert fit.run(Steps(0))
    torch.testing.assert_close(again.weight, trained.weight, rtol=0, atol=0)


def test_the_log_has_mean_losses(tmp_path):
    fit, _ = make_fit(tmp_path)
    fit.run(Clock())
    rows = [json.loads(line) for line in (tmp_path / "line.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert all(row["square"] > 0 for row in rows)


def test_the_rate_rises_then_falls_to_nothing():
    rates = [PLAN.rate_at(step) for step in range(PLAN.steps + 1)]
    assert rates[0] == pytest.approx(PLAN.rate / 3)
    assert max(rates) == rates[2]
    assert rates[-1] == pytest.approx(0)


def test_a_clock_ends():
    assert Clock(0).is_over
    assert not Clock(1).is_over
    assert not Clock().is_over
