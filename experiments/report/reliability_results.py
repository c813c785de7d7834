# SPDX-License-Identifier: BSD-3-Clause
"""The latest results of the lab's own proofs and benches, for the report of a run.

A proof writes `reliability/NAME.json` below the runs (docs/explanation/reliability.md), fuzzing
`fuzz/latest.json`, a soak `soak/latest.json`, the offline benches `bench.json` and
`bench-growth.json` next to the folder of runs. A file that is missing or cannot be read is left
out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from midcall.experiments.results.tables import Document

Shown = TypeVar("Shown")

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


def budgeted(result: Document) -> str:
    """Return the figures of a budget, and the goals that are missed, as text."""
    missed = [name for name, met in result["goals"].items() if not met]
    figures = f"{result['seconds']:.1f} s, {result['peak_bytes'] / 1e9:.2f} GB"
    return figures + (f" (goal missed: {', '.join(missed)})" if missed else " (both goals met)")


def counted(result: Document) -> str:
    """Return the instructions per packet as text."""
    return ", ".join(f"{part} {count:,.0f}" for part, count in result["per_packet"].items())


#: Rows of a bench that are the lab's path, too: their `times` is the speed-up over one core.
OWN = ("two_cores", "two_passes")

#: Proof -> its figures as text.
FIGURES: dict[str, Callable[[Document], str]] = {
    "budget": budgeted,
    "instructions": counted,
    "faults": lambda result: f"{result['kills']} kills",
}


def pooled(runs: Path) -> Document | None:
    """Return `proofs` of summary.json, the latest result of each proof; None without any."""
    paths = sorted((runs / "reliability").glob("*.json"))
    proofs = [row for path in paths if (row := kept(path, proof))]
    parent = runs.resolve().parent
    others = {
        "fuzz": kept(runs / "fuzz" / "latest.json", fuzzing),
        "soak": kept(runs / "soak" / "latest.json", soaked),
        "bench": kept(parent / "bench.json", ratios),
        "growth": kept(parent / "bench-growth.json", grown),
    }
    if not proofs and not any(others.values()):
        return None
    return {"proofs": proofs, **others}


def kept(path: Path, shown: Callable[[Document], Shown]) -> Shown | None:
    """Return the shown part of a result, None where there is none that can be read.

    Results stay in their files: an earlier version may have written them in another form.
    """
    try:
        return shown(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def fuzzing(result: Document) -> Document:
    """Return the shown part of a fuzzing session."""
    return {key: result[key] for key in ("mutated", "files", "finding", "ended")}


def proof(result: Document) -> Document:
    """Return the shown part of a proof."""
    name, code = str(result["proof"]), result["code"]
    return {
        "proof": name,
        "promise": PROMISES.get(name, name),
        "held": result["held"],
        "problems": len(result["problems"]),
        "figures": FIGURES[name](result) if name in FIGURES else "",
        "when": result["when"],
        "commit": code["commit"] and code["commit"][:8],
        "dirty": code["dirty"],
    }


def ratios(result: Document) -> Document:
    """Return the shown part of a bench: each tool's figures on each file, and the start-up."""
    files = [
        {
            "file": one["file"],
            "made_of": one["made_of"],
            "synthetic": one["synthetic"],
            "too_slow": one.get("too_slow", []),
            "tools": [of_tool(one, name) for name in one["tools"]],
        }
        for one in result["files"]
    ]
    return {"machine": result["machine"], "files": files, "start_up": result.get("start_up")}


def of_tool(file: Document, name: str) -> Document:
    """Return a tool's figures on a file of a bench; `times`: the lab's speed over the tool's."""
    keys = ("packets", "packets_per_s", "peak_memory_bytes", "state_bytes_per_flow")
    figures = {key: file["tools"][name][key] for key in keys}
    return {"tool": name, "times": file["spread"].get(name)} | figures


def soaked(result: Document) -> Document:
    """Return the shown part of a soak."""
    keys = (
        "sent", "lost", "windows_not_offered", "lost_not_offered", "memory_bytes_per_hour",
        "latency_drift", "problems",
    )  # fmt: skip
    shown = {key: result["summary"][key] for key in keys}
    minutes = result["summary"]["windows"] * result["window_s"] / 60
    return shown | {"minutes": minutes, "rate_pps": result["rate_pps"], "began": result["began"]}


def grown(result: Document) -> Document:
    """Return the last round of a growth bench, and the growth of the time per packet."""
    last = result["rounds"][-1]
    keys = ("packets", "flows", "evicted", "ns_per_packet", "state_bytes")
    return {
        "first_ns_per_packet": result["rounds"][0]["ns_per_packet"],
        "later_by_earlier": result["later_by_earlier"],
        "synthetic": result["synthetic"],
        "machine": result["machine"],
        "rounds": [{key: row[key] for key in keys} for row in result["rounds"]],
    } | {key: last[key] for key in keys}
