"""`xmask3d train`: train a preset on labelled scenes.

xmask3d train --preset b15n4 --data DIR --out DIR --sd sd-v1-3.ckpt --clip ViT-L-14.pt
torchrun --nproc-per-node 4 -m xmask3d_rt.training --preset b15n4 --data DIR --out DIR ...
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import distributed as dist

from xmask3d_rt.cli.options import check_device
from xmask3d_rt.config import PRESETS
from xmask3d_rt.engines.backends import pick_device
from xmask3d_rt.export.script import Script
from xmask3d_rt.files import check_folder
from xmask3d_rt.many.command import scene_progress
from xmask3d_rt.system.memory import check_threads
from xmask3d_rt.training.checkpoint import LAST, check_resumable
from xmask3d_rt.training.config import TrainingConfig, make_config
from xmask3d_rt.training.first_weights import check_first_weights, make_model
from xmask3d_rt.training.trainer import Trainer
from xmask3d_rt.training.validation import SceneValidator

logger = logging.getLogger("xmask3d_rt")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@contextmanager
def join_processes(device: str) -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, if it did; yields this one's device.

    Args:
        device: auto, cpu, cuda or cuda:N; each process takes the GPU of its local rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield pick_device(device)
        return
    place = pick_device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield place
    finally:
        dist.destroy_process_group()


@app.command(cls=Script)
def train(
    preset: Annotated[str, typer.Option(help=f"One of {', '.join(PRESETS)}.")],
    data: Annotated[Path, typer.Option(help="Data folder: scenes of a train split.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoints, log, cache.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, such as loss.binary=16; repeat for several."),
    ] = None,
    sd: Annotated[Path | None, typer.Option(help="Stable Diffusion v1 weights, frozen.")] = None,
    clip: Annotated[Path | None, typer.Option(help="CLIP ViT-L-14 weights, frozen.")] = None,
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint to take the first weights from.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all if absent.")] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes that look through the views of all scenes before the first epoch; "
            "those that load batches are the setting run.workers.",
        ),
    ] = 1,
) -> None:
    """Train a preset on labelled scenes; without --sd and --clip on synthetic frozen networks."""
    from xmask3d_rt.data.training_views import SceneViewDataset

    config = make_config(preset, settings or ())
    if resume and init is not None:
        raise ValueError("train: --resume and --init exclude each other")
    check_device(device)
    if threads is not None:
        check_threads(threads)
        torch.set_num_threads(threads)
    if out.joinpath(LAST).exists() and not resume:
        raise ValueError(f"train: {out} holds a run; give --resume to go on, or another --out")
    if resume:  # before views are counted and the model is made, which takes minutes
        check_resumable(out / LAST, config)
    check_folder(out)
    check_first_weights(config.model, sd, clip, init)
    with scene_progress(Console(stderr=True)) as progress:
        samples = SceneViewDataset(
            *(data, config.model, out / "cache"),
            loop=config.run.loop,
            progress=progress,
            workers=workers,
        )
    with join_processes(device) as place:
        if sd is None:
            logger.warning("the frozen networks are synthetic; give --sd and --clip for real ones")
        model = make_model(config, place, sd, clip, init)
        trainer = Trainer(model, config, samples, out, make_validator(config, data))
        if resume:
            trainer.resume()
        trainer.fit()


def make_validator(config: TrainingConfig, data: Path) -> SceneValidator | None:
    """What scores the model after each epoch, where the settings ask for it."""
    run = config.run
    if not run.validate_scenes:
        return None
    return SceneValidator(data, config.model, run.validate_scenes, run.validate_views)


def main() -> None:
    """Run the command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    app()
