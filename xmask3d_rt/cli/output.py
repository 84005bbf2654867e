"""What the commands print: tables, notes, the warning about synthetic weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xmask3d_rt.cli.doctor import Diagnosis
from xmask3d_rt.errors import one_line
from xmask3d_rt.system.memory import format_bytes

if TYPE_CHECKING:  # `doctor` prints on machines whose torch cannot be imported
    from xmask3d_rt.engines.component import Component, Parity
    from xmask3d_rt.engines.manifest import Manifest
    from xmask3d_rt.result import Result

MAX_CLASSES = 20
MODES = {
    "views": "the full pipeline on the given views",
    "virtual": "the full pipeline on views rendered from the cloud",
    "3d": "the 3D head alone",
}


def warn_weights(console: Console, manifest: "Manifest | None") -> bool:
    """Say in one line what labels with these weights mean, if it is little; whether it is."""
    note = None if manifest is None else manifest.weights_note
    if note is not None:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    return note is not None


def print_result(
    console: Console,
    result: "Result",
    written: Sequence[Path],
    device_memory: int = 0,
    seconds: float | None = None,
    manifest: "Manifest | None" = None,
) -> None:
    """Points per class, what the labels come from, seconds per stage, GPU memory, files.

    Args:
        console: where to.
        result: of the run.
        written: files.
        device_memory: bytes in use on the GPU.
        seconds: of the whole command.
        manifest: of the engines; what `warn_weights` says of it is left to that.
    """
    table = Table("class", "points", "share", "mean score", box=None, header_style="bold")
    rows = result.summarize()["classes"]
    ordered = sorted((row for row in rows if row["points"]), key=lambda row: -row["points"])
    for row in ordered[:MAX_CLASSES]:
        name = Text("■ ", style="rgb({},{},{})".format(*row["color"])) + Text(
            one_line(row["names"][0])
        )
        table.add_row(name, f"{row['points']:,}", f"{row['share']:.1%}", f"{row['mean_score']:.2f}")
    console.print(table)
    if len(ordered) > MAX_CLASSES:
        console.print(f"and {len(ordered) - MAX_CLASSES} more classes")
    seen = int(np.count_nonzero(result.coverage))
    used = f", {len(result.views)} views, {seen:,} points seen" if result.views else ""
    console.print(f"{len(result):,} points labelled by {MODES[result.mode]}{used}")
    for note in result.notes:
        if manifest is not None and note == manifest.weights_note:
            continue
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    stages = "  ".join(f"{stage} {seconds:.2f}" for stage, seconds in result.timings.items())
    if stages:
        console.print(f"seconds: {stages}", markup=False, highlight=False, soft_wrap=True)
    if device_memory:
        console.print(f"GPU memory in use: {format_bytes(device_memory)}", highlight=False)
    for path in written:
        console.print(f"wrote {one_line(path)}", markup=False, soft_wrap=True)
    if seconds is not None:
        console.print(f"total: {seconds:.1f} s", highlight=False)


def print_manifest(console: Console, manifest: "Manifest", verified: bool) -> None:
    """Model, origin of the weights, a row per component, library versions."""
    config, split = manifest.config, manifest.split
    files = manifest.list_files()
    state = "every file hashed anew, unchanged" if verified else "every file present, unchanged"
    novel = len(split.novel)
    rows = {
        "model": f"{config.name}, {config.diffusion.image_size}x{config.diffusion.image_size} "
        f"images, {config.mask_head.queries} masks, {config.voxel_size * 100:g} cm voxels",
        "classes": f"{len(split.names) - novel} base, {novel} novel",
        "weights": _describe_weights(manifest),
        "files": f"{len(files)}, {format_bytes(sum(file.size for file in files))}; {state}",
        "built with": ", ".join(f"{name} {v}" for name, v in manifest.versions.items()),
    }
    for key, value in rows.items():
        console.print(f"{key:>10}  {escape(value)}", highlight=False, soft_wrap=True)
    heading = ("component", "backend", "precision", "size", "parity")
    table = Table(*heading, box=None, header_style="bold")
    reasons: dict[str, list[str]] = {}
    for name, component in manifest.components.items():
        table.add_row(name, *(escape(cell) for cell in _component_cells(component)))
        reasons.setdefault(component.reason, []).append(name)
    console.print(table)
    for reason, names in reasons.items():
        if reason:
            console.print(f"{', '.join(names)}: {reason}", markup=False, soft_wrap=True)


def print_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """System facts, GPUs, libraries, then a line per backend."""
    for key, value in diagnosis.system.items():
        console.print(f"{key:>14}  {escape(value)}", highlight=False, soft_wrap=True)
    for line in diagnosis.gpus or ("none",):
        console.print(f"{'GPU':>14}  {escape(line)}", highlight=False, soft_wrap=True)
    console.print("\nlibraries", style="bold")
    for name, version in diagnosis.libraries.items():
        console.print(f"{name:>18}  {escape(version or '—')}", highlight=False)
    console.print("\nbackends", style="bold")
    for backend in diagnosis.backends:
        mark = "[green]works[/green]" if backend.works else "[red]no   [/red]"
        line = f"{backend.name:>18}  {mark}  {escape(backend.detail)}"
        console.print(line, highlight=False, soft_wrap=True)


def _describe_weights(manifest: "Manifest") -> str:
    weights = manifest.weights
    if weights.kind == "synthetic":
        return "synthetic (made by a rule, not trained): labels mean nothing"
    files = ", ".join(f"{file.path} ({file.sha256[:12]})" for file in weights.files)
    remarks = {"mixed": "; frozen networks synthetic", "bundled": "; the package's own"}
    return files + remarks.get(weights.kind, "")


def _component_cells(component: "Component") -> tuple[str, ...]:
    """Backend, precision, size, and the worst parity error with its tolerance."""
    parity = component.parity
    checked = "not checked"
    if parity is not None:
        worst = max(parity.errors, key=lambda name: _strain(parity, name))
        checked = f"{worst} {parity.errors[worst]:.1e} <= {parity.tolerances[worst]:.0e}"
    size = format_bytes(sum(file.size for file in component.files))
    return component.backend, str(component.precision), size, checked


def _strain(parity: "Parity", name: str) -> float:
    """Error of an output over its tolerance; copied weights have a tolerance of 0."""
    error, tolerance = parity.errors[name], parity.tolerances[name]
    return error / tolerance if tolerance else error
