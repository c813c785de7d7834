# SPDX-License-Identifier: GPL-2.0-or-later
"""Viber: a call of the 2016 client, and its chat.

A session word, then a little-endian type: hello 0001 and reply 000C, probe pairs 0019/001A and
0009/000B, path probing 001E/001F/0020, hole punches 0003. Control has bit 80 set in byte 1; where
it is clear an RTP header starts at offset 2.
"""

from __future__ import annotations

import struct

from midcall.captures.synthetic.dns import lookup
from midcall.captures.synthetic.plan import Gating, Plan
from midcall.captures.synthetic.scene import Scene, Sent, Tcp, Truth, Udp
from midcall.captures.synthetic.speech import converse
from midcall.captures.synthetic.tls import exchange, handshake
from midcall.captures.synthetic.voice import Talker
from midcall.captures.wire.host import phone, server
from midcall.captures.wire.rtp import Stream
from midcall.captures.wire.seeded import MS, SECOND, SeededRandom

CALL_PORT, PROBE_PORT, CHAT_PORT = 7985, 7987, 4244
VOICE, EXTENSION = 107, 0xBEDE
HELLO, WELCOME, PUNCH, RTT, RTT_REPLY = 0x01, 0x0C, 0x03, 0x09, 0x0B
PATH, PATH_HEAD, PATH_REPLY = 0x1E, 0x1F, 0x20
KEEP, PROBE, PROBE_REPLY = 0x17, 0x19, 0x1A


def control(word: bytes, kind: int, body: bytes) -> bytes:
    """Return a control message: the session word with bit 80 of byte 1 set, type, body."""
    return bytes([word[0], word[1] | 0x80]) + struct.pack("<H", kind) + body


def call(scene: Scene, name: str, seconds: float) -> None:
    """Play a relayed voice call."""
    dice = scene.dice.child(name)
    client, relay, port = phone(0x0C01), server(0x0600), dice.number(40_000, 60_000)
    word = dice.octets(2)
    at = scene.epoch + SECOND
    chatting = chat(scene, scene.epoch, 2, client_chat=False)
    evidence = "hello 0001 and reply 000C of one session word, then RTP at offset 2, type 107"
    flow = scene.udp(client, port, relay, CALL_PORT, Truth("viber", "media", evidence, name))
    probe = scene.udp(
        client, port, relay, PROBE_PORT, Truth("viber", "setup", "probe pair 0019/001A", name)
    )
    pairs = [greet(flow, dice, word, at)]
    probe.up(at + 50_000, control(word, PROBE, dice.octets(30)))
    probe.down(at + 55 * MS, control(word, PROBE_REPLY, dice.octets(16)))
    for number in range(3):
        start = at + 20 * MS + number * SECOND
        measure(flow, dice, word, start, 2 if number == 0 else 8)
        pairs.append(greet(flow, dice, word, start + 500 * MS))
    punched = knock(scene, dice, name, word, port, at + SECOND)
    speak(flow, dice, word, at + 3500 * MS, seconds)
    setup: list[Udp] = [probe, *punched]
    scene.plans.append(
        Plan(
            name,
            "viber",
            "audio",
            [flow],
            setup=list(setup),
            signalling=[chatting],
            gates=[Gating(flow, [flow], "request-reply", pairs)],
            alternatives=[(flow, "relay")],
        )
    )


def greet(flow: Udp, dice: SeededRandom, word: bytes, at: int) -> tuple[Sent, Sent]:
    """Send a hello and its answer."""
    asked = flow.up(at, control(word, HELLO, b"\5\0" + dice.octets(130)))
    return asked, flow.down(at + 50 * MS, control(word, WELCOME, b"\1\0" + dice.octets(83)))


