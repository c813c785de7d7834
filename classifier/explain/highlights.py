# SPDX-License-Identifier: BSD-3-Clause
"""Marks: the octets of a packet that are the evidence of a verdict.

MARKS has one entry per evidence: a place (a function from a packet to its marks), or Counted for
an evidence that no single octets show. A test checks that every evidence has an entry. The packet
path does not use this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from midcall.captures.jit.reads import u8, u16, u24
from midcall.captures.packets.numbers import TCP, UDP
from midcall.classifier.apps import (
    agora,
    discord,
    facetime,
    gamevoice,
    kakaotalk,
    line,
    meet,
    messenger,
    meta,
    realms,
    signal,
    skype,
    snapchat,
    teams,
    telegram,
    telephony,
    viber,
    webex,
    webrtc,
    whatsapp,
    zoom,
)
from midcall.classifier.explain.dissect import Attribute, Packet, Piece, attributes
from midcall.classifier.path.decode import ip_header
from midcall.classifier.protocols.dtls import HANDSHAKE, RECORD, USE_SRTP
from midcall.classifier.protocols.rtp import HEADER as RTP_HEADER
from midcall.classifier.protocols.stun import ICE, MICROSOFT_ATTRIBUTE, TURN, USERNAME, trait_of
from midcall.classifier.state.evidence import BASES
from midcall.classifier.state.hostnames import NAMES
from midcall.classifier.state.packet_fields import (
    NAME_DNS_ANSWER,
    NAME_DNS_QUESTION,
    SIGN_IP_AT,
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_NAME_LENGTH,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PROTO,
    SIGN_SOURCE_AT,
    SIGN_SOURCE_PORT,
    SIGN_TARGET_AT,
    SIGN_TARGET_PORT,
    SIGN_TEXT,
    SIGN_TEXT_LENGTH,
    SIGN_VERSION,
    SIGNS,
)
from midcall.classifier.statistical.inference import MODEL_CALL

REALM_ATTRIBUTE, USERNAME_ATTRIBUTE = 0x0014, 0x0006
#: The ends of realms that classifier.apps.realms knows; a test compares the two.
REALMS = (
    b"turner.facebook",
    b"telegram.org",
    b"signal.org",
    b"whispersystems.org",
    b"google.com",
    b"viber.com",
    b"discord.media",
    b"discord.gg",
    b"zoom.us",
    b"line-apps.com",
    b"line.me",
    b"imo.im",
)
TURN_METHODS = (0x003, 0x004, 0x006, 0x007, 0x008, 0x009)


class Mark(NamedTuple):
    """Decisive octets: offset, length, meaning; `secret`: they are personal data."""

    at: int
    length: int
    caption: str
    secret: bool = False


class Counted(NamedTuple):
    """An evidence that no single octets show; `what`: what was counted instead."""

    what: str


Place = Callable[[Packet], list[Mark]]


def marks(packet: Packet, key: int) -> list[Mark] | Counted:
    """Return the decisive octets of an evidence in the packet at which the verdict was given.

    key: the low 16 bits of an evidence. Marks are cut to the captured octets; [] if the packet
    holds none of them (the verdict then followed from earlier packets).
    """
    place = MARKS.get(key) or MARKS.get(key & 0xFF)
    if place is None:
        return []
    if isinstance(place, Counted):
        return place
    end = len(packet.octets)
    decisive = [mark._replace(length=min(mark.length, end - mark.at)) for mark in place(packet)]
    return sorted({mark for mark in decisive if mark.length > 0})


# ---- places


def payload(*spans: tuple[int, int, str], secret: bool = False) -> Place:
    """Return the place of fixed spans (offset, length, caption) in the innermost message."""

    def place(packet: Packet) -> list[Mark]:
        return [Mark(packet.start + at, size, caption, secret) for at, size, caption in spans]

    return place


def both(*places: Place) -> Place:
    """Return the place that has the marks of all given places."""
    return lambda packet: [mark for place in places for mark in place(packet)]


def words(*wanted: bytes, within: int = 1500) -> Place:
    """Return the place of the first of these words in the innermost message."""

    def place(packet: Packet) -> list[Mark]:
        text = packet.octets[packet.start : packet.start + within].tobytes()
        for word in wanted:
            at = text.find(word)
            if at >= 0:
                shown = word.decode().strip() if word.isascii() else word.hex(" ")
                return [Mark(packet.start + at, len(word), f'"{shown}"')]
        return []

    return place


def stun_type(packet: Packet) -> list[Mark]:
    """Mark the type of the outermost STUN message."""
    return [
        Mark(piece.at, 2, f"STUN type 0x{u16(packet.octets, piece.at):04X}")
        for piece in packet.of("stun")[:1]
    ]


def stun_cookie(packet: Packet) -> list[Mark]:
    """Mark the magic cookie of the outermost STUN message."""
    return [Mark(piece.at + 4, 4, "magic cookie, or none") for piece in packet.of("stun")[:1]]


def stun_length(packet: Packet) -> list[Mark]:
    """Mark the length of the outermost STUN message."""
    return [
        Mark(piece.at + 2, 2, f"length {u16(packet.octets, piece.at + 2)}")
        for piece in packet.of("stun")[:1]
    ]


def stun_attributes(packet: Packet) -> Iterable[tuple[Piece, Attribute]]:
    """Yield every attribute of the packet's STUN messages with its message."""
    for piece in packet.of("stun"):
        for attribute in attributes(packet.octets, piece):
            yield piece, attribute


