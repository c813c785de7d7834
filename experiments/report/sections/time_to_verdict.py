# SPDX-License-Identifier: BSD-3-Clause
"""Time to verdict: packets and milliseconds until a call's flow had its right verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from midcall.experiments.measure.situations import in_headline
from midcall.experiments.report import charts
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import FlowRow

CALL_ROLES = ("media", "setup")


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section."""
    return {"waits": waits(run)}


def waits(run: Findings) -> dict[str, object]:
    """Return the distributions of packets and milliseconds to a right verdict (real call flows)."""
    right = [
        row
        for row in run["flows"]
        if row["outcome"] == "right" and in_headline(row) and row["truth_role"] in CALL_ROLES
    ]
    return {
        "packets": run.at("verdict", "packets"),
        "ms": run.at("verdict", "ms"),
        "charts": [
            chart
            for chart in (
                _settled(right, "packets", "packets_to_verdict", "payload packets seen", log=False),
                _settled(right, "ms", "ms_to_verdict", "ms since the flow began (log scale)",
                         log=True),
            )
            if chart is not None
        ],
    }  # fmt: skip


def _settled(
    flows: Sequence[FlowRow],
    unit: str,
    column: Literal["packets_to_verdict", "ms_to_verdict"],
    axis: str,
    *,
    log: bool,
) -> charts.Chart | None:
    """Return the cumulative chart of one wait, by role; a log axis draws 0 at 0.1."""
    rows: list[charts.SettledPoint] = []
    for role in CALL_ROLES:
        values = sorted(
            float(wait)
            for row in flows
            if row["truth_role"] == role and (wait := row[column]) is not None
        )
        for value in sorted(set(values)):
            done = sum(one <= value for one in values)
            rows.append(
                {
                    "series": f"{role} flows (n = {len(values)})",
                    "value": max(value, 0.1) if log else value,
                    "share": done / len(values),
                    "tip": f"{role}: {done} of {len(values)} flows settled within {value:g} {unit}",
                }
            )
    if not rows:
        return None
    text = f"Rising steps: share of call flows with their right verdict after so many {unit}."
    for series in dict.fromkeys(row["series"] for row in rows):
        half = next(row for row in rows if row["series"] == series and row["share"] >= 0.5)
        full = [row for row in rows if row["series"] == series][-1]
        text += f" {series}: half within {half['value']:g} {unit}, all within {full['value']:g}."
    title = f"{'Packets' if unit == 'packets' else 'Milliseconds'} to the right verdict"
    return charts.settled(f"{unit}-to-verdict", title, axis, rows, text, log=log)
