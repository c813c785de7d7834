# SPDX-License-Identifier: GPL-2.0-or-later
"""A TLS connection as a scene shows it: its handshake and its records."""

from __future__ import annotations

from midcall.captures.synthetic.scene import Tcp
from midcall.captures.wire.seeded import MS, SeededRandom
from midcall.captures.wire.tls import (
    APPLICATION,
    CHANGE,
    client_hello,
    record,
    records,
    server_hello,
)


def handshake(flow: Tcp, at: int, dice: SeededRandom, name: str, **hello: tuple[str, ...]) -> int:
    """Shake hands on a TCP flow and return when the client may send (ns)."""
    at = flow.open(at)
    flow.up(at, client_hello(dice, name, **hello))
    flow.down(at + flow.rtt, server_hello(dice, dice.number(2100, 3300)))
    at += flow.rtt + 5 * MS
    flow.up(at, record(CHANGE, b"\1") + record(APPLICATION, dice.octets(53)))
    return at + 2 * MS


def exchange(flow: Tcp, at: int, dice: SeededRandom, up: int, down: int) -> int:
    """Send a request and its response in application records; return when both are done."""
    flow.up(at, records(dice, up))
    flow.down(at + flow.rtt, records(dice, down))
    return at + flow.rtt + 5 * MS + down * 800
