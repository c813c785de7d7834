# SPDX-License-Identifier: BSD-3-Clause
"""Learns what one packet of a probe must be, one property at a time.

Whatever does not matter stays replaced by a neutral value, so that the remaining properties are
needed together; where one of two causes would suffice, only one of them remains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.clause import (
    ALL,
    FOREVER,
    Clause,
    PacketCondition,
    Prefix,
    Range,
    blocks,
    version_of,
    within,
)
from midcall.experiments.localise.messages import client_hello, noise, request, resized, unlike
from midcall.experiments.localise.mutations import (
    LISTED,
    flipped_bit,
    images,
    near_addresses,
    with_client,
    with_ends,
    with_packet,
    with_payload,
    with_port,
    with_version,
)
from midcall.experiments.localise.oracle_session import OracleSession
from midcall.experiments.localise.packet_fields import read, with_before
from midcall.experiments.localise.payload_conditions import HostName, PayloadCondition
from midcall.experiments.localise.payload_hypotheses import learn
from midcall.experiments.localise.position import bisect
from midcall.testbed.probing.probe import Ends, Probe, Sent, flows_of
from midcall.testbed.probing.quic_initial import quic_initial

#: Largest payload that is tried, and a payload of the size of small messages.
LARGE, LEAST = 1400, 60
LAST_PORT = 65_535
#: Number of trials in which several bits of an address are flipped together.
DRAWN = 4
#: Number of bisections of a range of ports to find gaps in it.
DEPTH = 3

#: Properties of a flow that are varied, and (except the far address) their PacketCondition field.
OF_FLOW = ("far", "far_port", "near_port", "proto")
RANGED = (("far_port", "ports"), ("near_port", "near_ports"), ("proto", "proto"))


class PacketLearner:
    """Learns what packets of a probe must be. `probe` is the probe, neutral as far as is known.

    known: clauses that were found before; where one of them holds, an answer gives no new
    information. needs: properties that matter, by flow; client: whether the subscriber's address
    matters.
    """

    def __init__(self, session: OracleSession, probe: Probe, known: Sequence[Clause] = ()) -> None:
        self.session, self.probe, self.known = session, probe, known
        self.needs: dict[Ends, set[str]] = {ends: set() for ends in flows_of(probe)}
        self.client = False

    def blocked(self, probe: Probe) -> bool:
        """Return whether the box blocks a probe."""
        return self.session.blocked(probe)

    # -- making neutral

    def strip_flows(self) -> None:
        """Replace properties of flows and the subscriber's address that do not matter."""
        for ends in list(self.needs):
            current = ends
            for field in OF_FLOW:
                current = self._strip(current, field)
        near = self.probe[-1].ends.near
        neutral = [with_client(self.probe, one) for one in near_addresses(near)]
        if all(self.blocked(one) for one in neutral):
            needs = [self.needs[ends] for ends in flows_of(self.probe)]
            self.probe = neutral[0]
            self.needs = dict(zip(flows_of(self.probe), needs, strict=True))
        else:
            self.client = True

    def _strip(self, ends: Ends, field: str) -> Ends:
        """Replace one property of a flow if no neutral value unblocks; returns the flow's ends."""
        neutral = list(images(ends, field))
        if not all(self.blocked(with_ends(self.probe, ends, one)) for one in neutral):
            self.needs[ends].add(field)
            return ends
        self.probe = with_ends(self.probe, ends, neutral[0])
        self.needs[neutral[0]] = self.needs.pop(ends)
        return neutral[0]

    # -- one packet

    def learn(self, at: int) -> PacketCondition:
        """Return the condition on packet `at`."""
        one = with_before(self.probe, at)
        fields: dict[str, Any] = {}
        sizes = self.size(at, None) or ALL if self.accepts_other_octets(at) else self.sizes(at)
        payload = learn(
            one,
            lambda body: self.blocked(with_payload(self.probe, at, body)),
            sizes,
            lambda body: not blocks(self.known, with_payload(self.probe, at, body)),
        )
        if isinstance(payload, HostName) and "dns" not in payload.where:
            payload = self.name_places(at, payload)
        fields["payload"] = payload
        fields["size"] = self.size(at, payload)
        opposite = with_packet(self.probe, at, one._replace(up=not one.up))
        if not self.blocked(opposite):
            fields["up"] = one.up
        needs = self.needs[one.ends]
        if "far" in needs:
            fields["far"] = self._far(one.ends)
        for what, name in RANGED:
            if what in needs and not implied(one, what, payload):
                fields[name] = getattr(self, f"_{what}")(one.ends)
        if self.client:
            fields["near"] = self._near(one.ends)
        fixed = self.client or any("far" in needs for needs in self.needs.values())
        if not fixed and not self.blocked(with_version(self.probe)):
            fields["version"] = version_of(one.ends)
        return PacketCondition(**fields)

    def name_places(self, at: int, name_condition: HostName) -> HostName:
        """Return in which protocols a name is matched; those of the other transport are tried
        too."""
        one = self.probe[at]
        messages: dict[str, tuple[int, Callable[[str], bytes]]] = {
            "quic": (UDP, quic_initial), "tls": (TCP, client_hello), "http": (TCP, request),
        }  # fmt: skip
        name, places = read(one).name, set(name_condition.where)
        for place in name_condition.where - {read(one).where}:
            proto, make = messages[place]
            if proto == one.ends.proto:
                continue
            other = with_ends(self.probe, one.ends, one.ends._replace(proto=proto))
            if not self.blocked(with_payload(other, at, make(name))):
                places.discard(place)
        return HostName(frozenset(places), name_condition.pattern)

    def accepts_other_octets(self, at: int) -> bool:
        """Return whether packet `at` is blocked with other octets in its payload."""
        body = self.probe[at].payload
        return self._any(at, [unlike(body, "loose")]) if body else True

    def sizes(self, at: int) -> Range:
        """Return a range of payload sizes at which a packet is blocked with its payload (nearly)
        unchanged; only its own size if other sizes are not blocked."""
        one = self.probe[at]
        size = len(one.payload)
        if not self._any(at, resized(one, size + 300)):
            return size, size
        if not self._any(at, resized(one, size // 2)):
            return size, size
        if size // 2 > LEAST and not self._any(at, resized(one, LEAST)):
            return size // 2, size + 300
        return ALL

    def _any(self, at: int, bodies: Iterable[bytes]) -> bool:
        return any(self.blocked(with_payload(self.probe, at, body)) for body in bodies)

    def size(self, at: int, payload: PayloadCondition | None) -> Range | None:
        """Return the range of payload sizes at which a packet is blocked, None for any."""
        one = with_before(self.probe, at)
        own = len(one.payload)

        def fits(size: int) -> bool | None:
            for body in resized(one, size):
                if payload is None or payload.meets(one._replace(payload=body)):
                    return self.blocked(with_payload(self.probe, at, body))
            return None

        low, high = 0, FOREVER
        floor = next((size for size in range(own + 1) if fits_at_all(one, size, payload)), own)
        if floor < own and not fits(floor):
            low = bisect(own, floor, lambda size: bool(fits(size)))
        if fits(LARGE) is False:
            high = bisect(own, LARGE, lambda size: bool(fits(size)))
        return None if low <= 0 and high >= FOREVER else (low, high)

    # -- ranges of a flow's things

    def _far_port(self, ends: Ends) -> tuple[Range, ...]:
        return self._ports(ends, "far_port")

    def _near_port(self, ends: Ends) -> tuple[Range, ...]:
        return self._ports(ends, "near_port")

    def _ports(self, ends: Ends, field: str) -> tuple[Range, ...]:
        """Return the ports that are blocked: ranges around the flow's own port, and listed ones.

        Beyond each end of the range one port is skipped and the next one is tried: of port pairs
        one may be missing.
        """
        own = int(getattr(ends, field))

        def is_blocked(port: int) -> bool:
            return self.blocked(with_ends(self.probe, ends, with_port(ends, field, port)))

        low = 1 if is_blocked(1) else bisect(own, 1, is_blocked)
        high = LAST_PORT if is_blocked(LAST_PORT) else bisect(own, LAST_PORT, is_blocked)
        ranges = [*pieces(low, own, is_blocked), *pieces(own, high, is_blocked)]
        outside = [port for port in (low - 2, high + 2) if 0 < port <= LAST_PORT]
        for port in (*LISTED, *outside):
            if not any(within(one, port) for one in ranges) and is_blocked(port):
                ranges.append(
                    (port_range_end(port, -1, is_blocked), port_range_end(port, 1, is_blocked))
                )
        return merged(ranges)

    def _proto(self, ends: Ends) -> int:
        return ends.proto

    def _far(self, ends: Ends) -> Prefix | None:
        """Return the decisive prefix of the far address, None if only other addresses are
        exempt."""

        def image(far: bytes) -> Probe:
            return with_ends(self.probe, ends, ends._replace(far=far))

        prefix = self._prefix(ends.far, image)
        return prefix if prefix[1] else None

    def _near(self, ends: Ends) -> Prefix:
        return self._prefix(ends.near, lambda one: with_client(self.probe, one))

    def _prefix(self, own: bytes, image: Callable[[bytes], Probe]) -> Prefix:
        """Return the decisive prefix of an address, by flipping single bits, then several."""

        def free(bits: Iterable[int]) -> bool:
            other = own
            for bit in bits:
                other = flipped_bit(other, bit)
            return self.blocked(image(other))

        count = 8 * len(own)
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if free([middle]):
                high = middle
            else:
                low = middle + 1
        if not all(map(free, some_bits(low, count))):
            low = next((bit + 1 for bit in range(count - 1, low - 1, -1) if not free([bit])), low)
        return own, low


def some_bits(low: int, count: int) -> Iterator[list[int]]:
    """Yield pseudo-random subsets of the bits from `low` on; equal arguments give equal subsets."""
    for number in range(DRAWN):
        drawn = int.from_bytes(noise(16, "bits", number, low), "big")
        bits = [bit for bit in range(low, count) if drawn >> bit & 1]
        if bits:
            yield bits


def pieces(
    low: int, high: int, is_blocked: Callable[[int], bool], depth: int = DEPTH
) -> list[Range]:
    """Return the parts of a range that are blocked, as far as probes of its middles show gaps; both
    ends are known to be blocked."""
    middle = (low + high) // 2
    if depth == 0 or high - low < 2:
        return [(low, high)]
    if is_blocked(middle):
        return pieces(low, middle, is_blocked, depth - 1) + pieces(
            middle, high, is_blocked, depth - 1
        )
    left, right = bisect(low, middle, is_blocked), bisect(high, middle, is_blocked)
    return pieces(low, left, is_blocked, depth - 1) + pieces(right, high, is_blocked, depth - 1)


def port_range_end(port: int, sign: int, is_blocked: Callable[[int], bool]) -> int:
    """Return the end of a range of blocked ports from a blocked one, downwards (-1) or upwards
    (1)."""
    good, step = port, 1
    while 1 <= good + sign * step <= LAST_PORT and is_blocked(good + sign * step):
        good += sign * step
        step *= 2
    bad = min(max(good + sign * step, 0), LAST_PORT + 1)
    return bisect(good, bad, is_blocked)


def implied(packet: Sent, field: str, payload: PayloadCondition | None) -> bool:
    """Return whether a condition on the payload fails anyway with another port or transport."""
    if payload is None or field == "far":
        return False
    return not any(payload.meets(packet._replace(ends=ends)) for ends in images(packet.ends, field))


def fits_at_all(packet: Sent, size: int, payload: PayloadCondition | None) -> bool:
    """Return whether a payload of a size can meet a condition that the packet's own payload
    meets."""
    if payload is None:
        return True
    return any(payload.meets(packet._replace(payload=body)) for body in resized(packet, size))


def merged(spans: list[Range]) -> tuple[Range, ...]:
    """Return ranges in order, with adjacent ones joined."""
    joined: list[Range] = []
    for low, high in sorted(spans):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], high)
        else:
            joined.append((low, high))
    return tuple(joined)


def strip_packets(session: OracleSession, probe: Probe) -> tuple[Probe, list[bool]]:
    """Return a probe in which irrelevant payloads are replaced, and per packet whether its payload
    matters."""
    needed = []
    for at in range(len(probe)):
        one = probe[at]
        bodies = [unlike(one.payload, "strip", number) for number in (1, 2)]
        image = with_packet(probe, at, one._replace(payload=b"", flags=0x10))
        if not one.payload or session.blocked(image):
            probe = image if one.payload else probe
            needed.append(False)
            continue
        neutral = [with_payload(probe, at, body) for body in bodies]
        if all(session.blocked(image) for image in neutral):
            probe = neutral[0]
            needed.append(False)
        else:
            needed.append(True)
    return probe, needed
