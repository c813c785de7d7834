# SPDX-License-Identifier: BSD-3-Clause
"""Fresh probes: what a found rule and a planted one must agree on, made after the search is over.

Drawn by a generator of their own from the capture, parts of it, and single changes of all that a
probe has; half of them begin at packets that the planted rule strikes, and the numbers of a rule
(`edges`) are met just below, at and just above. The search has seen none of them.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations

from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.proofs.localiser import edge_cases
from midcall.experiments.proofs.localiser.rule import Planted
from midcall.testbed.conformance.transcript import hello, question, record
from midcall.testbed.probing.oracle import Oracle
from midcall.testbed.probing.probe import PUSH, Ends, Probe, Sent, flows_of, in_order, ip_size

#: Probes drawn for one rule, beside those at its edges.
DRAWN = 240
#: How near a time is to the end of a range, in s; the search states its ends to within 1 ms.
NEXT = 0.01
NAMES = ("www.a.example", "a.example", "b.a.example", "ba.example", "x.www.a.example",
         "call.b.example", "b.example", "web.b.example", "c.test", "example")  # fmt: skip

Draw = Callable[[Probe, random.Random], Probe]


def probes(planted: Planted, base: Probe, seed: int) -> list[Probe]:
    """Return the test set of a rule; equal arguments, equal probes."""
    draws = random.Random(f"{seed}/{planted.name}")
    struck = struck_parts(planted.oracle(), base)
    found = [base, *struck]
    for number in range(DRAWN):
        pool = struck if struck and number % 2 else []
        begin = draws.choice(pool) if pool else part(base, draws)
        for _ in range(draws.choice((1, 1, 1, 2, 3))):
            changed = draws.choice(CHANGES)(begin, draws)
            begin = changed if changed else begin
        found.append(begin)
    for what, numbers in planted.edges.items():
        for edge in numbers:
            found += EDGES[what](base, struck, edge, draws)
    found += edge_cases.words(planted.beside, base, struck)
    unseen = planted.beside.get("unseen", ())
    return [
        one for one in dict.fromkeys(map(in_order, found))
        if one and not is_late(one) and edge_cases.shown(one, unseen)
    ]  # fmt: skip


def is_late(probe: Probe) -> bool:
    """Tell whether a name or a hello stands behind other payloads of its flow, or what is no QUIC
    behind QUIC.

    How long our own box goes on reading names, and that it takes all of a flow that began as QUIC
    for QUIC, is what its readers remember and no planted rule's.
    """
    begun, quic = set(), set()
    for one in probe:
        result = read(one)
        if one.ends in begun and (result.where or result.hello):
            return True
        if one.ends in quic and one.payload and result.kind != "quic":
            return True
        if one.payload:
            begun.add(one.ends)
        if result.kind == "quic":
            quic.add(one.ends)
    return False


def struck_parts(oracle: Oracle, base: Probe) -> list[Probe]:
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
    return parts or struck_pairs(oracle, base)


def struck_pairs(oracle: Oracle, base: Probe) -> list[Probe]:
    """Return pairs of flows, whole and by their first packets, that a box blocks together."""
    parts: list[Probe] = []
    for pair in permutations(flows_of(base), 2):
        own = in_order(one for one in base if one.ends in pair)
        firsts = in_order(next(one for one in base if one.ends == ends) for ends in pair)
        parts += [some for some in (own, firsts) if oracle.blocked(some)]
    return list(dict.fromkeys(parts))


# ---- parts and changes


def part(base: Probe, draws: random.Random) -> Probe:
    """Return packets in a row of one or two flows."""
    held = flows_of(base)
    flows = draws.sample(held, min(draws.choice((1, 1, 1, 2)), len(held)))
    own = [one for one in base if one.ends in flows]
    begin = draws.randrange(len(own))
    return in_order(own[begin : begin + draws.choice((1, 2, 4, 12, 30))])


def at_packet(change: Callable[[Sent, random.Random], Sent]) -> Draw:
    """Return the change of one packet, drawn."""

    def draw(probe: Probe, draws: random.Random) -> Probe:
        at = draws.randrange(len(probe))
        return (*probe[:at], change(probe[at], draws), *probe[at + 1 :])

    return draw


def at_flow(change: Callable[[Ends, random.Random], Ends]) -> Draw:
    """Return the change of one flow's ends, drawn."""

    def draw(probe: Probe, draws: random.Random) -> Probe:
        old = draws.choice(flows_of(probe))
        new = change(old, draws)
        return tuple(one._replace(ends=new) if one.ends == old else one for one in probe)

    return draw


