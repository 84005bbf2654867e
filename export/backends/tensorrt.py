"""From an ONNX file to a TensorRT engine, through the API `tensorrt` and `tensorrt_rtx` share.

The graph carries its own types (TensorRT 11 has no other way), so precision is decided before,
in `precision`. The builder runs in a child process: when it aborts, faults or runs out of
memory, the caller gets an `EngineError` with the end of its log.
"""

import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from xmask3d_rt.components import IMAGES
from xmask3d_rt.config import Precision
from xmask3d_rt.engines.backend import Compilation
from xmask3d_rt.engines.base import AxisRange, Signature
from xmask3d_rt.engines.compute_capability import find_gpu, parse_compute_capability
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.engines.stamp import WEIGHTS_INSIDE, BuildStamp
from xmask3d_rt.engines.tensorrt_library import (
    LIBRARIES,
    TensorRtLibrary,
    import_tensorrt,
)
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.backends.engine_cache import EngineCache, hash_graph, make_key
from xmask3d_rt.files import atomic_write
from xmask3d_rt.system.processes import describe_status, start_child

RECIPE = 1  # raised when the same inputs would give another engine
TAIL_LINES = 12
WATCH_SECONDS = 0.05
_OUT_OF_MEMORY = re.compile(
    r"out ?of ?memory|bad_alloc|cannot allocate memory|MemoryError|cudaErrorMemoryAllocation"
    r"|failed to allocate|allocation fail",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class TensorRtSettings:
    """What decides an engine besides its graph.

    Attributes:
        precision: arithmetic of the graph, recorded with the engine.
        compute_capability: GPU to build for, such as `8.9`; None is the one at hand.
        refit: weights may be replaced later.
        strip_weights: leave the weights out; they are read from the ONNX file when loading.
        tf32: let fp32 products round their inputs to 10 bits.
        workspace: largest scratch memory of a layer on the GPU, bytes.
        optimization_level: the builder's own, 0 to 5; None is its default.
        library: `tensorrt` or `tensorrt_rtx`; None takes what is installed.
        host_memory_limit: host memory the builder may take before it is ended, bytes.
        threads: threads of the builder.
        verbose: log everything.
    """

    precision: Precision = Precision.FP16
    compute_capability: str | None = None
    refit: bool = False
    strip_weights: bool = False
    tf32: bool = False
    workspace: int | None = None
    optimization_level: int | None = None
    library: str | None = None
    host_memory_limit: int | None = None
    threads: int = 4
    verbose: bool = False


@dataclass(frozen=True)
class BuildReport:
    """What a build took.

    Attributes:
        library: name and version.
        target: GPU it was built for, such as `sm_89`.
        seconds: parsing and building; of the first build where it came from the cache.
        size: bytes of the engine.
        host_bytes: largest memory of the builder.
        layers: layers of the network before fusion.
        from_cache: nothing had to be built.
    """

    library: str
    target: str
    seconds: float
    size: int
    host_bytes: int
    layers: int
    from_cache: bool


def build_tensorrt(
    component: str,
    onnx: Path,
    output: Path,
    signature: Signature,
    settings: TensorRtSettings,
    cache_dir: Path | None = None,
) -> BuildReport:
    """Build one engine and its stamp.

    Args:
        component: name, for messages and the stamp.
        onnx: strongly typed graph; with `strip_weights` it must lie in the folder of `output`.
        output: engine file to write, whole or not at all.
        signature: inputs, outputs and the ranges of symbolic axes.
        settings: see there.
        cache_dir: engines and timings of earlier builds; None keeps none.

    Raises:
        EngineError: no TensorRT, no target it builds for, or the builder refused the graph,
            crashed or ran out of memory.
    """
    library, target = choose_target(settings)
    if (settings.refit or settings.strip_weights) and find_gpu() is None:
        raise EngineError(
            f"{component}: {library} needs a GPU to build an engine whose weights can be "
            f"replaced; leave out --refit and --strip-weights, or build where there is one"
        )
    if settings.strip_weights and onnx.parent != output.parent:
        raise EngineError(
            f"{component}: stripped weights are read from {onnx} when loading; put it beside "
            f"{output}"
        )
    stamp = BuildStamp(
        component=component,
        library=library.name,
        version=library.version,
        target=f"sm_{target}",
        precision=settings.precision,
        weights=onnx.name if settings.strip_weights else WEIGHTS_INSIDE,
        profiles=tuple(list_profiles(signature)),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    cache = None if cache_dir is None else EngineCache(cache_dir)
    key = make_key(_key_values(hash_graph(onnx), stamp, settings)) if cache else ""
    values = cache.fetch(component, key, output) if cache else None
    from_cache = values is not None
    if values is None:
        values = _build_new(component, onnx, output, stamp, settings, cache_dir)
        if cache is not None:
            cache.store(component, key, output, values)
    stamp.save(output)
    return BuildReport(
        library=str(library),
        target=stamp.target,
        seconds=values["parse_seconds"] + values["build_seconds"],
        size=output.stat().st_size,
        host_bytes=values["host_bytes"],
        layers=values["layers"],
        from_cache=from_cache,
    )


def compile_component(job: Compilation) -> BuildReport:
    """Build what an engine directory is made of; see `build_tensorrt`.

    Raises:
        EngineError: there is no graph, or as `build_tensorrt`.
    """
    if job.graph is None:
        raise EngineError(f"{job.component}: backend tensorrt needs the exported graph")
    options = job.options
    settings = TensorRtSettings(
        precision=job.precision,
        compute_capability=options.compute_capability,
        refit=options.refit,
        strip_weights=options.strip_weights,
        tf32=options.tf32,
        workspace=options.workspace,
    )
    return build_tensorrt(
        job.component, job.graph, job.output, job.signature, settings, options.cache_dir
    )


def describe_settings(device: torch.device, options: BuildOptions) -> dict[str, object]:
    """What decides an engine besides its graph: the library and the build's options.

    Raises:
        EngineError: no TensorRT is installed.
    """
    return {"library": str(import_tensorrt()), **options.describe()}


def choose_target(settings: TensorRtSettings) -> tuple[TensorRtLibrary, str]:
    """The library to build with and the compute capability to build for.

    Raises:
        EngineError: none installed, or none that builds for what is asked.
    """
    here = find_gpu()
    wanted = settings.compute_capability and parse_compute_capability(settings.compute_capability)
    ahead = wanted is not None and wanted != here
    library = import_tensorrt(settings.library)
    if ahead and settings.library is None and not library.targets:
        library = _import_ahead_of_time() or library
    if wanted is None and here is None:
        raise EngineError(
            f"{library} found no GPU to build for; run on a machine with one, or build ahead of "
            f"time with --compute-capability, one of {_list(library.targets)}"
        )
    if wanted is not None and wanted != here and wanted not in library.targets:
        raise EngineError(
            f"{library} does not build for compute capability {wanted} here; it does for "
            f"{_list((*library.targets, *([here] if here else [])))}"
        )
    return library, wanted or str(here)


def list_profiles(signature: Signature) -> list[dict[str, list[list[int]]]]:
    """Shapes (min, opt, max) per input, one profile after the other; none for a static graph.

    A batch axis that may grow gives two: batch 1, static and the fastest, and the whole range.
    """
    symbolic = {
        spec.name: spec for spec in signature.inputs if any(isinstance(a, str) for a in spec.shape)
    }
    if not symbolic or signature.is_static:
        return []
    ranges = [dict(signature.profile)]
    batch = signature.profile.get(IMAGES)
    if batch is not None and batch.max > 1:
        ranges = [
            {**ranges[0], IMAGES: AxisRange(1, 1, 1)},
            {**ranges[0], IMAGES: AxisRange(batch.min, batch.max, batch.max)},
        ]
    return [
        {
            name: [
                [getattr(axes[a], bound) if isinstance(a, str) else a for a in spec.shape]
                for bound in ("min", "opt", "max")
            ]
            for name, spec in symbolic.items()
        }
        for axes in ranges
    ]


def _import_ahead_of_time() -> TensorRtLibrary | None:
    for name in LIBRARIES:
        try:
            library = import_tensorrt(name)
        except EngineError:
            continue
        if library.targets:
            return library
    return None


def _list(targets: tuple[str, ...]) -> str:
    return ", ".join(targets) or "none"


def _key_values(graph: str, stamp: BuildStamp, settings: TensorRtSettings) -> dict[str, Any]:
    """Everything the content of an engine depends on."""
    ignored = {"host_memory_limit", "threads", "verbose", "library", "compute_capability"}
    chosen = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ignored}
    return {
        "recipe": RECIPE,
        "graph": graph,
        "stamp": dataclasses.asdict(stamp),
        "settings": chosen,
    }


def _build_new(
    component: str,
    onnx: Path,
    output: Path,
    stamp: BuildStamp,
    settings: TensorRtSettings,
    cache_dir: Path | None,
) -> dict[str, Any]:
    """Run the child; the engine appears at `output` when it is whole."""
    with (
        tempfile.TemporaryDirectory(prefix="xmask3d-") as scratch,
        atomic_write(output) as part,
    ):
        job = _describe_job(onnx, part, stamp, settings, cache_dir or Path(scratch))
        job["report"] = str(Path(scratch) / "report.json")
        path = Path(scratch) / "job.json"
        path.write_text(json.dumps(job))
        run_child(component, child_command(path), Path(scratch) / "log", settings.host_memory_limit)
        values: dict[str, Any] = json.loads(Path(job["report"]).read_text())
    return values


def _describe_job(
    onnx: Path, part: Path, stamp: BuildStamp, settings: TensorRtSettings, cache_dir: Path
) -> dict[str, Any]:
    library = import_tensorrt(stamp.library)
    number = stamp.target.removeprefix("sm_")
    member: str | None = f"SM{number}" if number in library.targets else None
    if member is None and library.targets:
        member = "CURRENT"
    return {
        "library": library.name,
        "onnx": str(onnx.resolve()),
        "output": str(part.resolve()),
        "profiles": list(stamp.profiles),
        "compute_capability": member,
        "timing_cache": str(cache_dir / f"{library.name}-{library.version}-{number}.timing"),
        **{
            key: getattr(settings, key)
            for key in ("refit", "tf32", "workspace", "optimization_level")
        },
        "strip": settings.strip_weights,
        "threads": settings.threads,
        "verbose": settings.verbose,
    }


def child_command(job: Path) -> list[str]:
    """Command line of the process that builds."""
    return [sys.executable, "-m", "xmask3d_rt.export.backends.tensorrt_child", str(job)]


def run_child(
    component: str, command: list[str], log: Path, host_memory_limit: int | None = None
) -> None:
    """Run a build process to its end, with its output in a file.

    Interrupting the caller ends the process before the interruption goes on. A builder that
    cannot get memory may wait for ever, so the limit is watched from here.

    Raises:
        EngineError: the process failed or passed the limit; the message has the end of its
            output.
    """
    with (
        log.open("wb") as stream,
        start_child(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C reaches this process alone
        ) as process,
    ):
        status = _watch(process, host_memory_limit)
    if status != 0:
        raise EngineError(describe_failure(component, status, log.read_text(errors="replace")))


def _watch(process: "subprocess.Popen[bytes]", host_memory_limit: int | None) -> int:
    """Wait for a process and end it when its resident memory passes the limit."""
    if host_memory_limit is None:
        return process.wait()
    while True:
        try:
            return process.wait(WATCH_SECONDS)
        except subprocess.TimeoutExpired:
            if _resident_bytes(process.pid) > host_memory_limit:
                process.kill()


def _resident_bytes(pid: int) -> int:
    """Of a process and all below it."""
    try:
        process = psutil.Process(pid)
        return sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def describe_failure(component: str, status: int, log: str) -> str:
    """One message from the exit status and the log of a build that failed."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    tail = "\n".join(f"  {line}" for line in lines[-TAIL_LINES:]) or "  (no output)"
    killed = describe_status(status) == "signal SIGKILL"
    if killed or _OUT_OF_MEMORY.search(log):
        return (
            f"{component}: the TensorRT builder ran out of memory"
            f"{' and was killed' if killed else ''}; lower --max-batch or "
            f"--workspace, build one component at a time with --only, choose fp16 over fp32, or "
            f"free memory; the end of its log:\n{tail}"
        )
    if status < 0:
        cause = f"crashed with {describe_status(status).removeprefix('signal ')}"
    else:
        cause = f"failed with status {status}"
    return (
        f"{component}: the TensorRT builder {cause}; build this component with another backend "
        f"(--only {component} --backend onnxruntime) or another version of the library; the end "
        f"of its log:\n{tail}"
    )
