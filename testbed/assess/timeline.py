# SPDX-License-Identifier: BSD-3-Clause
"""Timeline of a call at the box: what each side sent, what passed, when the rule acted first.

Times are those at which a packet met the box, under the policy and under the empty one, so that
both can be compared. The timeline covers the call's flows and those it waits for (the app's
signalling, DNS answers), from the call's first packet, or the first strike, to its last packet.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.truth.calls import Call
from midcall.classifier.state.verdicts import APPS, CERTAIN, recognises
from midcall.testbed.assess.call_verdict import CallMasks
from midcall.testbed.replay.sides import CALLER, FAR
from midcall.testbed.replay.simulator import Simulation

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Slots of equal length per call: as many bars as a phone's screen can show.
SLOTS = 60
DIRECTIONS = {"up": CALLER, "down": FAR}


class Lane(NamedTuple):
    """One direction: packets per slot, int64[SLOTS] each.

    due: met the box under the empty policy; sent: met it under this one; came: of these, arrived;
    struck: of these, those that a rule dropped, answered itself or slowed. spoke_s: time of the
    first strike, in seconds of the timeline, None where there is none.
    """

    due: Numbers
    sent: Numbers
    came: Numbers
    struck: Numbers
    spoke_s: float | None


class Timeline(NamedTuple):
    """A call's time at the box, in seconds from its first packet there.

    recognised_s: when the box's classifier was certain of the app in one of the call's own flows,
    None where it never was (a rule may strike before that, or without it).
    """

    seconds: float
    recognised_s: float | None
    lanes: dict[str, Lane]


def timeline(simulation: Simulation, control: Simulation, call: Call) -> Timeline | None:
    """Return the timeline of a call that a rule acted on, None for any other call.

    control: the same capture under the empty policy.
    """
    ruled = simulation.struck | simulation.slowed
    if not ruled.any():
        return None
    part = next(one for one in simulation.script.calls if one.id == call.id)
    call_masks = CallMasks(simulation, control, call, part)
    watched = np.asarray(call_masks.own | call_masks.awaited)
    touched = watched & ruled
    if not touched.any() or not call_masks.own.any():
        return None
    met, due = first_met(simulation), first_met(control)
    edges = [due[call_masks.own & (due >= 0)], met[call_masks.own & (met >= 0)], met[touched]]
    times = np.concatenate(edges)
    begin, end = int(times.min()), int(times.max()) + 1
    lanes = {
        name: lane(simulation, control, watched & (simulation.script.side == side), begin, end)
        for name, side in DIRECTIONS.items()
    }
    return Timeline((end - begin) / 1e9, recognised(simulation, call, call_masks.own, begin), lanes)


def lane(simulation: Simulation, control: Simulation, own: Mask, begin: int, end: int) -> Lane:
    """Return one direction's packets by slot between two times of the box, in ns."""
    met, due = first_met(simulation), first_met(control)
    struck = own & (simulation.struck | simulation.slowed)
    first = met[struck & (met >= 0)]
    return Lane(
        by_slot(due[own], begin, end),
        by_slot(met[own], begin, end),
        by_slot(met[own & simulation.delivered], begin, end),
        by_slot(met[struck], begin, end),
        (int(first.min()) - begin) / 1e9 if len(first) else None,
    )


def first_met(simulation: Simulation) -> Numbers:
    """Return when each packet first met the box, or was first struck there; int64[n] ns, -1 never.

    Later sendings of a packet are ignored.
    """
    fates = simulation.fates
    return np.where(fates["struck"], fates["struck_time"], fates["box_time"])


def by_slot(times: Numbers, begin: int, end: int) -> Numbers:
    """Return how many of some times fall into each slot of [begin, end); others are left out."""
    inside = times[(times >= begin) & (times < end)]
    return np.bincount((inside - begin) * SLOTS // (end - begin), minlength=SLOTS).astype(np.int64)


def recognised(simulation: Simulation, call: Call, own: Mask, begin: int) -> float | None:
    """Return when the box was certain of the app in a flow of the call, in s from `begin`.

    A live box's flows are on its own clock, so the verdict's time counts from the flow's first
    packet.
    """
    met = simulation.fates["box_time"]
    moments = []
    for number in np.unique(simulation.flow[own & (met >= 0)]).tolist():
        flow = simulation.flows[number]
        if (
            number >= 0
            and flow["verdict"] == CERTAIN
            and recognises(int(flow["app"]), APPS.index(call.app))
        ):
            wait = int(flow["verdict_time"]) - int(flow["first_time"])
            moments.append(int(met[(simulation.flow == number) & (met >= 0)].min()) + wait)
    return max(min(moments) - begin, 0) / 1e9 if moments else None
