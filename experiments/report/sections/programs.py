# SPDX-License-Identifier: BSD-3-Clause
"""Real calls: programs that called under each policy, beside the replay of the same calls."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from midcall.experiments.report.sections.timelines import ENDS, ORDER, area
from midcall.experiments.results.reader import Findings

Row = Mapping[str, Any]
Table = dict[str, Any]

#: Calls drawn at most: one for each program and way that a call ended comes first.
MOST = 24
#: Seconds of a slot, as experiments.livecalls.tables counts them.
SLOT_S = 0.5
#: States of one end that are shown at most.
STATES = 24
#: What names a call among others.
NAME = ("operator", "hypothesis", "access", "date", "plan", "repeat")
PATHS = {"peer": "directly", "relay": "by a relay (UDP)", "tcp": "by a relay over TCP",
         "tls": "by a relay over TLS", "": "not at all"}  # fmt: skip


def build(run: Findings) -> Table | None:
    """Return what the section shows, None where the spec asks for no live calls."""
    told = run.at("programs")
    if told is None:
        return None
    rows = run["program_calls"]
    return {
        "programs": {
            "lacking": [],
            **told,
            "table": table(rows),
            "plan_names": list(dict.fromkeys(row["plan"] for row in rows)),
            "drawn": drawn(run, rows),
            "paths": PATHS,
        }
    }


def table(rows: Sequence[Row]) -> list[Table]:
    """Return a line per policy and access network; under each plan its calls."""
    held: dict[tuple[str, ...], Table] = {}
    for row in rows:
        key = (row["operator"], row["hypothesis"], row["access"], row["date"])
        line = held.setdefault(
            key,
            {
                "operator": row["operator"],
                "hypothesis_title": row["hypothesis_title"],
                "access": row["access"],
                "plans": defaultdict(list),
            },
        )
        line["plans"][row["plan"]].append(row)
    return list(held.values())


def drawn(run: Findings, rows: Sequence[Row]) -> list[Table]:
    """Return the calls that are drawn, with both ends' strips and states."""
    said: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for state in run["program_states"]:
        said[tuple(state[name] for name in NAME)].append(state)
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        best.setdefault((row["plan"], row["verdict"]), row)
    chosen = sorted(best.values(), key=lambda row: (row["plan"], rank(row["verdict"])))[:MOST]
    return [{**row, **told(row, said[tuple(row[name] for name in NAME)])} for row in chosen]


def told(row: Row, states: Sequence[Row]) -> Table:
    """Return what is drawn of a call: strips, changes of path on them, and states by end."""
    begin = row["connected_s"] or 0.0
    moves = [
        round((state["at_s"] - begin) / SLOT_S, 2)
        for state in states
        if state["end"] == "caller" and state["kind"] in ("path", "restart")
    ]
    return {"strips": strips(row), "moves": [max(at, 0.05) for at in moves], "said": ends(states)}


def rank(verdict: str) -> int:
    """Return where a verdict stands among others."""
    return ORDER.index(verdict) if verdict in ORDER else len(ORDER)


def strips(row: Row) -> list[Table]:
    """Return both directions: areas of what came, and came without the policy."""
    counts = {
        name: (json.loads(row[f"{name}_slots"]), json.loads(row[f"{name}_control_slots"]))
        for name in ENDS
    }
    top = max((n for pair in counts.values() for part in pair for n in part), default=1)
    return [
        {
            "name": words,
            "wide": max(len(counts[name][0]), len(counts[name][1]), 1),
            "came": area(counts[name][0], top),
            "due": area(counts[name][1], top),
            "words": direction(name, row),
        }
        for name, words in ENDS.items()
    ]


def direction(name: str, row: Row) -> str:
    """Return what is known of a direction, in a sentence."""
    if row[f"{name}_sent"] is None:
        return "nothing was sent this way"
    parts = [f"{row[f'{name}_arrived']} of {row[f'{name}_sent']} packets arrived"]
    if row[f"{name}_delay_ms"] is not None:
        parts.append(f"{row[f'{name}_delay_ms']:.0f} ms one way")
    if row[f"{name}_mos_control"] is not None:
        now, was = row[f"{name}_mos"], row[f"{name}_mos_control"]
        parts.append(f"MOS {'n/a' if now is None else f'{now:.1f}'}, {was:.1f} without the policy")
    if row[f"{name}_heard_s"] is not None:
        parts.append(f"{row[f'{name}_heard_s']:.1f} s heard")
    return ", ".join(parts)


def ends(states: Sequence[Row]) -> list[Table]:
    """Return what each end's program said, in order of time."""
    held: dict[str, list[Row]] = defaultdict(list)
    for state in sorted(states, key=lambda one: one["at_s"]):
        held[state["end"]].append(state)
    return [
        {"end": end, "states": own[:STATES], "more": len(own) - len(own[:STATES])}
        for end, own in sorted(held.items(), reverse=True)
    ]
