"""Build engines from the command line: `python export/build_engines.py`.

Alone it builds the small `tiny` preset with the package's own weights into `engines/tiny`, at the
best precision for this machine. A second run builds only what changed.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":
    from xmask3d_rt.system.interrupts import end_on_interrupt

    end_on_interrupt()

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from xmask3d_rt.cli.errors import one_line_errors
from xmask3d_rt.config import BUNDLED_PRESET, PRESETS, ModelConfig, get_preset
from xmask3d_rt.engines.backends import BACKENDS
from xmask3d_rt.engines.component import Component
from xmask3d_rt.engines.options import MIB, BuildOptions, default_cache_dir
from xmask3d_rt.export.build.directory import BuildResult, Reporter, build_engines
from xmask3d_rt.export.build.weights import BundledWeights, FileWeights, SyntheticWeights, Weights
from xmask3d_rt.system.interrupts import raise_on_interrupt
from xmask3d_rt.system.memory import format_bytes, read_peak_memory

WEIGHTS_CACHE = ".weights"  # converted copies of weight files, by content hash

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class RichReporter(Reporter):
    """A line per component: what is being done, then backend, precision, error and time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)
        self._names: list[str] = []

    def start(self, names: Sequence[str]) -> None:
        """Set the number of components."""
        self._names = list(names)
        self._progress.update(self._task, total=len(names))

    def step(self, name: str, step: str) -> None:
        """Show the step under way."""
        place = f"{self._names.index(name) + 1}/{len(self._names)}"
        self._progress.update(self._task, description=f"{place} {name}: {step}")

    def done(self, component: Component, outcome: str, seconds: float) -> None:
        """Print the component's line."""
        line = describe_component(component, outcome, seconds)
        self._progress.console.print(line, highlight=False, soft_wrap=True)
        self._progress.update(self._task, advance=1)


def describe_component(component: Component, outcome: str, seconds: float) -> str:
    """One line: what was made, how large, how exact, how long it took."""
    size = format_bytes(sum(entry.size for entry in component.files))
    error = ""
    if component.parity is not None and component.signature is not None:
        error = f"error {max(component.parity.errors.values()):.1e}"
    made = f"{component.backend} {component.precision}"
    return (
        f"  {component.name:<14} {outcome:<10} {made:<17} {size:>12}  {error:<14} {seconds:6.1f} s"
    )


def print_result(console: Console, result: BuildResult, weights: Weights) -> None:
    """Where the engines are, why these backends, and what the weights mean."""
    manifest = result.manifest
    reasons: dict[str, list[str]] = {}
    for component in manifest.components.values():
        if component.signature is not None:
            reasons.setdefault(component.reason, []).append(component.name)
    for reason, names in reasons.items():
        console.print(f"{', '.join(names)}: {reason}", markup=False, soft_wrap=True)
    built = sum(outcome != "unchanged" for outcome in result.outcomes.values())
    peak = format_bytes(read_peak_memory())
    console.print(
        f"{manifest.config.name}: {built} built, {len(result.outcomes) - built} unchanged, in "
        f"{sum(result.seconds.values()):.0f} s with at most {peak} of memory; "
        f"engines are in {manifest.root}",
        highlight=False,
        soft_wrap=True,
    )
    note = weights.source.describe_limits()
    if note is not None:
        console.print(f"the engines' {note}", markup=False, soft_wrap=True)


