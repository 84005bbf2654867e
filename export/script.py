"""What the scripts of this folder share: errors become one line and an exit code."""

from typing import Any

from typer.core import TyperCommand

from xmask3d_rt.cli.errors import one_line_errors
from xmask3d_rt.system.interrupts import raise_on_interrupt


class Script(TyperCommand):
    """A command that prints one line in place of a traceback; exit codes as of `xmask3d`."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        raise_on_interrupt()
        with one_line_errors():
            return super().invoke(ctx)