def stun_attribute(fits: Callable[[int], bool]) -> Place:
    """Return the place of the type of the first attribute that fits."""

    def place(packet: Packet) -> list[Mark]:
        for _, (kind, at, _) in stun_attributes(packet):
            if fits(kind):
                return [Mark(at, 2, f"attribute 0x{kind:04X}")]
        return []

    return place


def with_trait(trait: int) -> Place:
    """Return the place of the first attribute that gives a message a trait."""
    return stun_attribute(lambda kind: bool(trait_of(kind) & trait))


def turn(packet: Packet) -> list[Mark]:
    """Mark TURN: a ChannelData header, else a method of TURN, else its first attribute."""
    for piece in packet.of("channel-data")[:1]:
        channel = u16(packet.octets, piece.at)
        return [Mark(piece.at, 4, f"TURN channel 0x{channel:04X} and a right length")]
    for piece in packet.of("stun"):
        kind = int(u16(packet.octets, piece.at))
        if kind & 0x3EEF in TURN_METHODS:
            return [Mark(piece.at, 2, f"TURN method, type 0x{kind:04X}")]
    return with_trait(TURN)(packet)


def ice(packet: Packet) -> list[Mark]:
    """Mark an ICE attribute, else USERNAME (RFC 8445, section 7)."""
    return with_trait(ICE)(packet) or with_trait(USERNAME)(packet)


def realm(packet: Packet) -> list[Mark]:
    """Mark the known end of a REALM attribute's value."""
    for _, (kind, at, length) in stun_attributes(packet):
        if kind == REALM_ATTRIBUTE:
            text = packet.octets[at + 4 : at + 4 + length].tobytes().lower()
            for known in REALMS:
                if text.endswith(known):
                    size = len(known)
                    return [Mark(at + 4 + length - size, size, f'realm "{known.decode()}"')]
    return []


def user_name(packet: Packet) -> list[Mark]:
    """Mark the USERNAME attribute's type and length, and the colon between its two parts."""
    for _, (kind, at, length) in stun_attributes(packet):
        if kind == USERNAME_ATTRIBUTE:
            head = Mark(at, 4, f"USERNAME of {length} characters")
            return [head, Mark(at + 40, 1, "a colon between two GUIDs")]
    return []


