"""Compare a module or an engine directory with recorded reference cases.

    python export/verify.py --module --inputs case_A_inputs.npz --golden case_A_golden.npz
    python export/verify.py --engine-dir E --inputs case_A_inputs.npz --golden case_A_golden.npz
    python export/verify.py --engine-dir E --scene DIR --golden scene_X_golden.npz
    python export/verify.py --engine-dir E --inputs my_inputs.npz --record my_golden.npz
    python export/verify.py --train-step --golden train_step.npz

Prints a table (stage, measure, value, limit, ok or FAIL); exits with 1 on any FAIL and with 2
where there is nothing to compare. What is compared: docs/parity.md.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":
    from xmask3d_rt.system.interrupts import end_on_interrupt

    end_on_interrupt()

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from xmask3d_rt.cli.errors import EXIT_MISMATCH
from xmask3d_rt.config import ModelConfig, Precision, get_preset
from xmask3d_rt.engines.backends import pick_device
from xmask3d_rt.export.build.fingerprint import read_versions
from xmask3d_rt.export.parity.cases import ArrayFile, read_arrays, read_case, write_arrays
from xmask3d_rt.export.parity.compare import Row, compare_case, compare_scene, list_uncompared
from xmask3d_rt.export.parity.limits import find_lowest
from xmask3d_rt.export.parity.recording import record_case, record_scene
from xmask3d_rt.export.script import Script
from xmask3d_rt.files import atomic_write, check_target
from xmask3d_rt.scene.rgbd import load_rgbd
from xmask3d_rt.scene.view import View
from xmask3d_rt.segmenter import Segmenter
from xmask3d_rt.system.memory import check_threads, read_peak_memory

DEFAULT_PRESET = "b15n4"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Check:
    """One run: its comparison with a reference, and the same run as a new reference."""

    rows: list[Row]
    recorded: dict[str, np.ndarray]
    uncompared: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every row holds."""
        return all(row.ok for row in self.rows)


def check_case(segmenter: Segmenter, inputs: ArrayFile, golden: ArrayFile | None) -> Check:
    """Run one view and compare it with `golden`, where one is given.

    Raises:
        ValueError: an array is missing, or belongs to another cloud or preset.
    """
    trace = trace_case(segmenter, inputs)
    recorded = record_case(trace)
    if golden is None:
        return Check([], recorded)
    clip = segmenter.config.clip
    rows = compare_case(trace, inputs, golden, clip, list_precisions(segmenter))
    return Check(rows, recorded, list_uncompared(rows))


def trace_case(segmenter: Segmenter, inputs: ArrayFile) -> dict[str, np.ndarray]:
    """Every intermediate of a one-view case by name, for the preset's classes.

    Raises:
        ValueError: an array is missing or makes no cloud or view.
    """
    cloud, view = read_case(inputs)
    return segmenter.trace_view(cloud, list(segmenter.config.split.names), view)


def check_scene(
    segmenter: Segmenter, folder: Path, golden: ArrayFile | None, names: Sequence[str] = ()
) -> Check:
    """Run views of an RGB-D folder on its `scene.ply` and compare with `golden`, where given.

    Args:
        segmenter: what to check.
        folder: the RGB-D folder.
        golden: names its views itself.
        names: views to run where there is no `golden`; none means all.

    Raises:
        ValueError: a view or an array is missing, or the reference is of another cloud.
    """
    wanted = names if golden is None else [str(name) for name in golden["view_ids"]]
    views = pick_views(folder, wanted)
    per_view, voted = run_scene(segmenter, folder / "scene.ply", views)
    recorded = record_scene([view.name for view in views], per_view, voted)
    if golden is None:
        return Check([], recorded)
    rows = compare_scene(golden, per_view, voted, list_precisions(segmenter))
    return Check(rows, recorded)


def pick_views(folder: Path, names: Sequence[str]) -> list[View]:
    """Views of an RGB-D folder by name, in the order of `names`; all of them for no names.

    Raises:
        ValueError: the folder has no view of one of the names.
    """
    views = load_rgbd(folder)
    if not len(names):
        return views
    by_name = {view.name: view for view in views}
    # reference files hold numbers, file names may be padded with zeros
    by_number = {str(int(name)): view for name, view in by_name.items() if name.isdecimal()}
    unknown = [name for name in names if name not in by_name and name not in by_number]
    if unknown:
        raise ValueError(f"{folder} has no view {unknown[0]!r}; it has {', '.join(by_name)}")
    return [by_name.get(name) or by_number[name] for name in names]


