"""The training loop, on one process or many.

A run is a folder: `model_last.pth.tar` (every `run.save_every` steps and after each epoch),
`model_best.pth.tar`, `log.jsonl`, `settings.json`. It stops at a loss that is not finite, with the
batch saved.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from xmask3d_rt.errors import TrainingError
from xmask3d_rt.files import atomic_write, make_folder
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.training.batch import TrainingBatch, TrainingDataset
from xmask3d_rt.training.batch_norm import synchronise_batch_norm
from xmask3d_rt.training.checkpoint import (
    BEST,
    LAST,
    Progress,
    resume_checkpoint,
    save_checkpoint,
    write_tensors,
)
from xmask3d_rt.training.config import TrainingConfig
from xmask3d_rt.training.criterion import Losses
from xmask3d_rt.training.frozen import FrozenOutputs
from xmask3d_rt.training.loader import EpochBatches, Share, count_steps, load_batches
from xmask3d_rt.training.metrics import LossMeans, TrainingIoU
from xmask3d_rt.training.monitor import Monitor
from xmask3d_rt.training.optim import make_optimizer, set_rates
from xmask3d_rt.training.points import RandomPoints
from xmask3d_rt.training.ranks import rank, world_size
from xmask3d_rt.training.step import TrainingStep

SETTINGS = "settings.json"
STOPPED_BATCH = "stopped_batch.pt"
# Scores of a model in percent by name; the first decides which checkpoint is best.
Validator = Callable[[XMask3D], Mapping[str, float]]


class Trainer:
    """A training run.

    Args:
        model: with its first weights, on its device; trained in place.
        config: of the run.
        data: training samples.
        out: folder of the run.
        validate: scores the model after each epoch, on the first process; without it the best
            checkpoint is the one with the best mean IoU on the training points.

    Raises:
        ValueError: the batch size does not divide, or there are too few samples.
    """

    def __init__(
        self,
        model: XMask3D,
        config: TrainingConfig,
        data: TrainingDataset,
        out: Path,
        validate: Validator | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.progress = Progress()
        self._data = data
        self._out = out
        self._validate = validate
        size = config.micro_batch(world_size())
        self._share = Share(size, rank(), world_size(), config.optim.accumulate)
        self.steps = count_steps(data, self._share)
        if config.optim.sync_batch_norm and world_size() > 1:
            synchronise_batch_norm(model)
        self._step = TrainingStep(model, config)
        self._device = self._step.text_embed.device
        self.optimizer = make_optimizer(model, config.optim)
        self._frozen = FrozenOutputs(self._step, out / "cache", config.run.cache_gb)
        self._parallel = self._step if world_size() == 1 else _distribute(self._step)
        self._means = LossMeans()
        self._iou = TrainingIoU(len(model.config.split.base_names), self._device)

    @property
    def total(self) -> int:
        """Iterations of the whole run."""
        return self.config.optim.epochs * self.steps

    @property
    def done(self) -> int:
        """Iterations done."""
        return self.progress.epoch * self.steps + self.progress.step

    def resume(self) -> None:
        """Go on from the last checkpoint of the folder.

        Raises:
            CheckpointError: there is none, or it does not fit.
            ValueError: a setting that decides numbers, or a frozen network, differs.
        """
        path = self._out / LAST
        run = self.model, self.optimizer, self.config, self._frozen.weights
        self.progress, meters = resume_checkpoint(path, *run)
        self._means.load_state_dict(meters["losses"], self._device)
        self._iou.load_state_dict(meters["iou"])

    def fit(self, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Train until the last epoch; whether it was reached.

        Args:
            is_over: asked after each step whether to save and stop here; `resume` goes on.

        Raises:
            TrainingError: a loss is not finite.
        """
        make_folder(self._out)
        if rank() == 0:
            with atomic_write(self._out / SETTINGS) as temporary:
                temporary.write_text(self.config.model_dump_json(indent=2) + "\n")
        monitor = Monitor(
            self._out,
            self.total,
            self.done,
            self._share.global_batch,
            self.config.run.tensorboard,
            silent=rank() != 0,
        )
        with monitor:
            for epoch in range(self.progress.epoch, self.config.optim.epochs):
                if not self._run_epoch(epoch, monitor, is_over):
                    return False
        return True

    def _run_epoch(self, epoch: int, monitor: Monitor, is_over: Callable[[], bool]) -> bool:
        """Train to the end of an epoch; False where it was stopped before."""
        run = self.config.run
        batches = EpochBatches(self._data, self._share, run.seed, epoch)
        first = self.progress.step * self._share.per_step
        pin = self._device.type == "cuda"
        stream = load_batches(batches, first, run.workers, pin)
        for step in range(self.progress.step, self.steps):
            rates = set_rates(self.optimizer, self.config.optim, self.done, self.total)
            self._run_step(epoch, step, batches, stream)
            self.progress = replace(self.progress, step=step + 1)
            monitor.advance(self.done, epoch)
            if self.done % run.log_every == 0:
                monitor.report_losses(self.done, epoch, self._means.read(), rates)
            if step + 1 == self.steps:
                break  # saved with its scores
            stopped = is_over()
            if stopped or (step + 1) % run.save_every == 0:
                self._save(LAST)
            if stopped:
                return False
        self._finish_epoch(epoch, monitor)
        return True

    def _run_step(
        self, epoch: int, step: int, batches: EpochBatches, stream: Iterator[TrainingBatch]
    ) -> None:
        """One step of the optimiser over its accumulated batches."""
        parts = self._share.per_step
        for part in range(parts):
            batch = next(stream).to(self._device)
            seeds = batches.point_seeds(step * parts + part)
            last = part == parts - 1
            with contextlib.nullcontext() if last else self._no_sync():
                losses = self._forward(batch, seeds, epoch)
                total = losses.total
                self._check(losses, total, batch, epoch, step)
                (total / parts).backward()
        if self.config.optim.clip_norm is not None:
            trained = self.model.trained_parameters()
            nn.utils.clip_grad_norm_(trained, self.config.optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _forward(self, batch: TrainingBatch, seeds: list[int], epoch: int) -> Losses:
        """Losses of a batch, counted for the reports."""
        losses = self._parallel(
            batch,
            self._frozen.caption_embed(batch.captions),
            self._frozen.image_features(batch),
            RandomPoints(self.config.loss.points, seeds, self._device),
            epoch >= self.config.loss.start_contrast,
        )
        self._means.add(losses.values)
        null_embed = self.model.category_head.null_embed
        text = self._step.text_embed, self._step.text_class, null_embed
        self._iou.add(losses.points, batch.labels_3d, *text)
        return losses

    def _no_sync(self) -> contextlib.AbstractContextManager[Any]:
        """Keeps gradients to this process until the last part of a step."""
        if isinstance(self._parallel, DistributedDataParallel):
            return self._parallel.no_sync()
        return contextlib.nullcontext()

    def _check(
        self, losses: Losses, total: Tensor, batch: TrainingBatch, epoch: int, step: int
    ) -> None:
        """Stop before a loss that is not finite reaches the weights.

        Raises:
            TrainingError: a loss is not finite.
        """
        if bool(torch.isfinite(total)):
            return
        bad = {
            name: value.item()
            for name, value in losses.values.items()
            if not bool(torch.isfinite(value))
        }
        path = self._out / STOPPED_BATCH
        names = {"names": list(batch.names), "captions": list(batch.captions)}
        write_tensors(path, {**batch.to("cpu").tensors(), **names})
        listed = ", ".join(f"{name} is {value}" for name, value in bad.items()) or "the sum"
        raise TrainingError(
            f"stopped at epoch {epoch}, step {step}: {listed}; the batch of "
            f"{', '.join(batch.names)} is in {path}"
        )

    def _finish_epoch(self, epoch: int, monitor: Monitor) -> None:
        """Score, report and save."""
        scores = {f"train_{head}": value for head, value in self._iou.read().items()}
        decisive = scores["train_fused"]
        if self._validate is not None and rank() == 0:
            with self._step.autocast():
                found = self._validate(self.model)
            self.model.train()
            decisive = next(iter(found.values()))
            scores |= found
        better = decisive > self.progress.best or epoch == 0
        best = decisive if better else self.progress.best
        self.progress = Progress(epoch + 1, 0, best)
        monitor.report_epoch(self.done, epoch, scores)
        self._save(LAST, *((BEST,) if better else ()))

    def _save(self, *names: str) -> None:
        """Write checkpoints; every process takes part, the first one writes."""
        meters = {"losses": self._means.state_dict(), "iou": self._iou.state_dict()}
        run = self.progress, self.config, self._frozen.weights, meters
        for name in names if rank() == 0 else ():
            save_checkpoint(self._out / name, self.model, self.optimizer, *run)


def _distribute(step: TrainingStep) -> DistributedDataParallel:
    """Average the gradients of what is trained over all processes; the rest stays as loaded."""
    frozen = [name for name, p in step.named_parameters() if not p.requires_grad]
    frozen += [
        name
        for name, _ in step.named_buffers()
        if name.startswith(("model.diffusion.", "model.clip."))
    ]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(step, frozen)
    return DistributedDataParallel(step, gradient_as_bucket_view=True)
