"""Single files that hold named tensors: safetensors, torch archives, TorchScript archives.

Nothing in a file is ever executed: safetensors has no code, and the pickles of torch's files are
followed by `pickled.py`. No size in a header is believed beyond the file's own.
"""

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model.checkpoints.damage import Refused, refuse_damage
from xmask3d_rt.model.checkpoints.lazy import LazyTensor
from xmask3d_rt.model.checkpoints.torch_files import (
    LEGACY_TORCH,
    TORCH,
    TORCHSCRIPT,
    read_legacy,
    read_torch,
    read_torchscript,
)

SAFETENSORS = "safetensors"

MAX_NAME = 500  # characters; real names have a hundred
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_container(path: Path) -> tuple[str, dict[str, LazyTensor]]:
    """What a file is, and its tensors by the names they have in it.

    `state_dict` is entered where there is one, a prefix `module.` shared by all names removed.

    Raises:
        CheckpointError: not a weight file, truncated, or holding objects other than tensors.
    """
    container = _sniff(path)
    tensors = _READERS[container](path)
    if not tensors:
        raise CheckpointError(
            f"{path}: a {container} without any tensor; get the weights themselves"
        )
    with refuse_damage(path, container):
        for name in tensors:
            if not name.isprintable() or len(name) > MAX_NAME:
                raise Refused(f"a tensor named {name[:60]!a}")
    return container, _strip_prefix(tensors)


def read_metadata(path: Path) -> dict[str, str]:
    """Text entries in the header of a safetensors file."""
    with refuse_damage(path, SAFETENSORS), safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _sniff(path: Path) -> str:
    """The container by its first bytes; file names are not trusted."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise CheckpointError(f"{path}: the file is empty; download it again")
    if head.startswith(b"PK\x03\x04"):
        return _sniff_archive(path)
    if head.startswith(_LEGACY_MAGIC):
        return LEGACY_TORCH
    if head[8:9] == b"{":
        return SAFETENSORS
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path}: a Git LFS pointer, not the weights; fetch the file itself (git lfs pull)"
        )
    if head[:1] == b"\x80":
        raise CheckpointError(
            f"{path}: a Python pickle, not a weight file; it could run code and is not read, save "
            "its tensors as safetensors"
        )
    raise CheckpointError(
        f"{path}: no weight file (it starts with {head[:8]!r}); expected .safetensors, "
        "a torch checkpoint or a TorchScript archive"
    )


def _sniff_archive(path: Path) -> str:
    with refuse_damage(path, "zip archive"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(
            f"{path}: a zip file, but no torch checkpoint (no data.pkl in it); if the weights are "
            "in it, unpack them"
        )
    return TORCHSCRIPT if any(name.endswith("/constants.pkl") for name in names) else TORCH


def _read_safetensors(path: Path) -> dict[str, LazyTensor]:
    tensors = {}
    with refuse_damage(path, SAFETENSORS):
        file = safe_open(path, framework="pt")
        for name in file.keys():  # noqa: SIM118 - the handle is not iterable
            view = file.get_slice(name)
            dtype = _SAFETENSORS_DTYPES.get(view.get_dtype())
            if dtype is None:
                raise Refused(
                    f"{name} stored as {view.get_dtype()}",
                    f"convert it to one of {', '.join(_SAFETENSORS_DTYPES)}",
                )
            shape = tuple(view.get_shape())
            tensors[name] = LazyTensor(shape, dtype, _safetensors_loader(path, file, name))
    return tensors


def _safetensors_loader(path: Path, file: Any, name: str) -> Callable[[], Tensor]:
    def load() -> Tensor:
        with refuse_damage(path, SAFETENSORS):
            return file.get_tensor(name)

    return load


_READERS: dict[str, Callable[[Path], dict[str, LazyTensor]]] = {
    SAFETENSORS: _read_safetensors,
    TORCH: read_torch,
    LEGACY_TORCH: read_legacy,
    TORCHSCRIPT: read_torchscript,
}


def _strip_prefix(tensors: dict[str, LazyTensor], prefix: str = "module.") -> dict[str, LazyTensor]:
    if not _all_start_with(tensors, prefix):
        return tensors
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _all_start_with(names: Iterable[str], prefix: str) -> bool:
    return all(name.startswith(prefix) for name in names)
