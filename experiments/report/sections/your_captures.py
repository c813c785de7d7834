# SPDX-License-Identifier: BSD-3-Clause
"""Your captures: what became of the calls that the user added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from midcall.experiments.report.sections import calls
from midcall.experiments.results.reader import Findings

Row = Mapping[str, Any]
Table = dict[str, Any]


def build(run: Findings) -> Table:
    """Return what the section shows."""
    return {"own": own_captures(run, calls.recognised(run), calls.fates(run))}


def own_captures(run: Findings, calls: Sequence[Row], told: Sequence[Row]) -> list[Table]:
    """Return the user's own captures with their flows, calls and fates."""
    names: dict[str, None] = {}
    for row in (*run["flows"], *run["calls"]):
        if row.get("added"):
            names[row["capture"]] = None
    return [
        {
            "name": name,
            "flows": [row for row in run["flows"] if row["capture"] == name],
            "calls": [row for row in calls if row["capture"] == name],
            "fates": [row for row in told if row["capture"] == name],
        }
        for name in names
    ]
