# SPDX-License-Identifier: BSD-3-Clause
"""Rows of the price chart: calls blocked and innocent flows hit by each hypothesis."""

from __future__ import annotations

from collections.abc import Sequence

from midcall.experiments.measure import formatting
from midcall.experiments.measure.intervals import ratio
from midcall.experiments.measure.situations import Line
from midcall.experiments.report import charts


def row(line: Line, operators: Sequence[str]) -> charts.PriceBar:
    """Return one hypothesis of the chart; operators: those that its label names."""
    names = formatting.listed(formatting.operator_name(operator) for operator in operators)
    label = f"{names}: {line.title}" if names else line.title
    total, hits = line.total, line.hits
    n, blocked, unclear = total.n, total.blocked, total.inconclusive
    hit = (
        formatting.of(formatting.count(hits.hit), formatting.count(hits.flows))
        if hits
        else "not measured"
    )
    counts = formatting.of(blocked, n)
    return {
        "label": label,
        "hypothesis": line.hypothesis,
        "blocked": blocked,
        "inconclusive": unclear,
        "calls": n,
        "blocked_share": ratio(blocked, n) or 0.0,
        "hit": hits.hit if hits else None,
        "flows": hits.flows if hits else None,
        "hit_share": (ratio(hits.hit, hits.tested) or 0.0) if hits else None,
        "reach": (ratio(blocked, n) or 0.0) + (ratio(unclear, n) or 0),
        "short_calls": counts + (f", {unclear} ?" if unclear else ""),
        "short_flows": hit,
        "tip_calls": f"{label}: {counts} calls blocked, {unclear} cannot tell",
        "tip_flows": f"{label}: {hit} innocent flows hit",
    }


def words(rows: Sequence[charts.PriceBar]) -> str:
    """Return the chart's text alternative."""
    text = "; ".join(
        f"{one['label']}: {formatting.of(one['blocked'], one['calls'])} calls blocked, "
        f"{one['inconclusive']} cannot tell, {one['short_flows']} innocent flows hit"
        for one in rows
    )
    return f"Two bars per hypothesis. {text}."
