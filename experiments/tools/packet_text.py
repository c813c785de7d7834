# SPDX-License-Identifier: BSD-3-Clause
"""The contents of a packet in words, for `midcall explain`.

Names, user names and sources of third parties are masked unless `reveal`: of a host name only the
end that is in the classifier's tables is shown.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from midcall.captures.jit.reads import u8, u16, u32
from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.classifier.explain.dissect import Packet, Piece, attributes
from midcall.classifier.explain.highlights import REALMS, known_end
from midcall.classifier.protocols.dtls import (
    CLIENT_HELLO,
    CLIENT_HELLO_SRTP,
    SERVER_HELLO,
    SERVER_HELLO_SRTP,
    read_dtls,
)
from midcall.classifier.state.flow_scratch import TRACKS
from midcall.classifier.state.packet_fields import (
    NAME_DNS_ANSWER,
    NAME_DNS_QUESTION,
    NAME_HTTP_HOST,
    NAME_QUIC_SNI,
    NAME_SNI,
    SIGN_NAME_KIND,
    SIGN_TEXT,
    SIGN_TEXT_LENGTH,
)

METHODS = {
    0x001: "Binding",
    0x002: "Shared Secret",
    0x003: "Allocate",
    0x004: "Refresh",
    0x006: "Send",
    0x007: "Data",
    0x008: "CreatePermission",
    0x009: "ChannelBind",
}
CLASSES = ("request", "indication", "success response", "error response")
ATTRIBUTES = {
    0x0001: "MAPPED-ADDRESS",
    0x0004: "SOURCE-ADDRESS",
    0x0005: "CHANGED-ADDRESS",
    0x0006: "USERNAME",
    0x0008: "MESSAGE-INTEGRITY",
    0x0009: "ERROR-CODE",
    0x000A: "UNKNOWN-ATTRIBUTES",
    0x000C: "CHANNEL-NUMBER",
    0x000D: "LIFETIME",
    0x0012: "XOR-PEER-ADDRESS",
    0x0013: "DATA",
    0x0014: "REALM",
    0x0015: "NONCE",
    0x0016: "XOR-RELAYED-ADDRESS",
    0x0017: "REQUESTED-ADDRESS-FAMILY",
    0x0018: "EVEN-PORT",
    0x0019: "REQUESTED-TRANSPORT",
    0x001A: "DONT-FRAGMENT",
    0x0020: "XOR-MAPPED-ADDRESS",
    0x0022: "RESERVATION-TOKEN",
    0x0024: "PRIORITY",
    0x0025: "USE-CANDIDATE",
    0x8022: "SOFTWARE",
    0x8023: "ALTERNATE-SERVER",
    0x8028: "FINGERPRINT",
    0x8029: "ICE-CONTROLLED",
    0x802A: "ICE-CONTROLLING",
    0x8054: "CANDIDATE-IDENTIFIER",
    0x8070: "IMPLEMENTATION-VERSION",
    0xC057: "NETWORK-COST",
}
REPORTS = {
    200: "sender report",
    201: "receiver report",
    202: "source description",
    203: "goodbye",
    204: "application-defined",
    205: "transport feedback",
    206: "payload feedback",
    207: "extended report",
}
DTLS_WORDS = {
    CLIENT_HELLO: "DTLS ClientHello without use_srtp",
    CLIENT_HELLO_SRTP: "DTLS ClientHello with use_srtp",
    SERVER_HELLO: "DTLS ServerHello without use_srtp",
    SERVER_HELLO_SRTP: "DTLS ServerHello with use_srtp",
}
TLS_RECORDS = {
    20: "change of cipher",
    21: "alert",
    22: "handshake",
    23: "application data",
}
NAME_WORDS = {
    NAME_SNI: "server name",
    NAME_DNS_QUESTION: "question",
    NAME_HTTP_HOST: "Host",
    NAME_QUIC_SNI: "server name",
    NAME_DNS_ANSWER: "answer for",
}


class Stream(NamedTuple):
    """The state of an RTP source in the packet path: successors in a row, clock in Hz or 0."""

    source: str
    run: int
    clock: int


def masked_name(name: str, known: str) -> str:
    """Return a name of which only a known end is shown; each other label becomes an x."""
    hidden = [label for label in name[: len(name) - len(known)].split(".") if label]
    return ".".join(["x"] * len(hidden) + ([known] if known else []))


def reading(packet: Packet, stream: Stream | None, reveal: bool) -> list[str]:
    """Return one sentence per message in a packet, the outermost first."""
    return [piece_words(packet, piece, stream, reveal) for piece in packet.pieces]


def piece_words(packet: Packet, piece: Piece, stream: Stream | None, reveal: bool) -> str:
    """Return one message in words."""
    b, at = packet.octets, piece.at
    if piece.kind == "stun":
        return stun_words(packet, piece, reveal)
    if piece.kind == "channel-data":
        return f"TURN ChannelData, channel 0x{u16(b, at):04X}, {u16(b, at + 2)} octets inside"
    if piece.kind == "microsoft-frame":
        return f"Microsoft multiplexed TURN (FF10), {piece.size - 12} octets inside"
    if piece.kind == "rfc4571":
        return f"a frame of RFC 4571, {piece.size - 2} octets inside"
    if piece.kind == "rtp":
        return rtp_words(packet, piece, stream)
    if piece.kind == "rtcp":
        kind = int(u8(b, at + 1))
        return f"RTCP {REPORTS.get(kind, f'packet type {kind}')}, length word {u16(b, at + 2)}"
    if piece.kind == "dtls":
        record_kind = read_dtls(b, at, piece.end, piece.size)
        return DTLS_WORDS.get(int(record_kind), f"DTLS record of type {u8(b, at)}")
    if piece.kind == "tls":
        return tls_words(packet, piece, reveal)
    if piece.kind == "quic":
        return f"QUIC long header, first octet 0x{u8(b, at):02X}{name_words(packet, reveal)}"
    if piece.kind == "other":
        return f"{piece.size} octets that no standard reader takes"
    titles = {"http": "HTTP/1 message", "sip": "SIP message", "mgcp": "MGCP message", "dns": "DNS"}
    return titles[piece.kind] + name_words(packet, reveal)


def stun_words(packet: Packet, piece: Piece, reveal: bool) -> str:
    """Return a STUN message's type in words and its attributes."""
    b, kind = packet.octets, int(u16(packet.octets, piece.at))
    method = (kind & 0xF) | (kind >> 1 & 0x70) | (kind >> 2 & 0xF80)
    name = METHODS.get(method)
    word = CLASSES[kind >> 4 & 1 | kind >> 7 & 2]
    title = f"STUN {name} {word}" if name else f"STUN type 0x{kind:04X}, of no RFC"
    if u32(b, piece.at + 4) != STUN_COOKIE:
        title += " (RFC 3489, no cookie)"
    words = []
    for attribute in attributes(b, piece):
        text = ATTRIBUTES.get(attribute.kind, f"0x{attribute.kind:04X} ({attribute.length})")
        if attribute.kind in (0x0006, 0x0014):
            value = b[attribute.at + 4 : attribute.at + 4 + attribute.length].tobytes()
            text += f" {quoted(value.decode('latin-1'), attribute.kind == 0x0014, reveal)}"
        words.append(text)
    return f"{title}; attributes {', '.join(words)}" if words else f"{title}; no attributes"


