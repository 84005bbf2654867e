"""Finds what would wait for a GPU, on a machine that has none."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Reads of values, results whose shape depends on values, constants uploaded from the host.
WAITING = {
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::bincount",
    "aten::equal",
    "aten::is_nonzero",
    "aten::item",
    "aten::lift_fresh",
    "aten::masked_select",
    "aten::nonzero",
    "aten::repeat_interleave",
    "aten::unique_consecutive",
    "aten::unique_dim",
}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
CPU_KERNELS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)


class WaitError(Exception):
    """An operation that waits for the device was called."""


@contextmanager
def no_wait(enter: bool = True) -> Iterator[None]:
    """Raises `WaitError` at every operation in the block that would wait for a GPU.

    Args:
        enter: the project's own operators count with what they call; False takes them as they
            are, where it is their CPU form that would wait.
    """
    with patch.object(Tensor, "tolist", refuse_tolist), NoWait(enter):
        yield


def refuse_tolist(tensor: Tensor) -> list:
    raise WaitError("tolist")  # of a CPU tensor: no operator is called


class NoWait(TorchDispatchMode):
    """See `no_wait`."""

    def __init__(self, enter: bool) -> None:
        super().__init__()
        self.enter = enter

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name
        if name in WAITING:
            raise WaitError(name)
        if name in INDEXING and any(holds_bool(index) for index in args[1]):
            raise WaitError(f"{name} with a mask")
        device = kwargs.get("device")
        if name == "aten::_to_copy" and device is not None and device != args[0].device:
            raise WaitError(f"{name} to {device}")
        if func.namespace == "xmask3d" and self.enter:
            with self:
                return func.redispatch(CPU_KERNELS, *args, **kwargs)
        return func(*args, **kwargs)


def holds_bool(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)
