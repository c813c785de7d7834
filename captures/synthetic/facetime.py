# SPDX-License-Identifier: GPL-2.0-or-later
"""FaceTime: calls as published analyses describe them, and the push service.

No public capture holds a FaceTime call, so these are built from descriptions only and prove that
the lab reads what was described, not that FaceTime is like this. Sources: the 2013 teardown of a
call between two phones (SIP in compact form, STUN and RTP on one port, 16402, payload type 104),
libprotoident's notes on 16-byte openings and the types 0FEx/0EEx, and a 2025 study of protocol
compliance (datagrams behind a header that starts with 60).
"""

from __future__ import annotations

import struct
import zlib

from midcall.captures.synthetic.dns import lookup
from midcall.captures.synthetic.plan import RFC8489, Gating, Plan
from midcall.captures.synthetic.scene import Scene, Sent, Truth, Udp
from midcall.captures.synthetic.speech import Framing, as_is, converse, report
from midcall.captures.synthetic.tls import exchange, handshake
from midcall.captures.synthetic.voice import Talker
from midcall.captures.wire import sip, stun
from midcall.captures.wire.host import phone, server
from midcall.captures.wire.rtp import Stream
from midcall.captures.wire.seeded import MS, SECOND, SeededRandom

PORT, VOICE = 16402, 104
OPENINGS = ((0x00010002, 0x00010001), (0x00000002, 0x00000001))
KEEP_ALIVES = ((0x0FE0, 0x0EE0), (0x0FE1, 0x0EE1), (0x0FE4, 0x0EE4))
TALKER = Talker(20, (70, 112), (36, 48), 4)


def call_2013(scene: Scene, call: str, seconds: float) -> None:
    """Play a call of 2010-2015: STUN, SIP and RTP muxed on one port."""
    flow, dice, at = begin(
        scene, call, PORT, "STUN, SIP in compact form and RTP type 104 on one port, 16402"
    )
    pairs = check(flow, dice, at)
    pairs += invite(flow, dice, at + 150 * MS)
    speak(flow, dice, at + 1900 * MS, seconds)
    plan_call(scene, call, flow, pairs)


def call_pairs(scene: Scene, call: str, seconds: float) -> None:
    """Play a call that opens with 16-byte pairs and keeps alive with types 0FEx and 0EEx."""
    flow, dice, at = begin(
        scene, call, PORT, "16-byte openings, types 0FE0/0EE0 answered, RTP type 104"
    )
    pairs = []
    for number, (ask, reply) in enumerate(OPENINGS):
        start, ident = at + number * 90 * MS, dice.octets(12)
        asked = flow.up(start, struct.pack(">I", ask) + ident)
        pairs.append((asked, flow.down(start + 55 * MS, struct.pack(">I", reply) + ident)))
    for number, (ask, reply) in enumerate(KEEP_ALIVES):
        pairs.append(alive(flow, dice, at + 240 * MS + number * 70 * MS, ask, reply))
    talking = at + 900 * MS
    speak(flow, dice, talking, seconds)
    for number in range(1, int(seconds)):
        alive(flow, dice, talking + number * SECOND, *KEEP_ALIVES[number % 3])
    plan_call(scene, call, flow, pairs)


def call_framed(scene: Scene, call: str, seconds: float) -> None:
    """Play a call whose datagrams follow a header that starts with 60."""
    flow, dice, at = begin(
        scene, call, 3489, "proprietary header 60, type, 16-bit length; RTP type 104 inside"
    )
    pairs = check(flow, dice, at, boxed)
    talking = at + 600 * MS
    speak(flow, dice, talking, seconds, boxed)
    for number in range(int(seconds)):
        start = talking + 400 * MS + number * SECOND
        flow.up(start, bytes.fromhex("deadbeefcafe") + dice.octets(14))
        flow.down(start + 60 * MS, bytes.fromhex("deadbeefdead") + dice.octets(14))
    plan_call(scene, call, flow, pairs)


def boxed(packet: bytes, up: bool) -> bytes:
    """Return a packet behind the header 60: type byte, length of what follows."""
    kind = 0x00 if packet[0] < 4 else 0x02
    return struct.pack(">BBH", 0x60, kind, len(packet)) + packet


def begin(scene: Scene, call: str, port: int, evidence: str) -> tuple[Udp, SeededRandom, int]:
    """Open the flow of a call; return it, its dice and when to start."""
    truth = Truth("facetime", "media", evidence, call)
    flow = scene.udp(phone(0x0D01), port, server(0x0700), port, truth)
    return flow, scene.dice.child(call), scene.epoch + SECOND


def plan_call(scene: Scene, call: str, flow: Udp, pairs: list[tuple[Sent, Sent]]) -> None:
    """Add the call's plan to the scene: its media wait for the openings on the same flow."""
    scene.plans.append(
        Plan(
            call,
            "facetime",
            "audio",
            [flow],
            gates=[Gating(flow, [flow], "transaction", pairs)],
            alternatives=[(flow, "peer")],
            timer_s=39.5,
            timer_source=f"{RFC8489} (assumed: no FaceTime call is public)",
        )
    )


