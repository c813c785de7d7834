# SPDX-License-Identifier: BSD-3-Clause
"""Loss of one call under a policy, target or not: flows hit, and seconds of talk lost.

A second of talk is a second of the sender's clock in which the call sends media, in either
direction, that arrive under the empty policy. It is lost when, in a direction that has media in it,
under half of them arrive within LATEST of their delay under the empty policy: later media are of no
use in a conversation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.truth.calls import Call
from midcall.testbed.replay.sides import CALLER, FAR
from midcall.testbed.replay.simulator import Simulation

SECOND = LATEST = 1_000_000_000


class Loss(NamedTuple):
    """A call's own flows and IP bytes, those hit, and its seconds of talk, those lost.

    A flow is hit when the box struck a packet of it, or when a packet that arrives under no rules
    does not arrive; bytes hit are those that do not arrive.
    """

    flows: int
    hit: int
    bytes: int
    bytes_hit: int
    seconds: int
    seconds_lost: int


def loss(simulation: Simulation, control: Simulation, call: Call) -> Loss:
    """Return the loss of a call under a policy; `control`: the same capture, empty policy."""
    orders = simulation.script
    part = next(one for one in orders.calls if one.id == call.id)
    size = orders.held.facts["ip_size"]
    missing = control.delivered & ~simulation.delivered
    touched = simulation.struck | missing
    flows = [np.asarray(orders.flow == flow) for flow in part.flows]
    flows = [own for own in flows if (own & (control.fates["box_time"] >= 0)).any()]
    own = np.isin(orders.flow, part.flows)
    talk, lost = seconds(simulation, control, own & (orders.media == 1))
    return Loss(
        len(flows),
        sum(bool((one & touched).any()) for one in flows),
        sum(int(size[one].sum()) for one in flows),
        sum(int(size[one & missing].sum()) for one in flows),
        talk,
        lost,
    )


def seconds(
    simulation: Simulation, control: Simulation, media: NDArray[np.bool_]
) -> tuple[int, int]:
    """Return the seconds of talk in some media packets, and how many of these are lost."""
    send, due, came = simulation.script.send, control.usable, simulation.usable
    media = media & (due >= 0)
    if not media.any():
        return 0, 0
    late = (came - simulation.fates["left"]) - (due - control.fates["left"])
    second = (send - send[media].min()) // SECOND
    length = int(second[media].max()) + 1
    filled, lost = np.zeros(length, bool), np.zeros(length, bool)
    for side in (CALLER, FAR):
        own = media & (simulation.script.side == side)
        good = own & (came >= 0) & (late <= LATEST)
        wanted = np.bincount(second[own], minlength=length)
        got = np.bincount(second[good], minlength=length)
        filled |= wanted > 0
        lost |= 2 * got < wanted
    return int(filled.sum()), int(lost.sum())
