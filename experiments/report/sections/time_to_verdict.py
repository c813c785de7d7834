# SPDX-License-Identifier: BSD-3-Clause
"""Time to verdict: packets and milliseconds until a call's flow had its right verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from midcall.experiments.measure.formatting import N_, gettext, of, role_name, written
from midcall.experiments.measure.situations import in_headline
from midcall.experiments.report import charts
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import FlowRow

CALL_ROLES = ("media", "setup")


class Words(NamedTuple):
    """The words of a chart: its unit, its title and the title of its axis."""

    unit: str
    title: str
    axis: str


PACKETS = Words(
    N_("packets"), N_("Packets to the right verdict"), N_("packets with payload so far")
)
MILLISECONDS = Words(
    N_("ms"),
    N_("Milliseconds to the right verdict"),
    N_("ms since the flow began (log scale)"),
)


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
                _settled(right, "packets", "packets_to_verdict", PACKETS, log=False),
                _settled(right, "ms", "ms_to_verdict", MILLISECONDS, log=True),
            )
            if chart is not None
        ],
    }  # fmt: skip


def _settled(
    flows: Sequence[FlowRow],
    name: str,
    column: Literal["packets_to_verdict", "ms_to_verdict"],
    words: Words,
    *,
    log: bool,
) -> charts.Chart | None:
    """Return the cumulative chart of one wait, by role; a log axis draws 0 at 0.1."""
    unit = gettext(words.unit)
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
                    "series": gettext("%(role)s flows (n = %(n)s)")
                    % {"role": role_name(role), "n": len(values)},
                    "value": max(value, 0.1) if log else value,
                    "share": done / len(values),
                    "tip": gettext("%(role)s: %(counts)s flows decided within %(value)s %(unit)s")
                    % {
                        "role": role_name(role),
                        "counts": of(done, len(values)),
                        "value": written(f"{value:g}"),
                        "unit": unit,
                    },
                }
            )
    if not rows:
        return None
    text = gettext(
        "Rising steps: share of call flows with their right verdict after some %(unit)s."
    )
    text %= {"unit": unit}
    for series in dict.fromkeys(row["series"] for row in rows):
        half = next(row for row in rows if row["series"] == series and row["share"] >= 0.5)
        full = [row for row in rows if row["series"] == series][-1]
        more = gettext("%(series)s: half within %(half)s %(unit)s, all within %(full)s.") % {
            "series": series,
            "half": written(f"{half['value']:g}"),
            "full": written(f"{full['value']:g}"),
            "unit": unit,
        }
        text += f" {more}"
    title, axis = gettext(words.title), gettext(words.axis)
    return charts.settled(f"{name}-to-verdict", title, axis, rows, text, log=log)
