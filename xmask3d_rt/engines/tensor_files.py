"""Weights of an engine directory that run outside the engines: safetensors files."""

from collections.abc import Collection
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from xmask3d_rt.engines.manifest import describe_rebuild
from xmask3d_rt.errors import EngineError


def read_tensors(path: Path, needed: Collection[str]) -> dict[str, Tensor]:
    """All tensors of a file, by name.

    Args:
        path: `{component}.safetensors` of an engine directory.
        needed: names that must be there.

    Raises:
        EngineError: the file is missing, unreadable or incomplete.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise EngineError(
            f"cannot read {path}: {error}; {describe_rebuild(path.parent, path.stem)}"
        ) from error
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise EngineError(
            f"{path} lacks {len(missing)} tensors, first {missing[0]!r}; "
            f"{describe_rebuild(path.parent, path.stem)}"
        )
    return tensors
