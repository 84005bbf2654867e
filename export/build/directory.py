"""Build an engine directory: plan, build what changed, check it, put it in place.

`build_engines` is what `export/build_engines.py` and `xmask3d build` call.
"""

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from xmask3d_rt.components import COMPONENTS, TENSORS
from xmask3d_rt.config import ModelConfig, Precision
from xmask3d_rt.engines.backends import BACKENDS, pick_device
from xmask3d_rt.engines.component import Component, WeightSource
from xmask3d_rt.engines.compute_capability import find_gpu
from xmask3d_rt.engines.files import verify_files
from xmask3d_rt.engines.manifest import Manifest, salvage
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.build.artifacts import describe_backends, list_backend_code, widen_batch
from xmask3d_rt.export.build.choices import AUTO, find_auto_device, list_choices
from xmask3d_rt.export.build.component import ComponentBuild
from xmask3d_rt.export.build.engine import build_engine
from xmask3d_rt.export.build.fingerprint import (
    CONFIG_PARTS,
    ENGINE_EXPORTER,
    compute_fingerprint,
    read_versions,
)
from xmask3d_rt.export.build.staging import Staging, open_staging
from xmask3d_rt.export.build.tensors import TENSOR_CODE, build_tensors, choose_arithmetic
from xmask3d_rt.export.build.weights import Weights
from xmask3d_rt.export.graph.contracts import get_contract
from xmask3d_rt.export.graph.export import OPSET

logger = logging.getLogger(__name__)


class Reporter:
    """Told about a build's progress; this one says nothing."""

    def start(self, names: Sequence[str]) -> None:
        """The components that will be looked at, in order."""

    def step(self, name: str, step: str) -> None:
        """What is being done for a component."""

    def done(self, component: Component, outcome: str, seconds: float) -> None:
        """A component is ready; `outcome` is built, resumed or unchanged."""


@dataclass
class BuildResult:
    """What a build did: `outcomes` says built, resumed or unchanged for each component."""

    manifest: Manifest
    outcomes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def build_engines(
    out: Path | str,
    config: ModelConfig,
    weights: Weights,
    backend: str = AUTO,
    precision: str = AUTO,
    only: Sequence[str] = (),
    device: str = AUTO,
    force: bool = False,
    reporter: Reporter | None = None,
    options: BuildOptions | None = None,
    replace: bool = False,
) -> BuildResult:
    """Build or update the engines of a model.

    Components whose fingerprint (configuration, weights, code, library versions, settings) is
    that of the files already there are kept. The directory changes only when every component
    is built and checked.

    Args:
        out: the engine directory, made where missing.
        config: of the model.
        weights: synthetic, or the user's files.
        backend: a backend's name, or `auto`.
        precision: `fp32`, `fp16`, `bf16`, or `auto`.
        only: components to build; none means all.
        device: where the engines will run: `auto`, `cpu`, `cuda`, `cuda:N`.
        force: build also what has not changed.
        reporter: told about progress.
        options: for backends that compile.
        replace: build over engines of another model or of other weights.

    Returns:
        the new manifest and what was done for each component.

    Raises:
        EngineError: an unknown component, backend, precision or device; the directory holds
            another model or other weights; a component cannot be exported or loaded.
        OSError: a file cannot be written.
        CheckpointError: a weight is missing.
        ExportMismatch: an export disagrees with the torch module; nothing is replaced.
    """
    out = Path(out)
    reporter = reporter or Reporter()
    options = options or BuildOptions()
    target = pick_build_device(device, backend, options)
    builds = plan_components(config, weights, backend, precision, only, target, options)
    names = [build.name for build in builds]
    with open_staging(out) as staging:
        if not replace:
            _check_same(out, config, weights.source)
        existing = _load_existing(out)
        kept = _list_kept(existing, names, config, weights)
        result = BuildResult(Manifest(config, weights.source, read_versions(), {}, out))
        reporter.start(names)
        staged = []
        for build in builds:
            build = dataclasses.replace(build, report=partial(reporter.step, build.name))
            with _timed(result, build.name):
                component, outcome = _obtain(build, staging, existing, force)
            # also of one that was there: options that change nothing in it may have changed
            component = dataclasses.replace(component, options=options, device=target.type)
            if outcome != "unchanged":
                staged.append(component)
            result.outcomes[build.name] = outcome
            kept[build.name] = component
            reporter.done(component, outcome, result.seconds[build.name])
        components = {name: kept[name] for name in COMPONENTS if name in kept}
        result.manifest.components.update(components)
        staging.commit(result.manifest, staged)
    return result


