"""`xmask3d eval`: judge engines or a checkpoint over labelled scenes."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from xmask3d_rt.config import PRESETS, get_preset
from xmask3d_rt.data.labelled import SPLITS
from xmask3d_rt.evaluation.evaluate import Conditions, Evaluation, evaluate
from xmask3d_rt.evaluation.plots import draw_class_bars, draw_confusion
from xmask3d_rt.files import atomic_write, check_folder, check_target
from xmask3d_rt.many.command import (
    AttemptsOption,
    DeviceOption,
    RayOption,
    ThreadsOption,
    WorkersOption,
    check_worker_device,
    find_resources,
    scene_progress,
    share_threads,
    stop_if_failed,
)
from xmask3d_rt.many.jobs import ATTEMPTS
from xmask3d_rt.many.sources import CheckpointSource, EngineSource, SegmenterSource

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
out_console = Console()
err_console = Console(stderr=True)


@app.command("eval")
def evaluate_command(
    data: Annotated[Path, typer.Option("--data", help="Folder of labelled scenes.")],
    preset: Annotated[str, typer.Option(help=f"Trained as: {', '.join(PRESETS)}.")],
    engine_dir: Annotated[
        Path | None, typer.Option("--engine-dir", help="Folder that `build` made.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Judge the PyTorch module with this checkpoint.")
    ] = None,
    sd: Annotated[Path | None, typer.Option(help="Stable Diffusion v1, for --checkpoint.")] = None,
    clip: Annotated[Path | None, typer.Option(help="CLIP ViT-L-14, for --checkpoint.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="'synthetic': frozen networks by rule, for a checkpoint trained without --sd and "
            "--clip."
        ),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Another list than the preset's, as for `segment`.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    released_views: Annotated[
        bool,
        typer.Option(
            "--released-views",
            help="Leave out the views that the released evaluation leaves out: parity of the "
            "published numbers.",
        ),
    ] = False,
    prompts: Annotated[
        str | None,
        typer.Option(help="Ask for these in place of the classes' names, one each in their order."),
    ] = None,
    views_limit: Annotated[
        int | None, typer.Option(min=1, help="Most views per scene, spread evenly.")
    ] = None,
    virtual_views: Annotated[
        int | None,
        typer.Option(
            min=0, help="Render so many from the cloud in place of its views; 0: the 3D head alone."
        ),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers.")] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Folder for confusion matrices and bars per class.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Where a killed run is continued from; else the cache.")
    ] = None,
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Report without the scenes that failed.")
    ] = False,
    workers: WorkersOption = None,
    ray: RayOption = None,
    attempts: AttemptsOption = ATTEMPTS,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """IoU over labelled scenes; run again to go on where a run was stopped."""
    from xmask3d_rt.classes import parse_classes

    threads = share_threads(threads, workers, ray)
    check_worker_device(device, ray)
    if split not in SPLITS:
        raise ValueError(f"--split must be one of {', '.join(SPLITS)}, got {split!r}")
    source = choose_source(engine_dir, checkpoint, preset, sd, clip, weights, device, threads)
    names = parse_classes(list(get_preset(preset).split.names))
    class_list = names if classes is None else parse_classes(classes, "--classes")
    asked = None if prompts is None else parse_classes(prompts, "--prompts")
    if json_file is not None:
        check_target(json_file)
    if plots is not None:
        check_folder(plots)
    with scene_progress(err_console) as progress:
        outcome = evaluate(
            source,
            data,
            class_list,
            preset,
            split,
            released_views,
            state_dir=state,
            workers=workers,
            ray=ray,
            resources=find_resources(device, threads),
            attempts=attempts,
            progress=progress,
            conditions=Conditions(views_limit, virtual_views, asked),
        )
    if not skip_failed:
        stop_if_failed(outcome.failed)
    print_evaluation(out_console, outcome)
    if json_file is not None:
        with atomic_write(json_file) as path:
            path.write_text(
                json.dumps(outcome.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
    if plots is not None:
        draw_plots(outcome, plots)


def choose_source(
    engine_dir: Path | None,
    checkpoint: Path | None,
    preset: str,
    sd: Path | None,
    clip: Path | None,
    weights: str | None,
    device: str,
    threads: int | None,
) -> SegmenterSource:
    """Engines or the module, whichever is asked for; paths made absolute for other processes.

    Raises:
        ValueError: both, neither, or weights of the frozen networks missing or given twice.
    """
    if (engine_dir is None) == (checkpoint is None):
        raise ValueError("give either --engine-dir or --checkpoint")
    if engine_dir is not None:
        if (sd, clip, weights) != (None, None, None):
            raise ValueError(
                "--sd, --clip and --weights belong to --checkpoint; engines hold their weights"
            )
        return EngineSource(engine_dir.absolute(), device, threads)
    if weights not in (None, "synthetic"):
        raise ValueError(f"--weights must be synthetic, got {weights!r}; files: --sd and --clip")
    if weights and (sd or clip):
        raise ValueError("--weights synthetic excludes --sd and --clip")
    config = get_preset(preset)
    by_rule = weights is not None or config.name == "tiny"
    if checkpoint is None or (not by_rule and (sd is None or clip is None)):
        raise ValueError(
            f"--checkpoint of preset {preset} needs --sd and --clip (weight files), or --weights "
            "synthetic where it was trained without them"
        )
    sd, clip = (path.absolute() if path is not None else None for path in (sd, clip))
    return CheckpointSource(checkpoint.absolute(), config, sd, clip, device, threads)


def print_evaluation(console: Console, outcome: Evaluation) -> None:
    """A row per head, what was counted, and the row of the released table."""
    table = Table(
        *("head", "hIoU", "mIoU base", "mIoU novel", "mIoU", "mAcc", "allAcc"),
        box=None,
        header_style="bold",
    )
    for head, result in outcome.scores.items():
        values = (
            *(result.hiou, result.miou_base, result.miou_novel),
            *(result.miou, result.macc, result.allacc),
        )
        table.add_row(head, *("–" if value is None else f"{value:.1f}" for value in values))
    console.print(table)
    console.print(
        f"{outcome.scenes} scenes, {outcome.labelled:,} labelled points, {len(outcome.classes)} "
        f"classes, {int(outcome.is_base.sum())} of them base",
        highlight=False,
    )
    for name, reason in outcome.failed.items():
        console.print(f"left out: {name}: {reason}", markup=False, soft_wrap=True)
    console.print("| preset | hIoU / mIoU_b / mIoU_n |", markup=False)
    console.print(outcome.markdown, markup=False, highlight=False)


def draw_plots(outcome: Evaluation, folder: Path) -> list[Path]:
    """Write `confusion_HEAD.png` and `iou_HEAD.png` of every head; returns the paths."""
    written = []
    for head, result in outcome.scores.items():
        heading = f"{outcome.preset}, {head} head, {outcome.scenes} scenes"
        path = folder / f"confusion_{head}.png"
        written.append(draw_confusion(path, heading, outcome.confusion[head], outcome.classes))
        values = list(result.per_class.values())
        path = folder / f"iou_{head}.png"
        title = f"IoU in percent: {heading}"
        written.append(draw_class_bars(path, title, values, outcome.classes, outcome.is_base))
    return written
