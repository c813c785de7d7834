# SPDX-License-Identifier: BSD-3-Clause
"""Decode a captured frame down to the innermost IP packet and its transport.

Removes every encapsulation an operator sees, in any nesting up to MAX_DEPTH: Ethernet, LLC/SNAP,
VLAN and QinQ, PPPoE, PPP, MPLS, Linux cooked (v1, v2), BSD loopback, raw IP, 802.11 and radiotap,
PKTAP, PPI, GRE and PPTP, IP in IP, 6in4, GTP-U with extension headers, L2TP, Teredo, VXLAN. The
result is written to `signs`; a frame that holds no IP packet, or a damaged one, gives a reason
instead.

Sources: IEEE 802.1Q; RFC 2516 (PPPoE), 1661 (PPP), 3032 (MPLS), 2784, 2890 and 2637 (GRE, PPTP),
2003 and 4213 (IP in IP), 3GPP TS 29.281 (GTP-U), 2661 (L2TP), 4380 (Teredo), 7348 (VXLAN),
791 and 8200 (IP); the LINKTYPE registry of tcpdump.org; Apple's bsd/net/pktap.h (PKTAP); CACE
Technologies, Per-Packet Information Header Specification 1.0.7 (PPI).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u16le, u32, u32le
from midcall.captures.packets.numbers import (
    GTP_PORT,
    IP4,
    IP6,
    L2TP_PORT,
    PKTAP_APPLE_LINK,
    PKTAP_HEAD,
    PKTAP_LINK,
    PPI_LINK,
    PPPOE,
    SCTP,
    TCP,
    TEREDO_PORT,
    UDP,
    VXLAN_PORT,
)
from midcall.classifier.state.packet_fields import (
    SIGN_FRAGMENT,
    SIGN_IP_AT,
    SIGN_IP_END,
    SIGN_IP_SIZE,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_PIECE,
    SIGN_PROTO,
    SIGN_SOURCE_AT,
    SIGN_SOURCE_PORT,
    SIGN_TARGET_AT,
    SIGN_TARGET_PORT,
    SIGN_TCP_FLAGS,
    SIGN_TCP_SEQUENCE,
    SIGN_TUNNELS,
    SIGN_VERSION,
)

Numbers = NDArray[np.int64]

# Outcomes of decode().
DECODED, NOT_IP, MALFORMED, TOO_DEEP, UNKNOWN_LINK = 0, 1, 2, 3, 4
OUTCOMES = ("decoded", "not IP", "malformed", "nested too deep", "unknown link type")

LINKS = {  # LINKTYPE number: name
    0: "BSD loopback",
    1: "Ethernet",
    9: "PPP",
    12: "raw IP",
    14: "raw IP",
    50: "PPP",
    51: "PPPoE",
    101: "raw IP",
    105: "IEEE 802.11",
    108: "OpenBSD loopback",
    113: "Linux cooked",
    127: "IEEE 802.11 with radiotap",
    PKTAP_APPLE_LINK: "PKTAP of Apple",
    PPI_LINK: "PPI",
    228: "IPv4",
    229: "IPv6",
    PKTAP_LINK: "PKTAP",
    276: "Linux cooked v2",
}
#: Link types whose header states the link type of the frame behind it.
WRAPPING = (PKTAP_APPLE_LINK, PPI_LINK, PKTAP_LINK)

# What stands at an offset: an EtherType, or one of these.
NOTHING, ETHERNET, PPP, IP, DOT11, SNAP = 0, 0x10001, 0x10002, 0x10003, 0x10004, 0x10005
BAD = 0x10006
TEB, PPP_IN_GRE = 0x6558, 0x880B
VLAN, QINQ, QINQ_OLD, MPLS, MPLS_MULTICAST = 0x8100, 0x88A8, 0x9100, 0x8847, 0x8848

IP_IN_IP, IP6_IN_IP, GRE, AH, FRAGMENT = 4, 41, 47, 51, 44


MAX_DEPTH = 24

# Recently seen first fragments: [key, ports], direct mapped by the key.
FRAGMENTS = 256


@inlined
def link_layer(b: Octets, at: int, end: int, link: int) -> tuple[int, int]:
    """Return (what, where) of the first layer of a frame of the given link type."""
    size = end - at
    if link == 1:
        return ETHERNET, at
    if link in (12, 14, 101, 228, 229):
        return IP, at
    if link == 113 and size >= 16:
        return u16(b, at + 14), at + 16
    if link == 276 and size >= 20:
        return u16(b, at), at + 20
    if link in (0, 108) and size >= 4:
        return IP, at + 4
    if link in (9, 50) and size >= 1:
        return PPP, at
    if link == 51:
        return PPPOE, at
    if link == 105:
        return DOT11, at
    if link == 127 and size >= 4:
        return DOT11, at + u16le(b, at + 2)
    return BAD, at


@kernel
def inner_link(b: Octets, at: int, end: int, link: int) -> tuple[int, int]:
    """Return (link type, where) of the frame behind a PKTAP or PPI header.

    The link type is -1 where the header is damaged, and -2 where no frame is behind it.
    """
    size = end - at
    if link == PPI_LINK and size >= 8:
        head = u16le(b, at + 2)
        if u8(b, at) == 0 and 8 <= head <= size:
            return u32le(b, at + 4), at + head
    if link in (PKTAP_LINK, PKTAP_APPLE_LINK) and size >= PKTAP_HEAD:
        head, kind = u32le(b, at), u32le(b, at + 4)
        if PKTAP_HEAD <= head <= size and kind <= 1:
            return u32le(b, at + 8) if kind == 1 else I(-2), at + head
    return I(-1), at


@kernel
def wrapped_layer(b: Octets, at: int, end: int, link: int) -> tuple[int, int]:
    """Return (what, where) of the first layer of a frame behind a PKTAP or PPI header."""
    inner, inside = inner_link(b, at, end, link)
    if inner == -2:
        return NOTHING, inside
    if inner < 0:
        return BAD, at
    return link_layer(b, inside, end, inner)


@kernel
def known_link(b: Octets, at: int, end: int, link: int) -> bool:
    """Return whether a frame's link type is known, so that a frame of it can be malformed."""
    if link in (PKTAP_LINK, PPI_LINK, PKTAP_APPLE_LINK):
        inner, at = inner_link(b, at, end, link)
        if inner < 0:  # LINKTYPE_USER2 may be anybody's
            return link != PKTAP_APPLE_LINK
        link = inner
    return link in (0, 9, 50, 105, 108, 113, 127, 276)


