# SPDX-License-Identifier: BSD-3-Clause
"""The kinds of effects that a rule may have which shows as one effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.beliefs import SURE_RATE, Beliefs, Seen
from midcall.experiments.probe.effects import Finding, findings
from midcall.experiments.probe.fit import affected_of
from midcall.experiments.probe.line_oracle import DELAY, DROP, MARK, PARTIAL, Effect
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import MS, Outcome
from midcall.experiments.probe.rates import (
    LEAST_LOST,
    LEAST_RATE,
    LIMITS,
    OVERTAKEN,
    Limit,
    grows,
    is_no_queue,
    policer,
    ramps,
    rate_limit,
    shaper,
    share_overtaken,
)
from midcall.testbed.policy.language import Rule
from midcall.testbed.probing.strikes import strikes

#: Buckets and queues that are tried, as shares of the one that fits a flow: which packets spend
#: the bucket is not known yet.
ROOMS = {"police": (1.0, 1.12, 1.3), "shape": (1.0,)}
#: Part by which the delays of two flows may differ that one rule makes.
ALIKE = 0.2
#: Deviations of the line's own delay that the longest wait in a queue is, at least.
VARIES = 3.0
#: Seconds of its rate that a bucket holds from which it may be an allowance, and that one holds
#: behind an allowance; octets of that, at least.
LARGE_BUCKET, SMALL_BUCKET, LEAST_BUCKET = 8.0, 0.5, 3_000


def effects_behind(
    plays: Plays, finding: Finding, measured: dict[str, Outcome], may_limit: bool,
    apart: bool,
) -> list[Effect]:  # fmt: skip
    """Return the kinds of effects that a rule behind a finding may have: of losses, certain
    ones and a share; a delay that the same flow shows, if no rule found so far explains it; limits
    of a rate, if it may.

    measured: limits of a rate that several paces show are added to it, as JSON, each with the play
    at the fastest one; apart: whether the effect is taken as the finding has it.
    """
    left = plays.result.findings
    if plays.result.found:
        left = [one for play in plays.shown for one in plays.further(play, ())]
    own = [one for one in left if (one.ends, one.up) == (finding.ends, finding.up)]
    limits: list[Effect] = []
    if may_limit and finding.kind in (DROP, PARTIAL, DELAY) and not is_limited(plays, finding):
        rest = plays.masked(plays.shown[0], False, PARTIAL)
        limits = list(limits_of(rest, plays.base, finding))
        asked = finding.ends, finding.up, tuple(one.best for one in plays.result.found)
        if asked not in plays.limits:
            first, kinds = first_place(rest, plays.base, finding), {one.kind for one in own}
            fixed = kinds == {DELAY} and delays_alike(plays, rest, finding)
            plays.limits[asked] = None if first is None or fixed else rate_limit(
                plays.prober, plays.base, rest, first, kinds,
                finding.first if finding.first in finding.places(rest.unit) else first,
            )  # fmt: skip
        limit = plays.limits[asked]
        if limit is not None and limit.rate >= LEAST_RATE:
            known = [Effect.of_limit(one.fields) for one in (limit, *with_small_bucket(limit))]
            assert limit.shown is not None
            measured |= {one.limit: limit.shown for one in known}
            return [*known, *([finding.effect] if finding.kind == DELAY else [])]
    result = {finding.kind: finding.effect}
    for one in own if finding.kind != MARK and not apart else ():
        if one.kind != MARK:  # a rule that marks does nothing else
            result.setdefault(one.kind, one.effect)
    if finding.kind in (DROP, PARTIAL) and not apart:
        result.setdefault(DROP, Effect(DROP, 1.0, 1.0))
        result.setdefault(PARTIAL, Effect(PARTIAL, 0.5, 1.0))
    return [*limits, *result.values()]


def first_place(outcome: Outcome, base: Baseline, finding: Finding) -> int | None:
    """Return the place of the first packet of a play, which may have other packets than the one
    with a finding, that shows it; of the flow's first packet where none does, None where the play
    has no packet of the flow and direction."""
    shown = (one.first for one in findings(outcome, base) if one.flow == finding.flow)
    return min(shown, default=next(iter(finding.places(outcome.unit)), None))


def delays_alike(plays: Plays, outcome: Outcome, finding: Finding) -> bool:
    """Return whether datagrams of a flow with a delay as long as a finding's show that no queue
    makes it."""
    alike = [one for one in plays.result.findings if one.kind == DELAY
             and one.ends.proto == finding.ends.proto != TCP
             and abs(one.amount - finding.amount) <= ALIKE * finding.amount]  # fmt: skip
    return any(is_no_queue(plays.base, outcome, one.places(outcome.unit)) for one in alike)


def with_small_bucket(limit: Limit) -> Iterator[Limit]:
    """Yield a limit with a small bucket for one whose bucket lasts long at its rate: what passes
    before it may be an allowance instead. A drop that ends looks like a very small rate."""
    small, large = (part * limit.rate * 125 for part in (SMALL_BUCKET, LARGE_BUCKET))
    if limit.act == "police" and limit.room > large and limit.rate >= SURE_RATE:
        yield limit._replace(room=max(small, LEAST_BUCKET))


def is_limited(plays: Plays, finding: Finding) -> bool:
    """Return whether a rule found so far limits the rate of a finding's flow and direction: another
    limit would not show, and what is left over is another act, or the numbers are not exact."""
    rules = [one.as_drop for one in plays.result.found if one.rule.act in LIMITS]
    unit = plays.shown[0].unit
    own = np.array([(one.ends, one.up) == (finding.ends, finding.up) for one in unit])
    return bool(rules and strikes(plays.through(unit, False), rules).struck[:, own].any())


def share_of(beliefs: Beliefs, base: Baseline) -> float:
    """Return the share of struck packets that show an effect beyond the line's own."""
    rule = beliefs.best.rule()
    assert rule is not None
    gone, count = counts_of(beliefs.seen, base, beliefs.sought, rule).sum(axis=0)
    loss = max(base.loss) if beliefs.sought.kind == PARTIAL else 0.0
    return float(min(max((gone / max(count, 1) - loss) / (1 - loss), 0.03), 1.0))


