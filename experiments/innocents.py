# SPDX-License-Identifier: BSD-3-Clause
"""Crafted innocents: flows of many protocols that are no call, seeded, payload by payload.

They are hard on purpose (first octets of RTP, cadence of voice, STUN without a call, HTTP on SIP's
port) and simple in form: each protocol's messages by its public description, with random content.
A program made them, so what an engine says of them is a regression count and no rate of anything.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

TCP, UDP = 6, 17


class Flow(NamedTuple):
    """One flow to be: messages are (from the opener, payload), `gap` ns lie between them."""

    proto: int
    port: int
    gap: int
    messages: list[tuple[bool, bytes]]


MS = 1_000_000
Maker = Callable[[Random], Flow]


def number(value: int, size: int) -> bytes:
    """Return a number in network order, what does not fit cut off."""
    return (value % (1 << (8 * size))).to_bytes(size)


def little(value: int, size: int) -> bytes:
    """Return a number with the lowest octet first, what does not fit cut off."""
    return (value % (1 << (8 * size))).to_bytes(size, "little")


def label(r: Random) -> str:
    """Return a random word of letters."""
    return "".join(r.choices("abcdefghijklmnopqrstuvwxyz", k=r.randint(3, 12)))


def high_port(r: Random) -> int:
    """Return a random port above the well-known ones."""
    return r.randint(1024, 65535)


def talk(r: Random, count: int, make: Callable[[int, bool], bytes]) -> list[tuple[bool, bytes]]:
    """Return messages in random directions, the opener's first; make(turn, up) is a payload."""
    sides = [True, *(r.random() < 0.5 for _ in range(count - 1))]
    return [(up, make(at, up)) for at, up in enumerate(sides)]


# ---- octets without a protocol


def random_sizes(r: Random) -> Flow:
    """Random octets, each datagram of another size."""
    sent = talk(r, r.randint(2, 24), lambda at, up: r.randbytes(r.randint(1, 1400)))
    return Flow(UDP, high_port(r), r.randint(1, 400) * MS, sent)


def random_one_size(r: Random) -> Flow:
    """Random octets, all datagrams of one size."""
    size = r.randint(1, 1400)
    return Flow(
        UDP,
        high_port(r),
        r.randint(1, 400) * MS,
        talk(r, r.randint(2, 24), lambda at, up: r.randbytes(size)),
    )


def voice_cadence(r: Random) -> Flow:
    """Random octets in the sizes and the cadence of voice."""
    size = r.randint(40, 160)
    return Flow(
        UDP, high_port(r), 10 * MS, talk(r, 32, lambda at, up: r.randbytes(size + r.randint(0, 30)))
    )


def rtp_first_octet(r: Random) -> Flow:
    """Random octets behind the first two of RTP."""
    head = bytes((0x80, r.choice((0, 8, 96, 111, 120))))
    return Flow(
        UDP,
        high_port(r),
        20 * MS,
        talk(r, 24, lambda at, up: head + r.randbytes(r.randint(20, 180))),
    )


def counted_octets(r: Random) -> Flow:
    """A counter and random octets: a game of no name."""
    kind, size = r.randbytes(2), r.randint(16, 90)
    return Flow(
        UDP,
        high_port(r),
        16 * MS,
        talk(r, 32, lambda at, up: kind + little(at, 2) + r.randbytes(size)),
    )


def tcp_random(r: Random) -> Flow:
    """Random octets over TCP."""
    return Flow(
        TCP,
        high_port(r),
        30 * MS,
        talk(r, r.randint(2, 12), lambda at, up: r.randbytes(r.randint(1, 1300))),
    )


def tcp_framed(r: Random) -> Flow:
    """Random octets over TCP behind a word with their length, as RFC 4571 has it."""

    def message(at: int, up: bool) -> bytes:
        body = r.randbytes(r.randint(12, 300))
        return number(len(body), 2) + body

    return Flow(TCP, high_port(r), 20 * MS, talk(r, 12, message))


# ---- names and time


