"""What a run shows and writes down: a progress bar, a JSON line per report, TensorBoard."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

LOG = "log.jsonl"
SHOWN = 4  # losses beside the bar, the largest


class Monitor:
    """Reports of the first process; the others are given `silent`.

    Args:
        out: folder of the run.
        total: iterations of the whole run.
        done: iterations done before.
        samples: per iteration, over all processes.
        tensorboard: also write scalars for TensorBoard.
        silent: report nothing.

    Raises:
        ValueError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        out: Path,
        total: int,
        done: int,
        samples: int,
        tensorboard: bool = False,
        silent: bool = False,
    ) -> None:
        self._log = out / LOG
        self._samples = samples
        self._silent = silent
        self._writer = open_writer(out) if tensorboard and not silent else None
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[speed]}"),
            # what is cut where the terminal is narrow
            TextColumn("{task.fields[losses]}", table_column=Column(ratio=1, no_wrap=True)),
            console=Console(stderr=True),
            disable=silent,
            expand=True,
        )
        self._task = self._bar.add_task(
            "", total=total, completed=done, epoch=0, speed="", losses=""
        )
        self._last = (time.perf_counter(), done)

    def __enter__(self) -> "Monitor":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def advance(self, done: int, epoch: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, epoch=epoch)

    def report_losses(
        self, done: int, epoch: int, losses: Mapping[str, float], rates: tuple[float, float]
    ) -> None:
        """Means of the losses since the last report.

        Args:
            done: iterations done.
            epoch: from 0.
            losses: by name, with their sum as `total`.
            rates: (lr_3d, lr_others).
        """
        if self._silent:
            return
        now = time.perf_counter()
        speed = (done - self._last[1]) * self._samples / max(now - self._last[0], 1e-9)
        self._last = (now, done)
        largest = sorted(losses, key=lambda name: -losses[name])[: SHOWN + 1]
        text = "  ".join(f"{name.removeprefix('loss_')} {losses[name]:.3f}" for name in largest)
        self._bar.update(self._task, speed=f"{speed:.2f} samples/s", losses=text)
        row = {"iteration": done, "epoch": epoch, "lr_3d": rates[0], "lr_others": rates[1]}
        self._write({**row, "samples_per_second": speed, "losses": dict(losses)})
        self._scalars(done, {"loss_train_batch": losses["total"]})
        self._scalars(done, {"learning_rate_3d": rates[0], "learning_rate_others": rates[1]})
        self._scalars(done, {f"losses/{name}": value for name, value in losses.items()})

    def report_epoch(self, done: int, epoch: int, scores: Mapping[str, float]) -> None:
        """Scores at the end of an epoch, by name, in percent."""
        if self._silent:
            return
        self._write({"iteration": done, "epoch": epoch, "scores": dict(scores)})
        self._scalars(done, {f"scores/{name}": value for name, value in scores.items()})
        text = ", ".join(f"{name} {value:.1f}" for name, value in scores.items())
        self._bar.console.print(f"epoch {epoch}: {text}", highlight=False, soft_wrap=True)

    def _write(self, row: Mapping[str, Any]) -> None:
        with self._log.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _scalars(self, done: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, done)


def open_writer(out: Path) -> Any:
    """TensorBoard's writer.

    Raises:
        ValueError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "run.tensorboard needs TensorBoard, which is not installed: "
            'pip install "xmask3d_rt[train]"'
        ) from error
    return SummaryWriter(out / "tensorboard")
