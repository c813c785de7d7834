# SPDX-License-Identifier: BSD-3-Clause
"""Crafted innocents: flows of many protocols that are no call, seeded, payload by payload.

They are hard on purpose (first octets of RTP, cadence of voice, STUN without a call, HTTP on SIP's
port) and simple in form: each protocol's messages by its public description, with random content.
A program made them, so what an engine says of them is a regression count and no rate of anything.
"""

from __future__ import annotations

from experiments.innocents import (
    games,
    home,
    management,
    names,
    networks,
    octets,
    screens,
    servers,
    shapes,
    stun,
    tcp,
    tunnels,
)
from experiments.innocents.forms import TCP, UDP, Flow, Maker

__all__ = ["MAKERS", "TCP", "UDP", "Flow"]

#: Kind -> maker. The order decides nothing: each flow is seeded by its kind's name and number.
MAKERS: dict[str, Maker] = {}
for _part in (
    octets,
    names,
    tunnels,
    games,
    stun,
    management,
    tcp,
    networks,
    home,
    shapes,
    screens,
    servers,
):
    assert not MAKERS.keys() & _part.MAKERS.keys(), "a kind is named twice"
    MAKERS |= _part.MAKERS
