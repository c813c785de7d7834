# SPDX-License-Identifier: BSD-3-Clause
"""Looking: what one packet of a probe must be, one thing after the other.

Whatever does not matter stays replaced by a neutral image, so that what is left at the end is
needed all together; where another cause would do alone, only one of them is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.clause import (
    ALL,
    FOREVER,
    Clause,
    Look,
    Prefix,
    Range,
    blocks,
    version_of,
    within,
)
from midcall.experiments.localise.messages import client_hello, noise, request, resized, unlike
from midcall.experiments.localise.mutations import (
    LISTED,
    images,
    near_addresses,
    turned_bit,
    with_client,
    with_ends,
    with_packet,
    with_payload,
    with_port,
    with_version,
)
from midcall.experiments.localise.oracle_session import Asker
from midcall.experiments.localise.packet_fields import read, with_before
from midcall.experiments.localise.payload_conditions import Condition, Named
from midcall.experiments.localise.payload_hypotheses import learn
from midcall.experiments.localise.position import halve
from midcall.testbed.probing.probe import Ends, Probe, Sent, flows_of
from midcall.testbed.probing.quic_initial import quic_initial

#: The largest payload that is tried, and one about as small as messages are.
LARGE, LEAST = 1400, 60
LAST_PORT = 65_535
#: How often several bits of an address are turned together.
DRAWN = 4
#: How often a range of ports is halved to find holes in it.
DEPTH = 3

#: What of a flow is tried, and of all but the far address its name in a Look.
OF_FLOW = ("far", "far_port", "near_port", "proto")
RANGED = (("far_port", "ports"), ("near_port", "near_ports"), ("proto", "proto"))


class Looker:
    """Learns what packets of a probe must be; `probe` is the probe as far as it is neutral.

    known: clauses that were found before; where one of them holds, an answer says nothing new.
    """

    def __init__(self, asker: Asker, probe: Probe, known: Sequence[Clause] = ()) -> None:
        self.asker, self.probe, self.known = asker, probe, known
        self.needs: dict[Ends, set[str]] = {ends: set() for ends in flows_of(probe)}
        self.client = False

    def blocked(self, probe: Probe) -> bool:
        """Ask about a probe."""
        return self.asker.blocked(probe)

    # -- making neutral

    def strip_flows(self) -> None:
        """Replace what does not matter of every flow, and the subscriber's address."""
        for ends in list(self.needs):
            now = ends
            for what in OF_FLOW:
                now = self._strip(now, what)
        near = self.probe[-1].ends.near
        tries = [with_client(self.probe, one) for one in near_addresses(near)]
        if all(self.blocked(one) for one in tries):
            needs = [self.needs[ends] for ends in flows_of(self.probe)]
            self.probe = tries[0]
            self.needs = dict(zip(flows_of(self.probe), needs, strict=True))
        else:
            self.client = True

    def _strip(self, ends: Ends, what: str) -> Ends:
        """Replace one thing of a flow where no image of it unblocks; returns the flow's ends."""
        tries = list(images(ends, what))
        if not all(self.blocked(with_ends(self.probe, ends, one)) for one in tries):
            self.needs[ends].add(what)
            return ends
        self.probe = with_ends(self.probe, ends, tries[0])
        self.needs[tries[0]] = self.needs.pop(ends)
        return tries[0]

    # -- one packet

    def look(self, at: int) -> Look:
        """Return what packet `at` must be."""
        one = with_before(self.probe, at)
        found: dict[str, Any] = {}
        sizes = self.size(at, None) or ALL if self.loose(at) else self.sizes(at)
        payload = learn(
            one,
            lambda body: self.blocked(with_payload(self.probe, at, body)),
            sizes,
            lambda body: not blocks(self.known, with_payload(self.probe, at, body)),
        )
        if isinstance(payload, Named) and "dns" not in payload.where:
            payload = self.told_in(at, payload)
        found["payload"] = payload
        found["size"] = self.size(at, payload)
        flip = with_packet(self.probe, at, one._replace(up=not one.up))
        if not self.blocked(flip):
            found["up"] = one.up
        needs = self.needs[one.ends]
        if "far" in needs:
            found["far"] = self._far(one.ends)
        for what, name in RANGED:
            if what in needs and not implied(one, what, payload):
                found[name] = getattr(self, f"_{what}")(one.ends)
        if self.client:
            found["near"] = self._near(one.ends)
        fixed = self.client or any("far" in needs for needs in self.needs.values())
        if not fixed and not self.blocked(with_version(self.probe)):
            found["version"] = version_of(one.ends)
        return Look(**found)

    def told_in(self, at: int, found: Named) -> Named:
        """Return in which places a name is looked for, those of the other transport tried too."""
        one = self.probe[at]
        tries: dict[str, tuple[int, Callable[[str], bytes]]] = {
            "quic": (UDP, quic_initial), "tls": (TCP, client_hello), "http": (TCP, request),
        }  # fmt: skip
        name, places = read(one).name, set(found.where)
        for place in found.where - {read(one).where}:
            proto, make = tries[place]
            if proto == one.ends.proto:
                continue
            other = with_ends(self.probe, one.ends, one.ends._replace(proto=proto))
            if not self.blocked(with_payload(other, at, make(name))):
                places.discard(place)
        return Named(frozenset(places), found.pattern)

    def loose(self, at: int) -> bool:
        """Tell whether packet `at` is blocked with other octets in its payload."""
        body = self.probe[at].payload
        return self._any(at, [unlike(body, "loose")]) if body else True

    def sizes(self, at: int) -> Range:
        """Return a range of payload sizes at which a packet is blocked with its payload as it is
        or nearly so, its own alone where others do not show."""
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

    def size(self, at: int, payload: Condition | None) -> Range | None:
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
            low = halve(own, floor, lambda size: bool(fits(size)))
        if fits(LARGE) is False:
            high = halve(own, LARGE, lambda size: bool(fits(size)))
        return None if low <= 0 and high >= FOREVER else (low, high)

    # -- ranges of a flow's things

    def _far_port(self, ends: Ends) -> tuple[Range, ...]:
        return self._ports(ends, "far_port")

    def _near_port(self, ends: Ends) -> tuple[Range, ...]:
        return self._ports(ends, "near_port")

    def _ports(self, ends: Ends, what: str) -> tuple[Range, ...]:
        """Return the ports that are blocked: ranges around the flow's own, and listed ones.

        Next to the range a port is left out and the one behind it tried: of pairs one is skipped.
        """
        own = int(getattr(ends, what))

        def hit(port: int) -> bool:
            return self.blocked(with_ends(self.probe, ends, with_port(ends, what, port)))

        low = 1 if hit(1) else halve(own, 1, hit)
        high = LAST_PORT if hit(LAST_PORT) else halve(own, LAST_PORT, hit)
        found = [*pieces(low, own, hit), *pieces(own, high, hit)]
        beside = [port for port in (low - 2, high + 2) if 0 < port <= LAST_PORT]
        for port in (*LISTED, *beside):
            if not any(within(one, port) for one in found) and hit(port):
                found.append((reach(port, -1, hit), reach(port, 1, hit)))
        return merged(found)

    def _proto(self, ends: Ends) -> int:
        return ends.proto

    def _far(self, ends: Ends) -> Prefix | None:
        """Return the prefix of the far address that matters, None where only others are spared."""

        def image(far: bytes) -> Probe:
            return with_ends(self.probe, ends, ends._replace(far=far))

        prefix = self._prefix(ends.far, image)
        return prefix if prefix[1] else None

    def _near(self, ends: Ends) -> Prefix:
        return self._prefix(ends.near, lambda one: with_client(self.probe, one))

    def _prefix(self, own: bytes, image: Callable[[bytes], Probe]) -> Prefix:
        """Return the prefix of an address that matters, by turning single bits, then several."""

        def free(bits: Iterable[int]) -> bool:
            other = own
            for bit in bits:
                other = turned_bit(other, bit)
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
    """Yield some of the bits from `low` on, drawn by their numbers alone."""
    for number in range(DRAWN):
        drawn = int.from_bytes(noise(16, "bits", number, low), "big")
        bits = [bit for bit in range(low, count) if drawn >> bit & 1]
        if bits:
            yield bits


