# SPDX-License-Identifier: BSD-3-Clause
"""Summing: whether a box counts a packet's size or the bytes that it brings to its flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from experiments.localiser.asking import Asker
from experiments.localiser.clause import FOREVER, Clause, Look, Range, Windows
from experiments.localiser.content import spread
from experiments.localiser.looking import LARGE
from experiments.localiser.messages import resized
from experiments.localiser.neutral import bare
from experiments.localiser.placing import TINY
from testbed.probe import Probe, Sent, ip_size

#: Probes that tell the two apart, at most.
SUMS = 8


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
    sums = make(look._replace(size=None), spans._replace(octets=octets))
    lead = probe[:1] if sizes.earlier else ()
    odd = [one for one in made_up(last, lead, octets, look) if sizes.holds(one) != sums.holds(one)]
    asked = [odd[int(at)] for at in spread(np.arange(len(odd)), SUMS)]
    told = bool(asked) and all(asker.blocked(one) == sums.holds(one) for one in asked)
    return sums if told else sizes


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
