# SPDX-License-Identifier: BSD-3-Clause
"""Things of a house or a plant: cameras, lamps, plugs, controllers, stage technique."""

from __future__ import annotations

from random import Random

from midcall.captures.packets.numbers import TCP
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


def lamp(r: Random, at: int, up: bool, s: Session) -> bytes:
    """LIFX: a header of 36 octets, then a state."""
    head = little(48, 2) + b"\0\x34" + s.ours[:4] + s.theirs[:6] + bytes(8) + bytes((at & 255,))
    return head + bytes(8) + little(r.choice((2, 3, 101, 107)), 2) + bytes(2) + r.randbytes(12)


def sealed(r: Random, at: int, up: bool, s: Session) -> bytes:
    """MiIO: a header with the size of all, a device, a stamp, a digest, then blocks of AES."""
    body = s.ours[:4] + number(s.start + at, 4) + r.randbytes(16 + 16 * r.randint(1, 10))
    return sized(bytes(4) + body, b"!1", more=4)


def picture(r: Random, at: int, up: bool, s: Session) -> bytes:
    """A camera's data over PPPP: F1 D0, a length, a channel, a number."""
    return sized(b"\xd1\0" + number(at, 2) + some(r, 20, 1024), b"\xf1\xd0")


def switch(r: Random, at: int, up: bool, s: Session) -> bytes:
    """BACnet/IP: a function, the size of all, a request."""
    return sized(b"\1\4\0\5" + bytes((at & 255,)) + b"\x0c\x0c" + r.randbytes(8), b"\x81\n", more=4)


MAKERS: dict[str, Maker] = {
    "MiIO": repeated(sealed, 54321),
    "Tuya": repeated(
        lambda r, at, up, s: b"\0\0U\xaa" + number(at, 4) + b"\0\0\0\x13\0\0\0d" + r.randbytes(100),
        6667,
    ),
    "LIFX": repeated(lamp, 56700),
    "smart plug": repeated(
        lambda r, at, up, s: bytes(b ^ 0xAB for b in b'{"system":{"get_sysinfo":{}}}'), 9999
    ),
    "a camera's picture": repeated(picture, lambda r: r.choice((32108, high_port(r))), 15, 60),
    "a camera's keep-alive": repeated(
        lambda r, at, up, s: b"\xf1\xe0\0\0" if up else b"\xf1\xe1\0\0", 32108, 500
    ),
    "BACnet": repeated(switch, 47808),
    "KNX": repeated(
        lambda r, at, up, s: sized(b"\4\x15" + r.randbytes(14), b"\6\x10\4\x20", more=6), 3671
    ),
    "DNP3": repeated(lambda r, at, up, s: b"\5\x64\5\xc9" + s.ours[:4] + r.randbytes(2), 20000),
    "Wake on LAN": repeated(lambda r, at, up, s: b"\xff" * 6 + s.ours[:6] * 16, 9),
    "Art-Net": repeated(
        lambda r, at, up, s: (
            b"Art-Net\0\0P\0\x0e" + bytes((at & 255, 0, 0, 0, 2, 0)) + r.randbytes(512)
        ),
        6454,
        25,
    ),
    "OSC": repeated(lambda r, at, up, s: b"/mixer/fader\0\0\0\0,f\0\0" + r.randbytes(4), 8000, 25),
    "S7 communication": repeated(
        lambda r, at, up, s: sized(
            b"\2\xf0\x80\x32\1\0\0" + number(at, 2) + b"\0\x0e\0\0\4\1" + r.randbytes(12),
            b"\3\0",
            more=4,
        ),
        102,
        proto=TCP,
    ),
    "MMS": repeated(
        lambda r, at, up, s: sized(b"\2\xf0\x80\1\0\1\0a" + r.randbytes(40), b"\3\0", more=4),
        102,
        proto=TCP,
    ),
}
