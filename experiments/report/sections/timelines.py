# SPDX-License-Identifier: BSD-3-Clause
"""Timelines of calls: for each app and each way a call ended, one call as it went at the box.

Drawn as two small strips a call, one per direction, from the counts of each slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from midcall.apps import FIVE
from midcall.experiments.measure.formatting import count, duration_ms, plural
from midcall.experiments.results.reader import Findings

Row = Mapping[str, Any]
Table = dict[str, Any]

#: Calls drawn at most; the others are in timelines.csv.
MOST = 36
#: Height of a strip in units of its drawing, whose width is the number of slots.
HEIGHT = 20
#: Verdicts in the order in which a person asks for them.
ORDER = ("SIGNALLING_BLOCKED", "SETUP_BLOCKED", "CONNECTED_NO_MEDIA", "ONE_WAY", "CUT", "DEGRADED",
         "FALLBACK", "OK", "INCONCLUSIVE", "INVALID")  # fmt: skip
ENDS = {"up": "from the caller", "down": "to the caller"}


def timelines(run: Findings) -> Table:
    """Return the calls drawn, and how many timelines the run holds in all."""
    held = pairs(run["timelines"])
    best: dict[tuple[str, str], Table] = {}
    for call in sorted(held, key=weight):
        best.setdefault((call["app"], call["verdict"]), call)
    chosen = sorted(best.values(), key=place)[:MOST]
    return {
        "shown": [drawn(call) for call in chosen],
        "calls": len(held),
        "kinds": len(best),
        "order": ENDS,
    }


def pairs(rows: Sequence[Row]) -> list[Table]:
    """Return one table per call and play, its two rows under their directions."""
    found: dict[tuple[Any, ...], Table] = {}
    names = ("operator", "hypothesis", "access", "date", "capture", "call")
    for row in rows:
        key = tuple(row[name] for name in names)
        found.setdefault(key, {**row})[row["direction"]] = row
    return list(found.values())


def weight(call: Row) -> tuple[bool, str, bool, bool]:
    """Return what makes a call the one to show: real, well documented, both ways in it, rated."""
    both = all(call[name]["due"] for name in ENDS)
    rated = any(call[name]["mos_control"] is not None for name in ENDS)
    return bool(call["synthetic"]), str(call["grade"] or "Z"), not both, not rated


def place(call: Row) -> tuple[int, str, int]:
    """Return where a call stands among those shown: by app, then by how it ended."""
    app = str(call["app"])
    rank = FIVE.index(app) if app in FIVE else len(FIVE)
    word = str(call["verdict"])
    return rank, app, ORDER.index(word) if word in ORDER else len(ORDER)


def drawn(call: Row) -> Table:
    """Return what the template shows of a call: strips, marks and words."""
    top = max(max(slots(call[name], "due") + slots(call[name], "sent")) for name in ENDS)
    return {
        **call,
        "strips": [strip(name, call[name], top) for name in ENDS],
        "seconds_word": moment(call["seconds"]),
        "recognised_word": moment(call["recognised_s"]),
    }


def moment(seconds: float | None) -> str | None:
    """Return a time of the call in words, None where it never came."""
    if seconds is None:
        return None
    return f"{seconds:.1f} s" if seconds >= 1 else duration_ms(1000 * seconds)


def slots(lane: Row, what: str) -> list[int]:
    """Return the packets in each slot."""
    return [int(word) for word in str(lane[f"{what}_slots"]).split()]


def strip(name: str, lane: Row, top: int) -> Table:
    """Return one direction: its areas as paths, where its marks stand, and what it says."""
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


def words(lane: Row) -> str:
    """Return a direction in a sentence: sent, arrived, and when the rule spoke."""
    if not lane["due"] and not lane["sent"]:
        return "the capture holds no packet this way"
    told = f"{count(lane['sent'])} of {plural(lane['due'], 'packet')} sent, "
    told += f"{count(lane['came'])} arrived"
    if lane["spoke_s"] is None:
        return f"{told}; the rule struck none"
    return f"{told}; the rule first spoke at {moment(lane['spoke_s'])}"


def mos(lane: Row) -> str:
    """Return a direction's MOS under the policy and without it, "" where neither is rated."""
    if lane["mos_control"] is None:
        return ""
    now = "n/a (too little came)" if lane["mos"] is None else f"{lane['mos']:.1f}"
    spread = "" if lane["mos"] is None else f" ({lane['mos_low']:.1f} to {lane['mos_high']:.1f})"
    return f"MOS {now}{spread}, {lane['mos_control']:.1f} without the rule"
