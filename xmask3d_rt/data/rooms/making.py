"""Writing many generated rooms as scene folders, in parallel; run again to go on."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from xmask3d_rt.data.room import generate_room, write_room
from xmask3d_rt.many.command import scene_progress, stop_if_failed
from xmask3d_rt.many.jobs import Job, JobLog, run_jobs
from xmask3d_rt.many.slots import open_slots
from xmask3d_rt.many.workers import Resources, Work


@dataclass(frozen=True)
class RoomOptions:
    """What all rooms of a data set have in common; as of `generate_room`."""

    views: int = 8
    image_size: tuple[int, int] = (480, 640)
    label_set: str = "scannet20"
    noise: float = 0.0
    spacing: float = 0.02


@dataclass(frozen=True)
class MakeRooms:
    """Opens workers that generate rooms."""

    out: Path
    options: RoomOptions

    def __call__(self, number: int) -> Work:
        """The worker of a slot."""
        return self.make_room

    def make_room(self, payload: tuple[str, int]) -> dict[str, Any]:
        """Write the room (name, seed)."""
        name, seed = payload
        options = self.options
        room = generate_room(
            seed,
            options.views,
            options.image_size,
            label_set=options.label_set,
            noise=options.noise,
            point_spacing=options.spacing,
        )
        cloud = write_room(room, self.out / name) / "scene.ply"
        files = {str(cloud.relative_to(self.out)): cloud.stat().st_size}
        return {"files": files, "points": len(room.points)}


def make_rooms(
    out: Path,
    seeds: Mapping[str, int],
    options: RoomOptions,
    workers: int | None,
    attempts: int,
    console: Console,
) -> None:
    """Write the rooms that are not there yet.

    Args:
        out: folder for the scene folders.
        seeds: seed by name of the scene folder.
        options: of all rooms.
        workers: processes; None picks a number that suits the machine.
        attempts: how often a room is tried, unless its options are bad.
        console: for the progress bar.

    Raises:
        typer.Exit: some failed.
    """
    key = "-".join(map(str, astuple(options)))
    jobs = [Job(name, (name, seed), key) for name, seed in seeds.items()]
    task = MakeRooms(out.absolute(), options)
    with (
        JobLog.open(out) as log,
        open_slots(task, workers, None, Resources()) as slots,
        scene_progress(console) as progress,
    ):
        failed = run_jobs(jobs, slots, log, attempts, progress)
    stop_if_failed(failed)
