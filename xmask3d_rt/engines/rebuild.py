"""Open engines, and rebuild those that were built for something else.

The runtime does not import the exporter; it runs its command.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from xmask3d_rt.engines.backends import open_engine
from xmask3d_rt.engines.base import Engine
from xmask3d_rt.engines.build_command import list_arguments, list_weight_options
from xmask3d_rt.engines.manifest import Manifest
from xmask3d_rt.errors import EngineError, StaleEngineError
from xmask3d_rt.system.processes import run_command

BUILD_MODULE = "xmask3d_rt.export.build_engines"

logger = logging.getLogger(__name__)


def open_engines(
    manifest: Manifest,
    names: Sequence[str],
    device: torch.device,
    threads: int | None,
    rebuild: bool | Mapping[str, str | Path],
) -> tuple[Manifest, dict[str, Engine]]:
    """Load components, rebuilding stale ones where that is wanted.

    Args:
        manifest: of the directory.
        names: of the components.
        device: where they run.
        threads: CPU threads.
        rebuild: whether to; or the paths of the weight files, see `rebuild_component`.

    Returns:
        the manifest afterwards, and the engines by name.

    Raises:
        EngineError: a component cannot be loaded, or not be rebuilt.
    """
    engines = {}
    for name in names:
        try:
            engines[name] = open_engine(manifest, name, device, threads)
        except StaleEngineError:
            if rebuild is False:
                raise
            paths = rebuild if isinstance(rebuild, Mapping) else None
            manifest = rebuild_component(manifest, name, device, paths)
            engines[name] = open_engine(manifest, name, device, threads)
    return manifest, engines


def rebuild_component(
    manifest: Manifest,
    name: str,
    device: torch.device,
    weights: Mapping[str, str | Path] | None = None,
) -> Manifest:
    """Build a component anew with the backend, precision and options it has, for the machine at
    hand.

    Args:
        manifest: of the directory.
        name: of the component.
        device: where it will run.
        weights: paths of `checkpoint`, `sd` and `clip`; synthetic weights need none.

    Returns:
        the manifest afterwards.

    Raises:
        EngineError: weight files are needed and not given, the configuration is no preset, or
            the build failed; the message has its last line.
    """
    command = make_command(manifest, name, device, weights)
    logger.warning("rebuilding %s of %s", name, manifest.root)
    run_build(command, f"rebuilding {name} of {manifest.root}")
    return Manifest.load(manifest.root)


def run_build(command: Sequence[str], what: str) -> None:
    """Run a build in a process of its own.

    Args:
        command: module and arguments.
        what: is done, for the message.

    Raises:
        EngineError: it failed; the message has its last line.
    """
    outcome = run_command((sys.executable, "-m", *command))
    if outcome.status != 0:
        lines = (outcome.stderr or outcome.stdout).strip().splitlines() or ["no output"]
        raise EngineError(f"{what} failed: {lines[-1].strip()}")


def make_command(
    manifest: Manifest,
    name: str,
    device: torch.device,
    weights: Mapping[str, str | Path] | None = None,
) -> list[str]:
    """Module and arguments of the build; see `rebuild_component`."""
    manifest.get(name)
    options = list_weight_options(manifest.weights)
    if options and set(weights or ()) != set(options):
        files = ", ".join(entry.path for entry in manifest.weights.files)
        wanted = ", ".join(f"'{option}': …" for option in options)
        raise EngineError(
            f"rebuilding {name} needs the weight files ({files}); pass their paths: "
            f"rebuild={{{wanted}}}"
        )
    arguments = list_arguments(manifest, name, str(device), weights)
    return [BUILD_MODULE, *arguments]
