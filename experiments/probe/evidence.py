# SPDX-License-Identifier: BSD-3-Clause
"""What of an outcome is evidence about one rule: what other rules may have done says nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.effects import SHOWN, Finding, findings, groups_of
from midcall.experiments.probe.fit import Bools, Floats, affected_of
from midcall.experiments.probe.found import BLOCKING, Found
from midcall.experiments.probe.line_oracle import (
    DELAY,
    DROP,
    INJECT,
    LOSSES,
    PARTIAL,
    SHARES,
    Effect,
)
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import Outcome
from midcall.testbed.probing.probe import Ends

Counts = NDArray[np.int64]

#: Share of copies that show an effect, of those expected, below which a packet does not.
SILENT = 0.4
#: Standard deviations by which a flow's packets show an effect more often than by chance.
BEYOND_CHANCE = 3.0


def without_found_rules(plays: Plays, outcome: Outcome, tight: bool, sought: Effect) -> Outcome:
    """Return an outcome without what the rules found so far explain, and without the packets
    that they may decide and that do not show an effect: those say nothing of a rule behind. What
    rules that come behind it drop, it does not strike."""
    rest = plays.masked(outcome, tight, sought.kind)
    if sought.kind not in LOSSES:
        for found in plays.behind:
            if found.rule.act in BLOCKING:
                dropped = outcome.lost & plays.decided_by(found, outcome.unit, tight)
                own = plays.base.own_delay(rest).astype(np.int64)
                rest = rest._replace(delay=np.where(dropped, own, rest.delay))
    decided = plays.decided(outcome.unit, tight)
    if not decided.any():
        return rest
    affected, usable, other = affected_of(rest, plays.base, sought)
    gone, count = (affected & usable).sum(axis=0), usable.sum(axis=0)
    shows = gone / np.maximum(count, 1) >= least_share(sought)
    if sought.kind == PARTIAL:  # the line, too, loses one of few copies of some packets
        shows &= lose_more(outcome, decided, gone, count, other)
    return rest.without(decided & ~shows)


def lose_more(
    outcome: Outcome, decided: Bools, gone: Counts, count: Counts, other: Floats
) -> Bools:
    """Return which packets are of a flow and direction whose decided packets show an effect more
    often than by chance, bool[packets]. gone, count: int64[packets], of the copies of each packet
    those that show it, and all; other: how often one shows it that is not struck."""
    result = np.zeros(len(decided), bool)
    for _, _, places in groups_of(outcome):
        own = places[decided[places]]
        expected = float((count * other)[own].sum())
        result[own] = gone[own].sum() > expected + BEYOND_CHANCE * math.sqrt(expected + 1)
    return result


def come_behind(plays: Plays, finding: Finding, sought: Effect) -> list[Found]:
    """Return the rules found so far that come behind the one that makes an effect: they would keep
    most of the packets from it that show it. One that may be on single packets of the other
    direction is taken for that instead."""
    outcome = plays.shown[0]
    own = np.zeros(len(outcome.unit), bool)
    own[finding.places(outcome.unit)] = True
    rest = plays.masked(outcome, False, sought.kind)
    affected, usable, _ = affected_of(rest, plays.base, sought)
    share = (affected & usable).sum(axis=0) / np.maximum(usable.sum(axis=0), 1)
    shows = own & (share >= least_share(sought))

    def keeps(found: Found) -> bool:
        decided = plays.decided_by(found, outcome.unit, False)
        return bool(2 * (shows & decided).sum() > shows.sum())

    behind = []
    for found in plays.result.found:
        if keeps(found):
            found.take_single_packets()
            if keeps(found):
                behind.append(found)
    return behind


def of_kind(
    outcome: Outcome, base: Baseline, finding: Finding, apart: bool = False, limits: bool = False
) -> Outcome:  # fmt: skip
    """Return an outcome without the groups that show other kinds of effects alone: of other
    rules. Packets that are late are not dropped.

    apart: whether a share of losses and packets that never arrive are different kinds; limits:
    whether the rule limits a rate, which makes losses and delays.
    """
    same = LOSSES if finding.kind in LOSSES and not apart else (finding.kind,)
    if limits:
        same = (DROP, PARTIAL, DELAY)
    kinds: dict[tuple[Ends, bool], set[str]] = {}
    for one in findings(outcome, base):
        if one.score > SHOWN:
            kinds.setdefault((one.ends, one.up), set()).add(one.kind)
    other = {key for key, some in kinds.items() if not some & set(same)}
    hit = np.array([(one.ends, one.up) in other for one in outcome.unit])
    if finding.kind == INJECT:
        # losses of datagrams may be those of another rule; units tell whether they are not
        forged = {ends for (ends, _), some in kinds.items() if INJECT in some}
        lossy = {ends for (ends, _), some in kinds.items() if some & {DROP, PARTIAL}} - forged
        unsure = np.array([one.ends.proto != TCP and one.ends in lossy for one in outcome.unit])
        outcome = outcome.without(unsure)
    if not hit.any():
        return outcome
    if finding.kind in (DROP, INJECT) and not apart:
        return punctual(outcome, base, hit)
    return outcome.without(hit)


def punctual(outcome: Outcome, base: Baseline, hit: np.ndarray[Any, Any]) -> Outcome:
    """Return an outcome in which some packets show neither delays nor copies. hit:
    bool[packets]."""
    late, twice = outcome.overtaken, outcome.twice
    own = base.own_delay(outcome).astype(np.int64)
    return outcome._replace(
        delay=np.where((outcome.delay >= 0) & hit, own, outcome.delay),
        overtaken=None if late is None else late & ~hit,
        twice=None if twice is None else twice & ~hit,
    )


def least_share(sought: Effect) -> float:
    """Return the share of copies in which a struck packet shows an effect, at least."""
    return SILENT * sought.chance * (sought.amount if sought.kind in SHARES else 1.0)
