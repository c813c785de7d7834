# SPDX-License-Identifier: BSD-3-Clause
"""Run programs that fetch something, and end them when no more data arrives.

A dead network must not block the lab. A resolver, a proxy and a connection each have their own
time-outs, so the bytes that arrive in a folder and the lines of output are watched instead.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

#: Seconds without any progress after which a program is ended: at its start, and later.
FIRST_S, NEXT_S = 4.0, 25.0

#: Called with the name of what is fetched, bytes so far, and bytes in total (None: unknown).
Progress = Callable[[str, int, int | None], None]


class Done(NamedTuple):
    """The result of a command; `stalled`: it was ended because no more data arrived."""

    code: int
    output: str
    errors: str
    stalled: bool


def run(
    command: Sequence[str],
    watch: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    tell: Callable[[int], None] = lambda _size: None,
) -> Done:
    """Run a command while files under `watch` or its output grow; tell: called with their bytes."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            stalled = wait(process, lambda: size_of(watch), (out.fileno(), err.fileno()), tell)
        except BaseException:
            end(process)
            raise
        return Done(process.wait(), text_of(out), text_of(err), stalled)


def wait(
    process: subprocess.Popen[bytes],
    size: Callable[[], int],
    outputs: tuple[int, int],
    tell: Callable[[int], None],
) -> bool:
    """Wait for the end of a process; if nothing grows any more, end it and return True."""
    start = size()
    last_size, since, time_limit = -1, time.monotonic(), FIRST_S
    while process.poll() is None:
        arrived = size()
        grown = arrived + sum(os.fstat(output).st_size for output in outputs)
        if grown != last_size:
            if last_size >= 0 and arrived > start:
                time_limit = NEXT_S
            last_size, since = grown, time.monotonic()
            tell(arrived - start)
        if time.monotonic() - since > time_limit:
            end(process)
            return True
        time.sleep(0.05)
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children (its process group)."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def size_of(folder: Path) -> int:
    """Return the bytes of all files under a folder, or of one file."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name), follow_symlinks=False).st_size
            except OSError:
                continue
    return total


def text_of(handle: IO[bytes]) -> str:
    """Return the content of a temporary file as text."""
    handle.seek(0)
    return handle.read().decode("utf-8", "replace")
