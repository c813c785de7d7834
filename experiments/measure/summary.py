# SPDX-License-Identifier: BSD-3-Clause
"""The summary of a run: summary.json, schema 1, computed from the rows of its tables.

Everything here is a function of captures, spec and seed, except the keys in TIMED: what a clock or
the machine decides.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from midcall.experiments.measure import baselines, metrics
from midcall.experiments.measure.intervals import FEWEST, ratio, share_interval
from midcall.experiments.measure.situations import in_headline

Row = Mapping[str, Any]

SCHEMA = 1
#: Keys that differ between two equal runs; all others are byte-identical at any -j.
TIMED = ("throughput", "latency", "machine", "run", "live", "programs", "aa", "proofs")

#: Columns of calls.parquet that calls[] repeats.
CALL_KEYS = (
    "capture", "capture_year", "app", "kind", "call", "synthetic", "added", "later_client",
    "operator", "hypothesis", "access", "date", "documented", "verdict", "blocked",
    "usable", "packets_to_block", "media_lost",
)  # fmt: skip


def real(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that may enter headline figures."""
    return [row for row in rows if in_headline(row)]


def accuracy(
    flows: Sequence[Row], recognised: Sequence[Row], seed: int, copies: Collection[str]
) -> dict[str, Any]:
    """Return the accuracy block: real flows, calls recognised, baselines, synthetic apart."""
    facts = real(flows)
    invented = [row for row in flows if row["synthetic"]]
    block = metrics.accuracy(facts, seed, copies)
    block["scope"] = "real captures; flows with labels of high or medium confidence"
    block["calls_recognised"] = calls_recognised(recognised)
    block["baselines"] = baselines.compare(facts)
    block["synthetic"] = {
        "apps": metrics.by_app_and_role(invented, seed),
        "false_calls": metrics.false_calls(invented),
    }
    return block


def calls_recognised(calls: Sequence[Row]) -> list[dict[str, Any]]:
    """Return per app how many calls were recognised, of n; intervals from ten calls on.

    `calls` has one row per distinct call. Real calls, synthetic ones and those of added captures
    are apart.
    """
    groups: dict[tuple[str, bool, bool], list[Row]] = defaultdict(list)
    for row in calls:
        groups[row["app"], row["synthetic"], row["added"]].append(row)
    table = []
    for (app, synthetic, added), rows in sorted(groups.items()):
        hits = sum(row["recognised"] for row in rows)
        table.append(
            {
                "app": app,
                "synthetic": synthetic,
                "added": added,
                "n": len(rows),
                "hits": hits,
                "share": ratio(hits, len(rows)),
                "interval": share_interval(hits, len(rows)),
            }
        )
    return table


