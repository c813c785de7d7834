# SPDX-License-Identifier: BSD-3-Clause
"""Which effects a box has on a capture's packets, as both ends see it.

Each flow and direction of the capture is a group. A group shows forged answers, packets that never
arrive, a larger share of losses than the line's own, or later packets; what it shows must be far
beyond the line's own chance, and again so in fresh copies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom  # type: ignore[import-untyped]

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.baseline import (
    MISS,
    MOST_INFLATION,
    Baseline,
    dispersion,
    llr_lost,
    log_binomial,
    more_than,
)
from midcall.experiments.probe.line_oracle import (
    DELAY,
    DOUBLE,
    DROP,
    INJECT,
    MARK,
    PARTIAL,
    REORDER,
    Effect,
)
from midcall.experiments.probe.prober import MS, Outcome
from midcall.testbed.probing.probe import Ends, Probe, flow_numbers, flows_of

#: Share of losses beyond the line's own that counts as an effect, at least.
LEAST_SHARE = 0.03
#: The same for all flows of one transport and direction together.
LEAST_POOLED = 0.02
#: Log-likelihood ratio (or the like) from which a group is suspicious, and shows an effect.
SUSPICIOUS, SHOWN = 4.0, 11.0
#: Share of datagrams that come twice for no reason; least delay of a reordered packet, in ns.
RARELY, LEAST_REORDERED = 0.001, 25 * MS
#: Share of copies in which a packet is overtaken that a rule delays always, and of such packets
#: among those that are overtaken, at least.
ALWAYS = 0.7
#: Packets of a flow and direction from which its last parts are looked at, too, as losses may begin
#: and the order may change late in the flow; in how many parts it is cut; the share of packets that
#: the line itself may reorder there: it reorders more of them where they are close together.
LONG, LATE_PARTS, IN_ORDER = 64, 4, 0.015
#: A long pause of a flow, in ns, and behind how many of the last ones its packets are looked at.
PAUSED, MOST_PAUSES = 1_500 * MS, 7
#: Delay that counts, in ns, at least; deviations of the line that count where it is known how long
#: packets wait for each other; trials in which that is found.
LEAST_LATE, DOUBT, TRIALS = 6 * MS, 0.3, 200
#: Datagrams of one direction of a flow that is too short to show a drop alone, at most.
SHORT = 3
#: Pause of a flow in which a bad time of the line ends, in ns.
BURST = 250 * MS
#: Time in which a kernel sends again what was lost, in ns.
HINDERED = 1_000 * MS
#: Score of a delay of one or two packets of a stream in so many copies, at most: a kernel's timers
#: may delay them.
FEW_SCORE, FEW_COPIES = 12.0, 8
#: Chances of enforcement below one that are tried.
CHANCES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


#: Kind, flow and direction of an effect.
Key = tuple[str, Ends, bool]


class Finding(NamedTuple):
    """An effect on one group.

    score: log-likelihood ratio; amount: share of losses, ns, or a code point; first: index of the
    first packet that is struck; chance: share of copies that are struck; late: by how much packets
    are late that others overtake, in ns.
    """

    kind: str
    ends: Ends
    up: bool
    score: float
    amount: float
    first: int
    chance: float = 1.0
    late: float = 0.0

    @property
    def key(self) -> Key:
        """Return the kind of effect, and the flow and direction that show it."""
        return self.kind, self.ends, self.up

    @property
    def flow(self) -> tuple[Ends, bool]:
        """Return the flow, to whichever far address, and the direction that show it."""
        return self.ends._replace(far=b""), self.up

    def places(self, unit: Probe) -> list[int]:
        """Return the places of the packets of its flow and direction in a unit, which may be played
        to other far addresses."""
        return [at for at, one in enumerate(unit)
                if (one.ends._replace(far=b""), one.up) == self.flow]  # fmt: skip

    @property
    def effect(self) -> Effect:
        """Return what it shows of a rule."""
        return Effect(self.kind, self.amount, self.chance, late=self.late)


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcomes of one unit in several plays as one."""
    first = outcomes[0]
    return first._replace(
        delay=np.concatenate([one.delay for one in outcomes]),
        events=[events for one in outcomes for events in one.events],
        strange=[events for one in outcomes for events in one.strange],
        twice=stacked([one.twice for one in outcomes]),
        overtaken=stacked([one.overtaken for one in outcomes]),
        points=stacked([one.points for one in outcomes]),
        planned=stacked([one.planned for one in outcomes]),
    )


