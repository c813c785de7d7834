# SPDX-License-Identifier: BSD-3-Clause
"""STUN without a call."""

from __future__ import annotations

from random import Random

from midcall.captures.packets.numbers import UDP
from midcall.captures.synthetic.background.flow import MS, Flow, Maker, high_port, number


def stun(kind: int, body: bytes, ident: bytes) -> bytes:
    """Return a STUN message; 16 octets of transaction id, with or without the cookie."""
    return number(kind, 2) + number(len(body), 2) + ident + body


def stun_keepalive(r: Random) -> Flow:
    """Binding requests without attributes, and their answers, which keep a NAT mapping open."""
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
    attributes = b"\0\1\0\x08\0\1" + r.randbytes(6) + b"\0\4\0\x08\0\1" + r.randbytes(6)
    return Flow(
        UDP,
        3478,
        30 * MS,
        [(True, stun(1, b"\0\3\0\4\0\0\0\0", ident)), (False, stun(0x101, attributes, ident))],
    )


def stun_indications(r: Random) -> Flow:
    """Binding indications alone (RFC 8489, 15.1)."""
    return Flow(
        UDP,
        high_port(r),
        15_000 * MS,
        [(True, stun(0x11, b"", b"\x21\x12\xa4\x42" + r.randbytes(12))) for _ in range(4)],
    )


#: Kind -> maker.
MAKERS: dict[str, Maker] = {
    "STUN keep-alives": stun_keepalive,
    "classic STUN": stun_classic,
    "STUN indications": stun_indications,
}