def pieces(low: int, high: int, hit: Callable[[int], bool], depth: int = DEPTH) -> list[Range]:
    """Return the parts of a range that are hit, as far as its middles show holes in it; both its
    ends are known to be hit."""
    middle = (low + high) // 2
    if depth == 0 or high - low < 2:
        return [(low, high)]
    if hit(middle):
        return pieces(low, middle, hit, depth - 1) + pieces(middle, high, hit, depth - 1)
    left, right = halve(low, middle, hit), halve(high, middle, hit)
    return pieces(low, left, hit, depth - 1) + pieces(right, high, hit, depth - 1)


def reach(port: int, way: int, hit: Callable[[int], bool]) -> int:
    """Return the last port that is hit in a row from one that is, downwards (-1) or upwards (1)."""
    good, step = port, 1
    while 1 <= good + way * step <= LAST_PORT and hit(good + way * step):
        good += way * step
        step *= 2
    bad = min(max(good + way * step, 0), LAST_PORT + 1)
    return halve(good, bad, hit)


def implied(one: Sent, what: str, payload: Condition | None) -> bool:
    """Tell whether a condition on the payload cannot hold anyway with another port or transport."""
    if payload is None or what == "far":
        return False
    return not any(payload.meets(one._replace(ends=ends)) for ends in images(one.ends, what))


def fits_at_all(one: Sent, size: int, payload: Condition | None) -> bool:
    """Tell whether a payload of a size can meet a condition that the packet's own payload meets."""
    if payload is None:
        return True
    return any(payload.meets(one._replace(payload=body)) for body in resized(one, size))


def merged(spans: list[Range]) -> tuple[Range, ...]:
    """Return ranges in order, those that touch put together."""
    out: list[Range] = []
    for low, high in sorted(spans):
        if out and low <= out[-1][1] + 1:
            out[-1] = out[-1][0], max(out[-1][1], high)
        else:
            out.append((low, high))
    return tuple(out)


def strip_packets(asker: Asker, probe: Probe) -> tuple[Probe, list[bool]]:
    """Return a probe whose payloads are replaced where they do not matter, and where they do."""
    needed = []
    for at in range(len(probe)):
        one = probe[at]
        tries = [unlike(one.payload, "strip", number) for number in (1, 2)]
        image = with_packet(probe, at, one._replace(payload=b"", flags=0x10))
        if not one.payload or asker.blocked(image):
            probe = image if one.payload else probe
            needed.append(False)
            continue
        images_ = [with_payload(probe, at, body) for body in tries]
        if all(asker.blocked(image) for image in images_):
            probe = images_[0]
            needed.append(False)
        else:
            needed.append(True)
    return probe, needed
