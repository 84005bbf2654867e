"""The process that builds one TensorRT engine: `python -m` this module, with a JOB.

A builder can abort or fault; here that ends this process alone. `JOB` is a JSON file written by
`build_engine` (see `tensorrt.py`). Everything the library says goes to standard error.

Source: TensorRT developer guide, "Working with strongly typed networks", "Timing cache"; the
TensorRT-RTX guide, "CPU-only AOT".
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from xmask3d_rt.engines.tensorrt_library import TensorRtLibrary, import_tensorrt
from xmask3d_rt.errors import EngineError
from xmask3d_rt.files import atomic_write, describe_write_errors
from xmask3d_rt.system.memory import read_peak_memory

REFUSED = 3  # exit status: the graph or the settings were refused, with the reason as last line


def main(path: str) -> int:
    """Build what the job file says; returns the exit status."""
    job = json.loads(Path(path).read_text())
    library = import_tensorrt(job["library"])
    try:
        report = _build(library, job)
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    Path(job["report"]).write_text(json.dumps(report))
    return 0


def _build(library: TensorRtLibrary, job: dict[str, Any]) -> dict[str, Any]:
    trt = library.module
    logger = trt.Logger(trt.Logger.VERBOSE if job["verbose"] else trt.Logger.WARNING)
    started = time.perf_counter()
    builder = trt.Builder(logger)
    builder.max_threads = job["threads"]
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(job["onnx"]):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise EngineError("the parser refused the graph: " + " | ".join(errors))
    parsed = time.perf_counter()
    config = builder.create_builder_config()
    _configure(trt, config, job)
    for profile in job["profiles"]:
        config.add_optimization_profile(_make_profile(builder, profile))
    cache = _load_timing_cache(config, job) if library.has_timing_cache else None
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError("the builder refused the graph")
    if cache is not None:
        _save_timing_cache(config, Path(job["timing_cache"]))
    with describe_write_errors(Path(job["output"])):
        Path(job["output"]).write_bytes(memoryview(plan))
    return {
        "parse_seconds": parsed - started,
        "build_seconds": time.perf_counter() - parsed,
        "host_bytes": read_peak_memory(),
        "layers": network.num_layers,
    }


def _configure(trt: Any, config: Any, job: dict[str, Any]) -> None:
    flags = trt.BuilderFlag
    config.clear_flag(flags.TF32)  # on by default; fp32 must mean fp32
    if job["tf32"]:
        config.set_flag(flags.TF32)
    if job["refit"]:
        config.set_flag(flags.REFIT)
    if job["strip"]:
        # weights come back from the same file; plain REFIT can drop a bias (TensorRT 11.3 notes)
        config.set_flag(flags.STRIP_PLAN)
        config.set_flag(flags.REFIT_IDENTICAL)
    if job["workspace"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job["workspace"])
    if job["optimization_level"] is not None:
        config.builder_optimization_level = job["optimization_level"]
    if job["compute_capability"] is not None:
        config.num_compute_capabilities = 1
        target = trt.ComputeCapability.__members__[job["compute_capability"]]
        config.set_compute_capability(target, 0)


def _make_profile(builder: Any, shapes: dict[str, list[list[int]]]) -> Any:
    profile = builder.create_optimization_profile()
    for name, (smallest, best, largest) in shapes.items():
        profile.set_shape(name, smallest, best, largest)
    return profile


def _load_timing_cache(config: Any, job: dict[str, Any]) -> Any:
    path = Path(job["timing_cache"])
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    config.set_timing_cache(cache, False)
    return cache


def _save_timing_cache(config: Any, path: Path) -> None:
    """Keep what was timed; builds beside this one may write the same file."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(memoryview(config.get_timing_cache().serialize()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
