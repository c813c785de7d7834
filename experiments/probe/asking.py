# SPDX-License-Identifier: BSD-3-Clause
"""Questions with yes or no as the answer: does a unit show the effect where it is expected?

Several units are asked in one probe. A question whose answers leave doubt is repeated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln  # type: ignore[import-untyped]

from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.effects import groups_of, mixture
from midcall.experiments.probe.fit import MISS, affected_of, events_of
from midcall.experiments.probe.line_oracle import BY_ITSELF, DROP, INJECT, SHARES, Effect
from midcall.experiments.probe.prober import APART, Outcome, Prober
from midcall.testbed.probing.probe import Probe

Bools = NDArray[np.bool_]

#: Log-likelihood ratio that settles a question, and how often it is repeated at most.
SETTLED, REPEATS = 6.0, 3
#: Values that are asked for in one probe.
PARALLEL = 7
#: How alike copies are in the share of a stream's packets that are late under a limit, and without
#: one, where all wait for what a kernel sends again: sums of the parameters of beta distributions.
#: The mean share under a limit.
ALIKE_LIMITED, ALIKE_FREE, MOST_LATE = 10.0, 2.0, 0.95


class Question(NamedTuple):
    """A unit, and the packets that show the effect if its trigger is met, bool[packets]."""

    unit: Probe
    mask: Bools


def copies_for(sought: Effect, base: Baseline, packets: int) -> int:
    """Return how many copies of a question are played. packets: that show the effect."""
    loss = max(base.loss)
    wanted = 2
    if sought.kind == DROP:
        wanted = max(2, math.ceil(-10.0 / math.log(loss) / max(packets, 1)))
        wanted = max(wanted, 2 if loss < 0.01 else 3)
    if sought.kind == INJECT:
        wanted = 2 if loss < 0.01 else 3
    if sought.chance < 0.999:
        wanted = max(wanted, math.ceil(math.log(2e-3) / math.log(1 - min(sought.chance, 0.9))))
    return min(wanted, 24)


def ask_all(
    prober: Prober, base: Baseline, sought: Effect, questions: Sequence[Question], words: str,
    keep_far: bool = False, apart: int = APART, unknown: bool = False,
) -> list[bool]:  # fmt: skip
    """Return for each question whether the effect shows. keep_far: whether units are sent to their
    own far addresses; apart: ns between the starts of two copies; unknown: the answer where no
    packet says anything. Raises ProbesSpent."""
    if not questions:
        return []  # nothing was asked, and what the last probe taught stays noted
    scores = np.zeros(len(questions))
    open_ = list(range(len(questions)))
    for _ in range(REPEATS):
        some = [questions[at] for at in open_]
        packets = min(int(one.mask.sum()) for one in some)
        copies = copies_for(sought, base, packets)
        outcomes = prober.ask(words, [one.unit for one in some], copies, apart=apart,
                              keep_far=[keep_far] * len(some))  # fmt: skip
        for at, one, outcome in zip(open_, some, outcomes, strict=True):
            scores[at] += score(outcome, one.mask, base, sought)
        open_ = [at for at in open_ if 0 < abs(scores[at]) < SETTLED]
        if not open_:
            break
    answers = [bool(value > 0) if value else unknown for value in scores]
    prober.taught(" ".join("yes" if one else "no" for one in answers))
    return answers


def score(outcome: Outcome, mask: Bools, base: Baseline, sought: Effect) -> float:
    """Return ln P(outcome | struck) - ln P(outcome | not struck)."""
    chance = sought.chance if sought.chance < 0.999 else 1 - max(base.loss) - 0.02
    if sought.kind == INJECT:
        hits = events_of(outcome).any(axis=1)
        return mixture(np.where(hits, 7.0, -4.0), chance)
    affected, usable, other = affected_of(outcome, base, sought)
    usable = usable & mask[None, :]
    if sought.kind == DROP and (mask & outcome.streams).any():
        return mixture(stopped(outcome, mask, other), chance)
    if not usable.any():
        return 0.0
    streams = np.zeros(len(usable))
    if sought.limit:
        streams = of_streams(outcome, affected, usable, other)
        usable = usable & ~outcome.streams
    if sought.kind in BY_ITSELF:
        best = []
        shares = (0.5, 0.75, 1.0, 1.25) if sought.kind in SHARES else (0.6, 0.95)
        for part in shares:
            extra = part * (sought.amount if sought.kind in SHARES else 1.0)
            extra = min(max(extra, 0.02), 0.98)
            struck = np.minimum(other + extra * (1 - other), 0.985)
            best.append(per_copy(affected, usable, other, struck))
        gains = np.logaddexp.reduce(np.stack(best), axis=0) - math.log(len(best))
    else:
        gains = per_copy(affected, usable, other, np.full(len(other), 1 - MISS))
    return mixture(gains + streams, chance)


def stopped(outcome: Outcome, mask: Bools, other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-likelihood ratio of each copy by its streams: one that is struck stops for
    good, at the masked packets or earlier, as kernels send acknowledgements of their own."""
    result = np.zeros(len(outcome.delay))
    for ends, up in {(outcome.unit[at].ends, outcome.unit[at].up) for at in np.flatnonzero(mask)}:
        own = np.array([one.ends == ends and one.up == up for one in outcome.unit])
        dead, share = outcome.lost[:, own].any(axis=1), float(other[own][-1])
        gain = np.where(dead, math.log((1 - MISS) / share), math.log(MISS / (1 - share)))
        result += np.where(outcome.sent[:, own].any(axis=1), gain, 0.0)
    return result


