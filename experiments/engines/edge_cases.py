# SPDX-License-Identifier: BSD-3-Clause
"""A synthetic capture of packets at the edges of matches, on which engines may differ.

Each case is a flow of its own: a length that does not fit, an octet that another protocol has too,
a name in two segments, a header with options. No packet of it was captured.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import accumulate
from typing import NamedTuple

from midcall.captures.packets.numbers import SCTP, TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.captures.wire import dns, dtls, stun, tls
from midcall.captures.wire.seeded import SeededRandom
from midcall.testbed.engines.lab_capture import LabPacket, as_packets
from midcall.testbed.network.checksums import word_sum
from midcall.testbed.network.ip_packets import internet_checksum, ip_packet, set_checksums
from midcall.testbed.probing.quic_initial import quic_initial

NAME = "edge cases (synthetic)"
#: Hosts: a subscriber, another one, and machines of the far side.
NEAR, NEIGHBOUR, FAR = "198.18.7.1", "198.18.7.2", "198.19.7.1"
NEAR6, FAR6 = "2001:2::7:1", "2001:2:0:1::7"
#: Subscribers with public addresses, one of Meta's, which a policy of the study `mechanisms` names.
PUBLIC, PUBLIC_TOO = "31.13.64.7", "203.0.113.5"
#: A server name that the elements' rules on names meet, and one that they do not.
HOST, OTHER_HOST = "edge.whatsapp.net", "edge.example.net"
#: ns between two packets, and the time of the first.
STEP, EPOCH = 20_000_000, 1_450_000_000_000_000_000
#: A subscriber with a far end of its own, and a router behind that.
PEER, PEER_FAR, ROUTER = "198.18.7.70", "198.19.7.70", "198.19.7.71"
#: Protocol numbers of GRE and ICMP, and of IPv6's hop-by-hop header (RFC 8200 section 4.3).
GRE, ICMP, HOP_BY_HOP = 47, 1, 0
SYN, RST, ACK, PUSH = 0x02, 0x04, 0x10, 0x18
#: ns of a pause that is longer than an engine keeps a silent flow.
LONG = 1_000 * 1_000_000_000


class Sent(NamedTuple):
    """A packet of a case: whether the subscriber sends it, its IP bytes, and ns before it."""

    up: bool
    packet: bytes
    pause: int = STEP


def edge_cases() -> Packets:
    """Return the packets of every case, one case after the other, without a link header."""
    every = [one for case in cases() for one in case]
    times = [EPOCH + passed for passed in accumulate(one.pause for one in every)]
    return as_packets(
        [
            LabPacket(one.packet, one.up, time, i, 0)
            for i, (one, time) in enumerate(zip(every, times, strict=True))
        ]
    )  # fmt: skip


def cases() -> Iterator[list[Sent]]:
    """Yield the packets of each case."""
    dice = SeededRandom("midcall", "edge cases of engines")
    ports = iter(range(41000, 49000))
    yield from strangers(dice, ports)
    for body in datagrams(dice):
        for target in (7000, 3478):
            yield exchange(next(ports), target, body)
    for target in (53, 65535, 5060, 443):
        yield exchange(next(ports), target, stun_binding(dice))
        yield exchange(next(ports), target, b"INVITE sip:a@b SIP/2.0\r\n\r\n")
    yield exchange(65535, 65535, dice.octets(40))
    yield exchange(3478, 9, dice.octets(40))
    yield exchange(3478, 9, dice.octets(40), hosts=(NEAR, NEIGHBOUR))
    yield exchange(next(ports), 7000, bytes(30_000))
    for sizes in ((0, 1, 7, 8), (39, 40, 41), (159, 160, 161), (1200, 1400, 1472)):
        yield [sent for size in sizes for sent in exchange(41000, 7100 + size, bytes(size))]
    yield [Sent(one.up, padded(one.packet)) for one in exchange(next(ports), 7000, bytes(50))]
    for hosts in ((NEAR, FAR), (NEAR6, FAR6)):
        yield [
            Sent(one.up, with_hops(one.packet, 255))
            for one in exchange(next(ports), 7000, bytes(50), hosts)
        ]
    for body in (stun_binding(dice), b"INVITE sip:a@b SIP/2.0\r\n\r\n", bytes(50)):
        yield exchange(next(ports), 7000, body, hosts=(NEAR6, FAR6))
        yield [
            Sent(one.up, behind_hops(one.packet))
            for one in exchange(next(ports), 7000, body, hosts=(NEAR6, FAR6))
        ]
        yield [Sent(one.up, with_options(one.packet)) for one in exchange(next(ports), 7000, body)]
        yield exchange(next(ports), 7000, body, hosts=(NEAR, NEIGHBOUR))
        yield exchange(next(ports), 7000, body, hosts=(NEIGHBOUR, FAR))
    for hosts in ((NEAR, FAR), (NEAR6, FAR6)):
        for point in (46, 34, 0, 1):
            yield [
                Sent(one.up, marked(one.packet, point))
                for one in exchange(next(ports), 7000, bytes(50), hosts)
            ]
    yield [Sent(True, made(NEAR, FAR, GRE, bytes(24))), Sent(False, made(FAR, NEAR, GRE, bytes(9)))]
    yield [
        Sent(up, made(*((NEAR, FAR) if up else (FAR, NEAR)), ICMP, echo(kind)))
        for up, kind in ((True, 8), (False, 0), (True, 8))
    ]
    unheard = exchange(next(ports), 7000, bytes(60))
    yield [
        *unheard,
        Sent(False, made(FAR, NEAR, ICMP, b"\3\3" + bytes(6) + unheard[0].packet[:28])),
    ]
    yield from others(next(ports))
    yield [*exchange(next(ports), 443, quic_initial(HOST), reply=False),
           *exchange(48_999, 443, quic_initial(OTHER_HOST), reply=False)]  # fmt: skip
    yield [
        Sent(True, datagram(NEAR, FAR, 48_998, 443, body))
        for body in (quic_initial(OTHER_HOST), dtls.client_hello(dice))
    ]
    for name in (HOST, HOST.upper(), OTHER_HOST):
        for target in (53, 5353, 7000):
            yield exchange(next(ports), target, dns.question(7, name))
        yield stream(next(ports), 53, [tls.sized(dns.question(7, name))])
        yield exchange(next(ports), 7000, quic_initial(name.lower()), reply=False)
    yield from streams(dice, ports)


def strangers(dice: SeededRandom, ports: Iterator[int]) -> Iterator[list[Sent]]:
    """Yield cases of hosts that no rule on a client, a server or a pair has met before.

    The first two are STUN behind a wrong length; in the others a subscriber is the far end, too: of
    two ends alike, the one that sends and gets more is near (testbed.replay.sides).
    """
    allocate = stun.message(
        stun.ALLOCATE, dice.octets(12), [(stun.REQUESTED_TRANSPORT, b"\x11\0\0\0")]
    )
    for host, body in enumerate((stun_binding(dice), allocate), 30):
        near, far, port = f"198.18.7.{host}", f"198.19.7.{host}", next(ports)
        framed = exchange(port, 7200, struct.pack(">H", 900) + body, (near, far))
        large = Sent(True, datagram(near, far, port, 7200, dice.octets(1400)))
        yield [*framed, *[large] * 16]
    noise, hello = b"\xf0" * 12, tls.client_hello(dice, HOST)
    subscribers = [f"198.18.7.{host}" for host in (40, 41, 50, 51, 60, 61)]
    for near in (*subscribers, subscribers[4]):
        yield exchange(next(ports), 7200, noise, (near, f"198.19.7.{near.rpartition('.')[2]}"))
    for near, host in ((PUBLIC, 7), (PUBLIC, 8), (PUBLIC_TOO, 9)):
        yield exchange(next(ports), 7200, noise, (near, f"203.0.113.{host}"))
    yield exchange(next(ports), 7200, noise, (PUBLIC, PUBLIC_TOO))
    one, other = subscribers[:2]
    yield exchange(7000, 9, noise, (one, other))
    one, other = subscribers[2:4]
    yield exchange(next(ports), 7200, stun_binding(dice), (one, other))
    yield exchange(next(ports), 7200, noise, (other, "198.19.7.52"))
    yield exchange(next(ports), 7200, noise, (one, subscribers[1]))
    one, other = subscribers[4:6]
    port = next(ports)
    yield [
        Sent(True, segment(one, other, port, 443, 999, 0, SYN)),
        Sent(False, segment(other, one, 443, port, 8999, 1000, SYN | ACK)),
        Sent(True, segment(one, other, port, 443, 1000, 9000, ACK)),
        Sent(False, segment(other, one, 443, port, 9000, 1000, PUSH, hello)),
        Sent(True, segment(one, other, port, 443, 1000, 9000 + len(hello), PUSH, b"\xf0" * 20)),
    ]


def datagrams(dice: SeededRandom) -> Iterator[bytes]:
    """Yield payloads of UDP that are almost, or exactly, what a match looks for."""
    binding = stun_binding(dice)
    yield stun.channel_data(0x4001, dice.octets(40))
    yield struct.pack(">HH", 0x4001, 900) + dice.octets(40)
    yield binding
    yield binding[:19]
    yield struct.pack(">HH", 0x0001, 900) + binding[4:]
    yield struct.pack(">H", len(binding)) + binding
    yield struct.pack(">H", 900) + binding
    yield stun.message(stun.ALLOCATE, dice.octets(12), [(stun.REQUESTED_TRANSPORT, b"\x11\0\0\0")])
    yield struct.pack(">HH", 1, 8) + dice.octets(16) + stun.attribute(3, bytes(4))  # RFC 3489
    hello = dtls.client_hello(dice)
    yield hello
    yield hello[:13]
    yield hello[:4] + bytes.fromhex("2112a442") + hello[8:]
    yield dtls.record(23, 1, dice.octets(30))
    yield b"\x17\xfe\xfd\0" + bytes.fromhex("2112a442") + dice.octets(30)
    yield b"SIP/2.0"
    yield b"SIP/2.0 200 OK\r\n\r\n"
    yield b"\x80\0" + struct.pack(">HII", 1, 160, 7) + dice.octets(160)
    yield b"\x80\xc8" + struct.pack(">HI", 6, 7) + bytes(20)


def others(port: int) -> Iterator[list[Sent]]:
    """Yield datagrams with ICMP errors about them between, then echoes each way, then SCTP."""
    there, back = (PEER, PEER_FAR), (PEER_FAR, PEER)
    datagrams = exchange(port, 7000, bytes(60), there)
    yield [
        *datagrams,
        Sent(False, made(ROUTER, PEER, ICMP, unreachable(datagrams[0].packet))),
        *datagrams,
        Sent(True, made(*there, ICMP, unreachable(datagrams[1].packet))),
        *datagrams,
    ]
    yield [
        Sent(up, made(*((PEER, ROUTER) if up else (ROUTER, PEER)), ICMP, echo(kind, number)))
        for up, kind, number in ((True, 8, 7), (False, 0, 7), (False, 8, 9), (True, 0, 9))
    ]
    yield [Sent(False, made(ROUTER, PEER, ICMP, unreachable(datagrams[0].packet))), *datagrams]
    data = struct.pack(">IIBBH", 0, 0, 0, 3, 20) + bytes(16)  # behind the ports (RFC 9260)
    ports = ((True, (port, 7000)), (False, (7000, port)), (True, (port, 7001)), (False, (9, port)))
    yield [
        Sent(up, made(*(there if up else back), SCTP, struct.pack(">HH", *ends) + data))
        for up, ends in ports
    ]


def streams(dice: SeededRandom, ports: Iterator[int]) -> Iterator[list[Sent]]:
    """Yield cases of TCP: names whole, in two segments, out of order; records that are cut."""
    for name in (HOST, HOST.upper(), OTHER_HOST):
        hello = tls.client_hello(dice, name)
        page = f"GET / HTTP/1.1\r\nHost: {name}\r\nAccept: */*\r\n\r\n".encode()
        for port, body in ((443, hello), (80, page)):
            yield stream(next(ports), port, [body])
            yield stream(next(ports), port, [body[:30], body[30:]])
            yield stream(next(ports), port, [body[:7], body[7:60], body[60:]])
            yield stream(next(ports), port, [body[:30], body[30:]], swapped=True)
            yield stream(next(ports), port, [body], opened=False)
    hello = tls.client_hello(dice, HOST)
    for bodies in ([hello[:5], hello[5:]], [hello[:3], hello[3:]], [tls.records(dice, 90)]):
        yield stream(next(ports), 443, bodies)
    yield from pauses(next(ports), hello)
    binding = stun_binding(dice)
    for body in (binding, struct.pack(">H", len(binding)) + binding,
                 struct.pack(">H", 900) + binding, b"SIP/2.0 200 OK\r\n\r\n"):  # fmt: skip
        yield stream(next(ports), 3478, [body])


def pauses(port: int, hello: bytes) -> Iterator[list[Sent]]:
    """Yield a connection that a reset ends, and datagrams: both go on after a long pause."""
    at = 1000 + len(hello)
    ended = segment(FAR, NEAR, 443, port, 9000, at, RST | ACK)
    late = segment(NEAR, FAR, port, 443, at + 20, 9000, PUSH, b"\xf0" * 20)
    yield [*stream(port, 443, [hello]), Sent(False, ended), Sent(True, late, LONG)]
    sip = exchange(port, 7000, b"INVITE sip:a@b SIP/2.0\r\n\r\n")
    yield [*sip[:2], sip[2]._replace(pause=LONG)]


def stun_binding(dice: SeededRandom) -> bytes:
    """Return a Binding request."""
    return stun.message(stun.BINDING, dice.octets(12), [(stun.PRIORITY, b"\x6e\0\1\xff")])


def exchange(
    port: int, target: int, body: bytes, hosts: tuple[str, str] = (NEAR, FAR), reply: bool = True
) -> list[Sent]:
    """Return a datagram, 12 other octets back, and 12 others each way; reply: also without them."""
    near, far = hosts
    out = [Sent(True, datagram(near, far, port, target, body))]
    if reply:
        other = b"\xf0" * 12
        out.append(Sent(False, datagram(far, near, target, port, other)))
        out.append(Sent(True, datagram(near, far, port, target, other)))
        out.append(Sent(False, datagram(far, near, target, port, body)))
    return out


def stream(
    port: int, target: int, bodies: list[bytes], opened: bool = True, swapped: bool = False
) -> list[Sent]:
    """Return a TCP connection on which the subscriber sends some segments.

    opened: with its handshake; swapped: the segments in the reverse order.
    """
    first, other = 1000, 9000
    out = []
    if opened:
        out = [
            Sent(True, segment(NEAR, FAR, port, target, first - 1, 0, SYN)),
            Sent(False, segment(FAR, NEAR, target, port, other - 1, first, SYN | ACK)),
            Sent(True, segment(NEAR, FAR, port, target, first, other, ACK)),
        ]
    data, at = [], first
    for body in bodies:
        data.append(Sent(True, segment(NEAR, FAR, port, target, at, other, PUSH, body)))
        at += len(body)
    out += reversed(data) if swapped else data
    out.append(Sent(False, segment(FAR, NEAR, target, port, other, at, ACK)))
    out.append(Sent(True, segment(NEAR, FAR, port, target, at, other, PUSH, b"\xf0" * 20)))
    return out


def echo(kind: int, number: int = 7) -> bytes:
    """Return an ICMP echo request (8) or its reply (0); number: its identifier (RFC 792)."""
    return summed(struct.pack(">BBHHH", kind, 0, 0, number, 1) + bytes(range(24)))


def unreachable(packet: bytes) -> bytes:
    """Return the ICMP error that a packet's port is unreachable (RFC 792)."""
    return summed(b"\3\3" + bytes(6) + packet[:28])


