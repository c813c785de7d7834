# SPDX-License-Identifier: BSD-3-Clause
"""Collateral damage of a run: innocent flows hit, calls that were no target, mixes of traffic.

Calls of apps that are not among an operator's `targets` are such calls: other WebRTC, SIP,
licensed apps. A mix is composed from rates measured capture by capture, at a stated share of call
flows among all flows; its intervals resample capture groups, of innocent flows and of calls apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict, TypeVar, cast

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
from midcall.experiments.results.tables import (
    BystanderCallRow,
    CallEntry,
    CellOutcome,
    CollateralRow,
    GroupCounts,
    GroupHits,
    LossEntry,
    MixRow,
    OtherCalls,
    OtherCosts,
    Tables,
)
from midcall.experiments.spec import corpus
from midcall.experiments.spec.corpus import Corpus, Item
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.spec import Spec

if TYPE_CHECKING:
    from midcall.testbed.replay.simulator import Simulation

Counts = NDArray[np.int64]
Ends = tuple[float | None, float | None]

#: Shares of call flows in a mix (docs: evaluation at stated base rates).
SHARES = (0.001, 0.01, 0.1)
#: The row of all innocent flows, of whatever kind, and the one of the calls themselves.
ALL, CALLS = "all innocent", "calls"
NAMES: tuple[Literal["flows", "hit", "bytes", "bytes_hit"], ...] = (
    "flows", "hit", "bytes", "bytes_hit",
)  # fmt: skip
MILLION = 1e6


class Bounds(TypedDict):
    """The 95 % interval of the share of flows hit, None where none can be given."""

    groups: int
    low: float | None
    high: float | None


class Part(TypedDict):
    """Flows and bytes hit per million of one part of a mix, with intervals."""

    flows_per_million: float
    flows_low: float | None
    flows_high: float | None
    bytes_per_million: float
    bytes_low: float | None
    bytes_high: float | None
    groups: int


class PartOfHits(Part):
    """A part of a mix, and its share of all flows hit."""

    of_hits: float | None


def entry(simulation: Simulation, control: Simulation, call: Call) -> LossEntry:
    """Return `loss` of a call's entry as plain values."""
    from midcall.testbed.assess.loss import loss

    return cast("LossEntry", loss(simulation, control, call)._asdict())


def of_groups(hits: Mapping[str, Mapping[str, Sequence[int]]]) -> list[GroupHits]:
    """Return counts per capture group and kind of traffic as rows."""
    return [
        {
            "group": group,
            "protocol": kind,
            "flows": counts[0],
            "hit": counts[1],
            "bytes": counts[2],
            "bytes_hit": counts[3],
            "untested": counts[4],
        }
        for group, kinds in sorted(hits.items())
        for kind, counts in sorted(kinds.items())
    ]


def merged(hits: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, list[int]]:
    """Return the counts of all groups together, by kind of traffic (see `count_hits`)."""
    total: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for kinds in hits.values():
        for kind, counts in kinds.items():
            total[kind] = [a + b for a, b in zip(total[kind], counts, strict=True)]
    return total


def hit_rows(
    seed: int, grid: Sequence[Cell], outcomes: Mapping[int, CellOutcome]
) -> list[CollateralRow]:
    """Return the table `collateral`: innocent flows and hits by cell and kind of traffic.

    `low` and `high` bound the share of flows hit of the kind, `all_low` and `all_high` that of all
    kinds: see `bounds`.
    """
    known: dict[str, dict[str, Bounds]] = {}
    rows: list[CollateralRow] = []
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


def bounds(seed: int, rows: Sequence[GroupHits]) -> dict[str, Bounds]:
    """Return by kind of traffic, and for ALL, the 95 % interval of the share of flows hit.

    rows: of `of_groups`. Flows of one capture group are not independent: see
    experiments.measure.intervals.clustered_interval. None below ten groups that have the kind.
    Flows that are not tested are left out.
    """
    kinds: dict[str, dict[str, tuple[int, int]]] = {ALL: {}}
    for row in rows:
        kinds.setdefault(row["protocol"], {})
        for kind in (row["protocol"], ALL) if row["flows"] else ():
            hit, flows = kinds[kind].get(row["group"], (0, 0))
            kinds[kind][row["group"]] = (hit + row["hit"], flows + row["flows"])
    intervals: dict[str, Bounds] = {}
    for kind, groups in kinds.items():
        hits, sizes = [hit for hit, _ in groups.values()], [flows for _, flows in groups.values()]
        interval = clustered_interval(hits, sizes, derived_seed(seed, "hits", kind))
        low, high = interval or (None, None)
        intervals[kind] = {"groups": len(groups), "low": low, "high": high}
    return intervals


