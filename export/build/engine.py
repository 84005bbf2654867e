"""Build one engine component: weights → torch module → ONNX → check → manifest entry."""

import dataclasses
import gc
import logging
from pathlib import Path

import torch

from xmask3d_rt.engines.backend import ONNX_NAME, BuiltFrom, EngineFile
from xmask3d_rt.engines.backends import get_backend
from xmask3d_rt.engines.base import AxisRange, Engine
from xmask3d_rt.engines.component import Component, Parity
from xmask3d_rt.engines.files import describe_file
from xmask3d_rt.errors import EngineError, ExportMismatch
from xmask3d_rt.export.build.artifacts import (
    compile_choice,
    list_artifacts,
    open_typed,
    remove_others,
)
from xmask3d_rt.export.build.choices import Choice
from xmask3d_rt.export.build.component import ComponentBuild, Example, Exported
from xmask3d_rt.export.build.modules import build_module
from xmask3d_rt.export.graph.contracts import Contract
from xmask3d_rt.export.graph.export import OPSET, export_onnx
from xmask3d_rt.export.graph.validation import (
    check_graph,
    check_values,
    compute_reference,
    make_inputs,
)

logger = logging.getLogger(__name__)


def build_engine(build: ComponentBuild, folder: Path) -> Component:
    """Export a component into `folder`, compile it where the backend does, and check it.

    Args:
        build: of an engine component.
        folder: empty, named as the component; its files are recorded relative to its parent.

    Raises:
        CheckpointError: a weight is missing.
        EngineError: the component is no engine; the export, or the last backend to try, failed.
        ExportMismatch: the export disagrees with the torch module on the last backend to try.
    """
    takes = {get_backend(choice.backend).built_from for choice in build.choices}
    exported = export_component(build, folder, takes)
    gc.collect()  # the engine brings its own copy of the weights
    choice, parity = check_choices(build, exported)
    build.report("hash")
    artifact = get_backend(choice.backend).artifact(choice.precision)
    names = list_artifacts(folder / artifact)
    remove_others(folder, names)
    files = tuple(describe_file(file, f"{folder.name}/{file.name}") for file in names)
    return build.describe(choice, files, parity, None if takes == {BuiltFrom.MODULE} else OPSET)


def export_component(build: ComponentBuild, folder: Path, takes: set[BuiltFrom]) -> Exported:
    """The module, its reference outputs and its graph, as far as backends take them.

    Raises:
        CheckpointError, EngineError, ExportMismatch: as `build_engine`.
    """
    if build.contract is None:
        raise EngineError(f"{build.name} runs outside the engines; build its weights alone")
    build.report("weights")
    module = build_module(build.name, build.config, build.weights)
    build.report("reference")
    exported = Exported(
        contract=build.contract,
        examples=make_examples(build.contract, module),
        graph=folder / ONNX_NAME,
        module=module if BuiltFrom.MODULE in takes else None,
    )
    if takes != {BuiltFrom.MODULE}:
        build.report("export")
        export_onnx(module, build.contract, exported.inputs, folder)
        check_graph(build.contract, exported.graph)
    return exported


def make_examples(contract: Contract, module: torch.nn.Module) -> tuple[Example, ...]:
    """Examples at the profile's `opt`, and at a second size where an axis is dynamic."""
    sizes = [contract.signature.optimal_axes()]
    if not contract.signature.is_static:
        sizes.append(
            {axis: _another_size(bounds) for axis, bounds in contract.signature.profile.items()}
        )
    inputs = [make_inputs(contract, axes) for axes in sizes]
    return tuple(Example(x, compute_reference(contract, module, x)) for x in inputs)


def _another_size(bounds: AxisRange) -> int:
    if bounds.opt == bounds.min:
        return bounds.max
    return max(bounds.min, bounds.opt // 3)


def check_choices(build: ComponentBuild, exported: Exported) -> tuple[Choice, Parity]:
    """The first backend and precision that build, load and pass the check.

    Returns:
        the choice, whose reason says as well why those before it were rejected, and its check.

    Raises:
        EngineError, ExportMismatch: the last choice failed.
    """
    rejected: list[str] = []
    for i, choice in enumerate(build.choices):
        try:
            path = compile_choice(build, exported, choice)
            build.report(f"check {choice.backend} {choice.precision}")
            parity = check_choice(build, exported, choice, path)
            reason = "; ".join([choice.reason, *rejected])
            return dataclasses.replace(choice, reason=reason), parity
        except (EngineError, ExportMismatch) as error:
            if i + 1 == len(build.choices):
                raise
            logger.warning("%s; trying %s", error, build.choices[i + 1].backend)
            rejected.append(f"{choice.backend} {choice.precision} rejected: {error}")
    raise EngineError(f"{build.name}: no backend to try")


def runs_here(backend: str) -> bool:
    """Whether this machine has a device of a kind that the backend runs on."""
    return "cpu" in get_backend(backend).devices or torch.cuda.is_available()


def check_choice(build: ComponentBuild, exported: Exported, choice: Choice, path: Path) -> Parity:
    """Run every example through an engine; the recorded errors are the largest ones.

    Of an engine for a GPU that is not here, the graph is run on the CPU.

    Raises:
        EngineError: the backend cannot load or run the file.
        ExportMismatch: it disagrees with the torch module.
    """
    if runs_here(choice.backend):
        signature = exported.contract.signature
        file = EngineFile(build.name, path, signature, choice.precision)
        with get_backend(choice.backend).open(file, build.device, None) as engine:
            return _check_examples(exported, engine, choice)
    with open_typed(exported, choice.precision) as engine:
        parity = _check_examples(exported, engine, choice)
        reference = f"{parity.reference}; its graph in {engine.backend}, the engine has not run"
    return dataclasses.replace(parity, reference=reference)


def _check_examples(exported: Exported, engine: Engine, choice: Choice) -> Parity:
    parities = [
        check_values(exported.contract, engine, x.inputs, x.expected, choice.precision)
        for x in exported.examples
    ]
    errors = {name: max(p.errors[name] for p in parities) for name in parities[0].errors}
    return dataclasses.replace(parities[0], errors=errors)
