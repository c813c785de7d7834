# SPDX-License-Identifier: BSD-3-Clause
"""Checking: the last step of a search. Its rule is held against the capture and against the box.

What the rule says of each flow of the capture, of single packets, and of the packets in which it
was found with other ports, addresses and packets before them, is asked. Where the box blocks more,
the search goes on from there; where it blocks less, the exception is learned. What still refutes
the rule at the end is reported, and the search is not complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from midcall.experiments.localise.clause import Clause, blocks
from midcall.experiments.localise.found_clause import Trace
from midcall.experiments.localise.messages import exemplars
from midcall.experiments.localise.mutations import far_addresses, with_ends, with_port
from midcall.experiments.localise.narrowing import narrower
from midcall.experiments.localise.oracle_session import Asker
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.localise.position import TINY
from midcall.testbed.probing.probe import PUSH, Ends, Probe, Sent, flows_of, in_order

T = TypeVar("T")

#: Rounds of asking and mending, at most.
ROUNDS = 6
#: Flows, single packets, ports and addresses of the capture that are asked, at most.
MOST_FLOWS, MOST_SHAPES, MOST_PLACES = 64, 32, 16
#: Far ports that boxes spare.
USUAL = (53, 80, 443, 3478, 5060, 5061, 5349)
#: Messages that are tried before the packets of a rule (not QUIC: many readers take a flow that
#: begins as QUIC for QUIC to its end).
BEFORE = ("stun binding", "stun answer", "dtls-hello", "rtp", "dns", "sip", "tls-hello", "noise")
#: Ports of the subscriber that are tried to see whether the box acts by chance.
CHANCES = 12


def trials(base: Probe, traces: Sequence[Trace]) -> list[Probe]:
    """Return the probes that a rule is checked with, of a capture and of its own traces."""
    found = [*of_flows(base, [trace.clause for trace in traces]), *shapes(base)]
    for trace in traces:
        found += varied(trace, base)
    return [one for one in dict.fromkeys(map(in_order, found)) if one]


def of_flows(base: Probe, clauses: Sequence[Clause]) -> Iterator[Probe]:
    """Yield each flow alone, and the part of it before the first packet that is struck."""
    for ends in some(flows_of(base), MOST_FLOWS):
        own = in_order(one for one in base if one.ends == ends)
        yield own
        struck = [at for clause in clauses if (at := clause.strikes(own)) is not None]
        if struck:
            yield own[: min(struck)]


def shapes(base: Probe) -> Iterator[Probe]:
    """Yield single packets that differ in transport, direction, size or first octet."""
    held: dict[object, Sent] = {}
    for one in base:
        shape = one.ends.proto, one.up, len(one.payload).bit_length(), one.payload[:1]
        if one.payload:
            held.setdefault(shape, one)
    for one in some(list(held.values()), MOST_SHAPES):
        yield (one._replace(time=0),)


def varied(trace: Trace, base: Probe) -> Iterator[Probe]:
    """Yield the packets in which a clause was found, with another far end or packets before."""
    probe = trace.probe
    ends = probe[-1].ends
    flows = flows_of(base)
    ports = some(list(dict.fromkeys(one.far_port for one in flows)), MOST_PLACES)
    fars = some(list(dict.fromkeys(one.far for one in flows)), MOST_PLACES)
    for port in dict.fromkeys((*USUAL, *ports)):
        yield with_ends(probe, ends, with_port(ends, "far_port", port))
    for far in (*far_addresses(ends.far), *(one for one in fars if len(one) == len(ends.far))):
        yield with_ends(probe, ends, ends._replace(far=far))
    if any(read(one).where or read(one).hello for one in probe):
        return  # readers of names look at the first packets of a flow alone
    for name in BEFORE:
        body = exemplars(ends.proto).get(name)
        if body is not None:
            yield from (preceded(probe, ends, body, up) for up in (True, False))


def preceded(probe: Probe, ends: Ends, body: bytes, up: bool) -> Probe:
    """Return a probe with another packet before the first one of its last flow."""
    begin = next(one.time for one in probe if one.ends == ends)
    return in_order([Sent(begin - TINY, up, ends, body, PUSH), *probe])


def some(items: Sequence[T], count: int) -> list[T]:
    """Return up to `count` items, evenly spread."""
    if len(items) <= count:
        return list(items)
    return [items[at * len(items) // count] for at in range(count)]


class Often:
    """An Asker of a box that acts by chance: each probe is asked from several subscriber's ports,
    and blocked if one of them is."""

    def __init__(self, asker: Asker) -> None:
        self.asker, self.longest = asker, asker.longest

    def blocked(self, probe: Probe) -> bool:
        """Return whether the box blocks a probe from one of some ports."""
        return any(self.asker.blocked(moved(probe, number)) for number in range(CHANCES))


def moved(probe: Probe, number: int) -> Probe:
    """Return a probe in which every flow has another port of the subscriber, the same for equal
    numbers; 0: its own."""
    return tuple(
        one._replace(ends=with_port(one.ends, "near_port", other_port(one.ends.near_port, number)))
        for one in probe
    )


def other_port(port: int, number: int) -> int:
    """Return a port that depends on another one and a number."""
    return port if not number else 1024 + (port + 977 * number) % 64_000


def by_chance(asker: Asker, traces: Sequence[Trace]) -> str:
    """Return in words that the box acts by chance, "" where nothing says so.

    Asked are probes that differ in the subscriber's port alone.
    """
    for trace in traces:
        tries = [moved(trace.probe, number) for number in range(1, CHANCES)]
        answers = [asker.blocked(one) for one in tries]
        result = [trace.clause.holds(one) for one in tries]
        if any(answers) and not all(answers) and answers != result:
            return (
                f"of {len(answers)} probes that differ in the subscriber's port alone, "
                f"{answers.count(False)} pass, and no range of that port explains which: the box "
                "acts by chance, or by a hash of the flow's ends"
            )
    return ""


def refuting(asker: Asker, tries: Sequence[Probe], clauses: Sequence[Clause]) -> list[Probe]:
    """Return the probes of which the box says otherwise than some clauses."""
    return [one for one in tries if asker.blocked(one) != blocks(clauses, one)]


def mended(
    asker: Asker, wrong: Sequence[Probe], traces: list[Trace], explore: Callable[[Probe], None]
) -> None:
    """Change a rule, in place, until the box says the same of some probes, as far as that can be.

    explore: finds clauses of a probe that the box blocks and adds them to the rule.
    """
    for probe in wrong:
        answer = asker.blocked(probe)
        if blocks([trace.clause for trace in traces], probe) == answer:
            continue
        if answer:
            explore(probe)
            continue
        for number, trace in enumerate(traces):
            if not trace.clause.holds(probe):
                continue
            others = [
                one.clause for one in traces if one is not trace and not one.clause.holds(probe)
            ]
            clause = narrower(asker, probe, trace, others)
            if clause is not None:
                traces[number] = trace._replace(clause=clause)
