"""How commands end: the package's exceptions become one line on stderr and an exit code."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from xmask3d_rt.errors import (
    CheckpointError,
    EngineError,
    ExportMismatch,
    TrainingError,
    one_line,
)

EXIT_MISMATCH, EXIT_INPUT, EXIT_INTERRUPT = 1, 2, 130
MESSAGE_LIMIT = 2000  # characters; lists of missing tensors are long
# Click's, which newer versions of typer carry inside under another name.
USAGE_ERRORS: tuple[type[Exception], ...] = (typer.BadParameter.__mro__[1],)
INPUT_ERRORS = (
    *(ValueError, TypeError, OSError, EngineError, CheckpointError, TrainingError, MemoryError),
)
# What torch says of the memory of a CPU or GPU, by a RuntimeError.
NO_MEMORY = re.compile(
    r"(can't|cannot|unable to|not enough|failed to) allocate|out of memory", re.I
)

logger = logging.getLogger("xmask3d_rt")


@contextmanager
def one_line_errors(interrupted: str = "interrupted") -> Iterator[None]:
    """Print what goes wrong inside in one line; its traceback is logged for debugging.

    Args:
        interrupted: what to say after Ctrl-C.

    Raises:
        typer.Exit: 1 for an export that fails verification, 2 for wrong input, wrong options or
            a missing piece, 130 after Ctrl-C.
    """
    err = Console(stderr=True)
    try:
        yield
    except KeyboardInterrupt:
        err.print(interrupted)
        raise typer.Exit(EXIT_INTERRUPT) from None
    except USAGE_ERRORS as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
            raise
        _print_error(err, _describe_usage(error))
        raise typer.Exit(EXIT_INPUT) from None
    except (*INPUT_ERRORS, RuntimeError) as error:
        expected = isinstance(error, (*INPUT_ERRORS, ExportMismatch))
        if not expected and NO_MEMORY.search(str(error)) is None:
            raise
        logger.debug("traceback", exc_info=True)
        _print_error(err, error)
        code = EXIT_MISMATCH if isinstance(error, ExportMismatch) else EXIT_INPUT
        raise typer.Exit(code) from None


def _print_error(err: Console, error: object) -> None:
    """One line, whatever names and files contributed to the message."""
    said = one_line(_describe(error), MESSAGE_LIMIT)
    err.print(f"error: {said}", style="red", markup=False, highlight=False, soft_wrap=True)


def _describe(error: object) -> object:
    """What an error says; what the system alone said of a file, without its number."""
    if isinstance(error, MemoryError) and not str(error):
        return "out of memory; ask for less at a time"
    if not isinstance(error, OSError) or not str(error).startswith("[Errno"):
        return error
    name = "" if error.filename is None else f"{error.filename}: "
    return f"{name}{error.strerror}; check the path and the disk"


def _describe_usage(error: Any) -> str:
    """What is wrong with the options, and where to read about them."""
    said = error.format_message().rstrip(".")
    return said if error.ctx is None else f"{said}; see {error.ctx.command_path} --help"
