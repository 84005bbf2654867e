"""AOTInductor packages: torch's own compiler, for a GPU and for the CPU.

A package holds compiled kernels and weights and needs nothing but the torch it was made with.

Source: PyTorch documentation, "torch.export-based ahead-of-time compilation for C++ runtimes".
"""

import re
import threading
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.backend import Backend, BuiltFrom, EngineFile
from xmask3d_rt.engines.base import Engine, Signature
from xmask3d_rt.engines.stamp import read_stamp
from xmask3d_rt.errors import EngineError, first_line

LIBRARY = "torch"
# Flags of instruction sets among those of the kernel: x86, then Arm.
_INSTRUCTIONS = re.compile(
    r"s?sse|avx|amx|fma|f16c|bmi|abm|lzcnt|movbe|popcnt|aes|v?pclmul|vaes|gfni|sha|adx|rdrand|rdseed"
    r"|clflushopt|clwb|xsave|serialize|asimd|sve|sme|fp|bf16|i8mm|crc32|atomics|jscvt|fcma|lrcpc"
)
_BF16 = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}


class InductorEngine(Engine):
    """A `.pt2` package made by `export/backends/inductor.py`.

    Args:
        component: name used in messages.
        path: the package; its stamp lies beside it.
        signature: declared inputs, outputs and profile.
        device: the kind of device it was compiled for.
        precision: what the manifest says of it.

    Raises:
        EngineError: it was compiled by another torch, for another device or precision, or it
            cannot be loaded.
    """

    backend = "inductor"
    capturable = True

    def __init__(
        self,
        component: str,
        path: Path,
        signature: Signature,
        device: torch.device,
        precision: Precision,
    ) -> None:
        super().__init__(component, signature, device)
        self._precision = precision
        stamp = read_stamp(path)
        target = describe_target(device)
        stamp.check(path, self.backend, LIBRARY, torch.__version__, target, precision)
        stamp.check_instructions(path, self.backend, list_instructions(device))
        # The package's own handling of threads asks events whether they are over, which no
        # capture allows. On a GPU a call only queues work, so a lock does as well.
        on_gpu = device.type == "cuda"
        self._turn: Any = threading.Lock() if on_gpu else nullcontext()
        try:
            self._model: Any = torch._inductor.aoti_load_package(
                str(path),
                run_single_threaded=on_gpu,
                device_index=-1 if device.index is None else device.index,
            )
        except Exception as error:  # the loader raises whatever the dynamic linker does
            raise EngineError(
                f"{component}: torch cannot load {path}: {first_line(error)}"
            ) from error

    def _run(self, inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> None:
        try:
            with torch.no_grad(), self._turn, self._exact():
                found = self._model(*(inputs[spec.name] for spec in self.inputs))
        except RuntimeError as error:
            raise EngineError(
                f"{self.component}: the compiled package failed: {first_line(error)}"
            ) from error
        for spec, tensor in zip(self.outputs, found, strict=True):
            outputs[spec.name].copy_(tensor)

    def _exact(self) -> Any:
        """fp32 means fp32: torch lets cuDNN's convolutions round their inputs by default."""
        cudnn = torch.backends.cudnn
        if self.device.type != "cuda" or self._precision is not Precision.FP32:
            return nullcontext()
        return cudnn.flags(
            enabled=True,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        )

    def close(self) -> None:
        """Release the compiled code and its weights."""
        super().close()
        self._model = None


def describe_target(device: torch.device) -> str:
    """What code for a device fits: the GPU's compute capability, or the CPU's instructions."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"sm_{major}{minor}"
    return f"cpu {torch.backends.cpu.get_cpu_capability().lower()}"


def check_compiler() -> str:
    """The C++ compiler that torch will call.

    Raises:
        EngineError: there is none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        return str(get_cpp_compiler())
    except RuntimeError as error:
        raise EngineError(
            "backend inductor needs a C++ compiler and found none; install g++ (apt install "
            "g++), or name one in the environment variable CXX"
        ) from error


def _check(device: torch.device) -> None:
    check_compiler()
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EngineError("backend inductor compiles for a GPU only where there is one")


def _pick_half(device: torch.device) -> Precision | None:
    """fp16 on a GPU; on a CPU bf16 where it has instructions for it."""
    if device.type == "cuda":
        return Precision.FP16
    return Precision.BF16 if _BF16 & set(_read_cpu_flags()) else None


def _open(file: EngineFile, device: torch.device, threads: int | None) -> InductorEngine:
    return InductorEngine(file.component, file.path, file.signature, device, file.precision)


BACKEND = Backend(
    name="inductor",
    title="inductor compiles for a GPU by torch alone",
    precisions=(Precision.FP32, Precision.FP16, Precision.BF16),
    devices=("cpu", "cuda"),
    auto_devices=("cuda",),  # on a CPU no faster than others, after minutes in place of seconds
    libraries=(("torch",),),
    check=_check,
    open=_open,
    half=_pick_half,
    built_from=BuiltFrom.MODULE,
    artifact=lambda precision: "model.pt2",
    compiler="xmask3d_rt.export.backends.inductor:compile_component",
    settings="xmask3d_rt.export.backends.inductor:describe_settings",
    code=("xmask3d_rt.export.backends.inductor",),
)


@cache
def _read_cpu_flags() -> tuple[str, ...]:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ()
    listed = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return tuple(sorted(next(listed, "").split()))


def list_instructions(device: torch.device) -> tuple[str, ...]:
    """Instructions of the CPU that torch's compiler may use; none for a GPU.

    It compiles for the processor at hand, so code built where there are more ends with an
    illegal instruction where there are fewer, whatever vector width both have.
    """
    if device.type != "cpu":
        return ()
    return tuple(flag for flag in _read_cpu_flags() if _INSTRUCTIONS.match(flag))