@kernel
def ppp_layer(b: Octets, at: int, end: int) -> tuple[int, int]:
    """Return (what, where) behind a PPP header (address and protocol may be compressed)."""
    if end - at >= 2 and u16(b, at) == 0xFF03:
        at += 2
    if end - at < 2:
        return NOTHING, at
    if u8(b, at) & 1:
        word, at = u8(b, at), at + 1
    else:
        word, at = u16(b, at), at + 2
    if word == 0x0021:
        return IP4, at
    if word == 0x0057:
        return IP6, at
    if word == 0x0281:
        return MPLS, at
    return NOTHING, at


@kernel
def mpls_layer(b: Octets, at: int, end: int) -> tuple[int, int]:
    """Return (what, where) behind an MPLS label stack."""
    while end - at >= 4:
        bottom = u8(b, at + 2) & 1
        at += 4
        if bottom:
            if at == end:
                return NOTHING, at
            nibble = u8(b, at) >> 4
            if nibble in (4, 6):
                return IP, at
            if nibble == 0 and end - at >= 18:  # pseudowire control word (RFC 4448)
                return ETHERNET, at + 4
            return NOTHING, at
    return BAD, at


@kernel
def dot11_layer(b: Octets, at: int, end: int) -> tuple[int, int]:
    """Return (what, where) behind an unprotected 802.11 data header."""
    if end - at < 24:
        return NOTHING, at
    first, flags = u8(b, at), u8(b, at + 1)
    if (first & 0x0C) != 0x08 or first & 0x40 or flags & 0x40:
        return NOTHING, at
    size = 24
    if flags & 3 == 3:
        size += 6
    if first & 0x80:
        size += 2
        if flags & 0x80:
            size += 4
    return SNAP, at + size


