# SPDX-License-Identifier: BSD-3-Clause
"""What the rules found so far predict, and what of an outcome they leave unexplained.

The rules are put into the lab's own box, on a line in virtual time with the noise of the real one,
and the unit is played there. What the real line shows beyond that is the effect of a further rule,
or of a wrong one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm  # type: ignore[import-untyped]

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.baseline import Baseline, control_units, medians
from midcall.experiments.probe.effects import groups_of
from midcall.experiments.probe.line_oracle import DOUBLE, LOSSES, MARK
from midcall.experiments.probe.prober import APART, MS, NOT_SENT, PATIENCE, Outcome, Prober
from midcall.experiments.probe.rates import LIMITS
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Ends, Probe
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

#: Copies of the capture, and of another unit, that are played under the rules found; packets of the
#: capture from which fewer copies do: its flows have as many packets then.
COPIES, FEW, LONG = 16, 8, 600
#: Copies of a control that show how much slower the line in virtual time is than the real one.
CONTROLS = 4
#: Standard errors by which two shares of a flow and direction differ, and least difference, as a
#: share and as a part of the share that is expected.
Z, LEAST, PART = 4.0, 0.05, 0.2
#: ln of how unlikely the losses of one packet must be, and the share of them, to count by itself;
#: largest share of losses that is expected of such a packet, and of one near those that a limit of
#: a rate loses.
UNLIKELY, NEARLY_ALL, MOST, OF_LIMIT = 12.0, 0.9, 0.8, 0.15
#: Share of copies from which a packet is taken to be struck by a rule that drops.
STRUCK = 0.5
#: Share of losses beyond the line's own from which a rule that condemns a host may strike a flow.
MAY_STRIKE = 0.15
#: Packets of a flow before the first one that a rule drops which say nothing: packets of both
#: directions meet the box in another order in each play.
MARGIN = 4
#: Packets before and behind one that a limit of a rate strikes as often: which of them it is
#: depends on microseconds.
NEAR = 7
#: Delay that is not distinguished from the one expected: a part of it, and ns.
SLACK, LEAST_DELAY = 0.15, 8 * MS
#: Standard error of a median, in deviations by the root of the copies, and chance below which the
#: largest of the errors of all packets of a unit is none.
MEDIAN, BY_CHANCE = 1.25, 0.01
#: Share of the delays that are expected which others must exceed that come by themselves.
OF_EXPECTED = 0.9
#: Deviation of the expected delays from which a rule delays at random, in those of the line.
VARIES = 3.0


class Model:
    """A line in virtual time under rules, with a line's own noise, and what it shows of units."""

    def __init__(self, prober: Prober, base: Baseline, rules: Sequence[Rule]) -> None:
        spread = sum(base.spread) / len(base.spread) / MS
        noise = Noise(loss=min(sum(base.loss) / len(base.loss), 1.0), jitter_ms=spread)
        lines = [VirtualSockets(policy, prober.access, 1, noise, ideal=True)
                 for policy in (EMPTY, Policy(tuple(rules)))]  # fmt: skip
        bare, self.prober = (Prober(line, prober.access, 1, 1_000_000, prober.lab_only)
                             for line in lines)  # fmt: skip
        control = bare.ask("", control_units()[:1], CONTROLS)[0]
        excess = base.excess(control)
        #: By how much this line is slower than the real one, ns, downwards and upwards.
        self.slower = [float(np.nanmedian(excess[:, control.up == up])) for up in (False, True)]
        self.of = prober
        self.limits = any(rule.act in LIMITS for rule in rules)
        self.known: dict[tuple[Probe, bool, bool], Outcome] = {}

    def outcome(self, unit: Probe, tight: bool, keep_far: bool, patience: int | None) -> Outcome:
        """Return what some copies of a unit show; the arguments are those of `Prober.ask`."""
        key = unit, tight, keep_far
        if key not in self.known:
            self.prober.jitter, self.prober.usual = self.of.jitter, self.of.usual
            self.prober.fresh_far = self.of.fresh_far
            copies = FEW if tight or len(unit) > LONG else COPIES
            # copies that take turns move each other's packets, and a queue depends on their times
            alone = self.limits and unit and not tight
            apart = unit[-1].time + PATIENCE if alone else APART
            played = self.prober.ask(
                "", [unit], copies, tight, patience, apart, keep_far=[keep_far]
            )[0]  # fmt: skip
            less = np.array(self.slower)[played.up.astype(int)].astype(np.int64)
            delay = np.where(played.delay >= 0, np.maximum(played.delay - less, 0), played.delay)
            self.known[key] = played._replace(delay=delay)
        return self.known[key]