def question(r: Random) -> bytes:
    """Return a DNS question for a name of nobody."""
    parts = [label(r).encode() for _ in range(r.randint(1, 3))] + [b"example"]
    return b"".join(bytes((len(part),)) + part for part in parts) + b"\0\0\1\0\1"


def dns(r: Random) -> Flow:
    """A question and its answer."""
    asked, ident = question(r), r.randbytes(2)
    answer = b"\xc0\x0c\0\1\0\1" + number(r.randint(1, 9999), 4) + b"\0\4\xc0\0\2" + r.randbytes(1)
    return Flow(
        UDP,
        53,
        12 * MS,
        [
            (True, ident + b"\1\0\0\1\0\0\0\0\0\0" + asked),
            (False, ident + b"\x81\x80\0\1\0\1\0\0\0\0" + asked + answer),
        ],
    )


def multicast_names(r: Random) -> Flow:
    """Questions of mDNS or LLMNR."""
    return Flow(
        UDP,
        r.choice((5353, 5355)),
        1000 * MS,
        [(True, b"\0\0\0\0\0\1\0\0\0\0\0\0" + question(r)) for _ in range(3)],
    )


def dnscrypt(r: Random) -> Flow:
    """DNSCrypt: a client's magic, key and nonce, then what is encrypted, padded by 64."""
    magic, key = r.randbytes(8), r.randbytes(32)

    def message(at: int, up: bool) -> bytes:
        body = r.randbytes(64 * r.randint(4, 8) + 16)
        head = magic + key + r.randbytes(12) if up else b"r6fnvWj8" + r.randbytes(24)
        return head + body

    sent = [(turn % 2 == 0, message(turn, turn % 2 == 0)) for turn in range(2 * r.randint(1, 4))]
    return Flow(UDP, r.choice((443, 5353, 8443, high_port(r))), 40 * MS, sent)


def ntp(r: Random) -> Flow:
    """NTP: a client's request and the answer."""
    return Flow(
        UDP,
        123,
        30 * MS,
        [(True, b"\x23" + bytes(39) + r.randbytes(8)), (False, b"\x24\2\6\xe9" + r.randbytes(44))],
    )


# ---- VPN and QUIC


def quic_short(r: Random) -> Flow:
    """QUIC from its middle: short headers alone."""
    ident = r.randbytes(8)

    def message(at: int, up: bool) -> bytes:
        size = r.choice((27, 33, 41)) if up else r.choice((600, 1220, 1250, 1350))
        return bytes((0x40 | r.randrange(64),)) + (b"" if up else ident) + r.randbytes(size)

    return Flow(UDP, 443, 8 * MS, talk(r, 20, message))


def quic_strange(r: Random) -> Flow:
    """QUIC's long header with a version of nobody (RFC 9000, 15: 0x?a?a?a?a)."""
    version = bytes(r.randrange(16) << 4 | 10 for _ in range(4))
    one, two = r.randbytes(8), r.randbytes(8)

    def message(at: int, up: bool) -> bytes:
        ends = (one, two) if up else (two, one)
        named = b"".join(bytes((len(end),)) + end for end in ends)
        return bytes((0xC0 | r.randrange(64),)) + version + named + r.randbytes(1200)

    return Flow(UDP, 443, 20 * MS, talk(r, 6, message))


def wireguard_data(r: Random, at: int, mine: bytes) -> bytes:
    """Return a transport message of WireGuard, padded by 16."""
    return b"\4\0\0\0" + mine + little(at, 8) + r.randbytes(16 * r.randint(1, 88) + 16)


def wireguard(r: Random) -> Flow:
    """WireGuard: both handshake messages, data, keep-alives."""
    mine, theirs = r.randbytes(4), r.randbytes(4)
    hello = [
        (True, b"\1\0\0\0" + mine + r.randbytes(140)),
        (False, b"\2\0\0\0" + theirs + mine + r.randbytes(80)),
    ]
    data = talk(r, 16, lambda at, up: wireguard_data(r, at, theirs if up else mine))
    return Flow(UDP, r.choice((51820, 2408, 443, high_port(r))), 15 * MS, hello + data)


