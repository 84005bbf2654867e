"""Compare a module or an engine directory with recorded reference cases.

    python export/verify.py --module --inputs case_A_inputs.npz --golden case_A_golden.npz
    python export/verify.py --engine-dir E --inputs case_A_inputs.npz --golden case_A_golden.npz
    python export/verify.py --engine-dir E --scene DIR --golden scene_X_golden.npz
    python export/verify.py --engine-dir E --inputs case_inputs.npz --record case_golden.npz

Prints a table (stage, measure, value, limit, ok or FAIL) and exits with 1 on any FAIL.
"""

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from xmask3d_rt.config import ModelConfig, Precision, get_preset
from xmask3d_rt.errors import CheckpointError, EngineError
from xmask3d_rt.export.parity import Arrays, Row, compare_case, compare_scene
from xmask3d_rt.export.recording import record_case, record_scene
from xmask3d_rt.files import atomic_write
from xmask3d_rt.rgbd import load_rgbd
from xmask3d_rt.scene import PointCloud, View
from xmask3d_rt.segmenter import Segmenter

EXIT_MISMATCH, EXIT_INPUT = 1, 2
CASE_INPUTS = ("points_xyz", "points_rgb", "depth_320x240_mm", "pose", "K640")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npz` file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an `.npz` file of plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}") from None
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not an .npz file of plain arrays: {error}") from error


def read_case(inputs: Arrays, where: Path) -> tuple[PointCloud, View]:
    """Cloud and view of a case's inputs.

    Raises:
        ValueError: an array is missing.
    """
    missing = [name for name in CASE_INPUTS if name not in inputs]
    if "image_orig" not in inputs and "image_512" not in inputs:
        missing.append("image_orig")
    if missing:
        raise ValueError(f"{where} lacks the array {missing[0]!r}; a case needs {CASE_INPUTS}")
    image = inputs.get("image_orig", inputs.get("image_512"))
    view = View(
        image=image,
        depth=inputs["depth_320x240_mm"],
        intrinsics=inputs["K640"],
        camera_to_world=inputs["pose"],
        name="case",
    )
    return PointCloud(inputs["points_xyz"], inputs["points_rgb"]), view


def run_scene(
    segmenter: Segmenter, folder: Path, view_ids: list[str]
) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Run the named views of an RGB-D folder on its `scene.ply`.

    Returns:
        per view `visible` [P] and `label_*` of its points, and `scene_label_*` [P].

    Raises:
        ValueError: the folder has no view of one of the names.
    """
    by_name = {view.name: view for view in load_rgbd(folder)}
    unknown = [name for name in view_ids if name not in by_name]
    if unknown:
        raise ValueError(f"{folder} has no view {unknown[0]!r}; it has {', '.join(by_name)}")
    seen: dict[str, dict[str, np.ndarray]] = {}

    def observe(name: str, projected: Any, labels: Any) -> None:
        heads = {"label_fused": labels.fused, "label_2d": labels.two_d, "label_3d": labels.three_d}
        arrays = {"visible": projected.visible, **heads}
        seen[name] = {key: value.cpu().numpy() for key, value in arrays.items()}

    result = segmenter.run(
        folder / "scene.ply",
        list(segmenter.config.split.names),
        views=[by_name[name] for name in view_ids],
        observe=observe,
    )
    scene = {f"scene_label_{head}": labels for head, labels in result.heads.items()}
    skipped = {"visible": np.zeros(len(result), bool)}
    skipped |= {f"label_{head}": np.zeros(0, np.int64) for head in result.heads}
    return [seen.get(name, skipped) for name in view_ids], scene


def open_module(config: ModelConfig, device: str) -> Segmenter:
    """The PyTorch module with synthetic weights as a `Segmenter`."""
    from xmask3d_rt.engines.backends import pick_device
    from xmask3d_rt.export.module_pipeline import load_synthetic_module, make_module_segmenter

    return make_module_segmenter(load_synthetic_module(config).to(pick_device(device)))


def find_precision(segmenter: Segmenter) -> Precision:
    """The lowest precision of any engine; fp32 for the module."""
    if segmenter.manifest is None:
        return Precision.FP32
    used = {component.precision for component in segmenter.manifest.components.values()}
    for precision in (Precision.BF16, Precision.FP16):
        if precision in used:
            return precision
    return Precision.FP32


def print_rows(console: Console, title: str, rows: list[Row]) -> None:
    """The comparison as a table."""
    table = Table("stage", "measure", "value", "limit", "", title=title, title_justify="left")
    for row in rows:
        relation = ">=" if row.at_least else "<="
        value = f"{100 * row.value:.3f} %" if row.at_least else f"{row.value:.3g}"
        limit = f"{100 * row.limit:.2f} %" if row.at_least else f"{row.limit:g}"
        verdict = "ok" if row.ok else "[bold red]FAIL[/]"
        table.add_row(row.stage, row.metric, value, f"{relation} {limit}", verdict)
    console.print(table)


def verify(
    segmenter: Segmenter,
    inputs_path: Path | None,
    scene: Path | None,
    golden_path: Path | None,
    record: Path | None,
    views: list[str],
) -> list[Row]:
    """Run a case or a scene, compare it with `golden_path` and/or record it."""
    golden = read_arrays(golden_path) if golden_path is not None else None
    precision = find_precision(segmenter)
    rows: list[Row] = []
    if inputs_path is not None:
        inputs = read_arrays(inputs_path)
        cloud, view = read_case(inputs, inputs_path)
        trace = segmenter.trace_view(cloud, list(segmenter.config.split.names), view)
        if golden is not None:
            rows = compare_case(trace, inputs, golden, precision)
        recorded = record_case(trace) if record is not None else {}
    else:
        folder = Path(scene) if scene is not None else Path()
        ids = [str(i) for i in golden["view_ids"]] if golden is not None else views
        ids = ids or [view.name for view in load_rgbd(folder)]
        per_view, voted = run_scene(segmenter, folder, ids)
        if golden is not None:
            rows = compare_scene(golden, per_view, voted, precision)
        recorded = record_scene(ids, per_view, voted) if record is not None else {}
    if record is not None:
        with atomic_write(record) as temporary:
            np.savez_compressed(temporary, **recorded)  # type: ignore[arg-type]
    return rows


@app.command()
def main(
    module: Annotated[
        bool, typer.Option("--module", help="Check the PyTorch module, with synthetic weights.")
    ] = False,
    engine_dir: Annotated[Path | None, typer.Option(help="Check built engines.")] = None,
    preset: Annotated[str, typer.Option(help="Configuration of --module.")] = "b15n4",
    inputs: Annotated[Path | None, typer.Option(help="Inputs of a one-view case (.npz).")] = None,
    scene: Annotated[Path | None, typer.Option(help="RGB-D folder with scene.ply.")] = None,
    golden: Annotated[Path | None, typer.Option(help="Reference outputs (.npz).")] = None,
    record: Annotated[Path | None, typer.Option(help="Write the run as a reference.")] = None,
    view: Annotated[
        list[str] | None, typer.Option(help="With --scene --record: views to use; all if absent.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all rows here.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all cores if absent.")] = None,
) -> None:
    """Compare a module or engines with a recorded reference, stage by stage."""
    console, err = Console(), Console(stderr=True)
    try:
        if module == (engine_dir is not None):
            raise ValueError("verify: give either --module or --engine-dir")
        if (inputs is None) == (scene is None):
            raise ValueError("verify: give either --inputs (one view) or --scene (a folder)")
        if golden is None and record is None:
            raise ValueError("verify: give --golden to compare with, or --record to write")
        if threads is not None:
            torch.set_num_threads(threads)
        if engine_dir is not None:
            segmenter = Segmenter(engine_dir, device, threads)
        else:
            segmenter = open_module(get_preset(preset), device)
        rows = verify(segmenter, inputs, scene, golden, record, view or [])
    except (ValueError, TypeError, FileNotFoundError, EngineError, CheckpointError) as error:
        err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_INPUT) from error
    subject = f"module {preset}" if module else str(engine_dir)
    if rows:
        print_rows(console, f"{subject} against {golden}", rows)
    failed = [row for row in rows if not row.ok]
    if json_path is not None:
        report = {"subject": subject, "golden": str(golden), "ok": not failed}
        with atomic_write(json_path) as temporary:
            rows_json = [row.to_dict() for row in rows]
            temporary.write_text(json.dumps(report | {"rows": rows_json}, indent=2) + "\n")
    if record is not None:
        console.print(f"recorded {record}")
    if failed:
        console.print(f"{len(failed)} of {len(rows)} rows FAIL")
        raise typer.Exit(EXIT_MISMATCH)
    if rows:
        console.print(f"all {len(rows)} rows ok")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    app()