def summed(body: bytes) -> bytes:
    """Return an ICMP message with a right checksum in the place of two octets of zero."""
    return body[:2] + struct.pack(">H", internet_checksum(word_sum(body))) + body[4:]


def made(source: str, target: str, proto: int, body: bytes) -> bytes:
    """Return an IP packet between two addresses."""
    return ip_packet(ip_address(source).packed, ip_address(target).packed, proto, body)


def datagram(source: str, target: str, sport: int, dport: int, body: bytes) -> bytes:
    """Return a packet of UDP."""
    return made(source, target, UDP, struct.pack(">HHHH", sport, dport, 8 + len(body), 1) + body)


def segment(
    source: str, target: str, sport: int, dport: int, at: int, acked: int, flags: int,
    body: bytes = b"",
) -> bytes:  # fmt: skip
    """Return a packet of TCP."""
    head = struct.pack(">HHIIBBHHH", sport, dport, at, acked, 0x50, flags, 64000, 0, 0)
    return made(source, target, TCP, head + body)


def padded(packet: bytes) -> bytes:
    """Return a packet of UDP over IPv4 whose UDP length leaves out up to 20 octets behind it."""
    out = bytearray(packet)
    struct.pack_into(">H", out, 24, max(len(packet) - 20 - 20, 8))
    struct.pack_into(">H", out, 26, 0)
    return bytes(out)


