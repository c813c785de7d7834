# SPDX-License-Identifier: BSD-3-Clause
"""Units that distinguish hypotheses: a packet of the capture with one thing changed, and packets
after it in the same flow, in other flows of the same hosts, and between other hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.messages import (
    client_hello,
    exemplars,
    fitted,
    noise,
    request,
    resized,
    unlike,
)
from midcall.experiments.localise.mutations import NEAR, far_addresses, other_proto
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.probe.line_oracle import DOUBLE, REORDER, Effect
from midcall.experiments.probe.prober import MS
from midcall.testbed.conformance.transcript import question
from midcall.testbed.probing.probe import Ends, Probe, Sent, flows_of, in_order
from midcall.testbed.probing.quic_initial import quic_initial
from midcall.testbed.probing.virtual_line import DATAGRAM

#: Packets of a unit, at most.
MOST_PACKETS = 700
#: Between a trigger and what follows it, in ns.
PAUSE = 120 * MS
#: Of streams that share a limited rate: the share of it that each one has, and packets at most.
BELOW, SHARING = 0.7, 54
#: Packets of each flow and direction of a dense unit: of the first flow of a kind, and of others;
#: ns between two of them; packets that are added at most.
DENSE, FEW, DENSE_APART, ADDED = 24, 12, 12 * MS, 600
#: Packets of each flow and direction of a dense unit that come later, and ns between two of them;
#: share of what is added that is kept for them, at most.
LATER, LATER_APART, KEPT = 3, 1_900 * MS, 0.5
#: First packets with a payload, of a flow or of its subscriber, in which its name is looked for.
NAMED = 4
#: The port of DNS, where nothing else is recognised, and another port.
DNS, OTHER = 53, 50_000
#: The first port that is not well known (RFC 6335).
FIRST_REGISTERED = 1024
#: Octets of a payload whose last two may be a number, at least: of one that has a header, and of
#: one of no known kind.
LEAST_MARKED, LEAST_UNKNOWN = 14, 3
#: Ports that rules often list.
PORTS = (27_011, 443, 53, 3478, 60_123)

#: Octets of payloads, of both directions or of each one: down, up.
Size = int | tuple[int, int]
#: Transport, well-known port (0 for others) and kind of the first payload of a flow.
FlowKind = tuple[int, int, str]


def neighbours(ends: Ends, proto: int = UDP) -> dict[str, Ends]:
    """Return other flows by what they share with one: hosts of it, or none.

    triple: the same hosts and far port. Other far ports are unusual ones; addresses differ from the
    flow's own.
    """
    far, other_near, other_far = ends.far, NEAR[len(ends.near)], far_addresses(ends.far)[1]
    return {
        "triple": Ends(proto, ends.near, 30_000, far, ends.far_port),
        "pair": Ends(proto, ends.near, 30_001, far, 27_311),
        "client": Ends(proto, ends.near, 30_002, other_far, 27_312),
        "server": Ends(proto, other_near, 30_003, far, 27_313),
        "other": Ends(proto, other_near, 30_004, other_far, 27_314),
    }


def carriers(
    ends: Ends, begin: int, count: int, apart: int, word: str, size: Size = 60,
    plain: bool = False, dscp: int = 0,
) -> list[Sent]:  # fmt: skip
    """Return packets of noise (plain: nearly all zeros) in both directions of a flow."""
    result = []
    for number in range(count):
        for up in (True, False):
            octets = size if isinstance(size, int) else size[up]
            body = noise(octets + number % 7, word, up, number, ends.far_port)
            if plain:
                body = zeros(octets, word, up, number)
            time = begin + number * apart + (0 if up else apart // 2)
            result.append(Sent(time, up, ends, body, dscp=dscp))
    return result


def point_after(last: Sent) -> int:
    """Return the code point of noise behind a packet in its flow: 0, but that of a stream's socket,
    which sends again with it, too."""
    return last.dscp if last.ends.proto == TCP else 0


def marked(last: Sent, number: int) -> bytes:
    """Return a packet's payload with a number in its last octets where it has room for that, stays
    what it is, and holds no name."""
    body = last.payload
    if last.ends.proto == TCP:
        return body
    before = read(last)
    if len(body) < (LEAST_UNKNOWN if before.kind == "unknown" else LEAST_MARKED):
        return body
    other = body[:-2] + number.to_bytes(2, "big")
    after = read(last._replace(payload=other))
    return body if before.where or after.kind != before.kind else other


def numbered(one: Sent, number: int) -> Sent:
    """Return a packet with a number in its payload, see `marked`."""
    return one._replace(payload=marked(one, number))


def again(last: Sent, number: int, kind: str) -> Sent:
    """Return a packet that comes again, where it is to show an effect of a kind: of equal datagrams
    it is not known which one came twice, or later."""
    return numbered(last, number) if kind in (DOUBLE, REORDER) else last


def zeros(size: int, *names: object) -> bytes:
    """Return octets that are nearly all zeros, and differ by their names."""
    return bytes(size - 3) + noise(3, *names)


def scope_unit(
    trigger: Probe, count: int, apart: int, more: Sequence[Sent] = (), proto: int = UDP,
    plain: bool = False, size: Size = 60,
) -> Probe:  # fmt: skip
    """Return a trigger and what follows it in its own flow and in neighbouring ones.

    count: pairs of packets of each flow; fewer where a unit would have more than MOST_PACKETS.
    more: packets of the same subscriber that also follow, of flows of the capture.
    """
    last = trigger[-1]
    begin = last.time + PAUSE
    flows = neighbours(last.ends, proto)
    room = MOST_PACKETS - len(trigger) - len(more)
    count = min(count, room // (2 * (1 + len(flows))))
    packets = list(trigger)
    packets += carriers(last.ends, begin, count, apart, "same", size, plain, point_after(last))
    for number, (word, ends) in enumerate(flows.items()):
        later = begin + (number + 1) * apart // 8
        packets += carriers(ends, later, count, apart, word, size, plain)
    packets += [one._replace(time=begin + one.time) for one in more]
    return in_order(packets)


def sharing_unit(trigger: Probe, sought: Effect) -> Probe:
    """Return a trigger and streams of its subscriber and others, each below a limited rate and
    those that share a host together above it."""
    rate = sought.act["rate_kbit"] * 125  # octets/s
    # in which two of them exceed the limit
    seconds = 2.0 * sought.room / ((2 * BELOW - 1) * rate) + 0.3
    size = int(min(max(seconds * BELOW * rate / SHARING - 40, 60), 1200))
    apart = int((size + 40) / (BELOW * rate) * 1e9)
    count = int(min(max(seconds * 1e9 / apart, 8), SHARING))
    return scope_unit(trigger, count, apart, proto=TCP, size=size)


def repeated_unit(
    trigger: Probe, count: int, apart: int, size: Size = 60, kind: str = ""
) -> Probe:  # fmt: skip
    """Return a trigger, its last packet again and again, and noise between the repetitions, of
    about so many octets. kind: of the effect that it is to show."""
    last = trigger[-1]
    packets = list(trigger)
    begin = last.time + PAUSE
    for number in range(count):
        packets.append(again(last, number, kind)._replace(time=begin + number * apart))
    own = point_after(last)
    packets += carriers(last.ends, begin + apart // 4, count, apart, "between", size, dscp=own)
    return in_order(packets)


def preceded_unit(
    trigger: Probe, before: tuple[int, int, Size], after: tuple[int, int, Size]
) -> Probe:  # fmt: skip
    """Return noise in the trigger's flow, then the trigger, then noise again. before, after: how
    many pairs of packets of noise, ns between two pairs, and about how many octets each has."""
    last = trigger[-1]
    own = point_after(last)
    (count, apart, size), (count_after, apart_after, size_after) = before, after
    noise = carriers(last.ends, 0, count, apart, "before", size, dscp=own)
    shift = count * apart + PAUSE
    moved = [one._replace(time=one.time + shift) for one in trigger]
    rest = carriers(last.ends, moved[-1].time + PAUSE, count_after, apart_after, "behind",
                    size_after, dscp=own)  # fmt: skip
    return in_order([*noise, *moved, *rest])


def dense_unit(base: Probe, most: int = ADDED) -> Probe:
    """Return a capture in which each flow and direction has many packets close together, and some
    later, no more than `most` in all. Datagrams that come again have numbers: of equal ones it is
    not known which were lost.

    Those that a flow has come again: of the first flow of each kind until it has DENSE packets, and
    of one that has more its largest, as limits of a rate are met by these; of others until it has
    FEW. Then some come LATER_APART after one another, for rules that begin later.
    """
    own: dict[Ends, list[Sent]] = {}
    for one in base:
        if one.payload:
            own.setdefault(one.ends, []).append(one)
    added: list[Sent] = []
    sides = [(rank, same, some[-1].time, up)
             for rank, some in ranked(own.values()) for up in (True, False)
             if (same := [one for one in some if one.up == up])]  # fmt: skip
    close = most - min(LATER * len(sides), int(KEPT * most))
    for rank, same, end, up in sides:
        lacking = (FEW if rank else DENSE) - len(same)
        if lacking <= 0 and not rank:
            same, lacking = sorted(same, key=lambda one: -len(one.payload))[:DENSE], DENSE
        if 0 < lacking <= close - len(added):
            # the slower direction of an access network would hold up the other one
            begin = end + PAUSE + (0 if up else DENSE * DENSE_APART)
            added += [numbered(same[number % len(same)], number)._replace(
                          time=begin + number * DENSE_APART)
                      for number in range(lacking)]  # fmt: skip
    for _, same, end, _ in sides:
        if most - len(added) >= LATER:
            added += [numbered(one, DENSE + number)._replace(
                          time=end + (number + 1) * LATER_APART)
                      for number, one in zip(range(LATER), cycle(same), strict=False)]  # fmt: skip
    return in_order([*base, *added])


def ranked(flows: Iterable[Sequence[Sent]]) -> list[tuple[int, Sequence[Sent]]]:
    """Return flows with how many of their kind come before them, the first of each kind first.

    Of a kind those with other names than the flows before come first, and of these the ones with
    the most packets.
    """
    names: set[tuple[FlowKind, str]] = set()
    novel: list[tuple[FlowKind, Sequence[Sent]]] = []
    known: list[tuple[FlowKind, Sequence[Sent]]] = []
    for some in sorted(flows, key=lambda own: (-len(own), own[0].time)):
        kind = flow_kind(some[0])
        named = kind, name_of(some)
        (known if named in names else novel).append((kind, some))
        names.add(named)
    result, seen = [], Counter[FlowKind]()
    for kind, some in (*novel, *known):
        result.append((seen[kind], some))
        seen[kind] += 1
    return sorted(result, key=lambda one: one[0])


def name_of(flow: Sequence[Sent]) -> str:
    """Return the first name in the first payloads of a flow, "" for none."""
    return next((name for one in flow[:NAMED] if one.payload and (name := read(one).name)), "")


def flow_kind(first: Sent) -> FlowKind:
    """Return the kind of a flow with this first packet."""
    port = first.ends.far_port
    return first.ends.proto, port if port < FIRST_REGISTERED else 0, read(first).kind


def other_flows(base: Probe, but: Ends, most: int = 8) -> list[Sent]:
    """Return the first packets of the other flows of a capture, close together."""
    result: list[Sent] = []
    for number, ends in enumerate(flows_of(base)):
        if ends != but:
            own = [one for one in base if one.ends == ends and one.payload][:most]
            result += [one._replace(time=(at * 12 + number) * MS) for at, one in enumerate(own)]
    return sorted(result, key=lambda one: one.time)


def changed_packets(one: Sent, points: Sequence[int] = ()) -> Iterator[tuple[str, Sent]]:
    """Yield a packet with one thing changed, and what that is. points: code points to try."""
    ends = one.ends
    for dscp in points:
        if dscp != one.dscp:
            yield f"code point {dscp}", one._replace(dscp=dscp)
    for port in PORTS:
        if port != ends.far_port:
            yield f"port {port}", one._replace(ends=ends._replace(far_port=port))
    for number, far in enumerate(far_addresses(ends.far)):
        yield f"address {number}", one._replace(ends=ends._replace(far=far))
    for turned in (8, 17):
        octet, bit = divmod(turned, 8)
        turned_far = bytearray(ends.far)
        turned_far[octet + (0 if len(turned_far) == 4 else 6)] ^= 0x80 >> bit
        yield f"address bit {turned}", one._replace(ends=ends._replace(far=bytes(turned_far)))
    yield "other direction", one._replace(up=not one.up)
    body = one.payload
    other = one._replace(ends=other_proto(ends))
    yield "other transport", other._replace(payload=body[:DATAGRAM])
    if not body:
        return
    yield "other octets", one._replace(payload=unlike(body, "unit"))
    yield "zeros", one._replace(payload=bytes(len(body)))
    for size in (len(body) + 24, len(body) // 2, 1200, len(body) - 1, len(body) + 1):
        if 0 < size <= DATAGRAM and size != len(body):
            for longer in list(resized(one, size))[:1]:
                yield f"{size} octets", one._replace(payload=longer)
            yield f"{size} octets of noise", one._replace(payload=noise(size, "size", size))
    for word, example in exemplars(ends.proto).items():
        yield word, as_large(one._replace(payload=example), len(body))
    reading = read(one)
    if reading.method >= 0 and len(body) >= 20:
        # without its attributes; of another method
        bare = body[:2] + b"\0\0" + body[4:20]
        yield "no attributes", one._replace(payload=bare)
        yield (
            "another method",
            one._replace(payload=bytes([body[0] ^ 0x02, body[1] ^ 0x02]) + body[2:]),
        )
    if reading.where and reading.name:
        yield from other_names(one, reading.name, reading.where)


def as_large(one: Sent, size: int) -> Sent:
    """Return a message with at least `size` octets if it can have them and stays of its kind: a
    smaller one may differ from a packet in its size alone."""
    for other in range(size, size + 4):  # STUN messages have whole words
        body = fitted(one.payload, other) if len(one.payload) < other <= DATAGRAM else None
        if body is not None:
            longer = one._replace(payload=body)
            return longer if message(longer) == message(one) else one
    return one


def message(one: Sent) -> tuple[str, int, str, int]:
    """Return what the payload of a packet is, whatever its size: kind, STUN method, name, hello."""
    reading = read(one)
    return reading.kind, reading.method, reading.name, reading.hello


def ends_of_kinds(last: Sent) -> Ends:
    """Return the ends at which kinds of payload are tried: those of a trigger, but for DNS."""
    return last.ends if last.ends.far_port != DNS else last.ends._replace(far_port=OTHER)


def other_kinds(last: Sent) -> dict[str, Sent]:
    """Return a packet of each kind of payload but the trigger's, as large as that if it can be."""
    kinds: dict[str, Sent] = {}
    ends = ends_of_kinds(last)
    for body in exemplars(last.ends.proto).values():
        one = as_large(last._replace(payload=body, ends=ends), len(last.payload))
        if read(one).kind == "unknown" and body[2:3] == b"\x01":
            one = one._replace(ends=ends._replace(far_port=DNS))  # a question is one there only
        kinds.setdefault(read(one).kind, one)
    kinds.pop(read(last).kind, None)
    return kinds


def other_names(one: Sent, name: str, where: str) -> Iterator[tuple[str, Sent]]:
    """Yield a packet that asks for other names: siblings, children and parents of its own."""
    labels = name.split(".")
    names = [name, f"x.{name}", ".".join(["other", *labels[1:]])]
    names += [".".join(labels[at:]) for at in range(1, len(labels))]
    names += [".".join(["y", *labels[at:]]) for at in range(1, len(labels))]
    makers: dict[str, Callable[[str], bytes]] = {
        "dns": question, "tls": client_hello, "http": request, "quic": quic_initial,
    }  # fmt: skip
    make = makers[where]
    for word in dict.fromkeys(names):
        yield f"name {len(word)}", one._replace(payload=make(word))
    others: dict[str, tuple[int, Callable[[str], bytes]]] = {
        "tls": (TCP, client_hello), "http": (TCP, request), "quic": (UDP, quic_initial),
    }  # fmt: skip
    if where != "dns":
        for word, (proto, other) in others.items():
            if word != where:
                ends = one.ends._replace(proto=proto)
                yield f"the name in {word}", one._replace(ends=ends, payload=other(name))
