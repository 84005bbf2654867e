"""The package's own exceptions.

Bad data of the caller raises ValueError, a wrong dtype TypeError; these are for what
goes wrong with files and backends. Every message names the value, what was expected and the fix.
"""


class EngineError(RuntimeError):
    """An engine cannot be built, loaded or run: missing, corrupt, wrong version, no backend."""


class StaleEngineError(EngineError):
    """An engine was built for another library version, device or precision; a rebuild helps."""


class CheckpointError(RuntimeError):
    """A weight file is unreadable, of the wrong kind, incomplete or mis-shaped."""


class ExportMismatch(RuntimeError):
    """An exported component disagrees with the PyTorch module it came from."""


class TrainingError(RuntimeError):
    """Training cannot go on: a loss is not finite."""
