# SPDX-License-Identifier: BSD-3-Clause
"""Rows: equal packets of one flow that come one after the other, some time apart."""

from __future__ import annotations

from midcall.experiments.localise.clause import FOREVER, Clause
from midcall.experiments.localise.found_clause import Trace
from midcall.experiments.localise.mutations import bare
from midcall.experiments.localise.oracle_session import Asker
from midcall.experiments.localise.packet_condition import Looker
from midcall.experiments.localise.position import FINE, TINY, halve, halve_time, span
from midcall.testbed.probing.probe import Probe, Sent, in_order

#: The longest gap that is tried, in ns.
LONGEST_GAP = 60_000_000_000


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
    high = min(LONGEST_GAP, asker.longest // count)
    high = FOREVER if of_gap(high) else halve_time(usual, high, of_gap, FINE // 10)
    gap = span(low, high)
    row = row_of(last, count, usual)
    between = [bare(one)._replace(time=one.time + usual // 2) for one in row[:-1]]
    close = not asker.blocked(in_order([*row, *between]))
    learner = RowLooker(asker, row, looker.known)
    learner.needs = {last.ends: looker.needs[last.ends]}
    learner.client = looker.client
    look = learner.look(0)
    met = look.meets(bare(last))
    turned = [one._replace(up=one.up != bool(n % 2)) for n, one in enumerate(row)]
    each = look.up is None and not asker.blocked(tuple(turned))
    clause = Clause(look, times=count, gap=gap, close=close and not met, each_way=each)
    return Trace(clause, row, tuple(range(count)))


class RowLooker(Looker):
    """A Looker whose probe is a row of equal packets: what it tries with one, all become."""

    def blocked(self, probe: Probe) -> bool:
        """Ask about a row of the packet that was changed."""
        odd = [one for one in probe if one._replace(time=0) != self.probe[0]._replace(time=0)]
        model = odd[0] if odd else self.probe[0]
        return self.asker.blocked(tuple(model._replace(time=one.time) for one in probe))
