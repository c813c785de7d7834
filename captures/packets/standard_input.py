# SPDX-License-Identifier: BSD-3-Clause
"""The standard input as a capture: named `-`, for example the output of `tcpdump -w -`.

Ctrl-C is the usual end of a live capture, and it reaches both programs of a pipe. So the first one
ends the input: what the other program still writes is read for a second, then the command works
with what it has. A second one interrupts the command.
"""

from __future__ import annotations

import io
import os
import select
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from midcall.captures.packets.compression import Stream
from midcall.captures.packets.names import printable
from midcall.errors import CaptureError

#: The argument that stands for the standard input, and its name in messages.
NAME, SHOWN = "-", "standard input"
DESCRIPTOR = 0
#: Seconds for which the input is read on after Ctrl-C.
GRACE = 1.0


class Stopped(KeyboardInterrupt):
    """Ctrl-C while the input was waited for."""


class StandardInput(io.RawIOBase):
    """The standard input, which Ctrl-C ends (see above); `interrupted` tells whether it did."""

    def __init__(self, descriptor: int = DESCRIPTOR) -> None:
        self._descriptor = descriptor
        self._deadline: float | None = None
        self._waiting = False
        self._watched = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._watched:
            signal.signal(signal.SIGINT, self._stop)

    @property
    def interrupted(self) -> bool:
        """Return whether Ctrl-C ended the input."""
        return self._deadline is not None

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._deadline is not None:
            raise KeyboardInterrupt
        self._deadline = time.monotonic() + GRACE
        if self._waiting:
            raise Stopped

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, room: memoryview, /) -> int:  # type: ignore[override]
        """Read into a buffer; returns the number of octets, 0 at the end."""
        while True:
            rest = None if self._deadline is None else self._deadline - time.monotonic()
            if rest is not None and rest <= 0:
                return 0
            try:
                self._waiting = True
                ready, _, _ = select.select([self._descriptor], [], [], rest)
            except Stopped:
                continue
            finally:
                self._waiting = False
            return os.readv(self._descriptor, [room]) if ready else 0

    def close(self) -> None:
        """Leave Ctrl-C to the command again; the descriptor stays open."""
        if self._watched:
            self._watched = False
            signal.signal(signal.SIGINT, signal.default_int_handler)
        super().close()


def open_standard_input() -> tuple[Stream, int]:
    """Return the standard input and its length in octets (0: not known); raises CaptureError."""
    try:
        about = os.fstat(DESCRIPTOR)
        if os.isatty(DESCRIPTOR):
            raise CaptureError(
                f"{SHOWN}: is a terminal, expected a capture: pipe one into the command, as in "
                "tcpdump -w - | midcall classify -"
            )
        if stat.S_ISREG(about.st_mode) and os.lseek(DESCRIPTOR, 0, os.SEEK_CUR) == 0:
            return io.FileIO(DESCRIPTOR, closefd=False), about.st_size
    except OSError as error:
        raise CaptureError(f"{SHOWN}: cannot be read: {error.strerror}") from None
    return StandardInput(), 0


class Held(NamedTuple):
    """A capture that can be read several times: its file, and its name in messages."""

    path: Path
    shown: str


@contextmanager
def held(name: str | os.PathLike[str]) -> Iterator[Held]:
    """Yield a capture as a file that can be read several times.

    The standard input is copied to a temporary file, which is removed at the end. Raises
    CaptureError where it cannot be read or copied.
    """
    if os.fspath(name) != NAME:
        yield Held(Path(name), printable(name))
        return
    with tempfile.TemporaryDirectory(prefix="midcall-") as folder:
        path = Path(folder, "standard-input")
        stream, _ = open_standard_input()
        try:
            with path.open("wb") as out:
                shutil.copyfileobj(stream, out, 1 << 20)
        except OSError as error:
            raise CaptureError(
                f"{SHOWN}: cannot be copied to {folder}: {error.strerror}; it is read several "
                "times, so give a file, or set TMPDIR to a folder with more space"
            ) from None
        finally:
            stream.close()
        yield Held(path, SHOWN)