@kernel
def snap_layer(b: Octets, at: int, end: int) -> tuple[int, int]:
    """Return (what, where) behind an LLC/SNAP header."""
    if end - at < 8 or u16(b, at) != 0xAAAA:
        return NOTHING, at
    return u16(b, at + 6), at + 8


@inlined
def link_step(b: Octets, what: int, at: int, end: int) -> tuple[int, int]:
    """Remove one layer below IP; returns (what, where): NOTHING or BAD if no layer follows."""
    if what == ETHERNET:
        if end - at < 14:
            return BAD, at
        word = u16(b, at + 12)
        if word < 1536:
            return SNAP, at + 14
        return word, at + 14
    if what in (VLAN, QINQ, QINQ_OLD):
        if end - at < 4:
            return BAD, at
        return u16(b, at + 2), at + 4
    if what == PPPOE:
        if end - at < 8 or u16(b, at) != 0x1100:
            return NOTHING, at
        return PPP, at + 6
    if what == PPP:
        return ppp_layer(b, at, end)
    if what in (MPLS, MPLS_MULTICAST):
        return mpls_layer(b, at, end)
    if what == SNAP:
        return snap_layer(b, at, end)
    if what == DOT11:
        return dot11_layer(b, at, end)
    if what == TEB:
        return ETHERNET, at
    if what == PPP_IN_GRE:
        return PPP, at
    return NOTHING, at


@kernel
def gre_layer(b: Octets, at: int, end: int) -> tuple[int, int]:
    """Return (what, where) behind a GRE header, version 0 or 1 (PPTP)."""
    if end - at < 4:
        return NOTHING, at
    flags, word = u16(b, at), u16(b, at + 2)
    at += 4
    if flags & 7 == 1:
        at += 4  # key: payload length and call id
        if flags & 0x1000:
            at += 4
        if flags & 0x0080:
            at += 4
    else:
        if flags & 0xC000:
            at += 4
        if flags & 0x2000:
            at += 4
        if flags & 0x1000:
            at += 4
    if at >= end:
        return NOTHING, at
    return word, at


@kernel
def looks_like_ip(b: Octets, at: int, end: int, room: int) -> bool:
    """Return whether an IP packet of at most `room` bytes starts at `at` (lengths must agree)."""
    if end - at < 20:
        return False
    nibble = u8(b, at) >> 4
    if nibble == 4:
        header, total = (u8(b, at) & 15) * 4, u16(b, at + 2)
        return header >= 20 and header <= total and total <= room
    if nibble == 6 and end - at >= 40:
        return u16(b, at + 4) + 40 <= room
    return False


@kernel
def gtp_layer(b: Octets, at: int, end: int) -> tuple[int, int]:
    """Return (what, where) of the user's packet in a GTP-U G-PDU (TS 29.281, section 5)."""
    if end - at < 8 or u8(b, at) & 0xF0 != 0x30 or u8(b, at + 1) != 0xFF:
        return NOTHING, at
    flags, room = u8(b, at), u16(b, at + 2)
    start = at + 8
    stop = start + room
    at = start
    if flags & 7:
        if end - at < 4:
            return NOTHING, at
        more = u8(b, at + 3) if flags & 4 else I(0)
        at += 4
        for _ in range(8):
            if more == 0:
                break
            if end - at < 4:
                return NOTHING, at
            units = u8(b, at)
            if units == 0 or end - at < units * 4:
                return NOTHING, at
            more = u8(b, at + units * 4 - 1)
            at += units * 4
    if looks_like_ip(b, at, end, stop - at):
        return IP, at
    return NOTHING, at


