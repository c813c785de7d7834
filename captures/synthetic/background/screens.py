# SPDX-License-Identifier: BSD-3-Clause
"""Games, screens and streams: many packets in both directions, but no call."""

from __future__ import annotations

from random import Random

from midcall.captures.synthetic.background.flow import (
    Maker,
    Session,
    high_port,
    little,
    number,
    repeated,
    sized,
    some,
)


def stream(r: Random, at: int, up: bool, s: Session) -> bytes:
    """SRT: a number, a message's number, a stamp, a socket, then MPEG."""
    head = number((s.start + at) & 0x7FFFFFFF, 4) + b"\xe0" + number(at, 3)
    return head + number(20_000 * at, 4) + s.ours[:4] + b"G" + some(r, 100, 1315)


def room(r: Random, at: int, up: bool, s: Session) -> bytes:
    """Photon: a peer, a count, a stamp, a challenge, then a reliable command."""
    head = number(at & 15, 2) + b"\0\1" + number(50 * at, 4) + s.ours[:4]
    return head + b"\6\0\1\0" + number(42, 4) + number(at, 4) + r.randbytes(30)


MAKERS: dict[str, Maker] = {
    "SRT": repeated(stream, lambda r: r.choice((9000, high_port(r))), 5, 60),
    "Photon": repeated(room, lambda r: r.choice((5055, 5056, 5058)), 50, 60),
    "Steam's relay": repeated(
        lambda r, at, up, s: b"\x20" + s.ours[:8] + number(at, 2) + some(r, 30, 800),
        lambda r: r.randint(27015, 27060),
        20,
        80,
    ),
    "Steam's queries": repeated(
        lambda r, at, up, s: b"\xff" * 4 + r.choice((b"A", b"I", b"U", b"D")) + some(r, 4, 500),
        27015,
    ),
    "Unreal": repeated(
        lambda r, at, up, s: little(at << 14 | at, 4) + little(at, 4) + some(r, 20, 600),
        7777,
        16,
        80,
    ),
    "Minecraft": repeated(
        lambda r, at, up, s: (
            b"\x84" + little(at, 3) + b"\x60\3\x20" + little(at, 3) + some(r, 90, 110)
        ),
        19132,
    ),
    "Mosh": repeated(
        lambda r, at, up, s: number(at if up else (1 << 63) + at, 8) + some(r, 40, 200),
        lambda r: r.randint(60000, 61000),
        100,
    ),
    "RDP over UDP": repeated(
        lambda r, at, up, s: (
            number(at, 4) + b"\0\x40" + number(r.choice((4, 12)), 2) + some(r, 24, 1200)
        ),
        3389,
        20,
    ),
    "PCoIP": repeated(
        lambda r, at, up, s: (s.ours if up else s.theirs)[:4] + number(at, 4) + some(r, 40, 1200),
        4172,
    ),
    "a desktop over DTLS": repeated(
        lambda r, at, up, s: sized(some(r, 30, 1200), b"\x17\xfe\xfd\0\1" + number(at, 6)), 443, 20
    ),
}
