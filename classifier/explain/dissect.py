# SPDX-License-Identifier: BSD-3-Clause
"""Dissect one packet for display: its layers, and the messages nested in its payload.

The readers of the packet path are called in the order of that path, and the result of each is kept
with its offset. The packet path does not use this module.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import (
    GTP_PORT,
    IP4,
    IP6,
    L2TP_PORT,
    PPPOE,
    STUN_COOKIE,
    TCP,
    TEREDO_PORT,
    UDP,
    VXLAN_PORT,
)
from midcall.classifier.apps.telephony import is_mgcp, is_sip
from midcall.classifier.path.decode import (
    BAD,
    DOT11,
    ETHERNET,
    GRE,
    IP,
    LINKS,
    MAX_DEPTH,
    MPLS,
    MPLS_MULTICAST,
    NOTHING,
    PPP,
    PPP_IN_GRE,
    QINQ,
    QINQ_OLD,
    SNAP,
    TEB,
    VLAN,
    gre_layer,
    ip_header,
    link_layer,
    link_step,
    udp_tunnel,
    wrapped_layer,
)
from midcall.classifier.path.udp import NESTING
from midcall.classifier.protocols.dns import PORTS as DNS_PORTS
from midcall.classifier.protocols.dtls import NOT_DTLS, read_dtls
from midcall.classifier.protocols.http import read_http
from midcall.classifier.protocols.quic import is_quic
from midcall.classifier.protocols.rtp import looks_like_rtp, read_rtcp
from midcall.classifier.protocols.stun import HEADER, is_channel_data, is_microsoft_frame, read_stun
from midcall.classifier.protocols.tls import NOT_TLS, read_tls
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.packet_fields import (
    SIGN_IP_AT,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_RTP_AT,
    SIGN_SOURCE_PORT,
    SIGN_STUN_DATA,
    SIGN_STUN_DATA_END,
    SIGN_TARGET_PORT,
    SIGNS,
)

LAYER_WORDS = {
    ETHERNET: "Ethernet",
    VLAN: "VLAN",
    QINQ: "QinQ",
    QINQ_OLD: "QinQ",
    PPPOE: "PPPoE",
    PPP: "PPP",
    MPLS: "MPLS",
    MPLS_MULTICAST: "MPLS",
    SNAP: "SNAP",
    DOT11: "802.11",
    TEB: "Ethernet in GRE",
    PPP_IN_GRE: "PPP in GRE",
}
TUNNEL_PORTS = {GTP_PORT: "GTP-U", L2TP_PORT: "L2TP", TEREDO_PORT: "Teredo", VXLAN_PORT: "VXLAN"}
TRANSPORTS = {TCP: "TCP", UDP: "UDP", 1: "ICMP", 58: "ICMPv6", 132: "SCTP"}


class Piece(NamedTuple):
    """A message in a payload: `kind`, offsets `at` and `end`, and `size` in bytes on the wire.

    Kinds: stun, channel-data, microsoft-frame, rfc4571, rtp, rtcp, dtls, quic, tls, http, dns,
    sip, mgcp, other.
    """

    kind: str
    at: int
    end: int  # up to where it was captured
    size: int


class Packet(NamedTuple):
    """One processed packet: the frame's octets from 0, its signs, its messages."""

    octets: Octets
    signs: Numbers
    pieces: tuple[Piece, ...]

    def of(self, kind: str) -> list[Piece]:
        """Return the messages of one kind, the outermost first."""
        return [piece for piece in self.pieces if piece.kind == kind]

    @property
    def start(self) -> int:
        """Return where the innermost message starts (the payload where there is none)."""
        return self.pieces[-1].at if self.pieces else int(self.signs[SIGN_PAYLOAD_AT])


class Attribute(NamedTuple):
    """A STUN attribute: its type, where its header stands, the length of its value."""

    kind: int
    at: int
    length: int


def walk(octets: Octets, signs: Numbers) -> Packet:
    """Return a packet with its messages; signs: int64[SIGNS] as `engine.step` left them."""
    at, end = int(signs[SIGN_PAYLOAD_AT]), int(signs[SIGN_PAYLOAD_END])
    size, proto = int(signs[SIGN_PAYLOAD_SIZE]), int(signs[SIGN_PROTO])
    pieces: list[Piece] = []
    if end > at and proto == UDP:
        ports = (signs[SIGN_SOURCE_PORT], signs[SIGN_TARGET_PORT])
        pieces = datagram(octets, at, end, size, any(port in DNS_PORTS for port in ports))
    elif end > at and proto == TCP:
        pieces = segment(octets, at, end, size)
    tracked = int(signs[SIGN_RTP_AT])
    if tracked and not any(piece.kind == "rtp" for piece in pieces):
        pieces.append(Piece("rtp", tracked, end, size - (tracked - at)))
    return Packet(octets, signs, tuple(pieces))


def datagram(b: Octets, at: int, end: int, size: int, dns: bool) -> list[Piece]:
    """Return the messages in a UDP payload, those inside TURN and Microsoft frames included."""
    if dns and end - at >= 17:
        return [Piece("dns", at, end, size)]
    pieces: list[Piece] = []
    scratch = np.zeros(SIGNS, np.int64)
    for _ in range(NESTING):
        if end - at < 1:
            break
        if read_stun(b, at, end, size, 1, scratch):
            pieces.append(Piece("stun", at, end, size))
            if not scratch[SIGN_STUN_DATA]:
                break
            at, stop = int(scratch[SIGN_STUN_DATA]), int(scratch[SIGN_STUN_DATA_END])
            end, size = min(end, stop), stop - at
        elif is_channel_data(b, at, end, size):
            pieces.append(Piece("channel-data", at, end, size))
            size, at = int(u16(b, at + 2)), at + 4
            end = min(end, at + size)
        elif is_microsoft_frame(b, at, end, size):
            pieces.append(Piece("microsoft-frame", at, end, size))
            at, size = at + 12, size - 12
        else:
            pieces.append(Piece(message_kind(b, at, end, size), at, end, size))
            break
    return pieces


