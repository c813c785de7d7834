# SPDX-License-Identifier: BSD-3-Clause
"""The last step of a search: the rule is checked against the capture and the box.

Checks are the flows of the capture, single packets, and the packets in which the rule was found
with other ports, addresses and packets before them. If the box blocks more than the rule says, the
search continues from there; if it blocks less, the exception is learned. What still contradicts the
rule at the end is reported, and the search is not complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from midcall.experiments.localise.clause import Clause, blocks
from midcall.experiments.localise.found_clause import FoundClause
from midcall.experiments.localise.messages import exemplars
from midcall.experiments.localise.mutations import far_addresses, with_ends, with_port
from midcall.experiments.localise.narrowing import narrow_clause
from midcall.experiments.localise.oracle_session import OracleSession
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.localise.position import TINY
from midcall.testbed.probing.probe import PUSH, Ends, Probe, Sent, flows_of, in_order

T = TypeVar("T")

#: Largest number of rounds of checking and correcting.
ROUNDS = 6
#: Largest numbers of flows, of single packets, and of ports and addresses of the capture checked.
MOST_FLOWS, MOST_SHAPES, MOST_PLACES = 64, 32, 16
#: Far ports that rules often exempt.
USUAL = (53, 80, 443, 3478, 5060, 5061, 5349)
#: Messages that are tried before the packets of a rule (not QUIC: many parsers treat a flow that
#: begins as QUIC as QUIC to its end).
BEFORE = ("stun binding", "stun answer", "dtls-hello", "rtp", "dns", "sip", "tls-hello", "noise")
#: Number of subscriber ports that are tried to detect a box that acts at random.
CHANCES = 12


def check_probes(base: Probe, found_clauses: Sequence[FoundClause]) -> list[Probe]:
    """Return the probes that check a rule: from a capture, and from the probes it was found in."""
    probes = [*of_flows(base, [located.clause for located in found_clauses]), *shapes(base)]
    for located in found_clauses:
        probes += varied(located, base)
    return [one for one in dict.fromkeys(map(in_order, probes)) if one]


def of_flows(base: Probe, clauses: Sequence[Clause]) -> Iterator[Probe]:
    """Yield each flow alone, and the part of it before the first matching packet."""
    for ends in evenly_spread(flows_of(base), MOST_FLOWS):
        own = in_order(one for one in base if one.ends == ends)
        yield own
        matches = [at for clause in clauses if (at := clause.first_match(own)) is not None]
        if matches:
            yield own[: min(matches)]


def shapes(base: Probe) -> Iterator[Probe]:
    """Yield single packets that differ in transport, direction, size or first octet."""
    by_shape: dict[object, Sent] = {}
    for one in base:
        shape = one.ends.proto, one.up, len(one.payload).bit_length(), one.payload[:1]
        if one.payload:
            by_shape.setdefault(shape, one)
    for one in evenly_spread(list(by_shape.values()), MOST_SHAPES):
        yield (one._replace(time=0),)


def varied(located: FoundClause, base: Probe) -> Iterator[Probe]:
    """Yield the probe in which a clause was found, with another far end or with packets before
    it."""
    probe = located.probe
    ends = probe[-1].ends
    flows = flows_of(base)
    ports = evenly_spread(list(dict.fromkeys(one.far_port for one in flows)), MOST_PLACES)
    fars = evenly_spread(list(dict.fromkeys(one.far for one in flows)), MOST_PLACES)
    for port in dict.fromkeys((*USUAL, *ports)):
        yield with_ends(probe, ends, with_port(ends, "far_port", port))
    for far in (*far_addresses(ends.far), *(one for one in fars if len(one) == len(ends.far))):
        yield with_ends(probe, ends, ends._replace(far=far))
    if any(read(one).where or read(one).hello for one in probe):
        return  # parsers of names read only the first packets of a flow
    for name in BEFORE:
        body = exemplars(ends.proto).get(name)
        if body is not None:
            yield from (preceded(probe, ends, body, up) for up in (True, False))


def preceded(probe: Probe, ends: Ends, body: bytes, up: bool) -> Probe:
    """Return a probe with another packet before the first one of its last flow."""
    begin = next(one.time for one in probe if one.ends == ends)
    return in_order([Sent(begin - TINY, up, ends, body, PUSH), *probe])


def evenly_spread(items: Sequence[T], count: int) -> list[T]:
    """Return up to `count` items, evenly spread."""
    if len(items) <= count:
        return list(items)
    return [items[at * len(items) // count] for at in range(count)]


class RepeatedSession:
    """An OracleSession for a box that acts at random: each probe is sent from several ports of the
    subscriber and counts as blocked if one of them is."""

    def __init__(self, session: OracleSession) -> None:
        self.session, self.longest = session, session.longest

    def blocked(self, probe: Probe) -> bool:
        """Return whether the box blocks a probe from at least one of CHANCES ports."""
        return any(self.session.blocked(moved(probe, number)) for number in range(CHANCES))


def moved(probe: Probe, number: int) -> Probe:
    """Return a probe in which every flow has another subscriber port, the same for equal numbers;
    0: its own port."""
    return tuple(
        one._replace(ends=with_port(one.ends, "near_port", other_port(one.ends.near_port, number)))
        for one in probe
    )


def other_port(port: int, number: int) -> int:
    """Return a port that depends on another one and a number."""
    return port if not number else 1024 + (port + 977 * number) % 64_000


def by_chance(session: OracleSession, found_clauses: Sequence[FoundClause]) -> str:
    """Return a sentence that the box acts at random, "" if nothing indicates it.

    The probes differ in the subscriber's port alone.
    """
    for located in found_clauses:
        probes = [moved(located.probe, number) for number in range(1, CHANCES)]
        answers = [session.blocked(one) for one in probes]
        predicted = [located.clause.holds(one) for one in probes]
        if any(answers) and not all(answers) and answers != predicted:
            return (
                f"of {len(answers)} probes that differ in the subscriber's port alone, "
                f"{answers.count(False)} pass, and no range of that port explains which: the box "
                "acts by chance, or by a hash of the flow's ends"
            )
    return ""


def contradictions(
    session: OracleSession, probes: Sequence[Probe], clauses: Sequence[Clause]
) -> list[Probe]:
    """Return the probes on which the box and the clauses disagree."""
    return [one for one in probes if session.blocked(one) != blocks(clauses, one)]


def correct(
    session: OracleSession,
    wrong: Sequence[Probe],
    found_clauses: list[FoundClause],
    explore: Callable[[Probe], None],
) -> None:
    """Change a rule in place until it agrees with the box on some probes, as far as possible.

    explore: finds clauses of a probe that the box blocks and adds them to the rule.
    """
    for probe in wrong:
        answer = session.blocked(probe)
        if blocks([located.clause for located in found_clauses], probe) == answer:
            continue
        if answer:
            explore(probe)
            continue
        for number, located in enumerate(found_clauses):
            if not located.clause.holds(probe):
                continue
            others = [
                one.clause
                for one in found_clauses
                if one is not located and not one.clause.holds(probe)
            ]
            clause = narrow_clause(session, probe, located, others)
            if clause is not None:
                found_clauses[number] = located._replace(clause=clause)
