# SPDX-License-Identifier: BSD-3-Clause
"""Timelines of calls: for each app and verdict, one call with its packets at the box over time.

A call is drawn as two small strips, one per direction, from the counts of each slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from midcall.apps import FIVE
from midcall.experiments.measure.formatting import count, duration_ms, plural
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import Direction, TimelineRow

#: The most calls that are drawn; the others are in timelines.csv.
MOST = 36
#: Height of a strip in units of its drawing, whose width is the number of slots.
HEIGHT = 20
#: Verdicts in the order of the page.
ORDER = ("SIGNALLING_BLOCKED", "SETUP_BLOCKED", "CONNECTED_NO_MEDIA", "ONE_WAY", "CUT", "DEGRADED",
         "FALLBACK", "OK", "INCONCLUSIVE", "INVALID")  # fmt: skip
ENDS: dict[Direction, str] = {"up": "from the caller", "down": "to the caller"}


class Call(TimelineRow):
    """A call of a play: the columns of its first row, and both rows by direction."""

    up: TimelineRow
    down: TimelineRow


class Strip(TypedDict):
    """One direction: its areas as SVG paths, the positions of its marks, and its sentences."""

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
    """The calls that are drawn, the number of calls, and the number of apps x verdicts."""

    shown: list[DrawnCall]
    calls: int
    kinds: int
    order: dict[Direction, str]


def timelines(run: Findings) -> Timelines:
    """Return the calls that are drawn, and the number of all timelines of the run."""
    calls = pairs(run["timelines"])
    best: dict[tuple[str, str], Call] = {}
    for call in sorted(calls, key=weight):
        best.setdefault((call["app"], call["verdict"]), call)
    chosen = sorted(best.values(), key=place)[:MOST]
    return {
        "shown": [drawn(call) for call in chosen],
        "calls": len(calls),
        "kinds": len(best),
        "order": ENDS,
    }


def pairs(rows: Sequence[TimelineRow]) -> list[Call]:
    """Return one entry per call and play, with its two rows under their directions."""
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


def weight(call: Call) -> tuple[bool, str, bool, bool]:
    """Return the sort key of a call to draw: real, well documented, both directions, rated."""
    both = all(call[name]["due"] for name in ENDS)
    rated = any(call[name]["mos_control"] is not None for name in ENDS)
    return bool(call["synthetic"]), str(call["grade"] or "Z"), not both, not rated


def place(call: Call) -> tuple[int, str, int]:
    """Return the position of a call among those drawn: by app, then by verdict."""
    app = str(call["app"])
    rank = FIVE.index(app) if app in FIVE else len(FIVE)
    word = str(call["verdict"])
    return rank, app, ORDER.index(word) if word in ORDER else len(ORDER)


def drawn(call: Call) -> DrawnCall:
    """Return a call with its strips, marks and sentences."""
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
    return f"{seconds:.1f} s" if seconds >= 1 else duration_ms(1000 * seconds)


def slots(lane: TimelineRow, counted: Literal["due", "sent", "came"]) -> list[int]:
    """Return the packets in each slot."""
    if counted == "due":
        text = lane["due_slots"]
    elif counted == "sent":
        text = lane["sent_slots"]
    else:
        text = lane["came_slots"]
    return [int(word) for word in str(text).split()]


def strip(name: Direction, lane: TimelineRow, top: int) -> Strip:
    """Return one direction: its areas as SVG paths, the positions of its marks, its sentences."""
    wide = len(slots(lane, "due"))
    scale = lane["seconds"] or 1.0
    marks = [("recognised", lane["recognised_s"]), ("spoke", lane["spoke_s"])]
    return {
        "name": ENDS[name],
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
    """Return the outline of a row of bars as an SVG path; top: packets at full height."""
    parts, level = [f"M0 {HEIGHT}"], None
    for at, n in enumerate(counts):
        height = f"{HEIGHT - HEIGHT * n / max(top, 1):.3g}"
        if height != level:
            parts.append(f"V{height}" if level is None or not at else f"H{at}V{height}")
            level = height
    return "".join([*parts, f"H{len(counts)}V{HEIGHT}Z"])


def words(lane: TimelineRow) -> str:
    """Return a direction as a sentence: packets sent, packets arrived, the rule's first strike."""
    if not lane["due"] and not lane["sent"]:
        return "the capture holds no packet this way"
    text = f"{count(lane['sent'])} of {plural(lane['due'], 'packet')} sent, "
    text += f"{count(lane['came'])} arrived"
    if lane["spoke_s"] is None:
        return f"{text}; the rule struck none"
    return f"{text}; the rule first spoke at {moment(lane['spoke_s'])}"


def mos(lane: TimelineRow) -> str:
    """Return a direction's MOS under the policy and without it, "" where neither is rated."""
    if lane["mos_control"] is None:
        return ""
    now = "n/a (too little came)" if lane["mos"] is None else f"{lane['mos']:.1f}"
    spread = "" if lane["mos"] is None else f" ({lane['mos_low']:.1f} to {lane['mos_high']:.1f})"
    return f"MOS {now}{spread}, {lane['mos_control']:.1f} without the rule"
