# SPDX-License-Identifier: BSD-3-Clause
"""A fuzzing session: workers one after the other, a state that sessions resume, and the totals.

State, totals and findings are files in runs/fuzz.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from midcall.captures.fetch.fetch import obtain
from midcall.captures.truth.catalogue import load
from midcall.captures.truth.paths import shown
from midcall.errors import ExperimentError
from midcall.experiments.results.provenance import code_digest, machine
from midcall.experiments.results.schema import write_json
from midcall.locations import ROOT

Row = dict[str, Any]

FOLDER, LATEST = "fuzz", "latest.json"
COUNTED = ("packets", "mutated", "files", "files_refused", "file_packets")
#: Minimal cases that are fuzzed in addition to the samples; only in a source checkout.
SEEDS = ROOT / "tests" / "fuzz" / "seeds"
#: Seconds between two lines of progress.
PACE = 10.0


class Options(NamedTuple):
    """Options of a session: mutated packets wanted (those of earlier sessions included), seed,
    captures.

    first: start at this stand, regardless of earlier sessions (to reproduce a finding).
    """

    packets: int = 1_000_000
    seed: int = 1
    corpus: Path | None = None
    runs: Path = Path("runs")
    first: int | None = None


def fuzz(options: Options, say: Callable[[str], None]) -> Row:
    """Fuzz until that many mutated packets are processed; returns the totals, with any finding.

    Raises ExperimentError if there are no captures.
    """
    captures = paths(options.corpus)
    state = begun(options, captures)
    folder = options.runs / FOLDER
    started, last_line = time.monotonic(), 0.0
    earlier = state["seconds"]
    say(f"{len(captures)} captures, seed {options.seed}, from stand {state['next']}")
    with Worker(options.seed, state["next"], captures, folder) as worker:
        while state["mutated"] < options.packets and not state["finding"]:
            report = worker.answer()
            add(state, report, worker)
            state["seconds"] = round(earlier + time.monotonic() - started, 1)
            if options.first is None:
                write_json(state_file(options.runs, options.seed), state)
            if time.monotonic() - last_line > PACE:
                last_line = time.monotonic()
                say(f"{state['mutated']:,} of {options.packets:,} mutated packets")
    finish(options, state)
    return state


def paths(corpus: Path | None) -> list[Path]:
    """Return every local capture: the catalogue's, the samples and the minimal cases. Raises
    ExperimentError."""
    catalogue = load(local=False)
    stored = obtain(catalogue, corpus, offline=True).paths
    captures = [Path(stored[one.sha256]) for one in catalogue.captures if one.sha256 in stored]
    captures += sorted(SEEDS.glob("*.pcap*"))
    if not captures:
        raise ExperimentError("no captures to mutate: expected those in captures/samples")
    return captures


def begun(options: Options, captures: Sequence[Path]) -> Row:
    """Return the state to resume: the one on disk if its code, captures and seed are the same, else
    a new one."""
    identity = code_digest(("captures", "classifier", "testbed", "experiments"))
    sums = hashlib.sha256(b"".join(path.read_bytes()[:4096] for path in captures)).hexdigest()
    initial: Row = {
        "schema": 1,
        "code": identity,
        "captures": len(captures),
        "captures_sha256": sums,
        "seed": options.seed,
        "next": options.first or 0,
        "seconds": 0.0,
        "finding": None,
        **dict.fromkeys(COUNTED, 0),
    }
    if options.first is not None:
        return initial
    try:
        stored: Row = json.loads(state_file(options.runs, options.seed).read_text())
    except (OSError, ValueError):
        return initial
    same = all(stored.get(key) == initial[key] for key in ("schema", "code", "captures_sha256"))
    return stored | {"finding": None} if same else initial


def state_file(runs: Path, seed: int) -> Path:
    """Return the path of a seed's state."""
    return runs / FOLDER / f"seed-{seed}.json"


def add(state: Row, report: Row, worker: Worker) -> None:
    """Add a worker's report on one stand to the state."""
    if "error" in report:
        again = f"midcall fuzz --seed {state['seed']} --first {report['stand']} --packets 1"
        state["finding"] = {"stand": report["stand"], "error": report["error"], "again": again}
        return
    for key in COUNTED:
        state[key] += report[key]
    state["next"] = report["stand"] + 1


def finish(options: Options, state: Row) -> None:
    """Write the result of the session as the latest."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    written = state | {"ended": now, "wanted": options.packets, "machine": machine()}
    write_json(options.runs / FOLDER / LATEST, written)


class Worker:
    """The process that fuzzes; a context manager that ends it."""

    def __init__(self, seed: int, first: int, captures: Sequence[Path], folder: Path) -> None:
        self.stand = first
        task = {
            "seed": seed,
            "first": first,
            "last": 1 << 40,
            "captures": [str(path.resolve()) for path in captures],
            "folder": str(folder.resolve()),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "midcall.experiments.proofs.fuzz.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "NUMBA_BOUNDSCHECK": "1"},
            text=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def answer(self) -> Row:
        """Return the report of the next stand; if the worker died, an error report."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            report: Row = json.loads(line)
            self.stand = report["stand"] + 1
            return report
        code = self.process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return {"stand": self.stand, "error": f"the process that fuzzed ended {how}"}


def lines(state: Row) -> list[str]:
    """Return a session's totals as lines of text."""
    totals = [
        f"{state['mutated']:,} mutated packets of {state['packets']:,} through the path, "
        f"{state['files']:,} damaged files read ({state['files_refused']:,} refused, "
        f"{state['file_packets']:,} packets), {state['seconds']:.0f} s"
    ]
    finding = state["finding"]
    if finding is None:
        return [*totals, "no finding"]
    return [
        *totals,
        f"FOUND at stand {finding['stand']}: {finding['error']}",
        f"again: {finding['again']}",
    ]


def place(runs: Path) -> str:
    """Return the path of the latest result as shown to users."""
    return shown(runs / FOLDER / LATEST)
