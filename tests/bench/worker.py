# SPDX-License-Identifier: BSD-3-Clause
"""The worker: a warm process that runs the path over one file whenever it is told to.

On two cores it leaves the core that the bench is pinned to and may run on any.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from midcall.captures.packets.pcap import CaptureFile

#: The seed of the hash in the bench: who made the colliding file is given the key.
KNOWN = 0


def state_bytes(engine: Any) -> int:
    """Return the size of an engine's arrays."""
    return sum(array.nbytes for array in engine.tables)


def one_pass(path: Path, cores: int) -> dict[str, int | float]:
    """Return what one pass over a file took, its packets, bytes and flows."""
    from midcall.classifier.engine import Engine
    from midcall.classifier.parallel import through

    started = time.perf_counter()
    engine, capture = Engine(seed=KNOWN), CaptureFile(path)
    through(engine, capture, cores)
    flows = len(engine.flows())
    seconds = time.perf_counter() - started
    state = state_bytes(engine)
    return {
        "seconds": seconds,
        "packets": capture.packets,
        "bytes": capture.captured_bytes,
        "flows": flows,
        "state": state,
    }


def peak_memory() -> int:
    """Return this process's maximum resident set in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # of this program alone, not of whoever started it
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def work(path: Path, cores: int, core: int | None) -> None:
    """Warm up, then run a pass for every line on standard input; print each as JSON.

    core: the one to run on, None for the bench's own.
    """
    if core is not None:
        os.sched_setaffinity(0, {core})
    elif cores > 1:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    one_pass(path, cores)
    print("{}", flush=True)
    for _ in sys.stdin:
        row = one_pass(path, cores)
        row["peak"] = peak_memory()
        print(json.dumps(row), flush=True)


class Worker:
    """The process that runs the path."""

    def __init__(self, path: Path, cores: int = 1, core: int | None = None) -> None:
        command = [sys.executable, "-m", "tests.bench", "--worker", str(path)]
        command += ["--cores", str(cores)]
        command += [] if core is None else ["--core", str(core)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.answer()

    def answer(self) -> dict[str, Any]:
        """Return what the worker says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("bench: the process that runs the path has failed, see above")
        row: dict[str, Any] = json.loads(line)
        return row

    def start(self) -> None:
        """Have it begin a pass, which `answer` then tells of."""
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()

    def run(self) -> dict[str, Any]:
        """Run one pass."""
        self.start()
        return self.answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def at_once(workers: list[Worker]) -> dict[str, Any]:
    """Run a pass in each of several processes at the same time; returns what they did together."""
    for worker in workers:
        worker.start()
    rows = [worker.answer() for worker in workers]
    total = {key: sum(row[key] for row in rows) for key in rows[0]}
    return total | {"seconds": max(row["seconds"] for row in rows)}