def unexplained(
    seen: Outcome, expected: Outcome, base: Baseline, kind: str, loses: Bools,
    limited: bool = False, wide: Bools | None = None, reorders: bool = False,
    flagged: Bools | None = None,
) -> Outcome:  # fmt: skip
    """Return an outcome without what a rule predicts of a kind of effect.

    A packet that says nothing any more counts as one that was not sent. expected: the same unit
    under the rule; loses: bool[packets], what the rule may lose on a line without noise; limited:
    whether it limits a rate; wide: bool[packets], what a rule may lose that keeps other flows of a
    host from passing, too;
    reorders: whether it delays some packets, so that others overtake them; flagged: bool[packets],
    what it may duplicate or reorder, where that is known.
    """
    if kind in LOSSES:
        lossy = without_losses(seen, expected, base, loses, limited, wide)
        # what is late may count as lost
        on_time = without_delays(lossy, expected, base, reorders)
        delay = np.where(seen.streams, lossy.delay, on_time.delay)
        return without_events(lossy._replace(delay=delay), expected)
    if kind == DOUBLE:
        return without_flags(seen, expected, "twice", flagged)
    if kind == MARK:
        return without_marks(seen, expected)
    on_time = without_delays(seen, expected, base, reorders)
    return without_flags(on_time, expected, "overtaken", flagged)


def losses_of(outcome: Outcome) -> tuple[Bools, Bools]:
    """Return which packets were lost, or sent again by a kernel, and of which that can be said,
    both bool[copies, packets]."""
    return outcome.lost | outcome.resent, outcome.sent & ~outcome.behind & ~outcome.cut


def rate_of(hit: Bools, usable: Bools) -> tuple[Floats, Floats]:
    """Return how many of the copies of each packet show an effect, and of how many, both
    float64[packets]."""
    return (hit & usable).sum(axis=0).astype(float), usable.sum(axis=0).astype(float)


def beyond(hit: Bools, usable: Bools, own_hit: Bools, own_usable: Bools) -> bool:
    """Return whether a larger share of packets shows an effect than expected, by more than chance:
    that of the copies, or of packets where they vary less.

    hit, usable: bool[copies, packets], what is seen; own_hit, own_usable: what is expected.
    """
    means, errors = [], 0.0
    for shows, known in ((hit, usable), (own_hit, own_usable)):
        count = known.sum(axis=1)
        rows = count > 0
        if not rows.any():
            return False
        shares = (shows & known).sum(axis=1)[rows] / count[rows]
        mean, whole = float(shares.mean()), int(count.sum())
        means.append(mean)
        by_packet = (mean * (1 - mean) + 1 / whole) / whole
        errors += max(float(shares.var()) / len(shares), by_packet)
    more = means[0] - means[1]
    return more > max(LEAST, PART * means[1]) and more > Z * math.sqrt(errors)


