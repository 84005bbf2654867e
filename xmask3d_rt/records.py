"""Records: frozen dataclasses whose types are checked where they are made or read.

What is wrong is said in one line that names the place, such as
`manifest.json: components.unet.parity: missing key 'tolerances'`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Annotated, Any, TypeVar, cast, dataclass_transform, get_args, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails, to_json

T = TypeVar("T")

_CHECKED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_SHOWN = 60  # characters of a value in a message
_LARGEST = 2**31 - 1


def _check_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"should be one line of printable text, got {show(text)}")
    return text


Line = Annotated[str, AfterValidator(_check_line)]  # appears in messages
Count = Annotated[int, Field(ge=1, le=_LARGEST)]
Index = Annotated[int, Field(ge=0, le=_LARGEST)]
FileSize = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(error: type[Exception] = ValueError) -> Callable[[type[T]], type[T]]:
    """Make a class a frozen dataclass that checks its types; `dataclasses.replace` works on it.

    `__post_init__` raises ValueError for what types cannot say.

    Args:
        error: what making an instance from wrong values raises, with one line.
    """

    def decorate(cls: type[T]) -> type[T]:
        made: Any = dataclass(cls, frozen=True, config=_CHECKED)
        check = made.__init__
        names = [field.name for field in dataclasses.fields(made)]

        @functools.wraps(check)
        def init(self: T, *args: Any, **kwargs: Any) -> None:
            try:
                if len(args) > len(names):
                    check(self, *args)
                named = dict(zip(names, args, strict=False))  # messages then have the names
                check(self, **named, **kwargs)
            except ValidationError as problem:
                raise error(f"{cls.__name__}: {describe_problem(problem, made)}") from problem

        made.__init__ = init
        return made

    return decorate


@functools.cache
def _adapt(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read_json(kind: type[T], text: str | bytes) -> T:
    """A record from JSON.

    Raises:
        ValueError: not JSON, or not what the record holds; one line with the place.
    """
    try:
        return _adapt(cast(Any, kind)).validate_json(text)
    except ValidationError as problem:
        raise ValueError(describe_problem(problem, kind)) from problem


def read_values(kind: type[T], values: Any) -> T:
    """A record from nested plain values; lists may stand for tuples.

    Raises:
        ValueError: not what the record holds.
    """
    return read_json(kind, to_json(values, inf_nan_mode="constants"))


def to_values(value: Any) -> dict[str, Any]:
    """A record as nested plain values, as JSON has them."""
    return _adapt(cast(Any, type(value))).dump_python(value, mode="json")


def describe_problem(problem: ValidationError, kind: type) -> str:
    """The first problem in one line: the place, then what is wrong there.

    Args:
        problem: of a record or of a pydantic model.
        kind: which of them.
    """
    first = problem.errors(include_url=False)[0]
    place, said = _describe(first, kind)
    dotted = ".".join(_show_part(part) for part in place)
    return f"{dotted}: {said}" if dotted else said


def _describe(first: ErrorDetails, kind: type) -> tuple[Sequence[int | str], str]:
    place, category = first["loc"], first["type"]
    if category == "value_error":
        return place, str(first["ctx"]["error"])
    if category == "json_invalid":
        return place, f"no JSON: {first['ctx']['error']}"
    if category.startswith("missing"):
        return place[:-1], f"missing key {_show_part(place[-1])!r}"
    if category in ("unexpected_keyword_argument", "extra_forbidden"):
        known = get_type_hints(_find_kind(kind, place[:-1]))
        return place[:-1], f"unknown key {show(place[-1])}; known keys: {', '.join(known)}"
    said = first["msg"].removeprefix("Input ")
    return place, f"{said[:1].lower()}{said[1:]}, got {show(first['input'])}"


def show(value: Any) -> str:
    """A value in a message: printable, and not longer than a few words."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _show_part(part: int | str) -> str:
    text = str(part)
    return text if text.isprintable() and len(text) <= _SHOWN else show(text)


def _find_kind(kind: Any, place: Sequence[int | str]) -> Any:
    """The type of what lies at a place inside a record."""
    for part in place:
        kind = _last_argument(kind) if get_args(kind) else get_type_hints(kind)[str(part)]
        if NoneType in get_args(kind):
            kind = _last_argument(kind)
    return kind


def _last_argument(kind: Any) -> Any:
    """X of `dict[str, X]`, `tuple[X, ...]` and `X | None`."""
    return [a for a in get_args(kind) if a not in (NoneType, Ellipsis)][-1]
