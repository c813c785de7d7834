# SPDX-License-Identifier: BSD-3-Clause
"""The search: from a probe that a box blocks to the clauses by which it decides.

One clause at a time: flows and packets that are not needed are removed, payloads, addresses and
ports that do not matter become neutral. What remains is one matching packet and perhaps one before
it; their conditions and their windows are learned by bisection. Then the first probe is changed so
that the clause no longer holds; if the box still blocks it, there is another clause. The search
accesses the box through an OracleSession only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise import checking
from midcall.experiments.localise.byte_counters import size_or_bytes
from midcall.experiments.localise.clause import (
    ALL,
    FOREVER,
    Clause,
    Earlier,
    PacketCondition,
    Range,
    Windows,
    blocks,
)
from midcall.experiments.localise.delta_debugging import needed, shortest_prefix
from midcall.experiments.localise.found_clause import FoundClause
from midcall.experiments.localise.mutations import PORTS, far_addresses, without_payload
from midcall.experiments.localise.negate import negations
from midcall.experiments.localise.oracle_session import BudgetSpent, Cost, OracleSession
from midcall.experiments.localise.packet_condition import LARGE, PacketLearner, strip_packets
from midcall.experiments.localise.payload_hypotheses import Unexplained
from midcall.experiments.localise.position import (
    MOST_PACKETS,
    SMALL,
    TINY,
    Preceding,
    ProbeTemplate,
    largest_passing,
    learn_windows,
    least_preceding,
    preceding_of,
    with_unmatched_fillers,
)
from midcall.experiments.localise.rows import learn_run
from midcall.testbed.probing.probe import LONGEST, Ends, Probe, Sent, flows_of, in_order, ip_size

#: Largest number of clauses, and of probes that one search explores.
MOST_CLAUSES, MOST_BASES = 6, 16
#: Largest number of packets whose size is tested one by one.
LEADS = 8


@dataclass
class Localisation:
    """The result of a search.

    blocked: whether the box blocks any packet of the capture; complete: every explored probe is
    explained, and no check contradicts the rule; notes: what is not explained; checks: number of
    probes that the rule was checked with at the end; refuted: those that contradict it.
    """

    found_clauses: list[FoundClause] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    complete: bool = True
    blocked: bool = True
    checks: int = 0
    refuted: list[Probe] = field(default_factory=list)

    @property
    def clauses(self) -> list[Clause]:
        """Return the clauses."""
        return [located.clause for located in self.found_clauses]

    @property
    def sufficient(self) -> list[frozenset[str]]:
        """Return the minimal sets of factor names of which each suffices for a block."""
        return sorted({clause.factors for clause in self.clauses}, key=sorted)

    @property
    def necessary(self) -> list[frozenset[str]]:
        """Return the minimal sets of which one must be broken to unblock: minimal hitting sets."""
        return minimal_hitting_sets(self.sufficient)


def minimal_hitting_sets(sets: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """Return the minimal sets that intersect each of some sets."""
    hits: set[frozenset[str]] = {frozenset()}
    for names in sets:
        hits = {hit if hit & names else hit | {name} for hit in hits for name in names}
    return sorted((names for names in hits if not any(other < names for other in hits)), key=sorted)


def localise(session: OracleSession, base: Probe) -> Localisation:
    """Return the clauses by which a box blocks a probe; none if it blocks no packet of it.

    If the budget is spent, the clauses found so far are returned as an incomplete result. For a box
    that acts at random, the result describes what it acts on at all: each probe is sent from
    several ports.
    """
    result = Localisation()
    try:
        result.blocked = session.blocked(base)
        explore(session, base, result)
        random_note = checking.by_chance(session, result.found_clauses)
        if random_note:
            result.found_clauses, result.notes, result.complete = [], [random_note], False
            repeated = cast(OracleSession, checking.RepeatedSession(session))
            explore(repeated, base, result)
            check(repeated, base, result)
        else:
            check(session, base, result)
        result.blocked = result.blocked or bool(result.found_clauses)
    except BudgetSpent:
        result.complete = False
        result.notes.append(f"the budget of {session.budget} probes is spent")
    finally:
        session.save()
    result.cost = session.cost
    return result


def explore(session: OracleSession, base: Probe, result: Localisation) -> None:
    """Find clauses until the base, and all changed probes in which known clauses fail, are
    explained."""
    queue, explored = [base], 0
    while queue and explored < MOST_BASES and len(result.found_clauses) < MOST_CLAUSES:
        probe = queue.pop(0)
        explored += 1
        if not blocks(result.clauses, probe):
            if not session.blocked(probe):
                continue
            try:
                located = one_clause(session, probe, result.clauses)
            except Unexplained:
                result.complete = False
                note(
                    result,
                    f"a block of {len(probe)} packets that no rule of one or two packets explains",
                )
                continue
            located = fitting(located, probe)
            if located.clause not in result.clauses:
                result.found_clauses.append(located)
            if not located.clause.holds(probe):
                result.complete = False
                note(result, "a clause does not hold in the packets that it was found in")
                continue
        for clause in result.clauses:
            if clause.holds(probe):
                queue += [other for other in negations(probe, clause) if other not in queue]
                break


def check(session: OracleSession, base: Probe, result: Localisation) -> None:
    """Compare the rule with the capture and the box, and correct it (see checking)."""
    for _ in range(checking.ROUNDS):
        probes = checking.check_probes(base, result.found_clauses)
        wrong = checking.contradictions(session, probes, result.clauses)
        before = result.clauses
        if wrong:
            checking.correct(
                session, wrong, result.found_clauses, lambda probe: explore(session, probe, result)
            )
        result.checks, result.refuted = len(probes), wrong
        if result.clauses == before:
            break
    else:
        probes = checking.check_probes(base, result.found_clauses)
        result.checks, result.refuted = (
            len(probes),
            checking.contradictions(session, probes, result.clauses),
        )
    prune(result, probes)
    if result.refuted:
        result.complete = False
        result.notes.append(
            f"{len(result.refuted)} of {result.checks} checks refute the rule that was found"
        )


def prune(result: Localisation, probes: Sequence[Probe]) -> None:
    """Remove clauses without which the rule decides all checks and found probes equally."""
    for located in list(result.found_clauses):
        others = [one.clause for one in result.found_clauses if one is not located]
        if blocks(others, located.probe) and all(
            blocks(others, one) == blocks(result.clauses, one) for one in probes
        ):
            result.found_clauses.remove(located)


def note(result: Localisation, words: str) -> None:
    """Add a note unless it is present."""
    if words not in result.notes:
        result.notes.append(words)


# ---- one clause


def fitting(located: FoundClause, base: Probe) -> FoundClause:
    """Return a clause without its limit on packets with a payload, if only this limit excludes the
    probe in which it was found.

    That limit was measured with meaningless octets; a box may ignore messages that it recognises.
    """
    clause = located.clause
    before = clause.earlier and clause.earlier._replace(
        since=clause.earlier.since._replace(loaded=ALL)
    )
    relaxed = clause._replace(windows=clause.windows._replace(loaded=ALL), earlier=before)
    return (
        located._replace(clause=relaxed)
        if relaxed.holds(base) and not clause.holds(base)
        else located
    )


def one_clause(session: OracleSession, base: Probe, known: Sequence[Clause] = ()) -> FoundClause:
    """Return a clause by which a box blocks a probe, other than the known ones. Raises
    Unexplained."""
    probe = joined_segments(session, minimal_probe(session, base))
    probe, wanted = strip_packets(session, probe)
    learner = PacketLearner(session, probe, known)
    learner.strip_flows()
    probe = learner.probe
    last = len(probe) - 1
    leads = [at for at in range(last) if wanted[at] or probe[at].ends != probe[last].ends]
    if not leads:
        leads, learner.probe = sized_lead(session, probe)
        probe = learner.probe
        last = len(probe) - 1
    same_flow = all(probe[at].ends == probe[last].ends for at in range(last))
    if not leads or (same_flow and wanted[-1] and len(leads) == last):
        placed = place_clause(session, learner, None) if not leads else None
        run = placed or learn_run(session, learner)
        if run is not None:
            return run
    if len(leads) == 1:
        placed = place_clause(session, learner, leads[0])
        if placed is not None:
            return placed
    raise Unexplained


def sized_lead(session: OracleSession, probe: Probe) -> tuple[list[int], Probe]:
    """Return the index of the one packet before the last whose size decides, and a probe in which
    no other packet has its size. The list is empty if sizes add up or do not matter.

    Other packets of the flow may then have the octets in its place: one large packet or many small
    ones.
    """
    sized = [at for at in range(len(probe) - 1) if probe[at].payload]
    for make in (larger, smaller):
        if not sized or session.blocked(but_one(probe, sized, -1, make)):
            continue
        for at in sized[:LEADS]:
            changed = but_one(probe, sized, at, make)
            if session.blocked(changed):
                enough = shortest_prefix(changed, lambda some: session.blocked(tuple(some)))
                position = changed.index(probe[at])
                if position < len(enough) - 1:
                    return [position], tuple(enough)
    return [], probe


def but_one(
    probe: Probe, sized: Sequence[int], but: int, make: Callable[[Sent], list[Sent]]
) -> Probe:
    """Return a probe in which all packets at some indices but one are replaced."""
    return in_order(
        part for at, one in enumerate(probe)
        for part in (make(one) if at in sized and at != but else [one])
    )  # fmt: skip


def larger(packet: Sent) -> list[Sent]:
    """Return the packet with LARGE more octets of payload."""
    return [packet._replace(payload=packet.payload + bytes(LARGE))]


def smaller(packet: Sent) -> list[Sent]:
    """Return small packets with as many bytes as the packet in total."""
    part = packet._replace(payload=packet.payload[:SMALL])
    count = -(-ip_size(packet) // ip_size(part))
    return [part._replace(time=packet.time + number * TINY) for number in range(count)]


def minimal_probe(session: OracleSession, base: Probe) -> Probe:
    """Return a probe without the flows and packets that the block does not need."""

    def flows(some: Sequence[Ends]) -> bool:
        chosen = set(some)
        return session.blocked(in_order(one for one in base if one.ends in chosen))

    needed_flows = set(needed(flows_of(base), flows))
    packets: Sequence[Sent] = [one for one in base if one.ends in needed_flows]

    def enough(some: Sequence[Sent]) -> bool:
        return bool(some) and session.blocked(in_order(some))

    packets = shortest_prefix(packets, enough)
    return in_order(needed(packets, enough))


def joined_segments(session: OracleSession, probe: Probe) -> Probe:
    """Return a probe in which consecutive TCP segments are one packet, if the box still blocks it,
    so that a message that takes several segments is one packet."""
    at = 0
    while at + 1 < len(probe):
        one = probe[at]
        after = [
            n for n in range(at + 1, len(probe))
            if probe[n].ends == one.ends and probe[n].up == one.up and probe[n].payload
        ]  # fmt: skip
        if one.ends.proto == TCP and one.payload and after:
            joined = probe[after[0]]._replace(payload=one.payload + probe[after[0]].payload)
            changed = in_order(
                joined if n == after[0] else other for n, other in enumerate(probe) if n != at
            )
            if len(joined.payload) <= LONGEST and session.blocked(changed):
                probe = changed
                continue
        at += 1
    return probe


def place_clause(
    session: OracleSession, learner: PacketLearner, lead: int | None
) -> FoundClause | None:
    """Return the clause of one matching packet, after an earlier one if `lead` is its index.

    None if no such clause explains the block.
    """
    probe = learner.probe
    last = len(probe) - 1
    if lead is not None and probe[lead].ends == probe[last].ends:
        apart = (*probe[:last], probe[last]._replace(ends=other_flow(probe[last].ends)))
        if session.blocked(apart):
            probe = apart
            learner.needs[apart[last].ends] = set()
    template = ProbeTemplate(probe[last], None if lead is None else probe[lead])
    most = preceding_of(probe, last, lead)
    least = least_preceding(template, most, session.blocked)
    if least is None:
        return None
    if least.age and is_gap(session, template, least):
        return None
    if least != Preceding():
        template = with_unmatched_fillers(template, least, session.blocked)
    limits = learn_windows(template, least, session.blocked, session.longest)
    margin = least._replace(octets=least.octets + 2000 if least.octets else 0)
    small = template.build(margin if session.blocked(template.build(margin)) else least)
    packet_learner = PacketLearner(session, small, learner.known)
    packet_learner.needs = {ends: learner.needs[ends] for ends in flows_of(small)}
    packet_learner.client = learner.client
    end = len(small) - 1
    condition = packet_learner.learn(end)
    if template.lead is None:
        return FoundClause(size_or_bytes(session, small, Clause, condition, limits), small, (end,))
    alone = condition.payload is None or condition.payload.meets(small[end])
    if template.same_flow and not alone and condition.payload is not None:
        message = Clause(condition, Windows())  # one message in two packets
        if condition.payload.of_message and message.holds(small):
            return FoundClause(message, small, (0, end))
    before, place = packet_learner.learn(0), lead_place(session, small)
    if template.same_flow:
        condition = PacketCondition(up=condition.up, size=condition.size, payload=condition.payload)

        def since_lead(condition: PacketCondition, limits: Windows) -> Clause:
            return Clause(condition, Windows(), Earlier(before, True, limits, place))

        clause = size_or_bytes(session, small, since_lead, condition, limits)
    else:
        since = Windows(age=limits.age)
        clause = Clause(condition, limits._replace(age=ALL), Earlier(before, False, since, place))
    return FoundClause(clause, small, (0, end))


def lead_place(session: OracleSession, probe: Probe) -> Range:
    """Return the range of positions of the first packet of a probe in its flow, ALL for any."""
    filler = without_payload(probe[0])

    def test(count: int) -> bool:
        fill = [filler._replace(time=(number - count) * TINY) for number in range(count)]
        return session.blocked(in_order([*fill, *probe]))

    most = largest_passing(0, MOST_PACKETS, test)
    return ALL if most >= FOREVER else (0, 1 + most)


def other_flow(ends: Ends) -> Ends:
    """Return another flow of the same subscriber with another far end."""
    far = far_addresses(ends.far)[1]
    return ends._replace(near_port=PORTS[0] + 7, far=far, far_port=PORTS[0] + 8)


def is_gap(session: OracleSession, template: ProbeTemplate, least: Preceding) -> bool:
    """Return whether the time since the preceding packet decides rather than the flow's age."""
    if template.lead is not None:
        return False
    between = least._replace(packets=least.packets + 1)
    probe = list(template.build(between))
    probe[-2] = probe[-2]._replace(time=least.age // 2)
    return not session.blocked(in_order(probe))