def without_losses(
    seen: Outcome,
    expected: Outcome,
    base: Baseline,
    loses: Bools,
    limited: bool,
    wide: Bools | None,
) -> Outcome:
    """Return an outcome without the losses that are expected.

    Of a flow and direction with more losses than expected, each loss is taken as one that was
    expected with the chance that it is. Which of several flows a condemned host has already sent
    depends on microseconds, so that all flows say nothing that such a rule may strike. loses, wide:
    see `unexplained`.
    """
    (hit, usable), (own_hit, own_usable) = losses_of(seen), losses_of(expected)
    gone, count = rate_of(hit, usable)
    lost, sent = rate_of(own_hit, own_usable)
    share = np.where(sent > 0, (lost + 0.3) / (sent + 0.6), 1.0)
    delay = seen.delay.copy()
    rng, line = random.Random("losses that are expected"), base.losses(seen)
    if wide is not None:
        # a line that loses packets loses some of a long flow in several copies, but no row of them
        may = {ends for ends, _, places in groups_of(seen)
               if (smooth(share[places]) - line[places]).max() > MAY_STRIKE}  # fmt: skip
        delay[:, wide & [one.ends in may for one in seen.unit]] = NOT_SENT
    for _, _, places in groups_of(seen):
        # kernels acknowledge by themselves
        places = places[(delay[:, places] != NOT_SENT).any(axis=0)]
        if not len(places):
            continue
        most = MOST
        if limited and share[places].max() > STRUCK / 2:
            share[places], most = smooth(share[places]), OF_LIMIT
        dropped = np.flatnonzero(share[places] > 1 - STRUCK / 4)
        struck = places[dropped]
        if len(dropped) and len(struck) < len(places) and dropped[0]:
            before = places[max(int(dropped[0]) - MARGIN, 0) : int(dropped[0])]
            struck = np.concatenate([before, struck])
        delay[:, struck] = NOT_SENT
        rest = np.setdiff1d(places, struck)
        if not len(rest):
            continue
        odd = rest[(gone[rest] >= NEARLY_ALL * count[rest]) & (share[rest] < most)
                   & (-gone[rest] * np.log(share[rest]) > UNLIKELY)]  # fmt: skip
        even = np.setdiff1d(rest, odd)
        if not (loses | (share - line > MAY_STRIKE))[rest].any():
            continue  # the rule loses none of the rest
        more = len(even) and beyond(*(one[:, even] for one in (hit, usable, own_hit, own_usable)))
        whole = gone[rest].sum() / max(count[rest].sum(), 1.0)
        for at in rest:
            chance = 1.0
            if at in odd:
                chance = float(share[at])
            elif more:
                chance = float(min(share[at] / max(whole, share[at], 1e-9), 1.0))
            for copy in np.flatnonzero(hit[:, at]):
                if chance == 1.0 or rng.random() < chance:
                    delay[copy, at] = NOT_SENT
    return seen._replace(delay=delay)


def smooth(share: Floats) -> Floats:
    """Return the mean of the NEAR values before and behind each one."""
    padded = np.pad(share, NEAR, "edge")
    return np.convolve(padded, np.ones(2 * NEAR + 1) / (2 * NEAR + 1), "valid")


def without_events(seen: Outcome, expected: Outcome) -> Outcome:
    """Return an outcome without the forged answers of flows that are expected to receive some."""
    flows = {event.ends for some in (*expected.events, *expected.strange) for event in some}

    def left(listed: list[list[object]]) -> list[list[object]]:
        return [[one for one in some if one.ends not in flows] for some in listed]  # type: ignore[attr-defined]

    return seen._replace(events=left(seen.events), strange=left(seen.strange))  # type: ignore[arg-type]


def without_delays(seen: Outcome, expected: Outcome, base: Baseline, reorders: bool) -> Outcome:
    """Return an outcome without the delays that are expected; directions of streams in which
    packets are late or lost say nothing more of delays. reorders: see `unexplained`."""
    excess = base.excess(expected)
    delay = seen.delay.copy()
    known = [column[np.isfinite(column)] for column in excess.T]
    late = medians(excess)
    spread = np.array([float(np.std(one)) if len(one) else 0.0 for one in known])
    streams = disturbed_streams(seen, expected, late)
    for _, _, places in groups_of(seen):  # few copies show a packet's own spread badly
        spread[places] = np.maximum(spread[places], np.median(spread[places]))
    errors = float(norm.isf(BY_CHANCE / max(len(seen.unit), 1))) * MEDIAN
    for at, one in enumerate(seen.unit):
        if (one.ends, one.up) in streams:
            delay[:, at] = NOT_SENT
        elif np.isfinite(late[at]) and late[at] > LEAST_DELAY:
            own = seen.delay[:, at]
            rest = own - late[at]
            arrived = own >= 0
            middle = float(np.median(base.excess(seen)[arrived, at])) if arrived.any() else 0.0
            both = 1 / max(int(arrived.sum()), 1) + 1 / len(known[at])
            doubt = errors * spread[at] * math.sqrt(both)
            if abs(middle - late[at]) < SLACK * late[at] + LEAST_DELAY + doubt:
                rest = own - middle
            delay[:, at] = np.where(arrived, np.maximum(rest, 0), own).astype(np.int64)
    line = base.own_delay(seen).astype(np.int64)
    for _, up, places in groups_of(seen):
        whole = excess[:, places][np.isfinite(excess[:, places])]
        at_random = (
            len(whole) and quantile_deviation(whole) > VARIES * base.spread[int(up)] + LEAST_DELAY
        )
        if at_random and is_later(base.excess(seen)[:, places], whole):
            continue
        some = reorders and expected.overtaken is not None and expected.overtaken[:, places].any()
        if at_random or some:
            arrived = delay[:, places] >= 0  # which packets are late is not predicted
            delay[:, places] = np.where(arrived, line[places], delay[:, places])
    return seen._replace(delay=delay)