def rtp_type(packet: Packet) -> list[Mark]:
    """Mark version and payload type of RTP headers."""
    return [
        Mark(piece.at, 2, f"RTP version 2, payload type {u8(packet.octets, piece.at + 1) & 0x7F}")
        for piece in packet.of("rtp")[-1:]
    ]


def rtp_profile(packet: Packet) -> list[Mark]:
    """Mark the header extension's profile (RFC 3550, section 5.3.1)."""
    for piece in packet.of("rtp")[-1:]:
        first = int(u8(packet.octets, piece.at))
        at = piece.at + RTP_HEADER + 4 * (first & 15)
        if first & 0x10 and len(packet.octets) - at >= 2:
            return [Mark(at, 2, f"extension profile 0x{u16(packet.octets, at):04X}")]
    return []


def rtcp(packet: Packet) -> list[Mark]:
    """Mark version and packet type of RTCP."""
    return [
        Mark(piece.at, 2, f"RTCP packet type {u8(packet.octets, piece.at + 1)}")
        for piece in packet.of("rtcp")[-1:]
    ]


def rtp_source(packet: Packet) -> list[Mark]:
    """Mark the synchronisation source of RTP, or of RTCP where there is none."""
    for kind, at in (("rtp", 8), ("rtcp", 4)):
        for piece in packet.of(kind)[-1:]:
            return [Mark(piece.at + at, 4, "synchronisation source")]
    return []


def certificate_name(packet: Packet) -> list[Mark]:
    """Mark the known end of a name in a certificate, the first one in the payload."""
    at, end = int(packet.signs[SIGN_PAYLOAD_AT]), int(packet.signs[SIGN_PAYLOAD_END])
    text = packet.octets[at:end].tobytes().lower()
    positions = [(text.find(name.encode()), name) for name, _, _ in NAMES]
    first, name = min((position for position in positions if position[0] >= 0), default=(-1, ""))
    if first < 0:
        return []
    return [Mark(at + first, len(name), f'certificate for a name that ends in "{name}"')]


def proof_on_port(packet: Packet) -> list[Mark]:
    """Mark what proves a call where only a port names the app, or that it is STUN or DTLS."""
    proof = proof_of_webrtc(packet) or stun_type(packet)
    return proof or [Mark(piece.at, 3, "DTLS record") for piece in packet.of("dtls")[:1]]


def media(packet: Packet) -> list[Mark]:
    """Mark RTP, or RTCP where there is none."""
    return rtp_type(packet) or rtcp(packet)


def use_srtp(packet: Packet) -> list[Mark]:
    """Mark the use_srtp extension of a DTLS hello (RFC 5764, section 4.1.2)."""
    b = packet.octets
    for piece in packet.of("dtls"):
        length, size = b[piece.at + 14 : piece.at + 17], b[piece.at + 22 : piece.at + 25]
        if length.tobytes() != size.tobytes():
            return [Mark(piece.at + 19, 6, "fragment of a hello with use_srtp")]
        at = piece.at + RECORD + HANDSHAKE + 34
        hello = int(u8(b, piece.at + RECORD))
        at += 1 + int(u8(b, at))
        if hello == 1:
            at += 1 + int(u8(b, at))
            at += 2 + int(u16(b, at))
            at += 1 + int(u8(b, at))
        else:
            at += 3
        at += 2
        while piece.end - at >= 4:
            if int(u16(b, at)) == USE_SRTP:
                return [Mark(at, 2, "DTLS extension 14, use_srtp")]
            at += 4 + int(u16(b, at + 2))
    return []


def proof_of_webrtc(packet: Packet) -> list[Mark]:
    """Mark what proves WebRTC where only a port names the app: ICE, TURN or DTLS-SRTP."""
    return ice(packet) or use_srtp(packet) or turn(packet)


