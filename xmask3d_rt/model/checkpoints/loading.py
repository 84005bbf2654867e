"""Loading weight files into an `XMask3D`: all of them completely, or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model.checkpoints.converted import hash_weights, use_converted
from xmask3d_rt.model.checkpoints.matching import Match, match_file
from xmask3d_rt.model.checkpoints.weight_file import WeightFile, open_weights
from xmask3d_rt.model.xmask3d import XMask3D

_WORDS = {
    "xmask3d": "an XMask3D checkpoint",
    "sd": "Stable Diffusion v1",
    "clip": "CLIP ViT-L-14",
}


@dataclass(frozen=True)
class LoadedWeights:
    """What was loaded, for the manifest."""

    path: Path
    title: str
    size: int
    sha256: str


@dataclass(frozen=True)
class OpenedWeights:
    """A weight file that fits the model, nothing read yet, and what it is."""

    match: Match
    entry: LoadedWeights


def load_checkpoints(
    model: nn.Module,
    *,
    xmask3d: Path | str | None = None,
    sd: Path | str | None = None,
    clip: Path | str | None = None,
    cache_dir: Path | str | None = None,
) -> dict[str, LoadedWeights]:
    """Load weight files into a model, in place.

    Every file is opened, checked and read before the first tensor is touched. Values are cast
    to the model's precision. Whatever the module derives from its weights (the embedding of the
    empty prompt) must be derived again afterwards.

    Args:
        model: an `XMask3D` with real tensors (not on the meta device).
        xmask3d: the trained part.
        sd: Stable Diffusion v1.
        clip: CLIP.
        cache_dir: where converted copies are kept and looked for; None: no copies.

    Returns:
        Per namespace given, what was loaded.

    Raises:
        CheckpointError: a file is missing, unreadable, of another model, or does not hold every
            tensor of the module in its shape; the model is as before.
    """
    state = model.state_dict()
    opened = open_checkpoints(state, xmask3d=xmask3d, sd=sd, clip=clip, cache_dir=cache_dir)
    matches = [weights.match for weights in opened.values()]
    # most values are views of mapped files: holding all of them costs little memory
    values = {name: match.load(name) for match in matches for name in match.sources}
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
    return {namespace: weights.entry for namespace, weights in opened.items()}


def expect_state(config: ModelConfig) -> dict[str, Tensor]:
    """Names and shapes of a model's tensors, without values."""
    with torch.device("meta"):
        return dict(XMask3D(config).state_dict())


def check_checkpoints(
    config: ModelConfig,
    *,
    xmask3d: Path | str | None = None,
    sd: Path | str | None = None,
    clip: Path | str | None = None,
) -> None:
    """Make sure that `load_checkpoints` would load these files; neither they nor a model is read.

    Args:
        config: of the model.
        xmask3d, sd, clip: as in `load_checkpoints`.

    Raises:
        CheckpointError: as in `load_checkpoints`.
    """
    given = {"xmask3d": xmask3d, "sd": sd, "clip": clip}
    files = [_open_as(name, Path(path)) for name, path in given.items() if path is not None]
    state = expect_state(config) if files else {}
    for file in files:
        match_file(file, state).check()


def open_checkpoints(
    state: Mapping[str, Tensor],
    *,
    xmask3d: Path | str | None = None,
    sd: Path | str | None = None,
    clip: Path | str | None = None,
    cache_dir: Path | str | None = None,
) -> dict[str, OpenedWeights]:
    """Open weight files and check that they hold every tensor; none is read.

    Args:
        state: state dict of an `XMask3D`, possibly on the meta device.
        xmask3d, sd, clip, cache_dir: as in `load_checkpoints`.

    Returns:
        Per namespace given, the opened file, or its converted copy where `cache_dir` is given.

    Raises:
        CheckpointError: as in `load_checkpoints`.
    """
    given = {"xmask3d": xmask3d, "sd": sd, "clip": clip}
    matches = {}
    for namespace, path in given.items():
        if path is not None:
            matches[namespace] = match_file(_open_as(namespace, Path(path)), state)
            matches[namespace].check()
    opened = {}
    for namespace in list(matches):
        # popped, so that the original is closed before its copy is read
        match = matches.pop(namespace)
        entry = _describe(match.file)
        if cache_dir is not None:
            match = use_converted(match, entry.sha256, Path(cache_dir), state)
        opened[namespace] = OpenedWeights(match, entry)
    return opened


def _describe(file: WeightFile) -> LoadedWeights:
    return LoadedWeights(file.path, file.layout.title, file.size, hash_weights(file))


def _open_as(namespace: str, path: Path) -> WeightFile:
    file = open_weights(path)
    if file.layout.namespace != namespace:
        raise CheckpointError(
            f"{path}: looks like {file.layout.title}, expected {_WORDS[namespace]}"
        )
    return file
