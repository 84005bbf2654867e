"""Loading weight files into an `XMask3D`: all of them completely, or nothing."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model.checkpoints.converted import hash_weights, use_converted
from xmask3d_rt.model.checkpoints.matching import match_file
from xmask3d_rt.model.checkpoints.weight_file import WeightFile, open_weights

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
    given = {"xmask3d": xmask3d, "sd": sd, "clip": clip}
    state = model.state_dict()
    matches = {}
    for namespace, path in given.items():
        if path is not None:
            matches[namespace] = match_file(_open_as(namespace, Path(path)), state)
            matches[namespace].check()
    loaded = {namespace: _describe(match.file) for namespace, match in matches.items()}
    if cache_dir is not None:
        for namespace, entry in loaded.items():
            # popped, so that the original is closed before its copy is read
            matches[namespace] = use_converted(
                matches.pop(namespace), entry.sha256, Path(cache_dir), state
            )
    # most values are views of mapped files: holding all of them costs little memory
    values = {name: match.load(name) for match in matches.values() for name in match.sources}
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
    return loaded


def _describe(file: WeightFile) -> LoadedWeights:
    return LoadedWeights(file.path, file.layout.title, file.size, hash_weights(file))


def _open_as(namespace: str, path: Path) -> WeightFile:
    file = open_weights(path)
    if file.layout.namespace != namespace:
        raise CheckpointError(
            f"{path}: looks like {file.layout.title}, expected {_WORDS[namespace]}"
        )
    return file
