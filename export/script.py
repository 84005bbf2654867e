"""What the scripts of this folder share: errors become one line and an exit code."""

import logging
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from xmask3d_rt.errors import CheckpointError, EngineError, ExportMismatch

EXIT_MISMATCH, EXIT_INPUT, EXIT_INTERRUPT = 1, 2, 130
INPUT_ERRORS = (ValueError, TypeError, OSError, EngineError, CheckpointError)

logger = logging.getLogger("xmask3d_rt")


class Script(TyperCommand):
    """A command that prints one line in place of a traceback; exit codes as of `xmask3d`."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        err = Console(stderr=True)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print("interrupted")
            raise typer.Exit(EXIT_INTERRUPT) from None
        except (*INPUT_ERRORS, ExportMismatch) as error:
            logger.debug("traceback", exc_info=True)
            err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            code = EXIT_MISMATCH if isinstance(error, ExportMismatch) else EXIT_INPUT
            raise typer.Exit(code) from None
