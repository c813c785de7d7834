# SPDX-License-Identifier: BSD-3-Clause
"""Learns where in its flow a packet must stand for a box to block it.

The packets, octets and time before it are varied one at a time, the others fixed. Bisection finds
the smallest and the largest value of each at which the box still blocks. Fillers are packets
without a payload and, where octets are counted, one packet that carries them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from midcall.experiments.localise.clause import ALL, FOREVER, Range, Windows
from midcall.experiments.localise.messages import noise
from midcall.experiments.localise.mutations import without_payload
from midcall.testbed.probing.probe import LONGEST, Probe, Sent, in_order, ip_size

#: Time between two packets whose distance does not matter, in ns.
TINY = 1_000
#: Largest upper ends of windows that are tried: packets, octets.
MOST_PACKETS, MOST_OCTETS = 256, 200_000
#: Largest IP packet of a filler, in octets.
MOST_IN_ONE = 60_000
#: Largest number of packets with a payload that is tried.
MOST_LOADED = 64
#: Precision of the ends of windows in time, in ns.
FINE = 1_000_000
#: Payload of a filler that needs any payload, in octets.
SMALL = 4

Blocked = Callable[[Probe], bool]


class Preceding(NamedTuple):
    """What comes before a packet in its flow. age: ns; loaded: fillers with a small payload."""

    packets: int = 0
    octets: int = 0
    age: int = 0
    loaded: int = 0


class ProbeTemplate(NamedTuple):
    """The decisive packets, from which probes with fillers between them are built.

    lead: the packet that must come before, or None; last: the matching packet; fillers are packets
    of `last`'s flow, after `lead` if both are of one flow, else before `last`; opposite: fillers
    have the direction opposite to `last`.
    """

    last: Sent
    lead: Sent | None = None
    opposite: bool = False

    @property
    def same_flow(self) -> bool:
        """Return whether `lead` is of the same flow as `last`."""
        return self.lead is not None and self.lead.ends == self.last.ends

    def build(self, amount: Preceding, rest: int = 0) -> Probe:
        """Return the probe in which `amount` precedes the last packet.

        rest: least time between the last filler and the last packet, in ns; 0: fillers come first.
        """
        packets = [] if self.lead is None else [self.lead._replace(time=0)]
        count = amount.packets + amount.loaded
        begin = TINY if packets else 0
        bodies = [noise(SMALL, "loaded", n) for n in range(amount.loaded)]
        bodies += [b""] * amount.packets
        filler = without_payload(self.last)._replace(up=self.last.up != self.opposite)
        spare = amount.octets - sum(ip_size(filler) for _ in bodies)
        spare -= SMALL * amount.loaded
        for place in range(len(bodies)):
            more = max(min(spare, LONGEST - len(bodies[place])), 0)
            bodies[place] += bytes(more)
            spare -= more
        for number, body in enumerate(bodies):
            one = filler._replace(time=begin + number * TINY, payload=body)
            packets.append(one if not body else one._replace(flags=self.last.flags))
        age = max(amount.age, begin + count * TINY + rest)
        return in_order([*packets, self.last._replace(time=age if packets else 0)])

    def fillers(self, amount: Preceding) -> Probe:
        """Return the probe without its last packet."""
        return self.build(amount)[:-1]

    def filler_octets(self, packets: int) -> int:
        """Return the octets (IP) of empty fillers."""
        return packets * ip_size(without_payload(self.last))


def bisect(good: int, bad: int, test: Callable[[int], bool], fine: int = 1) -> int:
    """Return the last number towards `bad` that passes a test, starting at one that passes, to
    within `fine`."""
    while abs(bad - good) > fine:
        middle = (good + bad) // 2
        if test(middle):
            good = middle
        else:
            bad = middle
    return good


def bisect_time(good: int, bad: int, test: Callable[[int], bool], fine: int = FINE) -> int:
    """Return the last time in ns towards `bad` that passes a test, rounded within `fine`.

    Rules usually contain round numbers, and every value between the last time that passes and the
    first that fails agrees with the answers.
    """
    ends = [good, bad]

    def passes(value: int) -> bool:
        result = test(value)
        ends[0 if result else 1] = value
        return result

    bisect(good, bad, passes, fine)
    good, bad = ends
    for unit in (10**9, 5 * 10**8, 10**8, 10**7, 10**6, 10**5):
        rounded = good // unit * unit if bad < good else -(-good // unit) * unit
        if (bad < rounded <= good) or (good <= rounded < bad):
            return rounded
    return good


def preceding_of(probe: Probe, at: int, since: int | None) -> Preceding:
    """Return what a probe has before packet `at` in its flow, after packet `since` of any flow."""
    last = probe[at]
    first = 0 if since is None else since + 1
    own = [one for one in probe[first:at] if one.ends == last.ends]
    begin = probe[since].time if since is not None else own[0].time if own else last.time
    return Preceding(len(own), sum(map(ip_size, own)), last.time - begin)


def least_preceding(template: ProbeTemplate, most: Preceding, blocked: Blocked) -> Preceding | None:
    """Return the least that must precede the last packet, None if counts do not explain the block.

    most: counts that are known to suffice, if counts matter at all.
    """
    if blocked(template.build(Preceding())):
        return Preceding()
    if not blocked(template.build(most)):
        return None
    packets, octets, age = most.packets, most.octets, most.age

    def of_age(value: int) -> bool:
        return blocked(template.build(Preceding(packets, octets, value)))

    age = 0 if of_age(0) else bisect_time(age, 0, of_age)

    def of_octets(value: int) -> bool:
        return blocked(template.build(Preceding(packets, value, age)))

    floor = template.filler_octets(packets)
    octets = 0 if of_octets(floor) else bisect(octets, floor, of_octets)

    def of_packets(value: int) -> bool:
        return blocked(template.build(Preceding(value, octets, age)))

    if packets and of_packets(0):
        packets = 0
    elif packets > 1:
        packets = 1 if of_packets(1) else bisect(packets, 1, of_packets)
    return Preceding(packets, octets, age)


def with_unmatched_fillers(
    template: ProbeTemplate, least: Preceding, blocked: Blocked
) -> ProbeTemplate:
    """Return a template whose fillers are not blocked themselves, else the same template.

    A rule on one direction alone also matches fillers of that direction, once there are enough of
    them; then the end of a window cannot be measured.
    """
    more = least._replace(
        packets=least.packets + 3,
        octets=max(least.octets, template.filler_octets(least.packets + 3))
        + ip_size(template.last),
    )
    other = template._replace(opposite=not template.opposite)
    if not blocked(template.fillers(more)) or blocked(other.fillers(more)):
        return template
    return other if blocked(other.build(least)) else template


def learn_windows(
    template: ProbeTemplate, least: Preceding, blocked: Blocked, longest: int
) -> Windows:
    """Return the windows in which the last packet may stand, starting from the least that suffices.

    longest: upper limit for the search in time, in ns.
    """
    carrier = least.packets == 1 and bool(least.octets or least.age)
    base = least if least.packets or template.lead else least._replace(packets=1)
    more = Preceding(base.packets, max(base.octets, template.filler_octets(base.packets)), base.age)
    low = 0 if carrier else least.packets + 1 if least.packets else 0

    def of_packets(value: int) -> bool:
        octets = max(least.octets, template.filler_octets(value))
        return blocked(template.build(Preceding(value, octets, least.age)))

    def of_loaded(value: int) -> bool:
        octets = max(least.octets, template.filler_octets(least.packets + value) + SMALL * value)
        return blocked(template.build(Preceding(least.packets, octets, least.age, value)))

    def of_octets(value: int) -> bool:
        packets = max(least.packets, 1 + value // MOST_IN_ONE)
        return blocked(template.build(Preceding(packets, value, least.age)))

    def of_age(value: int) -> bool:
        return blocked(template.build(more._replace(age=value)))

    lead = 1 if template.same_flow else 0
    own = ip_size(template.last) + (
        ip_size(template.lead) if template.same_flow and template.lead else 0
    )
    octets = age = FOREVER
    if of_loaded(1):
        begin = max(least.octets, template.filler_octets(least.packets))
        octets = largest_passing(begin, MOST_IN_ONE - 1, of_octets)
    packets = largest_passing(least.packets, MOST_PACKETS, of_packets)
    if template.filler_octets(packets + 1) > octets:
        packets = FOREVER
    loaded = largest_passing(0, MOST_LOADED, of_loaded) if packets >= FOREVER else FOREVER
    if template.filler_octets(least.packets + loaded + 1) + SMALL * (loaded + 1) > octets:
        loaded = FOREVER
    if packets >= FOREVER and loaded >= FOREVER and octets >= FOREVER:
        octets = largest_passing(MOST_IN_ONE - 1, MOST_OCTETS, of_octets)
    if octets < FOREVER and blocked(template.fillers(least._replace(octets=octets))):
        octets -= own  # the fillers match themselves, `last` is beyond the end
    if of_age(base.age) or not least.packets:
        age = FOREVER if of_age(longest) else bisect_time(least.age, longest, of_age)
    if packets + lead < 1:
        age = FOREVER  # a flow's first packet is always at 0 s
    return Windows(
        limited_range(low + lead if low else 0, packets + 1 + lead),
        limited_range(0, loaded + (lead if loaded < FOREVER else 0)),
        limited_range(least.octets + own if least.octets else 0, octets + own),
        limited_range(least.age, age),
    )


def largest_passing(good: int, most: int, test: Callable[[int], bool]) -> int:
    """Return the largest number that passes a test, FOREVER if the largest tried passes."""
    if most <= good or test(most):
        return FOREVER
    return bisect(good, most, test)


def limited_range(low: int, high: int) -> Range:
    """Return a range, ALL if it is not limited."""
    high = min(high, FOREVER)
    return ALL if low <= 0 and high >= FOREVER else (max(low, 0), high)
