# SPDX-License-Identifier: BSD-3-Clause
"""Fingerprints, an app at a time: what shows it, what merely looks like it, and the reason given.

Every case is a literal: packets, and the line a person reads of the last flow they make.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from struct import pack

import numpy as np
import pytest

from midcall.captures.fetch.fetch import obtain
from midcall.captures.packets.pcap import read
from midcall.captures.truth.catalogue import load
from midcall.captures.truth.labels import labels
from midcall.captures.wire import dtls, stun, tls
from midcall.captures.wire.seeded import SeededRandom
from midcall.classifier import apps
from midcall.classifier.state.verdicts import APPS, FAMILIES, FIVE, ROLES, VERDICTS, WHATSAPP
from tests.classifier.payloads import (
    GUIDS,
    HAND_MADE,
    ICE_USER,
    agora_hello,
    binding,
    certified,
    classic_binding,
    discovery,
    echoed,
    exchange,
    ice_check,
    indication,
    line_frame,
    mapped,
    messenger_allocate,
    microsoft_frame,
    old_line_frame,
    peer_check,
    realm,
    reflected,
    report,
    rtcp,
    sccp,
    teams_guid,
    telegram_ping,
    viber,
    wechat,
    whatsapp_allocate,
    zoom_counted,
    zoom_frame,
    zoom_keep_alive,
    zoom_peer,
    zoom_peer_hello,
    zoom_probe,
)
from tests.classifier.wire import (
    MOST,
    NEAR,
    SAMPLES,
    Wire,
    classify,
    noise,
    rtp,
    sample,
    verdict_of,
)

DICE = SeededRandom("midcall", "apps")
TAG = bytes(range(0x10, 0x20))
SILENCE = b"\xff" * 160
#: A TURN request whose realm stands at octet 52.
CUT_REALM = binding(
    (0x0019, bytes(4)),
    (stun.USERNAME, bytes(16)),
    (stun.REALM, b"turner.facebook"),
    kind=stun.ALLOCATE,
)

Play = Callable[[], Wire]


def udp(*payloads: bytes, ports: tuple[int, int] = (40000, 7000)) -> Play:
    """Return datagrams upwards."""

    def play() -> Wire:
        passing = Wire()
        for payload in payloads:
            passing.udp(payload, ports=ports)
        return passing

    return play


def both(*payloads: bytes, ports: tuple[int, int] = (40000, 7000)) -> Play:
    """Return datagrams up and down in turn."""

    def play() -> Wire:
        passing = Wire()
        for number, payload in enumerate(payloads):
            passing.udp(payload, number % 2 == 0, ports)
        return passing

    return play


def tcp(*payloads: bytes, port: int = 443) -> Play:
    """Return segments upwards."""

    def play() -> Wire:
        passing = Wire()
        for payload in payloads:
            passing.tcp(payload, ports=(40000, port))
        return passing

    return play


def stream(
    kind: int, step: int, count: int = 8, ports: tuple[int, int] = (40000, 7000), **how: object
) -> Play:
    """Return an RTP stream, a packet every 20 ms, its stamps rising by step."""
    packets = [rtp(kind, i, i * step, **how) for i in range(count)]
    return udp(*packets, ports=ports)


def slow(kind: int, step: int, gap: int) -> Play:
    """Return an RTP stream, a packet every `gap` ms, its stamps rising by step."""

    def play() -> Wire:
        passing = Wire(step=gap)
        for i in range(8):
            passing.udp(rtp(kind, i, i * step))
        return passing

    return play


def opened_stream(kind: int, step: int, ports: tuple[int, int]) -> Play:
    """Return an RTP stream behind FaceTime's opening and its answer."""

    def play() -> Wire:
        passing = Wire()
        passing.udp(bytes.fromhex("00010002") + noise(12), ports=ports)
        passing.udp(bytes.fromhex("00010001") + noise(12), False, ports)
        for i in range(8):
            passing.udp(rtp(kind, i, i * step), ports=ports)
        return passing

    return play


def tls_name(name: str) -> Play:
    """Return a TLS ClientHello that asks for a name."""
    return tcp(tls.client_hello(DICE, name))


def framed(*payloads: bytes) -> bytes:
    """Return payloads behind the length words of RFC 4571."""
    return b"".join(len(one).to_bytes(2, "big") + one for one in payloads)


def skype_request(ident: bytes = b"\x12\x34") -> bytes:
    """Return classic Skype's request."""
    return ident + b"\x02" + noise(20, 1)


def skype_data(number: int) -> bytes:
    """Return classic Skype's data packet."""
    return number.to_bytes(2, "big") + b"\x4d" + noise(70, number)


def spread(number: int) -> bytes:
    """Return a data packet of a classic call: an id, three random bits and 0D, random octets."""
    octets = noise(70, 5000 + number)
    return octets[:2] + bytes([octets[2] & 0xE0 | 0x0D]) + octets[3:]


def tagged(number: int) -> bytes:
    """Return media behind a reflector's tag."""
    return TAG + noise(64, number)


def announced(kind: int, *first: bytes) -> Wire:
    """Return a call of SIP, then media of a type between its hosts, on ports that SIP did not say.

    first: payloads that precede the media.
    """
    passing = Wire().udp(HAND_MADE["sip invite"], ports=(5060, 5060))
    for payload in first:
        passing.udp(payload, ports=(41000, 41002))
    for i in range(6):
        passing.udp(rtp(kind, i, i * 160), ports=(41000, 41002))
    return passing


def streamed(kind: int, here: int, there: int) -> Wire:
    """Return RTSP that sets a stream up on ports 41000 and 41002, then RTP between two ports."""
    passing = Wire().tcp(HAND_MADE["rtsp setup"], ports=(40000, 554))
    passing.tcp(HAND_MADE["rtsp answer"], up=False, ports=(40000, 554))
    for i in range(6):
        passing.udp(rtp(kind, i, i * 160), up=False, ports=(here, there))
    return passing


def reported(source: int) -> Wire:
    """Return KakaoTalk's voice, then reports of a source on other ports."""
    passing = Wire(step=60)
    for i in range(8):
        passing.udp(rtp(108, i, i * 960))
    for _ in range(4):
        passing.udp(rtcp(ssrc=source), ports=(40001, 7001))
    return passing


def refused(nonce: int) -> bytes:
    """Return a TURN server's refusal with a nonce of that many octets."""
    code = (stun.ERROR_CODE, b"\0\0\4\1unauthorized")
    return binding(code, (0x0015, bytes(nonce)), kind=stun.ALLOCATE | stun.ERROR)


def cut(*payloads: bytes, at: int = 54) -> Wire:
    """Return datagrams of which the capture kept the first octets only."""
    passing = Wire()
    for payload in payloads:
        passing.udp(payload)
    passing.frames = [frame[: 42 + at] for frame in passing.frames]
    return passing


def challenge(nonce: int, name: int) -> bytes:
    """Return a TURN server's refusal with a nonce and a realm of so many octets."""
    code = (stun.ERROR_CODE, b"\0\0\4\1unauthorized")
    parts = (code, (0x0015, noise(nonce)), (stun.REALM, b"r" * name))
    return binding(*parts, kind=stun.ALLOCATE | stun.ERROR)


def answered(user: int, name: int, nonce: int) -> bytes:
    """Return the Allocate that answers a challenge, with a user name of so many octets."""
    parts = ((0x0019, b"\x11\0\0\0"), (0x0006, noise(user)), (stun.REALM, b"r" * name))
    return binding(*parts, (0x0015, noise(nonce)), kind=stun.ALLOCATE, key=b"k")


