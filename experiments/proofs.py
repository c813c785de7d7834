# SPDX-License-Identifier: BSD-3-Clause
"""Proofs: what the lab's own proofs and benches last gave, for the report of a run beside them.

A proof writes `reliability/NAME.json` below the runs (docs/reliability.md), fuzzing
`fuzz/latest.json`, the offline benches `bench.json` and `bench-growth.json` beside them. What is
not there, or cannot be read, was not proven.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

#: Proof -> the promise that it tries to break.
PROMISES = {
    "determinism": "any number of processes and any processor give the same results",
    "hostile": "hostile traffic breaks no bound of state, is counted, and is never named a call",
    "faults": "a kill at any moment loses nothing and leaves nothing half-written",
    "differential": "fields are read as Wireshark reads them",
    "mutants": "tests notice a changed figure",
    "instructions": "a packet costs no more instructions than before",
    "budget": "time and memory of the default experiment are known",
}


def pooled(runs: Path) -> Row | None:
    """Return `proofs` of summary.json, what each proof last gave; None where there is nothing."""
    paths = sorted((runs / "reliability").glob("*.json"))
    held = [row for path in paths if (row := kept(path, proof))]
    beside = runs.resolve().parent
    fuzzed = kept(runs / "fuzz" / "latest.json", fuzzing)
    bench, growth = kept(beside / "bench.json", ratios), kept(beside / "bench-growth.json", grown)
    if not held and not fuzzed and not bench and not growth:
        return None
    return {"proofs": held, "fuzz": fuzzed, "bench": bench, "growth": growth}


def kept(path: Path, shown: Callable[[Row], Row]) -> Row | None:
    """Return what is shown of a result, None where there is none that can be read.

    Results stay where they were made: an earlier version may have written them in another form.
    """
    try:
        return shown(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def fuzzing(told: Row) -> Row:
    """Return what is shown of fuzzing."""
    return {key: told[key] for key in ("mutated", "files", "finding", "ended")}


def proof(told: Row) -> Row:
    """Return what is shown of a proof."""
    name, code = str(told["proof"]), told["code"]
    return {
        "proof": name,
        "promise": PROMISES.get(name, name),
        "held": told["held"],
        "problems": len(told["problems"]),
        "when": told["when"],
        "commit": code["commit"] and code["commit"][:8],
        "dirty": code["dirty"],
    }


def ratios(told: Row) -> Row:
    """Return per file of a bench how much faster the lab is than each tool: median, least, most."""
    keys = ("file", "synthetic", "packets", "spread")
    files = [{key: one[key] for key in keys} for one in told["files"]]
    return {"machine": told["machine"], "files": files}


def grown(told: Row) -> Row:
    """Return the last round of a growth bench, and how much dearer packets became on the way."""
    last = told["rounds"][-1]
    keys = ("packets", "flows", "evicted", "ns_per_packet", "state_bytes")
    return {
        "first_ns_per_packet": told["rounds"][0]["ns_per_packet"],
        "later_by_earlier": told["later_by_earlier"],
        "synthetic": told["synthetic"],
        "machine": told["machine"],
    } | {key: last[key] for key in keys}
