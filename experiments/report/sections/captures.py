# SPDX-License-Identifier: BSD-3-Clause
"""Captures and provenance: what was replayed, what is missing, and how the run was made."""

from __future__ import annotations

from midcall.experiments.measure import formatting
from midcall.experiments.report.sections.facts import facts
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import CaptureFacts


class ShownCapture(CaptureFacts):
    """A capture with the sums of its flows."""

    flows: int
    packets: int
    bytes: int


#: Parts of provenance.json that the page lists in tables of their own.
LISTED_ABOVE = ("captures", "missing", "machine")


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section."""
    rest = {name: value for name, value in run.provenance.items() if name not in LISTED_ABOVE}
    return {"captures": captures(run), "provenance": facts(rest), "spec_text": run.spec_text}


def captures(run: Findings) -> dict[str, object]:
    """Return one row per capture with its hash, the missing ones, and the files that were cut."""
    shown: dict[str, ShownCapture] = {}
    for row in run["flows"]:
        entry = shown.setdefault(
            row["capture"],
            {
                "capture": row["capture"],
                "sha256": row.get("sha256"),
                "year": row.get("year"),
                "group": row.get("group"),
                "synthetic": row.get("synthetic"),
                "added": row.get("added"),
                "innocent": row.get("innocent"),
                "flows": 0,
                "packets": 0,
                "bytes": 0,
            },
        )
        entry["flows"] += 1
        entry["packets"] += int(row["packets"] or 0)
        entry["bytes"] += int(row["bytes"] or 0)
    return {
        "rows": sorted(shown.values(), key=lambda row: (bool(row["synthetic"]), row["capture"])),
        "missing": reasons(run.at("captures", "missing_list") or run.at("captures", "missing")),
        "notices": [str(notice) for notice in run.at("warnings") or []],
        "copies": [str(name) for name in run.at("captures", "copies") or []],
        "real": run.at("captures", "real"),
        "recorded": run.at("captures", "recorded"),
        "synthetic": run.at("captures", "synthetic"),
        "added": run.at("captures", "added"),
    }


def reasons(value: object) -> list[tuple[str, str]]:
    """Return (name, reason) pairs of missing captures, from their list or from a bare count."""
    if isinstance(value, int) and value:
        name = formatting.counted("%(num)s capture", "%(num)s captures", value)
        return [(name, "no reason recorded")]
    if not isinstance(value, list):
        return []
    return [
        (str(entry.get("capture") or entry.get("sha256")), str(entry.get("reason") or ""))
        for entry in value
    ]
