"""The pickles inside torch's files, with nothing of them executed.

Every file of `torch.save` and `torch.jit.save` says by a pickle which raw record is which tensor.
`pickle` could be made to call anything. It is not needed: such a pickle is a list of a few dozen
plain instructions, and this module follows the ones that build data, treating every class and
function in it as a mere name. A name, an instruction or a call outside the known ones is refused.

Source: the pickle instruction set (`pickletools`); torch's serialization format notes
(https://docs.pytorch.org/docs/stable/notes/serialization.html).
"""

import math
import pickletools
import re
from dataclasses import dataclass
from typing import IO, Any

import torch

from xmask3d_rt.model.checkpoints.damage import Refused

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
MAX_ELEMENTS = 2**62

# Names in files of `torch.save`: tensors and plain values, and what was seen in real checkpoints
# beside them: Lightning's callback state (Stable Diffusion), scores as NumPy scalars
# (`best_iou`), parsed arguments.
PLAIN_NAMES = re.compile(
    r"torch\._utils\._rebuild_(tensor|tensor_v2|parameter|parameter_with_state)"
    r"|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\.(Tensor|Size|device|nn\.parameter\.\w+)"
    r"|torch\.(cuda\.)?\w+Storage"
    r"|torch\.(bool|(u?int|b?float|complex)\d+)"
    r"|collections\.(OrderedDict|Counter)"
    r"|(builtins|__builtin__)\.(set|bytearray|complex)"
    r"|(pytorch_)?lightning\..*"
    r"|numpy\.(_?core\.multiarray\.scalar|dtype|dtypes\.\w+)"
    r"|_codecs\.encode"
    r"|argparse\.Namespace"
)
# TorchScript has a class of its own for every module.
SCRIPT_NAMES = re.compile(rf"__torch__\..*|torch\.jit\._pickle\.\w+|{PLAIN_NAMES.pattern}")


@dataclass(frozen=True)
class Name:
    """A class or function the pickle mentions; never looked up."""

    path: str


@dataclass(frozen=True)
class Storage:
    """One raw record of the file."""

    dtype: torch.dtype
    record: str
    elements: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True)
