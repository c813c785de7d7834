# SPDX-License-Identifier: BSD-3-Clause
"""Captures and provenance: what was replayed, what is missing, and how the run was made."""

from __future__ import annotations

from typing import Any

from midcall.experiments.measure import formatting
from midcall.experiments.report.sections.facts import facts
from midcall.experiments.results.reader import Findings

Table = dict[str, Any]

CAPTURE_FACTS = ("capture", "sha256", "year", "group", "synthetic", "added", "innocent")
#: Parts of provenance.json that the page lists in tables of their own.
LISTED_ABOVE = ("captures", "missing", "machine")


def build(run: Findings) -> Table:
    """Return what the section shows."""
    told = {name: held for name, held in run.provenance.items() if name not in LISTED_ABOVE}
    return {"captures": captures(run), "provenance": facts(told), "spec_text": run.spec_text}


def captures(run: Findings) -> Table:
    """Return one row per capture with its hash, the missing ones, and the files that were cut."""
    held: dict[str, Table] = {}
    for row in run["flows"]:
        entry = held.setdefault(
            row["capture"],
            {key: row.get(key) for key in CAPTURE_FACTS} | {"flows": 0, "packets": 0, "bytes": 0},
        )
        entry["flows"] += 1
        entry["packets"] += int(row["packets"] or 0)
        entry["bytes"] += int(row["bytes"] or 0)
    return {
        "rows": sorted(held.values(), key=lambda row: (bool(row["synthetic"]), row["capture"])),
        "missing": reasons(run.at("captures", "missing_list") or run.at("captures", "missing")),
        "notices": [str(notice) for notice in run.at("warnings") or []],
        "copies": [str(name) for name in run.at("captures", "copies") or []],
        "real": run.at("captures", "real"),
        "recorded": run.at("captures", "recorded"),
        "synthetic": run.at("captures", "synthetic"),
        "added": run.at("captures", "added"),
    }


def reasons(value: Any) -> list[tuple[str, str]]:
    """Return (name, reason) pairs of missing captures, from their list or from a bare count."""
    if isinstance(value, int) and value:
        return [(formatting.plural(value, "capture"), "no reason recorded")]
    if not isinstance(value, list):
        return []
    return [
        (str(entry.get("capture") or entry.get("sha256")), str(entry.get("reason") or ""))
        for entry in value
    ]
