# SPDX-License-Identifier: BSD-3-Clause
"""Changes a probe so that a clause no longer holds in it."""

from __future__ import annotations

from collections.abc import Iterator

from midcall.experiments.localise.clause import FOREVER, Clause, PacketCondition
from midcall.experiments.localise.messages import unlike
from midcall.experiments.localise.mutations import PORTS, far_addresses, with_port
from midcall.testbed.probing.probe import Ends, Probe, Sent, in_order


def negations(probe: Probe, clause: Clause) -> Iterator[Probe]:
    """Yield the probe changed so that the clause no longer holds, once per property of the
    clause."""
    conditions = [clause.condition] + ([clause.earlier.condition] if clause.earlier else [])
    for condition in conditions:
        for change in changes(condition):
            other = in_order(
                changed for one in probe
                if (changed := change_of(one, condition, change)) is not None
            )  # fmt: skip
            if other and not clause.holds(other):
                yield other


def changes(condition: PacketCondition) -> Iterator[str]:
    """Yield the names of the properties of a packet that can be changed to violate a condition."""
    names = ("payload", "size", "ports", "near_ports", "far")
    yield from (name for name in names if getattr(condition, name) is not None)
    yield "all"


def change_of(packet: Sent, condition: PacketCondition, field: str) -> Sent | None:
    """Return a packet with one property changed if it met a condition, None if it is removed."""
    if field in ("ports", "near_ports", "far"):
        return packet._replace(ends=other_ends(packet.ends, condition, field))
    if not condition.meets(packet):
        return packet
    if field == "payload":
        return packet._replace(payload=unlike(packet.payload, "defeat"))
    if field == "size" and condition.size is not None:
        low, high = condition.size
        size = high + 1 if high < FOREVER else low - 1
        return packet._replace(payload=(packet.payload + bytes(2000))[:size])
    return None


def other_ends(ends: Ends, condition: PacketCondition, field: str) -> Ends:
    """Return a flow's ends with one property changed if they met a condition."""
    if not condition.flow_meets(ends):
        return ends
    if field == "far":
        return ends._replace(far=far_addresses(ends.far)[0])
    key = "far_port" if field == "ports" else "near_port"
    for port in PORTS:
        other = with_port(ends, key, port)
        if not condition.flow_meets(other):
            return other
    return ends
