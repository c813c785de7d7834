# SPDX-License-Identifier: BSD-3-Clause
"""Frames written octet by octet, in the encapsulations that operators use."""

from __future__ import annotations

import ipaddress
import struct

from midcall.captures.packets.numbers import IP4, IP6

CALLER, SERVER = "198.18.0.1", "198.19.0.1"
CALLER6, SERVER6 = "fd00::1", "fd00:0:0:1::1"
GTP_PORT = 2152
RUN = 0x77


def packed(address: str) -> bytes:
    """Return an address as it stands in a packet."""
    return ipaddress.ip_address(address).packed


def udp(source: int, target: int, body: bytes = bytes(32)) -> bytes:
    """Return a UDP datagram (no checksum)."""
    return struct.pack(">HHHH", source, target, 8 + len(body), 0) + body


def tcp(source: int, target: int, body: bytes = b"", flags: int = 0x10) -> bytes:
    """Return a TCP segment (no checksum)."""
    return struct.pack(">HHIIBBHHH", source, target, 1, 1, 0x50, flags, 4096, 0, 0) + body


def ip4(source: str, target: str, body: bytes, proto: int = 17, word: int = 0x4000) -> bytes:
    """Return an IPv4 packet with its checksum."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, word, 64, proto, 0)
    head += packed(source) + packed(target)
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = 0xFFFF - (total & 0xFFFF) - (total >> 16)
    return head[:10] + struct.pack(">H", total) + head[12:] + body


def ip6(source: str, target: str, body: bytes, proto: int = 17) -> bytes:
    """Return an IPv6 packet."""
    head = struct.pack(">IHBB", 6 << 28, len(body), proto, 64)
    return head + packed(source) + packed(target) + body


def between(body: bytes, proto: int = 17, word: int = 0x4000) -> bytes:
    """Return an IPv4 packet from the caller to the server."""
    return ip4(CALLER, SERVER, body, proto, word)


def gtp(teid: int, packet: bytes, extension: bytes = b"", sequence: bool = False) -> bytes:
    """Return a G-PDU (TS 29.281): plain, with a sequence number, or with an extension header.

    extension: the header's content, 2 octets more than a multiple of 4.
    """
    optional = b""
    flags = 0x30
    if extension or sequence:
        flags |= (4 if extension else 0) | (2 if sequence else 0)
        optional = struct.pack(">HBB", 7, 0, 0x85 if extension else 0)
    if extension:
        optional += bytes([(len(extension) + 2) // 4]) + extension + b"\0"
    room = len(optional) + len(packet)
    return struct.pack(">BBHI", flags, 0xFF, room, teid) + optional + packet


def tunnel(teid: int, packet: bytes, extension: bytes = b"", sequence: bool = False) -> bytes:
    """Return a user's packet in GTP-U, from a base station to a gateway."""
    body = gtp(teid, packet, extension, sequence)
    return ip4("198.18.255.1", "198.18.255.2", udp(GTP_PORT, GTP_PORT, body))


def ethernet(
    packet: bytes, vlans: tuple[int, ...] = (), session: int | None = None, number: int = 0
) -> bytes:
    """Return a frame around an IP packet: tagged, and in a PPPoE session, as asked.

    number: of the packet in run 0x77, which stands in its MAC source.
    """
    kind = IP6 if packet[0] >> 4 == 6 else IP4
    if session is not None:
        word = 0x0057 if kind == 0x86DD else 0x0021
        packet = struct.pack(">HHHH", 0x1100, session, len(packet) + 2, word) + packet
        kind = 0x8864
    for place, vlan in enumerate(reversed(vlans)):
        packet = struct.pack(">HH", vlan, kind) + packet
        kind = 0x8100 if place == 0 else 0x88A8
    ends = bytes((2, RUN, 0, 0, 0, 2, 2, RUN)) + number.to_bytes(4, "big")
    return ends + struct.pack(">H", kind) + packet
