# SPDX-License-Identifier: BSD-3-Clause
"""Timelines of calls: for each app and verdict, the report draws one call over time.

A call has two strips, one per direction. A strip shows how many packets met the box in each slot.
All slots of a call are equally long (testbed.assess.timeline).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from midcall.apps import FIVE
from midcall.experiments.measure.formatting import (
    N_,
    count,
    counted,
    duration_ms,
    gettext,
    measured,
    written,
)
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import Direction, TimelineRow

#: The most calls that are drawn; timelines.csv has all calls.
MOST = 36
#: Height of a strip in SVG units. A slot is one unit wide.
HEIGHT = 20
#: Verdicts in the order in which the page shows them.
ORDER = ("SIGNALLING_BLOCKED", "SETUP_BLOCKED", "CONNECTED_NO_MEDIA", "ONE_WAY", "CUT", "DEGRADED",
         "FALLBACK", "OK", "INCONCLUSIVE", "INVALID")  # fmt: skip
ENDS: dict[Direction, str] = {"up": N_("from the caller"), "down": N_("to the caller")}


class Call(TimelineRow):
    """A call in one cell: the columns of its first row, and the row of each direction."""

    up: TimelineRow
    down: TimelineRow


class Strip(TypedDict):
    """One direction of a call, as the template draws it.

    wide: number of slots; due, sent, came: SVG paths of the packets that met the box without the
    policy, that met it under the policy, and that arrived; marks: (kind, position in slots).
    """

    name: str
    wide: int
    due: str
    sent: str
    came: str
    marks: list[tuple[str, float]]
    words: str
    mos: str


class DrawnCall(Call):
    """A call with its strips."""

    strips: list[Strip]
    seconds_word: str | None
    recognised_word: str | None


class Timelines(TypedDict):
    """shown: the calls that are drawn; calls: the number of all calls; kinds: the number of
    different pairs of app and verdict; order: the directions and their names.
    """

    shown: list[DrawnCall]
    calls: int
    kinds: int
    order: dict[Direction, str]


def timelines(run: Findings) -> Timelines:
    """Return the calls that are drawn, with the counts of a run's timelines."""
    calls = pairs(run["timelines"])
    best: dict[tuple[str, str], Call] = {}
    for call in sorted(calls, key=preference):
        best.setdefault((call["app"], call["verdict"]), call)
    chosen = sorted(best.values(), key=page_order)[:MOST]
    return {
        "shown": [drawn(call) for call in chosen],
        "calls": len(calls),
        "kinds": len(best),
        "order": ENDS,
    }


def pairs(rows: Sequence[TimelineRow]) -> list[Call]:
    """Return one entry per call and cell, with the rows of its two directions."""
    by_call: dict[tuple[str, ...], list[TimelineRow]] = {}
    for row in rows:
        key = (row["operator"], row["hypothesis"], row["access"], row["date"], row["capture"],
               row["call"])  # fmt: skip
        by_call.setdefault(key, []).append(row)
    calls: list[Call] = []
    for own in by_call.values():
        lanes = {row["direction"]: row for row in own}
        calls.append({**own[0], "up": lanes["up"], "down": lanes["down"]})
    return calls


def preference(call: Call) -> tuple[bool, str, bool, bool]:
    """Return the sort key that chooses the call to draw; the lowest key is chosen.

    In this order: a real call before a synthetic one, then the better grade of the rule, then a
    call with packets in both directions, then a call with a MOS.
    """
    both = all(call[name]["due"] for name in ENDS)
    rated = any(call[name]["mos_control"] is not None for name in ENDS)
    return bool(call["synthetic"]), str(call["grade"] or "Z"), not both, not rated


def page_order(call: Call) -> tuple[int, str, int]:
    """Return the sort key of a call on the page: by app, then by verdict."""
    app, verdict = str(call["app"]), str(call["verdict"])
    rank = FIVE.index(app) if app in FIVE else len(FIVE)
    return rank, app, ORDER.index(verdict) if verdict in ORDER else len(ORDER)