# ---- calls that were no target


class Told(NamedTuple):
    """One call in one cell, with its verdict and loss."""

    item: Item
    call: Call
    entry: CallEntry


def real_calls(captures: Corpus, outcomes: Mapping[int, CellOutcome]) -> Iterator[tuple[int, Told]]:
    """Yield every real call of every cell, whatever its app, each in one capture only."""
    apps = sorted({call.app for item in captures.items for call in item.calls})
    for at, item, call, verdict in corpus.counted(captures, apps, outcomes):
        if corpus.counts(item) and verdict["verdict"] != "INVALID":
            yield at, Told(item, call, verdict)


def call_rows(
    grid: Sequence[Cell], captures: Corpus, outcomes: Mapping[int, CellOutcome]
) -> list[BystanderCallRow]:
    """Return the table `bystander_calls`: per cell and app, calls that were no target."""
    by_app: dict[tuple[int, str], list[Told]] = defaultdict(list)
    for at, one in real_calls(captures, outcomes):
        targets = grid[at].targets
        if targets is not None and one.call.app not in targets:
            by_app[at, one.call.app].append(one)
    return [
        {
            **grid[at].place(),
            "app": app,
            "calls": len(calls),
            "blocked": sum(bool(one.entry["blocked"]) for one in calls),
            "degraded": sum(one.entry["verdict"] == "DEGRADED" for one in calls),
            "seconds": sum(one.entry["loss"]["seconds"] for one in calls),
            "seconds_lost": sum(one.entry["loss"]["seconds_lost"] for one in calls),
        }
        for (at, app), calls in sorted(by_app.items())
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
    share: float, counts: Mapping[str, Counts], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return flows and bytes hit of one part, per million of a mix's flows and bytes: float64[...].

    share: of call flows among the mix's flows; counts: int64[..., 4] of every part, ALL and CALLS
    among them.
    """
    innocent, calls = counts[ALL], counts[CALLS]
    weight, own = (share, calls) if name == CALLS else (1 - share, innocent)
    octets = (1 - share) * innocent[..., 2] / np.maximum(innocent[..., 0], 1)
    octets = octets + share * calls[..., 2] / np.maximum(calls[..., 0], 1)
    each = MILLION * weight / np.maximum(own[..., 0], 1)
    return each * counts[name][..., 1], each * counts[name][..., 3] / np.maximum(octets, 1)


def mix_rows(
    spec: Spec, grid: Sequence[Cell], captures: Corpus, outcomes: Mapping[int, CellOutcome]
) -> list[MixRow]:
    """Return the table `mixes`: flows and bytes hit per million at each share of call flows.

    Cells that share a simulation are counted once.
    """
    firsts: dict[tuple[str, str, str], int] = {}
    for at in sorted(outcomes):
        cell = grid[at]
        firsts.setdefault((cell.operator, cell.hypothesis, outcomes[at]["key"]), at)
    calls: dict[int, list[Told]] = defaultdict(list)
    chosen = {at: outcomes[at] for at in firsts.values()}
    for at, one in real_calls(captures, chosen):
        targets = grid[at].targets
        wanted = spec.apps if targets is None else targets
        if one.call.app in wanted:
            calls[at].append(one)
    rows = []
    for at in firsts.values():
        innocent = outcomes[at]["groups"]
        if innocent and calls[at]:
            rows += mixed(spec.seed, grid[at], innocent, calls[at])
    return rows


def mixed(
    seed: int, cell: Cell, innocent: Sequence[GroupHits], calls: Sequence[Told]
) -> list[MixRow]:
    """Return the rows of one cell: all innocent flows, each kind that is hit, and the calls."""
    groups = sorted({row["group"] for row in innocent})
    whole = clusters(groups, innocent)
    own = clusters(
        sorted({one.item.capture.group for one in calls}), [losses(one) for one in calls]
    )
    kinds = {
        kind: clusters(groups, [row for row in innocent if row["protocol"] == kind])
        for kind in sorted({row["protocol"] for row in innocent if row["hit"]})
    }
    parts = {ALL: whole, **kinds, CALLS: own}
    draws = {  # all innocent parts are drawn alike, and so are those of other policies
        name: one.resampled(np.random.default_rng(derived_seed(seed, "mix", str(name == CALLS))))
        for name, one in parts.items()
    }
    return [
        {**cell.place(), "share": share, "protocol": name, **row}
        for share in SHARES
        for name, row in at_share(share, parts, draws).items()
    ]


def losses(one: Told) -> GroupCounts:
    """Return the flows and bytes of a call, and those hit, with its capture group."""
    loss = one.entry["loss"]
    return {
        "group": one.item.capture.group,
        "flows": loss["flows"],
        "hit": loss["hit"],
        "bytes": loss["bytes"],
        "bytes_hit": loss["bytes_hit"],
    }


def clusters(groups: Sequence[str], rows: Sequence[GroupCounts]) -> Clusters:
    """Return rows summed by capture group, in the order of `groups`."""
    counts = np.zeros((len(groups), 4), np.int64)
    for row in rows:
        counts[groups.index(row["group"])] += [row[name] for name in NAMES]
    return Clusters(counts)


def at_share(
    share: float, parts: Mapping[str, Clusters], draws: Mapping[str, Counts]
) -> dict[str, PartOfHits]:
    """Return flows and bytes hit at one share of call flows, by part.

    `of_hits`: the share of all flows hit. An interval is None below ten groups; where nothing is
    hit, that of flows ends at the exact bound of the share of groups that could be hit, and that
    of bytes is None.
    """
    sums = {name: one.counts.sum(axis=0) for name, one in parts.items()}
    out = {name: part_row(share, name, parts[name], sums, draws) for name in parts}
    hit = float(out[ALL]["flows_per_million"]) + float(out[CALLS]["flows_per_million"])
    return {
        name: {**row, "of_hits": row["flows_per_million"] / hit if hit else None}
        for name, row in out.items()
    }


def part_row(
    share: float,
    name: str,
    one: Clusters,
    sums: Mapping[str, Counts],
    draws: Mapping[str, Counts],
) -> Part:
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


def span(values: NDArray[np.float64]) -> Ends:
    """Return the percentile interval at 95 % of float64[n]."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


# ---- summary

Placed = TypeVar("Placed", MixRow, OtherCalls)


def other_costs(tables: Tables) -> OtherCosts:
    """Return `mixes` and `calls` of summary.json's collateral: each hypothesis where it hits most.

    Of mixes the rows of all innocent flows, without hypotheses that hit none; of calls those of
    all apps together, without hypotheses that cost no call and no second.
    """
    mixes = [row for row in tables["mixes"] if row["protocol"] == ALL]
    places: dict[tuple[str, str, str, str], OtherCalls] = {}
    for row in tables["bystander_calls"]:
        key = (row["operator"], row["hypothesis"], row["access"], row["date"])
        sums = places.setdefault(
            key,
            {
                "operator": row["operator"],
                "hypothesis": row["hypothesis"],
                "access": row["access"],
                "date": row["date"],
                "calls": 0,
                "blocked": 0,
                "degraded": 0,
                "seconds": 0,
                "seconds_lost": 0,
            },
        )
        sums["calls"] += row["calls"]
        sums["blocked"] += row["blocked"]
        sums["degraded"] += row["degraded"]
        sums["seconds"] += row["seconds"]
        sums["seconds_lost"] += row["seconds_lost"]
    return {
        "mixes": worst(
            mixes,
            lambda row: (row["operator"], row["hypothesis"], row["share"]),
            lambda row: (row["flows_per_million"],),
        ),
        "calls": worst(
            list(places.values()),
            lambda row: (row["operator"], row["hypothesis"]),
            lambda row: (row["blocked"], row["seconds_lost"], row["degraded"]),
        ),
    }


def worst(
    rows: Sequence[Placed],
    key_of: Callable[[Placed], tuple[object, ...]],
    size_of: Callable[[Placed], tuple[float, ...]],
) -> list[Placed]:
    """Return the largest row of each key, without rows whose sizes are all 0."""
    largest: dict[tuple[object, ...], Placed] = {}
    for row in rows:
        key, size = key_of(row), size_of(row)
        if any(size) and (key not in largest or size > size_of(largest[key])):
            largest[key] = row
    return list(largest.values())