@kernel
def l2tp_layer(b: Octets, at: int, end: int) -> tuple[int, int]:
    """Return (what, where) of the PPP frame in an L2TPv2 data message (RFC 2661)."""
    if end - at < 8:
        return NOTHING, at
    flags = u16(b, at)
    if flags & 0x8000 or flags & 0x000F != 2:
        return NOTHING, at
    at += 2
    if flags & 0x4000:
        at += 2
    at += 4
    if flags & 0x0800:
        at += 4
    if flags & 0x0200:
        if end - at < 2:
            return NOTHING, at
        at += 2 + u16(b, at)
    if end - at < 2:
        return NOTHING, at
    what, at = ppp_layer(b, at, end)
    if what in (IP4, IP6) and looks_like_ip(b, at, end, 65575):
        return IP, at
    return NOTHING, at


@kernel
def teredo_layer(b: Octets, at: int, end: int, size: int) -> tuple[int, int]:
    """Return (what, where) of the IPv6 packet in a Teredo datagram (RFC 4380, section 5.1.1)."""
    stop = at + size
    if end - at >= 4 and u16(b, at) == 1:
        at += 13 + u8(b, at + 2) + u8(b, at + 3)
    if end - at >= 8 and u16(b, at) == 0:
        at += 8
    if end - at >= 40 and u8(b, at) >> 4 == 6 and u16(b, at + 4) + 40 == stop - at:
        return IP6, at
    return NOTHING, at


@kernel
def vxlan_layer(b: Octets, at: int, end: int) -> tuple[int, int]:
    """Return (what, where) of the Ethernet frame in a VXLAN datagram (RFC 7348)."""
    if end - at >= 8 + 14 and u32(b, at) == 0x08000000:
        return ETHERNET, at + 8
    return NOTHING, at


@kernel
def udp_tunnel(b: Octets, at: int, end: int, size: int, ports: int) -> tuple[int, int]:
    """Return (what, where) inside a UDP datagram that is a tunnel, NOTHING otherwise."""
    source, target = ports >> 16, ports & 0xFFFF
    if source == GTP_PORT or target == GTP_PORT:
        return gtp_layer(b, at, end)
    if source == L2TP_PORT or target == L2TP_PORT:
        return l2tp_layer(b, at, end)
    if source == TEREDO_PORT or target == TEREDO_PORT:
        return teredo_layer(b, at, end, size)
    if target == VXLAN_PORT:
        return vxlan_layer(b, at, end)
    return NOTHING, at


@kernel
def fragment_key(b: Octets, at: int, version: int, word: int, proto: int) -> int:
    """Return a key of a datagram's fragments: addresses, identification and protocol."""
    h = I(0x3C6EF372)
    first, lanes = (at + 12, 2) if version == 4 else (at + 8, 8)
    for lane in range(lanes):
        h = ((h ^ u32(b, first + 4 * lane)) * 0x2C1B3C6D) & 0xFFFFFFFF
        h ^= h >> 15
    h = ((h ^ word) * 0x297A2D39) & 0xFFFFFFFF
    return (h << 8) | proto


