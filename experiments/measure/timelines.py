# SPDX-License-Identifier: BSD-3-Clause
"""Timelines of a run's calls: one row per simulation, call and direction, if a rule touched it.

Cells with the same rules share a simulation and so a timeline; `places` names them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from midcall.captures.truth.calls import Call
from midcall.experiments.results.tables import (
    CellOutcome,
    Direction,
    LaneEntry,
    QualityEntry,
    TimelineEntry,
    TimelineRow,
)
from midcall.experiments.spec import corpus
from midcall.experiments.spec.corpus import Corpus
from midcall.experiments.spec.grid import Cell

if TYPE_CHECKING:
    from midcall.testbed.assess.call_verdict import CallVerdict, Quality
    from midcall.testbed.replay.simulator import Simulation

DIRECTIONS: tuple[Direction, ...] = ("up", "down")


def entry(
    simulation: Simulation, control: Simulation, call: Call, verdict: CallVerdict
) -> TimelineEntry:
    """Return `timeline` of a call's entry as plain values: {} where no rule touched the call.

    verdict: of the call; its quality becomes part of each direction.
    """
    from midcall.testbed.assess.timeline import timeline

    line = timeline(simulation, control, call)
    if line is None:
        return {}
    quality = {"up": verdict.up, "down": verdict.down}
    lanes: dict[str, LaneEntry] = {
        name: {
            "due": lane.due.tolist(),
            "sent": lane.sent.tolist(),
            "came": lane.came.tolist(),
            "struck": lane.struck.tolist(),
            "spoke_s": lane.spoke_s,
            **worth(quality[name]),
        }
        for name, lane in line.lanes.items()
    }
    return {"seconds": line.seconds, "recognised_s": line.recognised_s, "lanes": lanes}


def worth(quality: Quality | None) -> QualityEntry:
    """Return the quality of a direction's media under the policy and under none, as plain values.

    Every value is None where the capture has no media in that direction.
    """
    policy, control = (quality.heard, quality.control) if quality else (None, None)
    return {
        "media_lost": None if quality is None else float(quality.lost),
        "mos": None if policy is None else policy.mos,
        "mos_low": None if policy is None else policy.mos_low,
        "mos_high": None if policy is None else policy.mos_high,
        "delay_ms": None if policy is None else policy.delay_ms,
        "jitter_ms": None if policy is None else policy.jitter_ms,
        "mos_control": None if control is None else control.mos,
        "delay_control_ms": None if control is None else control.delay_ms,
        "mos_seconds": [] if quality is None else list(quality.scores),
        "mos_control_seconds": [] if quality is None else list(quality.control_scores),
    }


def heard(outcome: CellOutcome) -> str:
    """Return the median MOS per second of a play's voice calls that a rule acted on, as a sentence.

    "" where there is none.
    """
    now: list[float] = []
    before: list[float] = []
    for call in outcome["calls"]:
        for lane in call["timeline"].get("lanes", {}).values():
            now += [one for one in lane["mos_seconds"] if one is not None]
            before += [one for one in lane["mos_control_seconds"] if one is not None]
    if not before or not now:
        return ""
    return (
        f"MOS {median(now):.1f}, {median(before):.1f} without the rule ({len(before)} s of voice)"
    )


def rows(
    grid: Sequence[Cell],
    captures: Corpus,
    apps: Sequence[str],
    outcomes: Mapping[int, CellOutcome],
) -> list[TimelineRow]:
    """Return the rows of the table `timelines`, each simulation once, in the order of the grid."""
    places: dict[str, list[int]] = {}
    for at, outcome in sorted(outcomes.items()):
        places.setdefault(outcome["key"], []).append(at)
    firsts = {cells[0]: outcomes[cells[0]] for cells in places.values()}
    table: list[TimelineRow] = []
    for at, item, call, verdict in corpus.counted(captures, apps, firsts):
        timeline = verdict.get("timeline")
        if not timeline:
            continue
        cell = grid[at]
        for direction in DIRECTIONS:
            lane = timeline["lanes"][direction]
            table.append(
                {
                    **cell.place(),
                    "hypothesis_title": cell.title,
                    "places": words_of(grid[one] for one in places[outcomes[at]["key"]]),
                    "grade": cell.grade(verdict["rule"]),
                    "capture": item.capture.name,
                    "call": call.id,
                    "app": call.app,
                    "kind": call.kind,
                    "synthetic": item.capture.synthetic,
                    "verdict": verdict["verdict"],
                    "blocked": verdict["blocked"],
                    "rule": verdict["rule"],
                    "direction": direction,
                    "seconds": timeline["seconds"],
                    "recognised_s": timeline["recognised_s"],
                    "spoke_s": lane["spoke_s"],
                    "media_lost": lane["media_lost"],
                    "mos": lane["mos"],
                    "mos_low": lane["mos_low"],
                    "mos_high": lane["mos_high"],
                    "mos_control": lane["mos_control"],
                    "mos_seconds": scores(lane["mos_seconds"]),
                    "mos_control_seconds": scores(lane["mos_control_seconds"]),
                    "delay_ms": lane["delay_ms"],
                    "delay_control_ms": lane["delay_control_ms"],
                    "jitter_ms": lane["jitter_ms"],
                    "due": sum(lane["due"]),
                    "sent": sum(lane["sent"]),
                    "came": sum(lane["came"]),
                    "struck": sum(lane["struck"]),
                    "due_slots": slots(lane["due"]),
                    "sent_slots": slots(lane["sent"]),
                    "came_slots": slots(lane["came"]),
                    "struck_slots": slots(lane["struck"]),
                }
            )
    return table


def words_of(cells: Iterable[Cell]) -> str:
    """Return the places of some cells, each once, separated by spaces."""
    return " ".join(dict.fromkeys(f"{one.operator}/{one.access}/{one.date}" for one in cells))


def scores(values: Sequence[float | None]) -> str:
    """Return the MOS of each second, separated by spaces; "-" where it is unknown."""
    return " ".join("-" if value is None else f"{value:.2f}" for value in values)


def slots(counts: Sequence[int]) -> str:
    """Return the packets of each slot, separated by spaces."""
    return " ".join(map(str, counts))
