# SPDX-License-Identifier: BSD-3-Clause
"""Layers of a frame: the offsets of its IP headers, tunnels included.

Plain, slow Python for single passes over a capture (adding, anonymising); the compiled packet path
has its own decoder. Supports Ethernet (VLAN, PPPoE, MPLS), Linux cooked, raw IP, 802.11, PKTAP,
PPI, IP in IP, GRE and GTP-U.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

import numpy as np

from midcall.captures.packets.numbers import (
    ICMP,
    ICMP6,
    IP4,
    IP6,
    PKTAP_APPLE_LINK,
    PKTAP_HEAD,
    PKTAP_LINK,
    PPI_LINK,
    SCTP,
    TCP,
    UDP,
)
from midcall.captures.packets.pcap import Packets

NAMES = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMP6: "icmp", SCTP: "sctp"}
DEPTH = 6

#: One end of a flow: packed address and port.
End = tuple[bytes, int]


class Layer(NamedTuple):
    """An IP header at `at`; its payload is `frame[start:end]`; `later` marks a later fragment."""

    at: int
    version: int
    proto: int
    start: int
    end: int
    later: bool

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Return the offsets of source and target address, and the length of each in bytes."""
        return (
            (self.at + 12, self.at + 16, 4)
            if self.version == 4
            else (self.at + 8, self.at + 24, 16)
        )


class Flow(NamedTuple):
    """A bidirectional flow; `source` sent the first packet."""

    proto: str
    source: End
    target: End
    frame: int
    packets: int


def unwrapped(frame: bytes, link: int) -> tuple[int, int]:
    """Return the link type and the offset of the frame behind a PKTAP or PPI header.

    Any other frame is at 0. The link type is -1 behind a damaged header.
    """
    if link == PPI_LINK:
        size, inner = struct.unpack_from("<HI", frame, 2) if len(frame) >= 8 else (0, 0)
        whole = len(frame) >= 8 and frame[0] == 0
        return (inner, size) if whole and 8 <= size <= len(frame) else (-1, 0)
    if link in (PKTAP_LINK, PKTAP_APPLE_LINK):
        size, kind, inner = struct.unpack_from("<III", frame) if len(frame) >= 12 else (0, 0, 0)
        whole = kind == 1 and PKTAP_HEAD <= size <= len(frame)
        return (inner, size) if whole else (-1, 0)
    return link, 0


def network(frame: bytes, link: int) -> tuple[int, int]:
    """Return the EtherType (0: unknown) of a frame's payload, and the payload's offset."""
    inner, begin = unwrapped(frame, link)
    if begin:
        kind, at = bare(frame[begin:], inner)
        return kind, begin + at
    return bare(frame, inner)


def bare(frame: bytes, link: int) -> tuple[int, int]:
    """Return the same as `network`, for a frame without a PKTAP or PPI header."""
    if link in (105, 127):
        return radio(frame, link)
    if link == 1 and len(frame) >= 14:
        return tagged(frame, 14, int.from_bytes(frame[12:14], "big"))
    if link == 113 and len(frame) >= 16:
        return tagged(frame, 16, int.from_bytes(frame[14:16], "big"))
    if link == 276 and len(frame) >= 20:
        return tagged(frame, 20, int.from_bytes(frame[:2], "big"))
    if link in (12, 14, 101, 228, 229) and frame:
        return {4: IP4, 6: IP6}.get(frame[0] >> 4, 0), 0
    if link in (0, 108) and len(frame) > 4:
        return {4: IP4, 6: IP6}.get(frame[4] >> 4, 0), 4
    return 0, 0


