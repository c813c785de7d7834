# SPDX-License-Identifier: BSD-3-Clause
"""Random octets, and octets that only look like something."""

from __future__ import annotations

from random import Random

from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.synthetic.background.flow import (
    MS,
    Flow,
    Maker,
    high_port,
    little,
    number,
    talk,
)


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
    """A counter and random octets: an unknown game."""
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


#: Kind -> maker.
MAKERS: dict[str, Maker] = {
    "random octets of random sizes": random_sizes,
    "random octets of one size": random_one_size,
    "random octets in the cadence of voice": voice_cadence,
    "random octets behind RTP's first two": rtp_first_octet,
    "a counter and random octets": counted_octets,
    "random octets over TCP": tcp_random,
    "random octets over TCP, framed as RFC 4571": tcp_framed,
}
