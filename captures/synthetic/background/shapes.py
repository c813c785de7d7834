# SPDX-License-Identifier: BSD-3-Clause
"""Shapes that any protocol may have: types and lengths, counters, echoes, and disguises."""

from __future__ import annotations

from random import Random

from midcall.captures.synthetic.background.flow import (
    Maker,
    Session,
    little,
    number,
    repeated,
    sized,
    some,
)


def elements(r: Random, at: int, up: bool, s: Session) -> bytes:
    """Elements of type, length and value."""
    return b"".join(sized(some(r, 1, 20), r.randbytes(1)) for _ in range(r.randint(1, 6)))


def small_first(r: Random, at: int, up: bool, s: Session) -> bytes:
    """Elements of type, length and value, the low octet first."""
    values = [some(r, 1, 20) for _ in range(r.randint(1, 6))]
    return b"".join(r.randbytes(1) + little(len(v), 2) + v for v in values)


def sized_type(r: Random, at: int, up: bool, s: Session) -> bytes:
    """A length and a type, the low octets first, then content."""
    body = some(r, 8, 200)
    return little(len(body) + 2, 2) + little(r.randint(0, 40), 2) + body


MAKERS: dict[str, Maker] = {
    "elements of type, length, value": repeated(elements, gap=50),
    "elements, the low octet first": repeated(small_first, gap=50),
    "a type, the size of all": repeated(
        lambda r, at, up, s: sized(some(r, 8, 200), number(r.randint(0, 40), 2), more=4), gap=50
    ),
    "a size and a type, the low octet first": repeated(sized_type, gap=50),
    "Protocol Buffers": repeated(
        lambda r, at, up, s: (
            b"\x08" + bytes((r.randint(1, 20), 18, 40)) + r.randbytes(40) + b"\x18\1"
        )
    ),
    "MessagePack": repeated(
        lambda r, at, up, s: b"\x83\xa2id" + bytes((at & 127,)) + b"\xa1d\xc4\x20" + r.randbytes(32)
    ),
    "three octets with a counter": repeated(lambda r, at, up, s: bytes((3, at & 255, 0)), gap=500),
    "eight octets with a counter": repeated(lambda r, at, up, s: number(at, 4) + r.randbytes(4)),
    "one octet": repeated(lambda r, at, up, s: b"\0", gap=500),
    "four octets": repeated(lambda r, at, up, s: bytes(4), gap=500),
    "a game's two counters": repeated(
        lambda r, at, up, s: little(at, 2) + little(at, 2) + r.randbytes(5) + some(r, 8, 400),
        gap=16,
    ),
    "a game's number and stamp": repeated(
        lambda r, at, up, s: b"\x80\1" + number(at, 2) + number(33 * at, 4) + some(r, 8, 400),
        gap=33,
    ),
    "a game's heartbeat": repeated(
        lambda r, at, up, s: b"\1" + number(at, 4) + number(100 * at, 8), gap=100
    ),
    "a disguise as SRTP": repeated(
        lambda r, at, up, s: b"\xe4\xa8" + number(s.start + at, 2) + some(r, 20, 1200), gap=10
    ),
    "a disguise as video of WeChat": repeated(
        lambda r, at, up, s: (
            b"\xa1\x08"
            + number(s.start + at, 4)
            + b"\0\x10\x11\x18\x30\x22\x30"
            + some(r, 20, 1200)
        ),
        gap=10,
    ),
    "a disguise as DTLS": repeated(
        lambda r, at, up, s: (
            b"\x17\xfe\xfd\0\1\0\0" + number(at, 4) + number(40, 2) + some(r, 20, 1200)
        )
    ),
    "a disguise as uTP": repeated(lambda r, at, up, s: b"\1\0" + s.ours[:2] + some(r, 20, 1200)),
    "DTLS with a connection id": repeated(
        lambda r, at, up, s: sized(
            r.randbytes(50), b"\x19\xfe\xfd\0\1" + number(at, 6) + s.ours[:8]
        ),
        5684,
    ),
}
