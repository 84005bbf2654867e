"""What a command is doing, on stderr: a spinner and a bar on a terminal, else a line per step.

Imports nothing heavy: the first step is to be seen before torch is loaded.
"""

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

LINE_AFTER = 0.3  # seconds after which a step gets a line, where there is no terminal
LINE_EVERY = 5.0  # seconds between further lines about the same step


class Steps:
    """Names what is going on, one step after the other; a context manager.

    Args:
        console: where to; on a terminal one line is drawn anew and removed at the end, elsewhere
            each step that takes some time leaves a line.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.perf_counter()
        self._timer: threading.Timer | None = None
        self._step = 0
        self._bar: Progress | None = None
        self._counted = 0.0  # when a line last said how many views are done

    @property
    def seconds(self) -> float:
        """Since the first step."""
        return time.perf_counter() - self._begun

    def __enter__(self) -> "Steps":
        if self._console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._silence()
        if self._bar is not None:
            self._bar.stop()

    def start(self, text: str) -> None:
        """Begin a step."""
        self._silence()
        self._counted = self.seconds
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._bar.add_task(text, total=None)
            return
        self._print_after(LINE_AFTER, text, self.seconds)

    def count(self, text: str, done: int, total: int) -> None:
        """Say how much of a step is done: "views 3/12"."""
        said = f"{text} {done}/{total}"
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.update(task, description=said, completed=done, total=total)
        elif self.seconds - self._counted >= LINE_EVERY:
            self._silence()
            self._counted = self.seconds
            self._print(said)

    def _print_after(self, wait: float, text: str, begun: float, again: bool = False) -> None:
        """Print a line in some seconds, and again and again while the step lasts."""
        step = self._step

        def tell() -> None:
            if step != self._step:  # it ended while this was about to begin
                return
            self._print(f"{text} ({self.seconds - begun:.0f} s)" if again else text)
            self._print_after(LINE_EVERY, text, begun, again=True)

        self._timer = threading.Timer(wait, tell)
        self._timer.daemon = True
        self._timer.start()

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _silence(self) -> None:
        """End a step: no line about it from now on."""
        self._step += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
