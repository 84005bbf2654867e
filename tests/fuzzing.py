"""Broken variants of good files for tests of parsers, and what a parser may answer to them.

A parser gives a right result or one of the package's errors, in one line that names the file.
`XMASK3D_FUZZ_EXAMPLES` says how many variants each test tries: 200 in CI, 20,000 in `make fuzz`.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from xmask3d_rt.cli.errors import INPUT_ERRORS

EXAMPLES = int(os.environ.get("XMASK3D_FUZZ_EXAMPLES", "200"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=10_000,  # ms; no input may keep a parser busy
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TOKENS = (
    *(b"", b"0", b"-1", b"1e300", b"nan", b"inf", b"999999999", b"99999999999999999999", b"1.5"),
    *(b"\x00", b"\n", b"\r\n", b" ", b",", b"\xff", b"\xef\xbb\xbf", b"\xc3", b"#", b'"', b"'"),
    *(b"null", b"true", b"{}", b"[]", b"<", b">", b"\x1b[31m", b"\xed\xa0\x80"),
)


@st.composite
def mutate(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of the good files with one to four edits: bytes, ranges, numbers or its end."""
    content = bytearray(draw(st.sampled_from(list(seeds))))
    for _ in range(draw(st.integers(1, 4))):
        size = len(content)
        start = draw(st.integers(0, max(size - 1, 0)))
        end = min(size, start + draw(st.sampled_from([1, 1, 2, 4, 8, 64, 1024])))
        edit = draw(st.sampled_from(["byte", "cut", "repeat", "token", "number", "end"]))
        if edit == "byte" and size:
            content[start] = draw(st.integers(0, 255))
        elif edit == "cut":
            del content[start:end]
        elif edit == "repeat":
            content[start:start] = content[start:end]
        elif edit == "token":
            content[start:end] = draw(st.sampled_from(TOKENS))
        elif edit == "number":
            _replace_number(content, start, draw(st.sampled_from(TOKENS)))
        elif edit == "end":
            del content[start:]
    return bytes(content)


def _replace_number(content: bytearray, start: int, token: bytes) -> None:
    """Put `token` in the place of the first run of digits at or behind `start`."""
    digits = b"0123456789"
    first = next((i for i in range(start, len(content)) if content[i] in digits), None)
    if first is None:
        return
    last = first
    while last < len(content) and content[last] in digits:
        last += 1
    content[first:last] = token


def assert_handled(parse: Callable[[], object], path: Path | None = None) -> object | None:
    """Call a parser that may fail with one of the package's errors alone, in one line.

    Args:
        parse: the call.
        path: the file it reads, which a message must name.

    Returns:
        what the call returned; None where it raised an error that is allowed.
    """
    try:
        return parse()
    except INPUT_ERRORS as error:
        assert_clear(error, path)
        return None


def assert_clear(error: BaseException, path: Path | None = None) -> None:
    """An error's message is one line of printable text and names the file."""
    message = str(error)
    assert message, f"{type(error).__name__} without a message"
    assert "\n" not in message, f"several lines: {message!r}"
    assert all(char.isprintable() for char in message), f"unprintable: {message!r}"
    assert len(message) < 1000, f"{len(message)} characters: {message[:200]!r} …"
    if path is not None:
        assert path.name in message, f"does not name {path.name}: {message!r}"
