"""`xmask3d data`: check and convert data sets, and make rooms with labels."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from xmask3d_rt.command_errors import EXIT_MISMATCH
from xmask3d_rt.many.command import (
    AttemptsOption,
    WorkersOption,
    scene_progress,
    stop_if_failed,
)
from xmask3d_rt.many.jobs import ATTEMPTS, Job, JobLog, run_jobs
from xmask3d_rt.many.slots import open_slots
from xmask3d_rt.many.workers import Resources, Work

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
    train: Annotated[int, typer.Option(min=0, help="Rooms to train on.")] = 8,
    val: Annotated[int, typer.Option(min=0, help="Other rooms, to evaluate on.")] = 2,
    views: Annotated[int, typer.Option(min=1, help="Posed views of each.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first room.")] = 0,
    workers: WorkersOption = None,
    attempts: AttemptsOption = ATTEMPTS,
) -> None:
    """Generate furnished rooms with labels, as scene folders; run again to go on."""
    names = [f"{'train' if i < train else 'val'}/room{seed + i:05d}" for i in range(train + val)]
    jobs = [Job(name, (name, seed + i, views), str(views)) for i, name in enumerate(names)]
    task = MakeRooms(out.resolve())
    with (
        JobLog.open(out) as log,
        open_slots(task, workers, None, Resources()) as slots,
        scene_progress(err_console) as progress,
    ):
        failed = run_jobs(jobs, slots, log, attempts, progress)
    stop_if_failed(failed)
    typer.echo(f"{len(jobs)} rooms with {views} views each are in {out}")


@dataclass(frozen=True)
class MakeRooms:
    """Opens workers that generate rooms."""

    out: Path

    def __call__(self, number: int) -> Work:
        """The worker of a slot."""
        return self.make_room

    def make_room(self, payload: tuple[str, int, int]) -> dict[str, Any]:
        """Write the room (name, seed, views)."""
        from xmask3d_rt.data.room import generate_room, write_room

        name, seed, views = payload
        room = generate_room(seed=seed, views=views)
        cloud = write_room(room, self.out / name) / "scene.ply"
        files = {str(cloud.relative_to(self.out)): cloud.stat().st_size}
        return {"files": files, "points": len(room.points)}
