"""From nothing to the weights that ship: `python -m xmask3d_rt.training.tiny --out DIR`.

Stages, files and what they need: `towers/stages.py`. Run it again to go on after an interruption,
or after `--minutes` have passed.
"""

import logging
from pathlib import Path
from typing import Annotated

import torch
import typer

from xmask3d_rt.config import get_preset
from xmask3d_rt.engines.backends import pick_device
from xmask3d_rt.export.script import Script
from xmask3d_rt.training.towers.fit import Clock
from xmask3d_rt.training.towers.schedule import SCHEDULES
from xmask3d_rt.training.towers.stages import STAGES, Work, run_stage
from xmask3d_rt.training.towers.wordnet import FOLDER

EXIT_UNFINISHED = 3

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Script)
def train_tiny(
    out: Annotated[Path, typer.Option(help="Folder of the work; kept, it is gone on with.")],
    schedule: Annotated[str, typer.Option(help=f"One of {', '.join(SCHEDULES)}.")] = "night",
    stages: Annotated[str, typer.Option(help="Stages to run, separated by commas.")] = ",".join(
        STAGES
    ),
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this long, to go on in another call.")
    ] = None,
    wordnet: Annotated[Path, typer.Option(help="Folder of WordNet.")] = FOLDER,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all if absent.")] = None,
) -> None:
    """Make the weights of `tiny`; exit code 3 where time ran out before the last stage."""
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; choose one of {', '.join(SCHEDULES)}")
    names = stages.split(",")
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        raise ValueError(f"unknown stage {unknown[0]!r}; choose from {', '.join(STAGES)}")
    if threads is not None:
        torch.set_num_threads(threads)
    place = pick_device(device)
    work = Work(out, SCHEDULES[schedule], get_preset("tiny"), wordnet, place, Clock(minutes))
    for name in names:
        if not run_stage(name, work):
            typer.echo(f"{name}: stopped after {minutes:g} minutes; run the same again to go on")
            raise typer.Exit(EXIT_UNFINISHED)
        typer.echo(f"{name}: done")


def main() -> None:
    """Run the command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    app()


if __name__ == "__main__":
    main()
