# SPDX-License-Identifier: BSD-3-Clause
"""Access networks: how an operator's box sees a subscriber's IP packets, and their largest size.

3g, 4g: in GTP-U between the radio side and the gateway (3GPP TS 29.281: IPv4 20 + UDP 8 + GTP-U 8 =
36 bytes more; a core link with MTU 1600). adsl, and wifi, which is a phone behind an adsl line: in
a PPPoE session (RFC 2516 and RFC 1661: 8 bytes more, MTU 1492, MSS clamped). fibre: plain Ethernet.
Tunnel ends have lab addresses (198.18.0.0/15, RFC 2544); the addresses inside stay as captured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.access import ACCESS
from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.captures.packets.numbers import GTP_PORT, IP4, IP6, TCP
from midcall.captures.packets.pcap import Packets
from midcall.errors import TestbedError

Numbers = NDArray[np.int64]

ETHERNET_LENGTH = 14
PLAIN, PPPOE, GTP = 0, 1, 2
#: Tunnel identifiers of the subscriber, away from it and towards it.
TEID_UP, TEID_DOWN = 0x4D430001, 0x4D430002
#: Tunnel ends: the radio side, the gateway side.
RADIO_END, GATEWAY_END = 0xC6120001, 0xC6120002
PPP_SESSION = 0x4D43


class Link(NamedTuple):
    """What an access network puts around an IP packet; `room` is the largest it carries."""

    kind: int
    overhead: int  # bytes around the IP packet, Ethernet not counted
    room: int


LINKS = {
    "3g": Link(GTP, 36, 1600 - 36),
    "4g": Link(GTP, 36, 1600 - 36),
    "adsl": Link(PPPOE, 8, 1492),
    "wifi": Link(PPPOE, 8, 1492),
    "fibre": Link(PLAIN, 0, 1500),
}

# What happens to a packet by its size.
FITS, CLAMPED, FRAGMENTED, TOO_LARGE = 0, 1, 2, 3


def link(access: str) -> Link:
    """Return what an access network puts around packets; raises TestbedError."""
    if access not in LINKS:
        raise TestbedError(f"access: got {access!r}, expected one of {', '.join(ACCESS)}")
    return LINKS[access]


def fit(
    network: Link, size: Numbers, proto: Numbers, version: Numbers, keep: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return per packet how it gets through: FITS, CLAMPED, FRAGMENTED or TOO_LARGE.

    size: bytes of the IP packet; keep: whether it must not be fragmented (the DF bit). A TCP
    segment that is too large would have been cut by the clamped MSS (or is a capture's offload
    artefact, not one packet on the wire); IPv6 routers fragment nothing (RFC 8200).
    """
    large = size > network.room
    whole = keep | (version == 6)
    out = np.where(large, np.where(whole, TOO_LARGE, FRAGMENTED), FITS)
    return np.where(large & (proto == TCP), CLAMPED, out).astype(np.uint8)


def wrap(
    network: Link, data: Octets, ip_at: Numbers, ip_end: Numbers, size: Numbers, up: Numbers
) -> Packets:
    """Return IP packets as the box on this access network sees them, in Ethernet frames.

    data[ip_at[i] : ip_end[i]] is the captured part of packet i (empty where it is no IP packet),
    size[i] its length on the wire, up[i] 1 where it goes away from the subscriber. Times are 0.
    """
    around = ETHERNET_LENGTH + network.overhead
    captured_size = ip_end - ip_at
    captured = np.where(captured_size > 0, captured_size + around, 0)
    offset = np.concatenate((np.zeros(1, np.int64), np.cumsum(captured)))
    out = np.zeros(int(offset[-1]), np.uint8)
    write_frames(network.kind, around, data, ip_at, ip_end, size, up, offset, out)
    wire = np.maximum(size + around, captured)
    count = len(ip_at)
    zero, ethernet = np.zeros(count, np.int64), np.ones(count, np.int64)
    return Packets(out, offset[:-1], captured, wire, zero, ethernet)


# ---- compiled


@kernel
def put16(b: Octets, at: int, value: int) -> None:
    """Write a big-endian 16-bit number, clamped to its field."""
    value = min(value, 0xFFFF)
    b[at], b[at + 1] = value >> 8, value & 0xFF


@kernel
def put32(b: Octets, at: int, value: int) -> None:
    """Write a big-endian 32-bit number."""
    put16(b, at, (value >> 16) & 0xFFFF)
    put16(b, at + 2, value & 0xFFFF)


@kernel
def write_frames(
    kind: int,
    around: int,
    data: Octets,
    ip_at: Numbers,
    ip_end: Numbers,
    size: Numbers,
    up: Numbers,
    offset: Numbers,
    out: Octets,
) -> None:
    """Write every frame at its offset: link header, tunnel, captured part of the IP packet."""
    for i in range(len(ip_at)):
        start, stop = ip_at[i], ip_end[i]
        if stop <= start:
            continue
        at = offset[i]
        version = u8(data, start) >> 4
        write_ethernet(out, at, up[i])
        if kind == GTP:
            put16(out, at + 12, IP4)
            write_gtp(out, at + 14, size[i], up[i])
        elif kind == PPPOE:
            put16(out, at + 12, 0x8864)
            write_pppoe(out, at + 14, size[i], 0x0057 if version == 6 else 0x0021)
        else:
            put16(out, at + 12, IP6 if version == 6 else IP4)
        place = at + around
        for octet in range(start, stop):
            out[place] = data[octet]
            place += 1


@kernel
def write_ethernet(b: Octets, at: int, up: int) -> None:
    """Write the two locally administered addresses of the box's link."""
    b[at], b[at + 6] = 2, 2
    b[at + 5] = 2 if up == 1 else 1
    b[at + 11] = 1 if up == 1 else 2


@kernel
def write_pppoe(b: Octets, at: int, size: int, protocol: int) -> None:
    """Write a PPPoE session header and the PPP protocol (RFC 2516 section 4)."""
    b[at] = 0x11
    put16(b, at + 2, PPP_SESSION)
    put16(b, at + 4, size + 2)
    put16(b, at + 6, protocol)


@kernel
def write_gtp(b: Octets, at: int, size: int, up: int) -> None:
    """Write IPv4, UDP and a GTP-U G-PDU header (3GPP TS 29.281 section 5); UDP checksum unused."""
    b[at] = 0x45
    put16(b, at + 2, size + 36)
    b[at + 8], b[at + 9] = 64, 17
    put32(b, at + 12, RADIO_END if up == 1 else GATEWAY_END)
    put32(b, at + 16, GATEWAY_END if up == 1 else RADIO_END)
    total = 0
    for place in range(at, at + 20, 2):
        total += u16(b, place)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    put16(b, at + 10, 0xFFFF - total)
    put16(b, at + 20, GTP_PORT)
    put16(b, at + 22, GTP_PORT)
    put16(b, at + 24, size + 16)
    b[at + 28], b[at + 29] = 0x30, 0xFF
    put16(b, at + 30, size)
    put32(b, at + 32, TEID_UP if up == 1 else TEID_DOWN)
