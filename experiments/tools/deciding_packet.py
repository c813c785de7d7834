# SPDX-License-Identifier: BSD-3-Clause
"""The packet at which a box decided on a call, and the octets that decided.

A simulation keeps the fate of every packet and the rule behind it, but not the classifier's state
at each packet. So the packets that the box met are given to the packet path once more, in the order
and at the times at which the box met them, up to the packet in question. The flow's record before
and after that packet then has the evidence, as in `midcall explain`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Call
from midcall.captures.truth.strict_toml import toml
from midcall.classifier.explain.dissect import Packet, walk
from midcall.classifier.explain.highlights import (
    Counted,
    Mark,
    Place,
    endpoints,
    host_name,
    marks,
    ports,
    protocol_octet,
    stun_attribute,
    stun_cookie,
    stun_type,
)
from midcall.classifier.state.evidence import sentence
from midcall.classifier.state.packet_fields import (
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
)
from midcall.classifier.state.verdicts import APPS, CERTAIN, recognises
from midcall.experiments.tools.explain import Moment, Tape, alone, state_of
from midcall.experiments.tools.hexdump_view import text
from midcall.testbed.middlebox.match import flow_meets
from midcall.testbed.middlebox.rule_table import table
from midcall.testbed.policy.language import Rule
from midcall.testbed.replay.sides import CALLER
from midcall.testbed.replay.simulator import Simulation, engine_for

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]

#: Octets of the payload that are shown even if they are not marked.
PAYLOAD = 64
#: Octets that are shown at most, from the first one to the last mark.
MOST = 512
#: Values of a list in a rule's match that are written out.
LISTED = 3


class Decision(NamedTuple):
    """The packet that decided, as a row of the simulation's attempts, and why.

    by: "classifier" (its verdict on a flow met the rule, or named the call where no rule acted) or
    "rule" (the rule matches something else than the classifier's verdict); evidence: the
    classifier's sentence, or the rule's match; named: the verdict that the packet gave, "certain
    whatsapp media", None where a rule decided. octets: the shown octets of the frame from
    octets_at, in hexadecimal, ".." for those that may be private; payload_at: where the payload
    begins; marks: the octets that decided, offsets from the beginning of the frame; no_marks: why
    there are none, None where there are some.
    """

    attempt: int
    by: str
    evidence: str
    named: str | None
    octets_at: int
    payload_at: int
    octets: list[str]
    marks: list[Mark]
    no_marks: str | None


class Met(NamedTuple):
    """The packets that a box met, in its order and at its times; rows: those of the attempts."""

    rows: Numbers
    packets: Packets


def met_by_box(simulation: Simulation) -> Met:
    """Return the packets of a simulation that met the box."""
    attempts = simulation.attempts
    rows = np.flatnonzero(attempts["box"] >= 0)
    rows = rows[np.argsort(attempts["box"][rows], kind="stable")]
    packets = simulation.dressed or simulation.script.held.packets
    times = attempts["box"][rows].astype(np.int64)
    return Met(rows, packets.take(attempts["packet"][rows])._replace(time=times))


def decision(
    simulation: Simulation, call: Call | None, own: Mask, acted: int | None
) -> Decision | None:
    """Return the packet that decided on a call, None where the box neither acted nor recognised it.

    own: bool[n], the packets of the call; acted: the row of the attempts at which a rule first
    acted on the call, None where none did.
    """
    met = met_by_box(simulation)
    if acted is not None:
        return of_rule(simulation, met, acted)
    at = recognised(simulation, met, call, own)
    return None if at is None else by_classifier(simulation, met, at)


def of_rule(simulation: Simulation, met: Met, acted: int) -> Decision:
    """Return the packet because of which a rule acted on the packet in row `acted`."""
    attempts = simulation.attempts
    number = int(attempts["rule"][acted])
    rule = simulation.policy.rules[number]
    at_act = int(np.flatnonzero(met.rows == acted)[0])
    if rule.match.flow_words:
        meets = partial(
            flow_meets, table(simulation.policy, simulation.seed, simulation.access).rules[number]
        )
        same = flow_of(simulation, met) == attempts["flow"][acted]
        for own in (same, np.ones_like(same)):
            at = first_that(simulation, met, own, at_act + 1, meets)
            if at is not None:
                return by_classifier(simulation, met, at)
    if rule.strikes == "packet":
        return by_match(simulation, met, at_act, rule)
    ruled = attempts["rule"] == number
    if rule.strikes == "flow":
        ruled &= attempts["flow"] == attempts["flow"][acted]
    return by_match(simulation, met, int(np.flatnonzero(ruled[met.rows])[0]), rule)


def recognised(simulation: Simulation, met: Met, call: Call | None, own: Mask) -> int | None:
    """Return the position in `met` of the packet at which the box was certain of the call's app.

    Without a call: of any app.
    """

    def meets(flow: Any) -> bool:
        if flow["verdict"] != CERTAIN:
            return False
        app = int(flow["app"])
        return bool(app > 0 if call is None else recognises(app, APPS.index(call.app)))

    mine = own[simulation.attempts["packet"][met.rows]]
    numbers = np.unique(flow_of(simulation, met)[mine])
    flows = [simulation.flows[number] for number in numbers[numbers >= 0]]
    times = [int(flow["verdict_time"]) for flow in flows if meets(flow)]
    if not times:
        return None
    stop = int(np.searchsorted(met.packets.time, min(times), side="right"))
    return first_that(simulation, met, mine, stop, meets)


def flow_of(simulation: Simulation, met: Met) -> Numbers:
    """Return the number of each packet's flow at the box, int64[len(met.rows)]."""
    return np.asarray(simulation.attempts["flow"][met.rows])


def first_that(
    simulation: Simulation, met: Met, own: Mask, stop: int, meets: Callable[[Any], bool]
) -> int | None:
    """Return the position of the packet that made a flow meet a condition, None for none.

    own: bool[len(met.rows)], the packets whose flows count; stop: only packets before this
    position. If a flow met the condition more than once, this is one of these packets.
    """

    def met_after(count: int) -> bool:
        engine = engine_for(simulation.script.held)
        numbers = engine.feed(met.packets.take(slice(0, count)))
        counted = np.unique(numbers[own[:count] & (numbers >= 0)])
        return any(meets(engine.tables.flows[number]) for number in counted)

    if not met_after(stop):
        return None
    return bisect_left(range(1, stop + 1), True, key=met_after)


# ---- the packet itself


def stepped(simulation: Simulation, met: Met, at: int) -> Moment:
    """Return the state of the classifier before and after the packet at a position."""
    engine = engine_for(simulation.script.held)
    before = engine.feed(met.packets.take(slice(0, at)))
    number = int(flow_of(simulation, met)[at])
    tape = Tape(engine, number)
    tape.started = bool((before == number).any())
    return tape.step(at, alone(met.packets, at))


def by_classifier(simulation: Simulation, met: Met, at: int) -> Decision:
    """Return the decision of a packet that gave its flow a verdict."""
    moment = stepped(simulation, met, at)
    packet = walk(moment.packets.data, moment.signs)
    key, argument = moment.evidence or (0, 0)
    marked: list[Mark] | Counted = marks(packet, key) if moment.evidence else []
    state = state_of(moment.after)
    named = " ".join((state.verdict, state.app, state.role))
    why = sentence(key, argument, 0)
    if isinstance(marked, Counted):
        return shown(met, at, packet, "classifier", why, named, [], f"counted: {marked.what}")
    none = None if marked else "earlier packets hold the bytes that decided"
    return shown(met, at, packet, "classifier", why, named, marked, none)


def by_match(simulation: Simulation, met: Met, at: int, rule: Rule) -> Decision:
    """Return the decision of the first packet that a rule acted on."""
    moment = stepped(simulation, met, at)
    packet = walk(moment.packets.data, moment.signs)
    up = int(simulation.script.side[simulation.attempts["packet"][met.rows[at]]]) == CALLER
    here = rule.after is None and rule.way is None
    marked = matched(packet, rule, up) if here else []
    reason = None if marked else "no single bytes of this packet"
    if not here:
        reason = "the rule may have matched an earlier packet"
    return shown(met, at, packet, "rule", match_text(rule), None, marked, reason)


def shown(
    met: Met,
    at: int,
    packet: Packet,
    by: str,
    evidence: str,
    named: str | None,
    marked: Sequence[Mark],
    no_marks: str | None,
) -> Decision:
    """Return a decision with its octets: the beginning of the payload, and all marks."""
    cells = text(packet, marked, reveal=False)
    payload = int(packet.signs[SIGN_PAYLOAD_AT])
    size = min(int(packet.signs[SIGN_PAYLOAD_SIZE]), PAYLOAD)
    begin = min([payload, *(mark.at for mark in marked)])
    end = max([payload + size, *(mark.at + mark.length for mark in marked)])
    end = min(end, len(cells), begin + MOST)
    inside = [mark for mark in marked if mark.at < end]
    row = int(met.rows[at])
    return Decision(row, by, evidence, named, begin, payload, cells[begin:end], inside, no_marks)


# ---- what a rule matches apart from the classifier's verdict


def cookie(packet: Packet) -> list[Mark]:
    """Mark the magic cookie of the outermost STUN message."""
    return [mark._replace(caption="magic cookie") for mark in stun_cookie(packet)]


def named_end(packet: Packet, rule: Rule) -> list[Mark]:
    """Mark the end of a host name that a rule gives, in plain text or as DNS writes it.

    Without one, the packet's host name, as secret.
    """
    at, end = int(packet.signs[SIGN_PAYLOAD_AT]), int(packet.signs[SIGN_PAYLOAD_END])
    octets = packet.octets[at:end].tobytes().lower()
    for word in (*rule.match.name, *rule.match.dns):
        name = word.removeprefix("*.")
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
        for form in (labels, name.encode()):
            place = octets.find(form)
            if place >= 0:
                return [Mark(at + place, len(form), f'name that ends in "{name}"')]
    return host_name(packet)


def payload_start(packet: Packet) -> list[Mark]:
    """Mark the first octets of the payload, which show its kind."""
    return [Mark(int(packet.signs[SIGN_PAYLOAD_AT]), 2, "first octets of the payload")]


#: Where the octets stand that a key of a match reads; a key without an entry counts or computes.
PLACES: dict[str, Place] = {
    "stun": cookie,
    "stun_method": stun_type,
    "payload": payload_start,
    "hello": payload_start,
    "ports": ports,
    "protocol": protocol_octet,
}


def matched(packet: Packet, rule: Rule, up: bool) -> list[Mark]:
    """Return the octets of a packet that a rule's match reads; up: sent by the caller."""
    keys, decisive = rule.match.model_fields_set, []
    for key, place in PLACES.items():
        if key in keys:
            decisive += place(packet)
    if rule.match.name or rule.match.dns:
        decisive += named_end(packet, rule)
    if rule.match.stun_attribute:
        wanted = rule.match.stun_attribute
        decisive += stun_attribute(lambda kind: kind in wanted)(packet)
    if "addresses" in keys:
        decisive.append(endpoints(packet)[1 if up else 0])
    end = len(packet.octets)
    cut = [mark._replace(length=min(mark.length, end - mark.at)) for mark in decisive]
    return sorted({mark for mark in cut if mark.length > 0})


def match_text(rule: Rule) -> str:
    """Return a rule's match, and what a flow may still do before it acts, as one line of TOML."""
    fields = rule.model_dump(exclude_defaults=True, by_alias=True, mode="json")
    keys = [*fields["match"].items(), *([("after", fields["after"])] if rule.after else [])]
    return ", ".join(f"{key} = {' '.join(short(value))}" for key, value in keys)


def short(value: object) -> Iterator[str]:
    """Yield a value as TOML, a long list with its first values and its length."""
    if isinstance(value, list) and len(value) > LISTED + 1:
        yield f"{toml(value[:LISTED])[:-1]}, ...]"
        yield f"({len(value)} values)"
    else:
        yield toml(value)