@inlined
def transport(b: Octets, at: int, end: int, stop: int, proto: int, signs: Numbers) -> int:
    """Read ports and payload of the transport at `at`; `stop` is its end by the IP header."""
    signs[SIGN_SOURCE_PORT] = 0
    signs[SIGN_TARGET_PORT] = 0
    signs[SIGN_TCP_FLAGS] = 0
    head = 0
    if proto == UDP:
        if end - at < 8:
            return MALFORMED
        head = 8
        length = u16(b, at + 4)
        if 8 <= length < stop - at:
            stop = at + length
    elif proto == TCP:
        if end - at < 14:
            return MALFORMED
        head = (u8(b, at + 12) >> 4) * 4
        if head < 20:
            return MALFORMED
        signs[SIGN_TCP_FLAGS] = u8(b, at + 13)
        signs[SIGN_TCP_SEQUENCE] = u32(b, at + 4)
    elif proto == SCTP:
        if end - at < 12:
            return MALFORMED
        head = 12
    if head:
        signs[SIGN_SOURCE_PORT] = u16(b, at)
        signs[SIGN_TARGET_PORT] = u16(b, at + 2)
    signs[SIGN_PAYLOAD_AT] = min(at + head, end)
    signs[SIGN_PAYLOAD_END] = max(min(end, stop), signs[SIGN_PAYLOAD_AT])
    signs[SIGN_PAYLOAD_SIZE] = max(stop - at - head, 0)
    return DECODED


@inlined
def ip_header(
    b: Octets, at: int, end: int, whole: int, signs: Numbers
) -> tuple[int, int, int, int]:
    """Read an IP header chain: (outcome or -1, protocol, where, end by the header).

    `whole` is where the packet would end if none of it had been cut. Writes version, addresses and
    fragment state to `signs`; the fragment word (identification) goes to SIGN_TCP_SEQUENCE.
    """
    version = u8(b, at) >> 4
    signs[SIGN_IP_AT] = at
    signs[SIGN_VERSION] = version
    signs[SIGN_FRAGMENT] = 0
    if version == 4:
        header, total = (u8(b, at) & 15) * 4, u16(b, at + 2)
        if header < 20 or end - at < header:
            return MALFORMED, 0, at, at
        stop = at + total
        if total == 0:  # left to the network card (segmentation offload)
            stop = whole
        elif total < header:
            return MALFORMED, 0, at, at
        signs[SIGN_SOURCE_AT] = at + 12
        signs[SIGN_TARGET_AT] = at + 16
        word = u16(b, at + 6) & 0x3FFF
        if word:
            signs[SIGN_FRAGMENT] = 2 if word & 0x1FFF == 0 else 1
            signs[SIGN_TCP_SEQUENCE] = u16(b, at + 4)
        return -1, u8(b, at + 9), at + header, stop
    if end - at < 40:
        return MALFORMED, 0, at, at
    total = u16(b, at + 4)
    stop = whole if total == 0 else at + 40 + total
    signs[SIGN_SOURCE_AT] = at + 8
    signs[SIGN_TARGET_AT] = at + 24
    proto = u8(b, at + 6)
    at += 40
    for _ in range(8):
        if proto in (0, 43, 60, 135, 139, 140):
            if end - at < 8:
                return MALFORMED, 0, at, at
            proto, at = u8(b, at), at + 8 + u8(b, at + 1) * 8
        elif proto == AH:
            if end - at < 8:
                return MALFORMED, 0, at, at
            proto, at = u8(b, at), at + 8 + u8(b, at + 1) * 4
        elif proto == FRAGMENT:
            if end - at < 8:
                return MALFORMED, 0, at, at
            word = u16(b, at + 2)
            if word & 0xFFF9:
                signs[SIGN_FRAGMENT] = 2 if word & 0xFFF8 == 0 else 1
                signs[SIGN_TCP_SEQUENCE] = u32(b, at + 4)
            proto, at = u8(b, at), at + 8
        else:
            break
    return -1, proto, at, stop


@kernel
def fragment_ports(b: Octets, proto: int, at: int, signs: Numbers, fragments: Numbers) -> None:
    """Store the ports of a first fragment, or copy them to a later fragment of its datagram."""
    signs[SIGN_PIECE] = 1
    if proto not in (TCP, UDP, SCTP):
        if signs[SIGN_FRAGMENT] == 2:
            signs[SIGN_FRAGMENT] = 0
        signs[SIGN_SOURCE_PORT] = signs[SIGN_TARGET_PORT] = 0
        return
    key = fragment_key(b, signs[SIGN_IP_AT], signs[SIGN_VERSION], signs[SIGN_TCP_SEQUENCE], proto)
    row = fragments[(key >> 8) & (FRAGMENTS - 1)]
    if signs[SIGN_FRAGMENT] == 2:
        row[0], row[1] = key, u32(b, at)
        signs[SIGN_FRAGMENT] = 0
        return
    ports = row[1] if row[0] == key else I(0)
    signs[SIGN_SOURCE_PORT], signs[SIGN_TARGET_PORT] = ports >> 16, ports & 0xFFFF