def drawn(call: Call) -> DrawnCall:
    """Return a call with its strips; both strips have the same scale."""
    top = max(max(slots(call[name], "due") + slots(call[name], "sent")) for name in ENDS)
    return {
        **call,
        "strips": [strip(name, call[name], top) for name in ENDS],
        "seconds_word": moment(call["seconds"]),
        "recognised_word": moment(call["recognised_s"]),
    }


def moment(seconds: float | None) -> str | None:
    """Return a time of the call as text, None for None."""
    if seconds is None:
        return None
    return measured(f"{seconds:.1f}", "s") if seconds >= 1 else duration_ms(1000 * seconds)


def slots(lane: TimelineRow, counted: Literal["due", "sent", "came"]) -> list[int]:
    """Return the number of packets in each slot."""
    if counted == "due":
        text = lane["due_slots"]
    elif counted == "sent":
        text = lane["sent_slots"]
    else:
        text = lane["came_slots"]
    return [int(word) for word in str(text).split()]


def strip(name: Direction, lane: TimelineRow, top: int) -> Strip:
    """Return one direction of a call as a strip; top: packets of a slot that has full height."""
    wide = len(slots(lane, "due"))
    scale = lane["seconds"] or 1.0
    marks = [("recognised", lane["recognised_s"]), ("spoke", lane["spoke_s"])]
    return {
        "name": gettext(ENDS[name]),
        "wide": wide,
        "due": area(slots(lane, "due"), top),
        "sent": area(slots(lane, "sent"), top),
        "came": area(slots(lane, "came"), top),
        "marks": [
            (kind, round(min(max(wide * at / scale, 0.3), wide - 0.3), 2))
            for kind, at in marks
            if at is not None
        ],
        "words": words(lane),
        "mos": mos(lane),
    }


def area(counts: Sequence[int], top: int) -> str:
    """Return the outline of one bar per slot as an SVG path; top: packets of a full-height bar."""
    parts, level = [f"M0 {HEIGHT}"], None
    for at, n in enumerate(counts):
        height = f"{HEIGHT - HEIGHT * n / max(top, 1):.3g}"
        if height != level:
            parts.append(f"V{height}" if level is None or not at else f"H{at}V{height}")
            level = height
    return "".join([*parts, f"H{len(counts)}V{HEIGHT}Z"])


def words(lane: TimelineRow) -> str:
    """Return a sentence on a direction: packets sent, packets arrived, first act of the rule."""
    if not lane["due"] and not lane["sent"]:
        return gettext("the capture holds no packet this way")
    text = gettext("%(sent)s of %(packets)s sent, %(came)s arrived") % {
        "sent": count(lane["sent"]),
        "packets": counted("%(num)s packet", "%(num)s packets", lane["due"]),
        "came": count(lane["came"]),
    }
    if lane["spoke_s"] is None:
        return gettext("%(packets)s; the rule acted on none") % {"packets": text}
    return gettext("%(packets)s; the rule first acted at %(time)s") % {
        "packets": text, "time": moment(lane["spoke_s"]),
    }  # fmt: skip


def mos(lane: TimelineRow) -> str:
    """Return a direction's MOS under the policy and without it, "" if it has no MOS without it."""
    if lane["mos_control"] is None:
        return ""
    now = gettext("n/a (too few packets arrived)") if lane["mos"] is None else score(lane["mos"])
    if lane["mos"] is not None:
        now = gettext("%(mos)s (%(low)s to %(high)s)") % {
            "mos": now, "low": score(lane["mos_low"]), "high": score(lane["mos_high"]),
        }  # fmt: skip
    return gettext("MOS %(now)s, %(control)s without the rule") % {
        "now": now, "control": score(lane["mos_control"]),
    }  # fmt: skip


def score(value: float | None) -> str:
    """Return a MOS with one decimal, "" for None."""
    return "" if value is None else written(f"{value:.1f}")
