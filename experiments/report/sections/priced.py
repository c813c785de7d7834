# SPDX-License-Identifier: BSD-3-Clause
"""The price chart for what a reader chooses: one drawing per situation, and per app in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from midcall.experiments.measure import formatting
from midcall.experiments.measure import situations as mission
from midcall.experiments.measure.intervals import ratio
from midcall.experiments.report import charts

Table = dict[str, Any]


def row(line: mission.Line, operators: Sequence[str], app: str = "") -> Table:
    """Return one hypothesis of the chart: calls of an app ("": of all), and bystanders hit."""
    names = formatting.listed(formatting.operator_name(operator) for operator in operators)
    label = f"{names}: {line.title}" if names else line.title
    held = [tally for column, tally in line.tallies.items() if app in ("", column.app)]
    n = sum(tally.n for tally in held) if app else line.total.n
    struck = sum(tally.blocked for tally in held) if app else line.total.blocked
    unclear = sum(tally.inconclusive for tally in held) if app else line.total.inconclusive
    hits = line.hits
    hit = (
        f"{formatting.count(hits.hit)} of {formatting.count(hits.flows)}"
        if hits
        else "not measured"
    )
    blocked = f"{struck} of {n}"
    unknown = f", {unclear} cannot tell" if unclear else ""
    return {
        "label": label,
        "hypothesis": line.hypothesis,
        "blocked": struck,
        "inconclusive": unclear,
        "calls": n,
        "blocked_share": ratio(struck, n) or 0.0,
        "hit": hits.hit if hits else None,
        "flows": hits.flows if hits else None,
        "hit_share": (ratio(hits.hit, hits.flows) or 0.0) if hits else None,
        "reach": (ratio(struck, n) or 0.0) + (ratio(unclear, n) or 0),
        "short_calls": blocked + (f", {unclear} ?" if unclear else ""),
        "short_flows": hit,
        "tip_calls": f"{label}: {blocked} calls blocked{unknown}",
        "tip_flows": f"{label}: {hit} innocent flows hit",
    }


def words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the chart's text alternative."""
    told = "; ".join(
        f"{one['label']}: {one['blocked']} of {one['calls']} calls blocked, "
        f"{one['inconclusive']} cannot tell, {one['short_flows']} innocent flows hit"
        for one in rows
    )
    return f"Two bars per hypothesis. {told}."


def variants(situations: Sequence[mission.Situation]) -> Iterator[Table]:
    """Yield a drawing per situation in which something is blocked, for all apps and for each."""
    for number, situation in enumerate(situations):
        if situation.quiet:
            continue
        apps = {column.app for line in situation.lines for column in line.tallies}
        for app in ("", *sorted(apps)):
            rows = [row(line, [], app) for line in situation.lines]
            wide, narrow = charts.price_pictures(
                f"price-{number}-{app or 'all'}", rows, words(rows)
            )
            yield {
                "situation": situation, "app": app, "wide": wide, "narrow": narrow,
            }  # fmt: skip
