"""What building each engine with TensorRT takes: seconds, bytes, host memory.

    python benchmarks/tensorrt_builds.py --engine-dir E [--compute-capability 8.9]
                                         [--precision fp16] [--only COMPONENT]

Takes the fp32 ONNX files of an engine directory built with `--backend onnxruntime` or
`openvino`, converts them, builds engines into a temporary folder and appends one row per engine
to `benchmarks/results/tensorrt_rtx_builds.csv`. Works on a machine without a GPU.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # its own folder is there, not the checkout
    from xmask3d_rt.system.interrupts import end_on_interrupt

    end_on_interrupt()

import torch
import typer
from rich.console import Console

from benchmarks.rows import RESULTS, append_rows, describe_setup
from xmask3d_rt.components import ENGINES
from xmask3d_rt.config import Precision
from xmask3d_rt.engines.manifest import Manifest
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.backends.tensorrt import TensorRtSettings, build_tensorrt
from xmask3d_rt.export.graph.precision import convert_onnx
from xmask3d_rt.export.script import Script
from xmask3d_rt.system.memory import count_cores

MIB = 2**20

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def time_component(
    manifest: Manifest, name: str, settings: TensorRtSettings, folder: Path
) -> dict[str, Any]:
    """Convert and build one component; its row, with the reason in `outcome` if it fails."""
    component = manifest.get(name)
    source = manifest.path_of(name)
    if component.signature is None or source.suffix != ".onnx":
        raise EngineError(f"{name} of {manifest.root} is no ONNX file; build for the CPU first")
    row: dict[str, Any] = {"component": name, "precision": str(settings.precision)}
    start = time.perf_counter()
    if settings.precision is not Precision.FP32:
        typed = folder / "model.onnx"
        convert_onnx(source, typed, settings.precision)
        source = typed
    row["convert_s"] = round(time.perf_counter() - start, 2)
    try:
        report = build_tensorrt(
            name, source, folder / "model.engine", component.signature, settings
        )
    except EngineError as error:
        return {**row, "outcome": str(error).splitlines()[-1].strip()}
    return {
        **row,
        "library": report.library,
        "target": report.target,
        "layers": report.layers,
        "build_s": round(report.seconds, 2),
        "engine_mib": round(report.size / MIB, 1),
        "host_mib": round(report.host_bytes / MIB, 1),
        "outcome": "built",
    }


@app.command(cls=Script)
def main(
    engine_dir: Annotated[Path, typer.Option(help="Engines with ONNX files.")],
    compute_capability: Annotated[str, typer.Option(help="GPU to build for.")] = "8.9",
    precision: Annotated[Precision, typer.Option()] = Precision.FP16,
    only: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = min(4, count_cores()),
    csv_path: Annotated[Path, typer.Option("--csv")] = RESULTS / "tensorrt_rtx_builds.csv",
) -> None:
    """Build engines for one GPU and keep what it took."""
    manifest = Manifest.load(engine_dir, verify=False)
    settings = TensorRtSettings(precision, compute_capability, threads=threads)
    common = {
        "preset": manifest.config.name,
        "threads": threads,
        **describe_setup(torch.device("cpu")),
    }
    for name in only or ENGINES:
        with tempfile.TemporaryDirectory(prefix="xmask3d-builds-") as scratch:
            row = time_component(manifest, name, settings, Path(scratch))
        append_rows(csv_path, [{**row, **common}])
        Console().print(row, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app()
