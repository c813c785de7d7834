# SPDX-License-Identifier: BSD-3-Clause
"""Bystanders of a run: other people's calls, and what a mix of traffic would lose.

Calls of apps that an operator was not after (its `targets`) are bystanders: other WebRTC, SIP,
licensed apps. A mix is composed from rates measured capture by capture, at a stated share of call
flows among all flows; its intervals resample capture groups, of innocents and of calls apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.truth.calls import Call
from midcall.experiments.measure.intervals import (
    FEWEST,
    RESAMPLES,
    clopper_pearson,
    clustered_interval,
    derived_seed,
)
from midcall.experiments.spec import corpus
from midcall.experiments.spec.corpus import Corpus, Item
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.spec import Spec

Row = dict[str, Any]
Counts = NDArray[np.int64]
Bounds = tuple[float | None, float | None]

#: Shares of call flows in a mix (docs: evaluation at stated base rates).
SHARES = (0.001, 0.01, 0.1)
#: The row of all innocent flows, of whatever kind, and the one of the calls themselves.
ALL, CALLS = "all innocent", "calls"
NAMES = ("flows", "hit", "bytes", "bytes_hit")
SUMS = ("calls", "blocked", "degraded", "seconds", "seconds_lost")
MILLION = 1e6


def entry(simulation: Any, control: Any, call: Call) -> Row:
    """Return `loss` of a call's entry as plain values."""
    from midcall.testbed.assess.loss import loss

    return loss(simulation, control, call)._asdict()


def of_groups(hits: Mapping[str, Mapping[str, Sequence[int]]]) -> list[Row]:
    """Return what was counted per capture group and kind of traffic as rows."""
    return [
        {"group": group, "protocol": kind, **dict(zip(NAMES, counts, strict=True))}
        for group, kinds in sorted(hits.items())
        for kind, counts in sorted(kinds.items())
    ]


def merged(hits: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, list[int]]:
    """Return the counts of all groups together, by kind of traffic."""
    total: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for kinds in hits.values():
        for kind, counts in kinds.items():
            total[kind] = [a + b for a, b in zip(total[kind], counts, strict=True)]
    return total


def hit_rows(
    seed: int, grid: Sequence[Cell], outcomes: Mapping[int, Mapping[str, Any]]
) -> list[Row]:
    """Return the table `collateral`: innocent flows and hits by cell and kind of traffic.

    `low` and `high` bound the share of flows hit of the kind, `all_low` and `all_high` that of all
    kinds: see `bounds`.
    """
    known: dict[str, dict[str, Row]] = {}
    rows = []
    for at, outcome in sorted(outcomes.items()):
        key = outcome["key"]
        if key not in known:
            known[key] = bounds(seed, outcome["groups"])
        whole = known[key][ALL]
        rows += [
            {
                **grid[at].place(),
                **one,
                **known[key][one["protocol"]],
                "all_low": whole["low"],
                "all_high": whole["high"],
            }
            for one in outcome["collateral"]
        ]
    return rows


def bounds(seed: int, rows: Sequence[Row]) -> dict[str, Row]:
    """Return by kind of traffic, and for ALL, the 95 % interval of the share of flows hit.

    rows: of `of_groups`. Flows of one capture group are not independent: see
    experiments.measure.intervals.clustered_interval. None below ten groups that hold the kind.
    """
    kinds: dict[str, dict[str, tuple[int, int]]] = {ALL: {}}
    for row in rows:
        for kind in (row["protocol"], ALL):
            hit, flows = kinds.setdefault(kind, {}).get(row["group"], (0, 0))
            kinds[kind][row["group"]] = (hit + row["hit"], flows + row["flows"])
    found = {}
    for kind, groups in kinds.items():
        hits, sizes = [hit for hit, _ in groups.values()], [flows for _, flows in groups.values()]
        span = clustered_interval(hits, sizes, derived_seed(seed, "hits", kind))
        low, high = span or (None, None)
        found[kind] = {"groups": len(groups), "low": low, "high": high}
    return found


# ---- other people's calls


class Told(NamedTuple):
    """One call in one cell, with what it lost."""

    item: Item
    call: Call
    entry: Mapping[str, Any]


