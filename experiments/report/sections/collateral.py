# SPDX-License-Identifier: BSD-3-Clause
"""Collateral: innocent flows hit, by kind of traffic, where operators block most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from midcall.experiments.measure import situations
from midcall.experiments.report.sections import answer
from midcall.experiments.results.reader import Findings

Row = Mapping[str, Any]
Table = dict[str, Any]


def build(run: Findings) -> Table:
    """Return what the section shows."""
    titles = {row["hypothesis"]: row["hypothesis_title"] for row in run["calls"]}
    return {
        "collateral": collateral(run, answer.answer(run)["ledes"]),
        "titles": titles,
        "mixes": mixes(run.at("collateral", "mixes") or []),
        "kinds": kinds(run.at("collateral", "by_protocol") or []),
        "bystander_calls": others(run),
    }


def collateral(run: Findings, told: Sequence[Row]) -> list[Table]:
    """Return, where operators block most, innocent flows hit by protocol and hypothesis."""
    tables = []
    for lede in told:
        place = lede["situation"].places[0]
        rows = [row for row in run["collateral"] if situations.place_of(row) == place]
        if rows:
            tables.append({**lede, **_by_protocol(rows)})
    return tables


def _by_protocol(rows: Sequence[Row]) -> Table:
    """Return protocols with a hit as rows of (hit, flows) per hypothesis, the others joined."""
    names = list(dict.fromkeys(str(row["hypothesis"]) for row in rows))
    cells: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for row in rows:
        cells[str(row["protocol"])][str(row["hypothesis"])] = (int(row["hit"]), int(row["flows"]))
    struck = [name for name, held in cells.items() if any(hit for hit, _ in held.values())]
    spared = [name for name in cells if name not in struck]
    struck.sort(key=lambda name: -max(hit for hit, _ in cells[name].values()))
    return {
        "hypotheses": names,
        "protocols": [(name, [cells[name].get(one) for one in names]) for name in struck],
        "spared": sorted(spared),
        "spared_flows": max(
            (sum(cells[name].get(one, (0, 0))[1] for name in spared) for one in names), default=0
        ),
        "totals": [situations.hits_of(row for row in rows if row["hypothesis"] == one)
                   for one in names],
    }  # fmt: skip


def mixes(rows: Sequence[Row]) -> Table:
    """Return, per hypothesis where it hits most, what is hit at each share of call flows."""
    found: dict[tuple[Any, ...], Table] = {}
    for row in rows:
        key = (row["operator"], row["hypothesis"])
        found.setdefault(key, {"hypothesis": row["hypothesis"], "operator": row["operator"]})[
            row["share"]
        ] = row
    shares = sorted({row["share"] for row in rows})
    lines = [line for line in found.values() if all(share in line for share in shares)]
    sizes = [tuple(line[share]["flows_per_million"] for share in shares) for line in lines]
    return {"shares": shares, "lines": joined(lines, sizes)}


def kinds(rows: Sequence[Row]) -> list[Table]:
    """Return, per hypothesis and kind of traffic, what is hit of it where most is."""
    sizes = [(row["protocol"], row["hit"], row["flows"], row["bytes_hit"]) for row in rows]
    return joined(rows, sizes)


def others(run: Findings) -> list[Table]:
    """Return, per hypothesis where it costs most, other people's calls blocked, and by app."""
    lines, sizes = [], []
    for row in run.at("collateral", "calls") or []:
        place = row["hypothesis"], situations.place_of(row)
        own = [
            one
            for one in run["bystander_calls"]
            if (one["hypothesis"], situations.place_of(one)) == place
        ]
        hurt = [one for one in own if one["blocked"] or one["degraded"] or one["seconds_lost"]]
        lines.append({**row, "apps": hurt})
        sizes.append((row["blocked"], row["calls"], row["degraded"], row["seconds_lost"]))
    return joined(lines, sizes)


def joined(rows: Sequence[Row], sizes: Sequence[Any]) -> list[Table]:
    """Return rows in which operators share one where hypothesis and sizes are the same."""
    found: dict[tuple[Any, ...], Table] = {}
    for row, size in zip(rows, sizes, strict=True):
        line = found.setdefault((row["hypothesis"], size), {**row, "operators": []})
        line["operators"].append(row["operator"])
    return list(found.values())
