# SPDX-License-Identifier: BSD-3-Clause
"""Summing: whether a box counts a packet's size or the bytes that it brings to its flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from midcall.experiments.localise.clause import FOREVER, Clause, Look, Range, Windows
from midcall.experiments.localise.messages import resized
from midcall.experiments.localise.mutations import bare
from midcall.experiments.localise.oracle_session import Asker
from midcall.experiments.localise.packet_condition import LARGE
from midcall.experiments.localise.payload_hypotheses import spread
from midcall.experiments.localise.position import SMALL, TINY, halve
from midcall.testbed.probing.probe import Probe, Sent, ip_size

#: Probes that tell the two apart, at most.
SUMS = 8
#: Small packets that bring a flow's bytes above what a rule is likely to ask for.
MANY = 64


def summed(
    asker: Asker, probe: Probe, make: Callable[[Look, Windows], Clause], look: Look, spans: Windows
) -> Clause:
    """Return the clause of what a packet must be and where it must stand, its size told from bytes.

    A packet may seem to need a size only because it brings the bytes of its flow, or those since
    the packet before it, into their window. The two are held against each other where they differ:
    the same sums, made up otherwise. make: gives the clause of a Look and its windows.
    """
    sizes = make(look, spans)
    if look.size is None:
        return sizes
    last, (low, high) = probe[-1], look.size
    before = sum(map(ip_size, probe[:-1])) + ip_size(bare(last))
    octets = (
        before + low if low else spans.octets[0],
        before + high if high < FOREVER else spans.octets[1],
    )
    lead = probe[:1] if sizes.earlier else ()
    tries = list(made_up(last, lead, octets, look))
    least = least_size(asker, last, lead, look)
    for low in dict.fromkeys((0, least)):
        size = (low, high) if low else None
        sums = make(look._replace(size=size), spans._replace(octets=octets))
        odd = [one for one in tries if sizes.holds(one) != sums.holds(one)]
        if not odd and not low and octets == spans.octets and any(map(sizes.holds, tries)):
            return sums  # the window of bytes says it already
        asked = [odd[int(at)] for at in spread(np.arange(len(odd)), SUMS)]
        if asked and all(asker.blocked(one) == sums.holds(one) for one in asked):
            return sums
    return sizes


def least_size(asker: Asker, last: Sent, lead: Probe, look: Look) -> int:
    """Return the least payload of a packet that is blocked behind many small ones."""
    assert look.size is not None
    small = bare(last)._replace(payload=bytes(SMALL), flags=last.flags)
    fillers = tuple(small._replace(time=number * TINY) for number in range(1, MANY + 1))

    def hit(size: int) -> bool:
        for body in resized(last, size):
            other = last._replace(time=max(last.time, (MANY + 1) * TINY), payload=body)
            if look.payload is None or look.payload.meets(other):
                return asker.blocked((*lead, *fillers, other))
        return False

    low = look.size[0]
    return low if low < 2 or not hit(low - 1) else halve(low - 1, 0, hit)


def made_up(last: Sent, lead: Probe, octets: Range, look: Look) -> Iterator[Probe]:
    """Yield a packet behind a filler (and `lead`), their bytes together at the ends of a range or
    beside them, the packet larger or smaller than it was, as far as its payload may be."""
    own = ip_size(bare(last))
    front = sum(map(ip_size, lead))
    ends = [end + step - front for end in octets if 0 < end < FOREVER for step in (-1, 0, 1)]
    fills = [own, own + 9, *(end // 2 for end in ends), *(end - own - 1 for end in ends), *ends]
    for total in [*ends, *(2 * end for end in ends)]:
        for fill in dict.fromkeys(fills):
            size = total - own - fill
            if fill < own or not 0 <= size <= LARGE:
                continue
            filler = bare(last)._replace(time=TINY, payload=bytes(fill - own), flags=last.flags)
            for body in resized(last, size):
                other = last._replace(time=max(last.time, 2 * TINY), payload=body)
                if look.payload is None or look.payload.meets(other):
                    yield (*lead, filler, other)
                    break
