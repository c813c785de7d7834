# SPDX-License-Identifier: GPL-2.0-or-later
"""Games: small UDP packets at a steady rate, which by their sizes alone look like voice."""

from __future__ import annotations

import struct

from midcall.captures.synthetic.scene import Scene, Truth
from midcall.captures.wire import stun
from midcall.captures.wire.host import phone, server
from midcall.captures.wire.seeded import MS, SECOND


def shooter(scene: Scene, seconds: int) -> None:
    """Play a shooter: a server query, then sequence numbers and state, 30 a second each way."""
    dice = scene.dice.child("shooter")
    truth = Truth("none", "other", "game: connectionless query, then counters and random state")
    flow = scene.udp(phone(0x1201), 27005, server(0x0C00), 27015, truth)
    at = scene.epoch
    flow.up(at, b"\xff\xff\xff\xffTSource Engine Query\0")
    flow.down(at + 30 * MS, b"\xff\xff\xff\xffI\x11" + dice.printable(40) + b"\0" + dice.octets(12))
    for number in range(seconds * 30):
        start = at + 200 * MS + number * 33 * MS
        head = struct.pack("<II", number + 1, max(number - 2, 0))
        flow.up(start, head + dice.octets(dice.number(28, 70)))
        flow.down(start + 12 * MS, head + dice.octets(dice.number(60, 180)))


def matchmaking(scene: Scene) -> None:
    """Query three STUN servers for the own address and keep the mapping open; no call follows."""
    dice, client = scene.dice.child("matchmaking"), phone(0x1202)
    port = dice.number(49152, 65535)
    for number in range(3):
        truth = Truth("none", "other", "game: bare STUN binding requests as keep-alives, no media")
        flow = scene.udp(client, port, server(0x0C10 + number), 3478, truth)
        for beat in range(4):
            start = scene.epoch + beat * 5 * SECOND + number * 20 * MS
            transaction = dice.octets(12)
            mapped = stun.xor_address(stun.XOR_MAPPED, client, port, transaction)
            flow.up(start, stun.message(stun.BINDING, transaction, []))
            reply = stun.message(stun.BINDING | stun.SUCCESS, transaction, [mapped])
            flow.down(start + 25 * MS, reply)


def console(scene: Scene, seconds: int) -> None:
    """Play on a console: random payloads of voice-like sizes every 20 ms, first bits 10."""
    dice = scene.dice.child("console")
    truth = Truth("none", "other", "game: random payloads whose first bits are 10, as RTP's are")
    flow = scene.udp(phone(0x1203), 3074, server(0x0C20), 3074, truth)
    for number in range(seconds * 50):
        start = scene.epoch + number * 20 * MS
        for up in (True, False):
            first = bytes([0x80 | dice.number(0, 63)])
            flow.either(start + (0 if up else 7 * MS), up, first + dice.octets(dice.number(40, 90)))
