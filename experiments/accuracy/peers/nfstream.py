# SPDX-License-Identifier: BSD-3-Clause
"""nfstream (a Python package around nDPI): one process for many capture files.

Loading it takes a second, so the process is kept between files. A file that takes too long ends the
process and its children; the next file starts a new process.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

from midcall.experiments.accuracy.peers.ends import key
from midcall.experiments.accuracy.peers.labels import Answer
from midcall.locations import ROOT

#: Time limit for one capture, seconds, including the start of the process.
TIMEOUT = 60.0
COMMAND = (sys.executable, "-m", "midcall.experiments.accuracy.peers.nfstream_worker")


class Streamer:
    """A process that reads file names, one per line, and answers each with a line of JSON."""

    name = "nfstream"
    how = "n_meters=1 idle_timeout=1e6 active_timeout=1e6"

    def __init__(self, version: str, command: tuple[str, ...] = COMMAND) -> None:
        self.version, self.command = version, command
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()

    def ask(self, capture: str) -> tuple[Answer, str]:
        """Return (flow -> labels of a capture file, ""), or ({}, the reason of a failure)."""
        with self.lock:
            try:
                line = self.line_of(capture)
            except TimeoutError:
                self.close()
                return {}, f"took more than {TIMEOUT:.0f} s"
            except OSError as error:
                self.close()
                return {}, f"does not answer: {error}"
        try:
            reply = json.loads(line)
            return answer(reply["flows"]), str(reply["reason"])
        except (KeyError, TypeError, ValueError):
            return {}, "answered with what is no row of a flow"

    def line_of(self, capture: str) -> bytes:
        """Return the line that answers a file name; raises TimeoutError or OSError."""
        process = self.process or self.start()
        if process.stdin is None or process.stdout is None:
            raise OSError("its pipes are closed")
        process.stdin.write(os.fsencode(capture) + b"\n")
        process.stdin.flush()
        deadline, line = time.monotonic() + TIMEOUT, b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise TimeoutError
            chunk = os.read(process.stdout.fileno(), 1 << 20)
            if not chunk:
                raise OSError("its process ended")
            line += chunk
        return line

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process in its own session, because it starts child processes."""
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        return self.process

    def close(self) -> None:
        """End the process and its children."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait(timeout=10)


def answer(rows: list[list[object]]) -> Answer:
    """Return flow -> labels from the rows of a file: protocol, both ends, label."""
    answers: Answer = {}
    for proto, source, source_port, target, target_port, label in rows:
        try:
            ports = int(str(source_port)), int(str(target_port))
            flow = key(int(str(proto)), str(source), ports[0], str(target), ports[1])
        except ValueError:  # a row that is no flow of IP
            continue
        answers[flow] = (*answers.get(flow, ()), str(label))
    return answers


def find() -> tuple[Streamer | None, str]:
    """Return (peer, ""), or (None, the reason why it cannot be used)."""
    if importlib.util.find_spec("nfstream") is None:
        return None, "nfstream is not installed (pip install 'midcall[peers]', or nfstream)"
    return Streamer(importlib.metadata.version("nfstream")), ""