Expected = tuple[str, str, str, str]

WHATSAPP_CASES: dict[str, tuple[Play, Expected]] = {
    "an Allocate with 4000 first": (
        udp(whatsapp_allocate()),
        (
            "certain",
            "whatsapp",
            "setup",
            "STUN attribute 0x4000 of 102 octets and nothing else, packet 1",
        ),
    ),
    "the relay's answer alone": (
        udp(HAND_MADE["whatsapp relay's answer"]),
        (
            "certain",
            "whatsapp",
            "setup",
            "STUN answer of 44 octets with 0x4002, not signed, packet 1",
        ),
    ),
    "a report of its own": (
        udp(HAND_MADE["whatsapp type"]),
        (
            "certain",
            "whatsapp",
            "setup",
            "STUN type 0x0801 or 0x0802 with attribute 0x4003, packet 1",
        ),
    ),
    "the check between peers": (
        udp(peer_check()),
        (
            "certain",
            "whatsapp",
            "setup",
            "STUN Binding of 44 octets with MESSAGE-INTEGRITY alone, packet 1",
        ),
    ),
    "a check with a user name is ICE's": (
        udp(binding(ICE_USER, key=b"k")),
        ("certain", "rtc", "setup", "ICE connectivity check, packet 1"),
    ),
    "a check with a fingerprint is not WhatsApp's": (
        udp(binding(key=b"k", fingerprint=True)),
        ("unsure", "rtc", "setup", "STUN Binding that names nobody, packet 1"),
    ),
    "the profile DEBE, mid-flow": (
        stream(103, 3000, profile=0xDEBE),
        ("certain", "whatsapp", "media", "RTP header extension profile 0xDEBE, packet 1"),
    ),
    "voice of a video call": (
        stream(120, 320, profile=0x746F),
        (
            "certain",
            "whatsapp",
            "media",
            "RTP payload type 120 with header extension profile 0x746F, packet 2",
        ),
    ),
    "wide-band voice in short frames is somebody's": (
        stream(120, 320),
        ("certain", "rtc", "media", "RTP stream, payload type 120, packet 4"),
    ),
    "voice at another clock is somebody's": (
        stream(120, 960),
        ("certain", "rtc", "media", "RTP stream, payload type 120, packet 4"),
    ),
    "another type at this clock is somebody's": (
        stream(121, 320),
        ("certain", "rtc", "media", "RTP stream, payload type 121, packet 4"),
    ),
    "chat of 2015": (
        tcp(HAND_MADE["whatsapp chat"], port=5222),
        ("not-call", "whatsapp", "messaging", 'chat stream that starts with "WA"'),
    ),
    "chat of later years": (
        tcp(b"ED\0\1" + noise(40)),
        ("not-call", "whatsapp", "messaging", 'chat stream that starts with "ED"'),
    ),
    "the same letters later in a stream": (
        tcp(noise(30), *[HAND_MADE["whatsapp chat"]] * 6),
        ("not-call", "none", "other", "no sign of a call in 6 payloads"),
    ),
    "its names over TLS are chat": (
        tls_name("g.whatsapp.net"),
        ("not-call", "whatsapp", "messaging", "TLS server name of this app"),
    ),
}

META_CASES: dict[str, tuple[Play, Expected]] = {
    "a signed Allocate with 4000 is Messenger's": (
        udp(messenger_allocate()),
        (
            "certain",
            "messenger",
            "setup",
            "STUN attribute 0x4000 of 102 octets, then MESSAGE-INTEGRITY, packet 1",
        ),
    ),
    "a signed answer with 4002 is either's": (
        udp(binding(mapped(), (0x4002, bytes(8)), kind=0x0103, key=b"k")),
        ("certain", "meta", "setup", "STUN attribute of 0x4000-0x4007, packet 1"),
    ),
    "a keep-alive without attributes is either's": (
        udp(binding(kind=0x0801)),
        ("certain", "meta", "setup", "STUN type 0x0801, packet 1"),
    ),
    "either's, then Messenger's header extension": (
        udp(binding(kind=0x0802), *[rtp(96, i, i * 160, profile=0xBEDE) for i in range(3)]),
        ("certain", "messenger", "media", ""),
    ),
    "either's, then WhatsApp's header extension": (
        udp(binding(kind=0x0802), *[rtp(103, i, i * 160, profile=0xDEBE) for i in range(3)]),
        ("certain", "whatsapp", "media", ""),
    ),
    "a check with DABA": (
        udp(binding(ICE_USER, (0xDABA, bytes(4)), key=b"k", fingerprint=True)),
        ("certain", "messenger", "setup", "ICE check with attribute 0xDABA, packet 1"),
    ),
    "the relay's challenge and answer, cut before the realm": (
        lambda: cut(challenge(40, 15), answered(16, 15, 40), at=28),
        (
            "certain",
            "messenger",
            "setup",
            "TURN challenge of 104 octets and its answer of 136, packet 2",
        ),
    ),
    "another relay's challenge and answer, cut": (
        lambda: cut(challenge(16, 10), answered(16, 10, 16), at=28),
        ("certain", "rtc", "setup", "TURN, packet 1"),
    ),
}

