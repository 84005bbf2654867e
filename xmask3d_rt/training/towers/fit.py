"""A loop that stops at any step and goes on there: the same steps, whoever runs them.

All randomness of step n comes from a generator seeded by (seed, n), so a checkpoint needs none.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from xmask3d_rt.files import atomic_write

Losses = Mapping[str, Tensor]
LossAt = Callable[[np.random.Generator], Losses]


@dataclass(frozen=True)
class Plan:
    """How long and how fast a network learns: AdamW, linear warm-up, cosine to nothing."""

    steps: int
    batch: int
    rate: float = 1e-3
    warm_up: int = 100
    decay: float = 0.01
    clip_norm: float = 1.0
    seed: int = 0
    save_every: int = 200
    log_every: int = 50

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warm = min((step + 1) / self.warm_up, 1)
        return self.rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))


class Clock:
    """The time a command may take.

    Args:
        minutes: from now on; None for ever.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    @property
    def is_over(self) -> bool:
        """Whether it has passed."""
        return self._end is not None and time.monotonic() >= self._end


class Fit:
    """The training of one network.

    Args:
        name: of its files, `NAME.pt` and `NAME.jsonl`.
        folder: where they lie.
        network: trained in place, all parameters that require gradients.
        losses: the losses of a step by name; their sum is minimised.
        plan: of the training.
    """

    def __init__(
        self, name: str, folder: Path, network: nn.Module, losses: LossAt, plan: Plan
    ) -> None:
        self.step = 0
        self.seconds = 0.0
        self._file = folder / f"{name}.pt"
        self._log = folder / f"{name}.jsonl"
        self._network = network
        self._losses = losses
        self._plan = plan
        self._trained = [p for p in network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, lr=plan.rate, weight_decay=plan.decay)

    def run(self, clock: Clock) -> bool:
        """Train until the last step or the end of the time; whether it was the last step."""
        folder = self._file.parent
        folder.mkdir(parents=True, exist_ok=True)
        if self._file.exists():
            self._load()
        sums: dict[str, float] = {}
        started = time.monotonic() - self.seconds
        while self.step < self._plan.steps and not clock.is_over:
            for name, value in self._take_step().items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            self.seconds = time.monotonic() - started
            if self.step % self._plan.log_every == 0:
                self._write_log({n: s / self._plan.log_every for n, s in sums.items()})
                sums.clear()
            if self.step % self._plan.save_every == 0:
                self._save()
        self._save()
        return self.step >= self._plan.steps

    def _take_step(self) -> Losses:
        rng = np.random.default_rng([self._plan.seed, self.step])
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.rate_at(self.step)
        losses = self._losses(rng)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self._trained, self._plan.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return losses

    def _write_log(self, means: Mapping[str, float]) -> None:
        row = {"step": self.step, "seconds": round(self.seconds, 1)}
        row |= {name: round(mean, 5) for name, mean in means.items()}
        with self._log.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self) -> None:
        content = {
            "step": self.step,
            "seconds": self.seconds,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        with atomic_write(self._file) as temporary:
            torch.save(content, temporary)

    def _load(self) -> None:
        content = torch.load(self._file, map_location="cpu", weights_only=True)
        self._network.load_state_dict(content["network"])
        self._optimizer.load_state_dict(content["optimizer"])
        self.step, self.seconds = content["step"], content["seconds"]