def real_calls(
    held: Corpus, outcomes: Mapping[int, Mapping[str, Any]]
) -> Iterator[tuple[int, Told]]:
    """Yield every real call of every cell, whatever its app, each in one capture only."""
    apps = sorted({call.app for item in held.items for call in item.calls})
    for at, item, call, told in corpus.counted(held, apps, outcomes):
        if corpus.counts(item) and told["verdict"] != "INVALID":
            yield at, Told(item, call, told)


def call_rows(
    grid: Sequence[Cell], held: Corpus, outcomes: Mapping[int, Mapping[str, Any]]
) -> list[Row]:
    """Return the table `bystander_calls`: per cell and app, calls that nobody meant to stop."""
    found: dict[tuple[int, str], list[Told]] = defaultdict(list)
    for at, told in real_calls(held, outcomes):
        targets = grid[at].targets
        if targets is not None and told.call.app not in targets:
            found[at, told.call.app].append(told)
    return [
        {
            **grid[at].place(),
            "app": app,
            "calls": len(some),
            "blocked": sum(bool(one.entry["blocked"]) for one in some),
            "degraded": sum(one.entry["verdict"] == "DEGRADED" for one in some),
            "seconds": sum(one.entry["loss"]["seconds"] for one in some),
            "seconds_lost": sum(one.entry["loss"]["seconds_lost"] for one in some),
        }
        for (at, app), some in sorted(found.items())
    ]


# ---- mixes


class Clusters(NamedTuple):
    """Counts per capture group: int64[groups, 4] (flows, hit, bytes, bytes hit)."""

    counts: Counts

    def resampled(self, generator: np.random.Generator) -> Counts:
        """Return sums over groups drawn with repetition: int64[RESAMPLES, 4]."""
        n = len(self.counts)
        picks = generator.integers(0, n, size=(RESAMPLES, n))
        return np.asarray(self.counts[picks].sum(axis=1))


