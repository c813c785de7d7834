# SPDX-License-Identifier: GPL-2.0-or-later
"""Messenger: a call through Meta's TURN servers, and chat.

Set-up follows a real one of 2021 (realm turner.facebook, nonce of 40 characters, refused and
granted permissions, ICE inside Send and Data indications, then a channel); that capture holds no
media, so the SRTP in the channel follows libwebrtc's Opus: payload type 111, 20 ms.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from midcall.captures.synthetic.dns import lookup
from midcall.captures.synthetic.plan import RFC8489, Gating, Plan
from midcall.captures.synthetic.scene import Scene, Sent, Tcp, Truth, Udp
from midcall.captures.synthetic.speech import converse, report
from midcall.captures.synthetic.tls import exchange, handshake
from midcall.captures.synthetic.voice import Talker
from midcall.captures.wire import stun
from midcall.captures.wire.host import Host, phone, server
from midcall.captures.wire.rtp import Stream
from midcall.captures.wire.seeded import MS, SECOND, SeededRandom

RELAY_PORT, CHANNEL = 40003, 0x4003
VOICE, EXTENSION = 111, 0xBEDE
RTT = 12 * MS


class Leg(NamedTuple):
    """The relayed leg of a call: its flow, credentials, and the peer behind the relay."""

    flow: Udp
    dice: SeededRandom
    credentials: list[stun.Attribute]
    key: bytes
    peer: tuple[Host, int]
    names: tuple[bytes, bytes]


def call(scene: Scene, name: str, seconds: float) -> None:
    """Play a relayed voice call."""
    dice, at = scene.dice.child(name), scene.epoch + SECOND
    edge(scene, scene.epoch, "edge-mqtt.facebook.com", 2)
    evidence = "TURN realm turner.facebook, then SRTP type 111 in channel 4003"
    flow = scene.udp(
        phone(0x0E01),
        dice.number(32_768, 60_999),
        server(0x0800),
        RELAY_PORT,
        Truth("messenger", "media", evidence, name),
    )
    tcp = over_tcp(scene, name, at)
    leg, granted = allocate(flow, dice, at)
    talking = at + 1800 * MS
    permit(leg, at + 300 * MS)
    checks(leg, at + 450 * MS)
    bound = bind(leg, at + 1500 * MS)
    streams = tuple(
        Stream(dice.child(side), VOICE, 960, EXTENSION, level) for side in ("up", "down")
    )
    both, talker = (streams[0], streams[1]), Talker(20, (88, 122), (56, 64), 6)
    converse(flow, both, (talker, talker), talking, seconds, in_channel)
    end = talking + int(seconds * SECOND)
    report(flow, both, talking + 300 * MS, end, 900 * MS, (201, 201), 7, 24, in_channel)
    for again in range(talking + SECOND, end, 2500 * MS):
        consent(leg, again)
    scene.plans.append(
        Plan(
            name,
            "messenger",
            "audio",
            [flow],
            setup=[tcp],
            gates=[Gating(flow, [flow], "transaction", [*granted, bound])],
            alternatives=[(flow, "relay")],
            timer_s=39.5,
            timer_source=f"{RFC8489} (libwebrtc follows it)",
            consent_s=30.0,
        )
    )


def level(number: int) -> bytes:
    """Return one-byte header extensions: id 1, an audio level."""
    return struct.pack(">BBH", 0x10, 0x90 + number % 40, 0)


def in_channel(packet: bytes, up: bool) -> bytes:
    """Return a packet in the bound channel."""
    return stun.channel_data(CHANNEL, packet)


def ticket(dice: SeededRandom) -> bytes:
    """Return a transaction id as this client makes them: printable."""
    return dice.printable(12)


def allocate(flow: Udp, dice: SeededRandom, at: int) -> tuple[Leg, list[tuple[Sent, Sent]]]:
    """Request a relay address: refused without credentials, then granted."""
    nonce, realm = dice.octets(20).hex().encode(), b"turner.facebook"
    transport = (stun.REQUESTED_TRANSPORT, b"\x11\0\0\0")
    first = ticket(dice)
    asked = [flow.up(at, stun.message(stun.ALLOCATE, first, [transport]))]
    challenge = [
        (stun.ERROR_CODE, b"\0\0\4\1unauthorized"),
        (stun.NONCE, nonce),
        (stun.REALM, realm),
    ]
    answered = [flow.down(at + RTT, stun.message(0x0113, first, challenge))]
    user, key = dice.printable(16), dice.octets(16)
    credentials = [(stun.USERNAME, user), (stun.REALM, realm), (stun.NONCE, nonce)]
    peer = (server(0x0801), 40003)
    ours, theirs = dice.printable(4), dice.printable(4)
    names = (theirs + b":" + ours, ours + b":" + theirs)
    leg = Leg(flow, dice, credentials, key, peer, names)
    second = ticket(dice)
    request = stun.message(stun.ALLOCATE, second, [transport, *credentials], key)
    asked.append(flow.up(at + RTT + 4 * MS, request))
    grant = [
        stun.xor_address(stun.XOR_MAPPED, flow.source, flow.source_port, second),
        stun.xor_address(stun.XOR_RELAYED, server(0x0800), 41_000, second),
        (stun.LIFETIME, struct.pack(">I", 900)),
    ]
    reply = stun.message(stun.ALLOCATE | stun.SUCCESS, second, grant, key)
    answered.append(flow.down(at + 2 * RTT + 4 * MS, reply))
    return leg, [(asked[1], answered[1])]


def permit(leg: Leg, at: int) -> None:
    """Request permissions: one for a private address is refused, one granted."""
    for number, granted in enumerate((False, True)):
        start, transaction = at + number * 9 * MS, ticket(leg.dice)
        host = leg.peer[0] if granted else Host("198.18.200.1")
        wanted = stun.xor_address(stun.XOR_PEER, host, leg.peer[1], transaction)
        asks = [wanted, *leg.credentials]
        leg.flow.up(start, stun.message(stun.CREATE_PERMISSION, transaction, asks, leg.key))
        if granted:
            reply = stun.message(stun.CREATE_PERMISSION | stun.SUCCESS, transaction, [], leg.key)
        else:
            why = [(stun.ERROR_CODE, b"\0\0\4\3Forbidden Address"), *leg.credentials[1:]]
            reply = stun.message(stun.CREATE_PERMISSION | stun.ERROR, transaction, why)
        leg.flow.down(start + RTT, reply)


def relayed(leg: Leg, up: bool, inner: bytes) -> bytes:
    """Return a Send (up) or Data indication around a packet."""
    transaction = ticket(leg.dice)
    peer = stun.xor_address(stun.XOR_PEER, *leg.peer, transaction)
    kind = stun.SEND if up else stun.DATA_INDICATION
    return stun.message(kind, transaction, [peer, (stun.DATA, inner)])


def check(leg: Leg, up: bool, nominate: bool = False) -> tuple[bytes, bytes]:
    """Return a connectivity check of libwebrtc and its answer."""
    transaction = ticket(leg.dice)
    role = stun.ICE_CONTROLLING if up else stun.ICE_CONTROLLED
    attributes = [
        (stun.USERNAME, leg.names[not up]),
        (stun.NETWORK_COST, bytes.fromhex("0003000a")),
        (role, leg.dice.octets(8)),
        *([(stun.USE_CANDIDATE, b"")] if nominate else []),
        (stun.PRIORITY, bytes.fromhex("6e7f23ff")),
    ]
    ask = stun.message(stun.BINDING, transaction, attributes, leg.key, True)
    asking = (leg.flow.source, leg.flow.source_port) if up else leg.peer
    mapped = stun.xor_address(stun.XOR_MAPPED, *asking, transaction)
    return ask, stun.message(stun.BINDING | stun.SUCCESS, transaction, [mapped], leg.key, True)


def checks(leg: Leg, at: int) -> None:
    """Check connectivity through the relay, in indications."""
    for number in range(4):
        for up in (True, False):
            start = at + number * 180 * MS + (0 if up else 40 * MS)
            ask, answer = check(leg, up, nominate=up and number > 1)
            leg.flow.either(start, up, relayed(leg, up, ask))
            leg.flow.either(start + (70 if up else 2) * MS, not up, relayed(leg, not up, answer))


def bind(leg: Leg, at: int) -> tuple[Sent, Sent]:
    """Bind the channel that carries the media."""
    transaction = ticket(leg.dice)
    number = (stun.CHANNEL_NUMBER, struct.pack(">HH", CHANNEL, 0))
    peer = stun.xor_address(stun.XOR_PEER, *leg.peer, transaction)
    asks = [number, peer, *leg.credentials]
    asked = leg.flow.up(at, stun.message(stun.CHANNEL_BIND, transaction, asks, leg.key))
    reply = stun.message(stun.CHANNEL_BIND | stun.SUCCESS, transaction, [], leg.key)
    return asked, leg.flow.down(at + RTT, reply)


def consent(leg: Leg, at: int) -> None:
    """Renew consent (RFC 7675) inside the channel."""
    ask, answer = check(leg, True)
    leg.flow.up(at, stun.channel_data(CHANNEL, ask))
    leg.flow.down(at + 70 * MS, stun.channel_data(CHANNEL, answer))


def over_tcp(scene: Scene, name: str, at: int) -> Tcp:
    """Try the relay over TCP too: STUN behind a 16-bit length (RFC 4571), then abandoned."""
    dice = scene.dice.child(f"{name} tcp")
    truth = Truth("messenger", "setup", "STUN behind a 16-bit length, realm turner.facebook", name)
    flow = scene.tcp(phone(0x0E01), dice.number(32_768, 60_999), server(0x0800), 443, truth)
    ready = flow.open(at + 20 * MS, RTT)
    transaction = ticket(dice)
    transport = (stun.REQUESTED_TRANSPORT, b"\x11\0\0\0")
    request = stun.message(stun.ALLOCATE, transaction, [transport])
    flow.up(ready, struct.pack(">H", len(request)) + request)
    challenge = [
        (stun.ERROR_CODE, b"\0\0\4\1unauthorized"),
        (stun.NONCE, dice.octets(20).hex().encode()),
        (stun.REALM, b"turner.facebook"),
    ]
    reply = stun.message(0x0113, transaction, challenge)
    flow.down(ready + RTT, struct.pack(">H", len(reply)) + reply)
    flow.close(ready + 700 * MS)
    return flow


def edge(scene: Scene, at: int, name: str, beats: int) -> None:
    """Play MQTT over TLS to the edge: chat, not a call."""
    dice = scene.dice.child(f"edge {name}")
    client, host = phone(0x0E01), server(0x0820 + len(name))
    lookup(scene, at, client, name, host)
    truth = Truth("messenger", "messaging", f"TLS server name {name}")
    flow = scene.tcp(client, dice.number(32_768, 60_999), host, 443, truth)
    at = handshake(flow, at + 60 * MS, dice, name)
    for number in range(beats):
        exchange(flow, at + number * SECOND, dice, dice.number(60, 400), dice.number(40, 900))


def chat(scene: Scene) -> None:
    """Play chat and pictures."""
    edge(scene, scene.epoch, "edge-mqtt.facebook.com", 6)
    edge(scene, scene.epoch + SECOND, "www.messenger.com", 2)
    edge(scene, scene.epoch + 2 * SECOND, "mqtt-mini.facebook.com", 3)
