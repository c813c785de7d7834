# SPDX-License-Identifier: BSD-3-Clause
"""Learns rules on runs: equal packets of one flow that follow each other at some distance in
time."""

from __future__ import annotations

from midcall.experiments.localise.clause import FOREVER, Clause
from midcall.experiments.localise.found_clause import FoundClause
from midcall.experiments.localise.mutations import without_payload
from midcall.experiments.localise.oracle_session import OracleSession
from midcall.experiments.localise.packet_condition import PacketLearner
from midcall.experiments.localise.position import FINE, TINY, bisect, bisect_time, limited_range
from midcall.testbed.probing.probe import Probe, Sent, in_order

#: Longest gap that is tried, in ns.
LONGEST_GAP = 60_000_000_000


def run_of(packet: Sent, count: int, gap: int) -> Probe:
    """Return `count` copies of a packet, `gap` ns apart."""
    return tuple(packet._replace(time=number * gap) for number in range(count))


def learn_run(session: OracleSession, learner: PacketLearner) -> FoundClause | None:
    """Return the clause of a run of packets, None if no such clause explains the block."""
    probe = learner.probe
    last, count = probe[-1], len(probe)
    if count < 2:
        return None
    usual = max((last.time - probe[0].time) // (count - 1), TINY)
    if not session.blocked(run_of(last, count, usual)):
        return None

    def of_count(value: int) -> bool:
        return session.blocked(run_of(last, value, usual))

    def of_gap(value: int) -> bool:
        return session.blocked(run_of(last, count, value))

    count = bisect(count, 1, of_count)
    low = 0 if of_gap(TINY) else bisect_time(usual, TINY, of_gap, FINE // 10)
    high = min(LONGEST_GAP, session.longest // count)
    high = FOREVER if of_gap(high) else bisect_time(usual, high, of_gap, FINE // 10)
    gap = limited_range(low, high)
    run = run_of(last, count, usual)
    between = [without_payload(one)._replace(time=one.time + usual // 2) for one in run[:-1]]
    close = not session.blocked(in_order([*run, *between]))
    run_learner = RunLearner(session, run, learner.known)
    run_learner.needs = {last.ends: learner.needs[last.ends]}
    run_learner.client = learner.client
    condition = run_learner.learn(0)
    bare_meets = condition.meets(without_payload(last))
    alternating = [one._replace(up=one.up != bool(n % 2)) for n, one in enumerate(run)]
    per_direction = condition.up is None and not session.blocked(tuple(alternating))
    clause = Clause(
        condition,
        times=count,
        gap=gap,
        consecutive=close and not bare_meets,
        per_direction=per_direction,
    )
    return FoundClause(clause, run, tuple(range(count)))


class RunLearner(PacketLearner):
    """A PacketLearner whose probe is a run of equal packets: a change of one is applied to all."""

    def blocked(self, probe: Probe) -> bool:
        """Return whether the box blocks a run of the packet that was changed."""
        changed = [one for one in probe if one._replace(time=0) != self.probe[0]._replace(time=0)]
        model = changed[0] if changed else self.probe[0]
        return self.session.blocked(tuple(model._replace(time=one.time) for one in probe))
