# SPDX-License-Identifier: BSD-3-Clause
"""Identify frames that arrive without the lab's tag, by the content of their IP packet.

A third-party box may rewrite Ethernet headers, as a router does, or make frames of its own. The
former equal the packets that were sent except for hop count and header checksum; the latter belong
to a flow of the run.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8

#: How many of the packets launched last are compared with an untagged frame.
STRAY_MOST = 4096
#: Octets of the IP header that every hop rewrites: hop count, and IPv4's checksum.
TTL, CHECKSUM, HOPS = 8, 10, 7


@kernel
def same_packet(
    b: Octets, at: int, end: int, sent: Octets, place: int, limit: int, around: int
) -> bool:
    """Tell whether frame b[at:end] carries the IP packet of frame sent[place:limit].

    around: octets before the IP packet; octets that a hop rewrites may differ.
    """
    if end - at != limit - place or end - at < around + 20:
        return False
    four = u8(b, at + around) >> 4 == 4
    for octet in range(around, end - at):
        if b[at + octet] != sent[place + octet]:
            inner = octet - around
            if four and (inner == TTL or CHECKSUM <= inner < CHECKSUM + 2):
                continue
            if not four and inner == HOPS:
                continue
            return False
    return True


@kernel
def of_one_flow(
    b: Octets, at: int, end: int, sent: Octets, place: int, limit: int, around: int, back: bool
) -> bool:
    """Tell whether two frames have the same transport, addresses and ports.

    back: whether the first goes in the reverse direction. IP options and extension headers are
    not parsed.
    """
    at, place = at + around, place + around
    if end - at < 24 or limit - place < 24:
        return False
    version = u8(b, at) >> 4
    if version != u8(sent, place) >> 4:
        return False
    start, width, ports, proto = 12, 4, 20, 9
    if version != 4:
        start, width, ports, proto = 8, 16, 40, 6
    if end - at < ports + 4 or limit - place < ports + 4 or b[at + proto] != sent[place + proto]:
        return False
    return bool(
        same_ends(b, at + start, sent, place + start, width, back)
        and same_ends(b, at + ports, sent, place + ports, 2, back)
    )


@kernel
def same_ends(b: Octets, at: int, sent: Octets, place: int, width: int, back: bool) -> bool:
    """Tell whether two pairs of `width` octets are equal, one of them swapped if `back`."""
    for octet in range(width):
        first, second = place + octet, place + width + octet
        if back:
            first, second = second, first
        if b[at + octet] != sent[first] or b[at + width + octet] != sent[second]:
            return False
    return True
