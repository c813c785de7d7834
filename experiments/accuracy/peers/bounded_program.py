# SPDX-License-Identifier: BSD-3-Clause
"""One run of a user's program: no shell, a time limit, bounded output, no process left over."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import NamedTuple

#: The largest output that is read, bytes; a program that prints more is ended.
OUTPUT = 32 << 20
#: How much of the end of stderr is kept, bytes, and shown, characters.
KEPT, SHOWN = 4096, 300
CHUNK = 1 << 16
#: Seconds between two looks at a program that has closed its output but not ended.
PAUSE = 0.01


class Ended(NamedTuple):
    """A finished run: stdout, and "" or the reason why it is not to be used."""

    output: bytes
    reason: str


def run(command: Sequence[str], seconds: float) -> Ended:
    """Run a command without a shell and without input, in its own session.

    seconds: the time limit of the run. The environment is the caller's, without MIDCALL_*.
    """
    environment = {key: value for key, value in os.environ.items() if key[:8] != "MIDCALL_"}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Ended(b"", f"could not be started: {error}")
    try:
        output, errors, reason = followed(process, time.monotonic() + seconds, seconds)
    finally:
        # The process has not been waited for, so its number cannot belong to another.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        code = process.wait()
    if not reason and code:
        reason = f"ended with code {code}" if code > 0 else f"was ended by signal {-code}"
    if reason:
        return Ended(b"", reason + said(errors))
    return Ended(output, "")


def followed(
    process: subprocess.Popen[bytes], deadline: float, seconds: float
) -> tuple[bytes, bytes, str]:
    """Read a program's output until it ends; returns stdout, the end of stderr, a reason or ""."""
    output, errors = bytearray(), b""
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                return b"", errors, late(seconds)
            for key, _ in ready:
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    output += chunk
                    if len(output) > OUTPUT:
                        return b"", errors, f"printed more than {OUTPUT >> 20} MiB"
                else:
                    errors = (errors + chunk)[-KEPT:]
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > deadline:
            return b"", errors, late(seconds)
        time.sleep(PAUSE)
    return bytes(output), errors, ""


def late(seconds: float) -> str:
    """Return the reason of a run that took too long."""
    return f"took more than {seconds:g} s"


def said(errors: bytes) -> str:
    """Return the end of what a program wrote to stderr, on one line, for the end of a sentence."""
    lines = errors.decode("utf-8", "replace").split("\n")
    text = " | ".join(line.strip() for line in lines if line.strip())
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if len(text) > SHOWN:
        text = "…" + text[-SHOWN:]
    return f"; its stderr: {text}" if text else "; its stderr is empty"
