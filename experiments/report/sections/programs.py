# SPDX-License-Identifier: BSD-3-Clause
"""Real calls: live calls of programs under each policy, with the replay of the same calls."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, TypedDict

from midcall.experiments.measure import formatting
from midcall.experiments.measure.formatting import N_, gettext
from midcall.experiments.report.sections.timelines import ENDS, ORDER, area
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import Direction, ProgramCallRow, ProgramStateRow

#: The most calls that are drawn: one for each plan and verdict.
MOST = 24
#: Seconds of a slot, as experiments.livecalls.tables counts them.
SLOT_S = 0.5
#: The most states of one end that are shown.
STATES = 24
#: The key of a call.
NAME: tuple[Literal["operator", "hypothesis", "access", "date", "plan", "repeat"], ...] = (
    "operator",
    "hypothesis",
    "access",
    "date",
    "plan",
    "repeat",
)
PATHS = {
    "peer": N_("directly"),
    "relay": N_("by a relay (UDP)"),
    "tcp": N_("by a relay over TCP"),
    "tls": N_("by a relay over TLS"),
    "": N_("no path"),
}


class PolicyLine(TypedDict):
    """A policy on an access network: its calls by plan."""

    operator: str
    hypothesis_title: str
    access: str
    plans: dict[str, list[ProgramCallRow]]


class Strip(TypedDict):
    """One direction of a call: outlines of packets that arrived, with and without the policy."""

    name: str
    wide: int
    came: str
    due: str
    words: str


class EndStates(TypedDict):
    """States of one end's program, the first ones; more: the number of the others."""

    end: str
    states: list[ProgramStateRow]
    more: int


class Drawing(TypedDict):
    """The drawing of a call: strips, changes of path on them, and states by end."""

    strips: list[Strip]
    moves: list[float]
    said: list[EndStates]


class DirectionColumns(TypedDict):
    """Columns of one direction of a call, without their prefix."""

    sent: int | None
    arrived: int | None
    delay_ms: float | None
    mos: float | None
    mos_control: float | None
    heard_s: float | None
    slots: str
    control_slots: str


def build(run: Findings) -> dict[str, object] | None:
    """Return the values of the section, None where the spec asks for no live calls."""
    block = run.at("programs")
    if block is None:
        return None
    rows = run["program_calls"]
    return {
        "programs": {
            "lacking": [],
            **block,
            "table": table(rows),
            "plan_names": list(dict.fromkeys(row["plan"] for row in rows)),
            "drawn": drawn(run, rows),
            "paths": PATHS,
        }
    }


def table(rows: Sequence[ProgramCallRow]) -> list[PolicyLine]:
    """Return a line per policy and access network; under each plan its calls."""
    lines: dict[tuple[str, ...], PolicyLine] = {}
    for row in rows:
        key = (row["operator"], row["hypothesis"], row["access"], row["date"])
        line = lines.setdefault(
            key,
            {
                "operator": row["operator"],
                "hypothesis_title": row["hypothesis_title"],
                "access": row["access"],
                "plans": defaultdict(list),
            },
        )
        line["plans"][row["plan"]].append(row)
    return list(lines.values())


def drawn(run: Findings, rows: Sequence[ProgramCallRow]) -> list[dict[str, object]]:
    """Return the calls that are drawn, with both ends' strips and states."""
    states: dict[tuple[str | int, ...], list[ProgramStateRow]] = defaultdict(list)
    for state in run["program_states"]:
        states[tuple(state[name] for name in NAME)].append(state)
    best: dict[tuple[str, str], ProgramCallRow] = {}
    for row in rows:
        best.setdefault((row["plan"], row["verdict"]), row)
    chosen = sorted(best.values(), key=lambda row: (row["plan"], rank(row["verdict"])))[:MOST]
    return [{**row, **drawing(row, states[tuple(row[name] for name in NAME)])} for row in chosen]


def drawing(row: ProgramCallRow, states: Sequence[ProgramStateRow]) -> Drawing:
    """Return the drawing of a call: strips, changes of path on them, and states by end."""
    begin = row["connected_s"] or 0.0
    moves = [
        round((state["at_s"] - begin) / SLOT_S, 2)
        for state in states
        if state["end"] == "caller" and state["kind"] in ("path", "restart")
    ]
    return {"strips": strips(row), "moves": [max(at, 0.05) for at in moves], "said": ends(states)}


def rank(verdict: str) -> int:
    """Return the position of a verdict among others."""
    return ORDER.index(verdict) if verdict in ORDER else len(ORDER)


def columns_of(row: ProgramCallRow, direction: Direction) -> DirectionColumns:
    """Return the columns of one direction."""
    if direction == "up":
        return {
            "sent": row["up_sent"],
            "arrived": row["up_arrived"],
            "delay_ms": row["up_delay_ms"],
            "mos": row["up_mos"],
            "mos_control": row["up_mos_control"],
            "heard_s": row["up_heard_s"],
            "slots": row["up_slots"],
            "control_slots": row["up_control_slots"],
        }
    return {
        "sent": row["down_sent"],
        "arrived": row["down_arrived"],
        "delay_ms": row["down_delay_ms"],
        "mos": row["down_mos"],
        "mos_control": row["down_mos_control"],
        "heard_s": row["down_heard_s"],
        "slots": row["down_slots"],
        "control_slots": row["down_control_slots"],
    }


def strips(row: ProgramCallRow) -> list[Strip]:
    """Return both directions: outlines of packets that arrived, with and without the policy."""
    columns = {name: columns_of(row, name) for name in ENDS}
    counts: dict[Direction, tuple[list[int], list[int]]] = {
        name: (json.loads(one["slots"]), json.loads(one["control_slots"]))
        for name, one in columns.items()
    }
    top = max((n for pair in counts.values() for part in pair for n in part), default=1)
    return [
        {
            "name": gettext(words),
            "wide": max(len(counts[name][0]), len(counts[name][1]), 1),
            "came": area(counts[name][0], top),
            "due": area(counts[name][1], top),
            "words": direction_words(columns[name]),
        }
        for name, words in ENDS.items()
    ]


def direction_words(columns: DirectionColumns) -> str:
    """Return the figures of a direction as a sentence."""
    if columns["sent"] is None:
        return gettext("nothing was sent this way")
    counts = formatting.of(columns["arrived"], columns["sent"])
    parts = [gettext("%(counts)s packets arrived") % {"counts": counts}]
    if columns["delay_ms"] is not None:
        time = formatting.duration_ms(columns["delay_ms"])
        parts.append(gettext("%(time)s one way") % {"time": time})
    if columns["mos_control"] is not None:
        ratings = [formatting.decimal(columns[key], 1) for key in ("mos", "mos_control")]
        words = gettext("MOS %(now)s, %(control)s without the policy")
        parts.append(words % dict(zip(("now", "control"), ratings, strict=True)))
    if columns["heard_s"] is not None:
        time = formatting.decimal(columns["heard_s"], 1)
        parts.append(gettext("%(time)s s heard") % {"time": time})
    return gettext(", ").join(parts)


def ends(states: Sequence[ProgramStateRow]) -> list[EndStates]:
    """Return the states of each end's program, in order of time."""
    by_end: dict[str, list[ProgramStateRow]] = defaultdict(list)
    for state in sorted(states, key=lambda one: one["at_s"]):
        by_end[state["end"]].append(state)
    return [
        {"end": end, "states": own[:STATES], "more": len(own) - len(own[:STATES])}
        for end, own in sorted(by_end.items(), reverse=True)
    ]