def wireguard_middle(r: Random) -> Flow:
    """WireGuard from its middle."""
    ends = r.randbytes(4), r.randbytes(4)
    first = r.randint(1, 1 << 20)
    sent = talk(r, 20, lambda at, up: wireguard_data(r, first + at, ends[up]))
    return Flow(UDP, r.choice((51820, 443, high_port(r))), 20 * MS, sent)


def record(kind: int, epoch: int, at: int, body: bytes) -> bytes:
    """Return a DTLS 1.2 record."""
    return (
        bytes((kind, 0xFE, 0xFD)) + number(epoch, 2) + number(at, 6) + number(len(body), 2) + body
    )


def dtls_hello(r: Random, cookie: bytes) -> bytes:
    """Return a ClientHello without use_srtp: a VPN's."""
    suites = b"\xc0\x2b\xc0\x2f\x00\x9e\xc0\x30\x00\x35"
    extensions = b"\x00\x0a\0\4\0\2\0\x17" + b"\x00\x0d\0\4\0\2\4\3" + b"\x00\x17\0\0"
    body = (
        b"\xfe\xfd"
        + r.randbytes(32)
        + b"\0"
        + bytes((len(cookie),))
        + cookie
        + number(len(suites), 2)
        + suites
        + b"\1\0"
        + number(len(extensions), 2)
        + extensions
    )
    turn = 1 if cookie else 0
    size = number(len(body), 3)
    return record(22, 0, turn, b"\1" + size + number(turn, 2) + b"\0\0\0" + size + body)


def dtls_vpn(r: Random) -> Flow:
    """DTLS without use_srtp: hellos, a cookie, then data."""
    cookie = r.randbytes(20)
    verify = b"\3\0\0\x17\0\0\0\0\0\0\0\x17\xfe\xff\x14" + cookie
    sent = [
        (True, dtls_hello(r, b"")),
        (False, record(22, 0, 0, verify)),
        (True, dtls_hello(r, cookie)),
    ]
    sent += talk(r, 14, lambda at, up: record(23, 1, at, r.randbytes(r.randint(40, 1300))))
    return Flow(UDP, r.choice((443, 4433, high_port(r))), 20 * MS, sent)


def dtls_middle(r: Random) -> Flow:
    """DTLS from its middle: records of data alone."""
    first = r.randint(1, 1 << 30)
    sent = talk(r, 16, lambda at, up: record(23, 1, first + at, r.randbytes(r.randint(40, 1300))))
    return Flow(UDP, r.choice((443, 4433, high_port(r))), 20 * MS, sent)


def openvpn(r: Random) -> Flow:
    """OpenVPN: resets, then data of version 2."""
    ours, theirs, peer = r.randbytes(8), r.randbytes(8), r.randbytes(3)
    sent = [
        (True, b"\x38" + ours + b"\0" + bytes(4)),
        (False, b"\x40" + theirs + b"\1" + bytes(4) + ours + bytes(4)),
    ]
    sent += talk(
        r, 14, lambda at, up: b"\x48" + peer + number(at + 1, 4) + r.randbytes(r.randint(60, 1300))
    )
    return Flow(UDP, r.choice((1194, 443, high_port(r))), 20 * MS, sent)


def ipsec(r: Random) -> Flow:
    """ESP in UDP with its keep-alives (RFC 3948)."""
    ends = r.randbytes(4), r.randbytes(4)

    def message(at: int, up: bool) -> bytes:
        if at % 7 == 6:
            return b"\xff"
        return ends[up] + number(at + 1, 4) + r.randbytes(4 * r.randint(16, 330))

    return Flow(UDP, 4500, 20 * MS, talk(r, 18, message))


def ike(r: Random) -> Flow:
    """IKE version 2: the first exchange."""
    spi = r.randbytes(8)

    def message(at: int, up: bool) -> bytes:
        body = r.randbytes(r.randint(200, 400))
        other = bytes(8) if at == 0 else r.randbytes(8)
        return (
            spi
            + other
            + b"\x21\x20\x22"
            + (b"\x08" if up else b"\x20")
            + bytes(4)
            + number(28 + len(body), 4)
            + body
        )

    return Flow(UDP, 500, 40 * MS, [(True, message(0, True)), (False, message(1, False))])


