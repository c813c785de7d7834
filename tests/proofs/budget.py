# SPDX-License-Identifier: BSD-3-Clause
"""The budget of the default experiment: how long it takes, what of it takes how long, and memory.

`python -m tests.proofs.budget` (make budget) runs the experiment anew, every cell of it, with what
is compiled already, and tells seconds by phase from its log and the peak of its memory: the sum of
the proportional shares (PSS) of all its processes, so that shared pages count once. Goals are 60 s
and 2 GB on a laptop; they are told, not asserted: a busy machine is no fault of the code.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from midcall.locations import ROOT
from tests.proofs.ledger import settle

GOAL_SECONDS, GOAL_BYTES = 60.0, 2_000_000_000
PACE = 0.2
LINE = re.compile(r"^ *([\d.]+) s  (\w[\w ,]*?)(?::|$)")


def shares(process: int) -> int:
    """Return the bytes of a process and its descendants, shared pages divided among sharers."""
    total, ahead = 0, [process]
    while ahead:
        one = ahead.pop()
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
            children = Path(f"/proc/{one}/task/{one}/children").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        total += 1024 * int(found.group(1)) if found else 0
        ahead += [int(word) for word in children.split()]
    return total


class Watch(threading.Thread):
    """Keeps the largest memory of a process tree until the process has ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self.process, self.peak = process, 0

    def run(self) -> None:
        """Look again and again."""
        while self.process.poll() is None:
            self.peak = max(self.peak, shares(self.process.pid))
            time.sleep(PACE)


def phases(log: str) -> dict[str, float]:
    """Return the seconds that went by until the last line of each phase of a run's log."""
    spent: dict[str, float] = {}
    before = 0.0
    for line in log.splitlines():
        result = LINE.match(line)
        if result:
            at, name = float(result.group(1)), result.group(2)
            spent[name] = round(spent.get(name, 0.0) + at - before, 2)
            before = at
    return spent


def measured(spec: str, words: Sequence[str]) -> dict[str, Any]:
    """Run a spec anew; returns seconds, phases and memory."""
    with tempfile.TemporaryDirectory(prefix="midcall-") as place:
        command = [
            sys.executable,
            "-m",
            "midcall.experiments.cli.app",
            "run",
            spec,
            "--force",
            *words,
        ]
        began = time.monotonic()
        process = subprocess.Popen([*command, "--runs", place], cwd=ROOT, stdout=subprocess.DEVNULL)
        watch = Watch(process)
        watch.start()
        if code := process.wait():
            raise SystemExit(f"budget: {' '.join(command)} ended with {code}")
        seconds = time.monotonic() - began
        watch.join()
        log = (Path(place) / "latest" / "run.log").read_text(encoding="utf-8")
    return {"seconds": round(seconds, 1), "phases": phases(log), "peak_bytes": watch.peak}


def main(given: Sequence[str] | None = None) -> int:
    """Measure, tell, write down."""
    parser = argparse.ArgumentParser(prog="budget", description=__doc__)
    parser.add_argument("--spec", default="morocco-2016")
    parser.add_argument("-j", "--jobs", default=None)
    asked = parser.parse_args(given)
    words = ["-j", asked.jobs] if asked.jobs else []
    result = measured(asked.spec, words)
    for name, spent in sorted(result["phases"].items(), key=lambda pair: -pair[1]):
        print(f"{spent:8.1f} s {spent / result['seconds']:6.1%}  until the last of: {name}")
    goals = {
        "seconds": result["seconds"] <= GOAL_SECONDS,
        "memory": result["peak_bytes"] <= GOAL_BYTES,
    }
    fine = (
        f"{result['seconds']} s (goal {GOAL_SECONDS:g}), {result['peak_bytes'] / 1e9:.2f} GB "
        f"(goal {GOAL_BYTES / 1e9:g}), load average {os.getloadavg()[0]:.1f}"
    )
    return settle("budget", [], fine, {"spec": asked.spec, **result, "goals": goals})


if __name__ == "__main__":
    sys.exit(main())