def stacked(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """Return flags of several plays as one, None where a play has none."""
    known = [one for one in parts if one is not None]
    return np.concatenate(known) if known and len(known) == len(parts) else None


def findings(outcome: Outcome, base: Baseline) -> list[Finding]:
    """Return every suspicious effect on the groups of a unit, the surest first."""
    result: list[Finding] = []
    unit = outcome.unit
    listed = groups_of(outcome)
    groups = len(listed)
    waits = waits_of(outcome, base)
    for ends in flows_of(unit):
        injected = injection(outcome, ends)
        if injected is not None:
            result.append(injected)
    for ends, up, places in listed:
        parts = late_parts(unit, places)
        # a stream is stuck as a whole, each datagram is lost by itself
        choices = groups if ends.proto == TCP else len(unit)
        found = [
            always_lost(outcome, base, places, math.log(max(choices, 2))),
            sometimes_lost(outcome, base, places, groups),
            *(partly_lost(outcome, base, part, groups * len(parts)) for part in parts),
            one_partly_lost(outcome, base, places, groups),
            later(outcome, base, places, groups, waits),
            come_twice(outcome, places, groups),
            come_marked(outcome, places, groups),
            *(
                out_of_order(outcome, base, part, groups)
                for part in parts[: LATE_PARTS if base.reordered < IN_ORDER else 1]
            ),
            sometimes_late(outcome, base, places, groups),
        ]
        chosen = [one for one in found if one is not None and one.score > SUSPICIOUS]
        losses = [one for one in chosen if one.kind in (DROP, PARTIAL)]
        late = [one for one in chosen if one.kind == DELAY]
        reordered = [one for one in chosen if one.kind == REORDER]
        chosen = [one for one in chosen if one.kind in (DOUBLE, MARK)]
        if reordered:
            late = []  # a delay of some packets alone
            chosen.append(max(reordered, key=lambda one: one.score))
        chosen += [max(late, key=lambda one: one.score)] if late else []
        if losses:  # of the ways to explain losses, the one that fits best
            best = max(losses, key=lambda one: one.score)
            drops = [one for one in losses if one.kind == DROP]
            if best.kind == PARTIAL and best.amount > 0.955 and drops:
                best = drops[0]._replace(score=best.score)
            chosen.append(best)
        result += [one._replace(ends=ends, up=up) for one in chosen]
    if not any(one.score > SHOWN for one in result):
        result += pooled(outcome, base, listed)
    shown = {(one.ends, one.up) for one in result if one.score > SHOWN}
    result += short_flows_lost(
        outcome, base, [one for one in listed if one[:2] not in shown], groups
    )
    return sorted(result, key=lambda one: -one.score)


def late_parts(unit: Probe, places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the packets of a flow and direction, and of many of them, in which a rule that begins
    late shows little, those from some parts of them on, and those behind each of the last long
    pauses."""
    count = len(places)
    begins = [count * part // LATE_PARTS for part in range(LATE_PARTS if count >= LONG else 1)]
    if count >= LONG:
        pauses = np.diff([unit[at].time for at in places])
        begins += [int(at) + 1 for at in np.flatnonzero(pauses > PAUSED)[-MOST_PAUSES:]]
    return [places[at:] for at in begins]


def pooled(
    outcome: Outcome, base: Baseline, listed: Sequence[tuple[Ends, bool, NDArray[np.int64]]]
) -> list[Finding]:
    """Return losses and delays of all flows of one transport and direction together: of a rule
    whose effect on each flow is too small to show."""
    result = []
    for proto, up in sorted({(ends.proto, up) for ends, up, _ in listed}):
        own = [one for one in listed if (one[0].proto, one[1]) == (proto, up)]
        if len(own) < 2:
            continue
        places = np.concatenate([one[2] for one in own])
        found = partly_lost(outcome, base, np.sort(places), len(listed), LEAST_POOLED)
        if found is not None and found.score > SUSPICIOUS:
            ends = outcome.unit[found.first].ends
            result.append(found._replace(ends=ends, up=up))
    return result


def short_flows_lost(
    outcome: Outcome, base: Baseline, listed: Sequence[tuple[Ends, bool, NDArray[np.int64]]],
    groups: int,
) -> list[Finding]:  # fmt: skip
    """Return drops of some of the flows of few datagrams to one port, such as queries: each alone
    is too short to show one. Each flow of which no copy delivers a packet is struck with the chance
    that fits best; a single copy shows nothing, as the line itself loses packets in bursts."""
    result = []
    # of each port and direction, the first packet of each flow, and the gain if it is struck
    ports: dict[tuple[int, bool], list[tuple[int, float]]] = {}
    for ends, up, places in listed:
        copies = int(outcome.sent[:, places].any(axis=1).sum())
        if ends.proto == TCP or len(places) > SHORT or copies < 2:
            continue
        silent = (outcome.lost | ~outcome.sent)[:, places].all()
        gain = -copies * math.log(base.never(outcome)[places[0]]) if silent else -math.inf
        ports.setdefault((ends.far_port, up), []).append((int(places[0]), gain))
    for (_, up), flows in ports.items():
        gains = np.array([gain for _, gain in flows])
        struck = [at for at, gain in flows if math.isfinite(gain)]
        score = max(mixture(gains, one) for one in CHANCES) - math.log(groups)
        if len(struck) > 1 and score > SUSPICIOUS:
            ends = outcome.unit[struck[0]].ends
            result.append(Finding(DROP, ends, up, score, 1.0, struck[0]))
    return result


def groups_of(outcome: Outcome) -> list[tuple[Ends, bool, NDArray[np.int64]]]:
    """Return the flows and directions of a unit that were sent, each with its packets' indices."""
    flows = flow_numbers(outcome.unit)
    result = []
    for number, ends in enumerate(flows_of(outcome.unit)):
        for up in (True, False):
            places = np.flatnonzero((flows == number) & (outcome.up == up))
            if len(places) and outcome.sent[:, places].any():
                result.append((ends, up, places))
    return result


NOWHERE = Ends(0, b"", 0, b"", 0)


def injection(outcome: Outcome, ends: Ends) -> Finding | None:
    """Return forged answers to a flow."""
    copies = len(outcome.delay)
    seen = [
        copy for copy in range(copies)
        if any(event.ends == ends for event in outcome.strange[copy])
        or any(event.ends == ends for event in outcome.events[copy])
    ]  # fmt: skip
    if not seen:
        return None
    first = next(at for at, one in enumerate(outcome.unit) if one.ends == ends)
    return Finding(INJECT, ends, True, 20.0 * len(seen), 1.0, first, len(seen) / copies)


def always_lost(
    outcome: Outcome, base: Baseline, places: NDArray[np.int64], penalty: float
) -> Finding | None:
    """Return packets that no copy delivers."""
    usable = (outcome.sent & ~outcome.cut)[:, places]
    sent = usable.sum(axis=0)
    lost = (outcome.lost[:, places] & usable).sum(axis=0)
    scores = llr_lost(lost, np.maximum(sent, 0), base.never(outcome)[places])
    struck = np.flatnonzero((scores > 1.0) & (sent > 0))
    if not len(struck):
        return None
    # packets are struck in runs: scores add up, each packet pays for being chosen
    total = float(np.maximum(scores[struck] - 0.7, 0).sum()) - penalty
    best = float(scores[struck].max()) - penalty
    # packets of no run must be explained by the line alone
    rest = np.setdiff1d(np.arange(len(places)), struck)
    share = float(base.losses(outcome)[places[0]])
    gone, count = int(lost[rest].sum()), int(sent[rest].sum())
    if count and gone > count * share * 2 + 3:
        seen = gone / count
        total -= gone * math.log(seen / share) + (count - gone) * math.log((1 - seen) / (1 - share))
        best = min(best, total)
    return Finding(DROP, NOWHERE, True, max(total, best), 1.0, int(places[struck[0]]))


def sometimes_lost(
    outcome: Outcome, base: Baseline, places: NDArray[np.int64], groups: int
) -> Finding | None:
    """Return packets that some copies deliver and others do not: a rule enforced by chance, or a
    limit under which the copies of a stream stop at different packets.

    A struck copy loses all packets of the group from some packet on (any is equally likely); the
    chance that a copy is struck is the one that fits best. The line itself loses packets in bursts.
    """
    copies = len(outcome.delay)
    shares = np.log(base.never(outcome)[places])
    up = int(outcome.up[places[0]])
    again = np.maximum(shares, math.log(base.again[up]))
    times = [outcome.unit[at].time for at in places]
    stream = outcome.unit[places[0]].ends.proto == TCP
    most = -float(shares[0]) if stream else math.inf  # all of a stream waits for one lost packet
    gains, firsts = [], []
    for copy in range(copies):
        lost, sent = outcome.lost[copy, places], outcome.sent[copy, places]
        score, first = 0.0, -1
        for at in range(len(places) - 1, -1, -1):
            if not sent[at]:
                continue
            if not lost[at]:
                break
            is_behind = at > 0 and bool(lost[at - 1]) and times[at] - times[at - 1] < BURST
            score, first = score - float((again if is_behind else shares)[at]), at
        choice = 0.0 if stream else math.log(len(places))
        gains.append(min(score, most) - choice if first >= 0 else math.log(MISS))
        firsts.append(first)
    gain = np.array(gains)
    struck = [at for at in range(copies) if firsts[at] >= 0 and gain[at] > 2.0]
    if not struck or (len(struck) == copies and not stream):
        return None
    chances = (*CHANCES, 1 - MISS) if stream else CHANCES
    total = max(mixture(gain, one) for one in chances) - math.log(groups) - 1.0
    first = min(firsts[at] for at in struck)
    return Finding(DROP, NOWHERE, True, total, 1.0, int(places[first]), len(struck) / copies)


def mixture(gains: NDArray[np.float64], chance: float) -> float:
    """Return the log-likelihood ratio of copies or flows of which each is struck with a chance.
    gains: those of each if it is struck, float64[copies or flows]."""
    return float(np.logaddexp(math.log(chance) + gains, math.log(1 - chance)).sum())


def partly_lost(
    outcome: Outcome, base: Baseline, places: NDArray[np.int64], groups: int,
    least: float = LEAST_SHARE,
) -> Finding | None:  # fmt: skip
    """Return a share of losses beyond the line's own, of `least` at least."""
    lost = (outcome.lost | outcome.resent)[:, places]
    sent = (outcome.sent & ~outcome.behind)[:, places]
    lost &= sent
    count, gone = int(sent.sum()), int(lost.sum())
    share = float(base.losses(outcome)[places[0]])
    if not count or gone <= count * share:
        return None
    seen = min(gone / count, 1 - MISS)
    known = base.counts[int(outcome.up[places[0]])]
    if known[1]:
        score = more_than(gone, count, *known)
    else:
        score = gone * math.log(seen / share) + (count - gone) * math.log((1 - seen) / (1 - share))
    # packets close together are lost together more often than those of controls
    own = min(dispersion(lost, sent), MOST_INFLATION)
    score = score / max(base.inflation[int(outcome.up[places[0]])], own) - loss_penalty(groups)
    if seen - share < least:
        return None
    # losses of a stream come in runs, and may begin late in a flow: the share from the first on
    first = int(np.flatnonzero(lost.any(axis=0))[0])
    return Finding(PARTIAL, NOWHERE, True, score, (seen - share) / (1 - share), int(places[first]))


def one_partly_lost(
    outcome: Outcome, base: Baseline, places: NDArray[np.int64], groups: int
) -> Finding | None:
    """Return the datagram of which the largest share of copies is lost, beyond the line's own: of a
    rule on few packets of a flow. Each packet of the group pays for being chosen."""
    if outcome.unit[places[0]].ends.proto == TCP:
        return None
    sent, lost = outcome.sent[:, places], outcome.lost[:, places]
    count, gone = sent.sum(axis=0), (lost & sent).sum(axis=0)
    most = int((gone / np.maximum(count, 1)).argmax())
    known, share = base.counts[int(outcome.up[places[0]])], float(base.losses(outcome)[places[0]])
    if not count[most] or not known[1]:
        return None
    score = more_than(int(gone[most]), int(count[most]), *known)
    score -= loss_penalty(groups) + math.log(len(places))
    amount = (float(gone[most] / count[most]) - share) / (1 - share)
    return Finding(PARTIAL, NOWHERE, True, score, amount, int(places[most]))


def loss_penalty(groups: int) -> float:
    """Return what a share of losses must exceed by chance alone, in nats."""
    return 2.0 + math.log(groups)


def waits_of(outcome: Outcome, base: Baseline) -> NDArray[np.float64]:
    """Return how long each packet waits for those before it in its direction, which it does not
    overtake, float64[packets], in ns: the median over TRIALS with delays that vary as the line's
    own do (normal distribution), and each packet's own time in the access network."""
    times = np.array([one.time for one in outcome.unit], np.float64)
    rng = np.random.default_rng(0)
    result = np.zeros(len(times))
    for up in (0, 1):
        own = np.flatnonzero((outcome.up == bool(up)) & outcome.sent.any(axis=0))
        long = np.cumsum(base.per_octet[up] * outcome.size[own])
        queued = np.maximum.accumulate(times[own] - np.concatenate([[0.0], long])[:-1]) + long
        ideal = times[own] + base.per_octet[up] * outcome.size[own]
        arrivals = queued + rng.normal(0.0, base.spread[up], (TRIALS, len(own)))
        result[own] = np.median(np.maximum.accumulate(arrivals, axis=1), axis=0) - ideal
    return result


def least_lateness(
    outcome: Outcome, base: Baseline, up: int, doubt: float = 1.3
) -> float:  # fmt: skip
    """Return the least delay that counts, in ns: packets close together wait for each other, which
    shifts their median by up to a deviation, or by the time that a long packet takes. doubt: how
    many deviations count for that; fewer where the wait itself is known."""
    longest = int(outcome.size[outcome.up == bool(up)].max(initial=0))
    return LEAST_LATE + doubt * base.spread[up] + base.per_octet[up] * longest


def lateness_score(amount: float, spread: float, copies: int, groups: int) -> float:
    """Return the log-likelihood ratio of a delay of the median of some copies."""
    z = amount / (spread * 1.25 / math.sqrt(copies) + 1 * MS)
    return z * z / 2 - 3.0 - math.log(groups)


def later(
    outcome: Outcome, base: Baseline, places: NDArray[np.int64], groups: int,
    waits: NDArray[np.float64],
) -> Finding | None:  # fmt: skip
    """Return delays beyond the line's own. waits: see `waits_of`."""
    excess = base.excess(outcome)[:, places]
    up = int(outcome.up[places[0]])
    stream = outcome.unit[places[0]].ends.proto == TCP
    spread = base.spread[up]
    alone = unhindered(outcome, base, places) if stream else np.ones(len(places))
    # the median of the copies that no earlier packet holds up: those that it does are later
    medians = np.array(
        [np.quantile(column[np.isfinite(column)], part / 2) if np.isfinite(column).any() else np.nan
         for column, part in zip(excess.T, alone, strict=True)]
    )  # fmt: skip
    counts = np.isfinite(excess).sum(axis=0)
    own = waits[places] + least_lateness(outcome, base, up, DOUBT)
    least = np.minimum(own, least_lateness(outcome, base, up))
    late = np.isfinite(medians) & (medians > least)
    late &= counts >= (max(3, len(excess) // 2) if stream else min(2, len(excess)))
    if not late.any():
        return None
    amount = float(np.median(medians[late]))
    few = stream and int(late.sum()) < 3
    score = lateness_score(amount, spread, len(excess), groups)
    most = max(FEW_SCORE, FEW_SCORE * len(excess) / FEW_COPIES) if few else 60.0
    score = min(score, most - math.log(groups))
    if stream:  # the line itself may have held up that many copies
        beyond = (excess > least).sum(axis=0)
        held_up = binom.logsf(beyond - 1, counts, 1 - alone)
        score = min(score, float(-held_up[late].min()) - math.log(groups))
    return Finding(DELAY, NOWHERE, True, score, amount, int(places[np.flatnonzero(late)[0]]))


def unhindered(outcome: Outcome, base: Baseline, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the chance that a stream's packet waits for no earlier one that the line has lost,
    float64[places]: none of those that were sent within HINDERED before it."""
    times = np.array([outcome.unit[at].time for at in places])
    before = np.arange(len(times)) - np.searchsorted(times, times - HINDERED)
    share = base.loss[int(outcome.up[places[0]])]
    return np.asarray((1 - share) ** (before + 1), np.float64)


def come_twice(outcome: Outcome, places: NDArray[np.int64], groups: int) -> Finding | None:
    """Return datagrams that come twice, which a line does not do by itself."""
    if outcome.twice is None:
        return None
    come = outcome.delay[:, places] >= 0
    twice = outcome.twice[:, places] & come
    count, gone = int(come.sum()), int(twice.sum())
    if not gone:
        return None
    first = int(places[np.flatnonzero(twice.any(axis=0))[0]])
    score = log_binomial(gone, count) - gone * math.log(RARELY) - loss_penalty(groups)
    return Finding(DOUBLE, NOWHERE, True, score, gone / count, first)


def come_marked(outcome: Outcome, places: NDArray[np.int64], groups: int) -> Finding | None:
    """Return datagrams that come with a code point which the line itself does not give them; of
    several code points, the one of most datagrams is the finding's amount."""
    if outcome.points is None:
        return None
    come = outcome.delay[:, places] >= 0
    values = outcome.points[:, places][come]
    if not (values >= 0).any():
        return None
    point = int(np.bincount(values[values >= 0]).argmax())
    marked = (outcome.points[:, places] == point) & come
    count, gone = int(come.sum()), int(marked.sum())
    first = int(places[np.flatnonzero(marked.any(axis=0))[0]])
    score = log_binomial(gone, count) - gone * math.log(RARELY) - loss_penalty(groups)
    return Finding(MARK, NOWHERE, True, score, float(point), first)


def out_of_order(
    outcome: Outcome, base: Baseline, places: NDArray[np.int64], groups: int
) -> Finding | None:
    """Return datagrams of which later ones of their flow come first, by far: more than the line
    itself lets them."""
    if outcome.overtaken is None or outcome.unit[places[0]].ends.proto == TCP:
        return None
    late = outcome.overtaken[:, places] & (outcome.delay[:, places] >= 0)
    excess = base.excess(outcome)[:, places]
    if not late.any():
        return None
    came = (outcome.delay[:, places] >= 0).sum(axis=0)
    always = late.sum(axis=0) >= ALWAYS * came
    if late[:, always].sum() > ALWAYS * late.sum():
        return None  # the same packets in each copy: a delay of these
    amount = float(np.median(excess[late]) - np.nanmedian(excess[~late]))
    count, gone = int(came.sum()), int(late.sum())
    share = gone / count
    if amount < LEAST_REORDERED or share < base.reordered + LEAST_SHARE:
        return None
    score = log_binomial(gone, count) - (
        gone * math.log(base.reordered) + (count - gone) * math.log(1 - base.reordered)
    ) - loss_penalty(groups) - math.log(LATE_PARTS)  # fmt: skip
    first = int(places[np.flatnonzero(late.any(axis=0))[0]])
    return Finding(REORDER, NOWHERE, True, score, share, first, late=amount)


def sometimes_late(
    outcome: Outcome, base: Baseline, places: NDArray[np.int64], groups: int
) -> Finding | None:
    """Return delays of datagrams in some copies: a rule enforced by chance."""
    if outcome.unit[places[0]].ends.proto == TCP:
        return None
    excess = base.excess(outcome)[:, places]
    counts = np.isfinite(excess).sum(axis=1)
    if not counts.all():
        excess, counts = excess[counts > 0], counts[counts > 0]
    if len(counts) < 4:
        return None
    up = int(outcome.up[places[0]])
    spread = base.spread[up]
    centre = np.nanmedian(excess, axis=1)
    # packets close together are as late as the latest of them
    centre = centre - max(float(np.quantile(centre, 0.25)), 0.0)
    below = np.minimum(centre - np.median(centre), 0.0)
    late = centre > least_lateness(outcome, base, up) + 2 * spread / np.sqrt(counts)
    if not late.any() or late.all():
        return None
    amount = float(np.median(centre[late]))
    deviation_ = spread * (0.5 + 1.25 / np.sqrt(counts)) + 1 * MS
    deviation_ = np.maximum(deviation_, 1.5 * math.sqrt(2 * float((below**2).mean())))
    gain = np.clip((centre - amount / 2) * amount / deviation_**2, -15.0, 15.0)
    # where half of a copy's packets are late, the line itself may have reordered them
    gain = np.minimum(gain, -np.ceil(counts / 2) * math.log(base.reordered))
    score = max(mixture(gain, one) for one in CHANCES) - 3.0 - math.log(groups)
    first = int(places[np.flatnonzero(np.isfinite(excess[late]).any(axis=0))[0]])
    return Finding(DELAY, NOWHERE, True, score, amount, first, float(late.mean()))