def pick_build_device(
    device: str, backend: str, options: BuildOptions | None = None
) -> torch.device:
    """Where engines will run; `auto` is a GPU only where a backend can use it.

    Raises:
        EngineError: not a device, or one this machine has not.
    """
    if options is not None and options.ahead_of_time:
        return torch.device("cuda", 0)
    picked = pick_device(device)
    if device != AUTO or picked.type == "cpu":
        return picked
    return picked if find_auto_device(backend) == "cuda" else torch.device("cpu")


def plan_components(
    config: ModelConfig,
    weights: Weights,
    backend: str,
    precision: str,
    only: Sequence[str],
    device: torch.device,
    options: BuildOptions,
) -> list[ComponentBuild]:
    """What a build will have to do; arguments as of `build_engines`, `device` as picked.

    Raises:
        EngineError: an unknown component, backend or precision, or none that fit.
    """
    unknown = sorted(set(only) - set(COMPONENTS))
    if unknown:
        raise EngineError(
            f"unknown component {unknown[0]!r}; components are {', '.join(COMPONENTS)}"
        )
    builds = []
    for name in COMPONENTS:
        if only and name not in only:
            continue
        if name in TENSORS:
            contract, choices = None, (choose_arithmetic(name, precision, device),)
        else:
            contract = widen_batch(get_contract(name, config), options.max_batch)
            able = _check_ahead_of_time(backend) if options.ahead_of_time else backend
            choices = list_choices(contract, able, precision, device)
        build = ComponentBuild(name, config, weights, device, choices, "", contract, options)
        builds.append(dataclasses.replace(build, fingerprint=_compute_fingerprint(build)))
    return builds


def _compute_fingerprint(build: ComponentBuild) -> str:
    """Hash of everything that the files of a component depend on."""
    hashed = build.weights.fingerprint(COMPONENTS[build.name].namespaces)
    contract, choices, device = build.contract, build.choices, build.device
    settings: dict[str, object] | None
    if contract is None:
        precision = choices[0].precision
        settings = None if precision is Precision.FP32 else {"precision": precision}
        return compute_fingerprint(build.config, hashed, TENSOR_CODE[build.name], settings)
    settings = {
        "signature": str(contract.signature),
        "choices": [(choice.backend, choice.precision) for choice in choices],
        "device": device.type if device.type == "cpu" else f"cuda {find_gpu()}",
        "opset": OPSET,
        "tolerances": contract.tolerances,
        **describe_backends(choices, device, build.options),
    }
    code = (*contract.code, *ENGINE_EXPORTER, *list_backend_code(choices))
    return compute_fingerprint(build.config, hashed, code, settings)


def _check_ahead_of_time(backend: str) -> str:
    """The backend of a build for a GPU that is not here.

    Raises:
        EngineError: one that builds for the machine at hand alone.
    """
    able = [name for name, record in BACKENDS.items() if record.ahead_of_time]
    if backend not in (AUTO, *able):
        raise EngineError(
            f"--compute-capability builds ahead of time with backend {', '.join(able)} alone, "
            f"not {backend}"
        )
    return able[0] if backend == AUTO else backend


