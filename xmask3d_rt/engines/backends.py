"""Open a component of an engine directory with the backend it was built for."""

from pathlib import Path

import torch

from xmask3d_rt.engines import inductor, onnxruntime, openvino, tensorrt
from xmask3d_rt.engines.backend import Backend, EngineFile
from xmask3d_rt.engines.base import Engine
from xmask3d_rt.engines.component import Component
from xmask3d_rt.engines.manifest import Manifest
from xmask3d_rt.errors import EngineError

# In order of preference: of those that work here, `auto` takes the first that passes the value
# check.
BACKENDS: dict[str, Backend] = {
    module.BACKEND.name: module.BACKEND
    for module in (
        tensorrt,
        openvino,
        inductor,
        onnxruntime,
    )
}


def get_backend(name: str) -> Backend:
    """The record of a backend.

    Raises:
        EngineError: this version has none of that name.
    """
    if name not in BACKENDS:
        raise EngineError(f"unknown backend {name!r}; this version has {', '.join(BACKENDS)}")
    return BACKENDS[name]


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
            component.backend in BACKENDS and "cuda" not in BACKENDS[component.backend].devices
            for component in manifest.components.values()
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
    if component.backend not in BACKENDS:
        raise EngineError(
            f"{component.name} was built for backend {component.backend!r}; this version has "
            f"{', '.join(BACKENDS)}; rebuild with one of them"
        )
    file = EngineFile(component.name, path, component.signature, component.precision, cache_dir)
    return BACKENDS[component.backend].open(file, device, threads)
