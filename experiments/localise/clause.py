# SPDX-License-Identifier: BSD-3-Clause
"""A clause: what a box was found to look for, as a predicate on probes.

A box blocks a probe where one of its clauses holds. A clause is about one packet, the last that it
needs: what this packet must be (Look), where in its flow it must stand (Windows), and, where the
box remembers something, which packet must have come before it (Earlier). `calls` names what
decides, as a set that can be held against another one.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.packet_fields import with_before
from midcall.experiments.localise.payload_conditions import Condition
from midcall.experiments.measure.redact import masked
from midcall.testbed.probing.probe import Ends, Probe, Sent, ip_size

FOREVER = 1 << 62
#: A range that holds everything.
ALL = (0, FOREVER)

Range = tuple[int, int]
#: An address prefix: its octets, and how many bits of them count.
Prefix = tuple[bytes, int]


def within(span: Range, value: int) -> bool:
    """Tell whether a number lies in a range, both ends included."""
    return span[0] <= value <= span[1]


class Look(NamedTuple):
    """What one packet must be; None where it does not matter.

    ports and near_ports: of either end, ranges, one of which is enough; far and near: address
    prefixes; size: range of payload octets; version: of IP; but: Looks that it must not have
    (exceptions).
    """

    proto: int | None = None
    ports: tuple[Range, ...] | None = None
    near_ports: tuple[Range, ...] | None = None
    far: Prefix | None = None
    near: Prefix | None = None
    up: bool | None = None
    size: Range | None = None
    payload: Condition | None = None
    version: int | None = None
    but: tuple[Look, ...] = ()

    def meets(self, one: Sent) -> bool:
        """Tell whether a packet is that."""
        met = self.flow_meets(one.ends) and self.packet_meets(one)
        return met and not any(other.meets(one) for other in self.but)

    def flow_meets(self, ends: Ends) -> bool:
        """Tell whether a flow is that."""
        if self.proto is not None and ends.proto != self.proto:
            return False
        if self.version is not None and self.version != version_of(ends):
            return False
        if self.ports is not None and not any(within(one, ends.far_port) for one in self.ports):
            return False
        if self.near_ports is not None:
            if not any(within(one, ends.near_port) for one in self.near_ports):
                return False
        if self.far is not None and not prefix_meets(self.far, ends.far):
            return False
        return self.near is None or prefix_meets(self.near, ends.near)

    def packet_meets(self, one: Sent) -> bool:
        """Tell whether a packet of such a flow is that."""
        if self.up is not None and one.up != self.up:
            return False
        if self.size is not None and not within(self.size, len(one.payload)):
            return False
        return self.payload is None or self.payload.meets(one)

    @property
    def calls(self) -> frozenset[str]:
        """Return the names of what decides."""
        given = {
            "protocol": self.proto, "far port": self.ports, "near port": self.near_ports,
            "far address": self.far, "near address": self.near, "direction": self.up,
            "size": self.size, "IP version": self.version,
        }  # fmt: skip
        result = {name for name, value in given.items() if value is not None}
        if self.payload is not None:
            result.add(self.payload.called)
        return frozenset(result).union(*(other.calls for other in self.but))

    def words(self, reveal: bool) -> Iterator[str]:
        """Yield in words what the packet must be; addresses and names masked unless `reveal`."""
        if self.version is not None:
            yield f"IPv{self.version}"
        if self.proto is not None:
            yield {TCP: "TCP", UDP: "UDP"}.get(self.proto, f"IP protocol {self.proto}")
        if self.up is not None:
            yield "sent by the subscriber" if self.up else "sent to the subscriber"
        for ports, end in ((self.ports, "far"), (self.near_ports, "near")):
            if ports is not None:
                yield f"{end} port {', '.join(range_words(one) for one in ports)}"
        for prefix, words in ((self.far, "far address"), (self.near, "near address")):
            if prefix is not None:
                yield f"{words} {prefix_words(prefix, reveal)}"
        if self.size is not None:
            yield f"payload of {range_words(self.size)} octets"
        if self.payload is not None:
            yield self.payload.words if reveal else self.payload.secret or self.payload.words
        for other in self.but:
            yield f"except {' and '.join(other.words(reveal))}"


class Windows(NamedTuple):
    """Where in its flow a packet must stand, itself counted: ranges.

    packets and octets (IP) of the flow so far; loaded: packets of it with a payload before this
    one; age: ns since the flow's first packet.
    """

    packets: Range = ALL
    loaded: Range = ALL
    octets: Range = ALL
    age: Range = ALL

    def meet(self, packets: int, loaded: int, octets: int, age: int) -> bool:
        """Tell whether counts lie in the windows."""
        return (
            within(self.packets, packets)
            and within(self.loaded, loaded)
            and within(self.octets, octets)
            and within(self.age, age)
        )

    @property
    def calls(self) -> frozenset[str]:
        """Return the names of the windows that are limited."""
        names = {"packets": self.packets, "loaded": self.loaded, "bytes": self.octets,
                 "seconds": self.age}  # fmt: skip
        return frozenset(name for name, span in names.items() if span != ALL)

    def words(self, since: str) -> Iterator[str]:
        """Yield the limited windows in words; since: what is counted from."""
        if self.packets != ALL:
            yield f"packet {range_words((max(self.packets[0], 1), self.packets[1]))} of {since}"
        if self.loaded != ALL:
            yield f"{range_words(self.loaded)} packets with a payload before it in {since}"
        if self.octets != ALL:
            yield f"{range_words(self.octets)} bytes into {since}"
        if self.age != ALL:
            yield f"{seconds_words(self.age)} into {since}"


class Earlier(NamedTuple):
    """A packet that must have come before: of the same flow, or of any flow of the subscriber.

    since: what may have come from that packet on, it and the last one counted; place: range of the
    numbers that the packet may have in its flow.
    """

    look: Look
    same_flow: bool
    since: Windows = Windows()
    place: Range = ALL


class Sparing(NamedTuple):
    """A packet of the same flow, the struck one itself or one before, that spares the flow.

    place: range of the numbers that it may have in its flow.
    """

    look: Look
    place: Range = ALL

    @property
    def calls(self) -> frozenset[str]:
        """Return the names of what spares."""
        result = self.look.calls | ({"packets"} if self.place != ALL else set())
        return frozenset(f"unless {name}" for name in result) or frozenset({"unless"})


class Clause(NamedTuple):
    """One way to be blocked.

    times: how many packets in a row of one flow must meet `look`, each `gap` ns (a range) after
    the one before it; `close`: no other packet of the flow may come between; `each_way`: rows are
    of one direction, whatever comes from the other side; unless: packets that spare a flow.
    """

    look: Look
    windows: Windows = Windows()
    earlier: Earlier | None = None
    times: int = 1
    gap: Range = ALL
    close: bool = False
    each_way: bool = False
    unless: tuple[Sparing, ...] = ()

    def holds(self, probe: Probe) -> bool:
        """Tell whether a box that has this clause blocks a probe."""
        return self.strikes(probe) is not None

    def strikes(self, probe: Probe) -> int | None:
        """Return the number of the first packet of a probe at which the clause holds, or None."""
        flows: dict[Ends, Count] = defaultdict(Count)
        probe = self._in_context(probe)
        rows: dict[tuple[Ends, bool], Row] = defaultdict(Row)
        before: list[Mark] = []
        spared: set[Ends] = set()
        for number, one in enumerate(probe):
            count = flows[one.ends]
            count.add(one)
            for sparing in self.unless:
                if within(sparing.place, count.packets) and sparing.look.meets(one):
                    spared.add(one.ends)
            if self._leads(one, count):
                before.append(Mark(number, one, *count.before(one)))
            hit = self.look.meets(one)
            row = rows[one.ends, one.up and self.each_way]
            row.add(one, hit, self.gap, self.close)
            if not hit or row.length < self.times or one.ends in spared:
                continue
            if not self.windows.meet(*count.so_far(one)):
                continue
            if self.earlier is None or self._after(one, number, count, before):
                return number
        return None

    def _in_context(self, probe: Probe) -> Probe:
        """Return a probe whose packets have those before them, where a condition reads messages."""
        looks = [self.look, *(sparing.look for sparing in self.unless)]
        looks += [self.earlier.look] if self.earlier else []
        looks += [other for look in looks for other in look.but]
        if not any(look.payload is not None and look.payload.of_message for look in looks):
            return probe
        return tuple(with_before(probe, at) for at in range(len(probe)))

    def _leads(self, one: Sent, count: Count) -> bool:
        """Tell whether a packet is one that must come before."""
        earlier = self.earlier
        if earlier is None or not within(earlier.place, count.packets):
            return False
        return earlier.look.meets(one)

    def _after(self, one: Sent, number: int, count: Count, before: Sequence[Mark]) -> bool:
        """Tell whether a packet that must come before did."""
        earlier = self.earlier
        assert earlier is not None
        for mark in before:
            if mark.one.ends.near != one.ends.near:
                continue
            if earlier.same_flow:
                if mark.one.ends != one.ends:
                    continue
                result = (
                    count.packets - mark.packets,
                    count.loaded - bool(one.payload) - mark.loaded,
                    count.octets - mark.octets,
                    one.time - mark.one.time,
                )
            elif mark.number == number:
                continue
            else:
                result = (0, 0, 0, one.time - mark.one.time)
            if mark.number == number and not earlier.since.calls:
                continue
            if earlier.since.meet(*result):
                return True
        return False

    @property
    def calls(self) -> frozenset[str]:
        """Return the names of what decides."""
        result = set(self.look.calls | self.windows.calls)
        if self.times > 1:
            result.add("times")
        if self.gap != ALL:
            result.add("gap")
        if self.earlier is not None:
            result |= {f"earlier {name}" for name in self.earlier.look.calls} | {"earlier"}
            result |= {f"since {name}" for name in self.earlier.since.calls}
            if self.earlier.place != ALL:
                result.add("earlier packets")
        for sparing in self.unless:
            result |= sparing.calls
        return frozenset(result)

    def words(self, reveal: bool = False) -> list[str]:
        """Return in words what must be, one line each."""
        result = list(self.look.words(reveal)) or ["any packet"]
        if self.times > 1 or self.gap != ALL:
            row = "in a row" if self.close else "of the flow"
            row += " in one direction" if self.each_way else ""
            gap = "" if self.gap == ALL else f", {seconds_words(self.gap)} apart"
            result.append(f"{self.times} such packets {row}{gap}")
        result += self.windows.words("its flow")
        if self.earlier is not None:
            where = "in the same flow" if self.earlier.same_flow else "of the same subscriber"
            earlier = ", ".join(self.earlier.look.words(reveal)) or "any packet"
            number = place_words(self.earlier.place)
            result.append(f"after a packet {where}: {earlier}{number}")
            result += self.earlier.since.words("what came since then")
        for sparing in self.unless:
            words = ", ".join(sparing.look.words(reveal)) or "any"
            result.append(
                f"unless its flow has shown a packet: {words}{place_words(sparing.place)}"
            )
        return result


class Mark(NamedTuple):
    """A packet that came before, and what its flow had done until then."""

    number: int
    one: Sent
    packets: int
    loaded: int
    octets: int


class Count:
    """What a flow has done so far."""

    def __init__(self) -> None:
        self.packets = self.loaded = self.octets = 0
        self.first = -1

    def add(self, one: Sent) -> None:
        """Count a packet."""
        self.packets += 1
        self.octets += ip_size(one)
        self.loaded += bool(one.payload)
        self.first = one.time if self.first < 0 else self.first

    def before(self, one: Sent) -> tuple[int, int, int]:
        """Return packets, loaded packets and octets before the packet just counted."""
        return self.packets - 1, self.loaded - bool(one.payload), self.octets - ip_size(one)

    def so_far(self, one: Sent) -> tuple[int, int, int, int]:
        """Return what Windows asks for of the packet just counted."""
        loaded = self.loaded - bool(one.payload)
        return self.packets, loaded, self.octets, one.time - self.first


class Row:
    """Packets that come one after the other."""

    def __init__(self) -> None:
        self.length, self.last = 0, -1

    def add(self, one: Sent, hit: bool, gap: Range, close: bool) -> None:
        """Go on with the row, or begin it anew."""
        if hit:
            follows = self.last >= 0 and within(gap, one.time - self.last)
            self.length = self.length + 1 if follows else 1
            self.last = one.time
        elif close:
            self.length, self.last = 0, -1


def version_of(ends: Ends) -> int:
    """Return the version of IP of a flow: 4 or 6."""
    return 4 if len(ends.far) == 4 else 6


def place_words(place: Range) -> str:
    """Return where in its flow a packet must stand, as a clause; "" where anywhere."""
    return (
        "" if place == ALL else f" (packet {range_words((max(place[0], 1), place[1]))} of its flow)"
    )


def prefix_meets(prefix: Prefix, address: bytes) -> bool:
    """Tell whether an address lies in a prefix."""
    octets, bits = prefix
    if len(octets) != len(address):
        return False
    shift = 8 * len(octets) - bits
    return int.from_bytes(octets, "big") >> shift == int.from_bytes(address, "big") >> shift


def prefix_words(prefix: Prefix, reveal: bool) -> str:
    """Return an address prefix in words, masked unless `reveal`."""
    octets, bits = prefix
    network = ipaddress.ip_network((octets, bits), strict=False)
    return str(network) if reveal else f"{masked(str(network.network_address))}/{bits}"


def range_words(span: Range) -> str:
    """Return a range of whole numbers in words."""
    low, high = span
    if low == high:
        return f"{low}"
    if high >= FOREVER:
        return f"{low} or more"
    return f"{low} to {high}" if low > 0 else f"at most {high}"


def seconds_words(span: Range) -> str:
    """Return a range of ns in words, in seconds."""
    low, high = (f"{value / 1e9:.4g}" for value in span)
    if span[1] >= FOREVER:
        return f"at least {low} s"
    return f"{low} to {high} s" if span[0] > 0 else f"at most {high} s"


def blocks(clauses: Sequence[Clause], probe: Probe) -> bool:
    """Tell whether a box with these clauses blocks a probe."""
    return any(clause.holds(probe) for clause in clauses)
