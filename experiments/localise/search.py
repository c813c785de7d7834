# SPDX-License-Identifier: BSD-3-Clause
"""The search: from a probe that a box blocks to the clauses by which it decides.

One clause at a time: flows and packets that are not needed are left out, payloads and ends that do
not matter become neutral, what is left is one packet that is struck and perhaps one before it;
their Looks and where they must stand are learned by halving. Then the clause is defeated in the
first probe; where the box still blocks, there is another one. All of it sees the box as an Asker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise import checking
from midcall.experiments.localise.byte_counters import summed
from midcall.experiments.localise.clause import (
    ALL,
    FOREVER,
    Clause,
    Earlier,
    Look,
    Range,
    Windows,
    blocks,
)
from midcall.experiments.localise.delta_debugging import needed, shortest_prefix
from midcall.experiments.localise.found_clause import Trace
from midcall.experiments.localise.mutations import PORTS, bare, far_addresses
from midcall.experiments.localise.negate import defeats
from midcall.experiments.localise.oracle_session import Asker, Cost, Spent
from midcall.experiments.localise.packet_condition import LARGE, Looker, strip_packets
from midcall.experiments.localise.payload_hypotheses import Unexplained
from midcall.experiments.localise.position import (
    MOST_PACKETS,
    SMALL,
    TINY,
    Amount,
    Stage,
    amount_before,
    least,
    top,
    unstruck,
    windows,
)
from midcall.experiments.localise.rows import in_a_row
from midcall.testbed.probing.probe import LONGEST, Ends, Probe, Sent, flows_of, in_order, ip_size

#: Clauses and probes that one search goes into, at most.
MOST_CLAUSES, MOST_BASES = 6, 16
#: Packets of which one by one it is asked whether their size decides.
LEADS = 8


@dataclass
class Found:
    """What a search found.

    blocked: whether the box blocks a packet of the capture at all; complete: every probe that it
    met is explained, and no check refutes the rule; notes: what is not explained; checks: probes
    that the rule was checked with at the end; refuted: those of them that refute it.
    """

    traces: list[Trace] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    complete: bool = True
    blocked: bool = True
    checks: int = 0
    refuted: list[Probe] = field(default_factory=list)

    @property
    def clauses(self) -> list[Clause]:
        """Return the clauses."""
        return [trace.clause for trace in self.traces]

    @property
    def sufficient(self) -> list[frozenset[str]]:
        """Return the minimal sets of which each suffices for a block, by name."""
        return sorted({clause.calls for clause in self.clauses}, key=sorted)

    @property
    def necessary(self) -> list[frozenset[str]]:
        """Return the minimal sets one of which must be broken to unblock: minimal hitting sets."""
        return hitting(self.sufficient)


def hitting(sets: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """Return the minimal sets that meet each of some sets."""
    held: set[frozenset[str]] = {frozenset()}
    for one in sets:
        held = {old if old & one else old | {name} for old in held for name in one}
    return sorted((one for one in held if not any(other < one for other in held)), key=sorted)


def localise(asker: Asker, base: Probe) -> Found:
    """Return the clauses by which a box blocks a probe: none where it blocks no packet of it.

    Where the budget is spent, what was found by then is returned, not complete. Of a box that acts
    by chance it is found what it acts on at all, each probe asked from several ports.
    """
    found = Found()
    try:
        found.blocked = asker.blocked(base)
        explore(asker, base, found)
        chance = checking.by_chance(asker, found.traces)
        if chance:
            found.traces, found.notes, found.complete = [], [chance], False
            often = cast(Asker, checking.Often(asker))
            explore(often, base, found)
            check(often, base, found)
        else:
            check(asker, base, found)
        found.blocked = found.blocked or bool(found.traces)
    except Spent:
        found.complete = False
        found.notes.append(f"the budget of {asker.budget} probes is spent")
    finally:
        asker.save()
    found.cost = asker.cost
    return found


def explore(asker: Asker, base: Probe, found: Found) -> None:
    """Find clauses until the base and everything in which they are defeated is explained."""
    waiting, seen = [base], 0
    while waiting and seen < MOST_BASES and len(found.traces) < MOST_CLAUSES:
        probe = waiting.pop(0)
        seen += 1
        if not blocks(found.clauses, probe):
            if not asker.blocked(probe):
                continue
            try:
                trace = one_clause(asker, probe, found.clauses)
            except Unexplained:
                found.complete = False
                note(
                    found,
                    f"a block of {len(probe)} packets that no rule of one or two packets explains",
                )
                continue
            trace = fitting(trace, probe)
            if trace.clause not in found.clauses:
                found.traces.append(trace)
            if not trace.clause.holds(probe):
                found.complete = False
                note(found, "a clause does not hold in the packets that it was found in")
                continue
        for clause in found.clauses:
            if clause.holds(probe):
                waiting += [one for one in defeats(probe, clause) if one not in waiting]
                break


def check(asker: Asker, base: Probe, found: Found) -> None:
    """Compare what was found with the capture and the box, and correct it (checking)."""
    for _ in range(checking.ROUNDS):
        tries = checking.trials(base, found.traces)
        wrong = checking.refuting(asker, tries, found.clauses)
        before = found.clauses
        if wrong:
            checking.mended(asker, wrong, found.traces, lambda probe: explore(asker, probe, found))
        found.checks, found.refuted = len(tries), wrong
        if found.clauses == before:
            break
    else:
        tries = checking.trials(base, found.traces)
        found.checks, found.refuted = len(tries), checking.refuting(asker, tries, found.clauses)
    prune(found, tries)
    if found.refuted:
        found.complete = False
        found.notes.append(
            f"{len(found.refuted)} of {found.checks} checks refute the rule that was found"
        )


def prune(found: Found, tries: Sequence[Probe]) -> None:
    """Leave out clauses without which the rule says the same of every check and trace."""
    for trace in list(found.traces):
        rest = [one.clause for one in found.traces if one is not trace]
        if blocks(rest, trace.probe) and all(
            blocks(rest, one) == blocks(found.clauses, one) for one in tries
        ):
            found.traces.remove(trace)


def note(found: Found, words: str) -> None:
    """Add a note that is not there yet."""
    if words not in found.notes:
        found.notes.append(words)


# ---- one clause


def fitting(trace: Trace, base: Probe) -> Trace:
    """Return a trace whose clause counts no packets with a payload, where this alone keeps it from
    the probe in which it was found.

    They were counted with octets of no meaning; a box may look past messages that it knows.
    """
    clause = trace.clause
    before = clause.earlier and clause.earlier._replace(
        since=clause.earlier.since._replace(loaded=ALL)
    )
    lax = clause._replace(windows=clause.windows._replace(loaded=ALL), earlier=before)
    return trace._replace(clause=lax) if lax.holds(base) and not clause.holds(base) else trace


def one_clause(asker: Asker, base: Probe, known: Sequence[Clause] = ()) -> Trace:
    """Return a clause by which a box blocks a probe, other than those known; raises Unexplained."""
    probe = joined(asker, cut(asker, base))
    probe, wanted = strip_packets(asker, probe)
    looker = Looker(asker, probe, known)
    looker.strip_flows()
    probe = looker.probe
    last = len(probe) - 1
    leads = [at for at in range(last) if wanted[at] or probe[at].ends != probe[last].ends]
    if not leads:
        leads, looker.probe = sized_lead(asker, probe)
        probe = looker.probe
        last = len(probe) - 1
    alike = all(probe[at].ends == probe[last].ends for at in range(last))
    if not leads or (alike and wanted[-1] and len(leads) == last):
        found = placed(asker, looker, None) if not leads else None
        row = found or in_a_row(asker, looker)
        if row is not None:
            return row
    if len(leads) == 1:
        found = placed(asker, looker, leads[0])
        if found is not None:
            return found
    raise Unexplained


def sized_lead(asker: Asker, probe: Probe) -> tuple[list[int], Probe]:
    """Return the one packet before the last whose size decides, and a probe in which no other one
    has its size; none where sizes add up or do not matter.

    Then other packets of the flow may have the octets in its place: one that is large, or many that
    are small.
    """
    sized = [at for at in range(len(probe) - 1) if probe[at].payload]
    for make in (larger, smaller):
        if not sized or asker.blocked(but_one(probe, sized, -1, make)):
            continue
        for at in sized[:LEADS]:
            tried = but_one(probe, sized, at, make)
            if asker.blocked(tried):
                enough = shortest_prefix(tried, lambda some: asker.blocked(tuple(some)))
                found = tried.index(probe[at])
                if found < len(enough) - 1:
                    return [found], tuple(enough)
    return [], probe


def but_one(
    probe: Probe, sized: Sequence[int], but: int, make: Callable[[Sent], list[Sent]]
) -> Probe:
    """Return a probe in which all packets of some places but one are made otherwise."""
    return in_order(
        part for at, one in enumerate(probe)
        for part in (make(one) if at in sized and at != but else [one])
    )  # fmt: skip


def larger(one: Sent) -> list[Sent]:
    """Return a packet much larger than it was."""
    return [one._replace(payload=one.payload + bytes(LARGE))]


def smaller(one: Sent) -> list[Sent]:
    """Return small packets that bring as many bytes as one did."""
    part = one._replace(payload=one.payload[:SMALL])
    count = -(-ip_size(one) // ip_size(part))
    return [part._replace(time=one.time + number * TINY) for number in range(count)]


def cut(asker: Asker, base: Probe) -> Probe:
    """Return a probe without the flows and packets that are not needed."""

    def flows(some: Sequence[Ends]) -> bool:
        held = set(some)
        return asker.blocked(in_order(one for one in base if one.ends in held))

    kept = set(needed(flows_of(base), flows))
    packets: Sequence[Sent] = [one for one in base if one.ends in kept]

    def enough(some: Sequence[Sent]) -> bool:
        return bool(some) and asker.blocked(in_order(some))

    packets = shortest_prefix(packets, enough)
    return in_order(needed(packets, enough))


def joined(asker: Asker, probe: Probe) -> Probe:
    """Return a probe in which TCP segments that follow each other are one, where the box blocks it
    still: a message that takes several segments is one packet then."""
    at = 0
    while at + 1 < len(probe):
        one = probe[at]
        after = [
            n for n in range(at + 1, len(probe))
            if probe[n].ends == one.ends and probe[n].up == one.up and probe[n].payload
        ]  # fmt: skip
        if one.ends.proto == TCP and one.payload and after:
            whole = probe[after[0]]._replace(payload=one.payload + probe[after[0]].payload)
            tried = in_order(
                whole if n == after[0] else other for n, other in enumerate(probe) if n != at
            )
            if len(whole.payload) <= LONGEST and asker.blocked(tried):
                probe = tried
                continue
        at += 1
    return probe


def placed(asker: Asker, looker: Looker, lead: int | None) -> Trace | None:
    """Return the clause of one packet that is struck, after one that came before, if there is one.

    None where neither explains the block.
    """
    probe = looker.probe
    last = len(probe) - 1
    if lead is not None and probe[lead].ends == probe[last].ends:
        apart = (*probe[:last], probe[last]._replace(ends=alien(probe[last].ends)))
        if asker.blocked(apart):
            probe = apart
            looker.needs[apart[last].ends] = set()
    stage = Stage(probe[last], None if lead is None else probe[lead])
    most = amount_before(probe, last, lead)
    found = least(stage, most, asker.blocked)
    if found is None:
        return None
    if found.age and is_gap(asker, stage, found):
        return None
    if found != Amount():
        stage = unstruck(stage, found, asker.blocked)
    spans = windows(stage, found, asker.blocked, asker.longest)
    margin = found._replace(octets=found.octets + 2000 if found.octets else 0)
    small = stage.build(margin if asker.blocked(stage.build(margin)) else found)
    learner = Looker(asker, small, looker.known)
    learner.needs = {ends: looker.needs[ends] for ends in flows_of(small)}
    learner.client = looker.client
    end = len(small) - 1
    look = learner.look(end)
    if stage.lead is None:
        return Trace(summed(asker, small, Clause, look, spans), small, (end,))
    alone = look.payload is None or look.payload.meets(small[end])
    if stage.same_flow and not alone and look.payload is not None:
        whole = Clause(look, Windows())  # one message in two packets
        if look.payload.of_message and whole.holds(small):
            return Trace(whole, small, (0, end))
    before, place = learner.look(0), lead_place(asker, small)
    if stage.same_flow:
        look = Look(up=look.up, size=look.size, payload=look.payload)

        def since_lead(look: Look, spans: Windows) -> Clause:
            return Clause(look, Windows(), Earlier(before, True, spans, place))

        clause = summed(asker, small, since_lead, look, spans)
    else:
        since = Windows(age=spans.age)
        clause = Clause(look, spans._replace(age=ALL), Earlier(before, False, since, place))
    return Trace(clause, small, (0, end))


def lead_place(asker: Asker, probe: Probe) -> Range:
    """Return the numbers that the first packet of a probe may have in its flow, ALL for any."""
    filler = bare(probe[0])

    def test(count: int) -> bool:
        fill = [filler._replace(time=(number - count) * TINY) for number in range(count)]
        return asker.blocked(in_order([*fill, *probe]))

    most = top(0, MOST_PACKETS, test)
    return ALL if most >= FOREVER else (0, 1 + most)


def alien(ends: Ends) -> Ends:
    """Return the ends of another flow of the same subscriber, to somewhere else."""
    far = far_addresses(ends.far)[1]
    return ends._replace(near_port=PORTS[0] + 7, far=far, far_port=PORTS[0] + 8)


def is_gap(asker: Asker, stage: Stage, found: Amount) -> bool:
    """Tell whether the time since the packet before decides, and not the flow's age."""
    if stage.lead is not None:
        return False
    between = found._replace(packets=found.packets + 1)
    probe = list(stage.build(between))
    probe[-2] = probe[-2]._replace(time=found.age // 2)
    return not asker.blocked(in_order(probe))
