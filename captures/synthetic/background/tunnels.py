# SPDX-License-Identifier: BSD-3-Clause
"""VPN and QUIC, whole and from their middle."""

from __future__ import annotations

from random import Random

from midcall.captures.packets.numbers import UDP
from midcall.captures.synthetic.background.flow import (
    MS,
    Flow,
    Maker,
    high_port,
    label,
    little,
    number,
    talk,
)
from midcall.captures.wire import dtls
from midcall.captures.wire.tls import hello_body


def quic_short(r: Random) -> Flow:
    """QUIC from its middle: short headers alone."""
    ident = r.randbytes(8)

    def message(at: int, up: bool) -> bytes:
        size = r.choice((27, 33, 41)) if up else r.choice((600, 1220, 1250, 1350))
        return bytes((0x40 | r.randrange(64),)) + (b"" if up else ident) + r.randbytes(size)

    return Flow(UDP, 443, 8 * MS, talk(r, 20, message))


def quic_strange(r: Random) -> Flow:
    """QUIC's long header with a reserved version (RFC 9000, 15: 0x?a?a?a?a)."""
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


def encrypted(r: Random, at: int) -> bytes:
    """Return a record of application data; at: its sequence number."""
    return dtls.record(23, at, r.randbytes(r.randint(40, 1300)), epoch=1)


def dtls_hello(r: Random, cookie: bytes) -> bytes:
    """Return a ClientHello without use_srtp: a VPN's."""
    suites = b"\xc0\x2b\xc0\x2f\x00\x9e\xc0\x30\x00\x35"
    extensions = b"\x00\x0a\0\4\0\2\0\x17" + b"\x00\x0d\0\4\0\2\4\3" + b"\x00\x17\0\0"
    body = hello_body(r.randbytes(32), suites, extensions, version=dtls.DTLS12, cookie=cookie)
    turn = 1 if cookie else 0
    return dtls.record(22, turn, dtls.handshake(1, turn, body))


def dtls_vpn(r: Random) -> Flow:
    """DTLS without use_srtp: hellos, a cookie, then data."""
    cookie = r.randbytes(20)
    verify = b"\3\0\0\x17\0\0\0\0\0\0\0\x17\xfe\xff\x14" + cookie
    sent = [
        (True, dtls_hello(r, b"")),
        (False, dtls.record(22, 0, verify)),
        (True, dtls_hello(r, cookie)),
    ]
    sent += talk(r, 14, lambda at, up: encrypted(r, at))
    return Flow(UDP, r.choice((443, 4433, high_port(r))), 20 * MS, sent)


def dtls_middle(r: Random) -> Flow:
    """DTLS from its middle: records of data alone."""
    first = r.randint(1, 1 << 30)
    sent = talk(r, 16, lambda at, up: encrypted(r, first + at))
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
        member = "method" if up else "result"
        text = f'{{"jsonrpc":"2.0","id":{at + 100},"{member}":"{label(r)}"}}'
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


#: Kind -> maker.
MAKERS: dict[str, Maker] = {
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
}