def resolve_weights(
    config: ModelConfig,
    kind: str | None,
    checkpoint: Path | None,
    sd: Path | None,
    clip: Path | None,
    out: Path,
) -> Weights:
    """The weights that the options ask for; converted copies of files are kept in `out`.

    Raises:
        ValueError: options that contradict each other, or none for a full-size preset.
        CheckpointError: a file is missing, unreadable, of another model or incomplete.
    """
    files = {"--checkpoint": checkpoint, "--sd": sd, "--clip": clip}
    given = [name for name, path in files.items() if path is not None]
    if kind not in (None, "synthetic", "bundled"):
        raise ValueError(
            f"--weights must be synthetic or bundled, got {kind!r}; files: {', '.join(files)}"
        )
    if kind == "bundled":
        return _use_bundled(config, given)
    frozen = [name for name in given if name != "--checkpoint"]
    if frozen and kind:
        raise ValueError(f"--weights synthetic and {frozen[0]} exclude each other")
    by_rule = kind is not None or config.name == BUNDLED_PRESET
    if not given and by_rule:
        return SyntheticWeights() if kind else BundledWeights(config)
    if checkpoint is not None and (len(frozen) == 2 or (by_rule and not frozen)):
        return FileWeights(config, checkpoint, sd, clip, out / WEIGHTS_CACHE)
    missing = [name for name in files if name not in given]
    raise ValueError(
        f"preset {config.name} needs {', '.join(missing)} (weight files), or --weights synthetic"
    )


def _use_bundled(config: ModelConfig, given: Sequence[str]) -> BundledWeights:
    """The package's own weights, which no file is given for."""
    if given:
        raise ValueError(f"--weights bundled and {given[0]} exclude each other")
    if config.name != BUNDLED_PRESET:
        raise ValueError(f"--weights bundled is of preset {BUNDLED_PRESET}, not {config.name}")
    return BundledWeights(config)


@app.command()
def build(
    preset: Annotated[str, typer.Option(help=f"One of {', '.join(PRESETS)}.")] = "tiny",
    out: Annotated[Path | None, typer.Option(help="Default: engines/PRESET.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="'bundled': of the package, tiny's default; 'synthetic': made by rule, for tests."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="XMask3D .pth.tar, released or of a training run.")
    ] = None,
    sd: Annotated[Path | None, typer.Option(help="Stable Diffusion v1 weights.")] = None,
    clip: Annotated[Path | None, typer.Option(help="CLIP ViT-L-14 weights.")] = None,
    backend: Annotated[str, typer.Option(help=f"auto, or one of {', '.join(BACKENDS)}.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")] = "auto",
    only: Annotated[
        list[str] | None, typer.Option(help="Build this component alone; may be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Build unchanged ones too.")] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Build over engines of another model or other weights."),
    ] = False,
    compute_capability: Annotated[
        str | None,
        typer.Option(help="Build TensorRT engines ahead of time for this GPU, such as 8.9."),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Most views per call; above 1 adds a profile.")
    ] = 1,
    refit: Annotated[
        bool, typer.Option("--refit", help="TensorRT: weights may be replaced later.")
    ] = False,
    strip_weights: Annotated[
        bool, typer.Option("--strip-weights", help="TensorRT: keep weights in the ONNX file.")
    ] = False,
    tf32: Annotated[
        bool, typer.Option("--tf32", help="TensorRT: fp32 products on tensor cores.")
    ] = False,
    workspace: Annotated[
        int | None, typer.Option(min=1, help="TensorRT: scratch memory of a layer, MiB.")
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="TensorRT engines of earlier builds.")
    ] = None,
) -> None:
    """Build engines for a preset and check each against the PyTorch module."""
    console = Console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with one_line_errors("interrupted: the engines in use are untouched; run again to go on"):
        config = get_preset(preset)
        target = out or Path("engines") / preset
        source = resolve_weights(config, weights, checkpoint, sd, clip, target)
        with Progress(*columns, console=console, transient=True) as progress:
            result = build_engines(
                target,
                config,
                source,
                backend=backend,
                precision=precision,
                only=only or (),
                device=device,
                force=force,
                reporter=RichReporter(progress),
                options=BuildOptions(
                    compute_capability=compute_capability,
                    max_batch=max_batch,
                    refit=refit,
                    strip_weights=strip_weights,
                    tf32=tf32,
                    workspace=None if workspace is None else workspace * MIB,
                    cache_dir=(cache_dir or default_cache_dir()).absolute(),
                ),
                replace=replace,
            )
    print_result(console, result, source)


def main() -> None:
    """Run the command with warnings on stderr."""
    handler = RichHandler(console=Console(stderr=True), show_time=False, show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    raise_on_interrupt()
    app()


if __name__ == "__main__":
    main()