def microsoft_frame(packet: Packet) -> list[Mark]:
    """Mark the head of Microsoft's multiplexed TURN."""
    return [Mark(piece.at, 4, "FF10 and a length") for piece in packet.of("microsoft-frame")[:1]]


def quic_version(packet: Packet) -> list[Mark]:
    """Mark the version of a QUIC long header, or of Google's older one."""
    for piece in packet.of("quic"):
        late = not u8(packet.octets, piece.at) & 0x80
        return [Mark(piece.at + (9 if late else 1), 4, "QUIC version")]
    return []


def initial_keys(packet: Packet) -> list[Mark]:
    """Mark the connection id from which an Initial's keys are derived, with the name it holds."""
    end = known_end(host_name_of(packet))
    caption = f'makes the keys; opened: a name that ends in "{end}"' if end else "makes the keys"
    size = next((int(u8(packet.octets, piece.at + 5)) for piece in packet.of("quic")), 0)
    versions = quic_version(packet)
    return versions + [Mark(mark.at + 5, size, caption) for mark in versions if size]


def host_name_of(packet: Packet) -> str:
    """Return the host name that was read from a packet, "" for none."""
    size = int(packet.signs[SIGN_TEXT_LENGTH]) if packet.signs[SIGN_NAME_KIND] else 0
    return bytes(packet.signs[SIGN_TEXT : SIGN_TEXT + size].tolist()).decode("latin-1")


def rest_of_hello(packet: Packet) -> list[Mark]:
    """Mark a segment that continues a ClientHello, with the known name in that hello."""
    at, end = int(packet.signs[SIGN_PAYLOAD_AT]), int(packet.signs[SIGN_PAYLOAD_END])
    known = known_end(host_name_of(packet))
    caption = f', with a name that ends in "{known}"' if known else ""
    return [Mark(at, min(end - at, 16), f"goes on with a ClientHello{caption}")]


def tls_record(packet: Packet) -> list[Mark]:
    """Mark the header of a TLS record, or a segment that continues a ClientHello."""
    if packet.of("tls"):
        return payload((0, 3, "TLS record type and version"))(packet)
    return rest_of_hello(packet)


def known_end(name: str) -> str:
    """Return the longest known suffix of a host name, "" where none fits."""
    ends = [end for end, _, _ in NAMES if name == end or name.endswith(f".{end}")]
    return max(ends, key=len, default="")


def host_name(packet: Packet) -> list[Mark]:
    """Mark the known end of the packet's host name, or all of an unknown name as secret."""
    signs = packet.signs
    at, length = int(signs[SIGN_NAME_AT]), int(signs[SIGN_NAME_LENGTH])
    if not length:
        return []
    if not at:
        return rest_of_hello(packet)
    raw = packet.octets[at : at + length].tobytes()
    wire = signs[SIGN_NAME_KIND] in (NAME_DNS_QUESTION, NAME_DNS_ANSWER)
    end = "" if wire else known_end(raw.decode("latin-1").lower())
    if not end:
        return [Mark(at, length, "a host name", True)]
    return [Mark(at + length - len(end), len(end), f'name that ends in "{end}"')]


def ports(packet: Packet) -> list[Mark]:
    """Mark the ports of the innermost transport."""
    if packet.signs[SIGN_PROTO] not in (TCP, UDP):
        return []
    at = transport_at(packet)
    source_port, target_port = (
        int(packet.signs[SIGN_SOURCE_PORT]),
        int(packet.signs[SIGN_TARGET_PORT]),
    )
    return [Mark(at, 4, f"ports {source_port} and {target_port}")]


def transport_at(packet: Packet) -> int:
    """Return where the innermost transport header starts."""
    ip, end = int(packet.signs[SIGN_IP_AT]), len(packet.octets)
    return int(ip_header(packet.octets, ip, end, end, np.zeros(SIGNS, np.int64))[2])


