# SPDX-License-Identifier: BSD-3-Clause
"""Watched commands: programs that fetch something, ended when nothing arrives any more.

A dead network must not hang the lab: a resolver, a proxy and a connection each have their own
time-outs, so what is watched is what counts, bytes that arrive in a folder and lines of output.
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

#: Seconds without a first sign of life, and without a next one.
FIRST_S, NEXT_S = 4.0, 25.0

#: Called with what is fetched, bytes so far, and bytes in all (None: unknown).
Progress = Callable[[str, int, int | None], None]


class Done(NamedTuple):
    """A command's end; `stalled` when it was ended because nothing arrived any more."""

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
    """Run a command while the files under `watch` or its output grow; `tell` gets their size."""
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
    """Wait for the end of a process; end it, and return True, when nothing grows any more."""
    start = size()
    seen, since, patience = -1, time.monotonic(), FIRST_S
    while process.poll() is None:
        arrived = size()
        grown = arrived + sum(os.fstat(output).st_size for output in outputs)
        if grown != seen:
            if seen >= 0 and arrived > start:
                patience = NEXT_S
            seen, since = grown, time.monotonic()
            tell(arrived - start)
        if time.monotonic() - since > patience:
            end(process)
            return True
        time.sleep(0.05)
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
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
    """Return what a temporary file holds, as text."""
    handle.seek(0)
    return handle.read().decode("utf-8", "replace")
