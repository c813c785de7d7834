# SPDX-License-Identifier: BSD-3-Clause
"""The price chart of each choice of the reader: one drawing per situation, and per app in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

from midcall.experiments.measure import formatting
from midcall.experiments.measure import situations as mission
from midcall.experiments.measure.intervals import ratio
from midcall.experiments.report import charts


class Variant(TypedDict):
    """The price chart of a situation as SVG for both widths; app: "" for all."""

    situation: mission.Situation
    app: str
    wide: str
    narrow: str


def row(line: mission.Line, operators: Sequence[str], app: str = "") -> charts.PriceBar:
    """Return one hypothesis of the chart: calls of an app ("": of all), and innocent flows hit."""
    names = formatting.listed(formatting.operator_name(operator) for operator in operators)
    label = f"{names}: {line.title}" if names else line.title
    tallies = [tally for column, tally in line.tallies.items() if app in ("", column.app)]
    n = sum(tally.n for tally in tallies) if app else line.total.n
    blocked = sum(tally.blocked for tally in tallies) if app else line.total.blocked
    unclear = sum(tally.inconclusive for tally in tallies) if app else line.total.inconclusive
    hits = line.hits
    hit = (
        f"{formatting.count(hits.hit)} of {formatting.count(hits.flows)}"
        if hits
        else "not measured"
    )
    counts = f"{blocked} of {n}"
    unknown = f", {unclear} cannot tell" if unclear else ""
    return {
        "label": label,
        "hypothesis": line.hypothesis,
        "blocked": blocked,
        "inconclusive": unclear,
        "calls": n,
        "blocked_share": ratio(blocked, n) or 0.0,
        "hit": hits.hit if hits else None,
        "flows": hits.flows if hits else None,
        "hit_share": (ratio(hits.hit, hits.flows) or 0.0) if hits else None,
        "reach": (ratio(blocked, n) or 0.0) + (ratio(unclear, n) or 0),
        "short_calls": counts + (f", {unclear} ?" if unclear else ""),
        "short_flows": hit,
        "tip_calls": f"{label}: {counts} calls blocked{unknown}",
        "tip_flows": f"{label}: {hit} innocent flows hit",
    }


def words(rows: Sequence[charts.PriceBar]) -> str:
    """Return the chart's text alternative."""
    text = "; ".join(
        f"{one['label']}: {one['blocked']} of {one['calls']} calls blocked, "
        f"{one['inconclusive']} cannot tell, {one['short_flows']} innocent flows hit"
        for one in rows
    )
    return f"Two bars per hypothesis. {text}."


def variants(situations: Sequence[mission.Situation]) -> Iterator[Variant]:
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
