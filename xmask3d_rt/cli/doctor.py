"""What this machine has, and which backends work on it: `xmask3d doctor`.

Every backend is tried, not looked up: ONNX Runtime and OpenVINO run a one-node graph, TensorRT
makes a builder. This happens in child processes, `python -m` this module with a PROBE, so that a
library that crashes, hangs or ends the process is one line of the report like any other fault.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from xmask3d_rt.errors import one_line
from xmask3d_rt.system.extras import EXTRAS, describe_install, find_version
from xmask3d_rt.system.memory import count_cores
from xmask3d_rt.system.processes import describe_status, run_command
from xmask3d_rt.version import __version__

LIBRARIES = (
    ("torch",),
    ("triton",),
    ("numpy",),
    ("scipy",),
    ("diffusers",),
    ("safetensors",),
    ("onnx",),
    ("onnxscript",),
    ("onnxruntime", "onnxruntime-gpu"),
    ("openvino",),
    ("tensorrt",),
    ("tensorrt-rtx",),
    ("cuda-bindings",),
    ("open_clip_torch",),
    ("pillow",),
    ("plyfile",),
)
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
PROBE_TIMEOUT = 120  # seconds for a child process
TOOL_TIMEOUT = 10  # seconds for nvidia-smi, which answers within one
ANSWER = "xmask3d-probe "  # begins a line of a child that is an answer; libraries print, too


@dataclass(frozen=True)
class BackendState:
    """One backend: whether it works here, and what it offers or why it does not."""

    name: str
    works: bool
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    """The machine: `system` facts, `gpus` (a line each), `libraries` name → version or None."""

    system: dict[str, str]
    gpus: tuple[str, ...]
    libraries: dict[str, str | None]
    backends: tuple[BackendState, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


def diagnose() -> Diagnosis:
    """Look at the machine and try every backend; takes a few seconds, changes nothing."""
    states: dict[str, BackendState] = {}
    for group in PROBE_GROUPS:
        states |= run_probes(list(group))
    gpus = states.pop("gpus")
    return Diagnosis(
        system=describe_system(),
        gpus=tuple(gpus.detail.splitlines()) if gpus.works else (f"unknown: {gpus.detail}",),
        libraries={names[0]: find_version(*names) for names in LIBRARIES},
        backends=tuple(states.values()),
    )


def run_probes(names: Sequence[str]) -> dict[str, BackendState]:
    """Try backends, in a child process that goes on behind each one that crashes or hangs it."""
    states: dict[str, BackendState] = {}
    waiting = list(names)
    while waiting:
        command = (sys.executable, "-m", "xmask3d_rt.cli.doctor", *waiting)
        outcome = run_command(command, PROBE_TIMEOUT)
        lines = outcome.stdout.splitlines()
        answers = [line.removeprefix(ANSWER) for line in lines if line.startswith(ANSWER)]
        for name, answer in zip(waiting, answers, strict=False):
            states[name] = BackendState(name, *json.loads(answer))
        waiting = waiting[len(answers) :]
        if not waiting:
            break
        reason = f"no answer within {PROBE_TIMEOUT} s: the library or its driver hangs"
        if outcome.status is not None:
            said = outcome.stderr.strip().splitlines()[-1:]
            ending = describe_status(outcome.status)
            reason = one_line(": ".join([f"the library ended its process with {ending}", *said]))
        name = waiting.pop(0)
        states[name] = BackendState(name, False, reason)
    return states


def answer_probes(names: Sequence[str]) -> None:
    """Try backends in this process and print a line for each: the work of a child process."""
    for name in names:
        state = try_backend(name, PROBES[name])
        sys.stdout.write(f"\n{ANSWER}{json.dumps([state.works, state.detail])}\n")
        sys.stdout.flush()


def try_backend(name: str, probe: Callable[[], str]) -> BackendState:
    """Run a probe; what it returns is the detail of a working backend, what it raises the reason.

    Any exception counts, even one that would end Python: this is where a broken installation is
    meant to show.
    """
    try:
        return BackendState(name, True, probe())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        lines = str(error).strip().splitlines()
        reason = one_line(lines[0]) if lines else ""
        if not isinstance(error, Unavailable):
            reason = f"{type(error).__name__}: {reason}"
        return BackendState(name, False, reason)


class Unavailable(RuntimeError):
    """A backend that cannot work here; the message says why and what to do."""


def describe_system() -> dict[str, str]:
    """Package, Python, operating system, processor, cores, memory and the NVIDIA driver."""
    return {
        "xmask3d_rt": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "processor": _processor_name(),
        "instructions": ", ".join(_cpu_flags()) or "unknown",
        "cores": f"{count_cores()} usable of {os.cpu_count()}",
        "memory": _describe_memory(),
        "nvidia driver": _read_driver(),
    }


def list_gpus() -> list[str]:
    """One line per CUDA device that torch sees."""
    import torch

    lines = []
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        lines.append(
            f"cuda:{index} {device.name}, {device.total_memory / 2**30:.0f} GiB, "
            f"compute capability {device.major}.{device.minor}"
        )
    return lines


def _probe_cuda() -> str:
    import torch

    if torch.version.cuda is None:
        raise Unavailable(f"torch {torch.__version__} is a CPU build; install stock CUDA torch")
    if not torch.cuda.is_available():
        raise Unavailable("no usable GPU: no device or no NVIDIA driver (see nvidia-smi)")
    total = torch.ones(8, device="cuda").sum().item()
    return f"torch CUDA {torch.version.cuda}, {torch.cuda.device_count()} device(s), sum {total:g}"


def _probe_triton() -> str:
    if find_version("triton") is None:
        raise Unavailable("triton is not installed; CPU references are used")
    import torch
    import triton

    if not torch.cuda.is_available():
        raise Unavailable(f"triton {triton.__version__} has no GPU here; CPU references are used")
    return f"triton {triton.__version__} compiles for {torch.cuda.get_device_capability()}"


def _probe_onnxruntime() -> str:
    return _run_onnxruntime("CPUExecutionProvider")


def _probe_onnxruntime_cuda() -> str:
    return _run_onnxruntime("CUDAExecutionProvider")


def _run_onnxruntime(provider: str) -> str:
    if find_version("onnxruntime", "onnxruntime-gpu") is None:
        raise Unavailable(
            f"not installed; {describe_install('cpu')} (or {' '.join(EXTRAS['gpu'])}, never both)"
        )
    if find_version("onnxruntime") and find_version("onnxruntime-gpu"):
        raise Unavailable("onnxruntime and onnxruntime-gpu break each other; uninstall one")
    import numpy as np
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    if provider not in offered:
        fix = "install onnxruntime-gpu in its place (extra [gpu])"
        raise Unavailable(f"this onnxruntime offers {', '.join(offered)} alone; {fix}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(_make_graph(), options, providers=[provider])
    if provider not in session.get_providers():
        raise Unavailable(f"{provider} fell back to {session.get_providers()[0]}: no usable GPU")
    _check_relu(session.run(None, {"x": np.array([-1, 2], np.float32)})[0])
    return f"onnxruntime {onnxruntime.__version__}, {provider}"


def _probe_openvino() -> str:
    if find_version("openvino") is None:
        raise Unavailable(f"not installed; {describe_install('cpu')}")
    import numpy as np
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(_make_graph()), "CPU")
    _check_relu(compiled([np.array([-1, 2], np.float32)])[0])
    types = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    kept = [kind for kind in ("FP32", "FP16", "BF16", "INT8") if kind in types]
    return f"openvino {find_version('openvino')}, CPU with {', '.join(kept)}"


def _probe_inductor() -> str:
    import torch

    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise Unavailable("no C++ compiler (g++ or clang++) on PATH; install one")
    return f"torch {torch.__version__} with {compiler}"


def _probe_tensorrt(module: str) -> str:
    if find_version(module, module.replace("_", "-")) is None:
        extra = f"; {describe_install('tensorrt-rtx')}" if module == "tensorrt_rtx" else ""
        raise Unavailable(f"not installed{extra}")
    trt = importlib.import_module(module)
    logger = trt.Logger(trt.Logger.ERROR)
    if trt.Builder(logger) is None:
        raise Unavailable("no builder")
    version = trt.__version__
    if not list_gpus():
        return f"{module} {version} builds engines ahead of time; running them needs an NVIDIA GPU"
    return f"{module} {version} builds and runs engines"


def _make_graph() -> bytes:
    """An ONNX model of one Relu on two numbers."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [x], [y])
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def _check_relu(out: Any) -> None:
    if out.tolist() != [0, 2]:
        raise Unavailable(f"wrong numbers: relu([-1, 2]) gave {out.tolist()}")


