# SPDX-License-Identifier: BSD-3-Clause
"""Held-out probes: the test set on which a result and its rule must agree, made after the search.

They are drawn by a generator of their own from the capture, parts of it, and single changes of all
properties of a probe; half of them start from packets that the rule matches, and the numbers of a
rule (`edges`) are tested just below, at and just above. The search has used none of them.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations

from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.proofs.localiser import edge_cases
from midcall.experiments.proofs.localiser.rule import BenchmarkRule
from midcall.testbed.conformance.transcript import hello, question, record
from midcall.testbed.probing.oracle import Oracle
from midcall.testbed.probing.probe import PUSH, Ends, Probe, Sent, flows_of, in_order, ip_size

#: Number of probes drawn for one rule, besides those at its edges.
DRAWN = 240
#: Distance of a time from the end of a range, in s; the search finds ends to within 1 ms.
NEXT = 0.01
NAMES = ("www.a.example", "a.example", "b.a.example", "ba.example", "x.www.a.example",
         "call.b.example", "b.example", "web.b.example", "c.test", "example")  # fmt: skip

Draw = Callable[[Probe, random.Random], Probe]


def probes(rule: BenchmarkRule, base: Probe, seed: int) -> list[Probe]:
    """Return the test set of a rule; equal arguments give equal probes."""
    rng = random.Random(f"{seed}/{rule.name}")
    matching = matching_parts(rule.oracle(), base)
    tests = [base, *matching]
    for number in range(DRAWN):
        pool = matching if matching and number % 2 else []
        begin = rng.choice(pool) if pool else part(base, rng)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            changed = rng.choice(CHANGES)(begin, rng)
            begin = changed if changed else begin
        tests.append(begin)
    for what, numbers in rule.edges.items():
        for edge in numbers:
            tests += EDGES[what](base, matching, edge, rng)
    tests += edge_cases.edge_probes(rule.edge_words, base, matching)
    unseen = rule.edge_words.get("unseen", ())
    return [
        one for one in dict.fromkeys(map(in_order, tests))
        if one and not is_late(one) and edge_cases.is_observable(one, unseen)
    ]  # fmt: skip


def is_late(probe: Probe) -> bool:
    """Return whether a name or a ClientHello follows other payloads of its flow, or a packet that
    is not QUIC follows QUIC.

    How long our own box reads names, and that it treats a flow that began as QUIC as QUIC, depends
    on the state of its parsers and not on the benchmark rule.
    """
    started, quic = set(), set()
    for one in probe:
        reading = read(one)
        if one.ends in started and (reading.where or reading.hello):
            return True
        if one.ends in quic and one.payload and reading.kind != "quic":
            return True
        if one.payload:
            started.add(one.ends)
        if reading.kind == "quic":
            quic.add(one.ends)
    return False


def matching_parts(oracle: Oracle, base: Probe) -> list[Probe]:
    """Return flows, beginnings of flows and single packets of a probe that a box blocks."""
    parts: list[Probe] = []
    for ends in flows_of(base):
        own = in_order(one for one in base if one.ends == ends)
        if not oracle.blocked(own):
            continue
        first = next(n for n in range(1, len(own) + 1) if oracle.blocked(in_order(own[:n])))
        parts += [own, in_order(own[:first])]
        if oracle.blocked(in_order(own[first - 1 : first])):
            parts.append(in_order(own[first - 1 : first]))
    return parts or matching_pairs(oracle, base)


def matching_pairs(oracle: Oracle, base: Probe) -> list[Probe]:
    """Return pairs of flows, whole and by their first packets, that a box blocks together."""
    parts: list[Probe] = []
    for pair in permutations(flows_of(base), 2):
        own = in_order(one for one in base if one.ends in pair)
        firsts = in_order(next(one for one in base if one.ends == ends) for ends in pair)
        parts += [some for some in (own, firsts) if oracle.blocked(some)]
    return list(dict.fromkeys(parts))


# ---- parts and changes


def part(base: Probe, rng: random.Random) -> Probe:
    """Return consecutive packets of one or two flows."""
    all_flows = flows_of(base)
    flows = rng.sample(all_flows, min(rng.choice((1, 1, 1, 2)), len(all_flows)))
    own = [one for one in base if one.ends in flows]
    begin = rng.randrange(len(own))
    return in_order(own[begin : begin + rng.choice((1, 2, 4, 12, 30))])


def at_packet(change: Callable[[Sent, random.Random], Sent]) -> Draw:
    """Return a function that changes one packet, drawn at random."""

    def draw(probe: Probe, rng: random.Random) -> Probe:
        at = rng.randrange(len(probe))
        return (*probe[:at], change(probe[at], rng), *probe[at + 1 :])

    return draw


def at_flow(change: Callable[[Ends, random.Random], Ends]) -> Draw:
    """Return a function that changes one flow's ends, drawn at random."""

    def draw(probe: Probe, rng: random.Random) -> Probe:
        old = rng.choice(flows_of(probe))
        new = change(old, rng)
        return tuple(one._replace(ends=new) if one.ends == old else one for one in probe)

    return draw


