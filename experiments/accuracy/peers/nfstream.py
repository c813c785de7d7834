# SPDX-License-Identifier: BSD-3-Clause
"""nfstream (a Python package around nDPI): one process that is asked about file after file.

Loading it takes a second, so its process stays between questions. It is bounded in time: a file
that takes too long ends the process and all that it started, and the next question starts anew.
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

#: Seconds that it may take for one capture, its start included.
TIMEOUT = 60.0
COMMAND = (sys.executable, "-m", "midcall.experiments.accuracy.peers.nfstream_worker")


class Streamer:
    """A process that answers one line of JSON per line with a file's name."""

    name = "nfstream"
    how = "n_meters=1 idle_timeout=1e6 active_timeout=1e6"

    def __init__(self, version: str, command: tuple[str, ...] = COMMAND) -> None:
        self.version, self.command = version, command
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()

    def ask(self, capture: str) -> tuple[Answer, str]:
        """Return flow -> labels of a capture file, or nothing and the reason."""
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
            told = json.loads(line)
            return answer(told["flows"]), str(told["reason"])
        except (KeyError, TypeError, ValueError):
            return {}, "answered with what is no row of a flow"

    def line_of(self, capture: str) -> bytes:
        """Ask; return the line that came back in time."""
        process = self.process or self.start()
        if process.stdin is None or process.stdout is None:
            raise OSError("its pipes are closed")
        process.stdin.write(os.fsencode(capture) + b"\n")
        process.stdin.flush()
        deadline, held = time.monotonic() + TIMEOUT, b""
        while not held.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise TimeoutError
            more = os.read(process.stdout.fileno(), 1 << 20)
            if not more:
                raise OSError("its process ended")
            held += more
        return held

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process, in a session of its own: it starts others."""
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
        """End the process and what it started."""
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
    """Return the rows of a file (protocol, both ends, label) as flow -> labels."""
    found: Answer = {}
    for proto, source, source_port, target, target_port, label in rows:
        try:
            ports = int(str(source_port)), int(str(target_port))
            flow = key(int(str(proto)), str(source), ports[0], str(target), ports[1])
        except ValueError:  # a row that is no flow of IP
            continue
        found[flow] = (*found.get(flow, ()), str(label))
    return found


def find() -> tuple[Streamer | None, str]:
    """Return the peer, or None and the reason why it takes no part."""
    if importlib.util.find_spec("nfstream") is None:
        return None, "nfstream is not installed (pip install 'midcall[peers]', or nfstream)"
    return Streamer(importlib.metadata.version("nfstream")), ""