def mission(calls: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the mission table: what became of the calls of each app and kind, of n, per cell."""
    keys = ("operator", "hypothesis", "access", "date", "app", "kind", "later_client", "synthetic",
            "added")  # fmt: skip
    groups: dict[tuple[Any, ...], Counter[str]] = {}
    for row in calls:
        groups.setdefault(tuple(row[key] for key in keys), Counter())[result(row)] += 1
    table = []
    for place, counts in groups.items():
        valid = counts["ok"] + counts["blocked"] + counts["inconclusive"]
        judged = counts["ok"] + counts["blocked"]
        table.append(
            dict(zip(keys, place, strict=True))
            | {name: counts[name] for name in ("ok", "blocked", "inconclusive", "invalid")}
            | {"n": valid, "blocked_interval": share_interval(counts["blocked"], judged)}
        )
    return table


def result(row: Row) -> str:
    """Return ok, blocked, inconclusive or invalid for a call's verdict."""
    if row["verdict"] in ("INVALID", "INCONCLUSIVE"):
        return str(row["verdict"]).lower()
    return "blocked" if row["blocked"] else "ok"


def yours(calls: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the same as `operators` for calls of captures that the user added."""
    return tallied([row for row in calls if row["added"] and not row["synthetic"]])


def operators(calls: Sequence[Row]) -> list[dict[str, Any]]:
    """Return per operator the calls blocked, of n, in cells with documented service.

    Counts are over (call, cell) pairs of real calls: the same call under several hypotheses counts
    several times, so they are no sample and get no interval.
    """
    return tallied(real(calls))


def tallied(calls: Sequence[Row]) -> list[dict[str, Any]]:
    """Return per operator what became of some calls; `unusable` are those not worth having,
    blocked ones included."""
    counts: dict[str, Counter[str]] = {}
    for row in calls:
        held = counts.setdefault(row["operator"], Counter())
        held[result(row)] += 1
        held["unusable"] += row["usable"] is False
    names = ("ok", "blocked", "inconclusive", "invalid", "unusable")
    return [
        {"operator": operator} | {name: held[name] for name in names}
        for operator, held in counts.items()
    ]


def collateral(rows: Sequence[Row]) -> dict[str, Any]:
    """Return innocent flows and hits over all cells, and the worst cell's share."""
    places: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        key = (row["operator"], row["hypothesis"], row["access"], row["date"])
        entry = places.setdefault(key, [0, 0])
        entry[0] += row["flows"]
        entry[1] += row["hit"]
    worst = max(places.items(), key=lambda item: ratio(item[1][1], item[1][0]) or 0.0, default=None)
    names = ("operator", "hypothesis", "access", "date")
    return {
        "by_protocol": by_protocol(rows),
        "flows": sum(n for n, _ in places.values()),
        "hit": sum(k for _, k in places.values()),
        "cells": len(places),
        "flows_per_cell": max((n for n, _ in places.values()), default=0),
        "worst": None
        if worst is None
        else dict(zip(names, worst[0], strict=True)) | {"flows": worst[1][0], "hit": worst[1][1]},
    }


def by_protocol(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return per hypothesis and kind of traffic what is hit of it, at most over its places.

    Rates are per million innocent flows, and per million of their bytes; intervals, of the share of
    flows, resample capture groups. Kinds that are never hit are left out.
    """
    worst: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        key = (row["operator"], row["hypothesis"], row["protocol"])
        if row["hit"] > (worst[key]["hit"] if key in worst else 0):
            worst[key] = row
    return [
        {
            **dict(zip(("operator", "hypothesis", "protocol"), key, strict=True)),
            **{name: row[name] for name in ("flows", "hit", "bytes", "bytes_hit")},
            "flows_per_million": 1e6 * (ratio(row["hit"], row["flows"]) or 0.0),
            "bytes_per_million": 1e6 * (ratio(row["bytes_hit"], row["bytes"]) or 0.0),
            "groups": row["groups"],
            "interval": None if row["low"] is None else (row["low"], row["high"]),
        }
        for key, row in sorted(worst.items())
    ]


def by_noise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return per share of wrong answers the planted rules, those recovered, and probes per rule.

    Rules that never strike what they are asked with are counted as such and not as planted.
    """
    told = []
    for noise in sorted({row["noise"] for row in rows}):
        outcomes = Counter(row["outcome"] for row in rows if row["noise"] == noise)
        own = [row for row in rows if row["noise"] == noise and row["outcome"] != "never"]
        probes = sorted(row["probes"] for row in own) or [0]
        told.append(
            {
                "planted": len(own),
                "recovered": outcomes["exactly"],
                **{word: outcomes[word] for word in ("partly", "unexplained", "wrong", "never")},
                "noise": noise,
                "probes_p50": probes[-(-len(probes) * 50 // 100) - 1],
                "probes_p95": probes[-(-len(probes) * 95 // 100) - 1],
            }
        )
    return told


def localise(rows: Sequence[Row]) -> dict[str, Any]:
    """Return `localise`: the figures at the largest noise, and at each one, of the listed rules;
    those of other sets of rules by their names."""
    sets = {word: by_noise([row for row in rows if row["set"] == word])
            for word in dict.fromkeys(row["set"] for row in rows)}  # fmt: skip
    told = sets.pop("listed", [])
    listed = {**told[-1], "by_noise": told} if told else {}
    return {**listed, "sets": sets}


def laws(rows: Sequence[Row]) -> dict[str, Any]:
    """Return `laws`: cases tried and broken, over all laws and by law."""
    return {
        "cases": sum(row["cases"] for row in rows),
        "broken": sum(row["broken"] for row in rows),
        "by_law": [dict(row) for row in rows],
    }


def cell_counts(cells: Sequence[Row]) -> dict[str, Any]:
    """Return how many cells there are, failed, or lack a documented service.

    How many were reused depends on the cache, not on the experiment, and stands in cells.csv.
    """
    counts = Counter(row["status"] for row in cells)
    return {
        "n": len(cells),
        "failed": counts["failed"],
        "undocumented": counts["undocumented"],
        "errors": sorted({row["error"] for row in cells if row["error"]}),
    }


def lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the five lines a person sees at the end of a run, one more for each live part."""
    held, cost = summary["captures"], summary["throughput"]["offline"]
    told = [
        f"captures: {_capture_words(held)}",
        f"seen:     {_seen_words(summary)}",
        f"calls:    {_blocked_words(summary)}",
        f"hit:      {_hit_words(summary['collateral'])}",
        f"speed:    {_speed_words(cost, summary['latency']['offline']['ns_per_packet'])}",
    ]
    if "laws" in summary:
        held = summary["laws"]
        told.append(f"laws:     {held['broken']} of {held['cases']} cases broken")
    if "live" in summary:
        told.append(f"live:     {_live_words(summary['live'])}")
    if "programs" in summary:
        told.append(f"programs: {_program_words(summary['programs'])}")
    return told


def _capture_words(held: Mapping[str, Any]) -> str:
    lab = f"{held['recorded']} recorded in the lab, " if held["recorded"] else ""
    return f"{held['real']} real, {lab}{held['synthetic']} synthetic, {held['missing']} missing"


def _program_words(programs: Mapping[str, Any]) -> str:
    if "lacking" in programs:
        return f"no live call: {'; '.join(programs['lacking'])}"
    same = programs["agreement"]
    words = f"{programs['calls']} live calls under {programs['policies']} policies, "
    words += f"{len(programs['fallbacks'])} found another way"
    if not same["n"]:
        return words
    return (
        f"{words}; replay said the same of {same['agree']} of {same['n']}, blocked or not the same "
        f"of {same['blocked_agree']}"
    )


def _live_words(live: Mapping[str, Any]) -> str:
    same, fates, late = live["parity"], live["fates"], live["replay_error_us"]
    words = [f"{fates['proven']} of {fates['packets']} packets' fates proven"]
    if same["cells"]:
        words.insert(0, f"{same['agree']} of {same['cells']} cells as in virtual time")
    if late["p99"] is not None:
        words.append(f"sent {late['p50']:.0f} µs late at p50, {late['p99']:.0f} at p99")
    return ", ".join(words)


def _seen_words(summary: Mapping[str, Any]) -> str:
    seen = summary["accuracy"]
    five, single, alarms = seen["five"], seen["five_without_copies"], seen["false_calls"]
    if not five["n"] and not alarms["flows"]:
        return "no real flow with a label in these captures"
    wait = summary["verdict"]["packets"]["p50"]
    after = "" if wait is None else f", half of them by packet {wait}"
    return (
        f"{five['right']} of {five['n']} call flows of the five apps named right "
        f"({single['right']} of {single['n']} without copied captures){after}; "
        f"{alarms['hits']} of {alarms['flows']} innocent flows taken for a call"
    )


def _blocked_words(summary: Mapping[str, Any]) -> str:
    cells = summary["cells"]
    said = operator_words(summary["operators"]) or "no real call in these captures"
    own = operator_words(summary["yours"])
    yours = f"; of your captures {own}" if own else ""
    failed = f", {cells['failed']} failed" if cells["failed"] else ""
    return (
        f"no call at all (no usable call) over all hypotheses, networks and dates: {said}{yours} "
        f"({cells['n']} cells{failed})"
    )


def operator_words(rows: Sequence[Row]) -> str:
    """Return per operator the calls blocked and those not usable, of those that could be tested."""
    return ", ".join(
        f"{row['operator']} {row['blocked']} ({row['unusable']}) of "
        f"{row['ok'] + row['blocked'] + row['inconclusive']}"
        for row in rows
    )


def _hit_words(hit: Mapping[str, Any]) -> str:
    worst = hit["worst"]
    if worst is None:
        return "no innocent capture took part"
    if not worst["hit"]:
        return f"none of {hit['flows_per_cell']} innocent flows in any cell"
    return (
        f"at worst {worst['hit']} of {worst['flows']} innocent flows "
        f"({worst['operator']}, {worst['hypothesis']}, {worst['access']}, {worst['date']})"
    )


def _speed_words(cost: Mapping[str, Any], spent: Mapping[str, Any]) -> str:
    if not cost["packets_per_s"]:
        return "n/a (no packets)"
    return (
        f"{cost['packets_per_s'] / 1e6:.1f} million packets/s, {cost['bytes_per_s'] * 8 / 1e9:.1f} "
        f"Gbit/s on one core; {spent['p50']:.0f} ns per packet (p50), {spent['p99']:.0f} (p99)"
    )


def intervals_note() -> str:
    """Return how intervals were made, for the report."""
    return (
        "shares of flows: cluster bootstrap over capture groups, 95 %; shares of calls: "
        f"Clopper-Pearson, 95 %; below {FEWEST} independent units counts alone"
    )
