# SPDX-License-Identifier: BSD-3-Clause
"""A clause: one condition under which a box blocks, as a predicate on probes.

A box blocks a probe if at least one of its clauses holds. The box needs to see certain packets
before it blocks; a clause describes the last of them. PacketCondition has the properties of this
packet, Windows its position in its flow, and Earlier, for a box with state, the packet that must
come before it. `factors` is the set of names of the properties that the clause restricts; it is
used to compare two clauses.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.packet_fields import with_before
from midcall.experiments.localise.payload_conditions import PayloadCondition
from midcall.experiments.measure.redact import masked
from midcall.testbed.probing.probe import Ends, Probe, Sent, ip_size

FOREVER = 1 << 62
#: The range of all numbers.
ALL = (0, FOREVER)

Range = tuple[int, int]
#: An address prefix: its octets, and how many bits of them count.
Prefix = tuple[bytes, int]


def within(span: Range, value: int) -> bool:
    """Return whether a number lies in a range, both ends included."""
    return span[0] <= value <= span[1]


class PacketCondition(NamedTuple):
    """The properties that one packet must have. A field that is None matches any packet.

    The near end is the subscriber's, the far end is the other one. ports, near_ports: ranges of the
    far and of the near port; at least one range must match. far, near: address prefixes. up:
    whether the subscriber sent the packet. size: range of the payload's length in octets. version:
    IP version. exceptions: conditions that the packet must not meet.
    """

    proto: int | None = None
    ports: tuple[Range, ...] | None = None
    near_ports: tuple[Range, ...] | None = None
    far: Prefix | None = None
    near: Prefix | None = None
    up: bool | None = None
    size: Range | None = None
    payload: PayloadCondition | None = None
    version: int | None = None
    exceptions: tuple[PacketCondition, ...] = ()

    def meets(self, packet: Sent) -> bool:
        """Return whether a packet meets the condition and none of its exceptions."""
        met = self.flow_meets(packet.ends) and self.packet_meets(packet)
        return met and not any(other.meets(packet) for other in self.exceptions)

    def flow_meets(self, ends: Ends) -> bool:
        """Return whether a flow's protocol, version, ports and addresses match."""
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

    def packet_meets(self, packet: Sent) -> bool:
        """Return whether a packet's direction, size and payload match."""
        if self.up is not None and packet.up != self.up:
            return False
        if self.size is not None and not within(self.size, len(packet.payload)):
            return False
        return self.payload is None or self.payload.meets(packet)

    @property
    def factors(self) -> frozenset[str]:
        """Return the names of the properties that the condition restricts."""
        values = {
            "protocol": self.proto, "far port": self.ports, "near port": self.near_ports,
            "far address": self.far, "near address": self.near, "direction": self.up,
            "size": self.size, "IP version": self.version,
        }  # fmt: skip
        result = {name for name, value in values.items() if value is not None}
        if self.payload is not None:
            result.add(self.payload.factor)
        return frozenset(result).union(*(other.factors for other in self.exceptions))

    def words(self, reveal: bool) -> Iterator[str]:
        """Yield the condition in words; addresses and names are masked unless `reveal`."""
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
        for other in self.exceptions:
            yield f"except {' and '.join(other.words(reveal))}"


class Windows(NamedTuple):
    """The position of a packet in its flow: a range for each of four counts.

    packets, octets: packets and IP octets of the flow up to and including this packet; loaded:
    packets with a payload before this packet; age: ns since the flow's first packet.
    """

    packets: Range = ALL
    loaded: Range = ALL
    octets: Range = ALL
    age: Range = ALL

    def meet(self, packets: int, loaded: int, octets: int, age: int) -> bool:
        """Return whether each count lies in its range."""
        return (
            within(self.packets, packets)
            and within(self.loaded, loaded)
            and within(self.octets, octets)
            and within(self.age, age)
        )

    @property
    def factors(self) -> frozenset[str]:
        """Return the names of the counts that the windows restrict."""
        names = {"packets": self.packets, "loaded": self.loaded, "bytes": self.octets,
                 "seconds": self.age}  # fmt: skip
        return frozenset(name for name, span in names.items() if span != ALL)

    def words(self, since: str) -> Iterator[str]:
        """Yield the restricted counts in words; since: what is counted, such as "its flow"."""
        if self.packets != ALL:
            yield f"packet {range_words((max(self.packets[0], 1), self.packets[1]))} of {since}"
        if self.loaded != ALL:
            yield f"{range_words(self.loaded)} packets with a payload before it in {since}"
        if self.octets != ALL:
            yield f"{range_words(self.octets)} bytes into {since}"
        if self.age != ALL:
            yield f"{seconds_words(self.age)} into {since}"