def measure(flow: Udp, dice: SeededRandom, word: bytes, at: int, count: int) -> None:
    """Measure the path: a head, a burst of 550 bytes, echoes; and one round trip."""
    flow.up(at, control(word, RTT, dice.octets(16)))
    flow.up(at + 200_000, control(word, PATH_HEAD, bytes(4) + struct.pack("<HH", 1, count)))
    filler = dice.octets(540)
    for number in range(count):
        body = struct.pack("<HHH", 1, number, 0) + filler
        flow.up(at + MS + number * 300_000, control(word, PATH, body))
        flow.down(at + 46 * MS + number * 400_000, control(word, PATH, body))
        echo = control(word, PATH_REPLY, struct.pack("<HHHH", 3, 0, 1, number) + dice.octets(8))
        flow.down(at + 54 * MS + number * 5 * MS, echo)
    flow.down(at + 44 * MS, control(word, RTT_REPLY, dice.octets(30)))


def knock(
    scene: Scene, dice: SeededRandom, name: str, word: bytes, port: int, at: int
) -> list[Udp]:
    """Knock on four ports of the peer, each every second, unanswered."""
    body, flows = dice.octets(12), []
    for number in range(4):
        truth = Truth("viber", "setup", "hole punches 0003 of 16 bytes, unanswered", name)
        flow = scene.udp(phone(0x0C01), port, server(0x0601), 37_299 + number, truth)
        for second in range(4):
            flow.up(at + second * SECOND + number * 120_000, control(word, PUNCH, body))
        flows.append(flow)
    return flows


def speak(flow: Udp, dice: SeededRandom, word: bytes, at: int, seconds: float) -> None:
    """Send voice both ways, a keep-alive every 360 ms and a clock exchange every second."""
    words = (bytes([word[0], word[1] & 0x7F]), bytes([word[0] ^ 0x6E, word[1] & 0x7F]))
    streams = tuple(
        Stream(dice.child(side), VOICE, 320, EXTENSION, level) for side in ("up", "down")
    )
    talker = Talker(20, (76, 124), (30, 70), 5, 6000)
    converse(
        flow,
        (streams[0], streams[1]),
        (talker, talker),
        at,
        seconds,
        lambda packet, up: words[not up] + packet,
    )
    end = at + int(seconds * SECOND)
    for start in range(at, end, 360 * MS):
        keep = struct.pack("<HH", 0xDDE0, 0)
        flow.up(start, control(words[0], KEEP, keep))
        flow.down(start + 60 * MS, control(words[1], KEEP, keep))
    for start in range(at, end, SECOND):
        body = dice.octets(17)
        flow.down(start, control(words[1], 0x06, body))
        flow.up(start + MS, control(words[0], 0x06, body))


def level(number: int) -> bytes:
    """Return one-byte header extensions: id 1, a varying level."""
    return struct.pack(">BBH", 0x10, 0xA0 + number % 32, 0x4800)


def chat(scene: Scene, at: int, seconds: int, client_chat: bool = True) -> Tcp:
    """Play the login and chat connection: a little-endian length that equals the payload's."""
    dice = scene.dice.child("viber chat")
    client, host = phone(0x0C01), server(0x0620)
    evidence = "TCP 4244, little-endian length first"
    flow = scene.tcp(
        client, dice.number(40_000, 60_000), host, CHAT_PORT, Truth("viber", "messaging", evidence)
    )
    at = flow.open(at, 150 * MS)
    for number in range(seconds * 2):
        start = at + number * 500 * MS
        flow.up(start, lengthed(dice, number, (66, 100)))
        flow.down(start + 155 * MS, lengthed(dice, number + 9, (66, 250)))
    if client_chat:
        stickers(scene, at + SECOND)
    return flow


def lengthed(dice: SeededRandom, number: int, sizes: tuple[int, int]) -> bytes:
    """Return a chat message: length, counter, ciphertext."""
    size = dice.number(*sizes)
    return struct.pack("<HHH", size, number, 0) + b"\0" + dice.octets(size - 7)


def stickers(scene: Scene, at: int) -> None:
    """Fetch stickers over TLS."""
    dice = scene.dice.child("stickers")
    client, host, name = phone(0x0C01), server(0x0621), "content.cdn.viber.com"
    lookup(scene, at, client, name, host)
    truth = Truth("viber", "messaging", f"TLS server name {name}")
    flow = scene.tcp(client, dice.number(40_000, 60_000), host, 443, truth)
    ready = handshake(flow, at + 50 * MS, dice, name)
    flow.close(exchange(flow, ready, dice, 380, 9_000) + 100 * MS)
