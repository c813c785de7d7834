# SPDX-License-Identifier: BSD-3-Clause
"""A hex view of one packet: what may be seen of it, and rows of 16 octets with marks in them.

Offsets count from the start of the frame, as other tools count them. Without `reveal` only marks
and what structures a packet (types, lengths, ports) are shown; every other octet is "..".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from captures.octets import u8
from classifier.decode import TCP, UDP
from classifier.marks import Mark, transport_at
from classifier.signs import SIGN_IP_AT, SIGN_PROTO, SIGN_VERSION
from classifier.walk import Packet, attributes

WIDTH = 16
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


class Row(NamedTuple):
    """Up to 16 octets as text from offset `at`; `marked` says which mark each is in, -1: none."""

    at: int
    cells: list[str]
    marked: list[int]


def structure(packet: Packet) -> Iterator[tuple[int, int]]:
    """Yield (where, how many) octets that tell of no person: heads of headers and messages."""
    ip = int(packet.signs[SIGN_IP_AT])
    # Checksums cover what is masked, and are as telling as a part of it.
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


def rows(cells: Sequence[str], marks: Sequence[tuple[int, int]], start: int) -> list[Row]:
    """Return the rows that hold a mark (where, how many), and the one in which `start` stands."""
    owner = [-1] * len(cells)
    for number, (at, length) in enumerate(marks):
        for o in range(at, min(at + length, len(cells))):
            owner[o] = number if owner[o] < 0 else owner[o]
    wanted = {o // WIDTH for o, mark in enumerate(owner) if mark >= 0}
    if start < len(cells):
        wanted.add(start // WIDTH)
    spans = [slice(row * WIDTH, (row + 1) * WIDTH) for row in sorted(wanted)]
    return [Row(span.start, list(cells[span]), owner[span]) for span in spans]


def separators(marked: Sequence[int]) -> list[str]:
    """Return what stands before each cell of a row and behind its last: brackets around marks."""
    edges = [-1, *marked, -1]
    told = []
    for before, here in pairwise(edges):
        if before == here:
            told.append(" ")
        elif before >= 0 and here >= 0:
            told.append("|")
        else:
            told.append("[" if here >= 0 else "]")
    return told
