"""How commands end: the package's exceptions become one line on stderr and an exit code."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from xmask3d_rt.errors import CheckpointError, EngineError, ExportMismatch, TrainingError

EXIT_MISMATCH, EXIT_INPUT, EXIT_INTERRUPT = 1, 2, 130
INPUT_ERRORS = (ValueError, TypeError, OSError, EngineError, CheckpointError, TrainingError)

logger = logging.getLogger("xmask3d_rt")


@contextmanager
def one_line_errors(interrupted: str = "interrupted") -> Iterator[None]:
    """Print what goes wrong inside in one line; its traceback is logged for debugging.

    Args:
        interrupted: what to say after Ctrl-C.

    Raises:
        typer.Exit: 1 for an export that fails verification, 2 for wrong input or a missing
            piece, 130 after Ctrl-C.
    """
    err = Console(stderr=True)
    try:
        yield
    except KeyboardInterrupt:
        err.print(interrupted)
        raise typer.Exit(EXIT_INTERRUPT) from None
    except (*INPUT_ERRORS, ExportMismatch) as error:
        logger.debug("traceback", exc_info=True)
        err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        code = EXIT_MISMATCH if isinstance(error, ExportMismatch) else EXIT_INPUT
        raise typer.Exit(code) from None