def quoted(text: str, realm: bool, reveal: bool) -> str:
    """Return an attribute's text in quotes; only the known end of a realm unless `reveal`."""
    if reveal:
        return repr(text)[1:-1].join('""')
    if not realm:
        return f"({len(text)} characters, masked)"
    ends = [end.decode() for end in REALMS if text.lower().endswith(end.decode())]
    return f'"{masked_name(text, max(ends, key=len, default=""))}"'


def rtp_words(packet: Packet, piece: Piece, stream: Stream | None) -> str:
    """Return an RTP header in words, with the state of its source."""
    b, at = packet.octets, piece.at
    first, second = int(u8(b, at)), int(u8(b, at + 1))
    text = f"RTP payload type {second & 0x7F}" + (", marker" if second & 0x80 else "")
    extension = at + 12 + 4 * (first & 15)
    if first & 0x10 and piece.end - extension >= 2:
        text += f", header extension 0x{u16(b, extension):04X}"
    if stream is not None:
        text += (
            f"; source {stream.source}, {stream.run} successor{'s' * (stream.run != 1)} in a row"
        )
        if stream.clock:
            text += f", clock about {stream.clock} Hz"
    return text


def tls_words(packet: Packet, piece: Piece, reveal: bool) -> str:
    """Return a TLS record in words, with the server name of a ClientHello."""
    kind = int(u8(packet.octets, piece.at))
    hello = kind == 22 and piece.end - piece.at > 5 and u8(packet.octets, piece.at + 5) == 1
    text = "TLS ClientHello" if hello else f"TLS {TLS_RECORDS.get(kind, kind)}"
    return text + name_words(packet, reveal)


def name_words(packet: Packet, reveal: bool) -> str:
    """Return the host name of a packet with its kind, "" if it has none."""
    kind = int(packet.signs[SIGN_NAME_KIND])
    name = host_name(packet)
    if not name:
        return ""
    return f", {NAME_WORDS[kind]} {name if reveal else masked_name(name, known_end(name))}"


def host_name(packet: Packet) -> str:
    """Return the host name that the packet path read, in lower case, "" for none."""
    if not packet.signs[SIGN_NAME_KIND]:
        return ""
    length = int(packet.signs[SIGN_TEXT_LENGTH])
    return bytes(packet.signs[SIGN_TEXT : SIGN_TEXT + length].tolist()).decode("latin-1")


def streams_of(note: Any, time: int, clock: Any) -> dict[int, Stream]:
    """Return the state of RTP sources in a note by their SSRC, labelled with letters.

    The path fills its tracks from the last one on, so that the first source is A.
    """
    streams: dict[int, Stream] = {}
    for track, kind in enumerate(note["rtp_type"]):
        if kind != 255:
            run, rate = int(note["rtp_run"][track]), int(clock(note, track, time))
            streams[int(note["rtp_ssrc"][track])] = Stream(chr(64 + TRACKS - track), run, rate)
    return streams
