# SPDX-License-Identifier: BSD-3-Clause
"""A fuzzing session: workers one after the other, a state that is gone on with, and the totals.

State and totals stand in runs/fuzz; what was found stands beside them, one file each.
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
#: Minimal cases that are fuzzed beside the samples, where the sources are.
SEEDS = ROOT / "tests" / "fuzz" / "seeds"
#: Seconds between two lines of progress.
PACE = 10.0


class Options(NamedTuple):
    """What is fuzzed: mutated packets wanted (with those of earlier sessions), seed, captures.

    first: begin at this stand, whatever was done before (to see a finding again).
    """

    packets: int = 1_000_000
    seed: int = 1
    corpus: Path | None = None
    runs: Path = Path("runs")
    first: int | None = None


def fuzz(options: Options, say: Callable[[str], None]) -> Row:
    """Fuzz until that many mutated packets are through; returns the totals, with any finding.

    Raises ExperimentError where there is nothing to mutate.
    """
    captures = paths(options.corpus)
    state = begun(options, captures)
    folder = options.runs / FOLDER
    started, spoken = time.monotonic(), 0.0
    earlier = state["seconds"]
    say(f"{len(captures)} captures, seed {options.seed}, from stand {state['next']}")
    with Worker(options.seed, state["next"], captures, folder) as worker:
        while state["mutated"] < options.packets and not state["finding"]:
            told = worker.answer()
            add(state, told, worker)
            state["seconds"] = round(earlier + time.monotonic() - started, 1)
            if options.first is None:
                write_json(state_file(options.runs, options.seed), state)
            if time.monotonic() - spoken > PACE:
                spoken = time.monotonic()
                say(f"{state['mutated']:,} of {options.packets:,} mutated packets")
    finish(options, state)
    return state


def paths(corpus: Path | None) -> list[Path]:
    """Return every capture that is here: the catalogue's, the samples and the minimal cases."""
    catalogue = load(local=False)
    held = obtain(catalogue, corpus, offline=True).paths
    found = [Path(held[one.sha256]) for one in catalogue.captures if one.sha256 in held]
    found += sorted(SEEDS.glob("*.pcap*"))
    if not found:
        raise ExperimentError("no captures to mutate: expected those in captures/samples")
    return found


def begun(options: Options, captures: Sequence[Path]) -> Row:
    """Return the state to go on from: the one on disk, where code, captures and seed are its."""
    identity = code_digest(("captures", "classifier", "testbed", "experiments"))
    sums = hashlib.sha256(b"".join(path.read_bytes()[:4096] for path in captures)).hexdigest()
    fresh: Row = {
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
        return fresh
    try:
        held: Row = json.loads(state_file(options.runs, options.seed).read_text())
    except (OSError, ValueError):
        return fresh
    same = all(held.get(key) == fresh[key] for key in ("schema", "code", "captures_sha256"))
    return held | {"finding": None} if same else fresh


def state_file(runs: Path, seed: int) -> Path:
    """Return where a seed's state stands."""
    return runs / FOLDER / f"seed-{seed}.json"


def add(state: Row, told: Row, worker: Worker) -> None:
    """Book what a worker told of one stand."""
    if "error" in told:
        again = f"midcall fuzz --seed {state['seed']} --first {told['stand']} --packets 1"
        state["finding"] = {"stand": told["stand"], "error": told["error"], "again": again}
        return
    for key in COUNTED:
        state[key] += told[key]
    state["next"] = told["stand"] + 1


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
        """Return what the worker says next; a worker that died says so itself."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            told: Row = json.loads(line)
            self.stand = told["stand"] + 1
            return told
        code = self.process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return {"stand": self.stand, "error": f"the process that fuzzed ended {how}"}


def lines(state: Row) -> list[str]:
    """Return a session's totals as a person reads them."""
    told = [
        f"{state['mutated']:,} mutated packets of {state['packets']:,} through the path, "
        f"{state['files']:,} damaged files read ({state['files_refused']:,} refused, "
        f"{state['file_packets']:,} packets), {state['seconds']:.0f} s"
    ]
    found = state["finding"]
    if found is None:
        return [*told, "no finding"]
    return [*told, f"FOUND at stand {found['stand']}: {found['error']}", f"again: {found['again']}"]


def place(runs: Path) -> str:
    """Return the file of the latest result as a person names it."""
    return shown(runs / FOLDER / LATEST)
