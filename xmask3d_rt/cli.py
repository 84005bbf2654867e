"""The command line: `xmask3d build | segment | train | render | demo | info | doctor | …`.

Imports that take time lie inside the commands, so that `xmask3d --help` answers at once. Exit
codes: 0 done, 1 an export that fails verification, 2 wrong input or a missing piece (one line on
stderr, a traceback with `--verbose`), 130 Ctrl-C.
"""

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from xmask3d_rt.command_errors import EXIT_MISMATCH, one_line_errors
from xmask3d_rt.version import __version__

# Options and help are those of a script in export/, which imports torch.
FORWARD = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

logger = logging.getLogger("xmask3d_rt")
out = Console()
err = Console(stderr=True)


class Commands(TyperGroup):
    """Turns the package's exceptions into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        with one_line_errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Open-vocabulary labels for every point of a coloured point cloud (XMask3D).",
)
weights_app = typer.Typer(no_args_is_help=True, help="Look into weight files.")
app.add_typer(weights_app, name="weights")

SceneArgument = Annotated[
    Path, typer.Argument(metavar="SCENE", help="Point cloud: .ply, .pcd, .npz, .npy, .txt, .xyz.")
]
EngineDirOption = Annotated[Path, typer.Option("--engine-dir", help="Folder that `build` made.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
UpOption = Annotated[
    str | None, typer.Option(help="Direction away from the floor, as x,y,z; else estimated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def main() -> None:
    """Entry point of the `xmask3d` command."""
    # OpenMP threads that spin while they wait take the cores that other work needs: with three
    # runnable threads per core two views took 6 to 12 s, with sleeping ones 1.9 s. It is read
    # when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


def print_version(wanted: bool) -> None:
    """Print the version and stop, where the option is given."""
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def configure(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log more, and show tracebacks.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=print_version),
    ] = False,
) -> None:
    """Set up logging on stderr before any command runs."""
    from rich.logging import RichHandler

    handler = RichHandler(console=err, show_time=False, show_path=False)
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)


@app.command()
def segment(
    scene: SceneArgument,
    classes: Annotated[
        str,
        typer.Option(
            "--classes",
            help="Names with ',' between classes and ';' between synonyms; a file with one class "
            "per line; or scannet20, scannet200, nyu40, b15n4 ...",
        ),
    ],
    engine_dir: EngineDirOption,
    output: Annotated[
        list[Path],
        typer.Option("--out", help="Result: .ply, .npz, .json or .png; repeat for several."),
    ],
    rgbd: Annotated[
        Path | None,
        typer.Option(help="RGB-D folder: color/ depth/ pose/ intrinsics.txt, or ScanNet's export."),
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(help="Also draw the labelled cloud into this .png.")
    ] = None,
    views_limit: Annotated[
        int | None,
        typer.Option(min=1, help="Use at most this many views, spread evenly over the folder."),
    ] = None,
    no_views: Annotated[
        bool, typer.Option("--no-views", help="Use the 3D head alone; it knows fewer classes.")
    ] = False,
    virtual_views: Annotated[
        int, typer.Option(min=1, help="Views to render from the cloud where none are given.")
    ] = 8,
    up: UpOption = None,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of the engines; all cores if absent.")
    ] = None,
) -> None:
    """Label every point of a scene with the classes you name."""
    from xmask3d_rt import cli_output
    from xmask3d_rt.classes import parse_classes
    from xmask3d_rt.memory import read_device_memory
    from xmask3d_rt.result import check_output
    from xmask3d_rt.rgbd import load_rgbd, spread_views
    from xmask3d_rt.scene import PointCloud

    if no_views and rgbd is not None:
        raise ValueError("--no-views and --rgbd exclude each other")
    # What the caller gave is checked before engines of gigabytes are loaded.
    targets = [check_output(path) for path in (*output, *([preview] if preview else []))]
    class_list = parse_classes(classes, "--classes")
    cloud = PointCloud.load(scene)
    views: Any = "none" if no_views else None
    if rgbd is not None:
        views = spread_views(load_rgbd(rgbd), views_limit)

    from xmask3d_rt.segmenter import Segmenter

    segmenter = Segmenter(engine_dir, device=device, threads=threads)
    with cli_output.view_progress(err) as progress:
        result = segmenter.run(
            cloud,
            class_list,
            views=views,
            up=parse_up(up),
            virtual_views=virtual_views,
            progress=progress,
        )
    for target in targets:
        result.save(target)
    cli_output.print_result(out, result, targets, read_device_memory(segmenter.device))
    cli_output.warn_synthetic(err, segmenter.manifest)


@app.command()
def info(
    engine_dir: Annotated[Path, typer.Argument(metavar="ENGINE_DIR")],
    verify: Annotated[
        bool, typer.Option(help="Hash every file again, even unchanged ones.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what an engine folder holds: model, components, precision, parity, origin."""
    from xmask3d_rt import cli_output
    from xmask3d_rt.engines.manifest import Manifest

    manifest = Manifest.load(engine_dir)
    if verify:
        manifest.verify(full=True)
    if as_json:
        typer.echo(manifest.to_json(), nl=False)
    else:
        cli_output.print_manifest(out, manifest, verified=verify)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine has, which backends work on it, and why the others don't."""
    import json

    from xmask3d_rt import cli_output
    from xmask3d_rt.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        typer.echo(json.dumps(diagnosis.to_dict(), indent=2))
    else:
        cli_output.print_diagnosis(out, diagnosis)