def radio(frame: bytes, link: int) -> tuple[int, int]:
    """Return EtherType and offset behind an unprotected 802.11 data header, with or without
    radiotap."""
    at = int.from_bytes(frame[2:4], "little") if link == 127 else 0
    if len(frame) < at + 24 or frame[at] & 0x4C != 0x08 or frame[at + 1] & 0x40:
        return 0, 0
    flags, quality = frame[at + 1], frame[at] & 0x80
    at += 24 + (6 if flags & 3 == 3 else 0) + (2 if quality else 0)
    at += 4 if quality and flags & 0x80 else 0
    known = frame[at : at + 2] == b"\xaa\xaa" and len(frame) >= at + 8
    return (int.from_bytes(frame[at + 6 : at + 8], "big"), at + 8) if known else (0, 0)


def tagged(frame: bytes, at: int, kind: int) -> tuple[int, int]:
    """Return ethertype and offset behind VLAN tags, a PPPoE header and MPLS labels."""
    while kind in (0x8100, 0x88A8, 0x9100) and len(frame) >= at + 4:
        kind, at = int.from_bytes(frame[at + 2 : at + 4], "big"), at + 4
    if kind == 0x8864 and len(frame) >= at + 8:
        ppp = int.from_bytes(frame[at + 6 : at + 8], "big")
        return {0x21: IP4, 0x57: IP6}.get(ppp, 0), at + 8
    if kind in (0x8847, 0x8848):
        while len(frame) >= at + 4 and not frame[at + 2] & 1:
            at += 4
        at += 4
        return ({4: IP4, 6: IP6}.get(frame[at] >> 4, 0) if at < len(frame) else 0), at
    return kind, at


def layers(frame: bytes, link: int) -> list[Layer]:
    """Return the IP layers of a frame, outermost first."""
    result: list[Layer] = []
    kind, at = network(frame, link)
    while kind in (IP4, IP6) and len(result) < DEPTH:
        layer = ip4(frame, at) if kind == IP4 else ip6(frame, at)
        if layer is None:
            break
        result.append(layer)
        kind, at = (0, 0) if layer.later else inside(frame, layer)
    return result


def ip4(frame: bytes, at: int) -> Layer | None:
    """Read an IPv4 header (RFC 791)."""
    if len(frame) < at + 20 or frame[at] >> 4 != 4:
        return None
    total, _, bits = struct.unpack_from(">HHH", frame, at + 2)
    end = min(len(frame), at + total) if total else len(frame)
    start = at + (frame[at] & 15) * 4
    return Layer(at, 4, frame[at + 9], start, max(start, end), bool(bits & 0x1FFF))


def ip6(frame: bytes, at: int) -> Layer | None:
    """Read an IPv6 header and its extension headers (RFC 8200)."""
    if len(frame) < at + 40 or frame[at] >> 4 != 6:
        return None
    end = min(len(frame), at + 40 + int.from_bytes(frame[at + 4 : at + 6], "big"))
    proto, start, later = frame[at + 6], at + 40, False
    while proto in (0, 43, 44, 60) and start + 8 <= end and not later:
        if proto == 44:
            later = int.from_bytes(frame[start + 2 : start + 4], "big") >> 3 > 0
            proto, start = frame[start], start + 8
        else:
            proto, start = frame[start], start + 8 + frame[start + 1] * 8
    return Layer(at, 6, proto, start, max(start, end), later)


def inside(frame: bytes, layer: Layer) -> tuple[int, int]:
    """Return EtherType and offset of a tunnel's payload, or (0, 0)."""
    at = layer.start
    if layer.proto in (4, 41):
        return (IP4 if layer.proto == 4 else IP6), at
    if layer.proto == 47 and layer.end >= at + 4:
        flags, kind = struct.unpack_from(">HH", frame, at)
        at += 4 + sum(4 for bit in (0x8000, 0x2000, 0x1000, 0x0080) if flags & bit)
        return (kind, at) if kind in (IP4, IP6) else pptp(frame, kind, at)
    if layer.proto == UDP and 2152 in ports(frame, layer) and layer.end >= at + 16:
        return gtp(frame, at + 8, layer.end)
    return 0, 0


