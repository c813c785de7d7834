# SPDX-License-Identifier: BSD-3-Clause
"""Collateral: innocent flows hit, by kind of traffic, where operators block most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from midcall.experiments.measure import situations
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import CollateralRow, KindRate, MixRow, OtherCalls


class Spared(NamedTuple):
    """Kinds of traffic of which nothing is hit, and their flows."""

    kinds: list[str]
    flows: int


class HitsRow(NamedTuple):
    """A hypothesis: (hit, flows) per kind of traffic, None where it has none, and in all."""

    hypothesis: str
    title: str
    cells: list[tuple[int, int] | None]
    total: situations.Hits | None


class HitsTable(NamedTuple):
    """Innocent flows hit in a situation, by hypothesis and kind of traffic.

    hardest: whether an operator blocks most there; kinds: those with a hit, most hit first.
    """

    situation: situations.Situation
    hardest: bool
    kinds: list[str]
    rows: list[HitsRow]
    spared: Spared


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section."""
    titles = {row["hypothesis"]: row["hypothesis_title"] for row in run["calls"]}
    return {
        "collateral": collateral(run),
        "titles": titles,
        "worst": run.at("collateral", "worst"),
        "mixes": mixes(run.at("collateral", "mixes") or []),
        "kinds": kinds(run.at("collateral", "by_protocol") or []),
        "bystander_calls": others(run),
    }


def collateral(run: Findings) -> list[HitsTable]:
    """Return a table per situation in which something is blocked or hit, hardest ones first."""
    real = [row for row in situations.documented(run["calls"]) if situations.in_headline(row)]
    groups = situations.situations(real, run["collateral"])
    most = {id(one.situation) for one in situations.hardest(groups)}
    by_place: dict[situations.Place, list[CollateralRow]] = defaultdict(list)
    for row in run["collateral"]:
        by_place[situations.place_of(row)].append(row)
    tables = [
        by_protocol(one, id(one) in most, by_place[one.places[0]])
        for one in groups
        if by_place[one.places[0]] and (not one.quiet or id(one) in most)
    ]
    return sorted(tables, key=lambda one: not one.hardest)


def by_protocol(
    situation: situations.Situation, hardest: bool, rows: Sequence[CollateralRow]
) -> HitsTable:
    """Return the table of a situation; rows: of one of its places."""
    cells: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for row in rows:
        cells[str(row["protocol"])][str(row["hypothesis"])] = (int(row["hit"]), int(row["flows"]))
    hit = [name for name, counts in cells.items() if any(n for n, _ in counts.values())]
    hit.sort(key=lambda name: -max(n for n, _ in cells[name].values()))
    spared = sorted(name for name in cells if name not in hit)
    lines = {line.hypothesis: line for line in situation.lines}
    names = [name for name in lines if any(row["hypothesis"] == name for row in rows)]
    flows = [sum(cells[name].get(one, (0, 0))[1] for name in spared) for one in names]
    return HitsTable(
        situation,
        hardest,
        hit,
        [
            HitsRow(
                one,
                lines[one].title,
                [cells[name].get(one) for name in hit],
                situations.hits_of(row for row in rows if row["hypothesis"] == one),
            )
            for one in names
        ],
        Spared(spared, max(flows, default=0)),
    )


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
