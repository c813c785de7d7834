# SPDX-License-Identifier: BSD-3-Clause
"""IP packets built from their parts, with correct checksums (RFC 791, 1071, 8200)."""

from __future__ import annotations

import struct

from midcall.captures.packets.numbers import TCP, UDP
from midcall.testbed.network.checksums import folded, word_sum

#: LINKTYPE_RAW: a frame begins with its IP header.
RAW_IP = 101


#: Placeholder for a checksum until `set_checksums` writes it; 0 would mean that there is none.
UNSUMMED = 0xFFFF


def ip_packet(
    source: bytes, target: bytes, proto: int, body: bytes, number: int = 0, whole: bool = True,
    dscp: int = 0,
) -> bytes:  # fmt: skip
    """Return an IP packet with correct checksums; addresses of 4 or 16 octets.

    body: its transport header and payload, whatever its checksum is; a UDP checksum of 0 (none)
    stays. number, whole: IPv4's identification, and whether it must not be fragmented; dscp: its
    code point, 0 to 63 (RFC 2474).
    """
    if len(source) == 4:
        size, bits = 20 + len(body), 0x4000 if whole else 0
        head = struct.pack(">BBHHHBBH", 0x45, dscp << 2, size, number & 0xFFFF, bits, 64, proto, 0)
    else:
        head = struct.pack(">IHBB", 6 << 28 | dscp << 22, len(body), proto, 64)
    packet = bytearray(head + source + target + body)
    set_checksums(packet, len(packet))
    return bytes(packet)


def internet_checksum(total: int) -> int:
    """Return the Internet checksum of a sum of 16-bit words (RFC 1071)."""
    return 0xFFFF - folded(total)


def set_checksums(packet: bytearray, size: int) -> None:
    """Set the checksums of an IP packet; the transport's only where it was captured whole.

    size: bytes of the packet on the wire. A UDP checksum of 0 (none) stays, as does the transport
    checksum of a fragment.
    """
    is_ip4 = packet[0] >> 4 == 4
    start, proto = (4 * (packet[0] & 15), packet[9]) if is_ip4 else (40, packet[6])
    if is_ip4:
        packet[10:12] = b"\0\0"
        struct.pack_into(">H", packet, 10, internet_checksum(word_sum(bytes(packet[:start]))))
    place = start + {TCP: 16, UDP: 6}.get(proto, 0)
    pieces = is_ip4 and (packet[6] & 0x3F or packet[7])
    if place == start or len(packet) < size or pieces or place + 2 > len(packet):
        return
    if proto == UDP and packet[place : place + 2] == b"\0\0":
        return
    addresses = bytes(packet[12:20] if is_ip4 else packet[8:40])
    packet[place : place + 2] = b"\0\0"
    body = bytes(packet[start:size])
    transport_checksum = internet_checksum(word_sum(addresses) + proto + len(body) + word_sum(body))
    struct.pack_into(">H", packet, place, transport_checksum or 0xFFFF)