def other_octets(packet: Sent, rng: random.Random) -> Sent:
    """Change one to three octets, the first ones more often."""
    body = bytearray(packet.payload)
    for _ in range(rng.choice((1, 1, 2, 3)) if body else 0):
        place = rng.randrange(min(len(body), rng.choice((4, 24, 1500))))
        body[place] = rng.choice((rng.randrange(256), body[place] ^ (1 << rng.randrange(8))))
    return packet._replace(payload=bytes(body))


def other_payload(packet: Sent, rng: random.Random) -> Sent:
    """Replace a payload by random octets or zeros."""
    size = rng.choice((len(packet.payload), rng.randrange(1, 900)))
    return packet._replace(payload=rng.choice((rng.randbytes(size), bytes(size))))


def other_size(packet: Sent, rng: random.Random) -> Sent:
    """Cut or extend a payload."""
    size = max(len(packet.payload) + rng.choice((-40, -4, -1, 1, 4, 60, 400)), 0)
    return sized(packet, size, rng)


def sized(packet: Sent, size: int, rng: random.Random) -> Sent:
    """Return a packet with a payload of a size."""
    more = max(size - len(packet.payload), 0)
    return packet._replace(payload=packet.payload[:size] + rng.randbytes(more))


def other_message(packet: Sent, rng: random.Random) -> Sent:
    """Replace a payload by a STUN message or one with a host name."""
    name = rng.choice(NAMES)
    if packet.ends.proto == 6:
        web = f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
        return packet._replace(payload=rng.choice((record(22, hello(name, 0x0303)), web)))
    kind = rng.choice((1, 3, 4, 9, 0x101, 0x103, 0x16))
    types = rng.choice(((), (0x4000,), (6,), (0x8022,), (0x8022, 0x4000)))
    body = b"".join(struct.pack(">HHI", attribute, 4, 9) for attribute in types)
    stun = struct.pack(">HHI", kind, len(body), STUN_COOKIE) + rng.randbytes(12) + body
    return packet._replace(payload=rng.choice((question(name), stun, stun)))


def turned(packet: Sent, rng: random.Random) -> Sent:
    """Invert the direction of a packet."""
    return packet._replace(up=not packet.up)


def other_port(ends: Ends, rng: random.Random) -> Ends:
    """Give a flow another far port."""
    neighbour = ends.far_port + rng.choice((-1, 1))
    port = rng.choice((neighbour, 53, 80, 443, 3478, 5060, 9000, rng.randrange(1, 65_536)))
    return ends._replace(far_port=min(max(port, 1), 65_535))


def other_near_port(ends: Ends, rng: random.Random) -> Ends:
    """Give a flow another near port."""
    return ends._replace(near_port=rng.randrange(10_000, 60_000))


def other_far(ends: Ends, rng: random.Random) -> Ends:
    """Turn one bit of a flow's far address."""
    number = int.from_bytes(ends.far, "big") ^ (1 << rng.randrange(8 * len(ends.far) - 3))
    return ends._replace(far=number.to_bytes(len(ends.far), "big"))


def other_near(ends: Ends, rng: random.Random) -> Ends:
    """Assign a flow to another subscriber."""
    net = bytes([192, 168, 1]) if len(ends.near) == 4 else b"\xfd" + bytes(14)
    return ends._replace(near=net + bytes([rng.randrange(11, 250)]))


def other_transport(ends: Ends, rng: random.Random) -> Ends:
    """Move a flow to the other transport."""
    return ends._replace(proto=17 if ends.proto == 6 else 6)


def stretched(probe: Probe, rng: random.Random) -> Probe:
    """Scale all times."""
    share = rng.choice((0.02, 0.3, 0.7, 1.6, 5.0, 40.0))
    return tuple(one._replace(time=round(one.time * share)) for one in probe)


def thinned(probe: Probe, rng: random.Random) -> Probe:
    """Remove packets at random."""
    return tuple(one for one in probe if rng.random() < 0.8)


def swapped(probe: Probe, rng: random.Random) -> Probe:
    """Exchange the times of two packets."""
    a, b = rng.randrange(len(probe)), rng.randrange(len(probe))
    times = {a: probe[b].time, b: probe[a].time}
    return in_order(one._replace(time=times.get(at, one.time)) for at, one in enumerate(probe))


def preceded(probe: Probe, rng: random.Random) -> Probe:
    """Insert packets of the same flow before the first one."""
    count = rng.choice((1, 2, 5, 11, 25))
    size = rng.choice((0, 0, 30, 300))
    first = probe[0]
    more = [
        first._replace(time=first.time - (count - n) * 5_000_000, payload=rng.randbytes(size),
                       flags=PUSH if size else 0x10)
        for n in range(count)
    ]  # fmt: skip
    return in_order([*more, *probe])


CHANGES: tuple[Draw, ...] = (
    at_packet(other_octets), at_packet(other_octets), at_packet(other_octets),
    at_packet(other_payload), at_packet(other_size), at_packet(other_message),
    at_packet(other_message), at_packet(turned),
    at_flow(other_port), at_flow(other_near_port), at_flow(other_far), at_flow(other_near),
    at_flow(other_transport),
    stretched, thinned, swapped, preceded,
)  # fmt: skip