def ike_session(r: Random) -> Flow:
    """IKE of either version after its first answer: both cookies before every message."""
    cookies, version = r.randbytes(16), r.choice((0x10, 0x20))

    def message(at: int, up: bool) -> bytes:
        body = r.randbytes(4 * r.randint(8, 80))
        head = bytes((r.choice((5, 46)), version, r.choice((2, 35, 37)), r.choice((0, 8, 32))))
        return cookies + head + number(at, 4) + number(28 + len(body), 4) + body

    return Flow(UDP, 500, 40 * MS, talk(r, 30, message))


def json_calls(r: Random) -> Flow:
    """JSON-RPC over UDP, requests and answers that open alike."""

    def message(at: int, up: bool) -> bytes:
        said = "method" if up else "result"
        text = f'{{"jsonrpc":"2.0","id":{at + 100},"{said}":"{label(r)}"}}'
        return text.encode() + b" " * (-len(text) % 4)

    return Flow(UDP, high_port(r), 100 * MS, talk(r, 30, message))


def xml_messages(r: Random) -> Flow:
    """XML over UDP (WS-Discovery and its like), both ways."""

    def message(at: int, up: bool) -> bytes:
        text = f'<?xml version="1.0" encoding="UTF-8"?><{label(r)} id="{at}"/>'
        return text.encode() + b" " * (-len(text) % 4)

    return Flow(UDP, r.choice((3702, high_port(r))), 100 * MS, talk(r, 30, message))


def session_messages(r: Random) -> Flow:
    """Messages of a session: its UUID, a plain header of type, size and number, then content."""
    session = r.randbytes(16)

    def message(at: int, up: bool) -> bytes:
        body = r.randbytes(4 * r.randint(4, 60))
        return session + number(r.randint(1, 6), 4) + number(len(body), 4) + number(at, 8) + body

    return Flow(UDP, high_port(r), 30 * MS, talk(r, 40, message))


def l2tp(r: Random) -> Flow:
    """L2TP: a control message and hellos."""
    head = b"\xc8\x02\x00\x14" + r.randbytes(2) + b"\0\0"
    return Flow(
        UDP,
        1701,
        60 * MS,
        talk(r, 4, lambda at, up: head + number(at, 2) + number(at, 2) + b"\x80\x08\0\0\0\0\0\6"),
    )


# ---- games and peer to peer


def source_engine(r: Random) -> Flow:
    """A Source engine query, then numbered packets."""
    sent = [
        (True, b"\xff\xff\xff\xffTSource Engine Query\0"),
        (False, b"\xff\xff\xff\xffI\x11" + label(r).encode() + b"\0" + r.randbytes(60)),
    ]
    sent += talk(
        r,
        20,
        lambda at, up: little(at + 1, 4) + little(at, 4) + b"\0" + r.randbytes(r.randint(20, 300)),
    )
    return Flow(UDP, r.choice((27015, high_port(r))), 15 * MS, sent)


def quake(r: Random) -> Flow:
    """A Quake III status query, then numbered packets."""
    sent = [
        (True, b"\xff\xff\xff\xffgetstatus\n"),
        (False, b"\xff\xff\xff\xffstatusResponse\n\\sv_hostname\\" + label(r).encode()),
    ]
    sent += talk(r, 16, lambda at, up: little(at, 4) + r.randbytes(r.randint(30, 200)))
    return Flow(UDP, r.choice((27960, high_port(r))), 20 * MS, sent)


def raknet(r: Random) -> Flow:
    """RakNet: pings and requests, then numbered frames."""
    magic = bytes.fromhex("00ffff00fefefefefdfdfdfd12345678")
    sent = [
        (True, b"\1" + r.randbytes(8) + magic + r.randbytes(8)),
        (False, b"\x1c" + r.randbytes(16) + magic + b"\0\4" + r.randbytes(4)),
        (True, b"\5" + magic + b"\x0a" + bytes(1200)),
        (False, b"\6" + magic + r.randbytes(11)),
    ]
    sent += talk(r, 20, lambda at, up: b"\x84" + little(at, 3) + r.randbytes(r.randint(12, 300)))
    return Flow(UDP, r.choice((19132, high_port(r))), 25 * MS, sent)


