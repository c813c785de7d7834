# SPDX-License-Identifier: BSD-3-Clause
"""Your captures: the flows and calls of captures that the user added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from midcall.experiments.report.sections import calls
from midcall.experiments.report.sections.calls import Fate, ShownCall
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import FlowRow


class OwnCapture(TypedDict):
    """A capture of the user, with its flows, its calls, and their verdicts."""

    name: str
    flows: list[FlowRow]
    calls: list[ShownCall]
    fates: list[Fate]


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section."""
    return {"own": own_captures(run, calls.recognised(run), calls.fates(run))}


def own_captures(
    run: Findings, calls: Sequence[ShownCall], fates: Sequence[Fate]
) -> list[OwnCapture]:
    """Return the user's own captures with their flows, calls and verdicts."""
    added = [row["capture"] for row in run["flows"] if row.get("added")]
    added += [row["capture"] for row in run["calls"] if row.get("added")]
    return [
        {
            "name": name,
            "flows": [row for row in run["flows"] if row["capture"] == name],
            "calls": [row for row in calls if row["capture"] == name],
            "fates": [row for row in fates if row["capture"] == name],
        }
        for name in dict.fromkeys(added)
    ]
