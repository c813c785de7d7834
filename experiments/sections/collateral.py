# SPDX-License-Identifier: BSD-3-Clause
"""Collateral: innocent flows hit, by kind of traffic, where operators block most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import mission
from experiments.findings import Findings
from experiments.sections import answer

Row = Mapping[str, Any]
Table = dict[str, Any]


def build(run: Findings) -> Table:
    """Return what the section shows."""
    return {"collateral": collateral(run, answer.answer(run)["ledes"])}


def collateral(run: Findings, told: Sequence[Row]) -> list[Table]:
    """Return, where operators block most, innocent flows hit by protocol and hypothesis."""
    tables = []
    for lede in told:
        place = lede["situation"].places[0]
        rows = [row for row in run["collateral"] if mission.place_of(row) == place]
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
        "totals": [mission.hits_of(row for row in rows if row["hypothesis"] == one)
                   for one in names],
    }  # fmt: skip
