"""`xmask3d rooms`: make labelled rooms, and look at them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from xmask3d_rt.files import atomic_write, check_target
from xmask3d_rt.many.command import AttemptsOption, WorkersOption
from xmask3d_rt.many.jobs import ATTEMPTS

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Generated rooms with labels: to train on, to evaluate on, to look at.",
)
err_console = Console(stderr=True)

SeedOption = Annotated[int, typer.Option(min=0, help="Seed; from 100000 on rooms are held out.")]
ViewsOption = Annotated[int, typer.Option(min=1, max=10_000, help="Posed views of each room.")]
NoiseOption = Annotated[
    float,
    typer.Option(min=0, max=10, help="Of depth, poses, colours, points: 0 none, 1 usual, 2 twice."),
]
LabelSetOption = Annotated[
    str, typer.Option(help="kinds (every kind of object apart), or scannet20.")
]


@app.command()
def make(
    out: Annotated[Path, typer.Option("--out", help="Folder for the scene folders.")],
    seed: SeedOption = 0,
    count: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Rooms; their seeds follow each other.")
    ] = 1,
    views: ViewsOption = 8,
    noise: NoiseOption = 1.0,
    label_set: LabelSetOption = "kinds",
    spacing: Annotated[
        float,
        typer.Option(
            min=0.005,
            max=1,
            help="Metres between points; below 0.03 views may have too many to train on.",
        ),
    ] = 0.03,
    workers: WorkersOption = None,
    attempts: AttemptsOption = ATTEMPTS,
) -> None:
    """Write rooms as scene folders that `eval --data` and `train` read; run again to go on."""
    from xmask3d_rt.data.room import TRAINING_SIZE
    from xmask3d_rt.data.rooms.kinds import list_classes
    from xmask3d_rt.data.rooms.making import RoomOptions, make_rooms

    list_classes(label_set)  # an unknown set is refused before work starts
    options = RoomOptions(views, TRAINING_SIZE, label_set, noise, spacing)
    seeds = {f"room{number:05d}": number for number in range(seed, seed + count)}
    make_rooms(out, seeds, options, workers, attempts, err_console)
    typer.echo(f"{count} rooms with {views} views each are in {out}")


@app.command()
def preview(
    out: Annotated[Path, typer.Option("--out", help="Picture to write, .png.")],
    seed: SeedOption = 0,
    views: ViewsOption = 8,
    noise: NoiseOption = 1.0,
    label_set: LabelSetOption = "kinds",
) -> None:
    """Draw the views of a room with their labels beside them and a legend."""
    from xmask3d_rt.data.room import TRAINING_SIZE, generate_room
    from xmask3d_rt.data.rooms.preview import draw_room

    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png, got {out}")
    check_target(out)
    room = generate_room(seed, views, TRAINING_SIZE, label_set=label_set, noise=noise)
    with atomic_write(out) as temporary:
        draw_room(room, seed).save(temporary, "PNG")
    typer.echo(f"wrote {out}")