def per_million(
    share: float, counts: Mapping[str, Any], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return flows and bytes hit of one part, per million of a mix's flows and bytes.

    share: of call flows among the mix's flows; counts: [..., 4] of every part, ALL and CALLS among
    them.
    """
    innocent, calls = counts[ALL], counts[CALLS]
    weight, own = (share, calls) if name == CALLS else (1 - share, innocent)
    octets = (1 - share) * innocent[..., 2] / np.maximum(innocent[..., 0], 1)
    octets = octets + share * calls[..., 2] / np.maximum(calls[..., 0], 1)
    each = MILLION * weight / np.maximum(own[..., 0], 1)
    return each * counts[name][..., 1], each * counts[name][..., 3] / np.maximum(octets, 1)


def mix_rows(
    spec: Spec, grid: Sequence[Cell], held: Corpus, outcomes: Mapping[int, Mapping[str, Any]]
) -> list[Row]:
    """Return the table `mixes`: flows and bytes hit per million, each play once, at each share."""
    firsts: dict[tuple[str, str, str], int] = {}
    for at in sorted(outcomes):
        cell = grid[at]
        firsts.setdefault((cell.operator, cell.hypothesis, outcomes[at]["key"]), at)
    calls: dict[int, list[Told]] = defaultdict(list)
    chosen = {at: outcomes[at] for at in firsts.values()}
    for at, told in real_calls(held, chosen):
        targets = grid[at].targets
        wanted = spec.apps if targets is None else targets
        if told.call.app in wanted:
            calls[at].append(told)
    rows = []
    for at in firsts.values():
        innocent = outcomes[at]["groups"]
        if innocent and calls[at]:
            rows += mixed(spec.seed, grid[at], innocent, calls[at])
    return rows


def mixed(seed: int, cell: Cell, innocent: Sequence[Row], calls: Sequence[Told]) -> list[Row]:
    """Return the rows of one cell: all innocent flows, each kind that is hit, and the calls."""
    groups = sorted({row["group"] for row in innocent})
    whole = clusters(groups, innocent)
    talk = clusters(
        sorted({one.item.capture.group for one in calls}),
        [{"group": one.item.capture.group, **one.entry["loss"]} for one in calls],
    )
    kinds = {
        kind: clusters(groups, [row for row in innocent if row["protocol"] == kind])
        for kind in sorted({row["protocol"] for row in innocent if row["hit"]})
    }
    parts = {ALL: whole, **kinds, CALLS: talk}
    draws = {  # the innocent parts are drawn alike, and so are those of other policies
        name: one.resampled(np.random.default_rng(derived_seed(seed, "mix", str(name == CALLS))))
        for name, one in parts.items()
    }
    return [
        {**cell.place(), "share": share, "protocol": name, **row}
        for share in SHARES
        for name, row in at_share(share, parts, draws).items()
    ]


def clusters(groups: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Clusters:
    """Return rows summed by capture group, in the order of `groups`."""
    counts = np.zeros((len(groups), 4), np.int64)
    for row in rows:
        counts[groups.index(row["group"])] += [row[name] for name in NAMES]
    return Clusters(counts)


def at_share(
    share: float, parts: Mapping[str, Clusters], draws: Mapping[str, Counts]
) -> dict[str, Row]:
    """Return what is hit at one share, by part, and which share of all hits that is.

    An interval is None below ten groups; where nothing is hit, that of flows ends at the exact
    bound of the share of groups that could be hit, and that of bytes is None.
    """
    sums = {name: one.counts.sum(axis=0) for name, one in parts.items()}
    out = {name: part_row(share, name, parts[name], sums, draws) for name in parts}
    struck = float(out[ALL]["flows_per_million"]) + float(out[CALLS]["flows_per_million"])
    return {
        name: {**row, "of_hits": row["flows_per_million"] / struck if struck else None}
        for name, row in out.items()
    }


def part_row(
    share: float,
    name: str,
    one: Clusters,
    sums: Mapping[str, Counts],
    draws: Mapping[str, Counts],
) -> Row:
    """Return flows and bytes hit per million of one part, with intervals."""
    flows, octets = per_million(share, sums, name)
    by_flow, by_octet = (span(values) for values in per_million(share, draws, name))
    if not sums[name][1]:
        weight = share if name == CALLS else 1 - share
        bound = (clopper_pearson(0, len(one.counts)) or (0.0, 1.0))[1]
        by_flow, by_octet = (0.0, MILLION * weight * bound), (None, None)
    if len(one.counts) < FEWEST:
        by_flow = by_octet = (None, None)
    return {
        "flows_per_million": float(flows),
        "flows_low": by_flow[0],
        "flows_high": by_flow[1],
        "bytes_per_million": float(octets),
        "bytes_low": by_octet[0],
        "bytes_high": by_octet[1],
        "groups": len(one.counts),
    }


def span(values: NDArray[np.float64]) -> Bounds:
    """Return the percentile interval at 95 %."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


# ---- summary


def told(tables: Mapping[str, Sequence[Row]]) -> Row:
    """Return `mixes` and `calls` of summary.json's collateral: each hypothesis where it hits most.

    Of mixes the rows of all innocent flows, hypotheses that hit none left out; of calls those
    of all apps together, hypotheses left out that cost nobody a call or a second.
    """
    mixes = [row for row in tables["mixes"] if row["protocol"] == ALL]
    places: dict[tuple[Any, ...], Row] = {}
    for row in tables["bystander_calls"]:
        key = (row["operator"], row["hypothesis"], row["access"], row["date"])
        place = dict(zip(("operator", "hypothesis", "access", "date"), key, strict=True))
        held = places.setdefault(key, place | dict.fromkeys(SUMS, 0))
        for name in SUMS:
            held[name] += row[name]
    return {
        "mixes": worst(mixes, ("share",), ("flows_per_million",)),
        "calls": worst(list(places.values()), (), ("blocked", "seconds_lost", "degraded")),
    }


def worst(rows: Sequence[Row], more: Sequence[str], by: Sequence[str]) -> list[Row]:
    """Return per operator and hypothesis (and `more`) the row that is largest, if above 0."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row[name] for name in ("operator", "hypothesis", *more))
        size = tuple(row[name] for name in by)
        if any(size) and (key not in found or size > tuple(found[key][name] for name in by)):
            found[key] = row
    return list(found.values())
