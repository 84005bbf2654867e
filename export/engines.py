"""Build one engine component: weights → torch module → ONNX → check → manifest entry."""

import dataclasses
import gc
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from xmask3d_rt.config import ModelConfig, Precision
from xmask3d_rt.engines.backend import ONNX_NAME, BuiltFrom
from xmask3d_rt.engines.backends import get_backend, open_file
from xmask3d_rt.engines.base import AxisRange, Engine
from xmask3d_rt.engines.files import describe_file
from xmask3d_rt.engines.manifest import Component, Parity
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.errors import EngineError, ExportMismatch
from xmask3d_rt.export.choices import Choice
from xmask3d_rt.export.compiled import (
    compile_choice,
    list_artifacts,
    open_typed,
    remove_others,
)
from xmask3d_rt.export.components import build_module
from xmask3d_rt.export.contracts import Contract
from xmask3d_rt.export.onnx_export import OPSET, export_onnx
from xmask3d_rt.export.validation import (
    check_graph,
    check_values,
    compute_reference,
    make_inputs,
)
from xmask3d_rt.export.weights import Weights

logger = logging.getLogger(__name__)

Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Case:
    """Example inputs of a component and what the torch module makes of them."""

    inputs: tuple[Tensor, ...]
    expected: Mapping[str, Tensor]


def build_engine(
    contract: Contract,
    config: ModelConfig,
    weights: Weights,
    choices: tuple[Choice, ...],
    device: torch.device,
    folder: Path,
    fingerprint: str,
    report: Report,
    options: BuildOptions | None = None,
) -> Component:
    """Export a component into `folder`, compile it where the backend does, and check it.

    Args:
        contract: what it promises.
        config: of the model.
        weights: read tensor by tensor.
        choices: backends and precisions to try, best first.
        device: where the check runs.
        folder: empty, named as the component; its files are recorded relative to its parent.
        fingerprint: recorded in the entry.
        report: told what is being done.
        options: for backends that compile.

    Raises:
        CheckpointError: a weight is missing.
        EngineError: the export, or the last backend to try, failed.
        ExportMismatch: the export disagrees with the torch module on the last backend to try.
    """
    options = options or BuildOptions()
    report("weights")
    module = build_module(contract.name, config, weights)
    report("reference")
    cases = make_cases(contract, module)
    path = folder / ONNX_NAME
    sources = {get_backend(choice.backend).built_from for choice in choices}
    exported = sources != {BuiltFrom.MODULE}
    if exported:
        report("export")
        export_onnx(module, contract, cases[-1].inputs, folder)
        check_graph(contract, path)
    kept = module if BuiltFrom.MODULE in sources else None
    del module  # the engine brings its own copy of the weights
    gc.collect()
    component = Component(
        name=contract.name,
        backend="",
        precision=choices[0].precision,
        files=(),
        signature=contract.signature,
        fingerprint=fingerprint,
        parity=None,
        opset=OPSET if exported else None,
    )

    def compile_for(choice: Choice) -> Path:
        return compile_choice(
            contract, choice, kept, cases[-1].inputs, path, device, options, report
        )

    component = check_choices(
        contract, component, path, cases, choices, device, report, compile_for
    )
    report("hash")
    artifact = get_backend(component.backend).artifact(component.precision)
    names = list_artifacts(folder / artifact)
    remove_others(folder, names)
    files = tuple(describe_file(file, f"{folder.name}/{file.name}") for file in names)
    return dataclasses.replace(component, files=files)


def make_cases(contract: Contract, module: torch.nn.Module) -> list[Case]:
    """Reference cases at the profile's `opt`, and at a second size where an axis is dynamic."""
    sizes = [contract.signature.optimal_axes()]
    if not contract.signature.is_static:
        sizes.append(
            {axis: _another_size(bounds) for axis, bounds in contract.signature.profile.items()}
        )
    cases = []
    for axes in sizes:
        inputs = make_inputs(contract, axes)
        cases.append(Case(inputs, compute_reference(contract, module, inputs)))
    return cases


def _another_size(bounds: AxisRange) -> int:
    if bounds.opt == bounds.min:
        return bounds.max
    return max(bounds.min, bounds.opt // 3)


def check_choices(
    contract: Contract,
    component: Component,
    path: Path,
    cases: list[Case],
    choices: tuple[Choice, ...],
    device: torch.device,
    report: Report,
    compile_for: Callable[[Choice], Path] | None = None,
) -> Component:
    """The component with the first backend and precision that build, load and pass the check.

    Args:
        contract: of the component.
        component: its entry so far.
        path: the exported graph.
        cases: to check with.
        choices: to try, best first.
        device: where the check runs.
        report: told what is being done.
        compile_for: makes the file that the backend of a choice opens; None opens `path`.

    Raises:
        EngineError, ExportMismatch: the last choice failed.
    """
    rejected: list[str] = []
    for i, choice in enumerate(choices):
        candidate = dataclasses.replace(
            component,
            backend=choice.backend,
            precision=choice.precision,
            reason="; ".join([choice.reason, *rejected]),
        )
        try:
            target = path if compile_for is None else compile_for(choice)
            report(f"check {choice.backend} {choice.precision}")
            if not runs_here(choice.backend):
                parity = check_typed(contract, choice, path, cases)
            else:
                parity = check_engine(contract, candidate, target, cases, device)
            return dataclasses.replace(candidate, parity=parity)
        except (EngineError, ExportMismatch) as error:
            if i + 1 == len(choices):
                raise
            logger.warning("%s; trying %s", error, choices[i + 1].backend)
            rejected.append(f"{choice.backend} {choice.precision} rejected: {error}")
    raise EngineError(f"{contract.name}: no backend to try")


def runs_here(backend: str) -> bool:
    """Whether this machine has a device of a kind that the backend runs on."""
    return "cpu" in get_backend(backend).devices or torch.cuda.is_available()


def check_engine(
    contract: Contract, component: Component, path: Path, cases: list[Case], device: torch.device
) -> Parity:
    """Run every case through a backend; the recorded errors are the largest ones.

    Raises:
        EngineError: the backend cannot load or run the file.
        ExportMismatch: it disagrees with the torch module.
    """
    with open_file(component, path, device) as engine:
        return _check_cases(contract, engine, cases, component.precision)


def check_typed(contract: Contract, choice: Choice, path: Path, cases: list[Case]) -> Parity:
    """The check of an engine built for a GPU that is not here: its graph, run on the CPU."""
    with open_typed(contract, choice.precision, path) as engine:
        parity = _check_cases(contract, engine, cases, choice.precision)
        reference = f"{parity.reference}; its graph in {engine.backend}, the engine has not run"
    return dataclasses.replace(parity, reference=reference)


def _check_cases(
    contract: Contract, engine: Engine, cases: list[Case], precision: Precision
) -> Parity:
    parities = [
        check_values(contract, engine, case.inputs, case.expected, precision) for case in cases
    ]
    errors = {name: max(p.errors[name] for p in parities) for name in parities[0].errors}
    return dataclasses.replace(parities[0], errors=errors)
