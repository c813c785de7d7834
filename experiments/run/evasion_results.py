# SPDX-License-Identifier: BSD-3-Clause
"""Disguises in figures: what each dress costs, which rules it passes, which rule follows it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from midcall.experiments.cells.evasion_runs import (
    ARM,
    PLAIN,
    Dressing,
    Wardrobe,
    dressings,
    rule_sets,
    talks,
)
from midcall.experiments.jobs.progress import Progress
from midcall.experiments.measure.intervals import ratio
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.spec import Spec

Row = dict[str, Any]

#: A rule follows a disguise where it blocks at least this share of the calls that wear it.
FOLLOWS = 0.9
#: What is added up over the kinds of innocent traffic of a place.
SUMS = ("flows", "hit", "bytes", "bytes_hit")


class Told(NamedTuple):
    """What came of calls in all dresses: two tables, `disguises` of summary.json, and errors."""

    tables: dict[str, list[Row]]
    summary: list[Row]
    errors: list[str]


def wardrobe(
    spec: Spec, grid: Sequence[Cell], held: Sequence[tuple[Item, list[str]]], folder: Path
) -> Wardrobe | None:
    """Return what the spec's `arms` and `disguises` order; None for nothing.

    held: captures with the ids of the calls that count there; folder: the cache.
    """
    if not (spec.arms or spec.disguises):
        return None
    sets = rule_sets(grid)
    some = [(item, calls) for item, ids in held if (calls := talks(item, ids))]
    if not sets or not some:
        return None
    return Wardrobe(some, dressings(spec.arms, spec.disguises), sets, spec.seed, spec.link, folder)


def dress_up(
    spec: Spec,
    grid: Sequence[Cell],
    held: Sequence[tuple[Item, list[str]]],
    collateral: Sequence[Row],
    folder: Path,
    jobs: int,
    force: bool,
    progress: Callable[[int], Progress],
) -> Told | None:
    """Play what the spec's `arms` and `disguises` ask for; None where it asks for nothing.

    held: captures with the ids of the calls that count there.
    """
    worn = wardrobe(spec, grid, held, folder)
    if worn is None:
        return None
    with progress(len(worn.tasks())) as bar:
        tables, errors = worn.played(bar.step, jobs, force)
    told = figures(worn.dressings, tables, collateral)
    told = [one | {"errors": errors[one["name"]]} for one in told]
    return Told(tables, told, [error for some in errors.values() for error in some])


def counted(rows: Sequence[Mapping[str, Any]]) -> Row:
    """Return n, blocked, inconclusive of some rows, and the median MOS of what gets through."""
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
    held: Sequence[Dressing], tables: Mapping[str, Sequence[Row]], collateral: Sequence[Row]
) -> list[Row]:
    """Return `disguises` of summary.json: per dress its cost, what each rule set does, who follows.

    Real calls alone, or synthetic ones where there are no others (`synthetic` says which).
    """
    invented = all(row["synthetic"] for row in tables["dressed"])
    rows = [row for row in tables["dressed"] if row["synthetic"] == invented]
    costs = [row for row in tables["dress_costs"] if row["synthetic"] == invented]
    hits = prices(collateral)
    return [one_figure(one, rows, costs, hits) | {"synthetic": invented} for one in held]


def one_figure(
    one: Dressing, rows: Sequence[Row], costs: Sequence[Row], hits: Mapping[Any, Row]
) -> Row:
    """Return the entry of one dress."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["dress"] == one.name:
            groups[row["operator"], row["hypothesis"]].append(row)
    rules = [
        {"operator": operator, "hypothesis": hypothesis, **counted(groups[operator, hypothesis])}
        for operator, hypothesis in dict.fromkeys(
            (row["operator"], row["hypothesis"]) for row in rows
        )
    ]
    played = {(row["capture"], row["call"]) for row in rows if row["dress"] == one.name}
    plain = {(row["capture"], row["call"]): row for row in costs if row["dress"] == PLAIN}
    own = [
        row for row in costs if row["dress"] == one.name and (row["capture"], row["call"]) in plain
    ]
    before = sum(plain[row["capture"], row["call"]]["bytes"] for row in own)
    rated = [row["mos"] for row in own if row["mos"] is not None]
    return {
        "name": one.name,
        "sort": one.sort,
        "says": one.says,
        "needs": one.needs,
        "calls": len(played),
        "overhead": ratio(sum(row["bytes"] for row in own) - before, before),
        "overhead_median": middle(
            [
                ratio(row["bytes"] - held["bytes"], held["bytes"])
                for row in own
                if (held := plain[row["capture"], row["call"]])["bytes"]
            ]
        ),
        "packets_added": sum(row["packets_added"] for row in own),
        "setup_ms": middle([row["setup_ms"] for row in own]),
        "delay_ms": middle([row["delay_ms"] for row in own]),
        "mos": middle(rated),
        "mos_n": len(rated),
        "rules": rules,
        "follower": follower(rules, hits) if one.sort != ARM else None,
    }


def middle(values: Sequence[float | None]) -> float | None:
    """Return the median of what is known, None for nothing."""
    known = [value for value in values if value is not None]
    return float(statistics.median(known)) if known else None


def prices(collateral: Sequence[Row]) -> dict[tuple[str, str], Row]:
    """Return what each rule set hits of innocent traffic, in the place where it hits most."""
    places: dict[tuple[str, ...], Row] = {}
    for row in collateral:
        place = tuple(str(row[key]) for key in ("operator", "hypothesis", "access", "date"))
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
    """Return the rule set that still blocks FOLLOWS of the calls at the least price to others.

    Where none does, the one that blocks most, `follows` false; None without innocent traffic.
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
