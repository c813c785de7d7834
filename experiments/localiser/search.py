# SPDX-License-Identifier: BSD-3-Clause
"""The search: from a probe that a box blocks to the clauses by which it decides.

One clause at a time: flows and packets that are not needed are left out, payloads and ends that do
not matter become neutral, what is left is one packet that is struck and perhaps one before it;
their Looks and where they must stand are learned by halving. Then the clause is defeated in the
first probe; where the box still blocks, there is another one. All of it sees the box as an Asker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from experiments.errors import ExperimentError
from experiments.localiser.asking import Asker, Cost, Spent
from experiments.localiser.clause import ALL, FOREVER, Clause, Earlier, Look, Windows, blocks
from experiments.localiser.content import Unexplained
from experiments.localiser.looking import Looker, strip_packets
from experiments.localiser.messages import unlike
from experiments.localiser.neutral import PORTS, bare, far_addresses, with_port
from experiments.localiser.placing import (
    FINE,
    TINY,
    Amount,
    Stage,
    amount_before,
    halve,
    halve_time,
    least,
    span,
    windows,
)
from experiments.localiser.reduction import needed, shortest_prefix
from testbed.probe import Ends, Probe, Sent, flows_of, in_order

#: Clauses and probes that one search goes into, at most.
MOST_CLAUSES, MOST_BASES = 6, 16
#: Packets of a row that are tried, and the longest gap, in ns.
LONGEST_GAP = 60_000_000_000


class NotBlocked(ExperimentError):
    """The box lets everything through, so there is nothing to localise."""


class Trace(NamedTuple):
    """A clause, the neutral probe in which it was seen, and the packets that decide there."""

    clause: Clause
    probe: Probe
    decisive: tuple[int, ...]


@dataclass
class Found:
    """What a search found. complete: every probe that it met is explained; notes: what is not."""

    traces: list[Trace] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    complete: bool = True

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
    """Return the clauses by which a box blocks a probe; raises NotBlocked where it does not.

    Where the budget is spent, what was found by then is returned, not complete.
    """
    found = Found()
    try:
        if not base or not asker.blocked(base):
            raise NotBlocked("the box does not block these packets, there is nothing to localise")
        explore(asker, base, found)
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
                trace = one_clause(asker, probe)
            except Unexplained:
                found.complete = False
                found.notes.append(
                    f"a block of {len(probe)} packets that no rule of one or two packets explains"
                )
                continue
            found.traces.append(trace)
            if not trace.clause.holds(probe):
                found.complete = False
                found.notes.append("a clause does not hold in the packets that it was found in")
                continue
        for clause in found.clauses:
            if clause.holds(probe):
                waiting += [one for one in defeats(probe, clause) if one not in waiting]
                break


# ---- one clause


def one_clause(asker: Asker, base: Probe) -> Trace:
    """Return a clause by which a box blocks a probe; raises Unexplained."""
    probe = cut(asker, base)
    probe, wanted = strip_packets(asker, probe)
    looker = Looker(asker, probe)
    looker.strip_flows()
    probe = looker.probe
    last = len(probe) - 1
    leads = [at for at in range(last) if wanted[at] or probe[at].ends != probe[last].ends]
    if not leads:
        leads = sized_lead(asker, probe)
    alike = all(probe[at].ends == probe[last].ends for at in range(last))
    if not leads or (alike and wanted[last] and len(leads) == last):
        found = placed(asker, looker, None) if not leads else None
        row = found or in_a_row(asker, looker)
        if row is not None:
            return row
    if len(leads) == 1:
        found = placed(asker, looker, leads[0])
        if found is not None:
            return found
    raise Unexplained


def sized_lead(asker: Asker, probe: Probe) -> list[int]:
    """Return the one packet before the last whose size decides, [] where sizes add up or do not
    matter: then another packet of the flow may have the octets in its place."""
    sized = [at for at in range(len(probe) - 1) if probe[at].payload]
    if len(sized) != 1 or len(probe) < 3:
        return []
    other = 1 if sized[0] == 0 else 0
    moved = list(probe)
    moved[other] = moved[other]._replace(payload=probe[sized[0]].payload + bytes(2))
    moved[sized[0]] = bare(moved[sized[0]])
    return [] if asker.blocked(in_order(moved)) else sized


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
    spans = windows(stage, found, asker.blocked)
    margin = found._replace(octets=found.octets + 2000 if found.octets else 0)
    small = stage.build(margin if asker.blocked(stage.build(margin)) else found)
    learner = Looker(asker, small)
    learner.needs = {ends: looker.needs[ends] for ends in flows_of(small)}
    learner.client = looker.client
    end = len(small) - 1
    look = learner.look(end)
    if stage.lead is None:
        return Trace(Clause(look, spans), small, (end,))
    before = learner.look(0)
    if stage.same_flow:
        look = Look(up=look.up, size=look.size, payload=look.payload)
        clause = Clause(look, Windows(), Earlier(before, True, spans))
    else:
        since = Windows(age=spans.age)
        clause = Clause(look, spans._replace(age=ALL), Earlier(before, False, since))
    return Trace(clause, small, (0, end))


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


# ---- rows


def row_of(one: Sent, count: int, gap: int) -> Probe:
    """Return so many copies of a packet, so many ns apart."""
    return tuple(one._replace(time=number * gap) for number in range(count))


def in_a_row(asker: Asker, looker: Looker) -> Trace | None:
    """Return the clause of packets that come in a row, None where none explains the block."""
    probe = looker.probe
    last, count = probe[-1], len(probe)
    if count < 2:
        return None
    usual = max((last.time - probe[0].time) // (count - 1), TINY)
    if not asker.blocked(row_of(last, count, usual)):
        return None

    def of_count(value: int) -> bool:
        return asker.blocked(row_of(last, value, usual))

    def of_gap(value: int) -> bool:
        return asker.blocked(row_of(last, count, value))

    count = halve(count, 1, of_count)
    low = 0 if of_gap(TINY) else halve_time(usual, TINY, of_gap, FINE // 10)
    high = LONGEST_GAP
    high = FOREVER if of_gap(high) else halve_time(usual, high, of_gap, FINE // 10)
    gap = span(low, high)
    row = row_of(last, count, usual)
    between = [bare(one)._replace(time=one.time + usual // 2) for one in row[:-1]]
    close = not asker.blocked(in_order([*row, *between]))
    learner = RowLooker(asker, row)
    learner.needs = {last.ends: looker.needs[last.ends]}
    learner.client = looker.client
    look = learner.look(0)
    met = look.meets(bare(last))
    clause = Clause(look, times=count, gap=gap, close=close and not met)
    return Trace(clause, row, tuple(range(count)))


class RowLooker(Looker):
    """A Looker whose probe is a row of equal packets: what it tries with one, all become."""

    def blocked(self, probe: Probe) -> bool:
        """Ask about a row of the packet that was changed."""
        odd = [one for one in probe if one._replace(time=0) != self.probe[0]._replace(time=0)]
        model = odd[0] if odd else self.probe[0]
        return self.asker.blocked(tuple(model._replace(time=one.time) for one in probe))


# ---- defeats


def defeats(probe: Probe, clause: Clause) -> Iterator[Probe]:
    """Yield a probe changed so that a clause does not hold, by each thing that it looks for."""
    looks = [clause.look] + ([clause.earlier.look] if clause.earlier else [])
    for look in looks:
        for change in changes(look):
            other = in_order(
                changed for one in probe
                if (changed := change_of(one, look, change)) is not None
            )  # fmt: skip
            if other and not clause.holds(other):
                yield other


def changes(look: Look) -> Iterator[str]:
    """Yield what of a packet can be changed so that it is not what a Look asks for."""
    names = ("payload", "size", "ports", "near_ports", "far")
    yield from (name for name in names if getattr(look, name) is not None)
    yield "all"


def change_of(one: Sent, look: Look, what: str) -> Sent | None:
    """Return a packet changed in one thing where it met a Look, None where it is left out."""
    if what in ("ports", "near_ports", "far"):
        return one._replace(ends=other_ends(one.ends, look, what))
    if not look.meets(one):
        return one
    if what == "payload":
        return one._replace(payload=unlike(one.payload, "defeat"))
    if what == "size" and look.size is not None:
        low, high = look.size
        size = high + 1 if high < FOREVER else low - 1
        return one._replace(payload=(one.payload + bytes(2000))[:size])
    return None


def other_ends(ends: Ends, look: Look, what: str) -> Ends:
    """Return a flow's ends changed in one thing where they met a Look."""
    if not look.flow_meets(ends):
        return ends
    if what == "far":
        return ends._replace(far=far_addresses(ends.far)[0])
    key = "far_port" if what == "ports" else "near_port"
    for port in PORTS:
        other = with_port(ends, key, port)
        if not look.flow_meets(other):
            return other
    return ends
