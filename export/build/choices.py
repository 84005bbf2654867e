"""Which backend and precision each component is built for on this machine."""

import logging
from dataclasses import dataclass

import torch

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.backend import Backend
from xmask3d_rt.engines.backends import BACKENDS
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.graph.contracts import Contract

logger = logging.getLogger(__name__)

AUTO = "auto"
_HALF_REASONS = {
    "cpu": "this processor has instructions for it",
    "cuda": "a GPU is fastest in it",
}


@dataclass(frozen=True)
class Choice:
    """A backend and precision to try, and why."""

    backend: str
    precision: Precision
    reason: str


def find_auto_device(backend: str) -> str:
    """Kind of device that a build for the GPU at hand ends on: `cuda` where a backend works."""
    usable, problems = _list_backends(backend, torch.device("cuda", 0))
    if not usable:
        logger.warning("building for the CPU: %s", "; ".join(problems))
    return "cuda" if usable else "cpu"


def list_choices(
    contract: Contract, backend: str, precision: str, device: torch.device
) -> tuple[Choice, ...]:
    """Backends and precisions to try for a component, best first.

    Args:
        contract: of the component; some stay in fp32, and say why.
        backend: a backend's name, or `auto` for every one that works here.
        precision: a precision, or `auto`: bf16 where the processor has instructions for it.
        device: where the engine will run.

    Returns:
        at least one choice.

    Raises:
        EngineError: the backend does not exist, is not installed or cannot run on the device,
            or has not the precision.
    """
    wanted = None if precision == AUTO else _parse_precision(precision)
    candidates, problems = _list_backends(backend, device)
    choices: list[Choice] = []
    for candidate in candidates:
        if wanted is not None and wanted not in candidate.precisions:
            names = ", ".join(candidate.precisions)
            problems.append(f"{candidate.name} on {device.type} has {names}")
            continue
        choices += _list_precisions(contract, candidate, wanted, device)
    if not choices:
        asked = f"backend {backend}, precision {precision} on {device}"
        raise EngineError(f"{asked}: nothing can be built; {'; '.join(problems)}")
    return tuple(choices)


def _parse_precision(name: str) -> Precision:
    try:
        return Precision(name)
    except ValueError as error:
        known = ", ".join([AUTO, *Precision])
        raise EngineError(f"unknown precision {name!r}; choose one of {known}") from error


def _list_backends(backend: str, device: torch.device) -> tuple[list[Backend], list[str]]:
    """Backends that can run on `device`, and why the others cannot."""
    if backend not in (AUTO, *BACKENDS):
        known = ", ".join([AUTO, *BACKENDS])
        raise EngineError(f"unknown backend {backend!r}; choose one of {known}")
    usable, problems = [], []
    for candidate in BACKENDS.values():
        if backend not in (AUTO, candidate.name):
            continue
        if backend == AUTO and device.type not in candidate.auto_devices:
            continue
        if device.type not in candidate.devices:
            problems.append(f"{candidate.name} runs on {candidate.where}")
            continue
        try:
            candidate.check(device)
        except EngineError as error:
            problems.append(str(error))
            continue
        usable.append(candidate)
    return usable, problems


def _list_precisions(
    contract: Contract, backend: Backend, wanted: Precision | None, device: torch.device
) -> list[Choice]:
    """Precisions to try with one backend, fastest first."""
    fp32 = Choice(backend.name, Precision.FP32, f"{backend.title}; fp32")
    first = wanted or backend.half(device)
    if first in (None, Precision.FP32):
        return [fp32]
    kept = contract.sensitive or (contract.coarse_in_bf16 if first is Precision.BF16 else "")
    if kept:
        return [Choice(backend.name, Precision.FP32, f"{backend.title}; fp32 because {kept}")]
    if wanted is not None:
        return [Choice(backend.name, wanted, f"{backend.title}; {wanted} as asked")]
    reason = f"{backend.title}; {first} because {_HALF_REASONS[device.type]}"
    return [Choice(backend.name, first, reason), fp32]
