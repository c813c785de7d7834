# SPDX-License-Identifier: BSD-3-Clause
"""Work-arounds: what users changed to get a blocked call through, beyond the disguises.

Each is a Disguise (testbed.evasion.disguises), but none is part of the matrix of disguises: they
are for statements of users (experiments/probe/incidents.toml). Both ends behave as captured.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from midcall.captures.packets.numbers import TCP
from midcall.captures.truth.calls import Call
from midcall.testbed.evasion.controls import octets
from midcall.testbed.evasion.disguises import Disguise, cover, own_packets, plain
from midcall.testbed.evasion.rewriter import Rewriter
from midcall.testbed.evasion.tunnel import PUSH, Rewritten
from midcall.testbed.replay.script import Script, script
from midcall.testbed.replay.sides import CALLER
from midcall.testbed.replay.splice import Added, spliced

#: Octets of the random datagram that goes first.
JUNK = 64
#: Octets of the length in front of a datagram in a stream (RFC 4571).
FRAMING = 2


def junk_first(orders: Script, calls: Sequence[Call], seed: int) -> Rewritten:
    """Send a datagram of random octets before the caller's first one in every UDP flow of the
    calls; the far end discards it."""
    first: dict[int, int] = {}
    for i in own_packets(orders).tolist():
        if orders.side[i] == CALLER:
            first.setdefault(int(orders.flow[i]), i)
    time = orders.held.packets.time
    extra = [Added(int(time[i]), cover(orders, i, JUNK), before=i) for i in first.values()]
    inserted = spliced(orders.held.packets, calls, extra)
    after = script(inserted.packets, inserted.calls)
    rewriter = Rewriter(after.held)
    for place, i in zip(inserted.added.tolist(), first.values(), strict=True):
        image = Rewriter(after.held)
        image.put(int(inserted.kept[i]), octets(seed, "junk", i, size=JUNK))
        rewriter.replace(place, bytes(image.packet(int(inserted.kept[i]))))
    return plain(after, inserted.calls, rewriter, inserted.added)


def over_tcp(orders: Script, calls: Sequence[Call], seed: int) -> Rewritten:
    """Carry the calls' datagrams over TCP between the same addresses and ports, each behind its
    length (RFC 4571). The streams' handshakes and TCP's reaction to loss are not played."""
    del seed
    rewriter = Rewriter(orders.held)
    numbers: dict[tuple[int, bool], int] = {}
    for i in own_packets(orders).tolist():
        flow, up = int(orders.flow[i]), bool(orders.side[i] == CALLER)
        packet, start = rewriter.packet(i), rewriter.header(i)
        ports = struct.unpack_from(">HH", packet, start)
        body = rewriter.body(i)
        sequence, other = numbers.get((flow, up), 1), numbers.get((flow, not up), 1)
        numbers[flow, up] = sequence + FRAMING + int(orders.held.facts["size"][i])
        head = struct.pack(">HHIIBBHHH", *ports, sequence & 0xFFFFFFFF, other & 0xFFFFFFFF, 0x50,
                           PUSH, 65_535, 0, 0)  # fmt: skip
        rewriter.transport(i, head, struct.pack(">H", len(body)) + body, TCP)
    return plain(orders, calls, rewriter)


WORKAROUNDS = (
    Disguise("junk-first", f"a datagram of {JUNK} random octets before each UDP flow",
             "the sender alone; the far end discards it", junk_first),
    Disguise("over-tcp", "the same datagrams over TCP, between the same ends",
             "both apps and the relay offer it", over_tcp),
)  # fmt: skip
