# SPDX-License-Identifier: BSD-3-Clause
"""Games and peer to peer."""

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
    answer = (
        b"d1:rd2:id20:"
        + r.randbytes(20)
        + b"5:nodes208:"
        + r.randbytes(208)
        + b"e1:t2:"
        + mark
        + b"1:y1:re"
    )
    return Flow(UDP, high_port(r), 50 * MS, [(True, asked), (False, answer)])


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


#: Kind -> maker.
MAKERS: dict[str, Maker] = {
    "Source engine": source_engine,
    "Quake III": quake,
    "RakNet": raknet,
    "ENet": enet,
    "KCP": kcp,
    "BitTorrent uTP": utp,
    "BitTorrent DHT": dht,
    "BitTorrent tracker": tracker,
}
