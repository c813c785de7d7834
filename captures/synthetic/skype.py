# SPDX-License-Identifier: GPL-2.0-or-later
"""Skype: calls of two generations, and presence traffic that must not be classified as a call.

2017: ICE with Microsoft's attributes, SRTP payload type 104 every 20 ms with one-byte extensions.
Classic (to 2015-2017): one UDP port; bytes 0-1 an id, byte 2 a function: 02 a request, low nibble
7 a refusal with the same id, 5 an acknowledgement; in calls the nibble D (voice) prevails and the
other bytes are as random as ciphertext (Bonfiglio et al., SIGCOMM 2007).
"""

from __future__ import annotations

import struct

from midcall.captures.synthetic.dns import lookup
from midcall.captures.synthetic.plan import RFC8489, Gating, Plan
from midcall.captures.synthetic.scene import Scene, Sent, Truth, Udp
from midcall.captures.synthetic.speech import converse, report
from midcall.captures.synthetic.tls import exchange, handshake
from midcall.captures.synthetic.voice import Talker, talk
from midcall.captures.wire import stun
from midcall.captures.wire.host import Host, phone, server
from midcall.captures.wire.rtp import Stream
from midcall.captures.wire.seeded import MS, SECOND, SeededRandom

CANDIDATE_ID, VERSION = 0x8054, 0x8070  # [MS-ICE2]
VOICE, EXTENSION = 104, 0xBEDE
REQUEST, ACKNOWLEDGED, REFUSED, RESENT, CARRIED = 0x02, 0x05, 0x07, 0x03, 0x0D


def call_2017(scene: Scene, call: str, seconds: float) -> None:
    """Play a voice call of the 2017 client between two peers."""
    dice = scene.dice.child(call)
    client, peer, at = phone(0x0B01), server(0x0400), scene.epoch + SECOND
    sign_in(scene, scene.epoch, "api.skype.com")
    truth = Truth(
        "skype", "media", "STUN attributes 8054 and 8070, then RTP payload type 104, BEDE", call
    )
    flow = scene.udp(client, dice.number(49152, 65535), peer, 60642, truth)
    pairs = check(flow, dice, at)
    streams = tuple(
        Stream(dice.child(side), VOICE, 320, EXTENSION, one_byte) for side in ("up", "down")
    )
    both, talker = (streams[0], streams[1]), Talker(20, (82, 112), (68, 80), 3)
    talking = at + 350 * MS
    converse(flow, both, (talker, talker), talking, seconds)
    end = talking + int(seconds * SECOND)
    report(flow, both, talking + 200 * MS, end, 1100 * MS, (200, 201), 6, 105)
    for again in range(talking + 2 * SECOND, end, 2500 * MS):
        pairs += check(flow, dice.child(str(again)), again)
    scene.plans.append(
        Plan(
            call,
            "skype",
            "audio",
            [flow],
            gates=[Gating(flow, [flow], "transaction", pairs[:2])],
            alternatives=[(flow, "peer")],
            timer_s=39.5,
            timer_source=f"{RFC8489} (ICE, which this client follows)",
            consent_s=30.0,
        )
    )


def one_byte(number: int) -> bytes:
    """Return one-byte header extensions (RFC 8285): id 1, an audio level and a counter."""
    return struct.pack(">BBH", 0x12, 0x73, (0x28 + 16 * number) & 0xFFFF)


def check(flow: Udp, dice: SeededRandom, at: int) -> list[tuple[Sent, Sent]]:
    """Check connectivity from both sides, with Microsoft's attributes."""
    pairs, key = [], dice.octets(24)
    names = (b"gpsk:zWyk", b"zWyk:gpsk")
    for up, start, role in ((False, at, stun.ICE_CONTROLLED), (True, at + 62 * MS, 0)):
        transaction = dice.octets(12)
        priority = (stun.PRIORITY, bytes.fromhex("6efffeff"))
        roles = [(role or stun.ICE_CONTROLLING, bytes(4) + dice.octets(4))]
        use = [(stun.USE_CANDIDATE, b"")] if up else []
        marks = [(CANDIDATE_ID, b"1\0\0\0"), (VERSION, bytes.fromhex("00000003"))]
        asked = flow.either(
            start,
            up,
            stun.message(
                stun.BINDING,
                transaction,
                [(stun.USERNAME, names[up]), priority, *use, *roles, *marks],
                key,
                True,
            ),
        )
        ends = (flow.target, flow.target_port), (flow.source, flow.source_port)
        mapped = stun.xor_address(stun.XOR_MAPPED, *ends[up], transaction)
        reply = stun.message(
            stun.BINDING | stun.SUCCESS, transaction, [mapped, marks[1]], key, True
        )
        pairs.append((asked, flow.either(start + (100 if up else 1) * MS, not up, reply)))
    return pairs


