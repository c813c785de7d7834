# SPDX-License-Identifier: BSD-3-Clause
"""Strays: frames that came without the lab's tag, known by what stands in their IP packet.

A box of somebody else's may write Ethernet headers anew, as a router does, or make frames of its
own. The former are the packets that were sent, but for hop count and header checksum; the latter
are of a flow that is there.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8

#: How many of the packets launched last are looked through for one that a stray may be of.
STRAY_MOST = 4096
#: Octets of the IP header that every hop writes anew: hop count, and IPv4's checksum.
TTL, CHECKSUM, HOPS = 8, 10, 7


@kernel
def same_packet(
    b: Octets, at: int, end: int, held: Octets, place: int, limit: int, around: int
) -> bool:
    """Tell whether frame b[at:end] holds the IP packet of frame held[place:limit].

    around: octets before the IP packet; what a hop writes anew may differ.
    """
    if end - at != limit - place or end - at < around + 20:
        return False
    four = u8(b, at + around) >> 4 == 4
    for octet in range(around, end - at):
        if b[at + octet] != held[place + octet]:
            inner = octet - around
            if four and (inner == TTL or CHECKSUM <= inner < CHECKSUM + 2):
                continue
            if not four and inner == HOPS:
                continue
            return False
    return True


@kernel
def of_one_flow(
    b: Octets, at: int, end: int, held: Octets, place: int, limit: int, around: int, back: bool
) -> bool:
    """Tell whether two frames have the same transport, addresses and ports.

    back: whether the first goes the other way. IP options and extension headers are not walked.
    """
    at, place = at + around, place + around
    if end - at < 24 or limit - place < 24:
        return False
    version = u8(b, at) >> 4
    if version != u8(held, place) >> 4:
        return False
    start, width, ports, proto = 12, 4, 20, 9
    if version != 4:
        start, width, ports, proto = 8, 16, 40, 6
    if end - at < ports + 4 or limit - place < ports + 4 or b[at + proto] != held[place + proto]:
        return False
    return bool(
        same_ends(b, at + start, held, place + start, width, back)
        and same_ends(b, at + ports, held, place + ports, 2, back)
    )


@kernel
def same_ends(b: Octets, at: int, held: Octets, place: int, width: int, back: bool) -> bool:
    """Tell whether two pairs of `width` octets are the same, the other way round if `back`."""
    for octet in range(width):
        first, second = place + octet, place + width + octet
        if back:
            first, second = second, first
        if b[at + octet] != held[first] or b[at + width + octet] != held[second]:
            return False
    return True
