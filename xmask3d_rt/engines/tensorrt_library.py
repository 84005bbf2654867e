"""Which TensorRT is installed: `tensorrt`, or `tensorrt_rtx`, which shares its Python API.

Kept free of torch, because the process that builds an engine imports it too.

Source: TensorRT 11 and TensorRT-RTX 1.7 API references (IBuilderConfig, ComputeCapability).
"""

import importlib
import warnings
from dataclasses import dataclass
from typing import Any

from xmask3d_rt.errors import EngineError, first_line
from xmask3d_rt.system.extras import describe_install

LIBRARIES = ("tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class TensorRtLibrary:
    """An imported TensorRT.

    Attributes:
        name: `tensorrt` or `tensorrt_rtx`.
        version: its version; engines of another one do not load.
        module: the Python module.
    """

    name: str
    version: str
    module: Any

    @property
    def targets(self) -> tuple[str, ...]:
        """Compute capabilities it builds for on a machine without a GPU, such as `89`."""
        kinds = getattr(self.module, "ComputeCapability", None)
        if kinds is None or not hasattr(self.module.IBuilderConfig, "set_compute_capability"):
            return ()
        names = [name.removeprefix("SM") for name in kinds.__members__ if name.startswith("SM")]
        return tuple(sorted(names, key=int))

    @property
    def has_timing_cache(self) -> bool:
        """Whether a timing cache helps; TensorRT-RTX ignores it, and asks for a GPU with one."""
        return self.name == "tensorrt"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def import_tensorrt(name: str | None = None) -> TensorRtLibrary:
    """Import TensorRT.

    Args:
        name: one of `LIBRARIES`; None takes the first that imports.

    Raises:
        EngineError: it, or any of them, is not installed or is an empty shell.
    """
    if name is not None and name not in LIBRARIES:
        raise EngineError(f"unknown TensorRT library {name!r}; known: {', '.join(LIBRARIES)}")
    reasons = []
    for candidate in LIBRARIES if name is None else (name,):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = importlib.import_module(candidate)
        except Exception as error:  # a shell package raises whatever its loader does
            reasons.append(f"{candidate}: {first_line(error)}")
            continue
        if hasattr(module, "Builder"):
            return TensorRtLibrary(candidate, str(module.__version__), module)
        reasons.append(f"{candidate}: holds no Builder, its libraries were not installed")
    raise EngineError(
        f"backend tensorrt is not installed ({'; '.join(reasons)}); "
        f"{describe_install('tensorrt-rtx')}, or NVIDIA's tensorrt"
    )
