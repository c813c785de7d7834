# SPDX-License-Identifier: BSD-3-Clause
"""A hex view of one packet: which octets are shown; experiments.measure.hexdump arranges them in
rows.

Offsets count from the start of the frame, as in other tools. Without `reveal` only marks and the
structure of a packet (types, lengths, ports) are shown; every other octet is "..".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from midcall.captures.jit.reads import u8
from midcall.captures.packets.numbers import TCP, UDP
from midcall.classifier.explain.dissect import Packet, attributes
from midcall.classifier.explain.highlights import Mark, transport_at
from midcall.classifier.state.packet_fields import SIGN_IP_AT, SIGN_PROTO, SIGN_VERSION

HIDDEN = ".."
#: Octets at the start of a message that are constants, types or lengths of its protocol.
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
    """Yield (offset, count) of octets without personal data: heads of headers and messages."""
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
            head = 1  # Google's older header goes on with a connection id
        yield piece.at, min(head, piece.end - piece.at)
        if piece.kind == "stun":
            for attribute in attributes(packet.octets, piece):
                yield attribute.at, 4


def text(packet: Packet, marks: Sequence[Mark], reveal: bool) -> list[str]:
    """Return every octet of a frame in hexadecimal, masked ones as HIDDEN."""
    octets = packet.octets
    if reveal:
        return [f"{octet:02x}" for octet in octets.tolist()]
    cells = [HIDDEN] * len(octets)
    spans = [*structure(packet), *((mark.at, mark.length) for mark in marks if not mark.secret)]
    for at, length in spans:
        for o in range(at, min(at + length, len(octets))):
            cells[o] = f"{u8(octets, o):02x}"
    return cells