SKYPE_CASES: dict[str, tuple[Play, Expected]] = {
    "Microsoft's attributes": (
        udp(HAND_MADE["microsoft attributes"]),
        (
            "certain",
            "microsoft",
            "setup",
            "STUN with Microsoft attributes, packet 1",
        ),
    ),
    "a frame of multiplexed TURN around nothing known": (
        udp(microsoft_frame(noise(40))),
        (
            "unsure",
            "microsoft",
            "setup",
            "Microsoft multiplexed TURN, FF10, packet 1",
        ),
    ),
    "the family's voice, mid-flow": (
        stream(104, 320, profile=0xBEDE, count=4),
        (
            "unsure",
            "microsoft",
            "media",
            "RTP payload type 104 at 16 kHz, 0xBEDE, packet 4",
        ),
    ),
    "its type without extension is somebody's": (
        stream(104, 320),
        ("certain", "rtc", "media", "RTP stream, payload type 104, packet 4"),
    ),
    "classic request and reply": (
        both(skype_request(), HAND_MADE["skype reply"]),
        (
            "not-call",
            "skype",
            "messaging",
            "classic Skype request and reply of one id: presence",
        ),
    ),
    "a reply to another id": (
        both(skype_request(b"\x99\x99"), HAND_MADE["skype reply"]),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "a reply from the side that asked": (
        udp(skype_request(), HAND_MADE["skype reply"]),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "a peer that then carries a stream": (
        both(skype_request(), HAND_MADE["skype reply"], *map(skype_data, range(70))),
        (
            "certain",
            "skype",
            "media",
            "classic Skype peer that then carries a steady data stream, packet 62",
        ),
    ),
    "data whose groups are spread as a call's, without a handshake": (
        both(*[spread(i) for i in range(130)]),
        (
            "certain",
            "skype",
            "media",
            "classic Skype's data: chi-square of 4-bit groups, 100 packets, packet 111",
        ),
    ),
    "data whose third octet never changes": (
        both(*[noise(2, i) + b"\x4d" + noise(70, 1000 + i) for i in range(130)]),
        ("not-call", "none", "other", ""),
    ),
    "data that counts": (
        both(*[i.to_bytes(2, "big") + spread(i)[2:] for i in range(130)]),
        ("not-call", "none", "other", ""),
    ),
    "data behind a constant": (
        both(*[spread(i)[:3] + b"\7" + spread(i)[4:] for i in range(130)]),
        ("not-call", "none", "other", ""),
    ),
    "data without a handshake": (
        both(*map(skype_data, range(70))),
        ("not-call", "none", "other", "no sign of a call in 70 payloads"),
    ),
    "its names over TLS": (
        tls_name("api.skype.com"),
        ("not-call", "skype", "messaging", "TLS server name of this app"),
    ),
}

TEAMS_CASES: dict[str, tuple[Play, Expected]] = {
    "an acknowledgement with a GUID": (
        udp(teams_guid(), ports=(40000, 3478)),
        (
            "certain",
            "teams",
            "setup",
            "Teams signalling: 03 and a GUID in characters, packet 1",
        ),
    ),
    "a GUID in capitals": (
        udp(teams_guid().upper()),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "a longer datagram": (
        udp(teams_guid() + b"0"),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "names of its relays over TLS": (
        tls_name("euaz.tr.teams.microsoft.com"),
        ("certain", "teams", "setup", "TLS server name of this app, packet 1"),
    ),
    "names of its chat over TLS": (
        tls_name("teams.microsoft.com"),
        ("not-call", "teams", "messaging", "TLS server name of this app"),
    ),
    "the family's attributes of a client that asked for Teams' names": (
        lambda: tls_name("teams.microsoft.com")().udp(HAND_MADE["microsoft attributes"]),
        (
            "certain",
            "teams",
            "setup",
            "STUN with Microsoft attributes, Teams names of the same client, packet 1",
        ),
    ),
}

VIBER_CASES: dict[str, tuple[Play, Expected]] = {
    "a hello": (
        udp(viber(1, 24)),
        (
            "certain",
            "viber",
            "setup",
            "Viber hello (01 00 05 00) behind a session word, packet 1",
        ),
    ),
    "a message of its own length": (
        udp(viber(0x19, 34)),
        ("certain", "viber", "setup", "Viber message type 0x0019 of its own length, packet 1"),
    ),
    "two weaker ones of a session": (
        udp(viber(0x03, 12), viber(0x04, 16)),
        ("certain", "viber", "setup", "two Viber messages of one session word, packet 2"),
    ),
    "two weaker ones of two sessions": (
        udp(viber(0x03, 12), viber(0x04, 16, word=b"\x77\xf7")),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "a ping of any length, on which a peer's rule fires": (
        udp(*[viber(0x03, 40 + i) for i in range(12)]),
        ("not-call", "none", "other", "no sign of a call in 12 payloads"),
    ),
    "a message without the control bit": (
        udp(viber(0x19, 34, word=b"\x21\x43")),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "RTP behind a session word": (
        udp(*[b"\x21\x43" + rtp(107, i, i * 960) for i in range(6)]),
        ("certain", "viber", "media", "RTP behind a two-octet session word, packet 4"),
    ),
    "chat on its port": (
        tcp(HAND_MADE["viber chat"], port=5242),
        ("not-call", "viber", "messaging", "Viber chat stream: length word 40"),
    ),
    "the same octets on another port": (
        tcp(*[HAND_MADE["viber chat"]] * 6, port=8080),
        ("not-call", "none", "other", "no sign of a call in 6 payloads"),
    ),
}

FACETIME_CASES: dict[str, tuple[Play, Expected]] = {
    "an exchange of its types": (
        udp(exchange(0x0FE0)),
        (
            "certain",
            "facetime",
            "setup",
            "FaceTime message type 0x0FE0 with a right length (published), packet 1",
        ),
    ),
    "its type with a false length": (
        udp(exchange(0x0FE0) + bytes(3)),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "dead beef": (
        udp(HAND_MADE["facetime beef"]),
        (
            "certain",
            "facetime",
            "setup",
            "starts DEADBEEF CAFE or DEAD (published), packet 1",
        ),
    ),
    "other beef": (
        udp(bytes.fromhex("deadbeef0000") + noise(20)),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "four frames of 60": (
        udp(*[HAND_MADE["facetime frame"]] * 4),
        ("certain", "facetime", "media", "frames 0x60, type, length (published), packet 4"),
    ),
    "three frames of 60": (
        udp(*[HAND_MADE["facetime frame"]] * 3),
        ("not-call", "none", "other", "no sign of a call in 3 payloads"),
    ),
    "an opening and its answer": (
        both(bytes.fromhex("00010002") + noise(12), bytes.fromhex("00010001") + noise(12)),
        (
            "unsure",
            "facetime",
            "setup",
            "16-octet opening and its answer, both ways (published), packet 2",
        ),
    ),
    "an answer from the side that opened": (
        udp(bytes.fromhex("00010002") + noise(12), bytes.fromhex("00010001") + noise(12)),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "type 104 on its port alone is somebody's": (
        stream(104, 320, ports=(16402, 16402)),
        ("certain", "rtc", "media", "RTP stream, payload type 104, packet 5"),
    ),
    "an opening, its answer, and type 104 on its port": (
        opened_stream(104, 320, (16402, 16402)),
        (
            "certain",
            "facetime",
            "media",
            "FaceTime's opening, then RTP type 104 on its port 16402 (published), packet 6",
        ),
    ),
    "SIP on both its ports": (
        udp(HAND_MADE["sip invite"], ports=(16402, 16402)),
        (
            "certain",
            "facetime",
            "setup",
            "SIP on FaceTime's port 16402 (published), packet 1",
        ),
    ),
    "SIP elsewhere is SIP": (
        udp(HAND_MADE["sip invite"], ports=(5060, 16402)),
        ("certain", "sip", "setup", "SIP message, packet 1"),
    ),
    "Apple's TLS": (
        tls_name("www.apple.com"),
        ("not-call", "none", "other", "TLS, no name of an app with calls"),
    ),
    "its identity service": (
        tls_name("identity.ess.apple.com"),
        ("not-call", "facetime", "messaging", "TLS server name of this app"),
    ),
}

MESSENGER_CASES: dict[str, tuple[Play, Expected]] = {
    "its realm": (
        udp(realm(b"turner.facebook"), ports=(40000, 3478)),
        ("certain", "messenger", "setup", 'TURN realm "turner.facebook", packet 1'),
    ),
    "its realm over TCP, framed": (
        tcp(framed(realm(b"turner.facebook"))),
        ("certain", "messenger", "setup", 'TURN realm "turner.facebook", packet 1'),
    ),
    "its relay carries media": (
        udp(
            realm(b"turner.facebook"),
            *[stun.channel_data(0x4001, rtp(96, i, i * 960)) for i in range(4)],
        ),
        ("certain", "messenger", "media", 'TURN realm "turner.facebook", packet 1'),
    ),
    "its realm, cut by the snaplen, behind a nonce of 40": (
        lambda: cut(refused(40), CUT_REALM),
        (
            "certain",
            "messenger",
            "setup",
            'TURN realm of 15 octets cut behind "tu...", and a nonce of 40 octets, as '
            "turner.facebook, packet 2",
        ),
    ),
    "a realm of the same length, cut, behind another nonce": (
        lambda: cut(refused(24), CUT_REALM),
        ("certain", "rtc", "setup", "TURN, packet 1"),
    ),
    "libwebrtc's C057 names nobody": (
        udp(binding(ICE_USER, (stun.NETWORK_COST, bytes(4)), key=b"k")),
        ("certain", "rtc", "setup", "ICE connectivity check, packet 1"),
    ),
    "chat": (
        tcp(HAND_MADE["messenger chat"]),
        ("not-call", "messenger", "messaging", "MQTToT connect of Meta's apps"),
    ),
    "MQTT of anybody": (
        tcp(*[b"\x10\x20\x00\x04MQTT\x04\x02" + noise(20)] * 6, port=1883),
        ("not-call", "none", "other", "no sign of a call in 6 payloads"),
    ),
}

REALM_CASES: dict[str, tuple[Play, Expected]] = {
    name: (udp(realm(name.encode())), ("certain", app, "setup", f"{evidence}, packet 1"))
    for name, app, evidence in (
        ("telegram.org", "telegram", 'TURN realm "telegram.org"'),
        ("signal.org", "signal", 'TURN realm "signal.org"'),
        ("turn3.voip.signal.org", "signal", 'TURN realm "signal.org"'),
        ("viber.com", "viber", 'TURN realm "viber.com"'),
        ("discord.media", "discord", "TURN realm of Discord"),
        ("zoom.us", "zoom", "TURN realm of Zoom"),
        ("line-apps.com", "line", "TURN realm of LINE"),
        ("imo.im", "imo", "TURN realm of imo"),
        ("example.org", "rtc", "TURN"),
        ("signal.org.example", "rtc", "TURN"),
    )
}

DISCORD_CASES: dict[str, tuple[Play, Expected]] = {
    "discovery": (
        udp(discovery()),
        ("certain", "discord", "setup", "Discord IP discovery of 74 octets, packet 1"),
    ),
    "discovery of another length": (
        udp(discovery() + bytes(2)),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "a ping": (
        udp(HAND_MADE["discord ping"]),
        ("certain", "discord", "setup", "Discord ping 13 37 CA FE, packet 1"),
    ),
    "voice after discovery": (
        udp(discovery(), *[rtp(120, i, i * 960, profile=0xBEDE) for i in range(6)]),
        ("certain", "discord", "media", "Discord IP discovery of 74 octets, packet 1"),
    ),
    "voice of a source that a server counted, mid-flow": (
        udp(*[rtp(120, i, i * 960, 0x24B18, profile=0xBEDE) for i in range(2)]),
        (
            "certain",
            "discord",
            "media",
            "RTP payload type 120 in frames of 20 ms, 0xBEDE, small source, packet 2",
        ),
    ),
    "video of type 120 and a small source": (
        udp(*[rtp(120, i, i * 3003, 0x24B18, profile=0xBEDE) for i in range(3)]),
        ("unsure", "rtc", "media", ""),
    ),
}

TELEGRAM_CASES: dict[str, tuple[Play, Expected]] = {
    "a ping": (
        udp(telegram_ping(), ports=(40000, 533)),
        (
            "certain",
            "telegram",
            "setup",
            "reflector ping: twelve FF behind a 16-octet tag, packet 1",
        ),
    ),
    "one tag both ways": (
        both(*map(tagged, range(10))),
        (
            "certain",
            "telegram",
            "setup",
            "one 16-octet tag starts every packet, both ways, packet 8",
        ),
    ),
    "one tag both ways, text": (
        both(*[b'{"jsonrpc":"2.0"' + noise(64, 100 + i) for i in range(30)]),
        ("not-call", "none", "other", "no sign of a call in 30 payloads"),
    ),
    "one tag both ways, which is IKE's cookies": (
        both(
            *[
                noise(16, 3) + b"\x2e\x20\x23\x08" + pack(">II", i, 92) + noise(64, 100 + i)
                for i in range(30)
            ]
        ),
        ("not-call", "none", "other", "no sign of a call in 30 payloads"),
    ),
    "one tag both ways, then a plain header": (
        both(*[noise(16, 3) + pack(">IIQ", 2, 64, i) + noise(64, 100 + i) for i in range(30)]),
        ("not-call", "none", "other", "no sign of a call in 30 payloads"),
    ),
    "a steady stream behind the tag": (
        both(telegram_ping(), *map(tagged, range(30))),
        (
            "certain",
            "telegram",
            "media",
            "reflector ping: twelve FF behind a 16-octet tag, packet 1",
        ),
    ),
    "a check behind tgcalls' header": (
        udp(reflected(ice_check()), ports=(40000, 599)),
        (
            "certain",
            "telegram",
            "setup",
            "reflector's frame: tag, size, and a STUN or DTLS message, packet 1",
        ),
    ),
    "media behind tgcalls' header": (
        udp(*[reflected(rtp(111, i, i * 960)) for i in range(2)]),
        (
            "certain",
            "telegram",
            "media",
            "reflector's frames of one tag, with RTP inside, packet 2",
        ),
    ),
    "media behind headers of two tags": (
        udp(*[reflected(rtp(111, i, i * 960), 3 + i) for i in range(2)]),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "a check behind a header of another size": (
        udp(reflected(ice_check()) + bytes(4)),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "TURN with Telegram's port": (
        udp(realm(b"example.org"), ports=(40000, 1400)),
        ("certain", "telegram", "setup", "STUN or TURN with Telegram's port 1400, packet 1"),
    ),
    "a bare Binding with it": (
        udp(binding(), ports=(40000, 1400)),
        ("unsure", "rtc", "setup", "STUN Binding that names nobody, packet 1"),
    ),
    "one tag one way only": (
        udp(*map(tagged, range(30))),
        ("not-call", "none", "other", "no sign of a call in 30 payloads"),
    ),
    "silence of G.711 is no ping": (
        udp(*[rtp(0, i, i * 160, filler=SILENCE) for i in range(6)]),
        ("certain", "rtc", "media", "RTP stream, payload type 0, packet 4"),
    ),
    "octets of FF alone": (
        udp(*[b"\xff" * 64] * 12),
        ("not-call", "none", "other", "no sign of a call in 12 payloads"),
    ),
}

ZOOM_CASES: dict[str, tuple[Play, Expected]] = {
    "its NAT probe": (
        udp(zoom_probe()[0], ports=(40000, 3478)),
        ("certain", "zoom", "setup", "Zoom NAT probe: attribute 0101 of digits or 0103, packet 1"),
    ),
    "a probe without digits": (
        udp(zoom_probe()[0][:24] + b"abcd" * 5, ports=(40000, 3478)),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "its probe's answer": (
        udp(zoom_probe()[1]),
        ("certain", "zoom", "setup", "Zoom NAT probe: attribute 0101 of digits or 0103, packet 1"),
    ),
    "a hello": (
        udp(HAND_MADE["zoom hello"], ports=(40000, 8801)),
        ("certain", "zoom", "setup", "Zoom hello 01 00 02, or its answer 02 00 01, packet 1"),
    ),
    "a hello on another port": (
        udp(HAND_MADE["zoom hello"], ports=(40000, 9801)),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "two frames of audio": (
        udp(*[zoom_frame(0x0F, sequence=i) for i in range(2)], ports=(40000, 9801)),
        ("certain", "zoom", "media", "RTP inside a Zoom frame, packet 2"),
    ),
    "one frame of audio": (
        udp(zoom_frame(0x0F), ports=(40000, 9801)),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "frames of peers": (
        udp(*[b"\x1f\x02\x01" + noise(60, i) for i in range(3)]),
        ("certain", "zoom", "setup", "Zoom peer-to-peer frames 1F 02 01, packet 3"),
    ),
    "audio between peers": (
        udp(*[zoom_peer(0x0F, i) for i in range(3)]),
        ("certain", "zoom", "media", "RTP inside Zoom's peer-to-peer frames, packet 3"),
    ),
    "a hello and its answer, on any port": (
        both(hello := b"\1\0\3" + noise(100, 5), b"\2\0\3" + hello[3:11] + noise(30, 6)),
        ("certain", "zoom", "setup", "Zoom hello 01 00 02, or its answer 02 00 01, packet 2"),
    ),
    "a hello and an answer to another": (
        both(b"\1\0\3" + noise(100, 5), b"\2\0\3" + noise(38, 6)),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "frames that count up, on any port": (
        udp(*[zoom_counted(i) for i in range(8)]),
        (
            "certain",
            "zoom",
            "setup",
            "Zoom frames 05 that count up in one session, on any port, packet 7",
        ),
    ),
    "frames that count up in sessions of their own": (
        udp(*[zoom_counted(i, 0x4F8378 + i) for i in range(12)]),
        ("not-call", "none", "other", ""),
    ),
    "a peer's hello": (
        udp(zoom_peer_hello()),
        (
            "certain",
            "zoom",
            "setup",
            "Zoom peer's hello: 1F 02 01, address and identifier fill it, packet 1",
        ),
    ),
    "a peer's hello of another length": (
        udp(zoom_peer_hello() + b"x"),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "the same octets of three sources": (
        udp(*[zoom_peer(0x0F, i, 0x1000 + i) for i in range(3)]),
        ("not-call", "none", "other", "no sign of a call in 3 payloads"),
    ),
    "DTLS of a client whose port is like one of its": (
        udp(*[dtls.record(23, i, noise(200, i), epoch=1) for i in range(4)], ports=(8801, 443)),
        ("not-call", "none", "other", "no sign of a call in 4 payloads"),
    ),
    "DTLS with its port, mid-flow": (
        both(*[dtls.record(23, i, noise(200, i), epoch=1) for i in range(4)], ports=(40000, 8801)),
        ("certain", "zoom", "setup", "ICE, TURN or DTLS with Zoom's port 8801, packet 1"),
    ),
    "its name in a certificate of DTLS": (
        udp(certified(b"*.cloud.zoom.us")),
        ("certain", "zoom", "setup", "certificate for a name of this app, packet 1"),
    ),
    "the web client's user name, cut by the snaplen": (
        lambda: cut(binding((stun.USERNAME, GUIDS), key=b"k")),
        ("certain", "zoom", "setup", "ICE user name of two GUIDs in capitals, packet 1"),
    ),
    "a keep-alive and its echo": (
        both(zoom_keep_alive(3, 1, 777), zoom_keep_alive(4, 1, 777)),
        ("certain", "zoom", "setup", "Zoom keep-alive 03, its echo 04 or the next 03, packet 2"),
    ),
    "a keep-alive and an echo of another's": (
        both(zoom_keep_alive(3, 1, 777), zoom_keep_alive(4, 1, 778)),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "the web client's user name": (
        udp(binding((stun.USERNAME, GUIDS), key=b"k")),
        ("certain", "zoom", "setup", "ICE user name of two GUIDs in capitals, packet 1"),
    ),
    "a user name of two GUIDs in small letters": (
        udp(binding((stun.USERNAME, GUIDS.lower()), key=b"k")),
        ("certain", "rtc", "setup", "ICE connectivity check, packet 1"),
    ),
}

LINE_CASES: dict[str, tuple[Play, Expected]] = {
    "two frames that count up": (
        udp(line_frame(5), line_frame(6, 60)),
        (
            "certain",
            "line",
            "setup",
            "two frames 0xD0 with their own length and a count, packet 2",
        ),
    ),
    "two datagrams of older frames": (
        udp(HAND_MADE["old line frames"], old_line_frame(0x09)),
        (
            "certain",
            "line",
            "setup",
            "two datagrams filled by frames B6, type, length (published), packet 2",
        ),
    ),
    "older frames that do not fill their datagrams": (
        udp(*[old_line_frame(0x09) + bytes(5)] * 3),
        ("not-call", "none", "other", "no sign of a call in 3 payloads"),
    ),
    "frames that do not count": (
        udp(*[line_frame(5)] * 12),
        ("not-call", "none", "other", ""),
    ),
    "a frame of another length": (
        udp(line_frame(5) + b"x", line_frame(6) + b"x"),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "its profile": (
        stream(98, 960, profile=0x0240),
        ("certain", "line", "media", "RTP header extension profile 0x0240, packet 2"),
    ),
}

MEET_CASES: dict[str, tuple[Play, Expected]] = {
    "ICE with its port": (
        udp(ice_check(), ports=(40000, 19305)),
        ("certain", "meet", "setup", "WebRTC with Google's media port 19305, packet 1"),
    ),
    "DTLS-SRTP with its port": (
        udp(dtls.client_hello(DICE), ports=(40000, 19305)),
        ("certain", "meet", "setup", "WebRTC with Google's media port 19305, packet 1"),
    ),
    "an answer that repeats the user name": (
        udp(echoed()),
        (
            "certain",
            "meet",
            "setup",
            "answer to an ICE check that repeats its user name, 16 characters, packet 1",
        ),
    ),
    "an answer that repeats a short user name": (
        udp(echoed(b"abcd:wxyz")),
        ("certain", "rtc", "setup", "ICE connectivity check, packet 1"),
    ),
    "Duo's attribute": (
        udp(binding(ICE_USER, (0xFF03, bytes(4)), key=b"k")),
        ("certain", "meet", "setup", "STUN attribute 0xFF03 (published), packet 1"),
    ),
    "its servers' certificate": (
        udp(ice_check(), certified(b"hangouts")),
        ("certain", "meet", "setup", 'DTLS certificate for "hangouts", packet 2'),
    ),
    "a browser's certificate": (
        udp(ice_check(), certified(b"WebRTC")),
        ("certain", "rtc", "setup", "ICE connectivity check, packet 1"),
    ),
    "a Binding for anyone at its port": (
        udp(binding(), ports=(40000, 19302)),
        ("unsure", "rtc", "setup", "STUN Binding that names nobody, packet 1"),
    ),
    "its realm": (
        udp(realm(b"google.com")),
        ("unsure", "meet", "setup", 'TURN realm of Google ("google.com"), packet 1'),
    ),
    "WebRTC elsewhere": (
        udp(ice_check(), dtls.client_hello(DICE)),
        ("certain", "rtc", "setup", "ICE connectivity check, packet 1"),
    ),
}

TELEPHONY_CASES: dict[str, tuple[Play, Expected]] = {
    "media of a type that SIP announced, on ports of its own": (
        lambda: announced(0),
        ("certain", "sip", "media", "RTP payload type 0, announced by this host, packet 4"),
    ),
    "media of another type beside a call of SIP": (
        lambda: announced(8),
        ("certain", "sip", "media", "RTP payload type 8 at a host of this app's call, packet 4"),
    ),
    "media of a type of no standard beside a call of SIP": (
        lambda: announced(111),
        ("certain", "rtc", "media", "RTP stream, payload type 111, packet 4"),
    ),
    "WebRTC beside a call of SIP": (
        lambda: announced(0, ice_check()),
        ("certain", "rtc", "media", "ICE connectivity check, packet 1"),
    ),
    "SIP": (
        udp(HAND_MADE["sip invite"], ports=(5060, 5060)),
        ("certain", "sip", "setup", "SIP message, packet 1"),
    ),
    "HTTP on SIP's port": (
        tcp(HAND_MADE["http"], HAND_MADE["http response"], port=5060),
        ("not-call", "none", "other", "HTTP, no name of an app with calls"),
    ),
    "TeamSpeak": (
        udp(HAND_MADE["teamspeak"], ports=(40000, 9987)),
        ("certain", "other-rtc", "setup", 'TeamSpeak 3 opening, "TS3INIT1", packet 1'),
    ),
    "Mumble": (
        both(HAND_MADE["mumble ping"], HAND_MADE["mumble answer"], ports=(40000, 64738)),
        ("certain", "other-rtc", "setup", "Mumble ping, answered with its mark, packet 2"),
    ),
    "Mumble's ping, answered with another mark": (
        both(HAND_MADE["mumble ping"], noise(24, 3)),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "SCCP": (
        tcp(sccp(1), sccp(0), port=2000),
        ("certain", "other-rtc", "setup", "SCCP (Skinny) messages, packet 2"),
    ),
    "SCCP on another port, both ends": (
        tcp(sccp(1), sccp(0x81), port=2001),
        ("certain", "other-rtc", "setup", "SCCP (Skinny) messages, packet 2"),
    ),
    "SCCP's form on another port, one end's numbers": (
        tcp(sccp(1), sccp(5), port=2001),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "GTPv2, which has the form of ChannelData": (
        udp(
            *[
                b"\x48\x20\x00\x20"
                + noise(4, 5)
                + pack(">I", i << 8)
                + b"\1\0\x08\0"
                + noise(20, i)
                for i in range(6)
            ],
            ports=(2123, 2123),
        ),
        ("not-call", "none", "other", "no sign of a call in 6 payloads"),
    ),
    "H.225": (
        tcp(HAND_MADE["h225"], port=1720),
        ("certain", "other-rtc", "setup", "H.323 call signalling (Q.931 in TPKT), packet 1"),
    ),
    "H.225 whose head comes by itself": (
        tcp(b"\3\0\0\x28", HAND_MADE["h225 behind its head"], port=1720),
        ("certain", "other-rtc", "setup", "H.323 call signalling (Q.931 in TPKT), packet 2"),
    ),
    "a message of another length behind such a head": (
        tcp(b"\3\0\0\x29", *[HAND_MADE["h225 behind its head"]] * 6, port=1720),
        ("not-call", "none", "other", ""),
    ),
    "NOE": (
        udp(HAND_MADE["noe"], ports=(32512, 32640)),
        (
            "certain",
            "other-rtc",
            "setup",
            "NOE, Alcatel's telephone signalling (published), packet 1",
        ),
    ),
    "libjingle's hello": (
        tcp(HAND_MADE["pseudo tls"]),
        (
            "certain",
            "other-rtc",
            "setup",
            "libjingle's hello that only looks like SSL (published), packet 1",
        ),
    ),
    "a hello of SSL 2": (
        tcp(*[bytes.fromhex("80460103 01002d00 00002001 00800300") + noise(56)] * 6),
        ("not-call", "none", "other", "no sign of a call in 6 payloads"),
    ),
    "remote desktop behind TPKT": (
        tcp(*[b"\x03\0\0\x13\x0e\xe0" + noise(13)] * 6, port=3389),
        ("not-call", "none", "other", "no sign of a call in 6 payloads"),
    ),
    "MGCP": (
        udp(HAND_MADE["mgcp"], ports=(2427, 2427)),
        ("certain", "other-rtc", "setup", "MGCP message, packet 1"),
    ),
    "IAX2": (
        udp(HAND_MADE["iax2"], ports=(4569, 4569)),
        ("certain", "other-rtc", "setup", "IAX2 full frame on its port, packet 1"),
    ),
}

RARE_CASES: dict[str, tuple[Play, Expected]] = {
    "Webex's hello, answered": (
        both(HAND_MADE["webex hello"], HAND_MADE["webex answer"], ports=(40000, 9000)),
        ("certain", "webex", "setup", "Webex hello of eight octets, answered, packet 2"),
    ),
    "Webex's hello and what follows, one side on its port": (
        udp(HAND_MADE["webex hello"], HAND_MADE["webex, what follows"], ports=(40000, 9000)),
        ("certain", "webex", "setup", "two Webex messages on its port 9000, packet 2"),
    ),
    "Webex's hello, echoed by the same side": (
        udp(HAND_MADE["webex hello"], HAND_MADE["webex answer"], ports=(40000, 9001)),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "imo's two shapes": (
        udp(HAND_MADE["imo's short datagram"], HAND_MADE["imo's other datagram"]),
        (
            "certain",
            "imo",
            "setup",
            "two different datagrams of imo's shapes (published), packet 2",
        ),
    ),
    "two datagrams of one shape of imo's": (
        udp(HAND_MADE["imo's short datagram"], b"\x09\x02" + noise(8, 9)),
        (
            "certain",
            "imo",
            "setup",
            "two different datagrams of imo's shapes (published), packet 2",
        ),
    ),
    "a peer's octet, then one of imo's datagrams": (
        udp(b"\1", b"\1", HAND_MADE["imo's short datagram"]),
        (
            "certain",
            "imo",
            "setup",
            "two different datagrams of imo's shapes (published), packet 3",
        ),
    ),
    "single octets alone": (
        udp(*[b"\1"] * 12),
        ("not-call", "none", "other", ""),
    ),
    "one of imo's datagrams again and again": (
        udp(*[HAND_MADE["imo's short datagram"]] * 3),
        ("not-call", "none", "other", "no sign of a call in 3 payloads"),
    ),
    "KakaoTalk's voice": (
        slow(108, 960, 60),
        (
            "certain",
            "kakaotalk",
            "media",
            "RTP payload type 108 in frames of 60 ms at 16 kHz, packet 7",
        ),
    ),
    "video of a browser's type 108": (
        stream(108, 3000, profile=0xBEDE),
        ("certain", "rtc", "media", "RTP stream, payload type 108, packet 4"),
    ),
    "wide-band voice of type 108 in short frames": (
        stream(108, 320),
        ("certain", "rtc", "media", "RTP stream, payload type 108, packet 4"),
    ),
    "reports of a source of KakaoTalk's voice, on ports of their own": (
        lambda: reported(0x11223344),
        ("certain", "kakaotalk", "control", "a media source of this app's call, packet 1"),
    ),
    "reports of another source between the same hosts": (
        lambda: reported(0x55667788),
        ("certain", "kakaotalk", "control", "between the hosts of this app's call, packet 4"),
    ),
    "Signal's voice, by its source": (
        udp(*[rtp(102, i, i * 960, 2002, profile=0xBEDE) for i in range(3)]),
        (
            "certain",
            "signal",
            "media",
            "RTP of source 2002, a constant of Signal's calls, packet 2",
        ),
    ),
    "Signal's messages to a group's server": (
        udp(ice_check(), *[rtp(101, i, i, 1) for i in range(3)]),
        ("certain", "signal", "media", "RTP of source 1, a constant of Signal's calls, packet 3"),
    ),
    "events of a telephone with the same source": (
        udp(*[rtp(101, i, i, 1) for i in range(5)]),
        ("certain", "rtc", "media", "RTP stream, payload type 101, packet 4"),
    ),
    "Signal's messages of a call": (
        udp(*[rtp(101, i, i, 13) for i in range(3)]),
        (
            "certain",
            "signal",
            "media",
            "RTP of source 13, a constant of Signal's calls, packet 2",
        ),
    ),
    "G.711 of the same source": (
        udp(*[rtp(0, i, i * 160, 1002) for i in range(6)]),
        ("certain", "rtc", "media", "RTP stream, payload type 0, packet 4"),
    ),
    "Signal's reports": (
        udp(report(1003), report(1003, 2)),
        (
            "certain",
            "signal",
            "control",
            "secured RTCP of source 1003, a constant of Signal's calls, packet 2",
        ),
    ),
    "plain reports of the same source": (
        udp(*[rtcp(ssrc=1003)] * 4),
        ("certain", "rtc", "control", "RTCP reports of one source, packet 3"),
    ),
    "Snapchat's reports between short headers of QUIC": (
        udp(*[HAND_MADE["quic short header"]] * 2, *[HAND_MADE["rtcp sender report"]] * 4),
        (
            "certain",
            "snapchat",
            "control",
            "RTCP of one source within a QUIC flow, packet 5",
        ),
    ),
    "WeChat's two openings": (
        both(wechat(0xA1, 0x08, 92), wechat(0xA1, 0x08, 75)),
        (
            "certain",
            "wechat",
            "setup",
            "WeChat's two openings, one each way (published), packet 2",
        ),
    ),
    "WeChat's heartbeats": (
        both(HAND_MADE["wechat heartbeat"], b"\xd1\x0a\x29\x0a" + noise(37)),
        (
            "certain",
            "wechat",
            "setup",
            "WeChat's two openings, one each way (published), packet 2",
        ),
    ),
    "both halves from one side": (
        udp(wechat(0xD5, 0x01, 90), wechat(0xD5, 0x01, 104)),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "a half that is not its side's first": (
        both(noise(30), noise(30, 1), wechat(0xA3, 0x08, 96), wechat(0xA3, 0x09, 96)),
        ("not-call", "none", "other", "no sign of a call in 4 payloads"),
    ),
    "two first halves": (
        both(wechat(0xD5, 0x01, 90), wechat(0xD5, 0x01, 90)),
        ("not-call", "none", "other", "no sign of a call in 2 payloads"),
    ),
    "reports between short headers of different ids": (
        udp(
            HAND_MADE["quic short header"],
            b"\x40" + noise(38, 6),
            *[HAND_MADE["rtcp sender report"]] * 4,
        ),
        ("certain", "rtc", "control", "RTCP reports of one source, packet 5"),
    ),
    "Agora's hello": (
        udp(agora_hello()),
        ("certain", "agora", "setup", "SD-RTN hello with a server name (published), packet 1"),
    ),
    "Agora's hello with a false length": (
        udp(agora_hello()[:-1]),
        ("not-call", "none", "other", "no sign of a call in 1 payloads"),
    ),
    "Snapchat's reports within QUIC": (
        udp(HAND_MADE["gquic"], *[HAND_MADE["rtcp sender report"]] * 4, ports=(40000, 443)),
        (
            "certain",
            "snapchat",
            "control",
            "RTCP of one source within a QUIC flow, packet 4",
        ),
    ),
}

WEBRTC_CASES: dict[str, tuple[Play, Expected]] = {
    "a connectivity check": (
        udp(ice_check()),
        ("certain", "rtc", "setup", "ICE connectivity check, packet 1"),
    ),
    "a bare Binding": (
        both(binding(), binding(mapped(), kind=0x0101)),
        ("unsure", "rtc", "setup", "STUN Binding that names nobody, packet 1"),
    ),
    "a Binding of RFC 3489": (
        udp(classic_binding()),
        ("unsure", "rtc", "setup", "STUN Binding that names nobody, packet 1"),
    ),
    "DTLS-SRTP": (
        udp(dtls.client_hello(DICE)),
        ("certain", "rtc", "setup", "DTLS hello with use_srtp, packet 1"),
    ),
    "media after ICE": (
        udp(ice_check(), *[rtp(111, i, i * 960) for i in range(3)]),
        ("certain", "rtc", "media", "ICE connectivity check, packet 1"),
    ),
    "media that a relay carries": (
        udp(*[indication(rtp(111, i, i * 960)) for i in range(3)]),
        ("certain", "rtc", "media", "TURN, packet 1"),
    ),
    "media in channels over TCP": (
        tcp(
            realm(b"example.org"),
            *[stun.channel_data(0x4001, rtp(111, i, i * 960)) for i in (1, 2)],
        ),
        ("certain", "rtc", "media", "TURN, packet 1"),
    ),
    "media in channels over TCP, from the middle of a call": (
        tcp(*[stun.channel_data(0x4001, rtp(111, i, i * 960)) for i in range(8)]),
        ("certain", "rtc", "media", "RTP stream, payload type 111, packet 6"),
    ),
    "reports that fill a datagram": (
        udp(rtcp(201, words=1) + rtcp(202, words=3)),
        ("certain", "rtc", "control", "RTCP packets that fill a datagram, packet 1"),
    ),
    "a report with octets behind": (
        udp(rtcp(201, words=1) + rtcp(202, words=3) + bytes(3)),
        ("unsure", "rtc", "control", ""),
    ),
    "media over TCP, framed": (
        tcp(*[framed(rtp(96, i, i * 960)) for i in range(8)], port=9000),
        ("certain", "rtc", "media", "RTP stream, payload type 96, packet 6"),
    ),
}

INNOCENT: dict[str, tuple[Play, Expected]] = {
    "random datagrams, as DNSCrypt's": (
        both(*[noise(100 + i, i) for i in range(40)], ports=(40000, 443)),
        ("not-call", "none", "other", "no sign of a call in 10 payloads"),
    ),
    "random octets over TCP": (
        tcp(*[noise(300, i) for i in range(12)]),
        ("not-call", "none", "other", "no sign of a call in 6 payloads"),
    ),
    "the form of channels over TCP, and no media in it": (
        tcp(*[stun.channel_data(0x4001, b"\x80" + noise(60, i)) for i in range(12)]),
        ("not-call", "none", "other", "no sign of a call in 6 payloads"),
    ),
    "NTP": (
        both(*[b"\x23\2\6\xe9" + noise(44, i) for i in range(4)], ports=(40000, 123)),
        ("not-call", "none", "other", "no sign of a call in 4 payloads"),
    ),
    "WireGuard": (
        both(*[bytes([4, 0, 0, 0]) + noise(92, i) for i in range(20)], ports=(40000, 51820)),
        ("not-call", "none", "other", "no sign of a call in 10 payloads"),
    ),
    "DTLS of a VPN": (
        both(*[dtls.record(23, i, noise(200, i), epoch=1) for i in range(20)]),
        ("not-call", "none", "other", "no sign of a call in 10 payloads"),
    ),
    "a game's counters": (
        both(*[i.to_bytes(4, "little") + noise(50, i) for i in range(40)], ports=(27005, 27015)),
        ("not-call", "none", "other", "no sign of a call in 10 payloads"),
    ),
    "RTP of a camera, which RTSP set up": (
        lambda: streamed(0, 41000, 41002),
        ("not-call", "none", "other", "RTP that RTSP set up: a stream, no call"),
    ),
    "RTP beside RTSP, on other ports": (
        lambda: streamed(0, 42000, 42002),
        ("certain", "rtc", "media", "RTP stream, payload type 0, packet 4"),
    ),
    "television": (
        stream(33, 900),
        (
            "not-call",
            "none",
            "other",
            "RTP of a broadcast: a multicast group, or MPEG (type 33)",
        ),
    ),
    "handshake of TCP alone": (
        lambda: Wire().tcp(b"", flags=2).tcp(b"", up=False, flags=0x12).tcp(b"", flags=16),
        ("not-call", "none", "other", "no payload"),
    ),
}

TABLES = {
    "whatsapp": WHATSAPP_CASES,
    "meta": META_CASES,
    "skype": SKYPE_CASES,
    "teams": TEAMS_CASES,
    "viber": VIBER_CASES,
    "facetime": FACETIME_CASES,
    "messenger": MESSENGER_CASES,
    "realms": REALM_CASES,
    "discord": DISCORD_CASES,
    "telegram": TELEGRAM_CASES,
    "zoom": ZOOM_CASES,
    "line": LINE_CASES,
    "meet": MEET_CASES,
    "telephony": TELEPHONY_CASES,
    "webex, imo, agora, snapchat": RARE_CASES,
    "webrtc": WEBRTC_CASES,
    "innocent": INNOCENT,
}
CASES = [
    pytest.param(*case, id=f"{app}: {name}")
    for app, table in TABLES.items()
    for name, case in table.items()
]


@pytest.mark.parametrize(("play", "expected"), CASES)
def test_what_is_said_of_a_flow(play: Play, expected: Expected) -> None:
    verdict = play().verdicts()[-1]
    assert verdict[: 4 if expected[3] else 3] == expected[: 4 if expected[3] else 3]


@pytest.mark.parametrize(("play", "expected"), CASES)
def test_what_is_said_does_not_depend_on_addresses_or_versions(
    play: Play, expected: Expected
) -> None:
    passing = play()
    turned = Wire()
    for frame, time in zip(passing.frames, passing.times, strict=True):
        swapped = bytes(octet ^ 0x55 for octet in frame[26:34])
        turned.put(frame[:26] + swapped + frame[34:])
        turned.times[-1] = time
    assert turned.verdicts()[-1][:3] == expected[:3]


# ---- the samples


def truth() -> list[tuple[str, int, str, str]]:
    """Return (sample, frame, app, role) of every label of the samples that names a call's flow."""
    return [
        (one.name, label.frame, label.app, label.role)
        for one in load(local=False).captures
        if one.synthetic
        for label in labels(one.sha256, with_local=False)
        if label.role in ("media", "setup", "control")
    ]


def is_right(verdict: tuple[str, str, str, str], app: str, role: str) -> bool:
    """Tell whether a certain app, or a maker whose two apps are alike, is right."""
    maker = FAMILIES[APPS.index(app)]
    return verdict[:3] in {("certain", app, role), ("certain", maker, role)}


@pytest.mark.parametrize("name", sorted({name for name, *_ in truth()}), ids=str)
def test_every_flow_of_a_samples_call_is_known_with_its_app_and_role(name: str) -> None:
    records = classify(sample(name), claims=MOST)
    flows = {int(flow["first_record"]) + 1: verdict_of(flow) for flow in records}
    wrong = [
        (frame, flows[frame][:3], (app, role))
        for one, frame, app, role in truth()
        if one == name and not is_right(flows[frame], app, role)
    ]
    assert wrong == []


INNOCENT_SAMPLES = sorted(one.name for one in load(local=False).captures if one.synthetic
                          and one.role == "innocent")  # fmt: skip


@pytest.mark.parametrize("name", INNOCENT_SAMPLES)
def test_no_flow_of_an_innocent_sample_is_certainly_a_call(name: str) -> None:
    flows = classify(sample(name))
    assert not (flows["verdict"] == VERDICTS.index("certain")).any()
    assert not np.isin(flows["app"][flows["verdict"] > 1], FIVE).any()


def test_chat_beside_a_call_is_still_chat() -> None:
    flows = [verdict_of(flow) for flow in classify(sample("sample-whatsapp-audio"))]
    assert ("not-call", "whatsapp", "messaging") in {flow[:3] for flow in flows}
    assert ("certain", "whatsapp", "media") in {flow[:3] for flow in flows}


def test_the_same_call_says_the_same_in_a_tunnel() -> None:
    bare = [verdict_of(flow) for flow in classify(sample("sample-viber-audio"))]
    tunnelled = [verdict_of(flow) for flow in classify(sample("sample-viber-pppoe"))]
    assert [flow[:3] for flow in bare] == [flow[:3] for flow in tunnelled]


# ---- hard negatives and calls of the corpus, by name

# capture -> apps that must appear as certain, apps that must not appear at all (beyond not-call)
REAL: dict[str, tuple[set[str], set[str]]] = {
    "discord": ({"discord"}, {"whatsapp", "skype", "viber", "facetime", "messenger"}),
    "http_on_sip_port": (set(), {"sip"}),
    "stun_facebook": ({"messenger"}, {"whatsapp"}),
    "whatsapp_login_call": ({"whatsapp"}, {"messenger", "discord"}),
    "wa_voice": ({"whatsapp"}, {"messenger", "discord"}),
    "wa_video": ({"whatsapp"}, {"messenger", "discord"}),
    "whatsapp_login_chat": (set(), set(APPS) - {"none"}),
    "KakaoTalk_chat": (set(), set(APPS) - {"none"}),
    "skype": (set(), {"skype"}),
    "skype_no_unknown": (set(), {"skype"}),
    "skype-conference-call": ({"microsoft"}, {"teams"}),
    "g711a": ({"rtc"}, {"telegram"}),
    "viber_mobile": ({"viber"}, {"whatsapp", "skype"}),
    "google_meet": (set(), {"messenger", "whatsapp"}),
    "radius_false_positive": (set(), set(APPS) - {"none"}),
    "gtp_false_positive": (set(), set(APPS) - {"none"}),
    "dtls_mid_sessions": (set(), set(APPS) - {"none"}),
    "starcraft_battle": (set(), set(APPS) - {"none"}),
    "source_engine": (set(), set(APPS) - {"none"}),
    "openvpn": (set(), set(APPS) - {"none"}),
    "bittorrent": (set(), set(APPS) - {"none"}),
}


@pytest.fixture(scope="module")
def real(corpus: Path) -> dict[str, Path]:
    """Return the real captures that are here, by their name in the catalogue."""
    catalogue = load(local=False)
    paths = obtain(catalogue, corpus=corpus, offline=True).paths
    return {one.name: paths[one.sha256] for one in catalogue.captures if one.sha256 in paths}


@pytest.mark.corpus
@pytest.mark.parametrize("name", REAL)
def test_a_named_capture_shows_what_it_holds_and_nothing_else(
    name: str, real: dict[str, Path]
) -> None:
    if name not in real:
        pytest.skip(f"{name} is not on this machine")
    wanted, unwanted = REAL[name]
    flows = classify(read(real[name]))
    certain = {APPS[app] for app in flows["app"][flows["verdict"] == 3]}
    suspected = {APPS[app] for app in flows["app"][flows["verdict"] >= 2]}
    assert wanted <= certain
    assert not suspected & unwanted


def test_the_named_captures_are_of_the_catalogue() -> None:
    assert set(REAL) <= {one.name for one in load(local=False).captures}


# ---- every fingerprint file has a test


def test_every_file_of_fingerprints_says_which_captures_show_it_or_that_none_does() -> None:

    (folder,) = apps.__path__
    spoken = re.compile(r"[Ss]hown\s+by|[Nn]o\s+(public\s+)?capture|[Ss]een\s+in|names?\s+no")
    silent = [
        path.name
        for path in sorted(Path(folder).glob("*.py"))
        if path.name != "__init__.py" and not spoken.search(path.read_text(encoding="utf-8"))
    ]
    assert silent == []


def test_the_tables_cover_every_app_of_the_vocabulary_that_has_fingerprints() -> None:
    covered = {expected[1] for table in TABLES.values() for _, expected in table.values()}
    assert covered >= {APPS[app] for app in (*FIVE, WHATSAPP)}
    roles = {expected[2] for table in TABLES.values() for _, expected in table.values()}
    assert roles == set(ROLES)


def test_the_wire_of_the_tests_uses_addresses_of_nobody() -> None:
    assert NEAR.startswith("198.18.")
    assert SAMPLES.is_dir()
