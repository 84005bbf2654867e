"""The command line: `xmask3d build | segment | segment-many | train | eval | info | doctor ...`.

Imports that take time lie inside the commands, so that `xmask3d --help` answers at once. Exit
codes: 0 done, 1 an export that fails verification, 2 wrong input or a missing piece (one line on
stderr, a traceback with `--verbose`), 130 Ctrl-C.
"""

import logging
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from xmask3d_rt.cli.errors import EXIT_MISMATCH, one_line_errors
from xmask3d_rt.cli.options import (
    EngineDirOption,
    check_device,
    check_outputs,
    check_segment,
    move_verbose,
    parse_size,
    parse_up,
    save_all,
)
from xmask3d_rt.cli.steps import Steps
from xmask3d_rt.version import __version__

HELP = {"help_option_names": ["-h", "--help"]}
# Options and help are those of a script in export/, which imports torch.
FORWARD = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

logger = logging.getLogger("xmask3d_rt")
out = Console()
err = Console(stderr=True)


class Commands(TyperGroup):
    """Turns wrong options and the package's exceptions into one line and an exit code."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Parse the options in front of the command, `-v` wherever it stands."""
        with one_line_errors():
            return super().make_context(info_name, move_verbose(args), *rest, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        with one_line_errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    context_settings=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Open-vocabulary labels for every point of a coloured point cloud (XMask3D).",
)
weights_app = typer.Typer(no_args_is_help=True, help="Look into weight files.")
app.add_typer(weights_app, name="weights")

SceneArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SCENE", help="Point cloud: .ply, .pcd, .npz, .npy, .txt, .xyz, .csv, .asc, .pts."
    ),
]
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
    app(prog_name="xmask3d")


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
    ctx: typer.Context,
    scene: SceneArgument,
    classes: Annotated[
        str,
        typer.Option(
            "--classes",
            help="Names with ',' between classes and ';' between synonyms; a file with one class "
            "per line; or scannet20, scannet200, nyu40, b15n4 ...",
        ),
    ],
    output: Annotated[
        list[Path],
        typer.Option("--out", help="Result: .ply, .npz, .json or .png; repeat for several."),
    ],
    engine_dir: EngineDirOption = None,
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
    other: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Add a class of this name for points that fit none of --classes."
        ),
    ] = None,
    min_score: Annotated[
        float,
        typer.Option(
            help="Points whose score, from 0 to 1, is below go to the class of --other, or to one "
            "called other."
        ),
    ] = 0.0,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of the engines; all cores if absent.")
    ] = None,
) -> None:
    """Label every point of a scene with the classes you name."""
    check_segment(ctx)
    check_device(device)
    with Steps(err) as steps:
        steps.start("starting")
        from xmask3d_rt.classes import parse_classes
        from xmask3d_rt.cli import output as cli_output
        from xmask3d_rt.scene.cloud import PointCloud
        from xmask3d_rt.scene.rgbd import read_rgbd
        from xmask3d_rt.system.memory import read_device_memory
        from xmask3d_rt.text.other_class import check_min_score, check_other

        # Whatever the caller gave is checked before engines of gigabytes are loaded.
        direction = parse_up(up)
        targets = check_outputs(output, preview)
        class_list = parse_classes(classes, "--classes")
        check_other(other, class_list, "segment")
        options: dict[str, Any] = {"other": other} if other is not None else {}
        if min_score:
            options["min_score"] = check_min_score(min_score, "segment")
        views: Any = "none" if no_views else None
        if rgbd is not None:
            steps.start(f"reading {rgbd}")
            views = read_rgbd(rgbd).spread(views_limit)
        steps.start(f"reading {scene}")
        cloud = PointCloud.load(scene)
        cloud.require_rgb("segment")
        steps.start(f"loading engines from {engine_dir or 'the cache'}")
        from xmask3d_rt.segmenter import Segmenter

        segmenter = Segmenter(engine_dir, device=device, threads=threads)
        steps.start(describe_work(views, virtual_views))
        result = segmenter.run(
            cloud,
            class_list,
            views=views,
            up=direction,
            virtual_views=virtual_views,
            progress=partial(report_view, steps),
            **options,
        )
        steps.start("saving " + ", ".join(target.name for target in targets))
        written, failures = save_all(result, targets)
    memory, manifest = read_device_memory(segmenter.device), segmenter.manifest
    cli_output.print_result(out, result, written, memory, steps.seconds, manifest)
    cli_output.warn_weights(err, manifest)
    if failures:
        raise OSError("; ".join(failures))


