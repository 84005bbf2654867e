"""`xmask3d segment-many`: label many scenes on one machine or on a Ray cluster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from xmask3d_rt.cli.errors import EXIT_MISMATCH
from xmask3d_rt.cli.options import EngineDirOption, check_device
from xmask3d_rt.many.jobs import ATTEMPTS, JobLog, run_jobs
from xmask3d_rt.many.slots import open_slots
from xmask3d_rt.many.workers import Resources
from xmask3d_rt.system.memory import check_threads, count_cores

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
out_console = Console()
err_console = Console(stderr=True)

WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="Worker processes (default 1); on Ray at most what has room."),
]
RayOption = Annotated[
    str | None, typer.Option("--ray", help="Run on Ray: 'local', or the address of a cluster.")
]
AttemptsOption = Annotated[
    int, typer.Option(min=1, help="How often a scene is tried, unless its data is bad.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of each worker; all cores shared if absent.")
]


@app.command()
def segment_many(
    scenes: Annotated[
        Path,
        typer.Argument(
            metavar="LIST",
            help="A file with a scene per line (a cloud and perhaps its RGB-D folder, or a scene "
            "folder), or a folder of them.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for results and the log.")],
    classes: Annotated[str, typer.Option("--classes", help="As for `xmask3d segment`.")],
    engine_dir: EngineDirOption = None,
    suffix: Annotated[
        list[str] | None, typer.Option(help="Per scene: .ply (default), .npz, .json, .png.")
    ] = None,
    workers: WorkersOption = None,
    ray: RayOption = None,
    attempts: AttemptsOption = ATTEMPTS,
    views_limit: Annotated[int | None, typer.Option(min=1, help="Most views per scene.")] = None,
    virtual_views: Annotated[
        int, typer.Option(min=0, help="Rendered for a bare cloud; 0: the 3D head alone.")
    ] = 8,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Label many scenes; run again to go on where a run was stopped."""
    from xmask3d_rt.classes import parse_classes
    from xmask3d_rt.engines.backends import pick_device
    from xmask3d_rt.engines.default import prepare_default_engines
    from xmask3d_rt.many.segment import SegmentScenes, read_scene_list
    from xmask3d_rt.many.sources import EngineSource
    from xmask3d_rt.result import check_suffix

    suffixes = tuple(suffix or [".ply"])
    for wanted in suffixes:
        check_suffix(wanted)
    listed = read_scene_list(scenes)
    class_list = parse_classes(classes, "--classes")
    threads = share_threads(threads, workers, ray)
    check_worker_device(device, ray)
    engines = engine_dir or prepare_default_engines(pick_device(device))
    source = EngineSource(engines.absolute(), device, threads)
    source.read_config()
    task = SegmentScenes(source, class_list, out.absolute(), suffixes, views_limit, virtual_views)
    with (
        JobLog.open(out) as log,
        open_slots(task, workers, ray, find_resources(device, threads)) as slots,
        scene_progress(err_console) as progress,
    ):
        failed = run_jobs(task.make_jobs(listed), slots, log, attempts, progress)
    out_console.print(
        f"{len(listed) - len(failed)} of {len(listed)} scenes labelled in {out}",
        markup=False,
        soft_wrap=True,
    )
    stop_if_failed(failed)


def share_threads(threads: int | None, workers: int | None, ray: str | None) -> int | None:
    """Threads per worker: as asked, else all cores shared among several workers.

    Raises:
        ValueError: more threads than help.
    """
    check_threads(threads)
    if threads is not None or (ray is None and workers in (None, 1)):
        return threads
    return max(1, count_cores() // (workers or 1)) if workers else 1


def check_worker_device(device: str, ray: str | None) -> None:
    """Refuse a device before work starts, rather than once for every scene.

    Raises:
        ValueError: not a device name.
        EngineError: a GPU where there is none; machines of a Ray cluster are not asked.
    """
    check_device(device)
    if ray is None:
        from xmask3d_rt.engines.backends import pick_device

        pick_device(device)


def find_resources(device: str, threads: int | None) -> Resources:
    """What a worker takes on Ray: a GPU unless the CPU is asked for or this machine has none."""
    import torch

    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return Resources(threads or 1, gpu)


@contextmanager
def scene_progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A progress bar over scenes; yields the callback `run_jobs` takes."""
    columns = (
        TextColumn("scenes"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("scenes", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def stop_if_failed(failed: dict[str, str]) -> None:
    """Name the scenes that failed, a line each, and end with exit code 1.

    Raises:
        typer.Exit: a scene failed.
    """
    for name, reason in failed.items():
        err_console.print(f"failed: {name}: {reason}", style="red", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(EXIT_MISMATCH)
