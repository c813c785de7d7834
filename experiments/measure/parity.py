# SPDX-License-Identifier: BSD-3-Clause
"""Parity: whether a live call had the outcome of its simulation, and the first difference if not.

Both use the same packets, addresses, policy and seed (testbed.live.replay.run); only the clock
differs: the order of packets that were nearly simultaneous, delay and overload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.truth.calls import Call
from midcall.testbed.middlebox.decide import FATES

if TYPE_CHECKING:
    from midcall.testbed.replay.simulator import Simulation


class Difference(NamedTuple):
    """The packets of a call with another fate: their number, and the first of them as text."""

    packets: int
    first: str


def cause(
    live: Simulation, twin: Simulation, control: Simulation, twin_control: Simulation, call: Call
) -> str:
    """Return in one sentence how a live call differs from its twin in virtual time.

    live, twin: simulations under the policy; control, twin_control: under none.
    """
    for words, one, other in (("", live, twin), ("without a policy, ", control, twin_control)):
        changed = difference(one, other, call)
        if changed.packets:
            return f"{words}{changed.first}; {changed.packets} packets of the call differ"
    late = lateness(live, twin, call)
    return (
        f"the same packets passed; they came up to {late:.1f} ms later or earlier than in the twin"
    )


def difference(live: Simulation, twin: Simulation, call: Call) -> Difference:
    """Compare the fates of a call's packets and of the packets that it waits for."""
    own = packets_of(twin, call)
    one, other = live.fates, twin.fates
    odd = own & ((one["fate"] != other["fate"]) | (one["rule"] != other["rule"]))
    if not odd.any():
        return Difference(0, "")
    at = int(np.flatnonzero(odd)[0])
    first = f"packet {at + 1}: {fate_words(live, at)} live, {fate_words(twin, at)} in virtual time"
    return Difference(int(odd.sum()), first)


def packets_of(simulation: Simulation, call: Call) -> NDArray[np.bool_]:
    """Return bool[packets]: of a call or of the handshake that it waits for."""
    script = simulation.script
    part = next(one for one in script.calls if one.id == call.id)
    return np.asarray(np.isin(script.flow, [*part.flows, *part.signalling]))


def fate_words(simulation: Simulation, at: int) -> str:
    """Return a packet's fate as text, with the rule that affected it."""
    fate = simulation.fates[at]
    word = FATES[int(fate["fate"])] if fate["sent"] else FATES[0]
    rule = int(fate["rule"])
    return f"{word} ({simulation.rules[rule]})" if rule >= 0 else word


def lateness(live: Simulation, twin: Simulation, call: Call) -> float:
    """Return the largest difference between a packet's two arrivals, in ms."""
    one, other = live.fates["arrival_time"], twin.fates["arrival_time"]
    both = packets_of(twin, call) & (one >= 0) & (other >= 0)
    return float(np.abs(one - other)[both].max() / 1e6) if both.any() else 0.0