@app.command()
def info(
    engine_dir: Annotated[Path, typer.Argument(metavar="ENGINE_DIR")],
    verify: Annotated[
        bool, typer.Option(help="Hash every file again, even unchanged ones.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what an engine folder holds: model, components, precision, parity, origin."""
    with Steps(err) as steps:
        steps.start(f"checking the files in {engine_dir}")
        from xmask3d_rt.cli import output as cli_output
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

    with Steps(err) as steps:
        steps.start("trying the backends")
        from xmask3d_rt.cli import output as cli_output
        from xmask3d_rt.cli.doctor import diagnose

        diagnosis = diagnose()
    if as_json:
        typer.echo(json.dumps(diagnosis.to_dict(), indent=2))
    else:
        cli_output.print_diagnosis(out, diagnosis)


@app.command(context_settings=FORWARD)
def build(ctx: typer.Context) -> None:
    """Build engines: of the package's small weights, or from weight files."""
    run_build(ctx.args)


@app.command(context_settings=FORWARD)
def verify(ctx: typer.Context) -> None:
    """Compare the model or built engines with recorded reference cases."""
    from xmask3d_rt.export.verify import app as verify_app

    run_app(verify_app, "xmask3d verify", ctx.args)


@app.command("eval", context_settings=FORWARD)
def evaluate(ctx: typer.Context) -> None:
    """Judge engines or a checkpoint over labelled scenes: IoU, base and novel."""
    from xmask3d_rt.evaluation.command import app as eval_app

    run_app(eval_app, "xmask3d eval", ctx.args)


@app.command(context_settings=FORWARD)
def segment_many(ctx: typer.Context) -> None:
    """Label many scenes, by several workers or on Ray, and go on after a stop."""
    from xmask3d_rt.many.command import app as many_app

    run_app(many_app, "xmask3d segment-many", ctx.args)


@app.command(context_settings=FORWARD)
def data(ctx: typer.Context) -> None:
    """Labelled scenes: check, convert, generate rooms."""
    from xmask3d_rt.data.command import app as data_app

    run_app(data_app, "xmask3d data", ctx.args)


@app.command(context_settings=FORWARD)
def rooms(ctx: typer.Context) -> None:
    """Generate labelled rooms, and look at them; see `xmask3d rooms --help`."""
    from xmask3d_rt.data.rooms.command import app as rooms_app

    run_app(rooms_app, "xmask3d rooms", ctx.args)


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
        Path, typer.Option("--engine-dir", help="Built of the small weights if it is not there.")
    ] = Path("engines/tiny"),
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another room.")] = 0,
    views: Annotated[
        int, typer.Option(min=1, max=10_000, help="Posed RGB-D views of the room.")
    ] = 8,
    device: DeviceOption = "auto",
) -> None:
    """Make a furnished room, label it with small engines, and draw it beside the truth."""
    check_device(device)
    with Steps(err) as steps:
        steps.start(f"looking for engines in {engine_dir}")
        from xmask3d_rt.cli import output as cli_output
        from xmask3d_rt.cli.demo import describe_score, has_engines, make_room, save_result
        from xmask3d_rt.engines.default import BUILD_BUNDLED

        found = has_engines(engine_dir)
    if not found:
        run_build([*BUILD_BUNDLED, "--out", str(engine_dir), "--device", device])
    out.print(f"making a room of seed {seed} with {views} views in {folder / 'room'}", markup=False)
    with Steps(err) as steps:
        steps.start("making the room")
        room = make_room(folder / "room", seed, views)
        steps.start(f"loading engines from {engine_dir}")
        from xmask3d_rt.segmenter import Segmenter

        segmenter = Segmenter(engine_dir, device=device)
        steps.start(f"reading {room / 'scene.ply'}")
        progress = partial(report_view, steps)
        result = segmenter.run(
            room / "scene.ply", room / "classes.txt", views=room, progress=progress
        )
        steps.start("saving")
        truth = result.cloud.source.vertex.numbers["label"]
        written = save_result(result, truth, folder)
    manifest = segmenter.manifest
    cli_output.print_result(out, result, written, 0, steps.seconds, manifest)
    out.print(describe_score(result, truth), highlight=False)
    cli_output.warn_weights(err, manifest)


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
    with Steps(err) as steps:
        steps.start(f"reading {scene}")
        from xmask3d_rt.scene.cloud import PointCloud
        from xmask3d_rt.scene.rgbd_writer import check_rgbd_target, write_rgbd
        from xmask3d_rt.viewing.virtual import place_views

        extent, direction = parse_size(size), parse_up(up)
        check_rgbd_target(folder)
        cloud = PointCloud.load(scene)
        rgb = cloud.require_rgb("render")
        steps.start(f"placing and rendering {views} views")
        placed = place_views(cloud.xyz, rgb, up=direction, count=views, seed=seed, size=extent)
        steps.start(f"writing {folder}")
        target = write_rgbd(placed, folder)
    out.print(f"wrote {len(placed)} views to {target}", markup=False)


def describe_work(views: Any, virtual_views: int) -> str:
    """What a run does before its first view is done."""
    if views is None:
        return f"placing and rendering {virtual_views} views"
    return "labelling" if isinstance(views, str) else f"views 0/{len(views)}"


def report_view(steps: Steps, done: int, total: int) -> None:
    """The `progress` of a run; what follows the last view takes seconds, too."""
    steps.count("views", done, total)
    if done == total:
        steps.start("filling in the points that no view saw")


def run_build(args: list[str]) -> None:
    """Run `export/build_engines.py` in this process."""
    from xmask3d_rt.export.build_engines import app as build_app

    run_app(build_app, "xmask3d build", args)


def run_app(command: typer.Typer, name: str, args: list[str]) -> None:
    """Run another typer command in this process; its errors are handled like any other."""
    code = command(args=args, prog_name=name, standalone_mode=False, **HELP)
    if code:
        raise typer.Exit(code)


@weights_app.command("inspect")
def inspect_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A weight file or folder.")],
) -> None:
    """Say what a weight file is and whether it is complete (exit code 1 if it is not)."""
    with Steps(err) as steps:
        steps.start(f"reading {file}")
        from xmask3d_rt.model.checkpoints import inspect_weights

        report = inspect_weights(file)
    typer.echo(report.describe())
    if not report.complete:
        raise typer.Exit(EXIT_MISMATCH)
