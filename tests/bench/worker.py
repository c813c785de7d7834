# SPDX-License-Identifier: BSD-3-Clause
"""The worker: a warm process that runs the path over one file whenever it is told to."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from captures.pcap import batches


def state_bytes(engine: Any) -> int:
    """Return the size of an engine's arrays."""
    return sum(array.nbytes for array in engine.tables)


def one_pass(path: Path) -> dict[str, int | float]:
    """Return what one pass over a file took, its packets, bytes and flows."""
    from classifier.engine import Engine

    started = time.perf_counter()
    engine, packets, octets = Engine(), 0, 0
    for batch in batches(path):
        engine.feed(batch)
        packets += batch.total
        octets += int(batch.wire.sum())
    flows = len(engine.flows())
    seconds = time.perf_counter() - started
    state = state_bytes(engine)
    return {
        "seconds": seconds,
        "packets": packets,
        "bytes": octets,
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


def work(path: Path) -> None:
    """Warm up, then run a pass for every line on standard input; print each as JSON."""
    one_pass(path)
    print("{}", flush=True)
    for _ in sys.stdin:
        row = one_pass(path)
        row["peak"] = peak_memory()
        print(json.dumps(row), flush=True)


class Worker:
    """The process that runs the path."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "tests.bench", "--worker", str(path)]
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

    def run(self) -> dict[str, Any]:
        """Run one pass."""
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
