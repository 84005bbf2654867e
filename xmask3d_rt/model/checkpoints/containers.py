"""Single files that hold named tensors: safetensors, torch archives, TorchScript archives.

Nothing in a file is ever executed. Torch files are read with `weights_only=True` and mapped
rather than read, so that a 4 GB checkpoint costs no memory until a tensor of it is used;
TorchScript archives by `torchscript.py`. Training frameworks leave bookkeeping objects beside
the weights; those few classes, listed here, become inert placeholders. Anything else makes the
file unreadable.
"""

import re
import zipfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model.checkpoints.lazy import LazyTensor
from xmask3d_rt.model.checkpoints.torchscript import read_torchscript

SAFETENSORS = "safetensors"
TORCH = "torch archive"
LEGACY_TORCH = "torch file from before 1.6"
TORCHSCRIPT = "TorchScript archive"

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
# Seen in real checkpoints beside the weights: Lightning's callback state (Stable Diffusion),
# scores as NumPy scalars (`best_iou`), parsed arguments.
_BOOKKEEPING = re.compile(
    r"(pytorch_)?lightning\..*"
    r"|numpy\.(_?core\.multiarray\.scalar|dtype|dtypes\.\w+)"
    r"|_codecs\.encode"
    r"|argparse\.Namespace"
)


class _Inert:
    """Stands for a bookkeeping object; takes anything, keeps and does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


def read_container(path: Path) -> tuple[str, dict[str, LazyTensor]]:
    """What a file is, and its tensors by the names they have in it.

    `state_dict` is entered where there is one, a prefix `module.` shared by all names removed.

    Raises:
        CheckpointError: not a weight file, truncated, or holding objects other than tensors.
    """
    container = _sniff(path)
    if container == SAFETENSORS:
        tensors = _read_safetensors(path)
    elif container == TORCHSCRIPT:
        tensors = read_torchscript(path)
    else:
        tensors = _read_torch(path, container)
    if not tensors:
        raise CheckpointError(f"{path}: a {container} without any tensor")
    return container, _strip_prefix(tensors)


def read_metadata(path: Path) -> dict[str, str]:
    """Text entries in the header of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _sniff(path: Path) -> str:
    """The container by its first bytes; file names are not trusted."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise CheckpointError(f"{path}: the file is empty")
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
            f"{path}: a Python pickle, not a weight file; it could run code and is not read"
        )
    raise CheckpointError(
        f"{path}: no weight file (it starts with {head[:8]!r}); expected .safetensors, "
        "a torch checkpoint or a TorchScript archive"
    )


def _sniff_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path}: truncated or damaged ({error}); download it again"
        ) from error
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(f"{path}: a zip file, but no torch checkpoint (no data.pkl in it)")
    return TORCHSCRIPT if any(name.endswith("/constants.pkl") for name in names) else TORCH


def _read_safetensors(path: Path) -> dict[str, LazyTensor]:
    try:
        file = safe_open(path, framework="pt")
        tensors = {}
        for name in file.keys():  # noqa: SIM118 - the handle is not iterable
            view = file.get_slice(name)
            dtype = _SAFETENSORS_DTYPES.get(view.get_dtype())
            if dtype is None:
                raise CheckpointError(
                    f"{path}: {name} is stored as {view.get_dtype()}; "
                    f"supported: {', '.join(_SAFETENSORS_DTYPES)}"
                )
            shape = tuple(view.get_shape())
            tensors[name] = LazyTensor(shape, dtype, partial(file.get_tensor, name))
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: truncated or damaged safetensors file ({error}); download it again"
        ) from error
    return tensors


def _read_torch(path: Path, container: str) -> dict[str, LazyTensor]:
    bookkeeping = _list_bookkeeping(path) if container == TORCH else []
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in bookkeeping]):
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=container == TORCH
            )
    except MemoryError:
        raise
    except Exception as error:  # a damaged file fails in torch's reader in any way it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: {container}, truncated, damaged or holding more than tensors ({reason})"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: {container} of a {type(content).__name__}, expected named tensors"
        )
    return {
        str(name): LazyTensor(tuple(value.shape), value.dtype, value.detach)
        for name, value in content.items()
        if isinstance(value, Tensor)
    }


def _list_bookkeeping(path: Path) -> list[str]:
    """Harmless classes the archive mentions, all to be replaced by placeholders.

    Raises:
        CheckpointError: it mentions others, or cannot be parsed.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:  # as in _read_torch
        raise CheckpointError(f"{path}: damaged torch archive ({error})") from error
    refused = sorted(name for name in names if not _BOOKKEEPING.fullmatch(name))
    if refused:
        raise CheckpointError(
            f"{path}: holds Python objects ({', '.join(refused[:10])}), which could run code; "
            "only files of plain tensors are read, save its state_dict"
        )
    return names


def _strip_prefix(tensors: dict[str, LazyTensor], prefix: str = "module.") -> dict[str, LazyTensor]:
    if not _all_start_with(tensors, prefix):
        return tensors
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _all_start_with(names: Iterable[str], prefix: str) -> bool:
    return all(name.startswith(prefix) for name in names)
