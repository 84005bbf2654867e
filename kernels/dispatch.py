"""Registration and dispatch shared by the operators.

Every operator is a torch.library operator in the namespace `xmask3d`: one schema, one
implementation for CPU tensors, one for CUDA tensors, one for fake tensors (shapes only), so
that torch.export and torch.compile see through it. The schema is inferred from the signature of
the operator's reference, where a NamedTuple of tensors (`tables: LabelTables`) becomes an
argument for each of its fields (`tables_text`, `tables_is_base`, ...): torch.library knows no
structures. The low-level `Library` interface is used rather than `custom_op`, whose Python
wrapper costs several times more per call.
"""

import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from types import UnionType
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, Union, get_args, get_origin

import torch
from torch import Tensor

NAMESPACE = "xmask3d"
_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")

P = ParamSpec("P")
R = TypeVar("R")


class Argument(NamedTuple):
    """One argument of an operator, and what it is to torch.library."""

    name: str
    structure: type[Any] | None  # the NamedTuple, where it is one
    optional: bool
    flat: dict[str, Any]  # annotation of each argument that torch.library sees, by name


class Operator(Generic[P, R]):
    """An operator, registered, to be called like its reference: with structures whole.

    The launcher of its kernels, of the same signature, is `launch_<name>` in the module `launch`
    beside the reference. It is run for CUDA tensors, and for CPU tensors when TRITON_INTERPRET=1
    (Triton's interpreter).

    Args:
        name: in the namespace.
        reference: torch implementation, run for CPU tensors; its signature is the operator's.
        fake: returns empty tensors of the right shape and dtype; called by keyword, so it names
            the arguments it needs and takes the rest as `**_`.
        mutates: arguments that are changed in place.
    """

    def __init__(
        self,
        name: str,
        reference: Callable[P, R],
        fake: Callable[..., R],
        mutates: Collection[str] = (),
    ) -> None:
        self.name = name
        self.reference = reference
        self.signature = inspect.signature(reference)
        parameters = self.signature.parameters.values()
        self.arguments = [_read_argument(one.name, one.annotation) for one in parameters]
        self._flat = all(argument.structure is None for argument in self.arguments)
        returned = self.signature.return_annotation
        self._result = returned if _is_structure(returned) else None
        self._overload = self._register(fake, mutates)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it on the device of its tensors."""
        values = self.signature.bind(*args, **kwargs).args if kwargs else args
        found = self._overload(*(values if self._flat else self._flatten(values)))
        return found if self._result is None else self._result(*found)

    @cached_property
    def launcher(self) -> Callable[P, R]:
        """Of the operator's kernels; imports Triton."""
        package = self.reference.__module__.rpartition(".")[0]
        found: Callable[P, R] = getattr(import_module(f"{package}.launch"), f"launch_{self.name}")
        return found

    def define_backward(
        self,
        backward: Callable[[Any, Tensor], Mapping[str, Tensor | None]],
        save: Callable[..., None],
    ) -> None:
        """Register the gradient, as in torch.library.register_autograd, by name.

        Args:
            backward: of the context and the gradient of the result; gradients by argument.
            save: `save(ctx, output, **arguments)`, keeps in the context what `backward` needs.
        """
        names = [name for one in self.arguments for name in one.flat]

        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            save(ctx, output, **self._group(inputs))

        def run(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            found = backward(ctx, grad)
            return tuple(found.get(name) for name in names)

        torch.library.register_autograd(
            f"{NAMESPACE}::{self.name}", run, setup_context=setup_context, lib=_LIBRARY
        )

    def _register(self, fake: Callable[..., R], mutates: Collection[str]) -> Any:
        """Tell torch.library about it; returns `torch.ops.xmask3d.<name>.default`."""

        def run_reference(*flat: Any) -> R:
            return self._call(self.reference, flat)

        def run_triton(*flat: Any) -> R:
            return self._call(self.launcher, flat)

        def run_fake(*flat: Any) -> R:
            return fake(**self._group(flat))

        _LIBRARY.define(self.name + self._infer_schema(mutates))
        _LIBRARY.impl(self.name, run_triton if interprets_triton() else run_reference, "CPU")
        _LIBRARY.impl(self.name, run_triton, "CUDA")
        torch.library.register_fake(f"{NAMESPACE}::{self.name}", run_fake, lib=_LIBRARY)
        return getattr(getattr(torch.ops, NAMESPACE), self.name).default

    def _call(self, function: Callable[..., R], flat: Sequence[Any]) -> R:
        """A function of the operator's signature with the arguments of torch.library."""
        return function(*flat) if self._flat else function(**self._group(flat))

    def _infer_schema(self, mutates: Collection[str]) -> str:
        """Arguments and results in torch.library's words."""
        changed = [name for one in self.arguments if one.name in mutates for name in one.flat]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [
            inspect.Parameter(name, kind, annotation=annotation)
            for one in self.arguments
            for name, annotation in one.flat.items()
        ]
        result = self.signature.return_annotation
        if self._result is not None:
            result = tuple[tuple(inspect.get_annotations(self._result).values())]  # type: ignore[misc]

        def prototype() -> None:
            """Carries the signature."""

        vars(prototype)["__signature__"] = inspect.Signature(parameters, return_annotation=result)
        return torch.library.infer_schema(prototype, mutates_args=changed)

    def _flatten(self, values: Sequence[Any]) -> list[Any]:
        """The arguments as torch.library takes them."""
        flat: list[Any] = []
        for argument, value in zip(self.arguments, values, strict=True):
            if argument.structure is None:
                flat.append(value)
            else:
                flat.extend([None] * len(argument.flat) if value is None else value)
        return flat

    def _group(self, flat: Sequence[Any]) -> dict[str, Any]:
        """The reference's arguments by name, from those that torch.library was given."""
        named: dict[str, Any] = {}
        start = 0
        for argument in self.arguments:
            part = flat[start : start + len(argument.flat)]
            start += len(argument.flat)
            if argument.structure is None:
                named[argument.name] = part[0]
            elif argument.optional and all(value is None for value in part):
                named[argument.name] = None
            else:
                named[argument.name] = argument.structure(*part)
        return named


def _read_argument(name: str, annotation: Any) -> Argument:
    """What an annotation of a reference is to torch.library."""
    union = get_origin(annotation) in (Union, UnionType)
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)] if union else []
    kind = kinds[0] if len(kinds) == 1 else annotation
    if not _is_structure(kind):
        return Argument(name, None, bool(kinds), {name: annotation})
    fields = inspect.get_annotations(kind).items()
    flat = {f"{name}_{field}": part | None if kinds else part for field, part in fields}
    return Argument(name, kind, bool(kinds), flat)


def _is_structure(annotation: Any) -> bool:
    """Whether it is a NamedTuple."""
    return isinstance(annotation, type) and hasattr(annotation, "_fields")


def interprets_triton() -> bool:
    """Whether this process runs Triton kernels in the interpreter (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def runs_triton(tensor: Tensor) -> bool:
    """Whether operators on `tensor` launch Triton kernels: CUDA tensors, or the interpreter."""
    return tensor.is_cuda or interprets_triton()


def block_size(size: int, interpreted: int = 4096) -> int:
    """Elements per program: `size` on a GPU; large in the interpreter, which pays per program."""
    return interpreted if interprets_triton() else size
