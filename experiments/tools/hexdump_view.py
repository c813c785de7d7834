# SPDX-License-Identifier: BSD-3-Clause
"""Octets of one packet as text for a hex dump; this module masks the octets that may be private.

experiments.measure.hexdump arranges the text in rows. Offsets count from the start of the frame, as
in other tools. Without `reveal` a hex dump shows two kinds of octets: the structure of the packet
(types, lengths, ports), and the marks (octets that led to a verdict) that hold no personal data.
Every other octet is "..".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from midcall.captures.jit.reads import u8
from midcall.captures.packets.numbers import TCP, UDP
from midcall.classifier.explain.dissect import Packet, attributes
from midcall.classifier.explain.highlights import Mark, transport_at
from midcall.classifier.state.packet_fields import SIGN_IP_AT, SIGN_PROTO, SIGN_VERSION

HIDDEN = ".."
#: Kind of message -> number of octets at its start that are constants, types or lengths.
HEADS = {
    "stun": 8,
    "channel-data": 4,
    "microsoft-frame": 4,
    "rfc4571": 2,
    "rtp": 2,
    "rtcp": 4,
    "dtls": 3,
    "tls": 5,
    "quic": 5,
}


def structure(packet: Packet) -> Iterator[tuple[int, int]]:
    """Yield (offset, count) of octets without personal data: the first octets of the IP header, the
    transport header and each message, and the type and length of each STUN attribute.
    """
    ip = int(packet.signs[SIGN_IP_AT])
    # Checksums are left out: they are computed over masked octets and reveal part of them.
    yield (ip, 10) if packet.signs[SIGN_VERSION] == 4 else (ip, 8)
    if packet.signs[SIGN_PROTO] == UDP and packet.pieces:
        yield transport_at(packet), 6
    if packet.signs[SIGN_PROTO] == TCP and packet.pieces:
        yield transport_at(packet), 4
        yield transport_at(packet) + 12, 2
    for piece in packet.pieces:
        head = HEADS.get(piece.kind, 0)
        if piece.kind == "quic" and not u8(packet.octets, piece.at) & 0x80:
            head = 1  # in Google's older QUIC header, a connection id follows the first octet
        yield piece.at, min(head, piece.end - piece.at)
        if piece.kind == "stun":
            for attribute in attributes(packet.octets, piece):
                yield attribute.at, 4


def text(packet: Packet, marks: Sequence[Mark], reveal: bool) -> list[str]:
    """Return each octet of a frame in hexadecimal, or HIDDEN where it is masked.

    marks: the octets that led to a verdict; reveal: no octet is masked.
    """
    octets = packet.octets
    if reveal:
        return [f"{octet:02x}" for octet in octets.tolist()]
    cells = [HIDDEN] * len(octets)
    spans = [*structure(packet), *((mark.at, mark.length) for mark in marks if not mark.secret)]
    for at, length in spans:
        for o in range(at, min(at + length, len(octets))):
            cells[o] = f"{u8(octets, o):02x}"
    return cells