def call_classic(scene: Scene, call: str, seconds: float) -> None:
    """Play a voice call of the classic client between two peers."""
    dice = scene.dice.child(call)
    at = scene.epoch + 4 * SECOND
    presence(scene, 24)
    client, port = phone(0x0B01), listening(scene)
    truth = Truth(
        "skype",
        "media",
        "byte 2 is 02, refused and answered with the same ids, then low nibble D",
        call,
    )
    flow = scene.udp(client, port, server(0x0410), 33412, truth)
    pairs = []
    for number in range(4):
        start = at + number * 130 * MS
        ident = dice.octets(2)
        asked = flow.up(start, ident + bytes([REQUEST]) + dice.octets(dice.number(20, 45)))
        kind = REFUSED if number == 0 else ACKNOWLEDGED
        answered = flow.down(start + 70 * MS, ident + bytes([high(dice) | kind]) + dice.octets(8))
        pairs.append((asked, answered))
    for up in (True, False):
        talker = Talker(20, (90, 140), (70, 90), 2, 4000)
        own = dice.child(f"voice {up}")
        for frame in talk(own.child("talk"), talker, at + 700 * MS, seconds):
            body = own.octets(2) + bytes([high(own) | CARRIED]) + own.octets(frame.size - 3)
            flow.either(frame.time, up, body)
    for number in range(int(seconds)):
        start, ident = at + 900 * MS + number * SECOND, dice.octets(2)
        flow.up(start, ident + bytes([REQUEST]) + dice.octets(18))
        flow.down(start + 71 * MS, ident + bytes([high(dice) | ACKNOWLEDGED]) + dice.octets(8))
    scene.plans.append(
        Plan(
            call,
            "skype",
            "audio",
            [flow],
            gates=[Gating(flow, [flow], "request-reply", pairs)],
            alternatives=[(flow, "peer")],
        )
    )


def high(dice: SeededRandom) -> int:
    """Return the three bits of the function byte that carry no function."""
    return dice.number(0, 7) << 4


def listening(scene: Scene) -> int:
    """Return the one UDP port of the classic client."""
    return scene.dice.child("listening port").number(10_000, 30_000)


def presence(scene: Scene, peers: int) -> None:
    """Ask many supernodes from one port, five a second; one in six answers."""
    dice = scene.dice.child("presence")
    client, port = phone(0x0B01), listening(scene)
    counter = dice.number(0x1000, 0xE000)
    for number in range(peers):
        truth = Truth("skype", "messaging", "presence: one request, byte 2 is 02")
        node = server(0x0500 + number)
        flow = scene.udp(client, port, node, dice.number(40_000, 40_033), truth)
        at = scene.epoch + 300 * MS + number // 5 * SECOND + number % 5 * 120_000
        ident = struct.pack(">H", counter + 2 * number)
        flow.up(at, ident + bytes([REQUEST]) + dice.octets(dice.number(19, 34)))
        if number % 6 == 5:
            flow.down(at + 90 * MS, ident + bytes([high(dice) | REFUSED]) + dice.octets(8))


def sign_in(scene: Scene, at: int, name: str) -> None:
    """Sign in over TLS."""
    dice = scene.dice.child(f"sign in {name}")
    client: Host = phone(0x0B01)
    host = server(0x0480 + len(name))
    lookup(scene, at, client, name, host)
    truth = Truth("skype", "messaging", f"TLS server name {name}")
    flow = scene.tcp(client, dice.number(49152, 65535), host, 443, truth)
    ready = handshake(flow, at + 60 * MS, dice, name)
    flow.close(exchange(flow, ready, dice, 700, 2600) + 100 * MS)