def enet(r: Random) -> Flow:
    """ENet: a peer's number, a time and commands."""
    peer = number(0x8000 | r.randrange(0x1000), 2)
    return Flow(
        UDP,
        high_port(r),
        20 * MS,
        talk(
            r,
            24,
            lambda at, up: (
                peer
                + number(20 * at, 2)
                + b"\x06\0"
                + number(at, 2)
                + r.randbytes(r.randint(20, 120))
            ),
        ),
    )


def kcp(r: Random) -> Flow:
    """KCP: a conversation's number, a command, numbers, the length."""
    conversation = r.randbytes(4)

    def message(at: int, up: bool) -> bytes:
        body = r.randbytes(r.randint(0, 600))
        return (
            conversation
            + bytes((r.choice((81, 81, 82, 83)), 0))
            + little(128, 2)
            + little(20 * at, 4)
            + little(at, 4)
            + little(at, 4)
            + little(len(body), 4)
            + body
        )

    return Flow(UDP, high_port(r), 20 * MS, talk(r, 20, message))


def utp(r: Random) -> Flow:
    """BitTorrent's uTP (BEP 29): SYN, state, data."""
    ident = r.randrange(1 << 16)

    def message(at: int, up: bool) -> bytes:
        kind = 0x41 if at == 0 else 0x21 if not up else 0x01
        body = r.randbytes(r.randint(40, 1300)) if kind == 0x01 else b""
        return (
            bytes((kind, 0))
            + number(ident + (kind != 0x41 and up), 2)
            + r.randbytes(8)
            + number(1 << 18, 4)
            + number(at, 2)
            + number(at, 2)
            + body
        )

    return Flow(UDP, high_port(r), 20 * MS, talk(r, 20, message))


def dht(r: Random) -> Flow:
    """BitTorrent's DHT (BEP 5): a ping or a query, and the answer."""
    mark = r.randbytes(2)
    asked = (
        b"d1:ad2:id20:"
        + r.randbytes(20)
        + b"9:info_hash20:"
        + r.randbytes(20)
        + b"e1:q9:get_peers1:t2:"
        + mark
        + b"1:y1:qe"
    )
    told = (
        b"d1:rd2:id20:"
        + r.randbytes(20)
        + b"5:nodes208:"
        + r.randbytes(208)
        + b"e1:t2:"
        + mark
        + b"1:y1:re"
    )
    return Flow(UDP, high_port(r), 50 * MS, [(True, asked), (False, told)])


def tracker(r: Random) -> Flow:
    """BitTorrent's UDP tracker (BEP 15)."""
    mark, ident = r.randbytes(4), r.randbytes(8)
    sent = [
        (True, bytes.fromhex("0000041727101980") + bytes(4) + mark),
        (False, bytes(4) + mark + ident),
        (True, ident + b"\0\0\0\1" + mark + r.randbytes(82)),
        (False, b"\0\0\0\1" + mark + r.randbytes(12 + 6 * r.randint(1, 50))),
    ]
    return Flow(UDP, r.choice((6969, 1337, 80, high_port(r))), 60 * MS, sent)


# ---- STUN without a call


def stun(kind: int, body: bytes, ident: bytes) -> bytes:
    """Return a STUN message; 16 octets of transaction id, with or without the cookie."""
    return number(kind, 2) + number(len(body), 2) + ident + body


def stun_keepalive(r: Random) -> Flow:
    """Binding requests without attributes, and their answers: a NAT is kept open."""
    sent = []
    for _ in range(r.randint(1, 8)):
        ident = b"\x21\x12\xa4\x42" + r.randbytes(12)
        sent += [
            (True, stun(1, b"", ident)),
            (False, stun(0x101, b"\0\x20\0\x08\0\1" + r.randbytes(6), ident)),
        ]
    return Flow(UDP, r.choice((3478, 19302, high_port(r))), 15_000 * MS, sent)


