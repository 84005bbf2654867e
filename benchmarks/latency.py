"""How long a view takes, stage by stage, beside the released work order.

    python benchmarks/latency.py [--engine-dir E] [--scene DIR] [--views N] [--points N]
                                 [--json OUT]

Alone: the engines in `engines/`, a generated room, and the PyTorch module for comparison:
unpruned, float32, eager, one view after the other, as the released code works. Prints a table,
draws growth curves, writes JSON and appends rows to `benchmarks/results/latency.csv`.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # its own folder is there, not the checkout
    from xmask3d_rt.system.interrupts import end_on_interrupt

    end_on_interrupt()

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.charts import Curve, draw_curves
from benchmarks.rows import RESULTS, append_rows, describe_setup, list_versions
from benchmarks.scene_runs import (
    Measurement,
    Scene,
    compare_labels,
    measure,
    measure_batches,
    measure_growth,
    open_scene,
)
from xmask3d_rt.engines.files import write_atomically
from xmask3d_rt.engines.manifest import MANIFEST_NAME, Manifest
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.script import Script
from xmask3d_rt.segmenter import Segmenter
from xmask3d_rt.system.processes import call_apart

BASELINES = ("module", "none")
END_TO_END = "end to end"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class BaselineJob:
    """What the process of the baseline needs to know; it is a fresh one, to measure memory."""

    engine_dir: Path
    scene: Path | None
    views: int
    points: int | None
    repeats: int
    device: str
    threads: int | None


def find_engines(root: Path) -> Path:
    """The engine directory itself, or the largest one below it.

    Raises:
        EngineError: there is none.
    """
    if (root / MANIFEST_NAME).is_file():
        return root
    found = [path.parent for path in root.glob(f"*/{MANIFEST_NAME}")]
    if not found:
        raise EngineError(
            f"no engines in {root} or its folders; build some with `python "
            f"export/build_engines.py`, or name a folder with --engine-dir"
        )

    def size(folder: Path) -> int:
        return sum(e.size for e in Manifest.load(folder, verify=False).list_files())

    return max(found, key=size)


def measure_baseline(job: BaselineJob) -> Measurement:
    """The released work order: `XMask3D` unpruned, float32, eager, view by view."""
    from xmask3d_rt.engines.backends import pick_device
    from xmask3d_rt.export.parity.module_pipeline import (
        load_synthetic_module,
        make_module_segmenter,
    )

    if job.threads is not None:
        torch.set_num_threads(job.threads)
    config = Manifest.load(job.engine_dir, verify=False).config
    scene = open_scene(job.scene, config, job.views, job.points)

    def load() -> Segmenter:
        module = load_synthetic_module(config, released_order=True)
        return make_module_segmenter(module.to(pick_device(job.device)))

    return measure(load, scene, job.repeats)[1]


def run_apart(job: BaselineJob) -> Measurement:
    """`measure_baseline` in a process of its own, which ends with this one."""
    return call_apart(measure_baseline, job)


def describe_engines(manifest: Manifest) -> dict[str, str]:
    """Backend and precision of every engine."""
    return {
        name: f"{component.backend} {component.precision}"
        for name, component in manifest.components.items()
        if component.signature is not None
    }


def make_rows(
    kind: str, found: Measurement, common: dict[str, Any], engines: str
) -> list[dict[str, Any]]:
    """Result rows of one subject: end to end first, then its stages."""
    timed = {END_TO_END: found.summarize()["end_to_end"], **found.summarize()["stages"]}
    return [
        {
            "subject": kind,
            "stage": stage,
            "engines": engines,
            **figures,
            "load_s": round(found.load, 3),
            "first_call_s": round(found.first, 4),
            "scene_s": round(found.scene, 4),
            "peak_host_mib": found.host_mib,
            "peak_device_mib": found.device_mib,
            **common,
        }
        for stage, figures in timed.items()
    ]


def print_report(console: Console, report: dict[str, Any]) -> None:
    """Stages, end to end and memory, with the baseline beside them."""
    table = Table(
        "stage", "p50 ms", "p95 ms", "p99 ms", title=report["title"], title_justify="left"
    )
    for name, part in (("engines", report["engine"]), ("baseline", report["baseline"])):
        if part is None:
            continue
        for stage, figures in {**part["stages"], END_TO_END: part["end_to_end"]}.items():
            values = [f"{figures[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms")]
            table.add_row(f"{name}: {stage}", *values)
        table.add_section()
    console.print(table)
    for name, part in (("engines", report["engine"]), ("baseline", report["baseline"])):
        if part is not None:
            console.print(
                f"{name}: load {part['load_s']:.1f} s, first call {part['first_call_s']:.2f} s, "
                f"whole scene {part['scene_s']:.2f} s, at most {part['peak_host_mib']:.0f} MiB of "
                f"host and {part['peak_device_mib']:.0f} MiB of device memory",
                highlight=False,
                soft_wrap=True,
            )
    if report["speedup"] is not None:
        console.print(
            f"speedup {report['speedup']:.2f} per view; equal labels {report['agreement']}",
            highlight=False,
            soft_wrap=True,
        )


def draw_growth(path: Path, title: str, growth: dict[str, list[dict[str, float]]]) -> Path:
    """Growth curves as a PNG."""
    curves = [
        Curve(
            f"seconds by {axis}", axis, "s", [r["size"] for r in rows], [r["seconds"] for r in rows]
        )
        for axis, rows in growth.items()
    ]
    return draw_curves(path, title, curves)


def run_benchmark(
    engine_dir: Path, job: BaselineJob, scene: Scene, baseline: str, growth: bool, repeats: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure engines and baseline; the report, and the rows to keep."""
    manifest = Manifest.load(engine_dir)
    segmenter, found = measure(
        lambda: Segmenter(engine_dir, device=job.device, threads=job.threads), scene, repeats
    )
    grown = measure_growth(segmenter, scene, max(1, repeats // 4)) if growth else {}
    batches = measure_batches(segmenter, max(1, repeats // 4)) if growth else []
    machine = describe_setup(segmenter.device)
    del segmenter
    other = run_apart(job) if baseline == "module" else None
    versions = list_versions()
    title = f"{manifest.config.name} on {machine['device']}, commit {machine['commit']}"
    speedup = None
    if other is not None:
        speedup = round(percentile50(other) / percentile50(found), 3)
    report = {
        "title": title,
        "speedup": speedup,
        "stages": found.summarize()["stages"],
        "device": machine["device"],
        "versions": versions,
        "machine": machine,
        "preset": manifest.config.name,
        "components": describe_engines(manifest),
        "scene": scene.describe(),
        "engine": found.summarize(),
        "baseline": None if other is None else other.summarize(),
        "agreement": None if other is None else compare_labels(found, other),
        "growth": grown,
        "batches": batches,
    }
    common = {"preset": manifest.config.name, **scene.describe(), **machine}
    engines = " ".join(f"{k}={v.replace(' ', ':')}" for k, v in describe_engines(manifest).items())
    rows = make_rows("engines", found, common, engines)
    if other is not None:
        rows += make_rows("module", other, common, "torch:fp32 eager, unpruned")
    return report, rows


def percentile50(found: Measurement) -> float:
    """Median milliseconds of a call on one view."""
    return float(found.summarize()["end_to_end"]["p50_ms"])


@app.command(cls=Script)
def main(
    engine_dir: Annotated[Path, typer.Option(help="Engines, or a folder of such.")] = Path(
        "engines"
    ),
    scene: Annotated[Path | None, typer.Option(help="RGB-D folder with scene.ply.")] = None,
    views: Annotated[int, typer.Option(min=1, help="Views of the scene.")] = 4,
    points: Annotated[int | None, typer.Option(min=1, help="Points of the cloud.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls on one view.")] = 12,
    baseline: Annotated[str, typer.Option(help="module or none.")] = "module",
    baseline_repeats: Annotated[int, typer.Option(min=1)] = 4,
    growth: Annotated[bool, typer.Option(help="Time other sizes as well.")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Report to write.")] = None,
    csv_path: Annotated[Path, typer.Option("--csv")] = RESULTS / "latency.csv",
    chart: Annotated[Path | None, typer.Option(help="Growth curves, PNG.")] = None,
) -> None:
    """Time engines against the PyTorch module in the released work order."""
    if baseline not in BASELINES:
        raise typer.BadParameter(f"--baseline must be one of {', '.join(BASELINES)}")
    console = Console()
    folder = find_engines(engine_dir)
    if threads is not None:
        torch.set_num_threads(threads)
    config = Manifest.load(folder, verify=False).config
    subject = open_scene(scene, config, views, points)
    job = BaselineJob(folder, scene, views, points, baseline_repeats, device, threads)
    report, rows = run_benchmark(folder, job, subject, baseline, growth, repeats)
    print_report(console, report)
    append_rows(csv_path, rows)
    console.print(f"rows added to {csv_path}", highlight=False, soft_wrap=True)
    if growth:
        target = chart or csv_path.with_name(f"growth_{config.name}.png")
        draw_growth(target, report["title"], report["growth"])
        console.print(f"growth curves in {target}", highlight=False, soft_wrap=True)
    if json_path is not None:
        write_atomically(json_path, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    app()
