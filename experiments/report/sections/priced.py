# SPDX-License-Identifier: BSD-3-Clause
"""The price chart of each choice of the reader: one drawing per situation, and per app in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

from midcall.experiments.measure import formatting
from midcall.experiments.measure import situations as mission
from midcall.experiments.measure.formatting import gettext
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
        formatting.of(formatting.count(hits.hit), formatting.count(hits.flows))
        if hits
        else gettext("not measured")
    )
    counts = formatting.of(blocked, n)
    tip_calls = gettext("%(what)s: %(counts)s calls blocked") % {"what": label, "counts": counts}
    if unclear:
        tip_calls += ", "
        tip_calls += formatting.counted("%(num)s cannot tell", "%(num)s cannot tell", unclear)
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
        "tip_calls": tip_calls,
        "tip_flows": gettext("%(what)s: %(counts)s innocent flows hit")
        % {"what": label, "counts": hit},
    }


def words(rows: Sequence[charts.PriceBar]) -> str:
    """Return the chart's text alternative."""
    line = gettext(
        "%(what)s: %(counts)s calls blocked, %(unclear)s cannot tell, %(hit)s innocent flows hit"
    )
    text = "; ".join(
        line
        % {
            "what": one["label"],
            "counts": formatting.of(one["blocked"], one["calls"]),
            "unclear": one["inconclusive"],
            "hit": one["short_flows"],
        }
        for one in rows
    )
    return gettext("Two bars per hypothesis. %(text)s.") % {"text": text}


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