def is_later(excess: Floats, expected: Floats) -> bool:
    """Return whether most packets of a group are later than nearly all that are expected, of which
    most are on time. excess, expected: delay beyond the line's own, ns."""
    known = excess[np.isfinite(excess)]
    middle, most = np.quantile(expected, (0.5, OF_EXPECTED))
    return bool(len(known)) and bool(middle < LEAST_DELAY < np.median(known) - most)


def quantile_deviation(values: Floats) -> float:
    """Return the standard deviation of normally distributed values that have the 5 and 95 %
    quantiles of some: few of a stream's packets are sent again, and those are late by far."""
    low, high = np.quantile(values, (0.05, 0.95))
    return float(high - low) / (2 * float(norm.isf(0.05)))


def disturbed_streams(seen: Outcome, expected: Outcome, late: Floats) -> set[tuple[Ends, bool]]:
    """Return the streams, and directions, of which packets are expected to be late, lost or sent
    again."""
    result = set()
    gone = (expected.lost | expected.resent).mean(axis=0)
    for ends, up, places in groups_of(seen):
        known = late[places][np.isfinite(late[places])]
        many = gone[places].mean() > 2 * LEAST
        if ends.proto == TCP and (many or (len(known) and float(np.median(known)) > LEAST_DELAY)):
            result.add((ends, up))
    return result


def without_flags(
    seen: Outcome, expected: Outcome, name: str, flagged: Bools | None
) -> Outcome:  # fmt: skip
    """Return an outcome without packets that come twice, or late behind others, of the flows and
    directions in which as many are expected: also where, of few, none was drawn. flagged: see
    `unexplained`."""
    flags, own = getattr(seen, name), getattr(expected, name)
    if flags is None or own is None:
        return seen
    flags = flags.copy()
    for _, _, places in groups_of(seen):
        some, other = (one.delay[:, places] >= 0 for one in (seen, expected))
        predicted = own[:, places] & other
        may = predicted.any() or (flagged is not None and flagged[places].any())
        if may and not beyond(flags[:, places], some, predicted, other):
            flags[:, places] = False
    return seen._replace(**{name: flags})


def without_marks(seen: Outcome, expected: Outcome) -> Outcome:
    """Return an outcome without the code points with which packets are expected to come."""
    if seen.points is None or expected.points is None:
        return seen
    points = seen.points.copy()
    for at in range(points.shape[1]):
        points[np.isin(points[:, at], np.unique(expected.points[:, at])), at] = -1
    return seen._replace(points=points)


def not_seen(seen: Outcome, expected: Outcome) -> int:
    """Return how many flows and directions are expected to lose clearly more than they do, or to
    have clearly more packets come twice, and how many flows to receive forged answers and do not.
    """
    kinds = [(*losses_of(expected), *losses_of(seen))]
    if seen.twice is not None and expected.twice is not None:
        kinds.append((expected.twice, expected.delay >= 0, seen.twice, seen.delay >= 0))
    groups = sum(
        any(beyond(*(one[:, places] for one in both)) for both in kinds)
        for _, _, places in groups_of(seen)
    )
    real = {event.ends for some in (*seen.events, *seen.strange) for event in some}
    counts: dict[Ends, int] = {}
    for some, other in zip(expected.events, expected.strange, strict=True):
        for ends in {event.ends for event in (*some, *other)}:
            counts[ends] = counts.get(ends, 0) + 1
    return groups + sum(
        2 * number > len(expected.delay) and ends not in real for ends, number in counts.items()
    )
