"""Tensors of a TorchScript archive, with no code of it run.

OpenAI publishes CLIP as a compiled program: a zip of TorchScript source, raw tensor records and
`data.pkl`, which says which record is which attribute of which submodule. `torch.jit.load`
would compile and set up that program; `pickle` could be made to call anything. Neither is
needed: `data.pkl` is a list of a few dozen plain instructions, and this module follows the ones
that build nested attributes, treating every class and function in it as a mere name. An
instruction or call outside that set is refused.

Source: the pickle instruction set (`pickletools`); torch's serialization format notes
(https://docs.pytorch.org/docs/stable/notes/serialization.html).
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model.checkpoints.lazy import LazyTensor

_STORAGES = {
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A class or function the pickle mentions; never looked up."""

    path: str


@dataclass(frozen=True)
class _Storage:
    """One raw record of the archive."""

    dtype: torch.dtype
    record: str
    elements: int


@dataclass(frozen=True)
class _Reference:
    """A tensor: a strided window of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Attributes(dict):
    """The attributes of one submodule."""


def read_torchscript(path: Path) -> dict[str, LazyTensor]:
    """Tensors of the archive by dotted attribute path, e.g. `visual.conv1.weight`.

    Raises:
        CheckpointError: the archive does not hold what a saved TorchScript module holds.
    """
    tensors: dict[str, LazyTensor] = {}
    try:
        archive = zipfile.ZipFile(path)
        data = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        module = _Reader(archive.read(data)).run()
        _collect(module, "", archive, data.removesuffix("data.pkl"), tensors)
    except _Refused as error:
        raise CheckpointError(f"{path}: TorchScript archive with {error}; not read") from error
    except (ValueError, LookupError, TypeError, RecursionError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: damaged TorchScript archive ({error})") from error
    return tensors


def _collect(
    value: Any, name: str, archive: zipfile.ZipFile, root: str, tensors: dict[str, LazyTensor]
) -> None:
    """Walk the submodules, depth first."""
    if isinstance(value, _Attributes):
        for key, child in value.items():
            _collect(child, f"{name}.{key}" if name else str(key), archive, root, tensors)
    elif isinstance(value, _Reference):
        record, storage = f"{root}data/{value.storage.record}", value.storage
        size = archive.getinfo(record).file_size
        if size < storage.elements * storage.dtype.itemsize:
            raise _Refused(f"a record {record} of {size} bytes for {storage.elements} values")
        load = _record_loader(archive, record, value)
        tensors[name] = LazyTensor(value.shape, storage.dtype, load)


def _record_loader(
    archive: zipfile.ZipFile, record: str, reference: _Reference
) -> Callable[[], Tensor]:
    def load() -> Tensor:
        try:
            values = bytearray(archive.read(record))  # checks its CRC
        except zipfile.BadZipFile as error:
            raise CheckpointError(
                f"{archive.filename}: damaged TorchScript archive ({error})"
            ) from error
        flat = torch.frombuffer(values, dtype=reference.storage.dtype)
        return flat.as_strided(reference.shape, reference.stride, reference.offset)

    return load


class _Refused(ValueError):
    """An instruction that a saved module has no need of."""


class _Reader:
    """A stack machine over pickle instructions that can only build data."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object the instructions describe."""
        for opcode, argument, _ in pickletools.genops(io.BytesIO(self._data)):
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise _Refused("an unfinished data.pkl")

    def _step(self, name: str, argument: Any) -> None:
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self._stack.append(_MARK)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self._stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                self._stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE":
                self._stack.append(argument)
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                self._stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[name])
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case "GLOBAL":
                self._stack.append(_Name(argument.replace(" ", ".")))
            case _:
                self._combine(name)

    def _combine(self, name: str) -> None:
        """Instructions that take values off the stack."""
        match name:
            case "TUPLE":
                self._stack.append(tuple(self._pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                self._stack[-count:] = [tuple(self._stack[-count:])]
            case "APPEND":
                value = self._stack.pop()
                self._stack[-1].append(value)
            case "APPENDS":
                values = self._pop_to_mark()
                self._stack[-1].extend(values)
            case "SETITEM":
                key, value = self._stack[-2:]
                del self._stack[-2:]
                self._stack[-1][key] = value
            case "SETITEMS":
                flat = self._pop_to_mark()
                self._stack[-1].update(zip(flat[::2], flat[1::2], strict=True))
            case "NEWOBJ":
                del self._stack[-2:]  # class and arguments
                self._stack.append(_Attributes())
            case "BUILD":
                state = self._stack.pop()
                if isinstance(state, dict) and isinstance(self._stack[-1], _Attributes):
                    self._stack[-1].update(state)
            case "BINPERSID":
                self._stack.append(_read_storage(self._stack.pop()))
            case "REDUCE":
                arguments = self._stack.pop()
                self._stack.append(_read_call(self._stack.pop(), arguments))
            case _:
                raise _Refused(f"the instruction {name}")

    def _pop_to_mark(self) -> list[Any]:
        start = len(self._stack) - 1 - self._stack[::-1].index(_MARK)
        values = self._stack[start + 1 :]
        del self._stack[start:]
        return values


def _read_storage(identity: Any) -> _Storage:
    """`("storage", class, record, device, elements)`; older writers append to it."""
    tag, kind, record, _device, elements, *_ = identity
    dtype = _STORAGES.get(getattr(kind, "path", ""))
    if tag != "storage" or dtype is None:
        raise _Refused(f"an unknown storage {identity!r}")
    return _Storage(dtype, str(record), int(elements))


def _read_call(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What a call stands for; nothing is called."""
    match getattr(function, "path", None), arguments:
        case "torch._utils._rebuild_tensor_v2", (_Storage() as storage, offset, shape, stride, *_):
            last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
            if math.prod(shape) and not 0 <= last < storage.elements:
                raise _Refused(f"a tensor {list(shape)} outside its storage")
            return _Reference(storage, offset, tuple(shape), tuple(stride))
        case "torch._utils._rebuild_parameter", (_Reference() as reference, *_):
            return reference
        case "collections.OrderedDict", ():
            return {}
        case str(path), (value, *_) if path.startswith("torch.jit._pickle."):
            return value  # a typed list
        case "torch.device", _:
            return None
        case path, _:
            raise _Refused(f"a call of {path}")
