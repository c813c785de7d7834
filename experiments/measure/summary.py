# SPDX-License-Identifier: BSD-3-Clause
"""The summary of a run: summary.json, schema 1, computed from the rows of its tables.

Everything is a function of captures, spec and seed, except the keys in TIMED, which depend on a
clock or the machine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, TypeVar

from midcall.experiments.measure import baselines, metrics, situations
from midcall.experiments.measure.intervals import FEWEST, ratio, share_interval
from midcall.experiments.measure.situations import in_headline
from midcall.experiments.results.tables import (
    Accuracy,
    AnswerLine,
    CallRow,
    CellCounts,
    CellRow,
    Collateral,
    CollateralRow,
    Document,
    Json,
    KindRate,
    LawCounts,
    LawRow,
    LocaliseRow,
    MissionRow,
    NoiseLine,
    OperatorCalls,
    RecognisedCall,
    Recognition,
    SeenFlow,
)

Row = TypeVar("Row", bound=Mapping[str, object])
#: The outcome of a call; `unusable` is counted in addition to the others.
Result = Literal["ok", "blocked", "inconclusive", "invalid", "unusable"]

SCHEMA = 1
#: Keys that differ between two equal runs; all others are byte-identical at any -j.
TIMED = ("throughput", "latency", "machine", "run", "live", "programs", "aa", "proofs")

#: Columns of calls.parquet that calls[] repeats.
CALL_KEYS: tuple[
    Literal[
        "capture", "capture_year", "app", "kind", "call", "synthetic", "added", "later_client",
        "operator", "hypothesis", "access", "date", "documented", "verdict", "blocked",
        "usable", "packets_to_block", "media_lost",
    ],
    ...,
] = (
    "capture", "capture_year", "app", "kind", "call", "synthetic", "added", "later_client",
    "operator", "hypothesis", "access", "date", "documented", "verdict", "blocked",
    "usable", "packets_to_block", "media_lost",
)  # fmt: skip


def real(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that enter headline figures."""
    return [row for row in rows if in_headline(row)]


def accuracy(
    flows: Sequence[SeenFlow],
    recognised: Sequence[RecognisedCall],
    seed: int,
    copies: Collection[str],
) -> Accuracy:
    """Return the accuracy block: real flows, calls recognised, baselines, synthetic apart."""
    real_flows = counted_once(real(flows))
    synthetic = [row for row in flows if row["synthetic"]]
    block = metrics.accuracy(real_flows, seed, copies)
    block["scope"] = (
        "real captures; flows with labels of high or medium confidence; of the innocent flows "
        "those that cells replay"
    )
    left = [row for row in metrics.quiet_flows(real(flows)) if not row["replayed"]]
    block["not_replayed"] = {
        "flows": len(left),
        "hits": sum(row["outcome"] == "false_call" for row in left),
    }
    block["calls_recognised"] = calls_recognised(recognised)
    block["baselines"] = baselines.compare(real_flows)
    block["synthetic"] = {
        "apps": metrics.by_app_and_role(synthetic, seed),
        "false_calls": metrics.false_calls(synthetic),
    }
    return block


def counted_once(flows: Sequence[SeenFlow]) -> list[SeenFlow]:
    """Return the flows without innocent flows that no cell replays.

    So the innocent flows that are classified are the same as those of the table `collateral`.
    """
    left = {id(row) for row in metrics.quiet_flows(flows) if not row["replayed"]}
    return [row for row in flows if id(row) not in left]


def calls_recognised(calls: Sequence[RecognisedCall]) -> list[Recognition]:
    """Return per app how many calls were recognised, of n; intervals from ten calls on.

    calls: one row per distinct call. Real calls, synthetic ones and those of added captures are
    apart.
    """
    groups: dict[tuple[str, bool, bool], list[RecognisedCall]] = defaultdict(list)
    for row in calls:
        groups[row["app"], row["synthetic"], row["added"]].append(row)
    table: list[Recognition] = []
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


