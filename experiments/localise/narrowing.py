# SPDX-License-Identifier: BSD-3-Clause
"""Narrowing: what a box spares of the packets that a clause says it blocks.

From a probe in which a clause holds and that the box lets pass, the exception is learned in the
same way as a clause: the question is now whether the clause holds and the box still lets all pass.
The exception is about the packet that the clause strikes, the one that must come before it, or
another packet of the same flow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from midcall.experiments.localise.clause import (
    ALL,
    FOREVER,
    Clause,
    Look,
    Range,
    Sparing,
    blocks,
    within,
)
from midcall.experiments.localise.delta_debugging import needed, shortest_prefix
from midcall.experiments.localise.found_clause import Trace
from midcall.experiments.localise.mutations import bare
from midcall.experiments.localise.oracle_session import Asker
from midcall.experiments.localise.packet_condition import LAST_PORT, Looker
from midcall.experiments.localise.payload_hypotheses import Unexplained
from midcall.experiments.localise.position import MOST_PACKETS, TINY, top
from midcall.testbed.probing.probe import Probe, Sent, in_order

#: Fields of a Look that an exception may have.
FIELDS = ("payload", "size", "ports", "near_ports", "far", "near", "up", "proto", "version")


class Spared:
    """An Asker of another question: does a clause hold, and does the box let the probe pass?

    others: the other clauses; where one of them holds, an answer says nothing of this one.
    """

    def __init__(self, asker: Asker, clause: Clause, others: Sequence[Clause]) -> None:
        self.asker, self.clause, self.others = asker, clause, others
        self.asked: dict[Probe, bool] = {}

    def blocked(self, probe: Probe) -> bool:
        """Return True where the clause holds and the box lets the probe pass."""
        if not self.clause.holds(probe) or blocks(self.others, probe):
            return False
        self.asked[probe] = self.asker.blocked(probe)
        return not self.asked[probe]

    def agrees(self, clause: Clause) -> bool:
        """Tell whether a narrower clause gives every answer that the box gave."""
        return all(clause.holds(probe) == answer for probe, answer in self.asked.items())


def narrower(asker: Asker, probe: Probe, trace: Trace, others: Sequence[Clause]) -> Clause | None:
    """Return the clause of a trace without what the box spares in a probe; None if not found."""
    clause = trace.clause
    spared = Spared(asker, clause, others)

    def test(some: Sequence[Sent]) -> bool:
        return bool(some) and spared.blocked(in_order(some))

    if not test(probe):
        return None
    small = in_order(needed(shortest_prefix(probe, test), test))
    held = needed(range(len(small)), lambda some: clause.holds(in_order(small[at] for at in some)))
    more = [at for at in range(len(small)) if at not in held] or counted(spared, small)
    places = [(at, "unless") for at in more[:1]]
    if not more:
        places = [(len(small) - 1, "look"), *([(0, "earlier")] if clause.earlier else [])]
    for at, where in places:
        looker = Looker(cast(Asker, spared), small)
        looker.strip_flows()
        try:
            found = Sparing(looker.look(at), place_of(spared, looker.probe, at, where))
        except Unexplained:
            continue
        made = simplest(clause, where, found, spared)
        if made is not None and made.holds(trace.probe) and not made.holds(probe):
            return made
    return None


def counted(spared: Spared, probe: Probe) -> list[int]:
    """Return the packets of a probe that spare it, where the clause counts them, too: the box
    blocks it with a packet of no meaning in the place of one of them."""
    found = []
    for at in range(len(probe) - 1):
        filler = bare(probe[-1])._replace(time=probe[at].time)
        other = (*probe[:at], filler, *probe[at + 1 :])
        if spared.clause.holds(other) and not spared.blocked(other):
            found.append(at)
    return found


def place_of(spared: Spared, probe: Probe, at: int, where: str) -> Range:
    """Return the numbers that a sparing packet may have in its flow, ALL for any."""
    if where != "unless":
        return ALL
    own = sum(one.ends == probe[at].ends for one in probe[: at + 1])
    filler = bare(probe[-1])

    def test(count: int) -> bool:
        fill = [filler._replace(time=(number - count) * TINY) for number in range(count)]
        return spared.blocked(in_order([*fill, *probe]))

    most = top(0, MOST_PACKETS, test)
    return ALL if most >= FOREVER else (0, own + most)


def simplest(clause: Clause, where: str, found: Sparing, spared: Spared) -> Clause | None:
    """Return a clause with an exception, without the parts of it that no answer asks for."""
    if not spared.agrees(attached(clause, where, found)):
        return None
    for field in FIELDS:
        look = Look._make(
            None if name == field else value
            for name, value in zip(found.look._fields, found.look, strict=True)
        )
        other = found._replace(look=look)
        if look != found.look and spared.agrees(attached(clause, where, other)):
            found = other
    return attached(clause, where, found)


def attached(clause: Clause, where: str, found: Sparing) -> Clause:
    """Return a clause with one more exception. where: "look", "earlier" or "unless"."""
    if where == "unless":
        return clause._replace(unless=(*clause.unless, found))
    if where == "earlier" and clause.earlier is not None:
        look = limited(clause.earlier.look, found.look)
        return clause._replace(earlier=clause.earlier._replace(look=look))
    return clause._replace(look=limited(clause.look, found.look))


def limited(look: Look, found: Look) -> Look:
    """Return a Look with an exception: limits of its own fields where that says the same."""
    result = [field for field in FIELDS if getattr(found, field) is not None]
    if result == ["up"] and look.up is None:
        return look._replace(up=not found.up)
    if result == ["version"] and look.version is None and found.version is not None:
        return look._replace(version=10 - found.version)  # of 4 and 6 the other one
    if result == ["ports"] and found.ports is not None:
        return look._replace(ports=without(look.ports or ((1, LAST_PORT),), found.ports))
    if result == ["near_ports"] and found.near_ports is not None:
        return look._replace(
            near_ports=without(look.near_ports or ((1, LAST_PORT),), found.near_ports)
        )
    if result == ["size"] and found.size is not None:
        left = without((look.size or (0, FOREVER),), (found.size,))
        if len(left) == 1:
            return look._replace(size=left[0])
    return look._replace(but=(*look.but, found))


def without(spans: Sequence[Range], less: Sequence[Range]) -> tuple[Range, ...]:
    """Return ranges without other ranges."""
    left = list(spans)
    for low, high in less:
        left = [part for span in left for part in pieces(span, low, high)]
    return tuple(left)


def pieces(span: Range, low: int, high: int) -> Iterator[Range]:
    """Yield what is left of a range without another one."""
    if span[0] < low and (within(span, low) or high >= span[0]):
        yield span[0], min(span[1], low - 1)
    elif span[1] < low:
        yield span
    if span[1] > high:
        yield max(span[0], high + 1), span[1]