class Reference:
    """A tensor: a strided window of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Attributes(dict[str, Any]):
    """The attributes of an object, such as one submodule."""


class Bookkeeping:
    """Stands for any other object; holds nothing."""


def read_pickle(
    stream: IO[bytes], names: re.Pattern[str], storages: dict[str, Storage] | None = None
) -> Any:
    """The object that the instructions from here to the next STOP describe.

    Args:
        stream: positioned at the pickle; left behind it.
        names: classes and functions that may be mentioned.
        storages: gets every storage that is mentioned, by record.

    Raises:
        Refused: names, instructions or calls that no weight file has a need of.
        Exception: any other, of a damaged pickle.
    """
    return _Reader(names, {} if storages is None else storages).run(stream)


class _Reader:
    """A stack machine over pickle instructions that can only build data."""

    def __init__(self, names: re.Pattern[str], storages: dict[str, Storage]) -> None:
        self._names = names
        self._storages = storages
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # stacks below each mark
        self._memo: dict[int, Any] = {}

    def run(self, stream: IO[bytes]) -> Any:
        """See `read_pickle`."""
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise Refused("an unfinished pickle")

    def _step(self, name: str, argument: Any) -> None:
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self._outer.append(self._stack)
                self._stack = []
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self._stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "LONG4" | "BINFLOAT":
                self._stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING":
                self._stack.append(argument)
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                self._stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[name])
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case "GLOBAL":
                self._stack.append(self._check_name(argument.replace(" ", ".")))
            case _:
                self._combine(name)

    def _combine(self, name: str) -> None:
        """Instructions that take values off the stack."""
        match name:
            case "TUPLE":
                values = self._pop_to_mark()
                self._stack.append(tuple(values))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                values = [self._stack.pop() for _ in range(count)]
                self._stack.append(tuple(reversed(values)))
            case "APPEND":
                _extend(self._stack, [self._stack.pop()])
            case "APPENDS":
                values = self._pop_to_mark()
                _extend(self._stack, values)
            case "SETITEM":
                value, key = self._stack.pop(), self._stack.pop()
                _update(self._stack, [key, value])
            case "SETITEMS":
                values = self._pop_to_mark()
                _update(self._stack, values)
            case "NEWOBJ":
                del self._stack[-2:]  # class and arguments
                self._stack.append(Attributes())
            case "BUILD":
                state = self._stack.pop()
                if isinstance(state, dict) and isinstance(self._stack[-1], Attributes):
                    self._stack[-1].update(state)
            case "BINPERSID":
                storage = _read_storage(self._stack.pop())
                if self._storages.setdefault(storage.record, storage).size != storage.size:
                    raise Refused(f"two sizes of the record {storage.record}")
                self._stack.append(storage)
            case "REDUCE":
                arguments = self._stack.pop()
                self._stack.append(_read_call(self._stack.pop(), arguments))
            case _:
                raise Refused(f"the instruction {name}")

    def _check_name(self, path: str) -> Name:
        if not self._names.fullmatch(path):
            raise Refused(
                f"Python objects ({path}), which could run code",
                "only files of plain tensors are read, save its state_dict",
            )
        return Name(path)

    def _pop_to_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._outer.pop()
        return values


def _extend(stack: list[Any], values: list[Any]) -> None:
    """Append to the list on top of the stack; the content of other objects is not kept."""
    if isinstance(stack[-1], list):
        stack[-1].extend(values)


def _update(stack: list[Any], flat: list[Any]) -> None:
    """Set items of the dict on top of the stack, those with plain keys.

    Nested tuples as keys would be hashed, which takes for ever where they share their parts.
    """
    if isinstance(stack[-1], dict):
        pairs = zip(flat[::2], flat[1::2], strict=True)
        stack[-1].update((k, v) for k, v in pairs if isinstance(k, str | int | Name))


def _read_storage(identity: Any) -> Storage:
    """`("storage", class, record, device, elements)`; older writers append a view of it."""
    tag, kind, record, _device, elements, *view = identity
    path = getattr(kind, "path", "").replace("torch.cuda.", "torch.")
    dtype = _STORAGES.get(path)
    if tag != "storage" or dtype is None or any(part is not None for part in view):
        raise Refused(f"an unknown storage {path}")
    if not isinstance(record, str) or not isinstance(elements, int):
        raise Refused("a storage without name or size")
    if not 0 <= elements < MAX_ELEMENTS:
        raise Refused(f"a storage of {elements} values")
    return Storage(dtype, record, elements)


def _read_call(function: Any, arguments: Any) -> Any:
    """What a call stands for; nothing is called."""
    match getattr(function, "path", None), arguments:
        case (
            "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor",
            (Storage() as storage, offset, shape, stride, *_),
        ):
            return _read_window(storage, offset, shape, stride)
        case (
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
            (Reference() as reference, *_),
        ):
            return reference
        case "torch._tensor._rebuild_from_type_v2", (inner, _kind, inner_arguments, *_):
            return _read_call(inner, inner_arguments)
        case "collections.OrderedDict", ():
            return {}
        case "torch.Size", (tuple() as shape,):
            return shape
        case str(path), (value, *_) if path.startswith("torch.jit._pickle."):
            return value  # a typed list
        case str(path), _ if not path.startswith(("torch._", "__torch__")):
            return Bookkeeping()
        case path, _:
            raise Refused(f"a call of {path}")


def _read_window(storage: Storage, offset: Any, shape: Any, stride: Any) -> Reference:
    numbers = (offset, *shape, *stride)
    if not all(isinstance(n, int) and 0 <= n < MAX_ELEMENTS for n in numbers):
        raise Refused("a tensor whose shape is not made of numbers")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if math.prod(shape) and last >= storage.elements:
        raise Refused(f"a tensor {list(shape)} outside its storage")
    return Reference(storage, offset, tuple(shape), tuple(stride))
