"""The command that builds an engine directory, or a part of it, again as it was built.

Every hint and every rebuild comes from here, so that following one never makes another model's
engines out of those that are there.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from xmask3d_rt.config import PRESETS, ModelConfig, get_preset
from xmask3d_rt.engines.component import Component, WeightSource
from xmask3d_rt.errors import EngineError

WEIGHT_OPTIONS = ("checkpoint", "sd", "clip")
TENSOR_BACKEND = "torch"  # of weights that run outside the engines


class EngineDirectory(Protocol):
    """What the command takes from a `Manifest`."""

    @property
    def root(self) -> Path:
        """The directory."""

    @property
    def config(self) -> ModelConfig:
        """Of the model."""

    @property
    def weights(self) -> WeightSource:
        """Where they came from."""

    @property
    def components(self) -> Mapping[str, Component]:
        """Component per name."""


def list_arguments(
    manifest: EngineDirectory,
    name: str | None = None,
    device: str | None = None,
    weights: Mapping[str, str | Path] | None = None,
    here: bool = False,
) -> list[str]:
    """Arguments of `xmask3d build` for what a manifest records.

    Args:
        manifest: of the directory.
        name: of the component to build; None builds all.
        device: where it will run; None is the kind of device it was built for.
        weights: paths of `checkpoint`, `sd` and `clip`; None names the files alone.
        here: leave device, backend, precision and options to what suits the machine at hand.

    Raises:
        EngineError: the configuration is no preset, which no command can name.
    """
    if not is_preset(manifest.config):
        raise EngineError(
            f"{manifest.root} was built for a configuration that is no preset; build it again as "
            f"it was built first"
        )
    part = manifest.components.get(name or "")
    parts = list(manifest.components.values()) if part is None else [part]
    return [
        *("--preset", manifest.config.name, "--out", str(manifest.root)),
        *(("--only", name) if name is not None else ()),
        *(() if here else _list_choice(parts, device)),
        *(("--force",) if name is not None else ()),
        *_list_weights(manifest.weights, weights),
    ]


def format_command(arguments: Sequence[str]) -> str:
    """What to type, in backquotes."""
    return f"`{shlex.join(['xmask3d', 'build', *arguments])}`"


def is_preset(config: ModelConfig) -> bool:
    """Whether a configuration is one that its name stands for."""
    return config.name in PRESETS and get_preset(config.name) == config


def _list_choice(parts: Sequence[Component], device: str | None) -> list[str]:
    """Device, backend, precision and options, each where all components agree on it."""
    engines = [part for part in parts if part.backend != TENSOR_BACKEND]
    found = {
        "--device": {device} if device is not None else {part.device for part in parts},
        "--backend": {part.backend for part in engines},
        "--precision": {str(part.precision) for part in engines or parts},
    }
    agreed = [(key, value) for key, values in found.items() if len(values) == 1 for value in values]
    options = {part.options for part in parts}
    return [
        *(text for key, value in agreed if value is not None for text in (key, value)),
        *(options.pop().list_arguments() if len(options) == 1 else ()),
    ]


def _list_weights(source: WeightSource, given: Mapping[str, str | Path] | None) -> list[str]:
    options = list_weight_options(source)
    names = [entry.path for entry in source.files]
    if len(names) != len(options):
        names = [option.upper() for option in options]
    paths = given or dict(zip(options, names, strict=True))
    files = [text for key in options for text in (f"--{key}", str(paths[key]))]
    if source.kind == "files":
        return files
    return [*files, "--weights", "bundled" if source.kind == "bundled" else "synthetic"]


def list_weight_options(source: WeightSource) -> tuple[str, ...]:
    """The options of a build that name the weight files it needs."""
    few = {"synthetic": (), "bundled": (), "mixed": WEIGHT_OPTIONS[:1]}
    return few.get(source.kind, WEIGHT_OPTIONS)