def _read_cpuinfo() -> dict[str, str]:
    """First entry of each key in /proc/cpuinfo; empty where there is no such file."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    pairs = (line.partition(":") for line in path.read_text(errors="replace").splitlines())
    values: dict[str, str] = {}
    for key, _, value in pairs:
        values.setdefault(key.strip(), value.strip())
    return values


def _processor_name() -> str:
    return _read_cpuinfo().get("model name") or platform.processor() or platform.machine()


def _cpu_flags() -> list[str]:
    flags = set(_read_cpuinfo().get("flags", "").split())
    return [flag for flag in CPU_FLAGS if flag in flags]


def _describe_memory() -> str:
    memory = psutil.virtual_memory()
    return f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB available"


def _read_driver() -> str:
    """Version of the NVIDIA driver, or why there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "none (no nvidia-smi)"
    command = (tool, "--query-gpu=driver_version", "--format=csv,noheader")
    outcome = run_command(command, TOOL_TIMEOUT)
    if outcome.status is None:
        return f"unknown: nvidia-smi does not answer within {TOOL_TIMEOUT} s; restart the machine"
    lines = (outcome.stdout.strip() or outcome.stderr.strip()).splitlines()
    said = one_line(lines[0], 150) if lines else "nothing"
    if outcome.status != 0:
        ending = describe_status(outcome.status)
        return f"none: nvidia-smi ended with {ending} and said {said!r}; reinstall the driver"
    if not re.fullmatch(r"\d+(\.\d+)+", said):
        return f"unknown: nvidia-smi said {said!r}, no version"
    return said


PROBES: Mapping[str, Callable[[], str]] = {
    "gpus": lambda: "\n".join(list_gpus()),
    "cuda": _probe_cuda,
    "triton kernels": _probe_triton,
    "onnxruntime": _probe_onnxruntime,
    "onnxruntime-cuda": _probe_onnxruntime_cuda,
    "openvino": _probe_openvino,
    "inductor": _probe_inductor,
    "tensorrt": lambda: _probe_tensorrt("tensorrt"),
    "tensorrt_rtx": lambda: _probe_tensorrt("tensorrt_rtx"),
}
# One child process each: importing a library twice takes seconds, but the two builders bring
# CUDA libraries of their own.
PROBE_GROUPS = (tuple(list(PROBES)[:-2]), ("tensorrt",), ("tensorrt_rtx",))


if __name__ == "__main__":
    answer_probes(sys.argv[1:])
