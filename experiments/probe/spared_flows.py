# SPDX-License-Identifier: BSD-3-Clause
"""Which other flows of a condemned host or pair of hosts a rule lets pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.messages import noise
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.probe.line_oracle import LineOracle
from midcall.experiments.probe.prober import MS, Outcome
from midcall.experiments.probe.tails import PAUSE, Tail
from midcall.experiments.probe.units import OTHER
from midcall.testbed.probing.probe import Ends, Probe, Sent

PROTOCOLS = {TCP: "tcp", UDP: "udp"}
#: Flows that arrive although they should be struck of which the reason is looked for, at most;
#: packets of each, at least; share of them that arrives, at least.
MOST_SPARED, FEW_SPARED, MOSTLY = 3, 4, 0.8
#: Ports of the flows in which packets are sent after the trigger, from this one on, and ns between
#: two packets.
NEW_PORT, APART = 31_000, 10 * MS


def spared_flows(
    tail: Tail, core: Probe, shown: Outcome, struck: NDArray[np.bool_]
) -> list[dict[str, Any]]:  # fmt: skip
    """Return what a rule that condemns a host or a pair of hosts lets pass of its other flows.

    tail, core: of the rule. shown: the capture as it was played; struck: bool[packets], what of it
    the rule strikes. Where flows of it arrive that the rule should strike, packets of their
    protocol, port or kind of payload are sent in new flows of a condemned host.
    """
    matches: list[dict[str, Any]] = []
    struck = struck & ~tail.decided(shown.unit)
    for first in arriving(shown, struck, core)[:MOST_SPARED]:
        if not any(meets_match(first, match) for match in matches):
            match = shared_by_passing(tail, core, first)
            matches += [match] if match and not meets_match(core[-1], match) else []
    return matches


def arriving(shown: Outcome, struck: NDArray[np.bool_], core: Probe) -> list[Sent]:
    """Return the first packet with a payload of each flow of which packets are struck and yet
    arrive, those with the most packets first. struck: bool[packets] of a play."""
    known = struck & shown.sent.any(axis=0) & np.array([bool(one.payload) for one in shown.unit])
    places: dict[Ends, list[int]] = defaultdict(list)
    for at in np.flatnonzero(known):
        places[shown.unit[at].ends].append(int(at))
    places.pop(core[-1].ends, None)
    result = []
    for ends, own in sorted(places.items(), key=lambda item: -len(item[1])):
        sent = shown.sent[:, own]
        if len(own) >= FEW_SPARED and (sent & ~shown.lost[:, own]).sum() >= MOSTLY * sent.sum():
            result.append(next(one for one in shown.unit if one.ends == ends and one.payload))
    return result


def meets_match(one: Sent, match: Mapping[str, Any]) -> bool:
    """Return whether a packet has the protocol, port and kind of payload of a match."""
    own = {"protocol": PROTOCOLS[one.ends.proto], "payload": [read(one).kind],
           "ports": [one.ends.far_port]}  # fmt: skip
    return all(own[key] == value for key, value in match.items())


def shared_by_passing(tail: Tail, core: Probe, first: Sent) -> dict[str, Any]:
    """Return the protocol, port or kind of payload by which packets pass that a condemned host
    sends, {} where they do not pass by these. first: of a flow that passes."""
    last = core[-1]
    proto, port = first.ends.proto, first.ends.far_port
    other = next(one for one in (UDP, TCP) if one != proto)
    plain = noise(max(60, len(last.payload)), "spared")
    ways = {"protocol": (proto, OTHER, plain), "ports": (other, port, plain),
            "both": (proto, port, plain), "payload": (proto, OTHER, first.payload),
            "neither": (other, OTHER, plain)}  # fmt: skip
    flows = [(name, last.ends._replace(proto=one, near_port=NEW_PORT + number, far_port=at), body)
             for number, (name, (one, at, body)) in enumerate(ways.items())]  # fmt: skip
    begin = last.time + PAUSE
    sent = [Sent(begin + number * APART, True, *flows[number % len(flows)][1:])
            for number in range(FEW_SPARED * len(flows))]  # fmt: skip
    copies = LineOracle(tail.prober, tail.base, tail.sought).copies
    unit = (*core, *sent)
    outcome = tail.prober.ask("what a condemned host may send", [unit], copies)[0]
    passes = {}
    for at, (name, _, _) in enumerate(flows):
        places = range(len(core) + at, len(unit), len(flows))
        sent_of = outcome.sent[:, places]
        passes[name] = bool((sent_of & ~outcome.lost[:, places]).sum() >= MOSTLY * sent_of.sum())
    tail.prober.taught(", ".join(name for name, free in passes.items() if free) or "nothing")
    if passes["neither"] or not any(passes.values()):
        return {}
    of_protocol = {"protocol": PROTOCOLS[proto]}
    if passes["protocol"]:
        return of_protocol
    if passes["both"]:
        return {"ports": [port]} | ({} if passes["ports"] else of_protocol)
    return {"payload": [read(first).kind]} if passes["payload"] else {}