def message_kind(b: Octets, at: int, end: int, size: int) -> str:
    """Return the kind of a message that is neither STUN nor a relay's frame."""
    first = int(u8(b, at))
    if first >> 6 == 2 and read_rtcp(b, at, end, size):
        return "rtcp"
    if first >> 6 == 2 and looks_like_rtp(b, at, end, size):
        return "rtp"
    if 20 <= first <= 25 and read_dtls(b, at, end, size) != NOT_DTLS:
        return "dtls"
    if is_quic(b, at, end):
        return "quic"
    if end - at >= 4 and is_sip(b, at, end):
        return "sip"
    return "mgcp" if is_mgcp(b, at, end) else "other"


def segment(b: Octets, at: int, end: int, size: int) -> list[Piece]:
    """Return the messages in a TCP payload, RFC 4571 frames included."""
    scratch = np.zeros(SIGNS, np.int64)
    if read_tls(b, at, end, scratch) != NOT_TLS:
        return [Piece("tls", at, end, size)]
    if read_http(b, at, end, scratch):
        return [Piece("http", at, end, size)]
    if end - at >= 4 and is_sip(b, at, end):
        return [Piece("sip", at, end, size)]
    if size >= HEADER and read_stun(b, at, end, size, 0, scratch) and u32(b, at + 4) == STUN_COOKIE:
        return [Piece("stun", at, min(end, at + HEADER + int(u16(b, at + 2))), size)]
    return framed(b, at, end, size) or [Piece("other", at, end, size)]


def framed(b: Octets, at: int, end: int, size: int) -> list[Piece]:
    """Return the messages behind the length words of RFC 4571, none where a word is wrong."""
    pieces: list[Piece] = []
    scratch = np.zeros(SIGNS, np.int64)
    while end - at >= 14:
        length = int(u16(b, at))
        if length < 8 or length + 2 > size:
            break
        inner, stop = at + 2, min(end, at + 2 + length)
        kind = message_kind(b, inner, stop, length)
        if u8(b, inner) < 2 and read_stun(b, inner, stop, length, 1, scratch):
            kind = "stun"
        if kind not in ("stun", "rtp", "rtcp"):
            break
        pieces += [Piece("rfc4571", at, stop, length + 2), Piece(kind, inner, stop, length)]
        at, size = inner + length, size - 2 - length
    return pieces


def attributes(b: Octets, piece: Piece) -> list[Attribute]:
    """Return the attributes of a STUN message, parsed as in the packet path."""
    at = piece.at + HEADER
    stop = min(piece.end, at + int(u16(b, piece.at + 2)))
    if u32(b, piece.at + 4) != STUN_COOKIE:
        return _parse_attributes(b, at, stop, 1)[0]
    padded_attributes, reached = _parse_attributes(b, at, stop, 4)
    complete = stop == at + int(u16(b, piece.at + 2))
    return (
        _parse_attributes(b, at, stop, 1)[0] if reached < stop and complete else padded_attributes
    )


def _parse_attributes(b: Octets, at: int, stop: int, pad: int) -> tuple[list[Attribute], int]:
    parsed: list[Attribute] = []
    while stop - at >= 4:
        kind, length = int(u16(b, at)), int(u16(b, at + 2))
        if stop - at - 4 < length:
            break
        parsed.append(Attribute(kind, at, length))
        at += 4 + -(-length // pad) * pad
    return parsed, at


# ---- layers


def layers(octets: Octets, link: int, signs: Numbers) -> list[str]:
    """Return the names of a decoded frame's layers, from its link to its innermost transport."""
    innermost, end = int(signs[SIGN_IP_AT]), len(octets)
    words = [] if link in (1, 9, 50, 51, 105) else [LINKS.get(link, f"link type {link}")]
    words = [] if words == ["raw IP"] else words
    what, at = link_layer(octets, 0, end, link)
    if what == BAD:
        what, at = wrapped_layer(octets, 0, end, link)
    for _ in range(MAX_DEPTH):
        if what in (IP, IP4, IP6):
            words.append(f"IPv{int(u8(octets, at)) >> 4}")
            if at >= innermost:
                break
            what, at, word = tunnel(octets, at, end)
            words.append(word)
        else:
            words.append(LAYER_WORDS.get(what, "?"))
            what, at = link_step(octets, what, at, end)
        if what in (NOTHING, BAD):
            break
    proto = int(signs[SIGN_PROTO])
    return [*words, TRANSPORTS.get(proto, f"IP protocol {proto}")]


def tunnel(b: Octets, at: int, end: int) -> tuple[int, int, str]:
    """Return (what, where, name) of the payload of a decoded frame's outer IP packet."""
    scratch = np.zeros(SIGNS, np.int64)
    _, proto, at, stop = ip_header(b, at, end, end, scratch)
    if proto == UDP and end - at >= 8:
        ports = (int(u16(b, at)), int(u16(b, at + 2)))
        what, inside = udp_tunnel(b, at + 8, end, stop - at - 8, int(u32(b, at)))
        names = [TUNNEL_PORTS[port] for port in ports if port in TUNNEL_PORTS]
        return what, inside, names[0] if names else "UDP"
    if proto == GRE:
        return (*gre_layer(b, at, end), "GRE")
    return IP, at, "IP in IP"
