# SPDX-License-Identifier: BSD-3-Clause
"""Faults: runs and workers killed at random moments, and what of it the next run notices.

`python -m tests.proofs.faults` (make faults) plays the smoke experiment in virtual time, kills it
with SIGKILL at a random moment, and looks: every folder of results is whole, every kept cell can be
read, no worker lives on. It does so --kills times; a part of them kills a worker instead, which may
cost cells but not the run. After every few kills a run to the end must give what an undisturbed one
gave, to the byte, and reuse what was kept.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from midcall.experiments.results.schema import COLUMNS, read_table
from midcall.locations import ROOT
from tests.proofs.determinism import differences
from tests.proofs.ledger import settle

#: Kills between two runs to the end; one of them, the third, is a worker's.
STRETCH, WORKERS = 5, 3
#: Exit code of a run that ended with failed cells; an exception that nobody caught exits 1.
CELLS_FAILED = 3
FILES = ("spec.toml", "provenance.json", "summary.json", "run.log", "report.html")


class Play:
    """A run of the smoke experiment in a process of its own, with a cache of cells of its own."""

    def __init__(self, folder: Path, jobs: int = 2) -> None:
        command = [sys.executable, "-m", "tests.proofs.faults", "--play", str(folder), str(jobs)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def workers(self) -> list[int]:
        """Return the numbers of its worker processes."""
        return [one for one in children(self.process.pid) if "resource_tracker" not in words(one)]

    def kill(self) -> list[int]:
        """Kill it; returns the workers that it had."""
        had = self.workers()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return had


def children(process: int) -> list[int]:
    """Return the numbers of a process's children."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def words(process: int) -> str:
    """Return a process's command line, "" where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def play(folder: Path, jobs: int) -> int:
    """Run the experiment; exit code CELLS_FAILED where a cell failed."""
    from midcall.experiments.run import runner
    from midcall.experiments.spec.options import Options

    options = Options(jobs=jobs, runs=folder / "runs", cells=folder / "cells", stream=io.StringIO())
    return CELLS_FAILED if runner.run("smoke", options).failed else 0


# ---- what must hold after a kill


def broken(folder: Path) -> Iterator[str]:
    """Yield what is half-written under a folder of runs and cells."""
    for run in visible(folder / "runs"):
        lacks = [name for name in FILES if not (run / name).is_file()]
        lacks += [f"{name}.csv" for name in COLUMNS if not (run / f"{name}.csv").is_file()]
        if lacks:
            yield f"{run.name} lacks {', '.join(lacks)}"
            continue
        json.loads((run / "summary.json").read_text(encoding="utf-8"))
    latest = folder / "runs" / "latest"
    if latest.is_symlink() and not latest.exists():
        yield "latest names a folder that is not there"
    for cell in cells(folder):
        if not readable(cell):
            yield f"cell {cell.name} cannot be read"


def visible(runs: Path) -> list[Path]:
    """Return the folders that a person sees."""
    if not runs.is_dir():
        return []
    return [one for one in runs.iterdir() if one.is_dir() and not one.is_symlink()
            and not one.name.startswith(".")]  # fmt: skip


def cells(folder: Path) -> list[Path]:
    """Return the cells that a person sees."""
    kept = (folder / "cells").rglob("*.json")
    return sorted(cell for cell in kept if not cell.name.startswith("."))


def unused(kept: int, reused: int) -> list[str]:
    """Return what is wrong where cells were kept and the next run to the end reused none."""
    if reused or not kept:
        return []
    return [f"after kills: {kept} cells were kept and none was reused"]


def readable(cell: Path) -> bool:
    """Tell whether a kept cell is whole."""
    try:
        return bool(json.loads(cell.read_text(encoding="utf-8"))["key"] == cell.stem)
    except (ValueError, KeyError):
        return False


def orphans(had: Sequence[int], patience: float = 10.0) -> list[int]:
    """Return the workers that live on after their parent."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        left = [one for one in had if "multiprocessing" in words(one)]
        if not left:
            return []
        time.sleep(0.05)
    return left


# ---- the proof


def whole(folder: Path) -> tuple[Path, int]:
    """Run to the end; returns the folder of results and how many cells were reused."""
    one = Play(folder)
    if code := one.process.wait():
        raise SystemExit(f"faults: an undisturbed run ended with {code}")
    run = (folder / "runs" / "latest").resolve()
    return run, sum(row["status"] == "reused" for row in read_table(run, "cells"))


def stretch(folder: Path, kills: int, seconds: float, dice: random.Random) -> list[str]:
    """Kill so many runs or workers of one cache; returns what was broken."""
    problems = []
    for number in range(kills):
        one = Play(folder)
        moment = dice.uniform(0, seconds)
        if number % WORKERS == WORKERS - 1:
            problems += worker_killed(one, moment)
        else:
            time.sleep(moment)
            left = orphans(one.kill())
            problems += [f"a worker lives on after its parent was killed at {moment:.2f} s"] * bool(
                left
            )
            for process in left:
                os.kill(process, signal.SIGKILL)
        problems += [f"killed at {moment:.2f} s: {line}" for line in broken(folder)]
    return problems


def worker_killed(one: Play, moment: float) -> list[str]:
    """Kill a worker some time after there is one; the run must come to an end by itself."""
    while one.process.poll() is None and not one.workers():
        time.sleep(0.02)
    time.sleep(moment / 4)
    for process in one.workers()[:1]:
        os.kill(process, signal.SIGKILL)
    try:
        code = one.process.wait(120)
    except subprocess.TimeoutExpired:
        one.kill()
        return ["a run without its worker did not end"]
    return [] if code in (0, CELLS_FAILED) else [f"a run without its worker ended with {code}"]


def main(given: Sequence[str] | None = None) -> int:
    """Kill, look, compare, write down; exit code 1 where something was lost or half-written."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--play", nargs=2, metavar=("FOLDER", "JOBS"), help=argparse.SUPPRESS)
    asked = parser.parse_args(given)
    if asked.play:
        return play(Path(asked.play[0]), int(asked.play[1]))
    with tempfile.TemporaryDirectory(prefix="midcall-") as place:
        problems, facts = carried_out(Path(place), asked.kills, asked.seed)
    fine = f"{asked.kills} kills: nothing half-written, nobody left, the same bytes afterwards"
    return settle("faults", problems, fine, facts)


def carried_out(place: Path, kills: int, seed: int) -> tuple[list[str], dict[str, object]]:
    """Do so many kills; returns what was broken, and the figures."""
    dice, problems, reused = random.Random(seed), [], 0
    whole(place / "warm")
    began = time.monotonic()
    reference, _ = whole(place / "reference")
    seconds = time.monotonic() - began
    for first in range(0, kills, STRETCH):
        folder = place / str(first)
        problems += stretch(folder, min(STRETCH, kills - first), seconds, dice)
        kept = len(cells(folder))
        run, again = whole(folder)
        reused += again
        problems += unused(kept, again)
        problems += [f"after kills: {line}" for line in differences(reference, run)]
    facts = {"kills": kills, "seed": seed, "run_seconds": round(seconds, 1), "reused": reused}
    return problems, facts


if __name__ == "__main__":
    sys.exit(main())
