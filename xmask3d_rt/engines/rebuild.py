"""Rebuild one component of an engine directory, in a process of its own.

The runtime does not import the exporter; it runs its command.
"""

import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from xmask3d_rt.config import PRESETS, get_preset
from xmask3d_rt.engines.manifest import Manifest
from xmask3d_rt.errors import EngineError

logger = logging.getLogger(__name__)

WEIGHT_OPTIONS = ("checkpoint", "sd", "clip")


def rebuild_component(
    manifest: Manifest,
    name: str,
    device: torch.device,
    weights: Mapping[str, str | Path] | None = None,
) -> Manifest:
    """Build a component anew with the backend and precision it has, for the machine at hand.

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
    outcome = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False
    )
    if outcome.returncode != 0:
        lines = (outcome.stderr or outcome.stdout).strip().splitlines() or ["no output"]
        raise EngineError(f"rebuilding {name} of {manifest.root} failed: {lines[-1].strip()}")
    return Manifest.load(manifest.root)


def make_command(
    manifest: Manifest,
    name: str,
    device: torch.device,
    weights: Mapping[str, str | Path] | None = None,
) -> list[str]:
    """Module and arguments of the build; see `rebuild_component`."""
    config, component = manifest.config, manifest.get(name)
    if config.name not in PRESETS or get_preset(config.name) != config:
        raise EngineError(
            f"{manifest.root} was built for a configuration that is no preset; build it again as "
            f"it was built first"
        )
    if manifest.weights.kind == "synthetic":
        source = ["--weights", "synthetic"]
    else:
        given = dict(weights or {})
        if set(given) != set(WEIGHT_OPTIONS):
            files = ", ".join(entry.path for entry in manifest.weights.files)
            raise EngineError(
                f"rebuilding {name} needs the weight files ({files}); pass their paths: "
                f"rebuild={{'checkpoint': …, 'sd': …, 'clip': …}}"
            )
        source = [text for key in WEIGHT_OPTIONS for text in (f"--{key}", str(given[key]))]
    return [
        "xmask3d_rt.export.build_engines",
        *("--preset", config.name, "--out", str(manifest.root), "--only", name, "--force"),
        *("--backend", component.backend, "--precision", str(component.precision)),
        *("--device", str(device), *source),
    ]
