# SPDX-License-Identifier: BSD-3-Clause
"""Progress of a long job: a bar on a terminal, plain lines elsewhere, and a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

#: Seconds between two plain lines.
PACE = 5.0


class Progress:
    """Shows the steps of one job on a stream; use it as a context manager.

    log: if not None, is called with a line per step (the run's log).
    """

    def __init__(
        self,
        title: str,
        total: int,
        *,
        stream: TextIO | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.title, self.total, self.done = title, total, 0
        self.stream = stream or sys.stderr
        self._log = log
        self._bar: Any = None
        self._task: Any = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        if self.total and self.stream.isatty():
            self._open_bar()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self.total and kind is None:
            self._line(f"{self.title}: {self.done} of {self.total} done")

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}"),
            console=Console(file=self.stream),
            transient=True,
        )
        self._task = self._bar.add_task(self.title, total=self.total, words="")
        self._bar.start()

    def step(self, words: str = "") -> None:
        """Count one step as done; `words` name it."""
        self.done += 1
        if self._log is not None and words:
            self._log(f"{self.title}: {self.done}/{self.total} {words}")
        if self._bar is not None:
            self._bar.update(self._task, advance=1, words=words)
        elif time.monotonic() - self._last_line >= PACE:
            self._line(f"{self.title}: {self.done} of {self.total} {words}".rstrip())

    def say(self, line: str) -> None:
        """Print one line, above the bar where there is one, and log it."""
        if self._log is not None:
            self._log(line)
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            self._line(line)

    def _line(self, line: str) -> None:
        self._last_line = time.monotonic()
        print(line, file=self.stream, flush=True)


class Fetching:
    """Shows downloads: one rewritten line on a terminal, else a line every PACE seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self._last_line, self._open = 0.0, False

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Show the progress of a download, at most every 0.2 s (or every PACE seconds)."""
        now, terminal = time.monotonic(), self.stream.isatty()
        if now - self._last_line < (0.2 if terminal else PACE):
            return
        self._last_line = now
        of = f" of {total / 1e6:.1f}" if total else ""
        line = f"fetching {what}: {done / 1e6:.1f}{of} MB"
        if terminal:
            print(f"\r\x1b[K{line}", end="", file=self.stream, flush=True)
            self._open = True
        else:
            print(line, file=self.stream, flush=True)

    def close(self) -> None:
        """Clear the terminal's line."""
        if self._open:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
            self._open = False


class Log:
    """The run's log: lines with the seconds since its start, written to run.log at the end."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._begin = time.monotonic()

    def __call__(self, line: str) -> None:
        """Add one line."""
        self.lines.append(f"{time.monotonic() - self._begin:8.2f} s  {line}")
