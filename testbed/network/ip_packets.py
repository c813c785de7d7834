# SPDX-License-Identifier: BSD-3-Clause
"""IP packets made from their parts, with right checksums (RFC 791, 1071, 8200)."""

from __future__ import annotations

import struct

from midcall.captures.packets.numbers import TCP, UDP
from midcall.testbed.network.checksums import word_sum

#: LINKTYPE_RAW: a frame begins with its IP header.
RAW_IP = 101


#: Stands for a checksum until `mend` writes the right one; 0 would say that there is none.
UNSUMMED = 0xFFFF


def ip_packet(
    source: bytes, target: bytes, proto: int, body: bytes, number: int = 0, whole: bool = True
) -> bytes:
    """Return an IP packet with right checksums; addresses of 4 or 16 octets.

    body: its transport header and payload, whatever its checksum is; a UDP checksum of 0 stays, as
    that is none. number, whole: IPv4's identification, and whether it must not be fragmented.
    """
    if len(source) == 4:
        size, bits = 20 + len(body), 0x4000 if whole else 0
        head = struct.pack(">BBHHHBBH", 0x45, 0, size, number & 0xFFFF, bits, 64, proto, 0)
    else:
        head = struct.pack(">IHBB", 6 << 28, len(body), proto, 64)
    packet = bytearray(head + source + target + body)
    mend(packet, len(packet))
    return bytes(packet)


def folded(total: int) -> int:
    """Return the Internet checksum of a sum of 16-bit words (RFC 1071)."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def mend(packet: bytearray, size: int) -> None:
    """Set the checksums of an IP packet; the transport's only where it was captured whole.

    size: bytes of the packet on the wire. A UDP checksum of 0 (none) stays; a fragment's transport
    is left alone.
    """
    four = packet[0] >> 4 == 4
    start, proto = (4 * (packet[0] & 15), packet[9]) if four else (40, packet[6])
    if four:
        packet[10:12] = b"\0\0"
        struct.pack_into(">H", packet, 10, folded(word_sum(bytes(packet[:start]))))
    place = start + {TCP: 16, UDP: 6}.get(proto, 0)
    pieces = four and (packet[6] & 0x3F or packet[7])
    if place == start or len(packet) < size or pieces or place + 2 > len(packet):
        return
    if proto == UDP and packet[place : place + 2] == b"\0\0":
        return
    ends = bytes(packet[12:20] if four else packet[8:40])
    packet[place : place + 2] = b"\0\0"
    body = bytes(packet[start:size])
    told = folded(word_sum(ends) + proto + len(body) + word_sum(body))
    struct.pack_into(">H", packet, place, told or 0xFFFF)