def check(
    flow: Udp, dice: SeededRandom, at: int, framing: Framing = as_is
) -> list[tuple[Sent, Sent]]:
    """Check connectivity both ways with plain binding requests."""
    pairs = []
    for up, start in ((True, at), (False, at + 20 * MS)):
        transaction = dice.octets(12)
        name = [(stun.USERNAME, dice.printable(16))]
        request = stun.message(stun.BINDING, transaction, name)
        ends = (flow.target, flow.target_port), (flow.source, flow.source_port)
        mapped = stun.xor_address(stun.XOR_MAPPED, *ends[up], transaction)
        reply = stun.message(stun.BINDING | stun.SUCCESS, transaction, [mapped])
        request_sent = flow.either(start, up, framing(request, up))
        pairs.append((request_sent, flow.either(start + 58 * MS, not up, framing(reply, not up))))
    return pairs


def invite(flow: Udp, dice: SeededRandom, at: int) -> list[tuple[Sent, Sent]]:
    """Invite and accept with compact headers and deflated session descriptions."""
    ident = dice.printable(20).hex()[:36]
    user, peer = f"user@{flow.source.address}:{PORT}", f"user@{flow.target.address}:{PORT}"
    where = (flow.source.address, flow.target.address)
    bodies = [
        deflated(sip.audio(address, PORT, [f"{VOICE} mpeg4-generic/24000"])) for address in where
    ]
    kind = [("Content-Type", "application/sdp"), ("Content-Encoding", "deflate")]
    agent = [("User-Agent", "Viceroy 1.5.0/GK")]
    same = sip.dialogue(user, peer, ident, ident[:10], "1 INVITE")
    request = sip.request("INVITE", f"sip:{peer}", [*same, *agent, *kind], bodies[0], compact=True)
    asked = flow.up(at, request)
    flow.down(at + 60 * MS, sip.response("100 Trying", same, compact=True))
    flow.down(at + 90 * MS, sip.response("180 Ringing", [*same, *agent], compact=True))
    taken = sip.response("200 OK", [*same, *agent, *kind], bodies[1], compact=True)
    answered = flow.down(at + 1500 * MS, taken)
    confirm = sip.dialogue(user, peer, ident, ident[10:20], "1 ACK")
    flow.up(at + 1510 * MS, sip.request("ACK", f"sip:{peer}", confirm, compact=True))
    return [(asked, answered)]


def deflated(body: bytes) -> bytes:
    """Return a zlib stream of one stored block (RFC 1950): the same bytes whatever the zlib."""
    block = struct.pack("<BHH", 1, len(body), len(body) ^ 0xFFFF) + body
    return b"\x78\x01" + block + struct.pack(">I", zlib.adler32(body))


def alive(flow: Udp, dice: SeededRandom, at: int, ask: int, reply: int) -> tuple[Sent, Sent]:
    """Send a request and its answer in STUN's framing, but with types that STUN does not define."""
    ident, body = dice.octets(12), dice.octets(24)
    asked = flow.up(at, stun.header(ask, len(body), ident) + body)
    return asked, flow.down(at + 57 * MS, stun.header(reply, 8, ident) + body[:8])


def speak(flow: Udp, dice: SeededRandom, at: int, seconds: float, framing: Framing = as_is) -> None:
    """Send voice both ways, with reports."""
    streams = tuple(Stream(dice.child(side), VOICE, 480) for side in ("up", "down"))
    both = (streams[0], streams[1])
    converse(flow, both, (TALKER, TALKER), at, seconds, framing)
    end = at + int(seconds * SECOND)
    report(flow, both, at + 300 * MS, end, 2 * SECOND, (200, 200), 6, 24, framing)


def push(scene: Scene) -> None:
    """Play the push courier and the identity service: Apple's TLS, not a call."""
    dice, client = scene.dice.child("push"), phone(0x0D01)
    courier, ids = "23-courier.push.apple.com", "init.ess.apple.com"
    for number, (name, port, up, down) in enumerate(
        ((courier, 5223, 300, 140), (ids, 443, 900, 4200))
    ):
        host, at = server(0x0720 + number), scene.epoch + number * 700 * MS
        lookup(scene, at, client, name, host)
        truth = Truth("facetime", "messaging", f"TLS server name {name}, port {port}")
        flow = scene.tcp(client, dice.number(49152, 65535), host, port, truth)
        hello = ("apns-security-v3",) if port == 5223 else ("h2", "http/1.1")
        at = handshake(flow, at + 60 * MS, dice, name, protocols=hello)
        for beat in range(5 if port == 5223 else 1):
            exchange(flow, at + beat * 1500 * MS, dice, up, down)
