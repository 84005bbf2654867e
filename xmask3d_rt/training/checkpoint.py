"""Checkpoints in the released format, with what an exact resume needs beside it.

    epoch        epochs finished
    state_dict   the trained part, keys with the prefix `module.`; no diffusion model, no CLIP
    optimizer    state of AdamW
    best_iou     best score so far, in percent
    xmask3d_rt   step within the epoch, settings, names of the optimiser's parameters in order,
                 hash of the frozen networks, means and IoU under way

Random choices follow from the run's seed and counters of epoch, sample and step, so the place in
the epoch is the state of every generator. Files are whole or absent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xmask3d_rt.errors import CheckpointError, first_line
from xmask3d_rt.files import atomic_write
from xmask3d_rt.model.key_map import map_name
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.training.config import TrainingConfig
from xmask3d_rt.training.optim import named_trained

PREFIX = "module."
OWN = "xmask3d_rt"
OWN_KEYS = {"step", "settings", "parameters", "frozen", "meters"}
LAST, BEST = "model_last.pth.tar", "model_best.pth.tar"
# Settings that may change between two parts of a run: they decide no number.
FREE = {
    "optim": {"checkpointing"},
    "run": {
        *("workers", "cache_gb", "save_every", "log_every", "tensorboard"),
        *("validate_scenes", "validate_views"),
    },
}


@dataclass(frozen=True)
class Progress:
    """Where a run is: epochs finished, steps done in the one under way, best score."""

    epoch: int = 0
    step: int = 0
    best: float = 0.0


def trained_state(model: XMask3D) -> dict[str, Tensor]:
    """The tensors of the released checkpoint by the module's names."""
    state = model.state_dict()
    return {name: state[name] for name in state if map_name(name).namespace == "xmask3d"}


def save_checkpoint(
    path: Path,
    model: XMask3D,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    config: TrainingConfig,
    frozen: str,
    meters: Mapping[str, Any],
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: the file.
        model, optimizer, progress, config: of the run.
        frozen: hash of the frozen networks.
        meters: state of what is averaged and counted between two reports.
    """
    content = {
        "epoch": progress.epoch,
        "state_dict": {PREFIX + name: value for name, value in trained_state(model).items()},
        "optimizer": optimizer.state_dict(),
        "best_iou": progress.best,
        OWN: {
            "step": progress.step,
            "settings": config.model_dump_json(),
            "parameters": [name for name, _ in named_trained(model)],
            "frozen": frozen,
            "meters": dict(meters),
        },
    }
    write_tensors(path, content)


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of `torch.save`, whole or not at all.

    Raises:
        OSError: it cannot be written; says why, which torch keeps to itself when given a path.
    """
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        torch.save(content, stream)


def resume_checkpoint(
    path: Path,
    model: XMask3D,
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    frozen: str,
) -> tuple[Progress, dict[str, Any]]:
    """Go on from a checkpoint of this package: weights, optimiser and place.

    Args:
        path: the checkpoint.
        model, optimizer: changed in place.
        config: must decide the same numbers as the run that wrote it.
        frozen: hash of the frozen networks, which must be those of the run.

    Returns:
        the place, and the state of the meters.

    Raises:
        CheckpointError: missing, damaged, not written by this package, or of another model.
        ValueError: a setting or the frozen networks differ.
    """
    content = _read(path)
    own = content[OWN]
    _check_settings(path, json.loads(own["settings"]), config)
    if own["frozen"] != frozen:
        raise ValueError(
            f"{path} was trained with the frozen networks {own['frozen']}, not {frozen}; resume "
            "with the --sd and --clip of the run, or start anew with --init"
        )
    state = {name.removeprefix(PREFIX): value for name, value in content["state_dict"].items()}
    wanted = trained_state(model)
    _check_state(path, state, wanted)
    names = [name for name, _ in named_trained(model)]
    if own["parameters"] != names:
        raise CheckpointError(f"{path}: its optimiser has other parameters than this model")
    with torch.no_grad():
        for name, target in wanted.items():
            target.copy_(state[name])
    optimizer.load_state_dict(content["optimizer"])
    return Progress(content["epoch"], own["step"], content["best_iou"]), own["meters"]


def check_resumable(path: Path, config: TrainingConfig) -> None:
    """Refuse a checkpoint that a run of these settings cannot go on from; reads no weights.

    Raises:
        CheckpointError: missing, damaged or not written by this package.
        ValueError: of another preset, or a setting differs.
    """
    _check_settings(path, json.loads(_read(path, mmap=True)[OWN]["settings"]), config)


def _read(path: Path, mmap: bool = False) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint to resume; leave out --resume to start anew")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # a damaged file fails in torch's reader in any way it likes
        raise CheckpointError(
            f"{path}: truncated, damaged or no checkpoint ({first_line(error)})"
        ) from error
    own = content.get(OWN) if isinstance(content, dict) else None
    if not isinstance(own, dict) or not own.keys() >= OWN_KEYS:
        raise CheckpointError(
            f"{path}: not written by this version of `xmask3d train`, so it has no place to go on "
            "from; start from its weights with --init"
        )
    return content


def _check_settings(path: Path, before: Mapping[str, Any], config: TrainingConfig) -> None:
    """Refuse settings that would make other numbers than the run that is resumed."""
    now = config.model_dump(mode="json")
    if before["preset"] != now["preset"]:
        raise ValueError(
            f"{path} is of preset {before['preset']}, not {now['preset']}; give the preset it was "
            "trained as"
        )
    for section in ("loss", "optim", "run"):
        for name, value in now[section].items():
            if name in FREE.get(section, ()) or before[section].get(name) == value:
                continue
            raise ValueError(
                f"{path} was trained with {section}.{name}={before[section].get(name)}, not "
                f"{value}; resume with the same settings, or start anew with --init"
            )


def _check_state(path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse a state dict that lacks a tensor, has one too many, or one of another shape."""
    names = sorted(set(state) ^ set(wanted))
    shapes = [n for n in wanted if n in state and state[n].shape != wanted[n].shape]
    if names or shapes:
        raise CheckpointError(
            f"{path} does not fit the model: {len(names)} tensors missing or unexpected, "
            f"{len(shapes)} of another shape, the first {(names + shapes)[0]}"
        )