def _check_same(out: Path, config: ModelConfig, weights: WeightSource) -> None:
    """Stop before engines of another model, or of other weights, are replaced.

    Raises:
        EngineError: naming what is there and what was asked for.
    """
    present = salvage(out)
    parts = {} if present is None else present.components
    tops = [name for part in COMPONENTS for name in (part, f"{part}.safetensors")]
    tops += [entry.path for part in parts.values() for entry in part.files]
    found = [top for top in tops if (out / top).exists()]
    if not found or (present is not None and _is_same(present, config, weights)):
        return
    fix = "build into another directory, or over it with --replace"
    if present is None:
        asked = f"asked for is {_describe_model(config, weights)}"
        raise EngineError(
            f"{out} holds {found[0]}, and no manifest says of what model, {asked}; {fix}"
        )
    raise EngineError(f"{out} holds {_compare_models(present, config, weights)}; {fix}")


def _is_same(present: Manifest, config: ModelConfig, weights: WeightSource) -> bool:
    """Whether engines are of a model and of weights; their class split may differ."""
    there, asked = ({entry.sha256 for entry in w.files} for w in (present.weights, weights))
    return (
        present.config.name == config.name
        and all(getattr(present.config, part) == getattr(config, part) for part in CONFIG_PARTS)
        and present.weights.kind == weights.kind
        and (there == asked or not there)  # a damaged manifest may not say
    )


def _compare_models(present: Manifest, config: ModelConfig, weights: WeightSource) -> str:
    """What is there and what was asked for, with the settings that differ where names do not."""
    there = _describe_model(present.config, present.weights)
    asked = _describe_model(config, weights)
    if there != asked:
        return f"{there}, asked for is {asked}"
    names = (part.name for part in dataclasses.fields(config))
    other = [name for name in names if getattr(present.config, name) != getattr(config, name)]
    return f"{there} of another version of the package ({', '.join(other)} differ)"


def _describe_model(config: ModelConfig, weights: WeightSource) -> str:
    files = ", ".join(f"{entry.path} {entry.sha256[:12]}" for entry in weights.files)
    return f"{config.name} with {files or weights.kind + ' weights'}"


def _load_existing(out: Path) -> Manifest | None:
    try:
        return Manifest.load(out, verify=False)
    except EngineError as error:
        logger.info("starting anew: %s", error)
        return None


def _list_kept(
    existing: Manifest | None, names: Sequence[str], config: ModelConfig, weights: Weights
) -> dict[str, Component]:
    """Components already there that this build leaves alone.

    Raises:
        EngineError: they belong to another configuration or other weights.
    """
    if existing is None:
        return {}
    kept = {name: c for name, c in existing.components.items() if name not in names}
    if kept and (existing.config != config or not _is_same(existing, config, weights.source)):
        raise EngineError(
            f"{existing.root} holds {', '.join(kept)} of "
            f"{_compare_models(existing, config, weights.source)}; build without --only, or into "
            f"another directory"
        )
    return kept


def _obtain(
    build: ComponentBuild, staging: Staging, existing: Manifest | None, force: bool
) -> tuple[Component, str]:
    """A component that is unchanged, was finished by an interrupted build, or is built now."""
    if not force:
        unchanged = _find_unchanged(build, existing)
        if unchanged is not None:
            return unchanged, "unchanged"
        finished = staging.find(build.name, build.fingerprint)
        if finished is not None:
            return finished, "resumed"
    if build.contract is None:
        name = f"{build.name}.safetensors"
        with staging.writing(name):
            component = build_tensors(build, staging.start_file(name))
            staging.finish(component)
        return component, "built"
    with staging.writing(build.name):
        component = build_engine(build, staging.start_folder(build.name))
        staging.finish(component)
    return component, "built"


def _find_unchanged(build: ComponentBuild, existing: Manifest | None) -> Component | None:
    component = None if existing is None else existing.components.get(build.name)
    if existing is None or component is None or component.fingerprint != build.fingerprint:
        return None
    try:
        verify_files(existing.root, component.files)
    except EngineError as error:
        logger.warning("%s is built again: %s", build.name, error)
        return None
    return component


@contextmanager
def _timed(result: BuildResult, name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    result.seconds[name] = time.perf_counter() - start
