# SPDX-License-Identifier: BSD-3-Clause
"""Collateral: innocent flows hit, by kind of traffic, where operators block most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import cast

from midcall.experiments.measure import situations
from midcall.experiments.report.sections import answer
from midcall.experiments.report.sections.answer import Lede
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import CollateralRow, KindRate, MixRow, OtherCalls


class Hits(Lede):
    """Innocent flows hit in the situation of a lede.

    protocols: kinds of traffic with a hit, each with (hit, flows) per hypothesis; spared: the
    other kinds, with their flows; totals: of all kinds, per hypothesis.
    """

    hypotheses: list[str]
    protocols: list[tuple[str, list[tuple[int, int] | None]]]
    spared: list[str]
    spared_flows: int
    totals: list[situations.Hits | None]


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section."""
    titles = {row["hypothesis"]: row["hypothesis_title"] for row in run["calls"]}
    return {
        "collateral": collateral(run, answer.answer(run)["ledes"]),
        "titles": titles,
        "mixes": mixes(run.at("collateral", "mixes") or []),
        "kinds": kinds(run.at("collateral", "by_protocol") or []),
        "bystander_calls": others(run),
    }


def collateral(run: Findings, hardest: Sequence[Lede]) -> list[Hits]:
    """Return, where operators block most, innocent flows hit by protocol and hypothesis."""
    tables = []
    for lede in hardest:
        place = lede["situation"].places[0]
        rows = [row for row in run["collateral"] if situations.place_of(row) == place]
        if rows:
            tables.append(_by_protocol(lede, rows))
    return tables


def _by_protocol(lede: Lede, rows: Sequence[CollateralRow]) -> Hits:
    """Return protocols with a hit as rows of (hit, flows) per hypothesis, the others joined."""
    names = list(dict.fromkeys(str(row["hypothesis"]) for row in rows))
    cells: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for row in rows:
        cells[str(row["protocol"])][str(row["hypothesis"])] = (int(row["hit"]), int(row["flows"]))
    hit = [name for name, counts in cells.items() if any(n for n, _ in counts.values())]
    spared = [name for name in cells if name not in hit]
    hit.sort(key=lambda name: -max(n for n, _ in cells[name].values()))
    return {
        **lede,
        "hypotheses": names,
        "protocols": [(name, [cells[name].get(one) for one in names]) for name in hit],
        "spared": sorted(spared),
        "spared_flows": max(
            (sum(cells[name].get(one, (0, 0))[1] for name in spared) for one in names), default=0
        ),
        "totals": [situations.hits_of(row for row in rows if row["hypothesis"] == one)
                   for one in names],
    }  # fmt: skip


def mixes(rows: Sequence[MixRow]) -> dict[str, object]:
    """Return, per hypothesis where it hits most, the row of each share of call flows.

    A line has a row under each share (a float), its hypothesis and its operators.
    """
    by_hypothesis: dict[tuple[str, str], dict[float, MixRow]] = {}
    for row in rows:
        key = (row["operator"], row["hypothesis"])
        by_hypothesis.setdefault(key, {})[row["share"]] = row
    shares = sorted({row["share"] for row in rows})
    lines: list[Mapping[str, object]] = []
    sizes: list[tuple[float, ...]] = []
    for (operator, hypothesis), by_share in by_hypothesis.items():
        if all(share in by_share for share in shares):
            line: dict[str | float, object] = {"hypothesis": hypothesis, "operator": operator}
            for share in by_share:
                line[share] = by_share[share]
            lines.append(cast("Mapping[str, object]", line))
            sizes.append(tuple(by_share[share]["flows_per_million"] for share in shares))
    return {"shares": shares, "lines": joined(lines, sizes)}


def kinds(rows: Sequence[KindRate]) -> list[dict[str, object]]:
    """Return, per hypothesis and kind of traffic, the flows hit where most are."""
    sizes = [(row["protocol"], row["hit"], row["flows"], row["bytes_hit"]) for row in rows]
    return joined(rows, sizes)


def others(run: Findings) -> list[dict[str, object]]:
    """Return, per hypothesis where it costs most, calls blocked that were no target, and by app."""
    lines, sizes = [], []
    rows: list[OtherCalls] = run.at("collateral", "calls") or []
    for row in rows:
        place = row["hypothesis"], situations.place_of(row)
        affected = [
            one
            for one in run["bystander_calls"]
            if (one["hypothesis"], situations.place_of(one)) == place
            and (one["blocked"] or one["degraded"] or one["seconds_lost"])
        ]
        lines.append({**row, "apps": affected})
        sizes.append((row["blocked"], row["calls"], row["degraded"], row["seconds_lost"]))
    return joined(lines, sizes)


def joined(
    rows: Sequence[Mapping[str, object]], sizes: Sequence[tuple[object, ...]]
) -> list[dict[str, object]]:
    """Return rows in which operators share one where hypothesis and sizes are the same.

    rows: with the columns `hypothesis` and `operator`; the result has `operators` too.
    """
    lines: dict[tuple[object, object], dict[str, object]] = {}
    operators: dict[tuple[object, object], list[object]] = defaultdict(list)
    for row, size in zip(rows, sizes, strict=True):
        key = (row["hypothesis"], size)
        lines.setdefault(key, {**row, "operators": operators[key]})
        operators[key].append(row["operator"])
    return list(lines.values())
