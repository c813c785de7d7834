# SPDX-License-Identifier: BSD-3-Clause
"""Defeating: a probe changed so that a clause that was found does not hold in it any more."""

from __future__ import annotations

from collections.abc import Iterator

from midcall.experiments.localise.clause import FOREVER, Clause, Look
from midcall.experiments.localise.messages import unlike
from midcall.experiments.localise.mutations import PORTS, far_addresses, with_port
from midcall.testbed.probing.probe import Ends, Probe, Sent, in_order


def defeats(probe: Probe, clause: Clause) -> Iterator[Probe]:
    """Yield a probe changed so that a clause does not hold, by each thing that it looks for."""
    looks = [clause.look] + ([clause.earlier.look] if clause.earlier else [])
    for look in looks:
        for change in changes(look):
            other = in_order(
                changed for one in probe
                if (changed := change_of(one, look, change)) is not None
            )  # fmt: skip
            if other and not clause.holds(other):
                yield other


def changes(look: Look) -> Iterator[str]:
    """Yield what of a packet can be changed so that it is not what a Look asks for."""
    names = ("payload", "size", "ports", "near_ports", "far")
    yield from (name for name in names if getattr(look, name) is not None)
    yield "all"


def change_of(one: Sent, look: Look, what: str) -> Sent | None:
    """Return a packet changed in one thing where it met a Look, None where it is left out."""
    if what in ("ports", "near_ports", "far"):
        return one._replace(ends=other_ends(one.ends, look, what))
    if not look.meets(one):
        return one
    if what == "payload":
        return one._replace(payload=unlike(one.payload, "defeat"))
    if what == "size" and look.size is not None:
        low, high = look.size
        size = high + 1 if high < FOREVER else low - 1
        return one._replace(payload=(one.payload + bytes(2000))[:size])
    return None


def other_ends(ends: Ends, look: Look, what: str) -> Ends:
    """Return a flow's ends changed in one thing where they met a Look."""
    if not look.flow_meets(ends):
        return ends
    if what == "far":
        return ends._replace(far=far_addresses(ends.far)[0])
    key = "far_port" if what == "ports" else "near_port"
    for port in PORTS:
        other = with_port(ends, key, port)
        if not look.flow_meets(other):
            return other
    return ends