def endpoints(packet: Packet) -> list[Mark]:
    """Mark the addresses and ports, one of which was learned from other packets."""
    size = 4 if packet.signs[SIGN_VERSION] == 4 else 16
    addresses = [
        Mark(int(packet.signs[slot]), size, f"{side} address", True)
        for side, slot in (("source", SIGN_SOURCE_AT), ("target", SIGN_TARGET_AT))
    ]
    return addresses + ports(packet)


def protocol_octet(packet: Packet) -> list[Mark]:
    """Mark the protocol number in the innermost IP header."""
    at = int(packet.signs[SIGN_IP_AT]) + (9 if packet.signs[SIGN_VERSION] == 4 else 6)
    return [Mark(at, 1, f"IP protocol {int(packet.signs[SIGN_PROTO])}")]


def sip_start(packet: Packet) -> list[Mark]:
    """Mark the method and scheme of a SIP request, or the version of a response."""
    text = packet.octets[packet.start : packet.start + 24].tobytes()
    if text.startswith(b"SIP/2.0 "):
        return [Mark(packet.start, 11, f'"{text[:11].decode("latin-1").strip()}"')]
    for scheme in (b" sip:", b" sips:", b" tel:"):
        at = text.find(scheme)
        if at > 0:
            size = at + len(scheme)
            return [Mark(packet.start, size, f'"{text[:size].decode("latin-1")}"')]
    return []


def mqtt_name(packet: Packet) -> list[Mark]:
    """Mark the protocol name of Meta's MQTT."""
    return words(b"MQTToT", within=16)(packet)


def zoom_frame(packet: Packet) -> list[Mark]:
    """Mark a Zoom frame's type, its media type and the RTP header inside."""
    at = packet.start
    if len(packet.octets) - at < 44:
        return []
    kind = int(u8(packet.octets, at + 8))
    inner = at + (27 if kind == 0x0F else 32)
    return [
        Mark(at, 1, "SFU frame 05"),
        Mark(at + 8, 1, f"media type 0x{kind:02X}"),
        Mark(inner, 2, "RTP version 2 and payload type"),
    ]


def zoom_first(packet: Packet) -> list[Mark]:
    """Mark the type of a Zoom frame."""
    return [Mark(packet.start, 1, f"frame type {u8(packet.octets, packet.start)}")]


def agora_hello(packet: Packet) -> list[Mark]:
    """Mark the tag of Agora's hello."""
    return payload((6, 1, "0x21"), (12, 4, 'tag 04 "SNI"'))(packet)


def viber_stream(packet: Packet) -> list[Mark]:
    """Mark the session word and the RTP header two octets in."""
    at = int(packet.signs[SIGN_PAYLOAD_AT])
    if packet.of("stun") or packet.of("channel-data"):
        at = packet.start
    return [Mark(at, 2, "session word"), *rtp_type(packet)]


def viber_type(packet: Packet) -> list[Mark]:
    """Mark a Viber message's type, little-endian."""
    at = packet.start + 2
    if len(packet.octets) - at < 2:
        return []
    kind = int(u8(packet.octets, at)) | int(u8(packet.octets, at + 1)) << 8
    return [Mark(at, 2, f"type 0x{kind:04X}, little-endian")]


def skype_head(packet: Packet) -> list[Mark]:
    """Mark id and function of a classic Skype message."""
    if len(packet.octets) - packet.start < 3:
        return []
    function = u24(packet.octets, packet.start) & 0xFF
    return [
        Mark(packet.start, 2, "id, the same in request and reply"),
        Mark(packet.start + 2, 1, f"function 0x{function:02X}"),
    ]


_META_ATTRIBUTE = stun_attribute(lambda kind: 0x4000 <= kind <= 0x4007)
_INTEGRITY = stun_attribute(lambda kind: kind == 0x0008)
_MICROSOFT = with_trait(MICROSOFT_ATTRIBUTE)
_DNS = payload((2, 4, "flags and number of questions"))
_TPKT = payload((0, 2, "TPKT version 3"), (4, 2, "message of call control"))

