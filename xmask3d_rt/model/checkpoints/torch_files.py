"""Files of `torch.save` and `torch.jit.save`: from a path to lazy tensors.

Three containers: the zip archive of torch since 1.6, the file of pickles before it, and the
archive of a TorchScript program (OpenAI's CLIP), whose code is left alone. Tensors are windows
of the mapped file, so that a 4 GB checkpoint costs no memory until a tensor of it is used.
"""

import io
import mmap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model.checkpoints.damage import Refused, refuse_damage
from xmask3d_rt.model.checkpoints.lazy import LazyTensor
from xmask3d_rt.model.checkpoints.pickled import (
    PLAIN_NAMES,
    SCRIPT_NAMES,
    Attributes,
    Reference,
    Storage,
    read_pickle,
)

TORCH = "torch archive"
LEGACY_TORCH = "torch file from before 1.6"
TORCHSCRIPT = "TorchScript archive"

MAX_ATTRIBUTES = 200_000  # of a TorchScript program; shared submodules are walked every time
_LOCAL_HEADER, _LOCAL_MAGIC = 30, b"PK\x03\x04"

Locate = Callable[[Storage], int]  # where the values of a storage begin in the file, bytes


def read_torch(path: Path) -> dict[str, LazyTensor]:
    """Tensors of an archive of `torch.save`, those of its `state_dict` where it has one.

    Raises:
        CheckpointError: damaged, or holding anything but tensors and plain values.
    """
    with refuse_damage(path, TORCH):
        archive = _Archive(path)
        content = read_pickle(io.BytesIO(archive.read("data.pkl")), PLAIN_NAMES)
        return _list_tensors(content, TORCH, path, archive.mapped, archive.locate)


def read_legacy(path: Path) -> dict[str, LazyTensor]:
    """Tensors of a file of `torch.save` before version 1.6; as `read_torch`.

    Raises:
        CheckpointError: as of `read_torch`.
    """
    with refuse_damage(path, LEGACY_TORCH):
        mapped = _map_file(path)
        stream = cast(IO[bytes], mapped)  # reads as a file does, and never allocates beyond it
        storages: dict[str, Storage] = {}
        _magic, _version, system, content, keys = (
            read_pickle(stream, PLAIN_NAMES, storages) for _ in range(5)
        )
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise Refused("big-endian values")
        offsets = _locate_legacy(mapped, keys, storages)
        return _list_tensors(
            content, LEGACY_TORCH, path, mapped, lambda storage: offsets[storage.record]
        )


def read_torchscript(path: Path) -> dict[str, LazyTensor]:
    """Tensors of a TorchScript archive by dotted attribute path, e.g. `visual.conv1.weight`.

    Raises:
        CheckpointError: the archive does not hold what a saved TorchScript module holds.
    """
    with refuse_damage(path, TORCHSCRIPT):
        archive = _Archive(path)
        module = read_pickle(io.BytesIO(archive.read("data.pkl")), SCRIPT_NAMES)
        references = _walk(module)
        for reference in references.values():
            archive.check_size(reference.storage)
        return {
            name: LazyTensor(
                reference.shape, reference.storage.dtype, _script_loader(archive, reference)
            )
            for name, reference in references.items()
        }


