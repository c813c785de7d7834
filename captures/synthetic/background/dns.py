# SPDX-License-Identifier: BSD-3-Clause
"""Crafted flows of name resolution (DNS, mDNS, LLMNR, DNSCrypt) and of time (NTP)."""

from __future__ import annotations

from random import Random

from midcall.captures.packets.numbers import UDP
from midcall.captures.synthetic.background.flow import MS, Flow, Maker, high_port, label, number


def question(r: Random) -> bytes:
    """Return the question section of a DNS query: the A record of a random name."""
    parts = [label(r).encode() for _ in range(r.randint(1, 3))] + [b"example"]
    return b"".join(bytes((len(part),)) + part for part in parts) + b"\0\0\1\0\1"


def dns(r: Random) -> Flow:
    """Return a DNS query and its response."""
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
    """Return three mDNS or LLMNR queries without a response."""
    return Flow(
        UDP,
        r.choice((5353, 5355)),
        1000 * MS,
        [(True, b"\0\0\0\0\0\1\0\0\0\0\0\0" + question(r)) for _ in range(3)],
    )


def dnscrypt(r: Random) -> Flow:
    """Return DNSCrypt queries and responses in turn.

    A query begins with the client's magic, public key and nonce. A response begins with the
    resolver's magic and a nonce. Then follow a tag of 16 octets and the ciphertext, which is padded
    to a multiple of 64 octets.
    """
    magic, key = r.randbytes(8), r.randbytes(32)

    def message(up: bool) -> bytes:
        body = r.randbytes(64 * r.randint(4, 8) + 16)
        head = magic + key + r.randbytes(12) if up else b"r6fnvWj8" + r.randbytes(24)
        return head + body

    sent = [(turn % 2 == 0, message(turn % 2 == 0)) for turn in range(2 * r.randint(1, 4))]
    return Flow(UDP, r.choice((443, 5353, 8443, high_port(r))), 40 * MS, sent)


def ntp(r: Random) -> Flow:
    """Return an NTP request and its response."""
    return Flow(
        UDP,
        123,
        30 * MS,
        [(True, b"\x23" + bytes(39) + r.randbytes(8)), (False, b"\x24\2\6\xe9" + r.randbytes(44))],
    )


#: Kind -> maker.
MAKERS: dict[str, Maker] = {
    "DNS": dns,
    "mDNS, LLMNR": multicast_names,
    "DNSCrypt": dnscrypt,
    "NTP": ntp,
}