_PLACES: dict[int, Place | Counted] = {
    meta.ATTRIBUTE: _META_ATTRIBUTE,
    meta.METHOD: stun_type,
    meta.WHATSAPP_ALONE: both(stun_length, _META_ATTRIBUTE),
    meta.WHATSAPP_LONG: _META_ATTRIBUTE,
    meta.WHATSAPP_METHOD: stun_type,
    meta.WHATSAPP_ANSWER: both(stun_type, stun_length, _META_ATTRIBUTE),
    meta.WHATSAPP_REPORT: both(stun_type, _META_ATTRIBUTE),
    meta.PEER_CHECK: both(stun_type, stun_length, _INTEGRITY),
    meta.MESSENGER_SIGNED: both(stun_length, _META_ATTRIBUTE, _INTEGRITY),
    meta.MESSENGER_CHECK: stun_attribute(lambda kind: kind == 0xDABA),
    meta.MESSENGER_LENGTHS: both(stun_type, stun_length),
    meta.MESSENGER_CHALLENGE: both(stun_length, stun_attribute(lambda kind: kind == 0x0015)),
    meta.MESSENGER_STREAM: rtp_profile,
    whatsapp.PROFILE: rtp_profile,
    whatsapp.VOICE_PROFILE: both(rtp_type, rtp_profile),
    whatsapp.RELAY_PROBE: both(rtcp, payload((2, 2, "length"), (16, 4, "zeros"))),
    skype.ATTRIBUTES: _MICROSOFT,
    skype.FRAME: microsoft_frame,
    skype.VOICE: both(rtp_type, rtp_profile),
    skype.PRESENCE: skype_head,
    skype.SPREAD: payload(
        (2, 1, "its low half fixed, its high half mixed, the octets around random")
    ),
    teams.GUID: payload((0, 1, "03"), *((at + 1, 1, "dash of a GUID") for at in (8, 13, 18, 23))),
    teams.TURN_COOKIE: words(b"\x72\xc6\x4b\xc6"),
    skype.TEAMS_ATTRIBUTES: _MICROSOFT,
    viber.PAIR: viber_type,
    viber.TWO: both(payload((0, 2, "session word, as before")), viber_type),
    viber.STREAM: viber_stream,
    facetime.CHECK: stun_attribute(lambda kind: kind == 0x8007),
    facetime.ANSWER: stun_attribute(lambda kind: kind == 0x8023),
    facetime.PORT_AND_TYPE: both(ports, rtp_type),
    facetime.SIP_ON_PORT: both(ports, sip_start),
    facetime.TOGETHER: both(ports, rtp_type),
    messenger.CHAT: mqtt_name,
    realms.MESSENGER_REALM: realm,
    realms.TELEGRAM_REALM: realm,
    realms.SIGNAL_REALM: realm,
    realms.GOOGLE_REALM: realm,
    realms.VIBER_REALM: realm,
    realms.DISCORD_REALM: realm,
    realms.ZOOM_REALM: realm,
    realms.LINE_REALM: realm,
    realms.IMO_REALM: realm,
    realms.REALM_CUT_SHORT: stun_attribute(lambda kind: kind == REALM_ATTRIBUTE),
    signal.SOURCE: both(rtp_type, rtp_source),
    signal.REPORT: both(rtcp, rtp_source),
    kakaotalk.VOICE: rtp_type,
    gamevoice.TEAMSPEAK: words(b"TS3INIT1", within=8),
    telegram.TAGGED: payload((0, 16, "the tag that every packet starts with"), secret=True),
    telegram.PORT: both(ports, proof_on_port),
    telegram.STREAM: payload((0, 16, "the tag that every packet starts with"), secret=True),
    zoom.MEDIA_FRAME: zoom_frame,
    zoom.FRAMES: both(ports, zoom_first),
    zoom.GUIDS: user_name,
    zoom.PORT: both(ports, proof_on_port),
    meet.PORT: both(ports, proof_of_webrtc),
    meet.ECHO: both(stun_type, stun_attribute(lambda kind: kind == USERNAME_ATTRIBUTE)),
    meet.DUO: stun_attribute(lambda kind: kind == 0xFF03),
    meet.CERTIFICATE: words(b"hangouts"),
    webex.ON_PORT: both(ports, payload((0, 4, "hello, answer, or what follows"))),
    discord.SMALL_SOURCE: both(rtp_type, rtp_source, rtp_profile),
    line.PROFILE: rtp_profile,
    snapchat.REPORTS: rtcp,
    snapchat.STREAM: rtp_type,
    agora.HELLO: agora_hello,
    telephony.MESSAGE: sip_start,
    telephony.KEEP_ALIVE: both(ports, payload((0, 4, "CRLF CRLF"))),
    telephony.H225: _TPKT,
    telephony.H245: _TPKT,
    telephony.RAS: words(b"\x00\x08\x91\x4a\x00", within=29),
    telephony.MGCP: both(payload((0, 4, "verb or answer code")), words(b"MGCP ")),
    telephony.MEGACO: words(b"!/1 ", b"MEGACO/1 "),
    telephony.IAX2: both(ports, payload((0, 1, "full frame"), (10, 2, "type and subclass"))),
    webrtc.ICE_CHECK: ice,
    webrtc.TURN_USE: turn,
    webrtc.BARE_STUN: both(stun_type, stun_cookie),
    webrtc.DTLS_SRTP: use_srtp,
    webrtc.RTP_STREAM: rtp_type,
    webrtc.RTP_HINT: Counted("too few packets that look like RTP, and nothing better"),
    webrtc.RTCP_STREAM: rtcp,
    webrtc.RTCP_HINT: Counted("nothing but packets that look like RTCP"),
    webrtc.RELAYED_MEDIA: both(turn, rtp_type),
    webrtc.NAMED_SOCKET: endpoints,
    webrtc.NAMED_STUN: endpoints,
    webrtc.NAMED_SDP: endpoints,
    webrtc.NAMED_DNS: endpoints,
    webrtc.NAMED_TLS: host_name,
    webrtc.NAMED_CERTIFICATE: certificate_name,
    webrtc.NAMED_SOURCE: rtp_source,
    webrtc.NAMED_PAIR: endpoints,
    webrtc.NAMED_FRAGMENT: with_trait(USERNAME),
    webrtc.NAMED_CUT: endpoints,
    webrtc.ANNOUNCED: both(endpoints, rtp_type),
    webrtc.SAME_HOST: both(endpoints, rtp_type),
    webrtc.MEDIA_OF_CALL: media,
    MODEL_CALL: Counted("sizes, gaps and directions of the first payloads, by the early model"),
    webrtc.NOTHING_FOUND: Counted("payloads without any sign of a call"),
    webrtc.RTCP_COMPOUND: rtcp,
    webrtc.BROADCAST: both(endpoints, rtp_type),
    webrtc.STREAMED: endpoints,
    webrtc.IS_DNS: both(ports, _DNS),
    webrtc.NAMED_QUIC: initial_keys,
    webrtc.OPEN_QUIC: initial_keys,
    webrtc.IS_TLS: tls_record,
    webrtc.IS_QUIC: quic_version,
    webrtc.NO_PAYLOAD: Counted("packets without payload"),
    webrtc.NOT_INSPECTED: protocol_octet,
    webrtc.OVERLOAD: Counted("undecided flows, too many at once"),
}

#: The place of each evidence by its low 16 bits.
MARKS: dict[int, Place | Counted] = {
    **{key: payload(*basis.shows) for key, basis in BASES.items() if basis.shows},
    **{packed & 0xFFFF: place for packed, place in _PLACES.items()},
}
