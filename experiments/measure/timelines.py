# SPDX-License-Identifier: BSD-3-Clause
"""Timelines of a run's calls: one row per play, call and direction, for those a rule touched.

Cells whose rules are the same share a play, and so a timeline; `places` names them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from midcall.experiments.spec import corpus
from midcall.experiments.spec.corpus import Corpus
from midcall.experiments.spec.grid import Cell

Row = dict[str, Any]

#: What a slot counts, as testbed.timeline.Lane names it.
COUNTS = ("due", "sent", "came", "struck")


def entry(simulation: Any, control: Any, call: Any, told: Any) -> Row:
    """Return `timeline` of a call's entry as plain values: {} where no rule touched the call.

    told: its CallVerdict, whose quality stands beside each direction.
    """
    from midcall.testbed.assess.timeline import timeline

    held = timeline(simulation, control, call)
    if held is None:
        return {}
    quality = {"up": told.up, "down": told.down}
    lanes = {
        name: {key: getattr(lane, key).tolist() for key in COUNTS}
        | {"spoke_s": lane.spoke_s}
        | worth(quality[name])
        for name, lane in held.lanes.items()
    }
    return {"seconds": held.seconds, "recognised_s": held.recognised_s, "lanes": lanes}


def worth(quality: Any) -> Row:
    """Return the quality of a direction's media under the policy and under none, as plain values.

    None everywhere where the capture holds no media that way.
    """
    heard, control = (quality.heard, quality.control) if quality else (None, None)
    names = ("mos", "mos_low", "mos_high", "delay_ms", "jitter_ms")
    return {
        "media_lost": None if quality is None else float(quality.lost),
        **{name: None if heard is None else getattr(heard, name) for name in names},
        "mos_control": None if control is None else control.mos,
        "delay_control_ms": None if control is None else control.delay_ms,
    }


def rows(
    grid: Sequence[Cell],
    held: Corpus,
    apps: Sequence[str],
    outcomes: Mapping[int, Mapping[str, Any]],
) -> list[Row]:
    """Return the rows of the table `timelines`, each play once, in the order of the grid."""
    places: dict[str, list[int]] = {}
    for at, outcome in sorted(outcomes.items()):
        places.setdefault(outcome["key"], []).append(at)
    firsts = {cells[0]: outcomes[cells[0]] for cells in places.values()}
    out = []
    for at, item, call, told in corpus.counted(held, apps, firsts):
        if not told.get("timeline"):
            continue
        cell = grid[at]
        about = {
            **cell.place(),
            "hypothesis_title": cell.title,
            "places": words_of(grid[one] for one in places[outcomes[at]["key"]]),
            "capture": item.capture.name,
            "call": call.id,
            "app": call.app,
            "kind": call.kind,
            "synthetic": item.capture.synthetic,
            "grade": cell.grade(told["rule"]),
            **{key: told[key] for key in ("verdict", "blocked", "rule")},
        }
        out += [about | direction(name, told["timeline"]) for name in ("up", "down")]
    return out


def words_of(cells: Iterable[Cell]) -> str:
    """Return the places of some cells, each once, as words with spaces between."""
    return " ".join(dict.fromkeys(f"{one.operator}/{one.access}/{one.date}" for one in cells))


def direction(name: str, held: Mapping[str, Any]) -> Row:
    """Return the columns of one direction; slots as counts with spaces between."""
    lane = held["lanes"][name]
    return {
        "direction": name,
        "seconds": held["seconds"],
        "recognised_s": held["recognised_s"],
        **{key: value for key, value in lane.items() if key not in COUNTS},
        **{key: sum(lane[key]) for key in COUNTS},
        **{f"{key}_slots": " ".join(map(str, lane[key])) for key in COUNTS},
    }