class Earlier(NamedTuple):
    """The earlier packet: one that must come before the packet of the clause.

    same_flow: whether both packets must be of one flow; otherwise any flow of the same subscriber
    will do. since: windows with counts that begin at the earlier packet: `packets` and `octets`
    include both packets, `loaded` includes the earlier packet but not the later one. place: range
    for the earlier packet's number in its flow, from 1.
    """

    condition: PacketCondition
    same_flow: bool
    since: Windows = Windows()
    place: Range = ALL


class Exemption(NamedTuple):
    """A packet that exempts its flow from the block.

    It is the packet at which the clause would hold, or one before it. place: range for its number
    in its flow, from 1.
    """

    condition: PacketCondition
    place: Range = ALL

    @property
    def factors(self) -> frozenset[str]:
        """Return the names of the properties that exempt the flow."""
        result = self.condition.factors | ({"packets"} if self.place != ALL else set())
        return frozenset(f"unless {name}" for name in result) or frozenset({"unless"})


class Clause(NamedTuple):
    """One sufficient condition for a block.

    times: how many packets of one flow must meet `condition` before the box blocks (a run); gap:
    range for the time between two of them, in ns; consecutive: whether a packet of the flow that
    does not meet `condition` ends the run; per_direction: each direction has its own run, so
    packets of the other direction do not end it; unless: packets that exempt a flow.
    """

    condition: PacketCondition
    windows: Windows = Windows()
    earlier: Earlier | None = None
    times: int = 1
    gap: Range = ALL
    consecutive: bool = False
    per_direction: bool = False
    unless: tuple[Exemption, ...] = ()

    def holds(self, probe: Probe) -> bool:
        """Return whether a box with this clause blocks a probe."""
        return self.first_match(probe) is not None

    def first_match(self, probe: Probe) -> int | None:
        """Return the index of the first packet at which the clause holds, or None."""
        flows: dict[Ends, FlowCounts] = defaultdict(FlowCounts)
        probe = self._in_context(probe)
        runs: dict[tuple[Ends, bool], PacketRun] = defaultdict(PacketRun)
        before: list[EarlierPacket] = []
        exempt: set[Ends] = set()
        for number, one in enumerate(probe):
            count = flows[one.ends]
            count.add(one)
            for exemption in self.unless:
                if within(exemption.place, count.packets) and exemption.condition.meets(one):
                    exempt.add(one.ends)
            if self._can_be_earlier(one, count):
                before.append(EarlierPacket(number, one, *count.before(one)))
            meets = self.condition.meets(one)
            run = runs[one.ends, one.up and self.per_direction]
            run.add(one, meets, self.gap, self.consecutive)
            if not meets or run.length < self.times or one.ends in exempt:
                continue
            if not self.windows.meet(*count.so_far(one)):
                continue
            if self.earlier is None or self._has_earlier(one, number, count, before):
                return number
        return None

    def _in_context(self, probe: Probe) -> Probe:
        """Return the probe; if a condition reads messages, each packet has its earlier payloads.

        A message can extend over several packets (packet_fields.with_before).
        """
        conditions = [self.condition, *(exemption.condition for exemption in self.unless)]
        conditions += [self.earlier.condition] if self.earlier else []
        conditions += [other for condition in conditions for other in condition.exceptions]
        if not any(
            condition.payload is not None and condition.payload.of_message
            for condition in conditions
        ):
            return probe
        return tuple(with_before(probe, at) for at in range(len(probe)))

    def _can_be_earlier(self, packet: Sent, count: FlowCounts) -> bool:
        """Return whether a packet meets the condition and the place of the earlier packet."""
        earlier = self.earlier
        if earlier is None or not within(earlier.place, count.packets):
            return False
        return earlier.condition.meets(packet)

    def _has_earlier(
        self, packet: Sent, number: int, count: FlowCounts, before: Sequence[EarlierPacket]
    ) -> bool:
        """Return whether one of the earlier packets in `before` satisfies `since` for this packet.

        number: the packet's index in the probe; count: the counts of its flow.
        """
        earlier = self.earlier
        assert earlier is not None
        for lead in before:
            if lead.one.ends.near != packet.ends.near:
                continue
            if earlier.same_flow:
                if lead.one.ends != packet.ends:
                    continue
                counts = (
                    count.packets - lead.packets,
                    count.loaded - bool(packet.payload) - lead.loaded,
                    count.octets - lead.octets,
                    packet.time - lead.one.time,
                )
            elif lead.number == number:
                continue
            else:
                counts = (0, 0, 0, packet.time - lead.one.time)
            if lead.number == number and not earlier.since.factors:
                continue
            if earlier.since.meet(*counts):
                return True
        return False

    @property
    def factors(self) -> frozenset[str]:
        """Return the names of the properties that the clause restricts."""
        result = set(self.condition.factors | self.windows.factors)
        if self.times > 1:
            result.add("times")
        if self.gap != ALL:
            result.add("gap")
        if self.earlier is not None:
            result |= {f"earlier {name}" for name in self.earlier.condition.factors} | {"earlier"}
            result |= {f"since {name}" for name in self.earlier.since.factors}
            if self.earlier.place != ALL:
                result.add("earlier packets")
        for exemption in self.unless:
            result |= exemption.factors
        return frozenset(result)

    def words(self, reveal: bool = False) -> list[str]:
        """Return the clause in words, one line per condition."""
        result = list(self.condition.words(reveal)) or ["any packet"]
        if self.times > 1 or self.gap != ALL:
            run = "in a row" if self.consecutive else "of the flow"
            run += " in one direction" if self.per_direction else ""
            gap = "" if self.gap == ALL else f", {seconds_words(self.gap)} apart"
            result.append(f"{self.times} such packets {run}{gap}")
        result += self.windows.words("its flow")
        if self.earlier is not None:
            where = "in the same flow" if self.earlier.same_flow else "of the same subscriber"
            earlier = ", ".join(self.earlier.condition.words(reveal)) or "any packet"
            number = place_words(self.earlier.place)
            result.append(f"after a packet {where}: {earlier}{number}")
            result += self.earlier.since.words("what came since then")
        for exemption in self.unless:
            words = ", ".join(exemption.condition.words(reveal)) or "any"
            result.append(
                f"unless its flow has shown a packet: {words}{place_words(exemption.place)}"
            )
        return result


