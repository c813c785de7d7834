# SPDX-License-Identifier: BSD-3-Clause
"""Figures of disguises: the cost of each variant, the rules it passes, the rule that follows it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from midcall.experiments.cells.evasion_runs import (
    ARM,
    PLAIN,
    EvasionRuns,
    Variant,
    playable_calls,
    rule_sets,
    variants,
)
from midcall.experiments.jobs.progress import Progress
from midcall.experiments.measure.intervals import ratio
from midcall.experiments.results.tables import CollateralRow, DressCostRow, DressedRow, Tables
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.spec import Spec

Row = dict[str, Any]

#: A rule follows a disguise if it blocks at least this share of the disguised calls.
FOLLOWS = 0.9
#: Columns summed over the kinds of innocent traffic of one operator, hypothesis, access and date.
SUMS: tuple[Literal["flows", "hit", "untested", "bytes", "bytes_hit"], ...] = (
    "flows", "hit", "untested", "bytes", "bytes_hit",
)  # fmt: skip


class EvasionResults(NamedTuple):
    """Results of calls in all variants: two tables, `disguises` of summary.json, and errors."""

    tables: Tables
    summary: list[Row]
    errors: list[str]


def wardrobe(
    spec: Spec, grid: Sequence[Cell], items: Sequence[tuple[Item, list[str]]], folder: Path
) -> EvasionRuns | None:
    """Return the runs that the spec's `arms` and `disguises` ask for; None for none.

    items: captures with the ids of the calls that count in them; folder: the cache.
    """
    if not (spec.arms or spec.disguises):
        return None
    sets = rule_sets(grid)
    playable = [(item, calls) for item, ids in items if (calls := playable_calls(item, ids))]
    if not sets or not playable:
        return None
    return EvasionRuns(
        playable, variants(spec.arms, spec.disguises), sets, spec.seed, spec.link, folder
    )


def dress_up(
    spec: Spec,
    grid: Sequence[Cell],
    items: Sequence[tuple[Item, list[str]]],
    collateral: Sequence[CollateralRow],
    folder: Path,
    jobs: int,
    force: bool,
    progress: Callable[[int], Progress],
) -> EvasionResults | None:
    """Play the runs that the spec's `arms` and `disguises` ask for; None for none.

    items: captures with the ids of the calls that count in them.
    """
    runs = wardrobe(spec, grid, items, folder)
    if runs is None:
        return None
    with progress(len(runs.tasks())) as bar:
        tables, errors = runs.played(bar.step, jobs, force)
    summary = figures(runs.dressings, tables, collateral)
    summary = [one | {"errors": errors[one["name"]]} for one in summary]
    return EvasionResults(
        tables, summary, [error for messages in errors.values() for error in messages]
    )


def counted(rows: Sequence[DressedRow]) -> Row:
    """Return n, blocked and inconclusive of rows, and the median MOS of calls that get through."""
    valid = [row for row in rows if row["verdict"] != "INVALID"]
    blocked = sum(row["blocked"] for row in valid)
    unclear = sum(row["verdict"] == "INCONCLUSIVE" for row in valid)
    through = [
        row["mos"]
        for row in valid
        if row["mos"] is not None and not row["blocked"] and row["verdict"] != "INCONCLUSIVE"
    ]
    return {
        "n": len(valid),
        "blocked": blocked,
        "inconclusive": unclear,
        "degraded": sum(row["verdict"] == "DEGRADED" for row in valid),
        "mos": statistics.median(through) if through else None,
        "mos_n": len(through),
    }


def figures(
    variants: Sequence[Variant], tables: Tables, collateral: Sequence[CollateralRow]
) -> list[Row]:
    """Return `disguises` of summary.json: per variant its cost, fate per rule set, follower.

    Only real calls count, or synthetic ones if there are no others (the key `synthetic`).
    """
    invented = all(row["synthetic"] for row in tables["dressed"])
    rows = [row for row in tables["dressed"] if row["synthetic"] == invented]
    costs = [row for row in tables["dress_costs"] if row["synthetic"] == invented]
    hits = prices(collateral)
    return [one_figure(one, rows, costs, hits) | {"synthetic": invented} for one in variants]


def one_figure(
    variant: Variant,
    rows: Sequence[DressedRow],
    costs: Sequence[DressCostRow],
    hits: Mapping[Any, Row],
) -> Row:
    """Return the entry of one variant."""
    groups: dict[tuple[str, str], list[DressedRow]] = defaultdict(list)
    for row in rows:
        if row["dress"] == variant.name:
            groups[row["operator"], row["hypothesis"]].append(row)
    rules = [
        {"operator": operator, "hypothesis": hypothesis, **counted(groups[operator, hypothesis])}
        for operator, hypothesis in dict.fromkeys(
            (row["operator"], row["hypothesis"]) for row in rows
        )
    ]
    played = {(row["capture"], row["call"]) for row in rows if row["dress"] == variant.name}
    plain = {(row["capture"], row["call"]): row for row in costs if row["dress"] == PLAIN}
    paired = [
        row
        for row in costs
        if row["dress"] == variant.name and (row["capture"], row["call"]) in plain
    ]
    before = sum(plain[row["capture"], row["call"]]["bytes"] for row in paired)
    rated = [row["mos"] for row in paired if row["mos"] is not None]
    return {
        "name": variant.name,
        "sort": variant.sort,
        "says": variant.says,
        "needs": variant.needs,
        "calls": len(played),
        "overhead": ratio(sum(row["bytes"] for row in paired) - before, before),
        "overhead_median": middle(
            [
                ratio(row["bytes"] - original["bytes"], original["bytes"])
                for row in paired
                if (original := plain[row["capture"], row["call"]])["bytes"]
            ]
        ),
        "packets_added": sum(row["packets_added"] for row in paired),
        "setup_ms": middle([row["setup_ms"] for row in paired]),
        "delay_ms": middle([row["delay_ms"] for row in paired]),
        "mos": middle(rated),
        "mos_n": len(rated),
        "rules": rules,
        "follower": follower(rules, hits) if variant.sort != ARM else None,
    }


def middle(values: Sequence[float | None]) -> float | None:
    """Return the median of the values that are not None, None without any."""
    known = [value for value in values if value is not None]
    return float(statistics.median(known)) if known else None


def prices(collateral: Sequence[CollateralRow]) -> dict[tuple[str, str], Row]:
    """Return the hits of each rule set on innocent traffic, where it hits most.

    The key is (operator, hypothesis); the maximum is over access networks and dates.
    """
    places: dict[tuple[str, str, str, str], Row] = {}
    for row in collateral:
        place = (row["operator"], row["hypothesis"], row["access"], row["date"])
        low, high = row["all_low"], row["all_high"]
        entry = places.setdefault(
            place,
            dict.fromkeys(SUMS, 0) | {"interval": None if low is None else (low, high)},
        )
        for key in SUMS:
            entry[key] += row[key]
    worst: dict[tuple[str, str], Row] = {}
    for place, entry in places.items():
        if entry["hit"] >= worst.get((place[0], place[1]), {"hit": -1})["hit"]:
            worst[place[0], place[1]] = entry
    return worst


def follower(rules: Sequence[Row], hits: Mapping[Any, Row]) -> Row | None:
    """Return the rule set that blocks FOLLOWS of the calls and hits the least innocent traffic.

    If none blocks so many, the one that blocks most, with `follows` False; None without innocent
    traffic.
    """
    priced = [
        {**{key: rule[key] for key in ("operator", "hypothesis", "n", "blocked")}, **price,
         "share": ratio(price["hit"], price["flows"])}
        for rule in rules
        if rule["n"] and (price := hits.get((rule["operator"], rule["hypothesis"]))) is not None
    ]  # fmt: skip
    if not priced:
        return None
    able = [one for one in priced if one["blocked"] >= FOLLOWS * one["n"]]
    if able:
        return min(able, key=lambda one: (one["share"] or 0.0, -one["blocked"])) | {"follows": True}
    return max(priced, key=lambda one: (one["blocked"], -(one["share"] or 0.0))) | {
        "follows": False
    }