def pptp(frame: bytes, kind: int, at: int) -> tuple[int, int]:
    """Return ethertype and offset behind the PPP header of enhanced GRE (RFC 2637)."""
    if kind != 0x880B:
        return 0, 0
    at += 2 if frame[at : at + 2] == b"\xff\x03" else 0
    for head in (b"\x21", b"\x00\x21"):
        if frame[at : at + len(head)] == head:
            return IP4, at + len(head)
    return 0, 0


def gtp(frame: bytes, at: int, end: int) -> tuple[int, int]:
    """Return ethertype and offset behind a GTP-U header (3GPP TS 29.281 section 5)."""
    if frame[at] >> 5 != 1 or frame[at + 1] != 0xFF:
        return 0, 0
    inner = at + 8
    if frame[at] & 7:
        following, inner = frame[at + 11] if at + 11 < end else 0, at + 12
        while following and inner < end and frame[inner]:
            inner += frame[inner] * 4
            following = frame[inner - 1] if inner <= end else 0
    return ({4: IP4, 6: IP6}.get(frame[inner] >> 4, 0) if inner < end else 0), inner


def ports(frame: bytes, layer: Layer) -> tuple[int, int]:
    """Return source and target port of a transport header, (0, 0) where there is none."""
    if layer.later or layer.proto not in (TCP, UDP, 132) or layer.end < layer.start + 4:
        return 0, 0
    source, target = struct.unpack_from(">HH", frame, layer.start)
    return source, target


def ends(frame: bytes, layer: Layer) -> tuple[End, End]:
    """Return both ends of a layer's packet."""
    source, target, size = layer.addresses
    ports_ = ports(frame, layer)
    return (frame[source : source + size], ports_[0]), (frame[target : target + size], ports_[1])


def payload(frame: bytes, layer: Layer) -> tuple[int, int]:
    """Return (start, end) of the payload of a TCP or UDP packet; an empty range for others."""
    if layer.later or layer.end < layer.start + 8:
        return layer.end, layer.end
    if layer.proto == UDP:
        return layer.start + 8, layer.end
    if layer.proto == TCP and layer.end >= layer.start + 20:
        return min(layer.end, layer.start + (frame[layer.start + 12] >> 4) * 4), layer.end
    return layer.end, layer.end


def flows(packets: Packets) -> list[Flow]:
    """Return the bidirectional flows of a capture (innermost 5-tuple), in order of first frame."""
    by_ends: dict[tuple[int, frozenset[End]], list[Flow]] = {}
    for i in range(packets.total):
        frame = packets.frame(i)
        ip_layers = layers(frame, int(packets.link[i]))
        if not ip_layers or ip_layers[-1].later:
            continue
        source, target = ends(frame, ip_layers[-1])
        proto = ip_layers[-1].proto
        matching = by_ends.setdefault((proto, frozenset((source, target))), [])
        if matching:
            matching[0] = matching[0]._replace(packets=matching[0].packets + 1)
        else:
            matching.append(Flow(NAMES.get(proto, "other"), source, target, i + 1, 1))
    return [matching[0] for matching in by_ends.values()]


def of_flows(packets: Packets, wanted: list[Flow]) -> Packets:
    """Return the packets of some flows; later fragments, which have no ports, are left out."""
    names = {(flow.proto, frozenset((flow.source, flow.target))) for flow in wanted}
    which = []
    for i in range(packets.total):
        frame = packets.frame(i)
        found = layers(frame, int(packets.link[i]))
        if found and not found[-1].later:
            proto = NAMES.get(found[-1].proto, "other")
            if (proto, frozenset(ends(frame, found[-1]))) in names:
                which.append(i)
    return packets.take(np.array(which, np.int64))


def written(end: End) -> str:
    """Return an end as text: address:port, IPv6 in brackets."""
    address = ipaddress.ip_address(end[0])
    return f"[{address}]:{end[1]}" if address.version == 6 else f"{address}:{end[1]}"
