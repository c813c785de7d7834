# SPDX-License-Identifier: BSD-3-Clause
"""Tables and figures of live calls: program_calls, program_states, `programs` of the summary."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from midcall.experiments.livecalls.arm import NO_OPERATOR, Captured, Made, Result
from midcall.experiments.measure.intervals import clopper_pearson
from midcall.testbed.programs.calls.media_direction import control_of
from midcall.testbed.programs.calls.report import Account
from midcall.testbed.programs.calls.verdict import WORDS, arrivals, connected_at, path

Row = dict[str, Any]

#: Slots of a call's timeline, in s.
SLOT_S = 0.5
#: Columns of a direction, behind "up_" or "down_".
DIRECTION = (
    "sent", "arrived", "loss", "delay_ms", "jitter_ms", "mos", "mos_low", "mos_high", "mos_control",
    "heard_s", "heard_control_s", "concealed", "frozen_s", "counted_by", "slots", "control_slots",
)  # fmt: skip


class Told(NamedTuple):
    """Tables by name, and `programs` of summary.json."""

    tables: dict[str, list[Row]]
    summary: Row


def live_call_tables(results: Sequence[Result]) -> Told:
    """Return the tables and the summary of live calls."""
    rows = [call_row(one) for one in results]
    states = [row for one in results for row in state_rows(one)]
    return Told({"program_calls": rows, "program_states": states}, summarise(rows))


def call_row(one: Result) -> Row:
    """Return a row of program_calls."""
    account = one.made.called.account if one.made else None
    control = one.control.made.called.account if one.control else None
    judged, replay = one.judged, one.replay
    live = judged.verdict if judged else "INVALID"
    word = replay.verdict if replay else None
    row: Row = {
        **place(one),
        "security": one.plan.security,
        "program": account.version if account else "",
        "verdict": live,
        "blocked": bool(judged and judged.blocked),
        "rule": judged.rule if judged else None,
        "reason": judged.reason if judged else one.error,
        "connected": bool(account and account.connected),
        "connected_s": setup_s(account),
        "connected_control_s": setup_s(control),
        "carried": path(account) if account else "",
        "carried_control": path(control) if control else "",
        "met": sum(one.made.called.met.values()) if one.made else 0,
        "replay": word,
        "replay_blocked": replay.blocked if replay else None,
        "replay_reason": replay.reason if replay else None,
        "agree": agree(live, word),
        "agree_blocked": None
        if replay is None or judged is None or "INVALID" in (live, word)
        else judged.blocked == replay.blocked,
        "seconds": one.seconds,
        "error": one.error or (account.error if account else ""),
    }
    for name in WORDS:
        row |= direction(name, one.made, one.control)
    return row


def place(one: Result) -> Row:
    """Return the columns that name a call."""
    return {
        **one.cell.place(),
        "hypothesis_title": one.cell.title,
        "plan": one.plan.name,
        "caller": one.plan.caller,
        "media": one.plan.media,
        "path": one.plan.path,
        "repeat": one.repeat,
    }


def agree(live: str, replay: str | None) -> bool | None:
    """Return whether live call and replay have the same verdict; None if one has no verdict."""
    return None if replay is None or "INVALID" in (live, replay) else live == replay


def setup_s(account: Account | None) -> float | None:
    """Return the seconds until the caller's end was connected, None if it was not."""
    at = connected_at(account.ends[0]) if account and account.connected else 0.0
    return at or None


def direction(name: str, made: Made | None, control: Captured | None) -> Row:
    """Return the columns of a direction, named up_... or down_...."""
    way = made.called.ways[name] if made else None
    null = control.made.called.ways[name] if control else None
    quality = way.heard if way else None
    before = control_of(way, null) if way and null else null.heard if null else None
    columns = {
        "sent": quality.expected if quality else None,
        "arrived": quality.arrived if quality else None,
        **{
            key: getattr(quality, key) if quality else None
            for key in ("loss", "delay_ms", "jitter_ms", "mos", "mos_low", "mos_high")
        },
        "mos_control": before.mos if before else None,
        "heard_s": way.heard_s if way else None,
        "heard_control_s": null.heard_s if null else None,
        "concealed": way.concealed if way else None,
        "frozen_s": way.frozen_s if way else None,
        "counted_by": way.source if way else "",
        "slots": slots(name, made),
        "control_slots": slots(name, control.made if control else None),
    }
    return {f"{name}_{key}": columns[key] for key in DIRECTION}


