# SPDX-License-Identifier: BSD-3-Clause
"""Distinguishes a rule on a packet's size from a rule on the bytes of its flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from midcall.experiments.localise.clause import FOREVER, Clause, PacketCondition, Range, Windows
from midcall.experiments.localise.messages import resized
from midcall.experiments.localise.mutations import without_payload
from midcall.experiments.localise.oracle_session import OracleSession
from midcall.experiments.localise.packet_condition import LARGE
from midcall.experiments.localise.payload_hypotheses import evenly_spaced
from midcall.experiments.localise.position import SMALL, TINY, bisect
from midcall.testbed.probing.probe import Probe, Sent, ip_size

#: Largest number of probes that distinguish the two.
SUMS = 8
#: Small packets whose bytes exceed the thresholds that rules usually have.
MANY = 64


def size_or_bytes(
    session: OracleSession,
    probe: Probe,
    make: Callable[[PacketCondition, Windows], Clause],
    condition: PacketCondition,
    spans: Windows,
) -> Clause:
    """Return the clause of a condition and its windows, with the size attributed to packet or flow.

    A packet may seem to need a size only because it brings the bytes of its flow, or those since
    the packet before it, into their window. Both clauses are compared on probes where they differ:
    the same sums of bytes in other sizes. make: builds a clause from a condition and its windows.
    """
    by_size = make(condition, spans)
    if condition.size is None:
        return by_size
    last, (low, high) = probe[-1], condition.size
    before = sum(map(ip_size, probe[:-1])) + ip_size(without_payload(last))
    octets = (
        before + low if low else spans.octets[0],
        before + high if high < FOREVER else spans.octets[1],
    )
    lead = probe[:1] if by_size.earlier else ()
    candidates = list(equal_sums(last, lead, octets, condition))
    least = least_size(session, last, lead, condition)
    for low in dict.fromkeys((0, least)):
        size = (low, high) if low else None
        by_bytes = make(condition._replace(size=size), spans._replace(octets=octets))
        differing = [one for one in candidates if by_size.holds(one) != by_bytes.holds(one)]
        if (
            not differing
            and not low
            and octets == spans.octets
            and any(map(by_size.holds, candidates))
        ):
            return by_bytes  # the window of bytes already implies the size
        chosen = [differing[int(at)] for at in evenly_spaced(np.arange(len(differing)), SUMS)]
        if chosen and all(session.blocked(one) == by_bytes.holds(one) for one in chosen):
            return by_bytes
    return by_size


def least_size(session: OracleSession, last: Sent, lead: Probe, condition: PacketCondition) -> int:
    """Return the smallest payload of a packet that is blocked after many small ones."""
    assert condition.size is not None
    small = without_payload(last)._replace(payload=bytes(SMALL), flags=last.flags)
    fillers = tuple(small._replace(time=number * TINY) for number in range(1, MANY + 1))

    def is_blocked(size: int) -> bool:
        for body in resized(last, size):
            other = last._replace(time=max(last.time, (MANY + 1) * TINY), payload=body)
            if condition.payload is None or condition.payload.meets(other):
                return session.blocked((*lead, *fillers, other))
        return False

    low = condition.size[0]
    return low if low < 2 or not is_blocked(low - 1) else bisect(low - 1, 0, is_blocked)


def equal_sums(
    last: Sent, lead: Probe, octets: Range, condition: PacketCondition
) -> Iterator[Probe]:
    """Yield a packet after a filler (and `lead`) whose joint bytes lie at, just below and just
    above the ends of a range, in several sizes that the payload condition allows."""
    own = ip_size(without_payload(last))
    front = sum(map(ip_size, lead))
    ends = [end + step - front for end in octets if 0 < end < FOREVER for step in (-1, 0, 1)]
    fills = [own, own + 9, *(end // 2 for end in ends), *(end - own - 1 for end in ends), *ends]
    for total in [*ends, *(2 * end for end in ends)]:
        for fill in dict.fromkeys(fills):
            size = total - own - fill
            if fill < own or not 0 <= size <= LARGE:
                continue
            filler = without_payload(last)._replace(
                time=TINY, payload=bytes(fill - own), flags=last.flags
            )
            for body in resized(last, size):
                other = last._replace(time=max(last.time, 2 * TINY), payload=body)
                if condition.payload is None or condition.payload.meets(other):
                    yield (*lead, filler, other)
                    break
