# SPDX-License-Identifier: BSD-3-Clause
"""Parts of a capture that are short enough to be played many times."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise.messages import noise
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.localise.run import shorten_gaps
from midcall.experiments.probe.effects import Finding
from midcall.experiments.probe.prober import MS, parts_of
from midcall.experiments.probe.units import ranked
from midcall.testbed.probing.probe import Ends, Probe, Sent, in_order
from midcall.testbed.probing.sockets import ABORT

#: Packets and seconds of a capture that are played many times, and where these show nothing.
PACKETS, SECONDS = 200, 8.0
LONG_PACKETS, LONG_SECONDS = 1_800, 40.0
#: Of a long capture: packets of each flow, at least, flows with more of them, and datagrams of each
#: kind and direction.
OF_EACH, BUSIEST, OF_KIND = 6, 4, 3
#: Ages of a flow, in s, at which a few of its packets are played although most before them are not,
#: and those up to which they are behind a first rule; packets of each direction at an age, within
#: how many ns, and flows, at most.
AGES = (12.0, 18.0, 27.0, 43.0, 62.0)
AGES_BEHIND_A_RULE = AGES[:4]
AT_AN_AGE, AGE_LASTS, OLD_FLOWS = 4, 3_000 * MS, 6
#: Units with the first packets of further flows, at most.
MOST_OPENINGS = 3
#: Longest pauses that are tried until a capture lasts SECONDS at most, in ns.
PAUSES = (500 * MS, 300 * MS, 200 * MS, 120 * MS, 60 * MS, 30 * MS)
#: Between the packet that opens a flow to the subscriber and the next one, in ns.
OPENED = 20 * MS
#: Flows with further effects that are looked into at once.
AFFECTED = 6


def excerpt(
    probe: Probe, most: int = PACKETS, seconds: float = SECONDS, pauses: Sequence[int] = PAUSES
) -> Probe:
    """Return a part of a capture that is short enough to be played many times.

    A short capture is played whole, a long one with the first OF_EACH packets of its flows and the
    first packets of its busiest flows, `most` in all. Pauses are shortened, so that it lasts
    `seconds` at most: to the first of `pauses` (ns) that does.
    """
    chosen = playable(probe)
    if len(chosen) > most:
        chosen = first_packets(chosen, most)
    return shortened(chosen, seconds, pauses)


def openings(probe: Probe, known: Collection[Ends], most: int = PACKETS) -> list[Probe]:
    """Return units with the first OF_EACH packets of each flow that is not known of a capture that
    sockets can send: up to MOST_OPENINGS, of about `most` packets each. Of the flows, those come
    first whose kind or name has the fewest flows yet."""
    flows = [[probe[at] for at in own[:OF_EACH]] for ends, own in places_of_flows(probe).items()
             if ends not in known]  # fmt: skip
    units: list[list[Sent]] = [[]]
    for _, some in ranked(flows):
        if len(units[-1]) >= most:
            units.append([])
        units[-1] += some
    return [shortened(in_order(one), SECONDS, PAUSES) for one in units[:MOST_OPENINGS] if one]


def old_packets(whole: Probe, unit: Probe, ages: Sequence[float] = AGES) -> list[Sent]:
    """Return packets of the busiest flows of a capture at ages (s) that a part of it does not
    reach: the first AT_AN_AGE of each direction since then. Their times are those of the part."""
    begins: dict[Ends, int] = {}
    ends: dict[Ends, int] = {}
    for one in unit:
        begins.setdefault(one.ends, one.time)
        ends[one.ends] = one.time
    busiest = sorted(places_of_flows(whole).items(), key=lambda one: -len(one[1]))
    chosen: list[Sent] = []
    for flow, own in [one for one in busiest if one[0] in begins][:OLD_FLOWS]:
        times = [whole[at].time - whole[own[0]].time for at in own]
        for age in (int(1e9 * one) for one in ages):
            if age <= ends[flow] - begins[flow]:
                continue
            since = range(bisect_left(times, age), bisect_left(times, age + AGE_LASTS))
            for up in (True, False):
                some = [at for at in since if whole[own[at]].up == up][:AT_AN_AGE]
                chosen += [whole[own[at]]._replace(time=begins[flow] + times[at]) for at in some]
    return chosen


def playable(probe: Probe) -> Probe:
    """Return the packets of a capture that sockets can send, each as the parts that are sent."""
    # a kernel resets its own streams: one that is aborted would lose what is under way
    chosen = tuple(one for one in probe if one.payload or one.ends.proto != TCP
                   or not one.flags & ABORT)  # fmt: skip
    return with_openers(part for one in chosen or probe for part in parts_of(one))


def shortened(chosen: Probe, seconds: float, pauses: Sequence[int]) -> Probe:
    """Return packets with pauses so short that they last some seconds at most."""
    for longest in pauses:
        short = shorten_gaps(chosen, longest)
        if short[-1].time <= seconds * 1e9:
            return short
    return tuple(one for one in short if one.time <= seconds * 1e9)


def with_openers(packets: Iterable[Sent]) -> Probe:
    """Return packets with one of noise from the subscriber before each flow of datagrams of which
    the capture has the way back alone: otherwise nothing of it could be sent."""
    probe = tuple(packets)
    heard = {one.ends for one in probe if one.up}
    openers: dict[Ends, Sent] = {}
    for one in probe:
        if one.ends not in heard and one.ends.proto != TCP and one.ends not in openers:
            openers[one.ends] = one._replace(up=True, payload=noise(8, "opener"), before=())
    if not openers:
        return probe
    later = (one._replace(time=one.time + OPENED) for one in probe)
    return in_order([*openers.values(), *later])


def first_packets(probe: Probe, most: int = PACKETS) -> Probe:
    """Return the first packets of the flows of a capture, `most` in all at most: of the busiest
    flows, and of the others those first whose kind has the fewest flows yet; short ones leave room
    for more. Of a long part the others have half of the room behind the first packets. Datagrams of
    a kind that comes late in its flow, or in flows that are left out, are taken where they come."""
    flows = places_of_flows(probe)
    busiest = sorted(flows.values(), key=lambda own: (-len(own), own[0]))
    in_turn = [flows[some[0].ends] for _, some in ranked([probe[at] for at in own]
                                                         for own in busiest)]  # fmt: skip
    others = [own for own in in_turn if own not in busiest[:BUSIEST]]
    taken: set[int] = set()
    for own in (*busiest[:BUSIEST], *others):
        if 2 * len(taken) < most:
            taken.update(own[:OF_EACH])
    taken.update(rare_datagrams(probe, taken)[: most - len(taken)])
    shared = [own for own in others if own[0] in taken] if most > PACKETS else []
    half = (len(taken) + most) // 2 if shared else most
    for some, room in ((busiest[:BUSIEST], half), (shared, most), (busiest[:BUSIEST], most)):
        fill(taken, some, room)
    return in_order(probe[at] for at in sorted(taken))


def rare_datagrams(probe: Probe, taken: Collection[int]) -> list[int]:
    """Return the first datagrams of each kind of payload, STUN method and direction of which fewer
    than OF_KIND are taken, as many as lack, the first one of each first. taken, result: places in
    the probe."""
    places: dict[tuple[str, int, bool], list[int]] = {}
    for at, one in enumerate(probe):
        if one.ends.proto != TCP:
            reading = read(one)
            places.setdefault((reading.kind, reading.method, one.up), []).append(at)
    found = []
    for own in places.values():
        lacking = max(OF_KIND - sum(at in taken for at in own), 0)
        found += list(enumerate([at for at in own if at not in taken][:lacking]))
    return [at for _, at in sorted(found)]


def fill(taken: set[int], flows: Sequence[Sequence[int]], most: int, first: int = OF_EACH) -> None:
    """Take one packet more of each flow in turn behind its first ones, until so many are taken that
    there is no room for all. taken, flows: places in a capture; first: how many of each flow are
    passed over."""
    for many in range(first, max(map(len, flows), default=0)):
        more = {own[many] for own in flows if len(own) > many} - taken
        if len(taken) + len(more) > most:
            break
        taken |= more


def places_of_flows(probe: Probe) -> dict[Ends, list[int]]:
    """Return the places of the packets of each flow, but for those of streams without a payload,
    which kernels send themselves."""
    flows: dict[Ends, list[int]] = {}
    for at, one in enumerate(probe):
        if one.payload or one.ends.proto != TCP:
            flows.setdefault(one.ends, []).append(at)
    return flows


def around(unit: Probe, effects: Sequence[Finding]) -> list[int]:
    """Return the places of the packets of flows that show the surest effects, and of the first ones
    of the other flows, as far as a capture is played."""
    flows = {one.ends for one in effects[:AFFECTED]}
    counts: Counter[Ends] = Counter()
    first, rest = [], []
    for at, one in enumerate(unit):
        counts[one.ends] += 1
        if one.ends in flows:
            first.append(at)
        elif counts[one.ends] <= OF_EACH:
            rest.append(at)
    return sorted([*first, *rest[: max(PACKETS - len(first), PACKETS // 2)]])
