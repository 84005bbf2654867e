"""Arrays of any library and of NumPy's files, and the checks the public boundary shares."""

import io
import math
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xmask3d_rt.errors import one_line

NPY_HEADER = 1 << 17  # bytes; NumPy itself refuses headers of more than 10,000 characters
# An archive that unpacks to more than both is taken for a bomb: zeros shrink a thousandfold, but
# no array of a scene is zeros alone.
MAX_UNPACKED = 1 << 28  # bytes
MAX_RATIO = 200


def to_numpy(value: Any, where: str) -> np.ndarray:
    """`value` as a NumPy array on the host, without a copy where that is possible.

    Args:
        value: a NumPy array, nested lists, a torch tensor on any device, or any object with
            `__dlpack__` or `__cuda_array_interface__` (CuPy, PyCUDA, Numba, JAX ...).
        where: name of the call and the argument, which starts every message.

    Raises:
        TypeError: the elements are not numbers.
        ValueError: nested lists of unequal length; masked entries.
    """
    if isinstance(value, np.ma.MaskedArray):
        if masked := int(np.ma.getmaskarray(value).sum()):
            raise ValueError(
                f"{where} has {masked} masked entries; remove them, or fill them with values"
            )
        value = value.data
    if not isinstance(value, np.ndarray):
        value = _fetch(value, where)
    if value.dtype.kind not in "fiu":
        raise TypeError(
            f"{where} must hold real numbers, got dtype {value.dtype}; convert it to float32"
        )
    return value


def check_finite(values: np.ndarray, where: str) -> tuple[float, float]:
    """Smallest and largest of `values`, which may not be empty.

    Raises:
        ValueError: NaN or infinite entries; the message has their count and the first index.
    """
    low, high = float(values.min()), float(values.max())  # NaN wins both
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    bad = ~np.isfinite(values)
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    raise ValueError(
        f"{where} has {int(bad.sum())} NaN or infinite values, the first at index "
        f"{list(first)} ({values[first]}); remove those entries"
    )


class ArrayFile(dict[str, np.ndarray]):
    """The arrays of one file by name; a name that is not there is an error naming the file.

    Attributes:
        path: of the file.
        held: names of all arrays in the file, those that were not read too.

    Args:
        path: of the file.
        arrays: those that were read.
        held: all names, where others were not read.
    """

    def __init__(
        self, path: Path, arrays: Mapping[str, np.ndarray], held: Collection[str] = ()
    ) -> None:
        super().__init__(arrays)
        self.path = path
        self.held = tuple(held or arrays)

    def __missing__(self, name: str) -> np.ndarray:
        """Raise.

        Raises:
            ValueError: always.
        """
        held = one_line(", ".join(self.held) or "none")
        raise ValueError(f"{self.path} has no array {name!r}; it has {held}")


def read_array(path: Path) -> np.ndarray:
    """The array of an `.npy` file; nothing in it is ever unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an `.npy` file of a plain array, a damaged one, or one that claims more
            or fewer values than it holds.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        return _parse_npy(np.memmap(path, np.uint8, "r"))
    except Exception as error:  # NumPy parses headers with ast and tokenize, which add their own
        raise ValueError(f"{path} is not an .npy file of a plain array: {_say(error)}") from error


def read_arrays(path: Path, names: Collection[str] | None = None) -> ArrayFile:
    """Arrays of an `.npz` file; nothing in it is ever unpickled.

    Args:
        path: of the file.
        names: the arrays to read, of which some may be absent; None reads all.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an `.npz` file of plain arrays, a damaged one, or one that unpacks to
            very much more than its size.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                info.filename.removesuffix(".npy"): info
                for info in archive.infolist()
                if names is None or info.filename.removesuffix(".npy") in names
            }
            _check_unpacked(sum(info.file_size for info in members.values()), path)
            arrays = {name: _parse_npy(archive.read(info)) for name, info in members.items()}
            held = [name.removesuffix(".npy") for name in archive.namelist()]
    except Exception as error:  # zipfile, zlib, lzma and ast each raise their own
        raise ValueError(f"{path} is not an .npz file of plain arrays: {_say(error)}") from error
    return ArrayFile(path, arrays, held)


def _parse_npy(content: bytes | np.ndarray) -> np.ndarray:
    """The array in the bytes of an `.npy` file; what its header claims is checked first."""
    stream = io.BytesIO(bytes(content[:NPY_HEADER]))
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"its format version is {version[0]}.{version[1]}, not 1.0 or 2.0")
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, columns_first, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read; save numbers or strings")
    count, held = math.prod(shape), len(content) - stream.tell()
    if min(shape, default=1) < 0 or count * dtype.itemsize != held:
        raise ValueError(
            f"its header claims shape {list(shape)} of {dtype}, the file holds {held} bytes"
        )
    values = np.frombuffer(content, dtype, count, stream.tell())  # type: ignore[arg-type]
    return values.reshape(shape, order="F" if columns_first else "C").copy(order="K")


def _check_unpacked(size: int, path: Path) -> None:
    packed = path.stat().st_size
    if size > MAX_UNPACKED and size > MAX_RATIO * packed:
        raise ValueError(
            f"its {packed} bytes claim to unpack to {size}; save it without compression"
        )


def _say(error: Exception) -> str:
    return one_line(error) or type(error).__name__


def _fetch(value: Any, where: str) -> np.ndarray:
    """Host copy of an array of another library, or an array of nested lists."""
    if hasattr(value, "__cuda_array_interface__") or hasattr(value, "__dlpack__"):
        import torch

        if not isinstance(value, torch.Tensor):
            value = _as_tensor(value)
        value = value.detach().cpu()
        if value.dtype == torch.bfloat16:
            value = value.float()
        return value.numpy()
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{where} is not a rectangular array: {error}") from error


def _as_tensor(value: Any) -> Any:
    """A torch tensor sharing memory with an array that speaks one of the two protocols."""
    import torch

    if hasattr(value, "__dlpack__"):
        return torch.from_dlpack(value)
    return torch.as_tensor(value, device="cuda")
