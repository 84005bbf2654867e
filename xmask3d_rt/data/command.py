"""`xmask3d data`: check and convert data sets, and make rooms with labels."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from xmask3d_rt.cli.errors import EXIT_MISMATCH
from xmask3d_rt.many.command import (
    AttemptsOption,
    WorkersOption,
    scene_progress,
)
from xmask3d_rt.many.jobs import ATTEMPTS

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Labelled scenes: what is there, converting, generated rooms.",
)
err_console = Console(stderr=True)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of labelled scenes.")]


@app.command()
def check(
    folder: FolderArgument,
    full: Annotated[
        bool, typer.Option("--full", help="Read every file and compare with recorded hashes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a data folder holds, what is missing and how to get it (exit code 1 if needed)."""
    from xmask3d_rt.data.check import check_data

    report = check_data(folder, full)
    typer.echo(json.dumps(report.to_dict(), indent=2) if as_json else report.describe())
    if not report.ok:
        raise typer.Exit(EXIT_MISMATCH)


@app.command()
def convert(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Processed ScanNet as released.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the scene folders.")],
) -> None:
    """Turn processed ScanNet into scene folders without pickles; run again to go on."""
    from xmask3d_rt.data.convert import convert_released

    with scene_progress(err_console) as progress:
        outcome = convert_released(folder, out, progress)
    typer.echo(f"{outcome.written} scenes converted, {outcome.kept} were there; they are in {out}")


@app.command()
def rooms(
    out: Annotated[Path, typer.Option("--out", help="Folder for the scene folders.")],
    train: Annotated[int, typer.Option(min=0, max=1_000_000, help="Rooms to train on.")] = 8,
    val: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Other rooms, to evaluate on.")
    ] = 2,
    views: Annotated[int, typer.Option(min=1, max=10_000, help="Posed views of each.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first room.")] = 0,
    workers: WorkersOption = None,
    attempts: AttemptsOption = ATTEMPTS,
) -> None:
    """Generate rooms with ScanNet's classes, to train on and to evaluate; see also `rooms`."""
    from xmask3d_rt.data.rooms.making import RoomOptions, make_rooms

    if not train + val:
        raise ValueError("--train 0 --val 0 makes no room; give at least one of either")
    numbers = range(train + val)
    seeds = {f"{'train' if i < train else 'val'}/room{seed + i:05d}": seed + i for i in numbers}
    make_rooms(out, seeds, RoomOptions(views), workers, attempts, err_console)
    typer.echo(f"{len(seeds)} rooms with {views} views each are in {out}")
