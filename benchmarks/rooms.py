"""How rightly engines label generated rooms that no training saw, in seven conditions.

    python benchmarks/rooms.py --engine-dir engines/tiny [--count 50] [--out DIR] [--csv FILE]

Rooms are made once, in OUT; a stopped run goes on where it was. Every kind of object is asked for
in every room. Appends a row per condition and head to `benchmarks/results/rooms.csv` and draws the
score against the number of views.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # its own folder is there, not the checkout
    from xmask3d_rt.system.interrupts import end_on_interrupt

    end_on_interrupt()

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.charts import Curve, draw_curves
from benchmarks.rows import RESULTS, append_rows, describe_setup
from xmask3d_rt.classes import parse_classes
from xmask3d_rt.data.room import TRAINING_SIZE, TRAINING_SPACING
from xmask3d_rt.data.rooms.draws import HELD_OUT_FROM
from xmask3d_rt.data.rooms.kinds import KINDS, SYNONYMS
from xmask3d_rt.data.rooms.making import RoomOptions, make_rooms
from xmask3d_rt.engines.backends import pick_device
from xmask3d_rt.engines.manifest import Manifest
from xmask3d_rt.evaluation.evaluate import Conditions, Evaluation, evaluate
from xmask3d_rt.export.script import Script
from xmask3d_rt.many.command import find_resources, scene_progress, stop_if_failed
from xmask3d_rt.many.jobs import ATTEMPTS
from xmask3d_rt.many.sources import EngineSource

VIEWS = (4, 8, 16)
USUAL_VIEWS = 8
USUAL, TWICE = "usual", "twice"
NOISE = {USUAL: 1.0, TWICE: 2.0}  # folder of rooms → noise of their sensor


@dataclass(frozen=True)
class Case:
    """One way to show the rooms to the segmenter."""

    name: str
    conditions: Conditions
    rooms: str = USUAL


def list_cases() -> list[Case]:
    """The conditions that are measured; those of the curve first."""
    synonyms = parse_classes([SYNONYMS[kind][0] for kind in KINDS])
    usual = Conditions(USUAL_VIEWS)
    return [
        *(Case(f"{views} views", Conditions(views)) for views in VIEWS),
        Case("synonyms as names", Conditions(USUAL_VIEWS, prompts=synonyms)),
        Case("twice the noise", usual, TWICE),
        Case("cloud alone, rendered views", Conditions(rendered=USUAL_VIEWS)),
        Case("cloud alone, 3D head", Conditions(rendered=0)),
    ]


def list_rows(case: Case, outcome: Evaluation) -> list[dict[str, Any]]:
    """A row per head."""
    return [
        {
            "rooms": outcome.scenes,
            "condition": case.name,
            "head": head,
            "hiou": _round(result.hiou),
            "miou_base": _round(result.miou_base),
            "miou_novel": _round(result.miou_novel),
            "miou": _round(result.miou),
            "points_right": _round(result.allacc),
        }
        for head, result in outcome.scores.items()
    ]


def _round(value: float | None) -> float | str:
    return "" if value is None else round(value, 2)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Script)
def measure_rooms(
    engine_dir: Annotated[Path, typer.Option(help="Engines of preset tiny.")] = Path(
        "engines/tiny"
    ),
    count: Annotated[int, typer.Option(min=1, help="Held-out rooms.")] = 50,
    out: Annotated[Path, typer.Option(help="Where rooms and counts are kept.")] = Path("rooms"),
    csv: Annotated[Path, typer.Option(help="File of rows.")] = RESULTS / "rooms.csv",
    plot: Annotated[
        Path | None, typer.Option(help="Picture of the score; else beside --csv.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each.")] = None,
) -> None:
    """Label held-out rooms and compare with what they are made of."""
    console = Console()
    numbers = range(HELD_OUT_FROM, HELD_OUT_FROM + count)
    seeds = {f"room{number:06d}": number for number in numbers}
    for folder, noise in NOISE.items():
        options = RoomOptions(max(VIEWS), TRAINING_SIZE, "kinds", noise, TRAINING_SPACING)
        make_rooms(out / folder, seeds, options, workers, ATTEMPTS, console)
    source = EngineSource(engine_dir.resolve(), device, threads)
    weights = Manifest.load(engine_dir).weights.files
    setup = describe_setup(pick_device(device))
    about = {**setup, "weights": " ".join(entry.sha256[:12] for entry in weights)}
    rows: list[dict[str, Any]] = []
    for case in list_cases():
        with scene_progress(console) as progress:
            outcome = evaluate(
                source,
                out / case.rooms,
                parse_classes(list(KINDS)),
                "tiny",
                state_dir=out / "counts",
                workers=workers,
                resources=find_resources(device, threads),
                progress=progress,
                conditions=case.conditions,
            )
        stop_if_failed(outcome.failed)
        rows += list_rows(case, outcome)
    print_rows(console, rows)
    append_rows(csv, [{**row, **about} for row in rows])
    draw_scores(plot or csv.with_suffix(".png"), rows)


def print_rows(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """The rows as a table."""
    table = Table(*rows[0], box=None, header_style="bold")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)


def draw_scores(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """hIoU, base and novel mIoU of the fused head over the number of views, as PNG."""
    fused = {row["condition"]: row for row in rows if row["head"] == "fused"}
    titles = {"hiou": "hIoU", "miou_base": "mIoU of base kinds", "miou_novel": "of novel kinds"}
    curves = [
        Curve(title, "views", "%", VIEWS, [fused[f"{n} views"][key] for n in VIEWS])
        for key, title in titles.items()
    ]
    return draw_curves(path, f"{rows[0]['rooms']} held-out rooms, fused head", curves)


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
