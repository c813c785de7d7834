# SPDX-License-Identifier: BSD-3-Clause
"""Learns exceptions: packets that a clause matches and the box lets pass.

From a probe in which a clause holds and that the box lets pass, the exception is learned in the
same way as a clause: the question is whether the clause holds and the box still lets all packets
pass. The exception is a condition on the matching packet, on the one that must come before it, or
on another packet of the same flow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from midcall.experiments.localise.clause import (
    ALL,
    FOREVER,
    Clause,
    Exemption,
    PacketCondition,
    Range,
    blocks,
    within,
)
from midcall.experiments.localise.delta_debugging import needed, shortest_prefix
from midcall.experiments.localise.found_clause import FoundClause
from midcall.experiments.localise.mutations import without_payload
from midcall.experiments.localise.oracle_session import OracleSession
from midcall.experiments.localise.packet_condition import LAST_PORT, PacketLearner
from midcall.experiments.localise.payload_hypotheses import Unexplained
from midcall.experiments.localise.position import MOST_PACKETS, TINY, largest_passing
from midcall.testbed.probing.probe import Probe, Sent, in_order

#: Fields of a PacketCondition that an exception may limit.
FIELDS = ("payload", "size", "ports", "near_ports", "far", "near", "up", "proto", "version")


class ExemptionSession:
    """An OracleSession with another question: does a clause hold and the box let the probe pass?

    others: the other clauses; where one of them holds, an answer gives no information on this one.
    """

    def __init__(self, session: OracleSession, clause: Clause, others: Sequence[Clause]) -> None:
        self.session, self.clause, self.others = session, clause, others
        self.answers: dict[Probe, bool] = {}

    def blocked(self, probe: Probe) -> bool:
        """Return True if the clause holds and the box lets the probe pass."""
        if not self.clause.holds(probe) or blocks(self.others, probe):
            return False
        self.answers[probe] = self.session.blocked(probe)
        return not self.answers[probe]

    def agrees(self, clause: Clause) -> bool:
        """Return whether a narrower clause reproduces every answer of the box."""
        return all(clause.holds(probe) == answer for probe, answer in self.answers.items())


def narrow_clause(
    session: OracleSession, probe: Probe, located: FoundClause, others: Sequence[Clause]
) -> Clause | None:
    """Return a clause without what the box exempts in a probe, None if no exception is found."""
    clause = located.clause
    exemption = ExemptionSession(session, clause, others)

    def test(some: Sequence[Sent]) -> bool:
        return bool(some) and exemption.blocked(in_order(some))

    if not test(probe):
        return None
    reduced = in_order(needed(shortest_prefix(probe, test), test))
    matching = needed(
        range(len(reduced)), lambda some: clause.holds(in_order(reduced[at] for at in some))
    )
    exempting = [at for at in range(len(reduced)) if at not in matching] or counted_exempting(
        exemption, reduced
    )
    places = [(at, "unless") for at in exempting[:1]]
    if not exempting:
        places = [(len(reduced) - 1, "condition"), *([(0, "earlier")] if clause.earlier else [])]
    for at, where in places:
        learner = PacketLearner(cast(OracleSession, exemption), reduced)
        learner.strip_flows()
        try:
            exception = Exemption(learner.learn(at), place_of(exemption, learner.probe, at, where))
        except Unexplained:
            continue
        narrowed = simplest(clause, where, exception, exemption)
        if narrowed is not None and narrowed.holds(located.probe) and not narrowed.holds(probe):
            return narrowed
    return None


def counted_exempting(exemption: ExemptionSession, probe: Probe) -> list[int]:
    """Return the indices of packets that exempt a probe although the clause counts them: the box
    blocks the probe with a meaningless packet in the place of one of them."""
    exempting = []
    for at in range(len(probe) - 1):
        filler = without_payload(probe[-1])._replace(time=probe[at].time)
        other = (*probe[:at], filler, *probe[at + 1 :])
        if exemption.clause.holds(other) and not exemption.blocked(other):
            exempting.append(at)
    return exempting


def place_of(exemption: ExemptionSession, probe: Probe, at: int, where: str) -> Range:
    """Return the range of positions of an exempting packet in its flow, ALL for any."""
    if where != "unless":
        return ALL
    own = sum(one.ends == probe[at].ends for one in probe[: at + 1])
    filler = without_payload(probe[-1])

    def test(count: int) -> bool:
        fill = [filler._replace(time=(number - count) * TINY) for number in range(count)]
        return exemption.blocked(in_order([*fill, *probe]))

    most = largest_passing(0, MOST_PACKETS, test)
    return ALL if most >= FOREVER else (0, own + most)


def simplest(
    clause: Clause, where: str, exception: Exemption, exemption: ExemptionSession
) -> Clause | None:
    """Return a clause with an exception, without those parts of it that no answer requires."""
    if not exemption.agrees(with_exemption(clause, where, exception)):
        return None
    for field in FIELDS:
        condition = PacketCondition._make(
            None if name == field else value
            for name, value in zip(exception.condition._fields, exception.condition, strict=True)
        )
        other = exception._replace(condition=condition)
        if condition != exception.condition and exemption.agrees(
            with_exemption(clause, where, other)
        ):
            exception = other
    return with_exemption(clause, where, exception)


def with_exemption(clause: Clause, where: str, exception: Exemption) -> Clause:
    """Return a clause with one more exception. where: "condition", "earlier" or "unless"."""
    if where == "unless":
        return clause._replace(unless=(*clause.unless, exception))
    if where == "earlier" and clause.earlier is not None:
        condition = with_exception(clause.earlier.condition, exception.condition)
        return clause._replace(earlier=clause.earlier._replace(condition=condition))
    return clause._replace(condition=with_exception(clause.condition, exception.condition))


def with_exception(condition: PacketCondition, exception: PacketCondition) -> PacketCondition:
    """Return a condition with an exception, as limits of its own fields where that is
    equivalent."""
    fields = [field for field in FIELDS if getattr(exception, field) is not None]
    if fields == ["up"] and condition.up is None:
        return condition._replace(up=not exception.up)
    if fields == ["version"] and condition.version is None and exception.version is not None:
        return condition._replace(version=10 - exception.version)  # of 4 and 6 the other one
    if fields == ["ports"] and exception.ports is not None:
        return condition._replace(
            ports=subtract_ranges(condition.ports or ((1, LAST_PORT),), exception.ports)
        )
    if fields == ["near_ports"] and exception.near_ports is not None:
        return condition._replace(
            near_ports=subtract_ranges(
                condition.near_ports or ((1, LAST_PORT),), exception.near_ports
            )
        )
    if fields == ["size"] and exception.size is not None:
        left = subtract_ranges((condition.size or (0, FOREVER),), (exception.size,))
        if len(left) == 1:
            return condition._replace(size=left[0])
    return condition._replace(exceptions=(*condition.exceptions, exception))


def subtract_ranges(spans: Sequence[Range], removed: Sequence[Range]) -> tuple[Range, ...]:
    """Return ranges without other ranges."""
    left = list(spans)
    for low, high in removed:
        left = [part for span in left for part in pieces(span, low, high)]
    return tuple(left)


def pieces(span: Range, low: int, high: int) -> Iterator[Range]:
    """Yield the parts of a range outside of another one."""
    if span[0] < low and (within(span, low) or high >= span[0]):
        yield span[0], min(span[1], low - 1)
    elif span[1] < low:
        yield span
    if span[1] > high:
        yield max(span[0], high + 1), span[1]
