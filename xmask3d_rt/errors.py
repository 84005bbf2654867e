"""The package's own exceptions.

Bad data of the caller raises ValueError, a wrong dtype TypeError; these are for what
goes wrong with files and backends. Every message names the value, what was expected and the fix.
"""

from collections.abc import Iterable


def one_line(text: object, limit: int = 500) -> str:
    """What another library or a file says, fit for a message.

    Line ends and tabs become spaces, and other characters that a terminal would act on are
    escaped; blanks stay as they are, for a path may have two.

    Args:
        text: an exception, a name from a file ...
        limit: most characters; the rest becomes "…".
    """
    said = " ".join(line.strip() for line in str(text).expandtabs(1).splitlines())
    if not said.isprintable():
        said = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said)
    return said if len(said) <= limit else f"{said[: limit - 1]}…"


def join_names(names: Iterable[object], shown: int = 5) -> str:
    """A few names for a message: "0, 3, 7 and 12 more"."""
    listed = [one_line(name) for name in names]
    rest = len(listed) - shown
    return ", ".join(listed[:shown]) + (f" and {rest} more" if rest > 0 else "")


def first_line(error: BaseException) -> str:
    """The first line of what an exception says; its type where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class EngineError(RuntimeError):
    """An engine cannot be built, loaded or run: missing, corrupt, wrong version, no backend."""


class StaleEngineError(EngineError):
    """An engine was built for another library version, device or precision; a rebuild helps."""


class CheckpointError(RuntimeError):
    """A weight file is unreadable, of the wrong kind, incomplete or mis-shaped.

    Its message is one printable line, whatever the file and its tensors are called.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message, len(message) * 10))


class ExportMismatch(RuntimeError):
    """An exported component disagrees with the PyTorch module it came from."""


class TrainingError(RuntimeError):
    """Training cannot go on: a loss is not finite."""