def stun_classic(r: Random) -> Flow:
    """Classic STUN (RFC 3489): a request and an answer without the cookie."""
    ident = r.randbytes(16)
    told = b"\0\1\0\x08\0\1" + r.randbytes(6) + b"\0\4\0\x08\0\1" + r.randbytes(6)
    return Flow(
        UDP,
        3478,
        30 * MS,
        [(True, stun(1, b"\0\3\0\4\0\0\0\0", ident)), (False, stun(0x101, told, ident))],
    )


def stun_indications(r: Random) -> Flow:
    """Binding indications alone (RFC 8489, 15.1)."""
    return Flow(
        UDP,
        high_port(r),
        15_000 * MS,
        [(True, stun(0x11, b"", b"\x21\x12\xa4\x42" + r.randbytes(12))) for _ in range(4)],
    )


# ---- text, management, streaming


def http_words(r: Random) -> bytes:
    """Return a request for a page."""
    return (
        f"GET /{label(r)} HTTP/1.1\r\nHost: {label(r)}.example\r\n"
        f"User-Agent: {label(r)}/1.{r.randrange(9)}\r\nAccept: */*\r\n\r\n"
    ).encode()


def http_page(r: Random) -> list[tuple[bool, bytes]]:
    """Return a request and its answer."""
    size = r.randint(50, 1000)
    head = f"HTTP/1.1 200 OK\r\nServer: {label(r)}\r\nContent-Length: {size}\r\n\r\n"
    return [(True, http_words(r)), (False, head.encode() + r.randbytes(size))]


def http_on_sip_port(r: Random) -> Flow:
    """HTTP on SIP's port."""
    return Flow(TCP, r.choice((5060, 5061)), 30 * MS, http_page(r))


def http(r: Random) -> Flow:
    """HTTP where it belongs."""
    return Flow(TCP, r.choice((80, 8080)), 30 * MS, http_page(r))


def ssdp(r: Random) -> Flow:
    """SSDP searches: HTTP's form over UDP."""
    words = (
        'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\n'
        f"MX: 3\r\nST: urn:{label(r)}:service:{label(r)}:1\r\n\r\n"
    )
    return Flow(UDP, 1900, 1000 * MS, [(True, words.encode())] * 3)


def syslog(r: Random) -> Flow:
    """Lines of syslog, one way."""
    return Flow(
        UDP,
        514,
        200 * MS,
        [
            (
                True,
                f"<{r.randrange(192)}>{label(r)} {label(r)}[{r.randrange(9999)}]: "
                f"{label(r)} {label(r)}".encode(),
            )
            for _ in range(6)
        ],
    )


def snmp(r: Random) -> Flow:
    """SNMP: a question and an answer."""

    def message(tag: int) -> bytes:
        body = (
            b"\2\1\1\4\6public"
            + bytes((tag, 0x19))
            + b"\2\1\1\2\1\0\2\1\0"
            + b"\x30\x0e\x30\x0c\6\x08\x2b\6\1\2\1\1"
            + r.randbytes(2)
            + b"\5\0"
        )
        return bytes((0x30, len(body))) + body

    return Flow(UDP, 161, 20 * MS, [(True, message(0xA0)), (False, message(0xA2))])


def radius(r: Random) -> Flow:
    """RADIUS: access request and answer."""
    ident = r.randrange(256)

    def message(code: int) -> bytes:
        body = r.randbytes(r.randint(20, 120))
        return bytes((code, ident)) + number(20 + len(body), 2) + r.randbytes(16) + body

    return Flow(UDP, 1812, 20 * MS, [(True, message(1)), (False, message(r.choice((2, 3, 11))))])


def tftp(r: Random) -> Flow:
    """TFTP: a request, blocks, acknowledgements."""
    sent = [(True, b"\0\1" + label(r).encode() + b"\0octet\0")]
    for at in range(1, r.randint(3, 9)):
        sent += [
            (False, b"\0\3" + number(at, 2) + r.randbytes(512)),
            (True, b"\0\4" + number(at, 2)),
        ]
    return Flow(UDP, 69, 10 * MS, sent)