def other_octets(one: Sent, draws: random.Random) -> Sent:
    """Change one to three octets, the first ones more often."""
    body = bytearray(one.payload)
    for _ in range(draws.choice((1, 1, 2, 3)) if body else 0):
        place = draws.randrange(min(len(body), draws.choice((4, 24, 1500))))
        body[place] = draws.choice((draws.randrange(256), body[place] ^ (1 << draws.randrange(8))))
    return one._replace(payload=bytes(body))


def other_payload(one: Sent, draws: random.Random) -> Sent:
    """Put random octets, or zeros, in a payload's place."""
    size = draws.choice((len(one.payload), draws.randrange(1, 900)))
    return one._replace(payload=draws.choice((draws.randbytes(size), bytes(size))))


def other_size(one: Sent, draws: random.Random) -> Sent:
    """Cut or fill up a payload."""
    size = max(len(one.payload) + draws.choice((-40, -4, -1, 1, 4, 60, 400)), 0)
    return sized(one, size, draws)


def sized(one: Sent, size: int, draws: random.Random) -> Sent:
    """Give a payload a size."""
    more = max(size - len(one.payload), 0)
    return one._replace(payload=one.payload[:size] + draws.randbytes(more))


def other_message(one: Sent, draws: random.Random) -> Sent:
    """Put a STUN message, or one that tells a name, in a payload's place."""
    name = draws.choice(NAMES)
    if one.ends.proto == 6:
        web = f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
        return one._replace(payload=draws.choice((record(22, hello(name, 0x0303)), web)))
    kind = draws.choice((1, 3, 4, 9, 0x101, 0x103, 0x16))
    held = draws.choice(((), (0x4000,), (6,), (0x8022,), (0x8022, 0x4000)))
    body = b"".join(struct.pack(">HHI", attribute, 4, 9) for attribute in held)
    stun = struct.pack(">HHI", kind, len(body), STUN_COOKIE) + draws.randbytes(12) + body
    return one._replace(payload=draws.choice((question(name), stun, stun)))


def turned(one: Sent, draws: random.Random) -> Sent:
    """Let the other side send a packet."""
    return one._replace(up=not one.up)


def other_port(ends: Ends, draws: random.Random) -> Ends:
    """Give a flow another far port."""
    near = ends.far_port + draws.choice((-1, 1))
    port = draws.choice((near, 53, 80, 443, 3478, 5060, 9000, draws.randrange(1, 65_536)))
    return ends._replace(far_port=min(max(port, 1), 65_535))


def other_near_port(ends: Ends, draws: random.Random) -> Ends:
    """Give a flow another near port."""
    return ends._replace(near_port=draws.randrange(10_000, 60_000))


def other_far(ends: Ends, draws: random.Random) -> Ends:
    """Turn one bit of a flow's far address."""
    number = int.from_bytes(ends.far, "big") ^ (1 << draws.randrange(8 * len(ends.far) - 3))
    return ends._replace(far=number.to_bytes(len(ends.far), "big"))


def other_near(ends: Ends, draws: random.Random) -> Ends:
    """Let another subscriber have a flow."""
    net = bytes([192, 168, 1]) if len(ends.near) == 4 else b"\xfd" + bytes(14)
    return ends._replace(near=net + bytes([draws.randrange(11, 250)]))


def other_transport(ends: Ends, draws: random.Random) -> Ends:
    """Carry a flow over the other transport."""
    return ends._replace(proto=17 if ends.proto == 6 else 6)


def stretched(probe: Probe, draws: random.Random) -> Probe:
    """Let everything take longer, or less long."""
    share = draws.choice((0.02, 0.3, 0.7, 1.6, 5.0, 40.0))
    return tuple(one._replace(time=round(one.time * share)) for one in probe)


def thinned(probe: Probe, draws: random.Random) -> Probe:
    """Leave packets out."""
    return tuple(one for one in probe if draws.random() < 0.8)


def swapped(probe: Probe, draws: random.Random) -> Probe:
    """Let two packets change places."""
    a, b = draws.randrange(len(probe)), draws.randrange(len(probe))
    times = {a: probe[b].time, b: probe[a].time}
    return in_order(one._replace(time=times.get(at, one.time)) for at, one in enumerate(probe))


