# SPDX-License-Identifier: BSD-3-Clause
"""Reads one packet with the lab's own parsers, and locates the fields of its payload."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from midcall.captures.packets.numbers import DNS_PORT
from midcall.classifier.engine import Engine
from midcall.classifier.explain.dissect import Piece, attributes, walk
from midcall.classifier.state.flow_table import QUIC
from midcall.classifier.state.packet_fields import (
    NAME_DNS_QUESTION,
    NAME_HTTP_HOST,
    NAME_QUIC_SNI,
    NAME_SNI,
    SIGN_HELLO_PRINT,
    SIGN_NAME_KIND,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_TEXT,
    SIGN_TEXT_LENGTH,
)
from midcall.testbed.middlebox.media import stun_at
from midcall.testbed.middlebox.payload_type import (
    ATTRIBUTES,
    WHOLE,
    entropy,
    payload_kind,
    stun_header,
    stun_method,
)
from midcall.testbed.policy.language import PAYLOADS
from midcall.testbed.probing.probe import Probe, Sent, packets_of_probe

#: Largest number of packets of a flow and direction that are joined to one message.
READ = 4

PLACES = {
    NAME_SNI: "tls",
    NAME_QUIC_SNI: "quic",
    NAME_HTTP_HOST: "http",
    NAME_DNS_QUESTION: "dns",
}


class Reading(NamedTuple):
    """The properties of one packet. method: of STUN, -1 for other payloads; hello: the fingerprint
    of a ClientHello, 0 for other payloads.

    kind: of testbed.policy.language.PAYLOADS; where: the protocol of `name`: "tls", "quic", "http"
    or "dns", "" without a name; entropy: as match.entropy of a policy computes it, -1 for fewer
    than 2 octets.
    """

    kind: str
    method: int
    attributes: frozenset[int]
    where: str
    name: str
    hello: int
    entropy: float


class Field(NamedTuple):
    """A field of a payload: its name, its offset, its length in octets."""

    name: str
    at: int
    length: int


def read(packet: Sent, quic: bool = False) -> Reading:
    """Return the properties of a packet; its name and hello are read with the packets `before`
    it. quic: whether its flow is known to be QUIC."""
    return _read(packet._replace(time=0), quic)


@lru_cache(maxsize=20_000)
def _read(packet: Sent, quic: bool) -> Reading:
    engine = Engine(room=64, model=None)
    last = packet._replace(before=())
    packets = packets_of_probe((*(last._replace(payload=body) for body in packet.before), last))
    engine.feed(packets)
    signs, b = engine.signs, packets.data
    at, end = int(signs[SIGN_PAYLOAD_AT]), int(signs[SIGN_PAYLOAD_END])
    kind = int(stun_at(b, at, end))
    dns = DNS_PORT in (packet.ends.near_port, packet.ends.far_port)
    quic = quic or bool(int(engine.tables.flows[0]["state"]) & QUIC)  # of the only flow
    kind_number = int(payload_kind(b, at, end, packet.ends.proto, dns, quic))
    where = PLACES.get(int(signs[SIGN_NAME_KIND]), "")
    length = int(signs[SIGN_TEXT_LENGTH]) if where else 0
    text = bytes(signs[SIGN_TEXT : SIGN_TEXT + length].astype(np.uint8)).decode("latin-1")
    entropy_share = int(entropy(b, at, end, np.zeros(256, np.int64)))
    return Reading(
        PAYLOADS[kind_number],
        int(stun_method(kind - 1)) if kind else -1,
        frozenset(attribute_types(packet.payload)),
        where,
        text,
        int(signs[SIGN_HELLO_PRINT]),
        entropy_share / WHOLE if entropy_share >= 0 else -1.0,
    )


def with_before(probe: Probe, at: int) -> Sent:
    """Return a packet of a probe with the earlier payloads of its flow, if all of them have its
    direction and they are fewer than READ: a parser stops reading a message once the other side has
    sent a packet."""
    one = probe[at]
    earlier = [other for other in probe[:at] if other.payload and other.ends == one.ends]
    if not one.payload or len(earlier) >= READ or any(other.up != one.up for other in earlier):
        return one
    return one._replace(before=tuple(other.payload for other in earlier))


def attribute_types(payload: bytes) -> Iterator[int]:
    """Yield the types of a STUN message's attributes; none for other payloads."""
    place = int(stun_header(np.frombuffer(payload, np.uint8), 0, len(payload)))
    if place < 0:
        return
    place += 20
    for _ in range(ATTRIBUTES):
        if len(payload) - place < 4:
            return
        kind, length = struct.unpack_from(">HH", payload, place)
        yield kind
        place += 4 + ((length + 3) & ~3)


