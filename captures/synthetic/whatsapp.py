# SPDX-License-Identifier: GPL-2.0-or-later
"""WhatsApp: calls of the 2015 and 2019 clients, and chat that must not be classified as a call.

Message order, sizes and cadence follow real calls of those years: every relay gets one Allocate
twice within a millisecond, its first attribute is 4000; the chosen relay carries the first media
until the peer answered a 44-byte binding request that holds nothing but MESSAGE-INTEGRITY; at the
end every relay gets type 0800.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from midcall.captures.synthetic.dns import lookup
from midcall.captures.synthetic.plan import Gating, Plan
from midcall.captures.synthetic.scene import Scene, Sent, Tcp, Truth, Udp
from midcall.captures.synthetic.speech import converse, report
from midcall.captures.synthetic.tls import exchange, handshake
from midcall.captures.synthetic.voice import Talker
from midcall.captures.wire import stun
from midcall.captures.wire.host import Host, phone, server
from midcall.captures.wire.rtp import Stream
from midcall.captures.wire.seeded import MS, SECOND, SeededRandom

RELAY_PORT = 3478
VOICE, VIDEO, CORRECTION = 120, 102, 103  # RTP payload types
TOKEN, TIMESTAMP, PROBE, PROBE_BODY = 0x4000, 0x4002, 0x4003, 0x4004
PROBE_REQUEST, PROBE_REPLY, GOODBYE = 0x0801, 0x0802, 0x0800
VIDEO_PROFILE, VOICE_PROFILE = 0xDEBE, 0x746F

#: 2015: 20 ms frames at 16 kHz; 2019 on a thin link: eight frames a packet.
TALKER_2015 = Talker(20, (48, 102), (23, 24), jitter_us=6000)
TALKER_2019 = Talker(160, (108, 178), (59, 78), jitter_us=20_000)


class Line(NamedTuple):
    """The relays and flows of one call."""

    scene: Scene
    dice: SeededRandom
    client: Host
    port: int
    token: bytes
    relays: list[Udp]
    pairs: list[list[tuple[Sent, Sent]]]


def ring(scene: Scene, call: str, count: int, at: int) -> Line:
    """Request an allocation from all relays, as a client does when the call begins to ring."""
    dice = scene.dice.child(f"{call} relays")
    client, port = phone(0x0A01), dice.number(49152, 65535)
    line = Line(scene, dice, client, port, dice.octets(102), [], [])
    base = dice.octets(11)
    for number in range(count):
        evidence = "Allocate 0003 twice, attribute 4000 first, and its replies with 4002"
        truth = Truth("whatsapp", "setup", evidence, call)
        flow = scene.udp(client, port, server(0x0100 + number), RELAY_PORT, truth)
        line.relays.append(flow)
        sent = at + number * 270_000
        rtt = dice.number(12, 90) * MS
        line.pairs.append(allocate(line, flow, base + bytes([number]), sent, rtt))
    return line


def allocate(
    line: Line, flow: Udp, transaction: bytes, at: int, rtt: int
) -> list[tuple[Sent, Sent]]:
    """Send one Allocate twice, each with its answer."""
    request = tight_message(stun.ALLOCATE, transaction, tight(TOKEN, line.token))
    asked = [flow.up(at, request), flow.up(at + 110_000, request)]
    answered = []
    for number in range(2):
        stamp = struct.pack(">Q", (at + rtt) // MS + number)
        mapped = stun.xor_address(stun.XOR_MAPPED, line.client, line.port, transaction)
        reply = stun.message(
            stun.ALLOCATE | stun.SUCCESS, transaction, [mapped, (TIMESTAMP, stamp)]
        )
        answered.append(flow.down(at + rtt + number * 45_000, reply))
    return list(zip(asked, answered, strict=True))


def meet_peer(line: Line, flow: Udp, at: int) -> list[tuple[Sent, Sent]]:
    """Check the direct way from both ends: 44 bytes, MESSAGE-INTEGRITY and no USERNAME."""
    key, pairs = line.dice.octets(20), []
    for up, start in ((True, at), (False, at + 66 * MS)):
        transaction = line.dice.octets(12)
        request = stun.message(stun.BINDING, transaction, [], key=key)
        reply = stun.message(stun.BINDING | stun.SUCCESS, transaction, [], key=key)
        asked = flow.either(start, up, request)
        pairs.append((asked, flow.either(start + (85 if up else 4) * MS, not up, reply)))
    return pairs


def punch(line: Line, call: str, at: int, until: int) -> Udp:
    """Send to an address of the peer that never answers, every 630 ms."""
    truth = Truth("whatsapp", "setup", "binding requests of 44 bytes without an answer", call)
    flow = line.scene.udp(line.client, line.port, server(0x0300), 60312, truth)
    key = line.dice.octets(20)
    for start in range(at, until, 630 * MS):
        flow.up(start, stun.message(stun.BINDING, line.dice.octets(12), [], key=key))
    return flow


def hang_up(line: Line, at: int) -> None:
    """Send the end of the call to every relay."""
    for number, flow in enumerate(line.relays):
        transaction = line.dice.octets(12)
        goodbye = tight_message(GOODBYE, transaction, tight(TOKEN, line.token))
        flow.up(at + number * 120_000, goodbye)


def chosen(line: Line, index: int, call: str, what: str) -> Udp:
    """Return the flow of the relay that carries media, after changing its truth accordingly."""
    flow = line.relays[index]
    flow.truth = Truth("whatsapp", "media", f"{flow.truth.evidence}; then {what}", call)
    return flow


def plan(
    line: Line, call: str, kind: str, relay: Udp, peer: Udp, met: list[tuple[Sent, Sent]]
) -> Plan:
    """Return the call: the relay's media wait for its Allocate, the peer's for its binding."""
    index = line.relays.index(relay)
    return Plan(
        id=call,
        app="whatsapp",
        kind="video" if kind == "video" else "audio",
        media=[relay, peer],
        setup=[flow for flow in line.relays if flow is not relay],
        gates=[
            Gating(relay, [relay], "transaction", line.pairs[index]),
            Gating(peer, [peer], "transaction", met),
        ],
        alternatives=[(peer, "peer"), (relay, "relay")],
    )


def audio_call(
    scene: Scene, call: str, relays: int, talker: Talker, seconds: float, chat: Tcp | None = None
) -> None:
    """Play a voice call: ring, first words through a relay, the rest straight to the peer."""
    at = scene.epoch + 2 * SECOND
    line = ring(scene, call, relays, at)
    relay = chosen(line, relays - 2, call, f"RTP payload type {VOICE} on the same port")
    talking = at + 3 * SECOND
    streams = tuple(
        Stream(line.dice.child(side), VOICE, talker.every_ms * 16) for side in ("up", "down")
    )
    both, talkers = (streams[0], streams[1]), (talker, talker)
    relay.down(talking - 400 * MS, both[1].report(201, 9, 64))
    relay.up(talking - 150 * MS, both[0].report(201, 9, 64))
    converse(relay, both, talkers, talking, 1.2)
    truth = Truth("whatsapp", "media", f"binding without USERNAME, then RTP type {VOICE}", call)
    peer = scene.udp(line.client, line.port, server(0x0301), 9344, truth)
    met = meet_peer(line, peer, talking + SECOND)
    missed = punch(line, call, talking + 900 * MS, talking + int(seconds * SECOND))
    later = talking + 1200 * MS
    converse(peer, both, talkers, later, seconds - 1.2)
    end = talking + int(seconds * SECOND)
    report(peer, both, later, end, 1200 * MS, (208, 208), 2, 4)
    report(peer, both, later + 500 * MS, end, 900 * MS, (200, 200), 18, 100)
    hang_up(line, end + 40 * MS)
    described = plan(line, call, "audio", relay, peer, met)
    described.setup.append(missed)
    if chat is not None:
        described.signalling.append(chat)
    scene.plans.append(described)


def video_call(scene: Scene, call: str, seconds: float) -> None:
    """Play a video call of 2019: header extensions with profile DEBE, bandwidth probes."""
    at = scene.epoch + 2 * SECOND
    line = ring(scene, call, 5, at)
    relay = chosen(line, 0, call, "RTP with extension profile DEBE")
    talking = at + 2500 * MS
    truth = Truth("whatsapp", "media", "binding without USERNAME, RTP extension DEBE", call)
    peer = scene.udp(line.client, line.port, server(0x0311), 32641, truth)
    probe_bandwidth(line, relay, at + 600 * MS)
    met = meet_peer(line, peer, talking + 900 * MS)
    streams = {}
    for side in ("up", "down"):
        streams[side, "voice"] = Stream(
            line.dice.child(f"voice {side}"), VOICE, 320, VOICE_PROFILE, voice_words
        )
        streams[side, "video"] = Stream(
            line.dice.child(f"video {side}"), VIDEO, 6000, VIDEO_PROFILE, video_words
        )
        streams[side, "fix"] = Stream(
            line.dice.child(f"fix {side}"), CORRECTION, 6000, VIDEO_PROFILE, video_words
        )
    voices = (streams["up", "voice"], streams["down", "voice"])
    talkers = (Talker(60, (64, 150), (48, 60)), Talker(60, (40, 90), (36, 48)))
    converse(relay, voices, talkers, talking, 1.0)
    converse(peer, voices, talkers, talking + SECOND, seconds - 1.0)
    for up, side in ((True, "up"), (False, "down")):
        picture(relay, up, streams[side, "video"], streams[side, "fix"], talking + 200 * MS, 0.8)
        picture(
            peer, up, streams[side, "video"], streams[side, "fix"], talking + SECOND, seconds - 1
        )
    end = talking + int(seconds * SECOND)
    report(peer, voices, talking + SECOND, end, 600 * MS, (200, 200), 18, 100)
    hang_up(line, end + 30 * MS)
    scene.plans.append(plan(line, call, "video", relay, peer, met))


def voice_words(number: int) -> bytes:
    """Return the one extension word of a voice packet: a send-time offset."""
    return struct.pack(">HH", (0x21 + 7 * number) & 0xFFFF, 0)


def video_words(number: int) -> bytes:
    """Return the two extension words of a video packet: frame and packet counters."""
    return bytes.fromhex("300361 00") + struct.pack(">HH", 0x1771, 0x0300 + number % 256)


def picture(flow: Udp, up: bool, video: Stream, fix: Stream, start: int, seconds: float) -> None:
    """Send video: a frame of one to three packets every 100 ms, every fifth with a correction."""
    for number in range(int(seconds * SECOND) // (100 * MS)):
        at = start + number * 100 * MS + video.dice.number(0, 4000) * 1000
        packets = video.dice.number(1, 2) if number % 20 else 3
        size = video.dice.number(420, 760)
        for part in range(packets):
            last = part == packets - 1
            flow.either(at + part * 250_000, up, video.packet(size, last, advance=last))
        if number % 5 == 4:
            flow.either(at + packets * 250_000, up, fix.packet(size + 70, True))


def probe_bandwidth(line: Line, flow: Udp, at: int) -> None:
    """Send probe pairs 0801/0802 and a burst that looks like RTCP 199, as the client does."""
    for number in range(2):
        start = at + number * 50 * MS
        transaction = line.dice.octets(12)
        stamp = tight(PROBE, b"\1" + struct.pack(">II", 0x11, number))
        flow.up(
            start, tight_message(PROBE_REQUEST, transaction, stamp + tight(PROBE_BODY, bytes(475)))
        )
        clock = tight(TIMESTAMP, struct.pack(">Q", start // MS))
        flow.down(start + 15 * MS, tight_message(PROBE_REPLY, transaction, clock + stamp))
    for number in range(6):
        start = at + 200 * MS + number * 11 * MS
        body = struct.pack(">IIHH", 0x1000 * number, 500 * number, number * 256 + 16, 0)
        flow.up(start, bytes.fromhex("80c70005") + body + line.dice.octets(456))
        ack = bytes.fromhex("80c70002") + body + b"\4\0\0\0"
        flow.down(start + 20 * MS, ack)
    flow.up(at + 400 * MS, b"health")
    flow.down(at + 418 * MS, b"OK")


def tight(kind: int, value: bytes) -> bytes:
    """Return an attribute without padding: this client does not pad its own."""
    return struct.pack(">HH", kind, len(value)) + value


def tight_message(kind: int, transaction: bytes, body: bytes) -> bytes:
    """Return a message around attributes that are ready."""
    return stun.header(kind, len(body), transaction) + body


# ---- chat


def chat_2015(scene: Scene, at: int, seconds: int) -> Tcp:
    """Play a login and messages of 2015: TCP 5222, first bytes 57 41 01 05."""
    dice = scene.dice.child("chat 2015")
    client, host = phone(0x0A01), server(0x0120)
    lookup(scene, at, client, "e3.whatsapp.net", host)
    truth = Truth("whatsapp", "messaging", "TCP 5222, first bytes 57 41 01 05")
    flow = scene.tcp(client, dice.number(49152, 65535), host, 5222, truth)
    at = flow.open(at + 80 * MS, 150 * MS)
    flow.up(at, b"WA\1\5" + framed(dice, b"\0", (26, 120)))
    flow.down(at + 160 * MS, framed(dice, b"\0", (5, 64)))
    for number in range(seconds):
        start = at + 400 * MS + number * SECOND
        sizes = (dice.number(16, 60), dice.number(60, 190))
        flow.up(start, framed(dice, b"\x80", sizes))
        flow.down(start + 155 * MS, framed(dice, b"\x80", (dice.number(18, 33),)))
    return flow


def chat_2019(scene: Scene, at: int, seconds: int) -> Tcp:
    """Play a Noise login and messages of 2019: first bytes 45 44 00 01, alone in their segment."""
    dice = scene.dice.child("chat 2019")
    client, host = phone(0x0A01), server(0x0121)
    lookup(scene, at, client, "g.whatsapp.net", host)
    truth = Truth("whatsapp", "messaging", "TCP 5222, first bytes 45 44 00 01 and Noise frames")
    flow = scene.tcp(client, dice.number(49152, 65535), host, 5222, truth)
    at = flow.open(at + 60 * MS, 90 * MS)
    flow.up(at, b"ED\0\1")
    flow.up(at + 3 * MS, b"\0\0\4\x08\x08\x02WA\2\1" + framed(dice, b"\0", (238,)))
    flow.down(at + 95 * MS, framed(dice, b"\0", (54, 48, 82)))
    flow.up(at + 110 * MS, framed(dice, b"\0", (310,)))
    flow.down(at + 230 * MS, framed(dice, b"\0", (2200,)))
    for number in range(seconds):
        start = at + 500 * MS + number * SECOND
        flow.up(start, framed(dice, b"\0", (dice.number(27, 240),)))
        flow.down(start + 92 * MS, framed(dice, b"\0", (dice.number(31, 90),)))
    return flow


def framed(dice: SeededRandom, flag: bytes, sizes: tuple[int, ...]) -> bytes:
    """Return frames with a flag, a 16-bit length and a body each."""
    return b"".join(flag + struct.pack(">H", size) + dice.octets(size) for size in sizes)


def pictures(scene: Scene, at: int) -> None:
    """Fetch a picture from the content network over TLS."""
    dice = scene.dice.child("picture")
    client, host = phone(0x0A01), server(0x0122)
    name = "media-cdg2-1.cdn.whatsapp.net"
    lookup(scene, at, client, name, host)
    truth = Truth("whatsapp", "messaging", f"TLS server name {name}")
    flow = scene.tcp(client, dice.number(49152, 65535), host, 443, truth)
    ready = handshake(flow, at + 60 * MS, dice, name)
    flow.close(exchange(flow, ready, dice, 420, 14_000) + 200 * MS)
