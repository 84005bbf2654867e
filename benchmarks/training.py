"""Seconds a training step, and peak memory, beside a plain loop in the same run.

    python benchmarks/training.py [--preset tiny] [--steps 8] [--device cpu --threads 2]
                                  [--precision bf16] [--batch 8] [--csv FILE] [--json FILE]

The plain loop is the same step in the released work order: VAE, caption tower and MaskCLIP in
every step, dead blocks included, nothing kept. Both train on one generated room; each runs in a
process of its own, one after the other, so that its peak of memory is its own.
"""

import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, its own folder is there

from benchmarks.rows import RESULTS, append_rows, describe_setup, host_peak_mib
from xmask3d_rt.data.room import generate_room, write_room
from xmask3d_rt.engines.backends import pick_device
from xmask3d_rt.model.synthetic import fill_synthetic
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.training.batch import TrainingBatch
from xmask3d_rt.training.config import TrainingConfig, make_config
from xmask3d_rt.training.frozen import FrozenOutputs
from xmask3d_rt.training.loader import EpochBatches, Share
from xmask3d_rt.training.optim import make_optimizer
from xmask3d_rt.training.points import RandomPoints
from xmask3d_rt.training.step import TrainingStep, embed_texts

MIB = 2**20
LOOPS = ("xmask3d_rt", "plain loop")
WARM_UP = 2

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def run_loop(
    name: str,
    config: TrainingConfig,
    data: Path,
    device_name: str,
    steps: int,
    threads: int | None,
) -> dict[str, Any]:
    """Train some steps; their times and the process's peak memory."""
    if threads is not None:
        torch.set_num_threads(threads)
    device = pick_device(device_name)
    plain = name == "plain loop"
    model = XMask3D(config.model, released_order=plain)
    fill_synthetic(model, ("sd", "clip"))
    model.diffusion.embed_empty_prompt()
    step = TrainingStep(model.to(device), config)
    optimizer = make_optimizer(model, config.optim)
    with tempfile.TemporaryDirectory() as cache:
        frozen = FrozenOutputs(step, Path(cache), 0 if plain else config.run.cache_gb)
        seconds = []
        for batch in load_room(data, config, steps + WARM_UP):
            start = time.perf_counter()
            take_step(step, optimizer, frozen, batch.to(device), config.loss.points, plain)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    seconds = seconds[WARM_UP:]
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {
        "loop": name,
        "seconds_a_step": round(statistics.median(seconds), 4),
        "slowest": round(max(seconds), 4),
        "peak_host_mib": host_peak_mib(),
        "peak_device_mib": round(peak / MIB, 1),
    }


def load_room(folder: Path, config: TrainingConfig, count: int) -> list[TrainingBatch]:
    """Batches of a generated room."""
    from xmask3d_rt.data.training_views import SceneViewDataset

    size = config.optim.batch_size
    data = SceneViewDataset(folder, config.model, folder / "counts", loop=size * count)
    batches = EpochBatches(data, Share(size), config.run.seed, 0)
    return [batches[i] for i in range(count)]


def take_step(
    step: TrainingStep,
    optimizer: torch.optim.Optimizer,
    frozen: FrozenOutputs,
    batch: TrainingBatch,
    points: int,
    plain: bool,
) -> None:
    """Forward, backward and update."""
    sampler = RandomPoints(points, range(len(batch)), batch.images.device)
    captions = frozen.caption_embed(batch.captions)
    if plain:
        captions = embed_texts(step.model, batch.captions)
    losses = step(batch, captions, frozen.image_features(batch), sampler, contrast=plain)
    losses.total.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def run_apart(*args: Any) -> dict[str, Any]:
    """`run_loop` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run_loop, args)


def report(console: Console, rows: list[dict[str, Any]]) -> None:
    """Both loops in a line each, and how they compare."""
    for row in rows:
        host, on_device = row["peak_host_mib"], row["peak_device_mib"]
        console.print(
            f"{row['loop']:<12} {row['seconds_a_step']:.2f} s a step, at most {host:.0f} MiB of "
            f"host and {on_device:.0f} MiB of device memory",
            highlight=False,
        )
    ours, plain = (row["seconds_a_step"] for row in rows)
    console.print(f"{plain / ours:.2f} times as fast as the plain loop", highlight=False)


@app.command()
def main(
    preset: Annotated[str, typer.Option(help="Preset; synthetic frozen networks.")] = "tiny",
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of each loop.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Samples of a step.")] = 2,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all if absent.")] = None,
    csv: Annotated[Path, typer.Option(help="Rows are added here.")] = RESULTS / "training.csv",
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write both rows.")] = None,
) -> None:
    """Time a training step beside a plain loop."""
    changes = [f"optim.batch_size={batch}", f"optim.precision={precision}"]
    config = make_config(preset, changes)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_room(generate_room(0, 4, (240, 320), point_spacing=0.05), data / "room")
        rows = [run_apart(name, config, data, device, steps, threads) for name in LOOPS]
    setup = describe_setup(pick_device(device))
    shared = {"preset": preset, "batch": batch, "precision": precision, "steps": steps}
    full = [
        {**row, **shared, "threads": threads or torch.get_num_threads(), **setup} for row in rows
    ]
    append_rows(csv, full)
    if json_path is not None:
        json_path.write_text(json.dumps(full, indent=2) + "\n")
    report(Console(), rows)


if __name__ == "__main__":
    app()
