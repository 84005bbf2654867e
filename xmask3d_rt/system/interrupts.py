"""Ctrl-C while a script is still importing: one word in place of a traceback.

A script calls `end_on_interrupt` before the imports that take seconds, and `raise_on_interrupt`
when its command is ready to clean up after `KeyboardInterrupt`. In between there is nothing to
clean up, and an exception in the middle of an import may come out as any other error.
"""

import os
import signal
from types import FrameType
from typing import NoReturn

EXIT_STATUS = 130  # as shells report Ctrl-C


def end_on_interrupt() -> None:
    """Let Ctrl-C end this process at once, unless it is ignored or handled already."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_on_interrupt() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again, where `end_on_interrupt` has changed that."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    os.write(2, b"interrupted\n")
    os._exit(EXIT_STATUS)
