# SPDX-License-Identifier: BSD-3-Clause
"""Crafted innocents: flows of many protocols that are no call, seeded, payload by payload.

They are hard on purpose (first octets of RTP, cadence of voice, STUN without a call, HTTP on SIP's
port) and simple in form: each protocol's messages by its public description, with random content.
A program made them, so the verdicts of an engine on them are regression counts, not error rates.

Imports wire and packets.
"""

from __future__ import annotations

from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.synthetic.background import (
    dns,
    games,
    home,
    management,
    network_protocols,
    payloads,
    screens,
    shapes,
    stun,
    tcp,
    tcp_services,
    tunnels,
)
from midcall.captures.synthetic.background.flow import Flow, Maker

__all__ = ["MAKERS", "TCP", "UDP", "Flow"]

#: Kind -> maker. The order decides nothing: each flow is seeded by its kind's name and number.
MAKERS: dict[str, Maker] = {}
for _part in (
    payloads,
    dns,
    tunnels,
    games,
    stun,
    management,
    tcp,
    network_protocols,
    home,
    shapes,
    screens,
    tcp_services,
):
    assert not MAKERS.keys() & _part.MAKERS.keys(), "a kind is named twice"
    MAKERS |= _part.MAKERS
