# SPDX-License-Identifier: BSD-3-Clause
"""Payloads made by hand or by the crafts' builders: a valid one of every kind that is read."""

from __future__ import annotations

import struct

from midcall.captures.wire import dns, dtls, sip, stun, tls
from midcall.captures.wire.host import Host, server
from midcall.captures.wire.seeded import SeededRandom
from tests.classifier.initial import EXAMPLE, V2, initial
from tests.classifier.wire import noise, rtp

ID = bytes(range(1, 13))
DICE = SeededRandom("midcall", "tests")
HOST, HOST6 = server(7), Host("2001:2::77")

#: USERNAME of ICE, and of Zoom's web client.
ICE_USER = (stun.USERNAME, b"abcd:efgh")
GUIDS = b"0F0F1A2B-1111-2222-3333-00112233AABB:1F0F1A2B-1111-2222-3333-00112233AABB"


def binding(*attributes: tuple[int, bytes], kind: int = stun.BINDING, **how: object) -> bytes:
    """Return a STUN message with the tests' transaction id."""
    return stun.message(kind, ID, list(attributes), **how)  # type: ignore[arg-type]


def mapped(host: Host = HOST, port: int = 50000) -> tuple[int, bytes]:
    """Return an XOR-MAPPED-ADDRESS."""
    return stun.xor_address(stun.XOR_MAPPED, host, port, ID)


def ice_check() -> bytes:
    """Return an ICE connectivity check."""
    return binding(ICE_USER, (stun.PRIORITY, b"\x6e\0\1\xff"), key=b"k", fingerprint=True)


def realm(name: bytes) -> bytes:
    """Return a TURN server's refusal with its realm."""
    code = (stun.ERROR_CODE, b"\0\0\4\1Unauthorized")
    return binding(code, (stun.REALM, name), kind=stun.ALLOCATE | stun.ERROR)


def whatsapp_allocate() -> bytes:
    """Return WhatsApp's Allocate: attribute 4000 of 102 octets, not padded, and nothing else."""
    head = binding(kind=stun.ALLOCATE)
    return head[:2] + b"\0\x6a" + head[4:] + b"\x40\0\0\x66" + noise(102)


def messenger_allocate() -> bytes:
    """Return Messenger's Allocate: attribute 4000 of 102 octets, then MESSAGE-INTEGRITY."""
    return binding((0x4000, noise(102)), kind=stun.ALLOCATE, key=b"k")


def peer_check() -> bytes:
    """Return WhatsApp's Binding of 44 octets."""
    return binding(key=b"k")


def indication(inner: bytes, kind: int = stun.SEND) -> bytes:
    """Return a TURN indication around a packet."""
    peer = stun.xor_address(stun.XOR_PEER, HOST, 50001, ID)
    return binding(peer, (stun.DATA, inner), kind=kind)


def classic_binding(*attributes: tuple[int, bytes]) -> bytes:
    """Return a Binding of RFC 3489: no cookie."""
    body = b"".join(stun.attribute(*one) for one in attributes)
    return struct.pack(">HH", 1, len(body)) + noise(16, 5) + body


def microsoft_frame(inner: bytes) -> bytes:
    """Return Microsoft's multiplexed TURN around a packet."""
    return struct.pack(">HH", 0xFF10, 8 + len(inner)) + noise(8, 6) + inner


def rtcp(kind: int = 200, ssrc: int = 0x11223344, words: int = 6) -> bytes:
    """Return an RTCP packet of words + 1 words."""
    return struct.pack(">BBHI", 0x80, kind, words, ssrc) + noise(4 * words - 4, kind)


def tpkt(*body: int) -> bytes:
    """Return octets behind a TPKT header (RFC 1006)."""
    return struct.pack(">BBH", 3, 0, 4 + len(body)) + bytes(body)


def sccp(message: int, size: int = 12) -> bytes:
    """Return a Skinny message."""
    return struct.pack("<III", size, 0, message) + noise(size - 4, message)


