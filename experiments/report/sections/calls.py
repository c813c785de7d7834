# SPDX-License-Identifier: BSD-3-Clause
"""Calls: whether each was recognised, by which bytes, and what became of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from midcall.experiments.measure import situations
from midcall.experiments.measure.intervals import clopper_pearson
from midcall.experiments.report.sections.timelines import timelines
from midcall.experiments.results.reader import Findings

Row = Mapping[str, Any]
Table = dict[str, Any]

#: Roles in which a certain verdict claims a call.
LOUD_ROLES = ("media", "setup", "control")


def build(run: Findings) -> Table:
    """Return what the section shows."""
    return {
        "calls": recognised(run),
        "recognition": recognition(run),
        "fates": fates(run),
        "timelines": timelines(run),
    }


def recognised(run: Findings) -> list[Table]:
    """Return one row per call: whether, after what and by which bytes it was recognised."""
    own: dict[tuple[str, str], list[Table]] = defaultdict(list)
    by_capture: dict[str, list[Table]] = defaultdict(list)
    for flow in run["flows"]:
        by_capture[flow["capture"]].append(flow)
        if flow.get("truth_call"):
            own[flow["capture"], str(flow["truth_call"])].append(flow)
    fates: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for row in situations.documented(run["calls"]):
        name = str(row["hypothesis"])
        held = fates[str(row["capture"]), str(row["call"])]
        held[name] = held.get(name, False) or bool(row.get("blocked"))
    rows = []
    for key, call in situations.distinct_calls(run["calls"]).items():
        seen = own.get(key) or by_capture.get(key[0]) or []
        proof = _proof(call, seen) if call["recognised"] else None
        rows.append(
            {
                **call,
                "proof": proof,
                "flows": len(own.get(key, [])),
                "blocked_under": sum(fates[key].values()),
                "hypotheses": len(fates[key]),
            }
        )
    rows.sort(
        key=lambda row: (bool(row["synthetic"]), *situations.column_rank(situations.column_of(row)))
    )
    return rows


def _proof(call: Row, flows: Iterable[Table]) -> Table | None:
    """Return the flow that gave the call away first: certain, of its app, fewest packets."""
    sure = [
        flow
        for flow in flows
        if flow["verdict"] == "certain"
        and flow["role"] in LOUD_ROLES
        and flow["packets_to_verdict"] is not None
        and (flow["app"] == call["app"] or flow.get("outcome") == "right")
    ]
    return min(sure, key=lambda flow: flow["packets_to_verdict"], default=None)


def recognition(run: Findings) -> list[Table]:
    """Return per app the real and the synthetic calls recognised, k of n, exact intervals.

    The runner counts every call of a capture that is no copy of another one. The last row adds up
    all apps.
    """
    counts: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for row in run.at("accuracy", "calls_recognised") or []:
        if row.get("added"):
            continue
        side = "synthetic" if row["synthetic"] else "real"
        counts[row["app"]][side] = (row["hits"], row["n"])
    order = sorted(
        counts, key=lambda app: situations.column_rank(situations.Column(app, "", False))
    )
    table = [_recognition(app, counts[app]) for app in order]
    if len(table) > 1:
        totals = {side: _added([held.get(side) for held in counts.values()])
                  for side in ("real", "synthetic")}  # fmt: skip
        table.append(_recognition(None, totals))
    return table


def _added(counts: Iterable[tuple[int, int] | None]) -> tuple[int, int]:
    known = [held for held in counts if held is not None]
    return sum(hits for hits, _ in known), sum(n for _, n in known)


def _recognition(app: str | None, counts: Mapping[str, tuple[int, int]]) -> Table:
    row: Table = {"app": app}
    for side in ("real", "synthetic"):
        held = counts.get(side)
        row[side] = (*held, clopper_pearson(*held)) if held and held[1] else None
    return row


def fates(run: Findings) -> list[Table]:
    """Return each call under each hypothesis, places with the same fate joined.

    Only places where the hypothesis does something to some call: elsewhere all calls get through.
    """
    rows = situations.documented(run["calls"])
    active = {
        (row["hypothesis"], situations.place_of(row))
        for row in rows
        if row.get("blocked") or row.get("verdict") not in ("OK", "INVALID")
    }
    joined: dict[tuple[Any, ...], Table] = {}
    for row in rows:
        place = situations.place_of(row)
        if (row["hypothesis"], place) in active:
            names = ("hypothesis", "capture", "call", "verdict", "rule", "reason")
            key = tuple(row.get(name) for name in names)
            joined.setdefault(key, {**row, "places": []})["places"].append(place)
    for entry in joined.values():
        entry["situation"] = situations.Situation(tuple(entry["places"]), ())
    return list(joined.values())
