# SPDX-License-Identifier: BSD-3-Clause
"""Quality of calls: what was sent, what arrived, and what was heard of it, second by second.

Two parts. The calls of the run that a rule acted on, with their MOS per second under the policy and
without it (testbed.assess.call_verdict). And, where the spec asks for it, the response of each app
to doses of loss, rate limits and jitter (experiments.accuracy.quality_dose).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from midcall.experiments.measure.formatting import N_, app_name, decimal, gettext, percent
from midcall.experiments.report import charts
from midcall.experiments.report.sections.timelines import (
    ENDS,
    HEIGHT,
    Call,
    Strip,
    page_order,
    pairs,
    preference,
    slots,
    strip,
)
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import Direction, TimelineRow

#: The most calls that are drawn; timelines.csv has all calls.
MOST = 24
#: Lowest and highest MOS of a strip.
LEAST_MOS, MOST_MOS = 1.0, 4.5
#: MOS of R = 50, below which ITU-T G.109 does not recommend a connection.
FLOOR_MOS = 2.6
#: Calls of an app from which the chart shows it.
FEWEST = 2
#: Mechanism -> what a dose is, the response that is drawn, and what it is.
MECHANISMS = {
    "loss": (N_("share of packets lost"), "mos", N_("MOS")),
    "rate": (N_("limit, as a share of the call's own rate"), "frame_rate", N_("frames per second")),
    "jitter": (N_("jitter in ms"), "mos", N_("MOS")),
}


class Heard(TypedDict):
    """One direction of a call: its packets, and its MOS per second as SVG paths.

    control, policy: without the policy and under it; floor: y coordinate of FLOOR_MOS; seconds:
    number of seconds; below: seconds under the floor, of so many (above) above it without the
    policy.
    """

    packets: Strip
    control: str
    policy: str
    floor: float
    seconds: int
    below: int
    above: int


class RatedCall(Call):
    """A call with what was heard in each direction."""

    heard: list[Heard]


class Response(TypedDict):
    """The responses of an app to the doses of a mechanism, in the order of the doses."""

    app: str
    synthetic: bool
    calls: int
    means: list[float | None]


class Responses(TypedDict):
    """The table of a mechanism: what a dose is, what the response is, doses, and rows."""

    mechanism: str
    title: str
    response: str
    doses: list[float]
    rows: list[Response]


def build(run: Findings) -> dict[str, object] | None:
    """Return the values of the section, None where no call has a MOS and no dose was given."""
    doses: Any = run.at("quality_dose")
    curves = doses["curves"] if doses else []
    calls = [call for call in pairs(run["timelines"]) if any(is_rated(call[way]) for way in ENDS)]
    if not curves and not calls:
        return None
    return {
        "quality": {
            "calls": [rated(call) for call in chosen(calls)],
            "rated": len(calls),
            "charts": [response_chart(curves)] if curves else [],
            "doses": [table(name, curves) for name in MECHANISMS] if curves else [],
            "seconds": doses["seconds"] if doses else 0,
        }
    }


# ---- calls under the run's policies


def chosen(calls: Sequence[Call]) -> list[Call]:
    """Return the calls that are drawn, one of each app and hypothesis: degraded ones first."""
    best: dict[tuple[str, str], Call] = {}
    for call in sorted(calls, key=preference):
        best.setdefault((call["app"], call["hypothesis"]), call)
    order = {"DEGRADED": 0, "FALLBACK": 1, "CUT": 2, "ONE_WAY": 3}
    ranked = sorted(best.values(), key=lambda call: order.get(str(call["verdict"]), len(order)))
    return sorted(ranked[:MOST], key=page_order)


def scores(lane: TimelineRow, control: bool = True) -> list[float | None]:
    """Return the MOS of each second of a direction; None where it is unknown."""
    text = lane["mos_control_seconds"] if control else lane["mos_seconds"]
    return [None if word == "-" else float(word) for word in text.split()]


def is_rated(lane: TimelineRow) -> bool:
    """Return whether the MOS of a second of a direction is known."""
    return any(value is not None for value in scores(lane))


def rated(call: Call) -> RatedCall:
    """Return a call with what was heard in each direction."""
    top = max(max(slots(call[way], "due") + slots(call[way], "sent")) for way in ENDS)
    return {**call, "heard": [heard(way, call[way], top) for way in ENDS if is_rated(call[way])]}


def heard(way: Direction, lane: TimelineRow, top: int) -> Heard:
    """Return one direction of a call; top: packets of a slot that has full height."""
    before, now = scores(lane), scores(lane, control=False)
    good = [b for a, b in zip(before, now, strict=True) if a is not None and a >= FLOOR_MOS]
    return {
        "packets": strip(way, lane, top),
        "control": steps(before),
        "policy": steps(now),
        "floor": height(FLOOR_MOS),
        "seconds": len(before),
        "below": sum(b is None or b < FLOOR_MOS for b in good),
        "above": len(good),
    }


def height(value: float) -> float:
    """Return the y coordinate of a MOS in a strip."""
    share = (min(max(value, LEAST_MOS), MOST_MOS) - LEAST_MOS) / (MOST_MOS - LEAST_MOS)
    return round(HEIGHT * (1 - share), 2)


def steps(values: Sequence[float | None]) -> str:
    """Return an SVG path with one step for each second; an unknown second is a gap."""
    parts: list[str] = []
    drawing = False
    for at, value in enumerate(values):
        if value is None:
            drawing = False
            continue
        y = f"{height(value):g}"
        parts.append(f"V{y}H{at + 1}" if drawing else f"M{at} {y}H{at + 1}")
        drawing = True
    return "".join(parts)


# ---- doses


def table(mechanism: str, curves: Sequence[Mapping[str, Any]]) -> Responses:
    """Return the responses to a mechanism as a table: a row per app, a column per dose."""
    title, response, words = MECHANISMS[mechanism]
    own = [row for row in curves if row["mechanism"] == mechanism]
    doses = sorted({row["dose"] for row in own}, reverse=mechanism == "rate")
    apps = dict.fromkeys((row["synthetic"], row["app"]) for row in own)
    cells = {(row["synthetic"], row["app"], row["dose"]): row for row in own}
    rows: list[Response] = []
    for synthetic, app in apps:
        some = [cells.get((synthetic, app, dose)) for dose in doses]
        values = [None if row is None else row[response] for row in some]
        if any(value is not None for value in values):
            calls = max(row["calls"] for row in some if row is not None)
            rows.append({"app": app, "synthetic": synthetic, "calls": calls, "means": values})
    return {
        "mechanism": mechanism, "title": gettext(title), "response": gettext(words),
        "doses": doses, "rows": rows,
    }  # fmt: skip


def response_chart(curves: Sequence[Mapping[str, Any]]) -> charts.Chart:
    """Return the chart of the responses of real calls, of made ones where none is real.

    An app with fewer than FEWEST calls is in the table alone.
    """
    several = [row for row in curves if row["calls"] >= FEWEST]
    real = [row for row in several if not row["synthetic"]]
    rows: list[charts.ResponsePoint] = []
    order = list(MECHANISMS)
    for row in sorted(real or several or curves, key=lambda row: order.index(row["mechanism"])):
        title, response, words = MECHANISMS[row["mechanism"]]
        value = row[response]
        if value is None:
            continue
        dose = percent(row["dose"]) if row["mechanism"] != "jitter" else f"{row['dose']:g} ms"
        tip = f"{app_name(row['app'])}, {dose}: {decimal(value, 1)} {gettext(words)}"
        rows.append(
            {
                "mechanism": row["mechanism"], "title": gettext(title), "response": gettext(words),
                "app": app_name(row["app"]), "dose": row["dose"], "value": value, "tip": tip,
            }
        )  # fmt: skip
    text = gettext("MOS by loss and by jitter, and frames per second by rate limit, for each app")
    return charts.responses(rows, text)