def viber(kind: int, size: int, argument: int = 0x0500, word: bytes = b"\x21\xc3") -> bytes:
    """Return a Viber control message behind its session word."""
    head = word + struct.pack("<H", kind) + struct.pack(">H", argument)
    return head + noise(size - len(head), kind)


def zoom_frame(kind: int, first: int = 5, direction: int = 0, sequence: int = 1) -> bytes:
    """Return an SFU frame with RTP where its type has it."""
    inner = {0x0F: 27, 0x10: 32}.get(kind, 24)
    head = bytes([first]) + noise(6, 7) + bytes([direction, kind]) + noise(inner - 9, 8)
    return head + rtp(112, sequence, sequence * 160)


def telegram_ping(tag: bytes = b"") -> bytes:
    """Return a reflector ping: a tag, twelve FF, a body."""
    return (tag or bytes(range(0x10, 0x20))) + b"\xff" * 12 + b"\xfe\xff\xff\xff" + bytes(8)


def teams_guid() -> bytes:
    """Return Teams' acknowledgement."""
    return b"\x03" + b"0f0f1a2b-1111-2222-3333-00112233aabb"


def line_frame(count: int, size: int = 40) -> bytes:
    """Return LINE's control frame."""
    return struct.pack(">HH", 0xD000 | (size - 4), count) + noise(size - 4, count)


def discovery(kind: int = 1) -> bytes:
    """Return Discord's IP discovery."""
    return struct.pack(">HH", kind, 70) + noise(70, 9)


def exchange(kind: int, size: int = 40) -> bytes:
    """Return FaceTime's STUN-like message with a right length."""
    return struct.pack(">HH", kind, size - 20) + noise(size - 4, kind)


def zoom_probe() -> tuple[bytes, bytes]:
    """Return Zoom's NAT probe and its answer."""
    asked = bytes.fromhex("00010018") + noise(16, 2) + bytes.fromhex("01010014") + b"12345678" * 2
    return asked + b"1234", bytes.fromhex("0002000c") + noise(16, 2) + bytes.fromhex(
        "01030008"
    ) + noise(8, 3)


def zoom_keep_alive(first: int, number: int, clock: int) -> bytes:
    """Return Zoom's keep-alive of 18 octets, or its echo of 13."""
    head = bytes([first, 0, 0, 0, number]) + struct.pack(">I", clock)
    return head + noise(9 if first == 3 else 4, clock)


def agora_hello(name: bytes = b"ap.example.org") -> bytes:
    """Return SD-RTN's hello with a server name."""
    head = noise(6) + b"\x21" + noise(5, 1) + b"\x04SNI"
    return head + struct.pack(">HB", len(name), 0) + name


def quic(version: int = 1, first: int = 0xC3) -> bytes:
    """Return a long header of QUIC."""
    return struct.pack(">BI", first, version) + b"\x08" + noise(8, 1) + b"\0" + noise(60, 2)


def invite(address: str = HOST.address, port: int = 40500) -> bytes:
    """Return a SIP INVITE with a session description."""
    names = ("alice@example.org", "bob@example.org")
    headers = [
        *sip.dialogue(*names, "f00dcafe01", "77", "1 INVITE"),
        ("Content-Type", "application/sdp"),
    ]
    body = sip.audio(address, port, ["0 PCMU/8000"])
    return sip.request("INVITE", f"sip:{names[1]}", headers, body)


def fragment(first: int, last: int) -> bytes:
    """Return a record with a fragment of a DTLS ClientHello."""
    message = dtls.client_hello(DICE)[13:]
    place, size = first.to_bytes(3, "big"), (last - first).to_bytes(3, "big")
    return dtls.record(22, 7, message[:6] + place + size + message[12 + first : 12 + last])


