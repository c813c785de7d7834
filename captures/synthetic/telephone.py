# SPDX-License-Identifier: GPL-2.0-or-later
"""Telephone: an ordinary SIP call (RFC 3261) with plain RTP, in the clear."""

from __future__ import annotations

import struct

from midcall.captures.synthetic.plan import Gating, Plan
from midcall.captures.synthetic.scene import Scene, Truth
from midcall.captures.synthetic.speech import converse
from midcall.captures.synthetic.voice import Talker
from midcall.captures.wire import sip
from midcall.captures.wire.host import phone, server
from midcall.captures.wire.rtp import Stream
from midcall.captures.wire.seeded import MS, SECOND

SIP_PORT, G729 = 5060, 18


def call(scene: Scene, name: str, seconds: float) -> None:
    """Play register, invite, ring, talk and hang up; voice is G.729, 20 bytes every 20 ms."""
    dice, at = scene.dice.child(name), scene.epoch + SECOND
    client, proxy, gateway = phone(0x0F01), server(0x0900), server(0x0901)
    ports = (16_000 + 2 * dice.number(0, 2000), 30_000 + 2 * dice.number(0, 2000))
    signalling = scene.udp(
        client, SIP_PORT, proxy, SIP_PORT, Truth("sip", "setup", "SIP requests and replies", name)
    )
    media = scene.udp(
        client, ports[0], gateway, ports[1], Truth("sip", "media", "RTP type 18, SDP's port", name)
    )
    control = scene.udp(
        client, ports[0] + 1, gateway, ports[1] + 1, Truth("sip", "control", "RTCP in pairs", name)
    )
    caller, callee = f"alice@{client.address}", f"bob@{proxy.address}"
    ident = dice.octets(12).hex()
    same = sip.dialogue(caller, callee, ident, ident[:12], "1 INVITE")
    kind = [("Contact", f"<sip:{caller}:5060>"), ("Content-Type", "application/sdp")]
    offer = sip.audio(client.address, ports[0], ["18 G729/8000", "8 PCMA/8000"])
    answer = sip.audio(gateway.address, ports[1], ["18 G729/8000"])
    asked = signalling.up(at, sip.request("INVITE", f"sip:{callee}", [*same, *kind], offer))
    signalling.down(at + 40 * MS, sip.response("100 Trying", same))
    signalling.down(at + 300 * MS, sip.response("180 Ringing", same))
    taken = signalling.down(at + 1500 * MS, sip.response("200 OK", [*same, *kind], answer))
    confirm = sip.dialogue(caller, callee, ident, ident[12:], "1 ACK")
    signalling.up(at + 1510 * MS, sip.request("ACK", f"sip:{callee}", confirm))
    streams = (Stream(dice.child("up"), G729, 160), Stream(dice.child("down"), G729, 160))
    talking = at + 1550 * MS
    talker = Talker(20, (32, 32), (32, 32), jitter_us=1500)
    converse(media, streams, (talker, talker), talking, seconds)
    end = talking + int(seconds * SECOND)
    for number, start in enumerate(range(talking + SECOND, end, 2 * SECOND)):
        control.up(start, compound(streams[0], streams[1], number))
        control.down(start + 130 * MS, compound(streams[1], streams[0], number))
    bye = sip.dialogue(caller, callee, ident, ident[6:18], "2 BYE")
    signalling.up(end + 30 * MS, sip.request("BYE", f"sip:{callee}", bye))
    signalling.down(end + 75 * MS, sip.response("200 OK", bye))
    scene.plans.append(
        Plan(
            name,
            "sip",
            "audio",
            [media],
            setup=[signalling],
            control=[control],
            gates=[Gating(media, [signalling], "transaction", [(asked, taken)])],
            timer_s=32.0,
            timer_source="RFC 3261 section 17.1.1.2: timer B, 64 times T1 of 500 ms",
        )
    )


def compound(own: Stream, other: Stream, number: int) -> bytes:
    """Return a sender report with one block and a source description (RFC 3550 section 6)."""
    clock = own.dice.octets(8)
    sent = struct.pack(">III", own.stamp & 0xFFFFFFFF, 100 * number, 2000 * number)
    block = struct.pack(">IIIIII", other.ssrc, 0, 100 * number, 8, 0, 0)
    name = b"\1\7" + b"alice@a" + b"\0\0\0"
    report = struct.pack(">BBHI", 0x81, 200, 12, own.ssrc) + clock + sent + block
    return report + struct.pack(">BBHI", 0x81, 202, 1 + len(name) // 4, own.ssrc) + name