class EarlierPacket(NamedTuple):
    """An earlier packet, its index in the probe, and the counts of its flow before it."""

    number: int
    one: Sent
    packets: int
    loaded: int
    octets: int


class FlowCounts:
    """Counts of a flow so far: packets, packets with a payload (`loaded`), IP octets."""

    def __init__(self) -> None:
        self.packets = self.loaded = self.octets = 0
        self.first = -1

    def add(self, packet: Sent) -> None:
        """Count a packet."""
        self.packets += 1
        self.octets += ip_size(packet)
        self.loaded += bool(packet.payload)
        self.first = packet.time if self.first < 0 else self.first

    def before(self, packet: Sent) -> tuple[int, int, int]:
        """Return packets, packets with a payload, and octets before the packet just counted."""
        return self.packets - 1, self.loaded - bool(packet.payload), self.octets - ip_size(packet)

    def so_far(self, packet: Sent) -> tuple[int, int, int, int]:
        """Return the four counts of Windows for the packet just counted."""
        loaded = self.loaded - bool(packet.payload)
        return self.packets, loaded, self.octets, packet.time - self.first


class PacketRun:
    """A run: packets of one flow that meet a condition, at intervals that lie in a range."""

    def __init__(self) -> None:
        self.length, self.last = 0, -1

    def add(self, packet: Sent, meets: bool, gap: Range, consecutive: bool) -> None:
        """Count a packet of the flow: it continues the run, starts a new one, or ends it."""
        if meets:
            follows = self.last >= 0 and within(gap, packet.time - self.last)
            self.length = self.length + 1 if follows else 1
            self.last = packet.time
        elif consecutive:
            self.length, self.last = 0, -1


def version_of(ends: Ends) -> int:
    """Return the IP version of a flow: 4 or 6."""
    return 4 if len(ends.far) == 4 else 6


def place_words(place: Range) -> str:
    """Return a range of positions in a flow in words, in parentheses; "" for all positions."""
    return (
        "" if place == ALL else f" (packet {range_words((max(place[0], 1), place[1]))} of its flow)"
    )


def prefix_meets(prefix: Prefix, address: bytes) -> bool:
    """Return whether an address lies in a prefix."""
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
    """Return whether a box with these clauses blocks a probe."""
    return any(clause.holds(probe) for clause in clauses)