def slots(name: str, made: Made | None) -> str:
    """Return how many packets a receiver got in each slot of the plan's seconds, "[3, 25, ...]"."""
    if made is None or not made.called.account.connected:
        return "[]"
    account = made.called.account
    when = arrivals(account, name) / 1e9
    edges = np.arange(0, account.plan.seconds + SLOT_S / 2, SLOT_S)
    return json.dumps(np.histogram(np.maximum(when, 0), edges)[0].tolist())


def state_rows(one: Result) -> Iterable[Row]:
    """Yield rows of program_states: the states that each end's program reported, and when."""
    if one.made is None:
        return
    for end in one.made.called.account.ends:
        for state in end.states:
            yield {
                **place(one), "end": end.name, "at_s": state.at_s, "kind": state.kind,
                "word": state.word,
            }  # fmt: skip
        for pair in end.pairs:
            words = f"{pair.local.kind} {pair.local.relay or pair.local.proto}"
            yield {
                **place(one), "end": end.name, "at_s": pair.at_s, "kind": "path", "word": words,
            }  # fmt: skip


# ---- summary


def summarise(rows: Sequence[Row]) -> Row:
    """Return `programs` of summary.json."""
    again = [row for row in rows if row["operator"] == NO_OPERATOR]
    rows = [row for row in rows if row["operator"] != NO_OPERATOR]
    valid = [row for row in rows if row["verdict"] != "INVALID"]
    by_plan: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_plan[row["plan"]][row["verdict"]] += 1
    return {
        "calls": len(rows),
        "valid": len(valid),
        "policies": len({(row["operator"], row["hypothesis"]) for row in rows}),
        "access": list(dict.fromkeys(row["access"] for row in rows)),
        "plans": {plan: dict(verdicts) for plan, verdicts in by_plan.items()},
        "programs": sorted({row["program"] for row in rows if row["program"]}),
        "fallbacks": [fallback(row) for row in rows if row["verdict"] == "FALLBACK"],
        "agreement": agreement(rows),
        "null": {
            "calls": len(again),
            "ok": sum(row["verdict"] == "OK" for row in again),
            "others": [
                {key: row[key] for key in ("plan", "access", "verdict", "reason")}
                for row in again
                if row["verdict"] != "OK"
            ],
        },
        "failed": [
            {key: row[key] for key in ("plan", "access", "hypothesis", "error")}
            for row in rows
            if row["error"]
        ],
    }


def fallback(row: Mapping[str, Any]) -> Row:
    """Return a fallback and its cost."""
    keys = (
        "operator", "hypothesis", "access", "plan", "carried_control", "carried", "connected_s",
        "connected_control_s", "up_mos", "up_mos_control", "down_mos", "down_mos_control",
        "down_delay_ms", "down_heard_s", "down_heard_control_s",
    )  # fmt: skip
    return {key: row[key] for key in keys}


def agreement(rows: Sequence[Row]) -> Row:
    """Return how often replay and live call agree, with exact intervals.

    The unit is the call: calls of one plan on one access network share a control, which the
    interval ignores. `blocked` is agreement in two classes: blocked or not.
    """
    both = [row for row in rows if row["agree"] is not None]
    same = sum(row["agree"] for row in both)
    blocked = sum(bool(row["agree_blocked"]) for row in both)
    by_plan = {
        plan: share([row for row in both if row["plan"] == plan])
        for plan in dict.fromkeys(row["plan"] for row in both)
    }
    return {
        "n": len(both),
        "agree": same,
        "interval": clopper_pearson(same, len(both)),
        "blocked_agree": blocked,
        "blocked_interval": clopper_pearson(blocked, len(both)),
        "by_plan": by_plan,
        "pairs": [
            {"replay": pair[0], "live": pair[1], "n": n}
            for pair, n in Counter((row["replay"], row["verdict"]) for row in both).most_common()
        ],
        "disagreements": [
            {key: row[key] for key in ("operator", "hypothesis", "access", "plan", "repeat",
             "verdict", "reason", "replay", "replay_reason", "agree_blocked")}
            for row in both
            if not row["agree"]
        ],
    }  # fmt: skip


def share(rows: Sequence[Row]) -> Row:
    """Return n, and how many agree, in all verdicts and in two classes."""
    return {
        "n": len(rows),
        "agree": sum(row["agree"] for row in rows),
        "blocked_agree": sum(bool(row["agree_blocked"]) for row in rows),
    }