def of_streams(
    outcome: Outcome, affected: Bools, usable: Bools, other: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the log-likelihood ratio of each copy that a limit delays or drops the packets of its
    streams: by the share of late ones in each direction, a beta-binomial distribution."""
    result = np.zeros(len(usable))
    shown = usable.any(axis=0) & outcome.streams
    for _, _, places in groups_of(outcome):
        own = places[shown[places]]
        if not len(own):
            continue
        count = usable[:, own].sum(axis=1)
        late = (affected & usable)[:, own].sum(axis=1)
        share = float(other[own].mean())
        terms = [betaln(late + alike * mean, count - late + alike * (1 - mean))
                 - betaln(alike * mean, alike * (1 - mean))
                 for alike, mean in ((ALIKE_LIMITED, MOST_LATE), (ALIKE_FREE, share))]  # fmt: skip
        result += terms[0] - terms[1]
    return result


def per_copy(
    affected: Bools, usable: Bools, other: NDArray[np.float64], struck: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the log-likelihood ratio of each copy."""
    gain = np.where(affected, np.log(struck / other), np.log((1 - struck) / (1 - other)))
    return np.asarray((gain * usable).sum(axis=1))


Ask = Callable[[Sequence[float]], list[bool]]


def edge(good: float, bad: float, ask: Ask, fine: float, whole: bool = True) -> tuple[float, float]:
    """Return (last value that shows the effect, first that does not) from `good` towards `bad`.

    ask: answers several values at once. Each round divides what is left by PARALLEL + 1.
    """
    return edges([(good, bad)], ask, fine, whole)[0]


def edges(
    between: Sequence[tuple[float, float]], ask: Ask, fine: float, whole: bool = True
) -> list[tuple[float, float]]:
    """Return what `edge` does for several searches at once, of which each probe asks values."""
    result = list(between)
    while True:
        rounds = [values_between(good, bad, fine, whole) for good, bad in result]
        if not any(rounds):
            return result
        answers = iter(ask([value for values in rounds for value in values]))
        for at, values in enumerate(rounds):
            good, bad = result[at]
            shown = list(itertools.islice(answers, len(values)))
            last = shown.index(False) - 1 if False in shown else len(shown) - 1
            if last >= 0:
                good = values[last]
            if last + 1 < len(values):
                bad = values[last + 1]
            result[at] = good, bad


def values_between(good: float, bad: float, fine: float, whole: bool) -> list[float]:
    """Return up to PARALLEL values that divide what lies between two, [] where that is `fine`."""
    if abs(bad - good) <= fine:
        return []
    steps = [good + (bad - good) * n / (PARALLEL + 1) for n in range(1, PARALLEL + 1)]
    if whole:
        steps = [float(round(value)) for value in steps]
    return [value for value in dict.fromkeys(steps) if value not in (good, bad)]