@inlined
def decode(
    b: Octets, at: int, end: int, wire: int, link: int, signs: Numbers, fragments: Numbers
) -> int:
    """Find the innermost IP packet of the frame b[at:end] and read its transport.

    `wire` is the frame's length on the wire; `fragments` is int64[FRAGMENTS, 2], the ports of
    recent first fragments. Fills `signs` (see classifier.state.packet_fields); returns an outcome.
    """
    signs[SIGN_PIECE] = 0
    if end <= at:
        return MALFORMED
    whole = at + max(wire, end - at)
    what, at = link_layer(b, at, end, link)
    if what == BAD:
        what, inside = wrapped_layer(b, at, end, link)
        if what == BAD:
            return MALFORMED if known_link(b, at, end, link) else UNKNOWN_LINK
        at = inside
    signs[SIGN_TUNNELS] = 0
    for _ in range(MAX_DEPTH):
        if at >= end:
            return MALFORMED
        if what in (IP, IP4, IP6):
            version = u8(b, at) >> 4
            if version not in (4, 6) or end - at < 20:
                return NOT_IP if what == IP else MALFORMED
            outcome, proto, at, stop = ip_header(b, at, end, whole, signs)
            if outcome >= 0:
                return outcome
            signs[SIGN_IP_SIZE] = min(stop, whole) - signs[SIGN_IP_AT]
            end, whole = min(end, stop), stop
            signs[SIGN_PROTO] = proto
            signs[SIGN_IP_END] = end
            if signs[SIGN_FRAGMENT]:
                if signs[SIGN_FRAGMENT] == 1 or end - at < 4:
                    signs[SIGN_PAYLOAD_AT] = signs[SIGN_PAYLOAD_END] = end
                    signs[SIGN_PAYLOAD_SIZE] = signs[SIGN_TCP_FLAGS] = 0
                    signs[SIGN_FRAGMENT] = 1
                    fragment_ports(b, proto, at, signs, fragments)
                    return DECODED
                fragment_ports(b, proto, at, signs, fragments)
            if at > end:
                return MALFORMED
            if proto in (IP_IN_IP, IP6_IN_IP) and looks_like_ip(b, at, end, stop - at):
                what = IP
                signs[SIGN_TUNNELS] += 1
                continue
            if proto == GRE:
                inner, inside = gre_layer(b, at, end)
                if inner in (IP4, IP6, TEB, PPP_IN_GRE, MPLS) and gre_holds_ip(
                    b, inner, inside, end
                ):
                    what, at = inner, inside
                    signs[SIGN_TUNNELS] += 1
                    continue
            if proto == UDP and end - at >= 8:
                inner, inside = udp_tunnel(b, at + 8, end, stop - at - 8, u32(b, at))
                if inner != NOTHING:
                    what, at = inner, inside
                    signs[SIGN_TUNNELS] += 1
                    continue
            return transport(b, at, end, stop, proto, signs)
        what, at = link_step(b, what, at, end)
        if what == NOTHING:
            return NOT_IP
        if what == BAD:
            return MALFORMED
    return TOO_DEEP


@kernel
def gre_holds_ip(b: Octets, what: int, at: int, end: int) -> bool:
    """Return whether the payload of GRE holds an IP packet (PPP control messages do not)."""
    if what != PPP_IN_GRE:
        return True
    what, at = ppp_layer(b, at, end)
    return what in (IP4, IP6) and looks_like_ip(b, at, end, 65575)