def coap(r: Random) -> Flow:
    """CoAP: a request and an answer."""
    mark, token = r.randbytes(2), r.randbytes(4)
    return Flow(
        UDP,
        5683,
        40 * MS,
        [
            (True, b"\x44\1" + mark + token + b"\xb5" + label(r).encode()[:5].ljust(5, b"x")),
            (False, b"\x64\x45" + mark + token + b"\xff" + r.randbytes(r.randint(2, 60))),
        ],
    )


def netflow(r: Random) -> Flow:
    """NetFlow (5, 9) or IPFIX (10), one way."""
    version = r.choice((5, 9, 10))
    return Flow(
        UDP,
        r.choice((2055, 4739, 9996)),
        500 * MS,
        [
            (True, number(version, 2) + number(24, 2) + r.randbytes(r.randint(100, 1300)))
            for _ in range(5)
        ],
    )


def gtp_echo(r: Random) -> Flow:
    """GTP-U's echo."""
    return Flow(
        UDP,
        2152,
        60 * MS,
        [
            (True, b"\x32\1\0\4\0\0\0\0" + r.randbytes(2) + b"\0\0"),
            (False, b"\x32\2\0\6\0\0\0\0" + r.randbytes(2) + b"\0\0\x0e\0"),
        ],
    )


def transport_stream(r: Random) -> Flow:
    """Television over UDP: seven packets of an MPEG transport stream, one way."""
    pid = number(0x100 + r.randrange(0x1000), 2)
    return Flow(
        UDP,
        high_port(r),
        3 * MS,
        [
            (
                True,
                b"".join(
                    b"\x47" + pid + bytes((0x10 | turn,)) + r.randbytes(184) for turn in range(7)
                ),
            )
            for _ in range(20)
        ],
    )


def television(r: Random) -> Flow:
    """Television in RTP (RFC 2250, payload type 33), one way: RTP, but no call."""
    ssrc, first = r.randbytes(4), r.randrange(1 << 16)

    def message(at: int) -> bytes:
        head = bytes((0x80, 33)) + number(first + at, 2) + number(3000 * at, 4) + ssrc
        return head + b"".join(
            b"\x47\1\0" + bytes((0x10 | i,)) + r.randbytes(184) for i in range(7)
        )

    return Flow(UDP, 2 * r.randint(600, 32000), 3 * MS, [(True, message(at)) for at in range(24)])


# ---- over TCP


def tls_hello(r: Random) -> bytes:
    """Return a ClientHello with the name of nobody."""
    name = f"{label(r)}.{label(r)}.example".encode()
    sni = number(len(name) + 3, 2) + b"\0" + number(len(name), 2) + name
    extensions = (
        b"\0\0"
        + number(len(sni), 2)
        + sni
        + b"\0\x0a\0\6\0\4\0\x1d\0\x17"
        + b"\0\x2b\0\5\4\3\4\3\3"
        + b"\0\x0d\0\6\0\4\4\3\x08\4"
    )
    suites = b"\x13\1\x13\2\x13\3\xc0\x2b\xc0\x2f"
    body = (
        b"\3\3"
        + r.randbytes(32)
        + b"\x20"
        + r.randbytes(32)
        + number(len(suites), 2)
        + suites
        + b"\1\0"
        + number(len(extensions), 2)
        + extensions
    )
    shake = b"\1" + number(len(body), 3) + body
    return b"\x16\3\1" + number(len(shake), 2) + shake


def tls(r: Random) -> Flow:
    """TLS with the name of nobody."""
    sent = [(True, tls_hello(r)), (False, b"\x16\3\3\0\x7a\2\0\0\x76\3\3" + r.randbytes(116))]
    sent += talk(
        r,
        8,
        lambda at, up: (lambda body: b"\x17\3\3" + number(len(body), 2) + body)(
            r.randbytes(r.randint(30, 1200))
        ),
    )
    return Flow(TCP, r.choice((443, 8443, 993)), 20 * MS, sent)