def with_options(packet: bytes) -> bytes:
    """Return a packet of IPv4 with four octets of options (no operation, RFC 791)."""
    out = bytearray(b"\x46" + packet[1:20] + b"\1\1\1\0" + packet[20:])
    struct.pack_into(">H", out, 2, len(out))
    set_checksums(out, len(out))
    return bytes(out)


def marked(packet: bytes, point: int) -> bytes:
    """Return a packet with a code point of Differentiated Services, and ECN (RFC 2474, 3168)."""
    out = bytearray(packet)
    octet = point << 2 | 1
    if out[0] >> 4 == 4:
        out[1] = octet
        set_checksums(out, len(out))
    else:
        struct.pack_into(">H", out, 0, 6 << 12 | octet << 4)
    return bytes(out)


def with_hops(packet: bytes, count: int) -> bytes:
    """Return a packet with another TTL or hop limit."""
    out = bytearray(packet)
    out[8 if out[0] >> 4 == 4 else 7] = count
    set_checksums(out, len(out))
    return bytes(out)


def behind_hops(packet: bytes) -> bytes:
    """Return a packet of IPv6 with a hop-by-hop header before its transport."""
    out = bytearray(packet[:40] + bytes((packet[6], 0, 1, 4, 0, 0, 0, 0)) + packet[40:])
    out[6] = HOP_BY_HOP
    struct.pack_into(">H", out, 4, len(out) - 40)
    return bytes(out)
