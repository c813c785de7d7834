# SPDX-License-Identifier: GPL-2.0-or-later
"""WebRTC: a browser's call of no particular app: ICE, DTLS with use_srtp, Opus over SRTP."""

from __future__ import annotations

from captures.craft import dtls, messenger
from captures.craft.dice import MS, SECOND
from captures.craft.host import phone, server
from captures.craft.plan import RFC8489, Gating, Plan
from captures.craft.rtp import Stream
from captures.craft.scene import Scene, Truth
from captures.craft.speech import converse, report
from captures.craft.voice import Talker


def call(scene: Scene, name: str, seconds: float) -> None:
    """Play a voice call between two browsers."""
    dice, at = scene.dice.child(name), scene.epoch + SECOND
    evidence = "ICE, DTLS ClientHello with use_srtp, RTP type 111"
    peer, port = server(0x0A00), dice.number(50_000, 60_000)
    flow = scene.udp(
        phone(0x1001),
        dice.number(49152, 65535),
        peer,
        port,
        Truth("other-rtc", "media", evidence, name),
    )
    names = (b"k9Xa:Qm2/", b"Qm2/:k9Xa")
    leg = messenger.Leg(flow, dice, [], dice.octets(24), (peer, port), names)
    pairs = []
    for number in range(3):
        for up in (True, False):
            start = at + number * 50 * MS + (0 if up else 15 * MS)
            ask, answer = messenger.check(leg, up, nominate=up and number > 0)
            asked = flow.either(start, up, ask)
            pairs.append((asked, flow.either(start + (45 if up else 1) * MS, not up, answer)))
    hello = at + 220 * MS
    asked = flow.up(hello, dtls.client_hello(dice))
    flow.down(hello + 46 * MS, dtls.server_flight(dice))
    flow.up(hello + 52 * MS, dtls.client_flight(dice))
    finished = flow.down(hello + 98 * MS, dtls.server_finish(dice))
    streams = tuple(
        Stream(dice.child(side), 111, 960, 0xBEDE, messenger.level) for side in ("up", "down")
    )
    both, talker = (streams[0], streams[1]), Talker(20, (86, 120), (54, 60), 8)
    talking = hello + 160 * MS
    converse(flow, both, (talker, talker), talking, seconds)
    end = talking + int(seconds * SECOND)
    report(flow, both, talking + 500 * MS, end, 1500 * MS, (200, 201), 6, 24)
    for again in range(talking + SECOND, end, 2500 * MS):
        ask, answer = messenger.check(leg, True)
        flow.up(again, ask)
        flow.down(again + 45 * MS, answer)
    scene.plans.append(
        Plan(
            name,
            "other-rtc",
            "audio",
            [flow],
            gates=[Gating(flow, [flow], "transaction", [pairs[0], (asked, finished)], "all")],
            alternatives=[(flow, "peer")],
            timer_s=39.5,
            timer_source=RFC8489,
            consent_s=30.0,
        )
    )
