"""Registration and dispatch shared by the operators.

Every operator is a torch.library operator in the namespace `xmask3d`: one schema, one
implementation for CPU tensors, one for CUDA tensors, one for fake tensors (shapes only), so
that torch.export and torch.compile see through it. The low-level `Library` interface is used
rather than `custom_op`, whose Python wrapper costs several times more per call.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NAMESPACE = "xmask3d"
_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")


def define_op(
    schema: str,
    reference: Callable[..., Any],
    triton: Callable[..., Any],
    fake: Callable[..., Any],
) -> Any:
    """Register one operator and return its callable.

    Args:
        schema: name and signature, e.g. `"vote(Tensor votes, Tensor labels) -> Tensor"`.
        reference: torch implementation, run for CPU tensors.
        triton: implementation that launches Triton kernels, run for CUDA tensors, and for
            CPU tensors when TRITON_INTERPRET=1 (Triton's interpreter).
        fake: returns empty tensors of the right shape and dtype.

    Returns:
        `torch.ops.xmask3d.<name>.default`.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)
    _LIBRARY.impl(name, triton if interprets_triton() else reference, "CPU")
    _LIBRARY.impl(name, triton, "CUDA")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def define_backward(
    name: str, backward: Callable[..., Any], setup_context: Callable[..., None]
) -> None:
    """Register the gradient of the operator `name`, as in torch.library.register_autograd."""
    torch.library.register_autograd(
        f"{NAMESPACE}::{name}", backward, setup_context=setup_context, lib=_LIBRARY
    )


def interprets_triton() -> bool:
    """Whether this process runs Triton kernels in the interpreter (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def runs_triton(tensor: Tensor) -> bool:
    """Whether operators on `tensor` launch Triton kernels: CUDA tensors, or the interpreter."""
    return tensor.is_cuda or interprets_triton()


def block_size(size: int, interpreted: int = 4096) -> int:
    """Elements per program: `size` on a GPU; large in the interpreter, which pays per program."""
    return interpreted if interprets_triton() else size
