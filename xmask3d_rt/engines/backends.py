"""Open a component of an engine directory with the backend it was built for."""

from pathlib import Path

import torch

from xmask3d_rt.engines.base import Engine
from xmask3d_rt.engines.manifest import Component, Manifest
from xmask3d_rt.errors import EngineError

BACKENDS = ("onnxruntime", "openvino", "tensorrt", "inductor")
CPU_BACKENDS = ("openvino",)


def pick_device(
    device: str | torch.device = "auto", manifest: Manifest | None = None
) -> torch.device:
    """The device a name stands for; `auto` is the first GPU, else the CPU.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        manifest: of the engines to run; `auto` is the CPU where one was built for the CPU alone.

    Raises:
        EngineError: not a device name, or a GPU where there is none.
    """
    if device == "auto":
        needs_cpu = manifest is not None and any(
            component.backend in CPU_BACKENDS for component in manifest.components.values()
        )
        usable = torch.cuda.is_available() and not needs_cpu
        return torch.device("cuda", 0) if usable else torch.device("cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise EngineError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N") from error
    if picked.type not in ("cpu", "cuda"):
        raise EngineError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N")
    if picked.type == "cuda":
        count = torch.cuda.device_count()
        if (picked.index or 0) >= count:
            raise EngineError(
                f"device {device} asked for, {count} CUDA device(s) found; use device cpu or "
                f"see `xmask3d doctor`"
            )
        return torch.device("cuda", picked.index or 0)
    return picked


def open_engine(
    manifest: Manifest,
    name: str,
    device: str | torch.device = "auto",
    threads: int | None = None,
) -> Engine:
    """Load one component.

    Args:
        manifest: of its directory.
        name: component name.
        device: where it runs; a component built for the CPU alone does not run elsewhere.
        threads: CPU threads; None takes every core the process may use.

    Raises:
        EngineError: no such component, not an engine, its backend is unknown or not installed,
            or the backend cannot load it.
    """
    component = manifest.get(name)
    if component.signature is None:
        raise EngineError(f"{name} holds plain weights ({component.files[0].path}), no engine")
    path = manifest.root / component.files[0].path
    return open_file(component, path, pick_device(device), threads, manifest.root / ".cache")


def open_file(
    component: Component,
    path: Path,
    device: torch.device,
    threads: int | None = None,
    cache_dir: Path | None = None,
) -> Engine:
    """Load a component from a given file; see `open_engine`."""
    if component.signature is None:
        raise EngineError(f"{component.name} has no signature, it is not an engine")
    if component.backend == "onnxruntime":
        from xmask3d_rt.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(component.name, path, component.signature, device, threads)
    if component.backend == "openvino":
        from xmask3d_rt.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(
            component.name, path, component.signature, device, component.precision, threads
        )
    if component.backend == "tensorrt":
        from xmask3d_rt.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(
            component.name, path, component.signature, device, component.precision, cache_dir
        )
    if component.backend == "inductor":
        from xmask3d_rt.engines.inductor import InductorEngine

        return InductorEngine(
            component.name, path, component.signature, device, component.precision
        )
    raise EngineError(
        f"{component.name} was built for backend {component.backend!r}; this version has "
        f"{', '.join(BACKENDS)}; rebuild with one of them"
    )
