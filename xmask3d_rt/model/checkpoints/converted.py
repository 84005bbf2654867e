"""Converted copies: one safetensors file per weight file, in the module's own names.

A copy is found again by the content hash of what it was made from, so a moved or renamed
checkpoint still finds it and a changed one never does.
"""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from xmask3d_rt.errors import CheckpointError, one_line
from xmask3d_rt.files import atomic_write, hash_file
from xmask3d_rt.model.checkpoints.layouts import CONVERTED_FORMAT
from xmask3d_rt.model.checkpoints.matching import Match, match_file
from xmask3d_rt.model.checkpoints.weight_file import WeightFile, open_weights

logger = logging.getLogger(__name__)


def hash_weights(file: WeightFile) -> str:
    """SHA-256 of a weight file; of a folder, over the hashes of its files in name order."""
    if len(file.files) == 1:
        return hash_file(file.files[0])
    digest = hashlib.sha256()
    for path in sorted(file.files):
        digest.update(f"{path.relative_to(file.path)} {hash_file(path)}\n".encode())
    return digest.hexdigest()


def use_converted(original: Match, sha256: str, folder: Path, state: Mapping[str, Tensor]) -> Match:
    """The converted copy of a checked weight file, written first where there is none.

    Args:
        original: the file; it fits the model.
        sha256: its content hash.
        folder: where copies lie.
        state: state dict of the model.

    Returns:
        The copy, checked; an unusable one is replaced.
    """
    namespace = original.file.layout.namespace
    path = folder / f"{namespace}-{sha256[:16]}.safetensors"
    if path.exists():
        try:
            found = match_file(open_weights(path), state)
            found.check()
            return found
        except CheckpointError as error:
            logger.warning("converting again: %s", error)
    tensors = {name: original.load(name).contiguous() for name in original.sources}
    metadata = {
        "format": CONVERTED_FORMAT,
        "namespace": namespace,
        "source": one_line(original.file.path.name),
        "sha256": sha256,
    }
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata)
    return match_file(open_weights(path), state)
