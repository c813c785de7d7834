# SPDX-License-Identifier: BSD-3-Clause
"""Parity: whether a call came out live as in virtual time, and where the two went apart if not.

Both are given the same packets, addresses, policy and seed (testbed.live.replay.run), so that what
differs is the clock: the order of packets that were nearly simultaneous, delay and overload.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.truth.calls import Call
from midcall.testbed.middlebox.decide import FATES


class Difference(NamedTuple):
    """What of a call's packets came out otherwise: how many, and the first of them in words."""

    packets: int
    first: str


def cause(live: Any, twin: Any, control: Any, twin_control: Any, call: Call) -> str:
    """Return in one sentence where a live call went another way than its twin in virtual time.

    live, twin: simulations under the policy; control, twin_control: under none.
    """
    for words, one, other in (("", live, twin), ("without a policy, ", control, twin_control)):
        found = difference(one, other, call)
        if found.packets:
            return f"{words}{found.first}; {found.packets} packets of the call differ"
    late = lateness(live, twin, call)
    return (
        f"the same packets passed; they came up to {late:.1f} ms later or earlier than in the twin"
    )


def difference(live: Any, twin: Any, call: Call) -> Difference:
    """Compare the fates of a call's packets, and what it waits for."""
    own = packets_of(twin, call)
    one, other = live.fates, twin.fates
    odd = own & ((one["fate"] != other["fate"]) | (one["rule"] != other["rule"]))
    if not odd.any():
        return Difference(0, "")
    at = int(np.flatnonzero(odd)[0])
    first = f"packet {at + 1}: {told(live, at)} live, {told(twin, at)} in virtual time"
    return Difference(int(odd.sum()), first)


def packets_of(simulation: Any, call: Call) -> NDArray[np.bool_]:
    """Return which packets are of a call or of the handshake that it waits for."""
    orders = simulation.script
    part = next(one for one in orders.calls if one.id == call.id)
    return np.asarray(np.isin(orders.flow, [*part.flows, *part.signalling]))


def told(simulation: Any, at: int) -> str:
    """Return a packet's fate in words, with the rule that had a hand in it."""
    fate = simulation.fates[at]
    word = FATES[int(fate["fate"])] if fate["sent"] else FATES[0]
    rule = int(fate["rule"])
    return f"{word} ({simulation.rules[rule]})" if rule >= 0 else word


def lateness(live: Any, twin: Any, call: Call) -> float:
    """Return the largest difference between a packet's two arrivals, in ms."""
    one, other = live.fates["arrival_time"], twin.fates["arrival_time"]
    both = packets_of(twin, call) & (one >= 0) & (other >= 0)
    return float(np.abs(one - other)[both].max() / 1e6) if both.any() else 0.0