def outcome_table(calls: Sequence[CallRow]) -> list[MissionRow]:
    """Return the outcome table: the outcomes of the calls of each app and kind, of n, per cell."""
    groups: dict[tuple[object, ...], tuple[CallRow, Counter[Result]]] = {}
    for row in calls:
        key = (row["operator"], row["hypothesis"], row["access"], row["date"], row["app"],
               row["kind"], row["later_client"], row["synthetic"], row["added"])  # fmt: skip
        groups.setdefault(key, (row, Counter()))[1][result(row)] += 1
    table: list[MissionRow] = []
    for row, counts in groups.values():
        judged = counts["ok"] + counts["blocked"]
        table.append(
            {
                "operator": row["operator"],
                "hypothesis": row["hypothesis"],
                "access": row["access"],
                "date": row["date"],
                "app": row["app"],
                "kind": row["kind"],
                "later_client": row["later_client"],
                "synthetic": row["synthetic"],
                "added": row["added"],
                "ok": counts["ok"],
                "blocked": counts["blocked"],
                "inconclusive": counts["inconclusive"],
                "invalid": counts["invalid"],
                "n": judged + counts["inconclusive"],
                "blocked_interval": share_interval(counts["blocked"], judged),
            }
        )
    return table


def result(row: CallRow) -> Result:
    """Return ok, blocked, inconclusive or invalid for a call's verdict."""
    if row["verdict"] == "INVALID":
        return "invalid"
    if row["verdict"] == "INCONCLUSIVE":
        return "inconclusive"
    return "blocked" if row["blocked"] else "ok"


def added_calls(calls: Sequence[CallRow]) -> list[OperatorCalls]:
    """Return the same as `operators` for calls of captures that the user added."""
    return tallied([row for row in calls if row["added"] and not row["synthetic"]])


def operators(calls: Sequence[CallRow]) -> list[OperatorCalls]:
    """Return per operator the calls blocked, of n, in cells with documented service.

    Counts are over (call, cell) pairs of real calls: the same call under several hypotheses counts
    several times, so they are no sample and get no interval.
    """
    return tallied(real(calls))


def tallied(calls: Sequence[CallRow]) -> list[OperatorCalls]:
    """Return per operator the outcomes of some calls; `unusable` counts the calls of unusable
    quality, blocked ones included."""
    tallies: dict[str, Counter[Result]] = {}
    for row in calls:
        counts = tallies.setdefault(row["operator"], Counter())
        counts[result(row)] += 1
        counts["unusable"] += row["usable"] is False
    return [
        {
            "operator": operator,
            "ok": counts["ok"],
            "blocked": counts["blocked"],
            "inconclusive": counts["inconclusive"],
            "invalid": counts["invalid"],
            "unusable": counts["unusable"],
        }
        for operator, counts in tallies.items()
    ]


def answer(calls: Sequence[CallRow], rows: Sequence[CollateralRow]) -> list[AnswerLine]:
    """Return the answer of the report's first screen: each operator where it blocks most.

    calls: of real captures, or of added ones; rows: the table `collateral`.
    """
    documented = situations.documented(calls)
    return [
        {
            "operators": list(one.operators),
            "hypothesis": one.most.hypothesis if one.most else None,
            "blocked": one.most.total.blocked if one.most else 0,
            "unusable": one.most.total.unusable if one.most else 0,
            "inconclusive": one.most.total.inconclusive if one.most else 0,
            "n": one.most.total.n if one.most else 0,
            "hit": one.most.hits.hit if one.most and one.most.hits else None,
            "flows": one.most.hits.flows if one.most and one.most.hits else None,
            "untested": one.most.hits.untested if one.most and one.most.hits else None,
        }
        for one in situations.hardest(situations.situations(documented, rows))
    ]


def collateral(rows: Sequence[CollateralRow]) -> Collateral:
    """Return innocent flows and hits over all cells, and the worst cell's share."""
    places: dict[tuple[str, str, str, str], list[int]] = {}
    for row in rows:
        key = (row["operator"], row["hypothesis"], row["access"], row["date"])
        entry = places.setdefault(key, [0, 0, 0])
        entry[0] += row["flows"]
        entry[1] += row["hit"]
        entry[2] += row["untested"]
    worst = max(places.items(), key=lambda item: ratio(item[1][1], item[1][0]) or 0.0, default=None)
    return {
        "by_protocol": by_protocol(rows),
        "flows": sum(n for n, _, _ in places.values()),
        "hit": sum(k for _, k, _ in places.values()),
        "cells": len(places),
        "flows_per_cell": max((n + untested for n, _, untested in places.values()), default=0),
        "worst": None
        if worst is None
        else {
            "operator": worst[0][0],
            "hypothesis": worst[0][1],
            "access": worst[0][2],
            "date": worst[0][3],
            "flows": worst[1][0],
            "hit": worst[1][1],
            "untested": worst[1][2],
        },
    }


