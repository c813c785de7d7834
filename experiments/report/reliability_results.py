# SPDX-License-Identifier: BSD-3-Clause
"""Proofs: what the lab's own proofs and benches last gave, for the report of a run beside them.

A proof writes `reliability/NAME.json` below the runs (docs/explanation/reliability.md), fuzzing
`fuzz/latest.json`, a soak `soak/latest.json`, the offline benches `bench.json` and
`bench-growth.json` beside them. What is not there, or cannot be read, was not proven.
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


def budgeted(told: Row) -> str:
    """Say what a budget measured, and of what its goal is missed."""
    missed = [name for name, met in told["goals"].items() if not met]
    said = f"{told['seconds']:.1f} s, {told['peak_bytes'] / 1e9:.2f} GB"
    return said + (f" (goal missed: {', '.join(missed)})" if missed else " (both goals met)")


def counted(told: Row) -> str:
    """Say how many instructions a packet takes."""
    return ", ".join(f"{part} {count:,.0f}" for part, count in told["per_packet"].items())


#: Rows of a bench that are the lab's path, too: their `times` says how many times faster than on
#: one core they are, not how many times slower.
OWN = ("two_cores", "two_passes")

#: Proof -> what it says beside whether it held.
FIGURES: dict[str, Callable[[Row], str]] = {
    "budget": budgeted,
    "instructions": counted,
    "faults": lambda told: f"{told['kills']} kills",
}


def pooled(runs: Path) -> Row | None:
    """Return `proofs` of summary.json, what each proof last gave; None where there is nothing."""
    paths = sorted((runs / "reliability").glob("*.json"))
    held = [row for path in paths if (row := kept(path, proof))]
    near = runs.resolve().parent
    found = {
        "fuzz": kept(runs / "fuzz" / "latest.json", fuzzing),
        "soak": kept(runs / "soak" / "latest.json", soaked),
        "bench": kept(near / "bench.json", ratios),
        "growth": kept(near / "bench-growth.json", grown),
    }
    if not held and not any(found.values()):
        return None
    return {"proofs": held, **found}


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
        "figures": FIGURES[name](told) if name in FIGURES else "",
        "when": told["when"],
        "commit": code["commit"] and code["commit"][:8],
        "dirty": code["dirty"],
    }


def ratios(told: Row) -> Row:
    """Return what is shown of a bench: per file each tool's figures, and the command's start-up."""
    files = [
        {
            "file": one["file"],
            "made_of": one["made_of"],
            "synthetic": one["synthetic"],
            "too_slow": one.get("too_slow", []),
            "tools": [beside(one, name) for name in one["tools"]],
        }
        for one in told["files"]
    ]
    return {"machine": told["machine"], "files": files, "start_up": told.get("start_up")}


def beside(file: Row, name: str) -> Row:
    """Return a tool's figures on a file of a bench; `times`: how many times faster the lab is."""
    keys = ("packets", "packets_per_s", "peak_memory_bytes", "state_bytes_per_flow")
    figures = {key: file["tools"][name][key] for key in keys}
    return {"tool": name, "times": file["spread"].get(name)} | figures


def soaked(told: Row) -> Row:
    """Return what is shown of a soak."""
    keys = (
        "sent", "lost", "windows_not_offered", "lost_not_offered", "memory_bytes_per_hour",
        "latency_drift", "problems",
    )  # fmt: skip
    held = {key: told["summary"][key] for key in keys}
    minutes = told["summary"]["windows"] * told["window_s"] / 60
    return held | {"minutes": minutes, "rate_pps": told["rate_pps"], "began": told["began"]}


def grown(told: Row) -> Row:
    """Return the last round of a growth bench, and how much dearer packets became on the way."""
    last = told["rounds"][-1]
    keys = ("packets", "flows", "evicted", "ns_per_packet", "state_bytes")
    return {
        "first_ns_per_packet": told["rounds"][0]["ns_per_packet"],
        "later_by_earlier": told["later_by_earlier"],
        "synthetic": told["synthetic"],
        "machine": told["machine"],
        "rounds": [{key: row[key] for key in keys} for row in told["rounds"]],
    } | {key: last[key] for key in keys}
