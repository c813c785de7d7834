# SPDX-License-Identifier: BSD-3-Clause
"""Placing: where in its flow a packet must stand for a box to block it.

Packets, octets and time before it are set one by one, the others held, and the least and the most
of each at which the box still blocks are found by halving. Fillers are packets without a payload
and, where octets are counted, one that carries them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from midcall.experiments.localise.clause import ALL, FOREVER, Range, Windows
from midcall.experiments.localise.messages import noise
from midcall.experiments.localise.mutations import bare
from midcall.testbed.probing.probe import LONGEST, Probe, Sent, in_order, ip_size

#: Between two packets whose distance does not matter, in ns.
TINY = 1_000
#: How far the upper ends of windows are looked for: packets, octets.
MOST_PACKETS, MOST_OCTETS = 256, 200_000
#: Octets of an IP packet that a filler may have.
MOST_IN_ONE = 60_000
#: ... and packets with a payload.
MOST_LOADED = 64
#: To what ends in time are found, in ns.
FINE = 1_000_000
#: Octets of a filler that carries a payload only to have one.
SMALL = 4

Blocked = Callable[[Probe], bool]


class Amount(NamedTuple):
    """What comes before a packet in its flow. loaded: fillers that have a small payload."""

    packets: int = 0
    octets: int = 0
    age: int = 0
    loaded: int = 0


class Stage(NamedTuple):
    """The packets that decide, and what may stand between them.

    lead: the packet that must come before, None where there is none; last: the one that is struck;
    fillers stand in `last`'s flow, after `lead` where both are of one flow, else before `last`;
    turned: they go the other way than `last`.
    """

    last: Sent
    lead: Sent | None = None
    turned: bool = False

    @property
    def same_flow(self) -> bool:
        """Tell whether the packet that must come before is of the same flow."""
        return self.lead is not None and self.lead.ends == self.last.ends

    def build(self, amount: Amount, rest: int = 0) -> Probe:
        """Return the probe in which that much comes before the last packet.

        rest: ns between the last filler and the last packet, at least; 0: fillers come first.
        """
        packets = [] if self.lead is None else [self.lead._replace(time=0)]
        count = amount.packets + amount.loaded
        begin = TINY if packets else 0
        bodies = [noise(SMALL, "loaded", n) for n in range(amount.loaded)]
        bodies += [b""] * amount.packets
        filler = bare(self.last)._replace(up=self.last.up != self.turned)
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

    def fillers(self, amount: Amount) -> Probe:
        """Return the probe without its last packet: what comes before alone."""
        return self.build(amount)[:-1]

    def least(self, packets: int) -> int:
        """Return the octets of so many empty fillers."""
        return packets * ip_size(bare(self.last))


def halve(good: int, bad: int, test: Callable[[int], bool], fine: int = 1) -> int:
    """Return the last number towards `bad` that passes, from one that does, to within `fine`."""
    while abs(bad - good) > fine:
        middle = (good + bad) // 2
        if test(middle):
            good = middle
        else:
            bad = middle
    return good


def halve_time(good: int, bad: int, test: Callable[[int], bool], fine: int = FINE) -> int:
    """Return the last time towards `bad` that passes, the roundest that is known to within `fine`.

    Who sets a rule up sets round numbers; any other end between the last time that passes and the
    first that does not is as likely.
    """
    kept = [good, bad]

    def passes(value: int) -> bool:
        result = test(value)
        kept[0 if result else 1] = value
        return result

    halve(good, bad, passes, fine)
    good, bad = kept
    for unit in (10**9, 5 * 10**8, 10**8, 10**7, 10**6, 10**5):
        near = good // unit * unit if bad < good else -(-good // unit) * unit
        if (bad < near <= good) or (good <= near < bad):
            return near
    return good


def amount_before(probe: Probe, at: int, since: int | None) -> Amount:
    """Return what a probe has before packet `at` in its flow, after packet `since` of any flow."""
    last = probe[at]
    first = 0 if since is None else since + 1
    own = [one for one in probe[first:at] if one.ends == last.ends]
    begin = probe[since].time if since is not None else own[0].time if own else last.time
    return Amount(len(own), sum(map(ip_size, own)), last.time - begin)


def least(stage: Stage, most: Amount, blocked: Blocked) -> Amount | None:
    """Return the least that must come before, None where amounts do not explain the block.

    most: an amount known to be enough, if amounts are what matters.
    """
    if blocked(stage.build(Amount())):
        return Amount()
    if not blocked(stage.build(most)):
        return None
    packets, octets, age = most.packets, most.octets, most.age

    def of_age(value: int) -> bool:
        return blocked(stage.build(Amount(packets, octets, value)))

    age = 0 if of_age(0) else halve_time(age, 0, of_age)

    def of_octets(value: int) -> bool:
        return blocked(stage.build(Amount(packets, value, age)))

    floor = stage.least(packets)
    octets = 0 if of_octets(floor) else halve(octets, floor, of_octets)

    def of_packets(value: int) -> bool:
        return blocked(stage.build(Amount(value, octets, age)))

    if packets and of_packets(0):
        packets = 0
    elif packets > 1:
        packets = 1 if of_packets(1) else halve(packets, 1, of_packets)
    return Amount(packets, octets, age)


def unstruck(stage: Stage, found: Amount, blocked: Blocked) -> Stage:
    """Return a stage whose fillers are not struck themselves, the same where none can be had.

    A box that looks for one direction alone strikes fillers of that direction, too, once they are
    many; then the end of a window cannot be seen.
    """
    more = found._replace(
        packets=found.packets + 3,
        octets=max(found.octets, stage.least(found.packets + 3)) + ip_size(stage.last),
    )
    other = stage._replace(turned=not stage.turned)
    if not blocked(stage.fillers(more)) or blocked(other.fillers(more)):
        return stage
    return other if blocked(other.build(found)) else stage


def windows(stage: Stage, found: Amount, blocked: Blocked, longest: int) -> Windows:
    """Return the windows in which the last packet may stand, from the least that is enough.

    longest: how far the end of the window of time is looked for, in ns.
    """
    carrier = found.packets == 1 and bool(found.octets or found.age)
    base = found if found.packets or stage.lead else found._replace(packets=1)
    more = Amount(base.packets, max(base.octets, stage.least(base.packets)), base.age)
    low = 0 if carrier else found.packets + 1 if found.packets else 0

    def of_packets(value: int) -> bool:
        octets = max(found.octets, stage.least(value))
        return blocked(stage.build(Amount(value, octets, found.age)))

    def of_loaded(value: int) -> bool:
        octets = max(found.octets, stage.least(found.packets + value) + SMALL * value)
        return blocked(stage.build(Amount(found.packets, octets, found.age, value)))

    def of_octets(value: int) -> bool:
        packets = max(found.packets, 1 + value // MOST_IN_ONE)
        return blocked(stage.build(Amount(packets, value, found.age)))

    def of_age(value: int) -> bool:
        return blocked(stage.build(more._replace(age=value)))

    lead = 1 if stage.same_flow else 0
    own = ip_size(stage.last) + (ip_size(stage.lead) if stage.same_flow and stage.lead else 0)
    octets = age = FOREVER
    if of_loaded(1):
        begin = max(found.octets, stage.least(found.packets))
        octets = top(begin, MOST_IN_ONE - 1, of_octets)
    packets = top(found.packets, MOST_PACKETS, of_packets)
    if stage.least(packets + 1) > octets:
        packets = FOREVER
    loaded = top(0, MOST_LOADED, of_loaded) if packets >= FOREVER else FOREVER
    if stage.least(found.packets + loaded + 1) + SMALL * (loaded + 1) > octets:
        loaded = FOREVER
    if packets >= FOREVER and loaded >= FOREVER and octets >= FOREVER:
        octets = top(MOST_IN_ONE - 1, MOST_OCTETS, of_octets)
    if octets < FOREVER and blocked(stage.fillers(found._replace(octets=octets))):
        octets -= own  # the fillers are struck themselves, `last` is beyond the end
    if of_age(base.age) or not found.packets:
        age = FOREVER if of_age(longest) else halve_time(found.age, longest, of_age)
    if packets + lead < 1:
        age = FOREVER  # a flow's first packet is always at 0 s
    return Windows(
        span(low + lead if low else 0, packets + 1 + lead),
        span(0, loaded + (lead if loaded < FOREVER else 0)),
        span(found.octets + own if found.octets else 0, octets + own),
        span(found.age, age),
    )


def top(good: int, most: int, test: Callable[[int], bool]) -> int:
    """Return the largest number that passes, FOREVER where the largest tried still does."""
    if most <= good or test(most):
        return FOREVER
    return halve(good, most, test)


def span(low: int, high: int) -> Range:
    """Return a range, ALL where it is not limited."""
    high = min(high, FOREVER)
    return ALL if low <= 0 and high >= FOREVER else (max(low, 0), high)
