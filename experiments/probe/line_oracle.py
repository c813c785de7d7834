# SPDX-License-Identifier: BSD-3-Clause
"""The line as an Oracle of the localiser: one bit per probe, robust against the line's own noise.

A probe is played in several copies, each from a fresh subscriber. What counts as blocked depends on
the kind of effect that was found before: packets that never arrive, forged answers, later packets,
or a larger share of losses.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.baseline import Baseline, llr_lost
from midcall.experiments.probe.prober import MS, Outcome, Prober, ProbesSpent, has_injection
from midcall.testbed.probing.probe import Probe

#: Kinds of effects on packets.
DROP, INJECT, DELAY, PARTIAL = "drop", "inject", "delay", "partial"
DOUBLE, REORDER, MARK = "double", "reorder", "mark"
FAMILIES = (INJECT, DROP, PARTIAL, DELAY, DOUBLE, REORDER, MARK)
#: Those after which packets do not arrive.
LOSSES = (DROP, PARTIAL, INJECT)
#: Those that strike a share of packets, and all that a packet shows by itself.
SHARES = (PARTIAL, DOUBLE, REORDER)
BY_ITSELF = (DELAY, MARK, *SHARES)
#: Log-likelihood ratio above which an answer counts, and below which it is "no" without a repeat.
SURE, UNSURE = 7.0, 0.0
#: Copies of a unit, at least and at most; accepted chance that no copy meets an enforced rule.
LEAST_COPIES, MOST_COPIES, MISSED = 3, 40, 2e-3


class Effect(NamedTuple):
    """A kind of effect (of FAMILIES), its size (loss as a share, delay in ns, or a code point), the
    chance of enforcement, and which act it is, where that is known. limit: of a limited rate, the
    act as the policy language writes it, as JSON; late: by how much packets are late that others
    overtake, in ns; on_path: whether datagrams that a forged answer answers arrive as well."""

    kind: str
    amount: float = 1.0
    chance: float = 1.0
    detail: str = ""
    limit: str = ""
    late: float = 0.0
    on_path: bool = False

    @classmethod
    def of_limit(cls, act: dict[str, Any]) -> Effect:
        """Return the effect of a limited rate, from the act as the policy language writes it."""
        return cls(PARTIAL, 0.5, 1.0, act["act"], json.dumps(act))

    @property
    def act(self) -> dict[str, Any]:
        """Return the act of a limited rate, {} for other effects."""
        result: dict[str, Any] = json.loads(self.limit) if self.limit else {}
        return result

    @property
    def room(self) -> float:
        """Return how many octets a limited rate lets pass at once, 0 for other effects."""
        act = self.act
        if not act:
            return 0.0
        return float(act.get("bucket_bytes") or act["queue_ms"] * act["rate_kbit"] / 8)


class LineOracle:
    """Answers the localiser's questions by playing them. seconds: of line time, at most."""

    def __init__(
        self, prober: Prober, base: Baseline, sought: Effect, seconds: float = math.inf
    ) -> None:
        self.prober, self.base, self.sought = prober, base, sought
        self.line_limit = prober.line + seconds

    @property
    def copies(self) -> int:
        """Return how many copies of a unit are played."""
        loss = max(self.base.loss)
        wanted = math.ceil(-9.0 / math.log(max(loss, 1e-4)))
        chance = self.sought.chance
        if chance < 0.999:
            wanted = max(wanted, math.ceil(math.log(MISSED) / math.log(1 - chance)))
        return min(max(wanted, LEAST_COPIES), MOST_COPIES)

    def blocked(self, probe: Probe) -> bool:
        """Return whether the box strikes a packet of a probe. Raises ProbesSpent."""
        if not any(one.payload or one.ends.proto != TCP for one in probe):
            return False
        if self.prober.line > self.line_limit:
            raise ProbesSpent("the line time for the octets of a trigger is spent")
        kind = self.sought.kind
        copies = self.copies
        unit = probe
        if kind in SHARES:
            unit, copies = with_copies(probe, self.repeats(), 4 * MS), 3
        elif kind == DELAY:
            copies = max(copies, 5)
        elif kind == DROP and self.sought.chance < 0.999:
            unit = with_copies(probe, 3, 12 * MS)
        score = 0.0
        for _ in range(3):
            outcome = self.prober.ask("trigger", [unit], copies)[0]
            score += self.score(outcome, len(probe))
            if abs(score) > SURE or score < UNSURE:
                break
        answer = score > SURE if abs(score) > SURE else score > 2.0
        self.prober.taught("struck" if answer else "passes")
        return answer

    def repeats(self) -> int:
        """Return how many copies of a packet show a share of losses."""
        extra = max(self.sought.amount, 0.02)
        loss = max(self.base.loss)
        share = min(loss + extra * (1 - loss), 0.999)
        divergence = share * math.log(share / loss) + (1 - share) * math.log(
            (1 - share) / (1 - loss)
        )
        return int(min(max(12.0 / divergence / 3, 12), 260))

    def score(self, outcome: Outcome, own: int) -> float:
        """Return the log-likelihood ratio of "struck" against "not struck"."""
        kind = self.sought.kind
        if kind == INJECT:
            seen = sum(bool(has_injection(outcome, copy)) for copy in range(len(outcome.delay)))
            return 20.0 if seen else -5.0
        if kind == DELAY:
            return self.delay_score(outcome)
        if kind in (DOUBLE, REORDER):
            flags = outcome.twice if kind == DOUBLE else outcome.overtaken
            return 20.0 if flags is not None and flags.sum() > 2 else -5.0
        if kind == MARK:
            marked = outcome.points is not None and (outcome.points == self.sought.amount).any()
            return 20.0 if marked else -5.0
        if kind == PARTIAL:
            return self.loss_score(outcome)
        if self.sought.chance < 0.999:
            return self.chance_score(outcome, own)
        scores = position_scores(outcome, self.base)
        if not len(scores):
            return -10.0
        return float(scores.max() - math.log(len(scores)))

    def chance_score(self, outcome: Outcome, own: int) -> float:
        """Return the score where only some copies are struck: one whose last packets all fail."""
        best = -5.0
        shares = self.base.losses(outcome)
        for copy in range(len(outcome.delay)):
            lost, sent = outcome.lost[copy], outcome.sent[copy]
            if not sent[own - 1 :].any():
                continue
            tail = lost[own - 1 :][sent[own - 1 :]]
            share = shares[own - 1 :][sent[own - 1 :]]
            if tail.all():
                best = max(best, float(-np.log(share).sum()) - math.log(len(outcome.delay)))
        return best

    def delay_score(self, outcome: Outcome) -> float:
        """Return the score of packets that come later than the line's own delay explains."""
        excess = self.base.excess(outcome)
        arrived = np.isfinite(excess)
        best = -8.0
        spread = np.array(self.base.spread)[outcome.up.astype(int)]
        for at in range(excess.shape[1]):
            values = excess[arrived[:, at], at]
            if not len(values):
                continue
            value = float(np.median(values)) if self.sought.chance > 0.999 else float(values.max())
            deviation = float(spread[at]) * 1.25 / math.sqrt(len(values)) + 0.5 * MS
            # of two normal means, 0 and the sought delay
            amount = self.sought.amount
            score = (value - amount / 2) * amount / deviation**2
            best = max(best, min(score, 30.0) - math.log(excess.shape[1]))
        return best

    def loss_score(self, outcome: Outcome) -> float:
        """Return the score of a share of losses above the line's own."""
        sent, lost = outcome.sent, outcome.lost
        shares = np.broadcast_to(self.base.losses(outcome), sent.shape)
        extra = max(self.sought.amount * 0.6, 0.015)
        struck = shares + extra * (1 - shares)
        llr = np.where(lost, np.log(struck / shares), np.log((1 - struck) / (1 - shares)))
        score = float(llr[sent].sum())
        excess = self.base.excess(outcome)
        late = excess[np.isfinite(excess)]
        if len(late) > 8:
            # a queue of the box: packets come later and later
            spread = max(self.base.spread)
            if float(np.quantile(late, 0.8)) > 5 * spread + 15 * MS:
                score += 20.0
        return max(min(score, 40.0), -20.0)


def position_scores(outcome: Outcome, base: Baseline) -> NDArray[np.float64]:
    """Return for each packet that was sent the log-likelihood ratio that it is always lost."""
    sent = outcome.sent.sum(axis=0)
    lost = outcome.lost.sum(axis=0)
    some = sent > 0
    return llr_lost(lost[some], sent[some], base.losses(outcome)[some])


def with_copies(probe: Probe, count: int, apart: int) -> Probe:
    """Return a probe whose last packet is sent `count` more times."""
    last = probe[-1]
    return (
        *probe,
        *(last._replace(time=last.time + number * apart) for number in range(1, count + 1)),
    )