def counts_of(
    seen: Sequence[Seen], base: Baseline, sought: Effect, rule: Rule
) -> NDArray[np.int64]:  # fmt: skip
    """Return of each copy of some plays how many of the packets that a rule strikes show an effect,
    and how many could: int64[copies, 2]."""
    result = [np.zeros((0, 2), np.int64)]
    for one in seen:
        struck = strikes(one.through, [rule]).struck[0]
        affected, usable, _ = affected_of(one.outcome, base, sought)
        counts = ((some & usable)[:, struck].sum(axis=1) for some in (affected, usable))
        result.append(np.stack(list(counts), axis=1))
    return np.concatenate(result)


def limits_of(outcome: Outcome, base: Baseline, finding: Finding) -> Iterator[Effect]:
    """Yield the limits of a rate that explain the losses or delays of a flow and direction: of most
    copies alone, and all of them about the same."""
    places = finding.places(outcome.unit)
    sent = outcome.as_sent
    times = np.array([sent[at].time for at in places], np.float64)
    sizes = outcome.size[places].astype(float)
    excess = base.excess(outcome)
    queues = share_overtaken(np.tile(times, (len(excess), 1)), excess[:, places], base) <= OVERTAKEN
    policed, shaped = [], []
    for copy in range(len(outcome.delay)):
        own = outcome.sent[copy, places]
        if own.sum() > 8 and finding.ends.proto != TCP:
            lost, waits = outcome.lost[copy, places][own], excess[copy, places][own]
            policed.append(policer(times[own], sizes[own], lost))
            full = lost.mean() >= base.loss[int(finding.up)] + LEAST_LOST
            queued = queues and ramps(waits) and (full or grows(waits))
            shaped.append(shaper(times[own], sizes[own], waits) if queued else None)
    for act, room, fitted in (("police", "bucket_bytes", policed), ("shape", "queue_ms", shaped)):
        rows = [one for one in fitted if one is not None]
        if not rows or 2 * len(rows) < len(policed):
            continue
        rate, most = np.median(np.array(rows), axis=0)
        if act == "shape" and most * MS < VARIES * max(base.spread):
            continue  # the line's own delay varies by as much
        if np.std([one[0] for one in rows]) < 0.3 * rate and rate >= LEAST_RATE and most > 0:
            for part in ROOMS[act]:
                about = int(most * part) if act == "police" else float(most)
                limit = {"act": act, "rate_kbit": float(rate), room: about}
                yield Effect.of_limit(limit)
