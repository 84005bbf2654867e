"""The package's own exceptions.

Bad data of the caller raises ValueError, a wrong dtype TypeError; these are for what
goes wrong with files and backends. Every message names the value, what was expected and the fix.
"""


def one_line(text: object, limit: int = 300) -> str:
    """Foreign text as part of a message: one line, printable, of at most `limit` characters."""
    words = " ".join(str(text).split())
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in words)
    return shown if len(shown) <= limit else shown[: limit - 2] + " …"


class EngineError(RuntimeError):
    """An engine cannot be built, loaded or run: missing, corrupt, wrong version, no backend."""


class StaleEngineError(EngineError):
    """An engine was built for another library version, device or precision; a rebuild helps."""


class CheckpointError(RuntimeError):
    """A weight file is unreadable, of the wrong kind, incomplete or mis-shaped."""


class ExportMismatch(RuntimeError):
    """An exported component disagrees with the PyTorch module it came from."""