def certified(name: bytes, other: bytes = b"", srtp: bool = False) -> bytes:
    """Return a DTLS record with a Certificate for a name, and for an alternative one."""
    common = bytes.fromhex("0603550403 0c") + bytes([len(name)]) + name
    names = b"\x82" + bytes([len(other)]) + other
    sequence = b"\x30" + bytes([len(names)]) + names
    more = bytes.fromhex("0603551d11 04") + bytes([len(sequence)]) + sequence
    return dtls.record(22, 1, dtls.handshake(11, 1, noise(40) + common + noise(60, 1) + more))


def tls_server(name: bytes, other: bytes = b"") -> bytes:
    """Return a TLS server's first record: hello, and a Certificate for these names."""
    hello = b"\2\0\0\x26\3\3" + noise(32) + b"\0\xc0\x2f\0"
    message = certified(name, other)[13 + 12 :]
    body = hello + b"\x0b" + len(message).to_bytes(3, "big") + message
    return b"\x16\3\3" + struct.pack(">H", len(body)) + body


def chlo(name: bytes) -> bytes:
    """Return the client's first packet of Google's QUIC Q043 with a host name."""
    values = [(b"PAD\0", bytes(40)), (b"SNI\0", name), (b"VER\0", b"Q043")]
    table, ends = b"", 0
    for tag, value in values:
        ends += len(value)
        table += tag + struct.pack("<I", ends)
    message = b"CHLO" + struct.pack("<HH", len(values), 0) + table
    head = b"\x09" + noise(8) + b"Q043\1" + noise(12) + b"\xa0\1\0\0\4"
    return head + message + b"".join(value for _, value in values)


def echoed(name: bytes = b"0123456789abcdef:wxyz") -> bytes:
    """Return an answer to an ICE check that repeats its user name."""
    return binding((stun.USERNAME, name), mapped(), kind=0x0101, key=b"k", fingerprint=True)


def reflected(inner: bytes, tag: int = 3) -> bytes:
    """Return a packet as tgcalls sends it to a reflector."""
    head = noise(12, tag) + noise(4, 90 + len(inner)) + noise(4, 91)
    return head + struct.pack(">I", len(inner)) + inner + bytes(-len(inner) % 4)


def old_line_frame(kind: int, size: int = 12) -> bytes:
    """Return a control frame of older LINE clients."""
    return struct.pack(">BBH", 0xB6, kind, size) + noise(size, kind)


def zoom_peer(kind: int, sequence: int, ssrc: int = 0x01001001) -> bytes:
    """Return a frame between two Zoom clients with RTP where its type has it."""
    inner = 19 if kind == 0x0F else 24
    return bytes([kind]) + noise(inner - 1, 8) + rtp(112, sequence, sequence * 160, ssrc)


def zoom_counted(number: int, session: int = 0x004F8378, direction: int = 0) -> bytes:
    """Return an SFU frame without RTP."""
    return struct.pack(">BHIB", 5, number, session, direction) + b"\x15" + noise(60, number)


def zoom_peer_hello(address: bytes = b"192.0.2.9", name: bytes = b"0123-abcd") -> bytes:
    """Return what a Zoom client says to another first."""
    parts = [struct.pack(">I", len(part)) + part for part in (address, name)]
    return b"\x1f\2\1" + noise(21, 3) + b"".join(parts) + bytes(4)


def wechat(first: int, second: int, size: int) -> bytes:
    """Return an opening of WeChat's calls."""
    return bytes([first, second]) + noise(size - 2, size)


def rtsp_answer(client: int = 41000, server: int = 41002) -> bytes:
    """Return an RTSP server's answer to SETUP."""
    ports = f"client_port={client}-{client + 1};server_port={server}-{server + 1}"
    lines = ("RTSP/1.0 200 OK", "CSeq: 2", f"Transport: RTP/AVP;unicast;{ports}", "", "")
    return "\r\n".join(lines).encode()


def report(ssrc: int, index: int = 1) -> bytes:
    """Return a secured RTCP report as RFC 7714 has it: tag, then index."""
    return (
        struct.pack(">BBHI", 0x80, 201, 1, ssrc)
        + noise(16, index)
        + struct.pack(">I", 0x80000000 | index)
    )