@app.command(context_settings=FORWARD)
def build(ctx: typer.Context) -> None:
    """Build engines: a preset with synthetic weights, or from weight files."""
    run_build(ctx.args)


@app.command(context_settings=FORWARD)
def verify(ctx: typer.Context) -> None:
    """Compare the model or built engines with recorded reference cases."""
    from xmask3d_rt.export.verify import app as verify_app

    run_app(verify_app, "xmask3d verify", ctx.args)


@app.command(context_settings=FORWARD)
def train(ctx: typer.Context) -> None:
    """Train a preset on labelled scenes."""
    from xmask3d_rt.training.command import app as train_app

    run_app(train_app, "xmask3d train", ctx.args)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where room and results go.")] = Path(
        "demo"
    ),
    engine_dir: Annotated[
        Path, typer.Option("--engine-dir", help="Built as preset tiny if it is not there.")
    ] = Path("engines/tiny"),
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another room.")] = 0,
    views: Annotated[int, typer.Option(min=1, help="Posed RGB-D views of the room.")] = 8,
    device: DeviceOption = "auto",
) -> None:
    """Make a furnished room, segment it with small engines, and draw the result."""
    from xmask3d_rt import cli_output
    from xmask3d_rt.demo import has_engines, make_room, save_result

    if not has_engines(engine_dir):
        run_build(["--preset", "tiny", "--out", str(engine_dir), "--device", device])
    out.print(f"making a room of seed {seed} with {views} views in {folder / 'room'}", markup=False)
    room = make_room(folder / "room", seed, views)

    from xmask3d_rt.segmenter import Segmenter

    segmenter = Segmenter(engine_dir, device=device)
    with cli_output.view_progress(err) as progress:
        result = segmenter.run(
            room / "scene.ply", room / "classes.txt", views=room, progress=progress
        )
    cli_output.print_result(out, result, save_result(result, folder))
    cli_output.warn_synthetic(err, segmenter.manifest)


@app.command()
def render(
    scene: SceneArgument,
    folder: Annotated[Path, typer.Option("--out", help="RGB-D folder to write.")],
    views: Annotated[int, typer.Option(min=1, help="Number of cameras.")] = 8,
    size: Annotated[str, typer.Option(help="Columns x rows of the images.")] = "640x480",
    up: UpOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other cameras.")] = 0,
) -> None:
    """Place cameras inside a coloured cloud and write what they see as an RGB-D folder."""
    from xmask3d_rt.rgbd_writer import write_rgbd
    from xmask3d_rt.scene import PointCloud
    from xmask3d_rt.virtual_views import place_views

    columns, rows = (int(part) for part in split_numbers(size, "x", 2, "--size"))
    cloud = PointCloud.load(scene)
    rgb = cloud.require_rgb("render")
    placed = place_views(
        cloud.xyz, rgb, up=parse_up(up), count=views, seed=seed, size=(rows, columns)
    )
    out.print(f"wrote {len(placed)} views to {write_rgbd(placed, folder)}", markup=False)


def parse_up(up: str | None) -> list[float] | None:
    """The direction behind `--up`, None where it is to be estimated."""
    return None if up is None else split_numbers(up, ",", 3, "--up")


def run_build(args: list[str]) -> None:
    """Run `export/build_engines.py` in this process."""
    from xmask3d_rt.export.build_engines import app as build_app

    run_app(build_app, "xmask3d build", args)


def run_app(command: typer.Typer, name: str, args: list[str]) -> None:
    """Run another typer command in this process; its errors are handled like any other."""
    code = command(args=args, prog_name=name, standalone_mode=False)
    if code:
        raise typer.Exit(code)


def split_numbers(text: str, separator: str, count: int, option: str) -> list[float]:
    """The numbers of an option such as 640x480 or 0,0,1.

    Raises:
        ValueError: another count, or words that are not numbers.
    """
    example = separator.join("1" * count)
    try:
        numbers = [float(part) for part in text.lower().split(separator)]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise ValueError(f"{option} must be {count} numbers such as {example}, got {text!r}")
    return numbers


@weights_app.command("inspect")
def inspect_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A weight file or folder.")],
) -> None:
    """Say what a weight file is and whether it is complete (exit code 1 if it is not)."""
    from xmask3d_rt.model.checkpoints import inspect_weights

    report = inspect_weights(file)
    typer.echo(report.describe())
    if not report.complete:
        raise typer.Exit(EXIT_MISMATCH)
