# SPDX-License-Identifier: BSD-3-Clause
"""Tunnels: a call's packets inside packets of another protocol, after a handshake of its own.

The handshake must succeed: no packet is sent through a tunnel before the caller received its last
message, so a box that blocks the handshake blocks the call inside. Contents are random octets of
the right sizes, like ciphertext. TCP's reaction to loss (retransmission, head-of-line blocking) is
not modelled: a real tunnel over TCP would be late where this one loses packets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.truth.calls import Call
from midcall.captures.wire.tls import (
    extension,
    handshake_message,
    hello_body,
    record,
    server_hello_body,
    server_name,
)
from midcall.testbed.evasion.controls import octets
from midcall.testbed.evasion.rewriter import Rewriter
from midcall.testbed.network.ip_packets import ip_packet
from midcall.testbed.replay.openings import Opening
from midcall.testbed.replay.script import Script, script
from midcall.testbed.replay.sides import CALLER
from midcall.testbed.replay.splice import Added, spliced

Numbers = NDArray[np.int64]

#: Server of every tunnel: a documentation address (RFC 5737, 3849), in no operator's address set.
SERVER4, SERVER6 = bytes((203, 0, 113, 10)), bytes.fromhex("20010db8" + "00" * 11 + "10")
#: A handshake begins this long before the tunnel's first packet, in ns.
LEAD = 200_000_000
#: From a handshake's message to its answer, in ns.
ROUND = 20_000_000
SUBSCRIBER_PORT = 49_152
WIREGUARD_PORT, TLS_PORT = 51_820, 443
#: Name in the ClientHello of a tunnel over TLS.
SERVER_NAME = "static.example"

SYN, SYN_ACK, ACK, PUSH = 0x02, 0x12, 0x10, 0x18


class Rewritten(NamedTuple):
    """A capture as rewritten by a disguise, with the numbers of the packets that it added."""

    script: Script
    calls: tuple[Call, ...]
    dress: Rewriter
    openings: tuple[Opening, ...] = ()
    added: tuple[int, ...] = ()


class Message(NamedTuple):
    """One message of a handshake: when (ns from its begin), whether up, flags of TCP, payload."""

    after: int
    up: bool
    flags: int
    payload: bytes


class Carrier(NamedTuple):
    """A kind of tunnel: transport, server port, handshake, and one packet's payload in it.

    wrap: (seed, packet number, its inner packet's size, count in this direction) -> payload.
    """

    proto: int
    port: int
    shake: Callable[[int, bytes], list[Message]]
    wrap: Callable[[int, int, int, int], bytes]


# ---- WireGuard


def wireguard_shake(seed: int, subscriber: bytes) -> list[Message]:
    """Return WireGuard's initiation (148 octets) and response (92), as its paper has them."""
    noise = octets(seed, "wireguard", subscriber.hex(), size=224)
    return [
        Message(0, True, 0, b"\1\0\0\0" + noise[:144]),
        Message(ROUND, False, 0, b"\2\0\0\0" + noise[144:148] + noise[:4] + noise[140:220]),
    ]


def wireguard_data(seed: int, i: int, inner: int, count: int) -> bytes:
    """Return a transport message: type, receiver, counter, the packet padded by 16, a tag."""
    size = -(-inner // 16) * 16 + 16
    return b"\4\0\0\0" + octets(seed, "receiver", size=4) + count.to_bytes(8, "little") + octets(
        seed, "wireguard", i, size=size
    )  # fmt: skip


# ---- TLS


def tls_shake(seed: int, subscriber: bytes) -> list[Message]:
    """Return TCP's handshake and TLS 1.3's first flights (RFC 9293, RFC 8446)."""
    noise = octets(seed, "tls", subscriber.hex(), size=2600)
    hello, answer = client_hello(noise), server_hello(noise)
    flight = answer + record(20, b"\1") + record(23, noise[128:2300])
    return [
        Message(0, True, SYN, b""),
        Message(ROUND, False, SYN_ACK, b""),
        Message(ROUND + 100_000, True, ACK, b""),
        Message(ROUND + 200_000, True, PUSH, hello),
        Message(2 * ROUND + 300_000, False, PUSH, flight[:1400]),
        Message(2 * ROUND + 300_001, False, PUSH, flight[1400:]),
        Message(2 * ROUND + 400_000, True, PUSH, record(20, b"\1") + record(23, noise[:53])),
    ]


def client_hello(noise: bytes) -> bytes:
    """Return a ClientHello of TLS 1.3 that names a server."""
    extensions = (
        server_name(SERVER_NAME.encode())
        + extension(10, b"\0\2\0\x1d")
        + extension(13, b"\0\6\4\3\x08\4\4\1")
        + extension(16, b"\0\x0c\2h2\x08http/1.1")
        + extension(43, b"\2\3\4")
        + extension(51, b"\0\x24\0\x1d\0\x20" + noise[64:96])
    )
    suites = bytes.fromhex("130113021303c02bc02fc02cc030")
    body = hello_body(noise[:32], suites, extensions, noise[32:64])
    return record(22, handshake_message(1, body))


def server_hello(noise: bytes) -> bytes:
    """Return a ServerHello of TLS 1.3."""
    extensions = extension(43, b"\3\4") + extension(51, b"\0\x1d\0\x20" + noise[160:192])
    body = server_hello_body(noise[96:128], noise[32:64], extensions)
    return record(22, handshake_message(2, body))


def tls_data(seed: int, i: int, inner: int, count: int) -> bytes:
    """Return a record with the packet behind its length: content type and tag of 17 octets."""
    return record(23, octets(seed, "record", i, size=inner + 2 + 17))


def turn_tls_data(seed: int, i: int, inner: int, count: int) -> bytes:
    """Return a record with the datagram's payload in ChannelData, padded by 4 (RFC 8656, 12.5)."""
    return record(23, octets(seed, "record", i, size=4 + -(-inner // 4) * 4 + 17))


WIREGUARD = Carrier(UDP, WIREGUARD_PORT, wireguard_shake, wireguard_data)
TLS = Carrier(TCP, TLS_PORT, tls_shake, tls_data)
TURN_TLS = Carrier(TCP, TLS_PORT, tls_shake, turn_tls_data)


# ---- a capture through tunnels


def tunnelled(
    orders: Script, calls: list[Call], seed: int, carrier: Carrier, chosen: Numbers, whole: bool
) -> Rewritten:
    """Return a capture with some packets in tunnels, one tunnel per subscriber address.

    chosen: numbers of packets that meet a box; whole: whether IP packets are carried, else the
    payloads of datagrams.
    """
    groups = by_subscriber(orders, chosen)
    extra: list[Added] = []
    for subscriber, own in groups.items():
        begin = int(orders.held.packets.time[own].min()) - LEAD
        extra += list(handshake(carrier, seed, subscriber, begin))
    inserted = spliced(orders.held.packets, calls, extra)
    after = script(inserted.packets, inserted.calls)
    rewriter, openings, at = Rewriter(after.held), [], 0
    for subscriber, own in groups.items():
        messages = carrier.shake(seed, subscriber)
        shake = inserted.added[at : at + len(messages)]
        at += len(messages)
        inside = inserted.kept[own]
        last = max(k for k, message in enumerate(messages) if not message.up)
        openings.append(Opening(int(shake[last]), inside, int(shake[0])))
        numbers = {True: 1, False: 1}
        for message in messages:
            numbers[message.up] += len(message.payload) + (1 if message.flags & SYN else 0)
        wrap_all(rewriter, after, carrier, seed, inside, subscriber, numbers, whole)
    return Rewritten(
        after, tuple(inserted.calls), rewriter, tuple(openings), tuple(inserted.added.tolist())
    )


def by_subscriber(orders: Script, chosen: Numbers) -> dict[bytes, Numbers]:
    """Return packets by the address of their subscriber end, in order of appearance."""
    groups: dict[bytes, list[int]] = {}
    for i in chosen.tolist():
        groups.setdefault(subscriber_address(orders, i), []).append(i)
    return {subscriber: np.array(own, np.int64) for subscriber, own in groups.items()}


def subscriber_address(orders: Script, i: int) -> bytes:
    """Return the address of packet i's subscriber end."""
    fact = orders.held.facts[i]
    first, size = (12, 4) if fact["version"] == 4 else (8, 16)
    at = int(fact["ip_at"]) + first + (0 if orders.side[i] == CALLER else size)
    return orders.held.packets.data[at : at + size].tobytes()


def server(subscriber: bytes) -> bytes:
    """Return the server address of a tunnel, of the subscriber's IP version."""
    return SERVER4 if len(subscriber) == 4 else SERVER6


def handshake(carrier: Carrier, seed: int, subscriber: bytes, begin: int) -> Iterator[Added]:
    """Yield a tunnel's handshake as packets, the first one at `begin` (ns)."""
    numbers = {True: 1, False: 1}
    for message in carrier.shake(seed, subscriber):
        head = header(carrier, message.up, message.flags, numbers, len(message.payload))
        packet = ip(
            subscriber, server(subscriber), carrier.proto, message.up, head + message.payload
        )
        numbers[message.up] += len(message.payload) + (1 if message.flags & SYN else 0)
        yield Added(begin + message.after, packet)


def header(carrier: Carrier, up: bool, flags: int, numbers: dict[bool, int], size: int) -> bytes:
    """Return a transport header; numbers: TCP's next sequence numbers, up and down."""
    ports = (SUBSCRIBER_PORT, carrier.port) if up else (carrier.port, SUBSCRIBER_PORT)
    if carrier.proto == UDP:
        return struct.pack(">HHHH", *ports, min(8 + size, 65_535), 0)
    acknowledged = numbers[not up] if flags & ACK else 0
    pair = numbers[up] & 0xFFFFFFFF, acknowledged & 0xFFFFFFFF
    return struct.pack(">HHIIBBHHH", *ports, *pair, 0x50, flags, 65_535, 0, 0)


def ip(subscriber: bytes, remote: bytes, proto: int, up: bool, body: bytes) -> bytes:
    """Return an IP packet; one of a tunnel over UDP may be fragmented, and has no UDP checksum."""
    return ip_packet(
        *((subscriber, remote) if up else (remote, subscriber)), proto, body, whole=proto == TCP
    )


def wrap_all(
    rewriter: Rewriter,
    orders: Script,
    carrier: Carrier,
    seed: int,
    inside: Numbers,
    subscriber: bytes,
    numbers: dict[bool, int],
    whole: bool,
) -> None:
    """Rewrite packets as those of a tunnel; numbers: TCP's next sequence numbers, up and down."""
    counts = {True: 0, False: 0}
    facts, remote = orders.held.facts, server(subscriber)
    for i in inside.tolist():
        up = bool(orders.side[i] == CALLER)
        inner = int(facts["ip_size"][i] if whole else facts["size"][i])
        payload = carrier.wrap(seed, i, inner, counts[up])
        counts[up] += 1
        head = header(carrier, up, PUSH, numbers, len(payload))
        numbers[up] += len(payload)
        rewriter.replace(i, ip(subscriber, remote, carrier.proto, up, head + payload))