class _Archive:
    """A zip of records below one folder; no size it claims is believed beyond the file's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mapped = _map_file(path)
        self._zip = zipfile.ZipFile(path)
        main = next(name for name in self._zip.namelist() if name.endswith("/data.pkl"))
        self._root = main.removesuffix("data.pkl")

    def read(self, name: str) -> bytes:
        """A whole record; its checksum is verified."""
        return self._zip.read(self._find(name))

    def read_values(self, storage: Storage) -> bytes:
        """The record of a storage."""
        return self.read(f"data/{storage.record}")

    def check_size(self, storage: Storage) -> zipfile.ZipInfo:
        """The entry of a storage, which must hold as many bytes as it says."""
        entry = self._find(f"data/{storage.record}")
        if entry.file_size < storage.size:
            raise Refused(
                f"a record {entry.filename} of {entry.file_size} bytes for "
                f"{storage.elements} values"
            )
        return entry

    def locate(self, storage: Storage) -> int:
        """Where the values of a storage begin in the file."""
        entry = self.check_size(storage)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise Refused(
                f"a compressed record {entry.filename}, which torch never writes",
                "unpack the archive and pack it without compression",
            )
        header = self.mapped[entry.header_offset : entry.header_offset + _LOCAL_HEADER]
        lengths = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
        start = entry.header_offset + _LOCAL_HEADER + sum(lengths)
        if not header.startswith(_LOCAL_MAGIC) or start + storage.size > len(self.mapped):
            raise Refused(f"a record {entry.filename} that is not where the directory says")
        return start

    def _find(self, name: str) -> zipfile.ZipInfo:
        entry = self._zip.getinfo(self._root + name)
        if entry.file_size > len(self.mapped):
            raise Refused(f"a record {entry.filename} that claims {entry.file_size} bytes")
        return entry


def _map_file(path: Path) -> mmap.mmap:
    """The file as memory; what is written there stays in memory."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _list_tensors(
    content: Any, container: str, path: Path, mapped: mmap.mmap, locate: Locate
) -> dict[str, LazyTensor]:
    """Tensors of what a file of `torch.save` holds, as windows of the mapped file."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or isinstance(content, Attributes):
        kind = "tensor" if isinstance(content, Reference) else type(content).__name__.lower()
        raise CheckpointError(
            f"{path}: {container} of a {kind}, expected named tensors; save a state_dict"
        )
    references = {str(k): value for k, value in content.items() if isinstance(value, Reference)}
    tensors = {}
    for name, reference in references.items():
        start = locate(reference.storage)
        load = _mapped_loader(container, path, mapped, start, reference)
        tensors[name] = LazyTensor(reference.shape, reference.storage.dtype, load)
    return tensors


def _locate_legacy(mapped: mmap.mmap, keys: Any, storages: dict[str, Storage]) -> dict[str, int]:
    """Where the values of each storage begin: they follow one another, each behind its length."""
    offsets = {}
    start = mapped.tell()
    for key in keys:
        storage = storages[key]
        elements = int.from_bytes(mapped[start : start + 8], "little")
        start += 8
        if elements != storage.elements:
            raise Refused(f"{elements} values where {storage.elements} were announced")
        if start + storage.size > len(mapped):
            raise EOFError("the file ends within its values")
        offsets[key] = start
        start += storage.size
    return offsets


def _mapped_loader(
    container: str, path: Path, mapped: mmap.mmap, start: int, reference: Reference
) -> Callable[[], Tensor]:
    def load() -> Tensor:
        storage = reference.storage
        with refuse_damage(path, container):
            if start % storage.dtype.itemsize:  # torch wants aligned memory
                return _view(bytearray(mapped[start : start + storage.size]), 0, reference)
            return _view(mapped, start, reference)

    return load


def _script_loader(archive: _Archive, reference: Reference) -> Callable[[], Tensor]:
    def load() -> Tensor:
        with refuse_damage(archive.path, TORCHSCRIPT):
            return _view(bytearray(archive.read_values(reference.storage)), 0, reference)

    return load


def _view(memory: bytearray | mmap.mmap, start: int, reference: Reference) -> Tensor:
    storage = reference.storage
    if storage.elements == 0:
        return torch.empty(reference.shape, dtype=storage.dtype)
    flat = torch.frombuffer(memory, dtype=storage.dtype, count=storage.elements, offset=start)
    return flat.as_strided(reference.shape, reference.stride, reference.offset)


def _walk(module: Any) -> dict[str, Reference]:
    """References below a module by dotted attribute path."""
    found: dict[str, Reference] = {}
    waiting = [("", module)]
    visited = 0
    while waiting:
        name, value = waiting.pop()
        visited += 1
        if visited > MAX_ATTRIBUTES:
            raise Refused(f"more than {MAX_ATTRIBUTES} attributes")
        if isinstance(value, Reference):
            found[name] = value
        elif isinstance(value, Attributes):
            items = [(f"{name}.{key}" if name else str(key), v) for key, v in value.items()]
            waiting += reversed(items)  # so that they are found in their order
    return found