HAND_MADE: dict[str, bytes] = {
    "certificate": certified(b"hangouts"),
    "certificate with an alternative": certified(b"x", b"relay.teams.microsoft.com"),
    "tls certificate": tls_server(b"*.zoom.us", b"a.example.org"),
    "chlo": chlo(b"mtalk.example.org"),
    "echoed user name": echoed(),
    "reflected stun": reflected(ice_check()),
    "reflected rtp": reflected(rtp(111, 1, 960)),
    "old line frames": old_line_frame(0x13, 6) + old_line_frame(0x07, 20),
    "zoom peer audio": zoom_peer(0x0F, 1),
    "zoom peer video": zoom_peer(0x10, 1),
    "rtsp setup": b"SETUP rtsp://example.org/1 RTSP/1.0\r\nCSeq: 2\r\n\r\n",
    "rtsp answer": rtsp_answer(),
    "signal report": report(1003),
    "zoom counted frame": zoom_counted(7),
    "zoom peer's hello": zoom_peer_hello(),
    "wechat opening": wechat(0xA1, 0x08, 92),
    "noe": b"\0\6bl" + noise(30),
    "pseudo tls": bytes.fromhex("80460103 01002d00 00001001 00800300") + noise(56),
    "wechat heartbeat": b"\xd1\x0a\x2e\x0a" + noise(42),
    "h225 behind its head": bytes([8, 2, 0, 1, 5, 4]) + noise(30),
    "teamspeak": b"TS3INIT1\0\x65\0\0\x88" + noise(21),
    "mumble ping": bytes(4) + noise(8, 44),
    "mumble answer": b"\0\1\2\3" + noise(8, 44) + noise(12, 45),
    "webex, what follows": b"\6" + bytes(7) + noise(34),
    "quic short header": b"\x40" + noise(8, 4) + noise(30, 5),
    "quic initial": initial(EXAMPLE, size=420),
    "quic initials, version 2": initial(EXAMPLE[:90], version=V2, size=100)
    + initial(EXAMPLE, version=V2, size=260, number=3, token=noise(9)),
    "dtls fragment": fragment(0, 60),
    "dtls later fragments": fragment(50, 70) + fragment(20, 60),
    "bare binding": binding(),
    "binding answered": binding(mapped(), kind=0x0101),
    "binding answered, IPv6": binding(mapped(HOST6), kind=0x0101),
    "ice check": ice_check(),
    "zoom's user name": binding((stun.USERNAME, GUIDS)),
    "realm": realm(b"turner.facebook"),
    "whatsapp allocate": whatsapp_allocate(),
    "whatsapp relay's answer": binding(mapped(), (0x4002, bytes(8)), kind=0x0103),
    "whatsapp with an address of a false length": binding(
        (0x4002, bytes(8)), (stun.XOR_MAPPED, b"\0\2\x11\x22\x33\x44\x55\x66"), kind=0x0103
    ),
    "whatsapp type": binding((0x4003, bytes(4)), kind=0x0801),
    "whatsapp peer check": peer_check(),
    "microsoft attributes": binding(ICE_USER, (0x8070, b"\0\0\0\3"), (0x8054, b"1\0\0\0")),
    "send indication of stun": indication(ice_check()),
    "data indication of rtp": indication(rtp(111, 1, 160), stun.DATA_INDICATION),
    "classic binding": classic_binding((3, bytes(4))),
    "channel data": stun.channel_data(0x4001, rtp(111, 2, 320)),
    "channel data of stun": stun.channel_data(0x4002, ice_check()),
    "microsoft frame": microsoft_frame(ice_check()),
    "framed stun": struct.pack(">H", len(ice_check())) + ice_check(),
    "framed rtp": (struct.pack(">H", 92) + rtp(111, 3, 480)) * 2,
    "rtp": rtp(120, 7, 2240),
    "rtp with an extension": rtp(120, 8, 2560, profile=0xDEBE),
    "rtp with sources": b"\x82" + rtp(0, 9, 2880)[1:],
    "rtcp sender report": rtcp(),
    "rtcp compound": rtcp(201, words=1) + rtcp(202, words=3),
    "whatsapp probe": struct.pack(">BBHI", 0x80, 0xC7, 4, 0) + bytes(16),
    "dtls hello with srtp": dtls.client_hello(DICE),
    "dtls hello": dtls.client_hello(DICE, srtp=False),
    "dtls server flight": dtls.server_flight(DICE),
    "tls hello": tls.client_hello(DICE, "chat.Example.org"),
    "tls hello without a name": tls.client_hello(DICE, ""),
    "tls application data": tls.record(23, noise(60)),
    "http": b"GET / HTTP/1.1\r\nAccept: */*\r\nhOst:  www.example.org:80\r\n\r\n",
    "http response": b"HTTP/1.1 200 OK\r\n\r\n",
    "dns question": dns.question(7, "Call.WhatsApp.net"),
    "dns answer": dns.answer(7, "call.whatsapp.net", HOST),
    "dns answer, IPv6": dns.answer(7, "call.whatsapp.net", HOST6),
    "quic": quic(),
    "gquic": bytes([0x09]) + noise(8) + b"Q039" + noise(30, 1),
    "sip invite": invite(),
    "sip response": sip.response("200 OK", [("Via", "x")], sip.audio("192.0.2.9", 9000, [])),
    "mgcp": b"AUEP 1200 *@gw.example.org MGCP 1.0\r\n",
    "mgcp answer": b"200 1200 OK\r\n",
    "megaco": b"!/1 [198.19.0.9]:2944 T=1{C=-{}}",
    "ras": bytes.fromhex("0e800006") + bytes.fromhex("0008914a0004") + noise(12),
    "iax2": bytes([0x80, 1, 0, 0, 0, 0, 0, 3, 0, 0, 6, 1]) + noise(12),
    "h225": tpkt(8, 2, 0, 1, 5, 4),
    "h245": tpkt(2, 0x70, 1, 6, 0, 8),
    "sccp": sccp(0x0001),
    "discord discovery": discovery(),
    "discord ping": bytes.fromhex("1337cafe") + bytes(4),
    "facetime exchange": exchange(0x0FE0),
    "facetime beef": bytes.fromhex("deadbeefcafe") + noise(20),
    "facetime frame": struct.pack(">BBH", 0x60, 1, 96) + noise(96),
    "facetime opening": bytes.fromhex("00010002") + noise(12),
    "line frame": line_frame(5),
    "messenger chat": b"\x10\x20\x00\x06MQTToT\x03\x02" + noise(20),
    "skype request": b"\x12\x34\x02" + noise(20),
    "skype reply": b"\x12\x34\x07" + noise(9),
    "teams guid": teams_guid(),
    "telegram ping": telegram_ping(),
    "telegram media": bytes(range(0x10, 0x20)) + noise(64),
    "viber hello": viber(1, 24),
    "viber probe": viber(0x19, 34),
    "viber media": b"\x21\x43" + rtp(107, 5, 4800),
    "viber chat": struct.pack("<H", 40) + noise(38),
    "whatsapp chat": b"WA\x01\x05" + noise(40),
    "webex hello": bytes.fromhex("0100000000000001"),
    "webex answer": bytes.fromhex("0200000000070001")[:7] + b"\x01",
    "imo's short datagram": b"\x09\x02" + noise(8),
    "imo's other datagram": b"\x00\x09\x03" + noise(8),
    "agora hello": agora_hello(),
    "zoom keep-alive": zoom_keep_alive(3, 1, 1000),
    "zoom hello": bytes.fromhex("010002") + noise(80),
    "zoom audio": zoom_frame(0x0F),
    "zoom video": zoom_frame(0x10),
    "zoom probe": zoom_probe()[0],
    "zoom probe answered": zoom_probe()[1],
    "nothing known": noise(48, 77),
}