def by_protocol(rows: Sequence[CollateralRow]) -> list[KindRate]:
    """Return per hypothesis and kind of traffic the flows hit, in the place where most are hit.

    Rates are per million innocent flows, and per million of their bytes; intervals, of the share of
    flows, resample capture groups. Kinds that are never hit are left out.
    """
    worst: dict[tuple[str, str, str], CollateralRow] = {}
    for row in rows:
        key = (row["operator"], row["hypothesis"], row["protocol"])
        if row["hit"] > (worst[key]["hit"] if key in worst else 0):
            worst[key] = row
    return [
        {
            "operator": row["operator"],
            "hypothesis": row["hypothesis"],
            "protocol": row["protocol"],
            "flows": row["flows"],
            "hit": row["hit"],
            "bytes": row["bytes"],
            "bytes_hit": row["bytes_hit"],
            "flows_per_million": 1e6 * (ratio(row["hit"], row["flows"]) or 0.0),
            "bytes_per_million": 1e6 * (ratio(row["bytes_hit"], row["bytes"]) or 0.0),
            "groups": row["groups"],
            "interval": None
            if row["low"] is None or row["high"] is None
            else (row["low"], row["high"]),
        }
        for _, row in sorted(worst.items())
    ]


def by_noise(rows: Sequence[LocaliseRow]) -> list[NoiseLine]:
    """Return per share of wrong answers the planted rules, those recovered, and probes per rule.

    Rules that never block the call with which they are tested count as `never`, not as planted.
    """
    lines: list[NoiseLine] = []
    for noise in sorted({row["noise"] for row in rows}):
        outcomes = Counter(row["outcome"] for row in rows if row["noise"] == noise)
        own = [row for row in rows if row["noise"] == noise and row["outcome"] != "never"]
        probes = sorted(row["probes"] for row in own) or [0]
        lines.append(
            {
                "planted": len(own),
                "recovered": outcomes["exactly"],
                "partly": outcomes["partly"],
                "unexplained": outcomes["unexplained"],
                "wrong": outcomes["wrong"],
                "never": outcomes["never"],
                "noise": noise,
                "probes_p50": probes[-(-len(probes) * 50 // 100) - 1],
                "probes_p95": probes[-(-len(probes) * 95 // 100) - 1],
            }
        )
    return lines


def localise(rows: Sequence[LocaliseRow]) -> dict[str, object]:
    """Return `localise`: the figures at the largest noise, and at each one, of the listed rules;
    those of other sets of rules by their names."""
    sets = {word: by_noise([row for row in rows if row["set"] == word])
            for word in dict.fromkeys(row["set"] for row in rows)}  # fmt: skip
    listed = sets.pop("listed", [])
    headline = {**listed[-1], "by_noise": listed} if listed else {}
    return {**headline, "sets": sets}


def laws(rows: Sequence[LawRow]) -> LawCounts:
    """Return `laws`: cases tried and broken, over all laws and by law."""
    return {
        "cases": sum(row["cases"] for row in rows),
        "broken": sum(row["broken"] for row in rows),
        "by_law": [row.copy() for row in rows],
    }


def cell_counts(cells: Sequence[CellRow]) -> CellCounts:
    """Return the number of cells, of failed ones, and of those without a documented service.

    The number of reused cells depends on the cache, not on the experiment; it is in cells.csv.
    """
    counts = Counter(row["status"] for row in cells)
    return {
        "n": len(cells),
        "failed": counts["failed"],
        "undocumented": counts["undocumented"],
        "errors": sorted({row["error"] for row in cells if row["error"]}),
    }


def lines(summary: Document) -> list[str]:
    """Return the five lines that a run prints at its end, one more for each live part."""
    cost = summary["throughput"]["offline"]
    text = [
        f"captures: {_capture_words(summary['captures'])}",
        f"seen:     {_seen_words(summary)}",
        f"calls:    {_blocked_words(summary)}",
        f"hit:      {_hit_words(summary['collateral'], summary['answer'])}",
        f"speed:    {_speed_words(cost, summary['latency']['offline']['ns_per_packet'])}",
    ]
    if "laws" in summary:
        counts: LawCounts = summary["laws"]
        text.append(f"laws:     {counts['broken']} of {counts['cases']} cases broken")
    if "live" in summary:
        text.append(f"live:     {_live_words(summary['live'])}")
    if "programs" in summary:
        text.append(f"programs: {_program_words(summary['programs'])}")
    return text


def _capture_words(counts: Mapping[str, int]) -> str:
    lab = f"{counts['recorded']} recorded in the lab, " if counts["recorded"] else ""
    return (
        f"{counts['real']} real, {lab}{counts['synthetic']} synthetic, {counts['missing']} missing"
    )


def _program_words(programs: Json) -> str:
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


def _live_words(live: Json) -> str:
    same, fates, late = live["parity"], live["fates"], live["replay_error_us"]
    words = [f"{fates['proven']} of {fates['packets']} packets' fates proven"]
    if same["cells"]:
        words.insert(0, f"{same['agree']} of {same['cells']} cells as in virtual time")
    if late["p99"] is not None:
        words.append(f"sent {late['p50']:.0f} µs late at p50, {late['p99']:.0f} at p99")
    return ", ".join(words)


def _seen_words(summary: Document) -> str:
    block: Accuracy = summary["accuracy"]
    five, single, alarms = block["five"], block["five_without_copies"], block["false_calls"]
    if not five["n"] and not alarms["flows"]:
        return "no real flow with a label in these captures"
    wait = summary["verdict"]["packets"]["p50"]
    after = "" if wait is None else f", half of them by packet {wait}"
    return (
        f"{five['right']} of {five['n']} call flows of the five apps named right "
        f"({single['right']} of {single['n']} without copied captures){after}; "
        f"{alarms['hits']} of {alarms['flows']} innocent flows taken for a call"
    )


def _blocked_words(summary: Document) -> str:
    cells: CellCounts = summary["cells"]
    real_calls = answer_words(summary["answer"]) or "no real call in these captures"
    own = answer_words(summary["your_answer"])
    yours = f"; of your captures {own}" if own else ""
    failed = f", {cells['failed']} failed" if cells["failed"] else ""
    return f"at most blocked: {real_calls}{yours}; {cells['n']} cells{failed}"


def answer_words(rows: Sequence[AnswerLine]) -> str:
    """Return the calls that operators block where they block most, of n."""
    return "; ".join(
        f"{', '.join(row['operators'])} {row['blocked']} of {row['n']} "
        f"(hypothesis {row['hypothesis']})"
        if row["hypothesis"]
        else f"{', '.join(row['operators'])} cannot be tested"
        for row in rows
    )


def _hit_words(hit: Collateral, answer: Sequence[AnswerLine]) -> str:
    worst, flows = hit["worst"], hit["flows_per_cell"]
    if worst is None:
        return "no innocent capture took part"
    if not worst["hit"]:
        return f"none of {flows} innocent flows in any cell"
    there = ", ".join(
        f"{', '.join(row['operators'])} {row['hit']}" for row in answer if row["hit"] is not None
    )
    return (
        f"{there} of {flows} innocent flows by these hypotheses; "
        f"at worst {worst['hit']} of {flows} "
        f"({worst['operator']}, {worst['hypothesis']}, {worst['access']}, {worst['date']})"
    )


def _speed_words(cost: Mapping[str, float], spent: Mapping[str, float]) -> str:
    if not cost["packets_per_s"]:
        return "n/a (no packets)"
    return (
        f"{cost['packets_per_s'] / 1e6:.1f} million packets/s, {cost['bytes_per_s'] * 8 / 1e9:.1f} "
        f"Gbit/s on one core; {spent['p50']:.0f} ns per packet (p50), {spent['p99']:.0f} (p99)"
    )


def intervals_note() -> str:
    """Return the note of the report on the methods of intervals."""
    return (
        "shares of flows: cluster bootstrap over capture groups, 95 %; shares of calls: "
        f"Clopper-Pearson, 95 %; below {FEWEST} independent units counts alone"
    )