# ---- edges


def edge_size(
    base: Probe, matching: Sequence[Probe], number: float, rng: random.Random
) -> Iterator[Probe]:
    """Yield packets just below, at and above a size."""
    for size in (int(number) - 1, int(number), int(number) + 1):
        for probe in [*matching[:4], part(base, rng)]:
            yield tuple(sized(one, max(size, 0), rng) for one in probe)


def ports_around(number: float) -> list[int]:
    """Return the ports just below, at and above one."""
    ports = (int(number) - 1, int(number), int(number) + 1)
    return [port for port in ports if 0 < port < 65_536]


def edge_port(
    base: Probe, matching: Sequence[Probe], number: float, rng: random.Random
) -> Iterator[Probe]:
    """Yield flows to ports just below, at and above one."""
    for port in ports_around(number):
        for probe in [*matching[:4], part(base, rng)]:
            yield tuple(one._replace(ends=one.ends._replace(far_port=port)) for one in probe)


def edge_near_port(
    base: Probe, matching: Sequence[Probe], number: float, rng: random.Random
) -> Iterator[Probe]:
    """Yield flows from ports just below, at and above one."""
    for port in ports_around(number):
        for probe in [*matching[:4], part(base, rng)]:
            yield tuple(one._replace(ends=one.ends._replace(near_port=port)) for one in probe)


def edge_packets(
    base: Probe, matching: Sequence[Probe], number: float, rng: random.Random
) -> Iterator[Probe]:
    """Yield matching packets as packets just before, at and after a number of their flow."""
    for count in (int(number) - 1, int(number), int(number) + 1):
        for probe in matching[:6]:
            last = probe[-1]
            fill = [last._replace(time=n * 1_000_000, payload=b"", flags=0x10)
                    for n in range(max(count - 1, 0))]  # fmt: skip
            yield (*fill, last._replace(time=max(count, 1) * 1_000_000))
            yield in_order(probe[:count])
            more = [probe[0]._replace(time=last.time + 1_000_000 * (n + 1), payload=b"", flags=0x10)
                    for n in range(max(count - len(probe), 0))]  # fmt: skip
            yield in_order([*probe, *more])


def edge_bytes(
    base: Probe, matching: Sequence[Probe], number: float, rng: random.Random
) -> Iterator[Probe]:
    """Yield matching packets just before, at and after a number of bytes of their flow."""
    for total in (int(number) - 1, int(number), int(number) + 1):
        for probe in matching[:6]:
            last = probe[-1]
            head = last._replace(time=0, payload=b"")
            spare = total - ip_size(head) - ip_size(last)
            if spare >= 0:
                yield (head._replace(payload=bytes(spare)), last._replace(time=1_000_000))
            tail = last._replace(time=last.time + 1_000_000, payload=b"")
            spare = total - sum(map(ip_size, probe)) - ip_size(tail)
            if spare >= 0:
                yield (*probe, tail._replace(payload=bytes(spare)))


def edge_seconds(
    base: Probe, matching: Sequence[Probe], number: float, rng: random.Random
) -> Iterator[Probe]:
    """Yield matching probes that last just less, and just more, than a number of seconds."""
    for seconds in (number - NEXT, number + NEXT):
        for probe in matching[:6]:
            length = probe[-1].time - probe[0].time
            if length:
                share = seconds * 1e9 / length
                yield tuple(one._replace(time=round(one.time * share)) for one in probe)
            first = probe[-1]._replace(time=0, payload=b"", flags=0x10)
            yield (first, probe[-1]._replace(time=round(seconds * 1e9)))


def edge_gap(
    base: Probe, matching: Sequence[Probe], number: float, rng: random.Random
) -> Iterator[Probe]:
    """Yield matching flows whose packets are just less, and just more, than a number of seconds
    apart."""
    for seconds in (number - NEXT / 10, number + NEXT / 10):
        for probe in matching[:6]:
            yield tuple(one._replace(time=round(n * seconds * 1e9)) for n, one in enumerate(probe))


def edge_since(
    base: Probe, matching: Sequence[Probe], number: float, rng: random.Random
) -> Iterator[Probe]:
    """Yield the capture's flows in pairs, the second one a number of seconds after the first."""
    flows = flows_of(base)
    for seconds in (number - NEXT, number + NEXT):
        for _ in range(40 if len(flows) > 1 else 0):
            pair = rng.sample(flows, 2)
            ones = [next(one for one in base if one.ends == ends) for ends in pair]
            yield (ones[0]._replace(time=0), ones[1]._replace(time=round(seconds * 1e9)))
        for probe in matching[:6]:
            one = probe[0]
            yield (one._replace(time=0), one._replace(time=round(seconds * 1e9), payload=b"more"))


EDGES: dict[str, edge_cases.Edge] = {
    "size": edge_size, "port": edge_port, "near_port": edge_near_port, "packets": edge_packets,
    "bytes": edge_bytes, "seconds": edge_seconds, "gap": edge_gap, "since": edge_since,
    **edge_cases.EDGES,
}  # fmt: skip
