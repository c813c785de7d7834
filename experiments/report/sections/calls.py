# SPDX-License-Identifier: BSD-3-Clause
"""Calls: whether each was recognised, by which bytes, and its verdict under each hypothesis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypedDict

from midcall.experiments.measure import situations
from midcall.experiments.measure.intervals import Interval, clopper_pearson
from midcall.experiments.report import ladder
from midcall.experiments.report.sections.accuracy import app_rank
from midcall.experiments.report.sections.timelines import timelines
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import CallRow, FlowRow, Recognition

#: Roles in which a certain verdict claims a call.
CALL_ROLES = ("media", "setup", "control")


class ShownCall(CallRow):
    """A call, the flow by which it was recognised, the hypotheses that block it, its packets."""

    proof: FlowRow | None
    ladder: ladder.Ladder | None
    flows: int
    blocked_under: int
    hypotheses: int


class RecognisedOfApp(TypedDict):
    """Calls of an app (None: of all) recognised, of n, with the interval of the share."""

    app: str | None
    real: tuple[int, int, Interval | None] | None
    synthetic: tuple[int, int, Interval | None] | None


class Fate(CallRow):
    """A call under a hypothesis, and the places in which its verdict is the same."""

    places: list[situations.Place]
    situation: situations.Situation


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section."""
    calls = recognised(run)
    return {
        "calls": calls,
        "laddered": sum(call["ladder"] is not None for call in calls),
        "most_ladders": ladder.MOST,
        "recognition": recognition(run),
        "fates": fates(run),
        "timelines": timelines(run),
    }


def recognised(run: Findings) -> list[ShownCall]:
    """Return one row per call: whether, after how long and by which bytes it was recognised."""
    own: dict[tuple[str, str], list[FlowRow]] = defaultdict(list)
    by_capture: dict[str, list[FlowRow]] = defaultdict(list)
    for flow in run["flows"]:
        by_capture[flow["capture"]].append(flow)
        if flow.get("truth_call"):
            own[flow["capture"], str(flow["truth_call"])].append(flow)
    blocked: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for row in situations.documented(run["calls"]):
        name = str(row["hypothesis"])
        by_hypothesis = blocked[str(row["capture"]), str(row["call"])]
        by_hypothesis[name] = by_hypothesis.get(name, False) or bool(row.get("blocked"))
    ladders = ladder.ladders(run)
    rows: list[ShownCall] = []
    for key, call in situations.distinct_calls(run["calls"]).items():
        flows = own.get(key) or by_capture.get(key[0]) or []
        rows.append(
            {
                **call,
                "proof": _proof(call, flows) if call["recognised"] else None,
                "ladder": ladders.get(key),
                "flows": len(own.get(key, [])),
                "blocked_under": sum(blocked[key].values()),
                "hypotheses": len(blocked[key]),
            }
        )
    rows.sort(
        key=lambda row: (bool(row["synthetic"]), *situations.column_rank(situations.column_of(row)))
    )
    return rows


def _proof(call: CallRow, flows: Iterable[FlowRow]) -> FlowRow | None:
    """Return the flow that was recognised first: certain, of the call's app, fewest packets."""
    certain = [
        (packets, flow)
        for flow in flows
        if flow["verdict"] == "certain"
        and flow["role"] in CALL_ROLES
        and (packets := flow["packets_to_verdict"]) is not None
        and (flow["app"] == call["app"] or flow.get("outcome") == "right")
    ]
    return min(certain, key=lambda one: one[0])[1] if certain else None


def recognition(run: Findings) -> list[RecognisedOfApp]:
    """Return per app the real and the synthetic calls recognised, k of n, exact intervals.

    The runner counts every call of a capture that is no copy of another one. The last row adds up
    all apps.
    """
    counts: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    calls: list[Recognition] = run.at("accuracy", "calls_recognised") or []
    for row in calls:
        if row.get("added"):
            continue
        side = "synthetic" if row["synthetic"] else "real"
        counts[row["app"]][side] = (row["hits"], row["n"])
    table = [_recognition(app, counts[app]) for app in sorted(counts, key=app_rank)]
    if len(table) > 1:
        totals = {side: _added([sides.get(side) for sides in counts.values()])
                  for side in ("real", "synthetic")}  # fmt: skip
        table.append(_recognition(None, totals))
    return table


def _added(counts: Iterable[tuple[int, int] | None]) -> tuple[int, int]:
    known = [pair for pair in counts if pair is not None]
    return sum(hits for hits, _ in known), sum(n for _, n in known)


def _recognition(app: str | None, counts: Mapping[str, tuple[int, int]]) -> RecognisedOfApp:
    return {
        "app": app,
        "real": _with_interval(counts.get("real")),
        "synthetic": _with_interval(counts.get("synthetic")),
    }


def _with_interval(pair: tuple[int, int] | None) -> tuple[int, int, Interval | None] | None:
    return (*pair, clopper_pearson(*pair)) if pair and pair[1] else None


def fates(run: Findings) -> list[Fate]:
    """Return each call under each hypothesis, places with the same verdict joined.

    Only places where the hypothesis affects some call: elsewhere all calls get through.
    """
    rows = situations.documented(run["calls"])
    active = {
        (row["hypothesis"], situations.place_of(row))
        for row in rows
        if row.get("blocked") or row.get("verdict") not in ("OK", "INVALID")
    }
    joined: dict[tuple[str | None, ...], tuple[CallRow, list[situations.Place]]] = {}
    for row in rows:
        place = situations.place_of(row)
        if (row["hypothesis"], place) in active:
            key = (row["hypothesis"], row["capture"], row["call"], row.get("verdict"),
                   row.get("rule"), row.get("reason"))  # fmt: skip
            joined.setdefault(key, (row, []))[1].append(place)
    return [
        {**row, "places": places, "situation": situations.Situation(tuple(places), ())}
        for row, places in joined.values()
    ]