def preceded(probe: Probe, draws: random.Random) -> Probe:
    """Put packets of the same flow before the first one."""
    count = draws.choice((1, 2, 5, 11, 25))
    size = draws.choice((0, 0, 30, 300))
    first = probe[0]
    more = [
        first._replace(time=first.time - (count - n) * 5_000_000, payload=draws.randbytes(size),
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
    base: Probe, struck: Sequence[Probe], number: float, draws: random.Random
) -> Iterator[Probe]:
    """Yield packets just below, at and above a size."""
    for size in (int(number) - 1, int(number), int(number) + 1):
        for probe in [*struck[:4], part(base, draws)]:
            yield tuple(sized(one, max(size, 0), draws) for one in probe)


def beside_port(number: float) -> list[int]:
    """Return the ports just below, at and above one."""
    edge_cases = (int(number) - 1, int(number), int(number) + 1)
    return [port for port in edge_cases if 0 < port < 65_536]


def edge_port(
    base: Probe, struck: Sequence[Probe], number: float, draws: random.Random
) -> Iterator[Probe]:
    """Yield flows to ports just below, at and above one."""
    for port in beside_port(number):
        for probe in [*struck[:4], part(base, draws)]:
            yield tuple(one._replace(ends=one.ends._replace(far_port=port)) for one in probe)


def edge_near_port(
    base: Probe, struck: Sequence[Probe], number: float, draws: random.Random
) -> Iterator[Probe]:
    """Yield flows from ports just below, at and above one."""
    for port in beside_port(number):
        for probe in [*struck[:4], part(base, draws)]:
            yield tuple(one._replace(ends=one.ends._replace(near_port=port)) for one in probe)


def edge_packets(
    base: Probe, struck: Sequence[Probe], number: float, draws: random.Random
) -> Iterator[Probe]:
    """Yield struck packets as packets just before, at and after a number of their flow."""
    for count in (int(number) - 1, int(number), int(number) + 1):
        for probe in struck[:6]:
            last = probe[-1]
            fill = [last._replace(time=n * 1_000_000, payload=b"", flags=0x10)
                    for n in range(max(count - 1, 0))]  # fmt: skip
            yield (*fill, last._replace(time=max(count, 1) * 1_000_000))
            yield in_order(probe[:count])
            more = [probe[0]._replace(time=last.time + 1_000_000 * (n + 1), payload=b"", flags=0x10)
                    for n in range(max(count - len(probe), 0))]  # fmt: skip
            yield in_order([*probe, *more])


def edge_bytes(
    base: Probe, struck: Sequence[Probe], number: float, draws: random.Random
) -> Iterator[Probe]:
    """Yield struck packets just before, at and after so many bytes of their flow."""
    for total in (int(number) - 1, int(number), int(number) + 1):
        for probe in struck[:6]:
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
    base: Probe, struck: Sequence[Probe], number: float, draws: random.Random
) -> Iterator[Probe]:
    """Yield struck probes that last just less, and more, than so many seconds."""
    for seconds in (number - NEXT, number + NEXT):
        for probe in struck[:6]:
            length = probe[-1].time - probe[0].time
            if length:
                share = seconds * 1e9 / length
                yield tuple(one._replace(time=round(one.time * share)) for one in probe)
            first = probe[-1]._replace(time=0, payload=b"", flags=0x10)
            yield (first, probe[-1]._replace(time=round(seconds * 1e9)))


def edge_gap(
    base: Probe, struck: Sequence[Probe], number: float, draws: random.Random
) -> Iterator[Probe]:
    """Yield struck flows whose packets are just less, and more, than so many seconds apart."""
    for seconds in (number - NEXT / 10, number + NEXT / 10):
        for probe in struck[:6]:
            yield tuple(one._replace(time=round(n * seconds * 1e9)) for n, one in enumerate(probe))


def edge_since(
    base: Probe, struck: Sequence[Probe], number: float, draws: random.Random
) -> Iterator[Probe]:
    """Yield the capture's flows in pairs, the second one so many seconds after the first."""
    flows = flows_of(base)
    for seconds in (number - NEXT, number + NEXT):
        for _ in range(40 if len(flows) > 1 else 0):
            pair = draws.sample(flows, 2)
            ones = [next(one for one in base if one.ends == ends) for ends in pair]
            yield (ones[0]._replace(time=0), ones[1]._replace(time=round(seconds * 1e9)))
        for probe in struck[:6]:
            one = probe[0]
            yield (one._replace(time=0), one._replace(time=round(seconds * 1e9), payload=b"more"))


EDGES: dict[str, edge_cases.Edge] = {
    "size": edge_size, "port": edge_port, "near_port": edge_near_port, "packets": edge_packets,
    "bytes": edge_bytes, "seconds": edge_seconds, "gap": edge_gap, "since": edge_since,
    **edge_cases.EDGES,
}  # fmt: skip
