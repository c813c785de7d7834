# SPDX-License-Identifier: BSD-3-Clause
"""Protocols of networks: routing, clocks, overlays, mobile cores, directories."""

from __future__ import annotations

from random import Random

from midcall.captures.synthetic.background.flow import (
    Maker,
    Session,
    high_port,
    label,
    number,
    repeated,
    sized,
    some,
)


def pair(s: Session, up: bool, size: int) -> bytes:
    """Return both ends' ids, the sender's first."""
    return s.ours[:size] + s.theirs[:size] if up else s.theirs[:size] + s.ours[:size]


def routes(r: Random, at: int, up: bool, s: Session) -> bytes:
    """RIP version 2: a response of some routes."""
    count = r.randint(1, 20)
    return b"\2\2\0\0" + b"".join(
        b"\0\2\0\0" + r.randbytes(4) + b"\xff\xff\xff\0" + bytes(4) + number(r.randint(1, 16), 4)
        for _ in range(count)
    )


def clock(r: Random, at: int, up: bool, s: Session) -> bytes:
    """PTP version 2: sync, delay request, follow-up, delay response."""
    head = bytes((r.choice((0, 1, 8, 9)), 2)) + b"\0\x2c" + bytes(16) + s.ours[:8]
    return head + b"\0\1" + number(at, 2) + b"\0\x7f" + r.randbytes(10)


def lease(r: Random, at: int, up: bool, s: Session) -> bytes:
    """DHCP: a message with its magic cookie."""
    head = (b"\1" if up else b"\2") + b"\1\6\0" + s.ours[:4] + bytes(20) + s.theirs[:6]
    return head + bytes(202) + b"\x63\x82\x53\x63\x35\1\1\xff"


def tunnel_control(r: Random, at: int, up: bool, s: Session) -> bytes:
    """GTPv2-C: session requests and answers."""
    body = some(r, 20, 200)
    head = s.ours[:4] + number(at, 3) + b"\0"
    return sized(head + body, b"\x48" + bytes((r.choice((32, 33, 34, 35)),)))


def session_control(r: Random, at: int, up: bool, s: Session) -> bytes:
    """PFCP: session messages."""
    head = s.ours[:8] + number(at, 3) + b"\0"
    return sized(head + some(r, 20, 200), b"\x21" + bytes((r.choice((50, 51, 52)),)))


def heartbeat(r: Random, at: int, up: bool, s: Session) -> bytes:
    """BFD: a control packet."""
    return b"\x20\xc0\x03\x18" + pair(s, up, 4) + number(300_000, 4) * 3


MAKERS: dict[str, Maker] = {
    "RIP": repeated(routes, 520),
    "PTP": repeated(clock, 319),
    "BFD": repeated(heartbeat, 3784),
    "HSRP": repeated(lambda r, at, up, s: bytes((0, 0, 16, 3, 10, 100, 1, 0)) + s.ours[:12], 1985),
    "DHCP": repeated(lease, 67),
    "GTPv2-C": repeated(tunnel_control, 2123),
    "PFCP": repeated(session_control, 8805),
    "NetBIOS names": repeated(
        lambda r, at, up, s: r.randbytes(2) + b"\1\x10\0\1" + bytes(6) + b" CKAAAAAA\0\0!\0\1", 137
    ),
    "NetBIOS datagrams": repeated(
        lambda r, at, up, s: (
            b"\x11\2" + r.randbytes(6) + b"\0\x8a\0\xbb\0\0\x20" + some(r, 90, 190)
        ),
        138,
    ),
    "Kerberos": repeated(
        lambda r, at, up, s: b"\x6a\x81\xdc\x30\x81\xd9\xa1\3\2\1\5\xa2" + some(r, 150, 220), 88
    ),
    "CLDAP": repeated(
        lambda r, at, up, s: b"\x30\x84\0\0\0\x90\2\1" + bytes((at & 127,)) + some(r, 90, 140), 389
    ),
    "sFlow": repeated(
        lambda r, at, up, s: b"\0\0\0\5\0\0\0\1" + s.ours[:8] + number(at, 4) + some(r, 100, 1300),
        6343,
    ),
    "IPMI": repeated(
        lambda r, at, up, s: b"\6\0\xff\7\6\xc0" + number(at, 4) + s.ours[:4] + r.randbytes(34), 623
    ),
    "CAPWAP": repeated(lambda r, at, up, s: b"\0\x20\3\x20\0\0\0\0" + some(r, 60, 300), 5247),
    "GRE in UDP": repeated(
        lambda r, at, up, s: b"\0\0\x08\0" + sized(r.randbytes(80), b"E\0"), 4754
    ),
    "L2TP version 3": repeated(
        lambda r, at, up, s: b"\0\3\0\0" + s.ours[:4] + some(r, 60, 300), 1701
    ),
    "Teredo": repeated(
        lambda r, at, up, s: (
            b"\x60\0\0\0\0\0\x3b\x15\x20\1\0\0" + s.ours[:12] + b"\x20\1" + s.theirs
        ),
        3544,
    ),
    "Tailscale's discovery": repeated(
        lambda r, at, up, s: (
            b"TS\xf0\x9f\x92\xac" + pair(s, up, 16) + r.randbytes(24) + some(r, 32, 90)
        ),
        41641,
    ),
    "ZeroTier": repeated(
        lambda r, at, up, s: (
            r.randbytes(8) + pair(s, up, 5) + b"\x08" + r.randbytes(8) + some(r, 20, 900)
        ),
        9993,
    ),
    "Nebula": repeated(
        lambda r, at, up, s: b"\x11\0\0\0" + pair(s, up, 4)[:4] + number(at, 8) + some(r, 40, 1200),
        4242,
    ),
    "n2n": repeated(
        lambda r, at, up, s: (
            b"\3\2\0\3" + b"community" + bytes(11) + pair(s, up, 6) + some(r, 20, 900)
        ),
        7654,
    ),
    "tinc": repeated(lambda r, at, up, s: number(at, 4) + some(r, 60, 1300), 655, 20),
    "OpenVPN, data of version 1": repeated(
        lambda r, at, up, s: b"\x30" + some(r, 60, 1300),
        lambda r: r.choice((1194, high_port(r))),
        20,
    ),
    "Shadowsocks": repeated(lambda r, at, up, s: some(r, 60, 1300), high_port, 30),
    "memcached": repeated(
        lambda r, at, up, s: number(at, 2) + b"\0\0\0\1\0\0get " + label(r).encode() + b"\r\n",
        11211,
    ),
}