def run_scene(
    segmenter: Segmenter, cloud: Path, views: Sequence[View]
) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Label a cloud from views, with the preset's classes.

    Returns:
        per view `visible` [P] and `label_*` of its points, empty for views that see too few;
        and `scene_label_*` [P].
    """
    seen: dict[str, dict[str, np.ndarray]] = {}

    def observe(name: str, projected: Any, labels: Any) -> None:
        heads = {"label_fused": labels.fused, "label_2d": labels.two_d, "label_3d": labels.three_d}
        arrays = {"visible": projected.visible, **heads}
        seen[name] = {key: value.cpu().numpy() for key, value in arrays.items()}

    names = list(segmenter.config.split.names)
    result = segmenter.run(cloud, names, views=views, observe=observe)
    scene = {f"scene_label_{head}": labels for head, labels in result.heads.items()}
    skipped = {"visible": np.zeros(len(result), bool)}
    skipped |= {f"label_{head}": np.zeros(0, np.int64) for head in result.heads}
    return [seen.get(view.name, skipped) for view in views], scene


def open_module(config: ModelConfig, device: str) -> Segmenter:
    """The PyTorch module with synthetic weights as a `Segmenter`."""
    from xmask3d_rt.export.parity.module_pipeline import (
        load_synthetic_module,
        make_module_segmenter,
    )

    return make_module_segmenter(load_synthetic_module(config).to(pick_device(device)))


def list_precisions(segmenter: Segmenter) -> dict[str, Precision]:
    """Precision of every component; none for the module, which is fp32."""
    if segmenter.manifest is None:
        return {}
    return {name: part.precision for name, part in segmenter.manifest.components.items()}


def make_report(segmenter: Segmenter, check: Check) -> dict[str, Any]:
    """What ran, on what, and every row, for JSON."""
    manifest = segmenter.manifest
    components = manifest.components.items() if manifest is not None else ()
    return {
        "preset": segmenter.config.name,
        "weights": manifest.weights.kind if manifest is not None else "synthetic",
        "precision": find_lowest(list_precisions(segmenter)),
        "components": {name: f"{part.backend} {part.precision}" for name, part in components},
        "device": str(segmenter.device),
        "versions": read_versions(),
        "ok": check.ok,
        "not_compared": check.uncompared,
        "rows": [row.to_dict() for row in check.rows],
    }


def print_check(console: Console, title: str, check: Check) -> None:
    """The comparison as a table, and its outcome."""
    table = Table("stage", "measure", "value", "limit", "", title=title, title_justify="left")
    for row in check.rows:
        verdict = "ok" if row.ok else "[bold red]FAIL[/]"
        table.add_row(row.stage, row.metric, *format_numbers(row), verdict)
    console.print(table)
    if check.uncompared:
        stages = ", ".join(check.uncompared)
        console.print(f"not compared, absent on one side: {stages}", soft_wrap=True)
    failed = sum(not row.ok for row in check.rows)
    total = len(check.rows)
    outcome = f"{failed} of {total} rows FAIL" if failed else f"all {total} rows ok"
    console.print(outcome, highlight=False)


def format_numbers(row: Row) -> tuple[str, str]:
    """Value and limit of a row as text: shares in percent, counts whole, errors to 3 digits."""
    relation = ">= " if row.at_least else "<= "
    relative = row.metric.startswith("relative")
    style = "{:.3%}" if row.at_least else "{:.3g}" if relative else "{:.0f}"
    limit = "none" if row.limit is None else relation + style.format(row.limit)
    return style.format(row.value), limit


def check_train_options(golden: Path | None, *others: object) -> Path:
    """The recorded step, where nothing but it is given.

    Raises:
        ValueError: it is missing, or an option of the other comparisons is given.
    """
    if golden is None:
        raise ValueError("verify: --train-step needs --golden, a recorded training step")
    if any(others):
        raise ValueError(
            "verify: --train-step goes with --golden, --preset, --json, --device and --threads"
        )
    return golden


def check_options(
    module: bool,
    engine_dir: Path | None,
    inputs: Path | None,
    scene: Path | None,
    golden: Path | None,
    record: Path | None,
) -> None:
    """Refuse options that leave open what to check, on what, or what for.

    Raises:
        ValueError: one of each pair is missing, or both are given.
    """
    if module == (engine_dir is not None):
        raise ValueError("verify: give either --module or --engine-dir")
    if (inputs is None) == (scene is None):
        raise ValueError("verify: give either --inputs (one view) or --scene (a folder)")
    if golden is None and record is None:
        raise ValueError("verify: give --golden to compare with, or --record to write")


@app.command(cls=Script)
def verify(
    train_step: Annotated[
        bool,
        typer.Option("--train-step", help="Check one training step, with synthetic weights."),
    ] = False,
    module: Annotated[
        bool, typer.Option("--module", help="Check the PyTorch module, with synthetic weights.")
    ] = False,
    engine_dir: Annotated[Path | None, typer.Option(help="Check built engines.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"Configuration of --module or --train-step; {DEFAULT_PRESET} if absent."
        ),
    ] = None,
    inputs: Annotated[Path | None, typer.Option(help="Inputs of a one-view case (.npz).")] = None,
    scene: Annotated[Path | None, typer.Option(help="RGB-D folder with scene.ply.")] = None,
    golden: Annotated[Path | None, typer.Option(help="Reference outputs (.npz).")] = None,
    record: Annotated[Path | None, typer.Option(help="Write the run as a reference.")] = None,
    view: Annotated[
        list[str] | None,
        typer.Option(help="With --scene --record: a view to use; all if absent."),
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all rows here.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all if absent.")] = None,
) -> None:
    """Compare a module or engines with a recorded reference, stage by stage."""
    for target in (record, json_path):
        if target is not None:
            check_target(target)
    if threads is not None:
        check_threads(threads)
        torch.set_num_threads(threads)
    if train_step:
        step = check_train_options(golden, module, engine_dir, inputs, scene, record, view)
        verify_train_step(step, preset or DEFAULT_PRESET, json_path, device)
        return
    check_options(module, engine_dir, inputs, scene, golden, record)
    if golden is None and json_path is not None:
        raise ValueError("verify: --json reports a comparison; give --golden")
    if view and (scene is None or golden is not None):
        raise ValueError("verify: --view goes with --scene and --record; --golden names its views")
    if preset is not None and not module:
        raise ValueError("verify: --preset goes with --module; engines know theirs")
    # Before the model is loaded, which takes longest.
    reference = None if golden is None else read_arrays(golden)
    case = None if inputs is None else read_arrays(inputs)
    if engine_dir is not None:
        segmenter, subject = Segmenter(engine_dir, device, threads), str(engine_dir)
    else:
        config = get_preset(preset or DEFAULT_PRESET)
        segmenter, subject = open_module(config, device), f"module {config.name}"
    if case is not None:
        check = check_case(segmenter, case, reference)
    else:
        check = check_scene(segmenter, Path(scene or ""), reference, view or ())
    console = Console()
    if record is not None:
        write_arrays(record, check.recorded)
        console.print(f"recorded {record}", markup=False, soft_wrap=True)
    if reference is None:
        return
    print_check(console, f"{subject} against {golden}", check)
    if json_path is not None:
        report = {"subject": subject, "case": str(inputs or scene), "golden": str(golden)}
        write_report(json_path, report | make_report(segmenter, check))
    if not check.ok:
        raise typer.Exit(EXIT_MISMATCH)


def verify_train_step(golden: Path, preset: str, json_path: Path | None, device: str) -> None:
    """Compare one training step, print the table, and report.

    Raises:
        typer.Exit: 1 where a row fails.
    """
    from xmask3d_rt.export.parity.train_step import check_train_step

    place = pick_device(device)
    check = Check(check_train_step(golden, preset, place), {})
    print_check(Console(), f"training step of {preset} against {golden}", check)
    if json_path is not None:
        report = {
            "subject": f"training step of {preset}",
            "golden": str(golden),
            "preset": preset,
            "weights": "synthetic",
            "precision": Precision.FP32,
            "device": str(place),
            "versions": read_versions(),
            "peak_memory_bytes": read_peak_memory(),
            "ok": check.ok,
            "rows": [row.to_dict() for row in check.rows],
        }
        write_report(json_path, report)
    if not check.ok:
        raise typer.Exit(EXIT_MISMATCH)


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a report as JSON, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")


def main() -> None:
    """Run the command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    app()


if __name__ == "__main__":
    main()
