"""Damaged files fail in a library in any way it likes; here that becomes one kind of error."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xmask3d_rt.errors import CheckpointError, one_line


class Refused(ValueError):
    """What a file holds and no weight file has a need of.

    Args:
        problem: what it is, to follow "a file with".
        fix: what to do.
    """

    def __init__(self, problem: str, fix: str = "get the file from its source again") -> None:
        super().__init__(problem)
        self.fix = fix


@contextmanager
def refuse_damage(path: Path, container: str) -> Iterator[None]:
    """Turn whatever reading a file raises into one line that names the file.

    Args:
        path: the file.
        container: what it was taken for.

    Raises:
        CheckpointError: anything was raised inside.
    """
    try:
        yield
    except (CheckpointError, MemoryError):
        raise
    except Refused as error:
        raise CheckpointError(f"{path}: {container} with {one_line(error)}; {error.fix}") from error
    except Exception as error:
        reason = one_line(error) or type(error).__name__
        raise CheckpointError(
            f"{path}: truncated or damaged {container} ({reason}); download it again"
        ) from error