def ssh(r: Random) -> Flow:
    """SSH: both banners, then what is encrypted."""
    sent = [
        (True, f"SSH-2.0-{label(r)}_9.{r.randrange(9)}\r\n".encode()),
        (False, f"SSH-2.0-{label(r)}_8.{r.randrange(9)}\r\n".encode()),
    ]
    return Flow(
        TCP, 22, 20 * MS, sent + talk(r, 8, lambda at, up: r.randbytes(r.randint(36, 1200)))
    )


def mqtt(r: Random) -> Flow:
    """MQTT: connect, acknowledge, publish."""
    name = label(r).encode()
    connect = b"\0\4MQTT\4\2\0\x3c" + number(len(name), 2) + name
    sent = [(True, bytes((0x10, len(connect))) + connect), (False, b"\x20\2\0\0")]
    sent += talk(r, 6, lambda at, up: b"\x30\x2a\0\4" + r.randbytes(40))
    return Flow(TCP, 1883, 500 * MS, sent)


def torrent(r: Random) -> Flow:
    """BitTorrent over TCP: both handshakes, then pieces."""
    hello = b"\x13BitTorrent protocol" + bytes(8)
    sent = [(True, hello + r.randbytes(40)), (False, hello + r.randbytes(40))]
    sent += talk(
        r,
        8,
        lambda at, up: (lambda body: number(len(body), 4) + body)(
            b"\7" + r.randbytes(r.randint(20, 1200))
        ),
    )
    return Flow(TCP, high_port(r), 20 * MS, sent)


def rtmp(r: Random) -> Flow:
    """RTMP: the handshake of streaming."""
    sent = [(True, b"\3" + r.randbytes(1400)), (False, b"\3" + r.randbytes(1400))]
    return Flow(TCP, 1935, 30 * MS, sent + talk(r, 6, lambda at, up: b"\3" + r.randbytes(600)))


#: Kind -> maker. The order decides nothing: each flow is seeded by its kind's name and number.
MAKERS: dict[str, Maker] = {
    "random octets of random sizes": random_sizes,
    "random octets of one size": random_one_size,
    "random octets in the cadence of voice": voice_cadence,
    "random octets behind RTP's first two": rtp_first_octet,
    "a counter and random octets": counted_octets,
    "random octets over TCP": tcp_random,
    "random octets over TCP, framed as RFC 4571": tcp_framed,
    "DNS": dns,
    "mDNS, LLMNR": multicast_names,
    "DNSCrypt": dnscrypt,
    "NTP": ntp,
    "QUIC, short headers alone": quic_short,
    "QUIC of a version of nobody": quic_strange,
    "WireGuard": wireguard,
    "WireGuard from its middle": wireguard_middle,
    "DTLS of a VPN": dtls_vpn,
    "DTLS of a VPN from its middle": dtls_middle,
    "OpenVPN": openvpn,
    "ESP in UDP": ipsec,
    "IKE": ike,
    "IKE after its first answer": ike_session,
    "JSON-RPC over UDP": json_calls,
    "XML over UDP": xml_messages,
    "messages of a session, its UUID before each": session_messages,
    "L2TP": l2tp,
    "Source engine": source_engine,
    "Quake III": quake,
    "RakNet": raknet,
    "ENet": enet,
    "KCP": kcp,
    "BitTorrent uTP": utp,
    "BitTorrent DHT": dht,
    "BitTorrent tracker": tracker,
    "BitTorrent over TCP": torrent,
    "STUN keep-alives": stun_keepalive,
    "classic STUN": stun_classic,
    "STUN indications": stun_indications,
    "HTTP": http,
    "HTTP on SIP's port": http_on_sip_port,
    "SSDP": ssdp,
    "syslog": syslog,
    "SNMP": snmp,
    "RADIUS": radius,
    "TFTP": tftp,
    "CoAP": coap,
    "NetFlow, IPFIX": netflow,
    "GTP-U echo": gtp_echo,
    "MPEG transport stream": transport_stream,
    "television in RTP": television,
    "TLS": tls,
    "SSH": ssh,
    "MQTT": mqtt,
    "RTMP": rtmp,
}
