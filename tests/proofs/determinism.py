# SPDX-License-Identifier: BSD-3-Clause
"""Determinism: one process of a generic processor gives what all cores of this one give.

`python -m tests.proofs.determinism` (make determinism) runs a spec with -j 1 and
NUMBA_CPU_NAME=generic, every cell anew, and holds it against another run: one that it makes with
all cores for this very processor, or the one that --against names. All of summary.json must be
equal but what a clock or the machine decides, and every table to the byte.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from midcall.experiments.measure.summary import TIMED
from midcall.locations import ROOT
from tests.proofs.ledger import settle

#: Tables of times, and columns of cells that say how a cell was come by.
CLOCKED = ("latency", "throughput", "live_bench")
COME_BY = ("status", "seconds")
SHOWN = 20


def made(spec: str, runs: Path, *words: str, **environment: str) -> Path:
    """Run a spec anew and return its folder; ends the proof where the run fails."""
    command = [sys.executable, "-m", "midcall.experiments.cli.app", "run", spec, "--force", *words]
    done = subprocess.run(
        [*command, "--runs", str(runs)],
        env={**os.environ, **environment},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"determinism: {' '.join(command)} ended with {done.returncode}")
    return (runs / "latest").resolve()


def differences(one: Path, other: Path) -> list[str]:
    """Return in which values and tables two runs differ."""
    result = [
        json.loads((run / "summary.json").read_text(encoding="utf-8")) for run in (one, other)
    ]
    timeless = [{key: value for key, value in one.items() if key not in TIMED} for one in result]
    found = list(unequal("summary.json", *timeless))
    names = {path.name for run in (one, other) for path in run.glob("*.csv")}
    for name in sorted(names):
        if name.removesuffix(".csv") in CLOCKED:
            continue
        if name == "cells.csv":
            same = cells(one / name) == cells(other / name)
        else:
            same = content(one / name) == content(other / name)
        if not same:
            found.append(f"{name}: differs")
    return found


def unequal(where: str, one: Any, other: Any) -> Iterator[str]:
    """Yield where two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if key in one and key in other:
                yield from unequal(f"{where} > {key}", one[key], other[key])
            else:
                yield f"{where} > {key}: stands in one of them only"
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from unequal(f"{where} > {number}", *pair)
    elif one != other:
        yield f"{where}: {str(one)[:60]} and {str(other)[:60]}"


def content(path: Path) -> bytes | None:
    """Return a file's bytes, None where there is none."""
    return path.read_bytes() if path.exists() else None


def cells(path: Path) -> list[dict[str, str]]:
    """Return the rows of cells.csv without what says how a cell was come by."""
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return [{key: value for key, value in row.items() if key not in COME_BY} for row in rows]


def main(words: Sequence[str] | None = None) -> int:
    """Run, compare, write down; exit code 1 where something differs."""
    parser = argparse.ArgumentParser(prog="determinism", description=__doc__)
    parser.add_argument("--spec", default="morocco-2016")
    parser.add_argument("--against", type=Path, help="a run that was made before")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="midcall-") as folder:
        here = Path(folder)
        against = asked.against or made(asked.spec, here / "host")
        generic = made(asked.spec, here / "generic", "-j", "1", NUMBA_CPU_NAME="generic")
        found = differences(against, generic)
        tables = len(list(generic.glob("*.csv")))
    facts = {"spec": asked.spec, "tables": tables, "differences": len(found)}
    fine = f"{asked.spec}: equal on one process of a generic processor, {tables} tables"
    return settle("determinism", found[:SHOWN], fine, facts)


if __name__ == "__main__":
    sys.exit(main())