# ---- fields

#: Fields at the start of a message, (name, octets), by its kind.
HEADS: dict[str, tuple[tuple[str, int], ...]] = {
    "stun": (("STUN type", 2), ("STUN length", 2), ("STUN cookie", 4), ("STUN transaction", 12)),
    "channel-data": (("TURN channel", 2), ("TURN length", 2)),
    "microsoft-frame": (("frame", 2), ("frame length", 2), ("frame header", 8)),
    "rfc4571": (("frame length", 2),),
    "rtp": (
        ("RTP flags", 1), ("RTP payload type", 1), ("RTP sequence", 2), ("RTP time", 4),
        ("RTP source", 4),
    ),
    "rtcp": (("RTCP flags", 1), ("RTCP type", 1), ("RTCP length", 2), ("RTCP source", 4)),
    "dtls": (
        ("DTLS type", 1), ("DTLS version", 2), ("DTLS epoch", 2), ("DTLS sequence", 6),
        ("DTLS length", 2), ("handshake type", 1), ("handshake length", 3), ("message", 2),
        ("fragment", 6), ("hello version", 2), ("hello random", 32),
    ),
    "tls": (
        ("TLS type", 1), ("TLS version", 2), ("TLS length", 2), ("handshake type", 1),
        ("handshake length", 3), ("hello version", 2), ("hello random", 32),
    ),
    "quic": (("QUIC flags", 1), ("QUIC version", 4), ("QUIC id length", 1)),
    "dns": (
        ("DNS id", 2), ("DNS flags", 2), ("DNS counts", 8), ("DNS question", 64),
    ),
    "http": (("HTTP method", 4),),
    "sip": (("SIP method", 6),),
}  # fmt: skip
#: Octets of a stretch that no parser divides further.
STRETCH = 16


def fields(one: Sent) -> list[Field]:
    """Return the fields of a packet's payload in order and without gaps; unknown octets are
    "data"."""
    if not one.payload:
        return []
    engine = Engine(room=64, model=None)
    packets = packets_of_probe((one,))
    engine.feed(packets)
    start = int(engine.signs[SIGN_PAYLOAD_AT])
    packet = walk(packets.data, engine.signs)
    known: list[Field] = []
    for piece in packet.pieces:
        known += fields_of(packet.octets, piece, start)
    return tiled(known, len(one.payload))


def fields_of(octets: np.ndarray, piece: Piece, start: int) -> Iterator[Field]:
    """Yield the known fields of one message; start: offset of the payload in the frame."""
    at = piece.at
    for name, length in HEADS.get(piece.kind, ()):
        yield Field(name, at - start, length)
        at += length
    if piece.kind == "stun":
        for one in attributes(octets, piece):
            word = f"attribute {one.kind:04x}"
            yield Field(f"{word} type", one.at - start, 2)
            yield Field(f"{word} length", one.at + 2 - start, 2)
            yield Field(f"{word} value", one.at + 4 - start, one.length)


def tiled(known: list[Field], size: int) -> list[Field]:
    """Return fields cut to a payload of `size` octets, with the gaps between them filled."""
    tiles: list[Field] = []
    at = 0
    for field in sorted(known, key=lambda one: (one.at, one.length)):
        begin, end = max(field.at, at), min(field.at + field.length, size)
        if begin > at:
            tiles += stretches(at, min(begin, size))
        if end > begin:
            tiles.append(Field(field.name, begin, end - begin))
            at = end
    return tiles + stretches(at, size)


def stretches(at: int, end: int) -> list[Field]:
    """Return the octets from `at` to `end` as "data" fields of STRETCH octets each."""
    return [Field("data", o, min(STRETCH, end - o)) for o in range(at, end, STRETCH)]


def field_at(known: list[Field], at: int) -> Field:
    """Return the field that contains an octet."""
    return next(one for one in known if one.at <= at < one.at + one.length)
