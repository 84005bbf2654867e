"""Options of the commands, checked before anything is loaded: one line for each that is wrong."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from xmask3d_rt.result import Result

EngineDirOption = Annotated[
    Path | None,
    typer.Option(
        "--engine-dir", help="Folder that `build` made; else the small weights of the package."
    ),
]
SIZES = (8, 8192)  # pixels of a side
VERBOSE = ("-v", "--verbose")
# Views rendered from the cloud alone need them.
PLACING = {"up": "--up", "virtual_views": "--virtual-views"}


def move_verbose(args: Sequence[str]) -> list[str]:
    """The arguments with `-v` in front of the command, wherever it was given."""
    end = args.index("--") if "--" in args else len(args)
    options = [arg for arg in args[:end] if arg not in VERBOSE]
    found = len(options) < end
    return [*(VERBOSE[:1] if found else ()), *options, *args[end:]]


def check_segment(ctx: typer.Context) -> None:
    """Refuse options of `segment` that would be ignored.

    Raises:
        ValueError: two options of which one makes the other void.
    """
    values = ctx.params
    if values["no_views"] and values["rgbd"] is not None:
        raise ValueError("--no-views and --rgbd exclude each other")
    if values["views_limit"] is not None and values["rgbd"] is None:
        raise ValueError("--views-limit needs --rgbd: it counts the views of that folder")
    other = "--no-views" if values["no_views"] else "--rgbd" if values["rgbd"] is not None else ""
    for name, option in PLACING.items():
        if other and is_given(ctx, name):
            raise ValueError(
                f"{option} and {other} exclude each other: {option} is about views rendered from "
                "the cloud"
            )


def is_given(ctx: typer.Context, name: str) -> bool:
    """Whether a parameter was written on the command line, rather than left at its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_device(device: str) -> str:
    """The name of a device, before the libraries that know the devices are loaded.

    Raises:
        ValueError: not a device name.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device):
        raise ValueError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N")
    return device


def parse_up(up: str | None) -> list[float] | None:
    """The direction behind `--up`, None where it is to be estimated.

    Raises:
        ValueError: not three numbers that make a direction.
    """
    if up is None:
        return None
    from xmask3d_rt.viewing.gravity import check_up

    try:
        numbers = [float(part) for part in up.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3:
        raise ValueError(f"--up must be 3 numbers such as 0,0,1, got {up!r}")
    check_up(numbers, "--up")
    return numbers


def parse_size(size: str) -> tuple[int, int]:
    """Rows and columns behind `--size`, which names columns first.

    Raises:
        ValueError: not two whole numbers of pixels.
    """
    match = re.fullmatch(r"([0-9]+)[xX]([0-9]+)", size.strip(), re.ASCII)
    if match is None:
        raise ValueError(f"--size must be 2 numbers such as 640x480, got {size!r}")
    columns, rows = (int(part[:9]) for part in match.groups())
    if not all(SIZES[0] <= side <= SIZES[1] for side in (columns, rows)):
        raise ValueError(
            f"--size must lie between {SIZES[0]} and {SIZES[1]} pixels a side, got {size!r}"
        )
    return rows, columns


def check_outputs(output: Sequence[Path], preview: Path | None) -> list[Path]:
    """The files to write.

    Raises:
        ValueError: a suffix without a format, a folder, a preview that is no .png, or a file
            given twice.
        OSError: no file can be made there.
    """
    from xmask3d_rt.result import check_output

    if preview is not None and preview.suffix.lower() != ".png":
        raise ValueError(f"--preview must be a .png file, got {preview.name!r}; see --out")
    targets = [check_output(path) for path in (*output, *([preview] if preview else []))]
    seen: set[str] = set()
    for target in targets:
        place = os.path.realpath(target)  # Path.resolve fails on a link to itself
        if place in seen:
            raise ValueError(f"{target} is given twice; give each output its own file")
        seen.add(place)
    return targets


def save_all(result: "Result", targets: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Save a result in every file that can be written.

    Returns:
        the files written, and a sentence for each of the others.
    """
    written, failures = [], []
    for target in targets:
        try:
            written.append(result.save(target))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            failures.append(f"cannot write {target}: {reason}")
    return written, failures
