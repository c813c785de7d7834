# SPDX-License-Identifier: BSD-3-Clause
"""How well rules explain what was seen: the likelihood of a unit's outcome under many predictions.

A packet that a rule strikes shows the effect with a share s, any other packet with the line's own
share p. A flow of a copy is struck with the chance q of enforcement (and of a trigger that reaches
the box), and else shows nothing. s (where it is not nearly one) and q are integrated over grids.
The prediction of a packet is wrong by itself with the chance WRONG, in all copies: packets of both
directions meet the box in another order than on a line without jitter.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln  # type: ignore[import-untyped]

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.effects import BURST
from midcall.experiments.probe.line_oracle import (
    BY_ITSELF,
    DELAY,
    DOUBLE,
    DROP,
    INJECT,
    LOSSES,
    MARK,
    PARTIAL,
    REORDER,
    Effect,
)
from midcall.experiments.probe.line_oracle import SHARES as EFFECTS_WITH_SHARE
from midcall.experiments.probe.prober import MS, Outcome, once
from midcall.testbed.middlebox.rule_table import UP
from midcall.testbed.policy.language import Rule
from midcall.testbed.probing.probe import Ends, Probe, flow_numbers, flows_of
from midcall.testbed.probing.strikes import Passing, Strikes, strikes

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

#: Delay beyond that in other copies from which a stream's packet may have been sent again, in ns.
AGAIN_AFTER = 60 * MS
#: Distance of two packets, in ns, of which the later one overtakes one that is reordered, where it
#: is not known by how much that is late; and the part of this lateness that is sure to suffice.
SOON, SURELY = 21 * MS, 0.8
#: Time in which a kernel sends again what was lost, in ns, and the largest chance that is assumed
#: that the line itself holds up a packet of a stream.
HINDERED, HELD_UP = 300 * MS, 0.9
#: Delay in a queue, in ns, which counts besides six deviations of the line's own: of any packet,
#: and of a datagram whose access network delays it little; octets of a large packet.
LATE, SHORT, MOST_OCTETS = 25 * MS, 5 * MS, 1280
#: Part of its wait under a limited rate by which a packet of a stream is late, at least.
OF_WAIT = 0.5
#: Share of struck packets that show no effect, where the effect is nearly certain; share of other
#: packets that show one for no reason.
MISS, OTHER = 0.03, 0.004
#: Chance that the prediction of a packet is wrong, and share of copies below which a packet shows
#: no effect.
WRONG, NOT_STRUCK = 0.01, 0.13
#: How little the share of one packet of a limited rate differs from that of its neighbours: the sum
#: of the two parameters of a beta distribution.
ALIKE = 1.5
#: Packets before and behind one that show the share of a limit, and octets of the classes of sizes
#: of which they are.
NEAR, ALIKE_SIZE = 7, 200
#: Packets of one direction of a stream whose end is judged, at least, and the chance that it is not
#: as predicted.
LEAST_STREAM, UNLIKE = 3, 0.1
#: Datagrams of a limited rate count as so many independent ones.
TOGETHER = 0.25
#: Chance that a packet below a limited rate shows it: when its bucket is empty is not exact.
EARLIER = 0.01
#: Packets of one direction of a stream by which a stop may come earlier or later than predicted,
#: since packets of both directions meet at the box in another order in each copy; and the chance
#: of each such place, compared with the predicted one.
ELSEWHERE, OF_ELSEWHERE = 2, 0.1
#: Share of the copies that lose a datagram below which the line's own bursts may be the reason.
RARELY_LOST = 0.5
#: Share of flows that receive a forged answer for no reason.
STRAY = 0.001
#: Cost of another rule that strikes flows of the capture instead, in nats, once for each unit.
ANOTHER = 15.0
#: How often a copy loses two neighbours that others lose as well, at least, as a multiple of what
#: those say, and in standard deviations, where its losses come in bursts.
BURSTS, BEYOND_CHANCE = 1.5, 4.0
#: Grid of shares of packets that something strikes which no rule of the language says.
STRUCK = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
#: Grid of chances of enforcement below one, and their prior share together.
CHANCES, BY_CHANCE = (0.8, 0.65, 0.5, 0.35, 0.2), 0.15
#: Grid of shares of an effect that is not certain.
SHARES = (0.03, 0.06, 0.1, 0.17, 0.27, 0.4, 0.55, 0.7, 0.85, 0.97)


@once
def affected_of(outcome: Outcome, base: Baseline, sought: Effect) -> tuple[Bools, Bools, Floats]:
    """Return which packets show the effect, which of them can be judged (both
    bool[copies, packets]), and how often a packet that is not struck shows it, float64[packets]."""
    losses = base.losses(outcome)
    if sought.kind in (DOUBLE, REORDER):
        flags = outcome.twice if sought.kind == DOUBLE else outcome.overtaken
        affected = np.zeros(outcome.delay.shape, bool) if flags is None else flags
        own = STRAY if sought.kind == DOUBLE else base.reordered
        usable = (outcome.delay >= 0) & ~outcome.streams
        if sought.kind == REORDER:
            usable = usable & followed(outcome.unit, max(SOON, SURELY * sought.late))
        return affected, usable, np.full(len(losses), own)
    if sought.kind == MARK:
        affected = np.zeros(outcome.delay.shape, bool)
        if outcome.points is not None:
            affected = outcome.points == int(sought.amount)
        return affected, (outcome.delay >= 0) & ~outcome.streams, np.full(len(losses), STRAY)
    if sought.kind in (DELAY, PARTIAL):
        excess = base.excess(outcome)
        spread = np.array(base.spread)[outcome.up.astype(int)]
        if sought.kind == DELAY:
            line = max(sought.amount / 2, 3 * MS)
            z = line / spread
            other = np.clip(0.5 * np.exp(-0.7 * z - 0.4 * z * z), OTHER, 0.4)
            usable = np.isfinite(excess) & ~sent_again(outcome, spread)
            return np.nan_to_num(excess, nan=-1.0) > line, usable, other
        if sought.limit:  # what waits behind a dropped packet of a stream is late, too
            queued = least_wait(base, outcome.up, outcome.streams, sought.act["act"])
            least = np.maximum(queued, OF_WAIT * waits_in_streams(outcome, sought))
            late = np.nan_to_num(excess, nan=0.0) > least
            of_streams = held_up(outcome, base) if outcome.held_up is None else outcome.held_up
            line_own = np.where(outcome.streams, of_streams, losses) + OTHER
            return outcome.lost | late, outcome.sent, np.minimum(line_own, HELD_UP)
        # what is late may be so by another rule
        return outcome.lost | outcome.resent, outcome.sent & ~outcome.behind, losses + OTHER
    return outcome.lost, outcome.sent & ~outcome.cut, base.never(outcome) + OTHER


def waits_in_streams(outcome: Outcome, sought: Effect) -> Floats:
    """Return how long the packets of each stream and direction wait under a limited rate, in ns,
    float64[packets], 0 for datagrams: for what came before them beyond the bucket and the rate."""
    act, unit = sought.act, outcome.as_sent
    rate, room = act["rate_kbit"] * 125, act.get("bucket_bytes", 0.0)  # octets/s, octets
    result, state = np.zeros(len(unit)), dict[tuple[Ends, bool], tuple[float, int]]()
    for at in np.flatnonzero(outcome.streams & outcome.sent.any(axis=0)):
        one = unit[at]
        queued, before = state.get((one.ends, one.up), (0.0, one.time))
        queued = max(queued - (one.time - before) / 1e9 * rate, 0.0) + float(outcome.size[at])
        state[one.ends, one.up] = queued, one.time
        result[at] = max(queued - room, 0.0) / rate * 1e9
    return result


def held_up(outcome: Outcome, base: Baseline) -> Floats:
    """Return the chance that the line itself holds up each packet of a stream: it has lost one that
    was sent within HINDERED before it. float64[packets], 0 for datagrams."""
    result = np.zeros(len(outcome.unit))
    times: dict[tuple[Ends, bool], list[int]] = {}
    for at, one in enumerate(outcome.unit):
        if one.ends.proto == TCP and one.payload:
            own = times.setdefault((one.ends, one.up), [])
            own.append(one.time)
            count = len(own) - bisect.bisect_left(own, one.time - HINDERED)
            result[at] = 1 - (1 - base.loss[int(one.up)]) ** count
    return result


def strikes_of_limit(through: Passing, rules: Sequence[Rule], base: Baseline) -> Strikes:
    """Return what rules that limit a rate drop or delay of a unit, on a line without noise: of
    streams with what waits behind it."""
    of_streams = np.array([ends.proto == TCP for ends in through.ends], bool)[through.flow]
    act = rules[0].act if rules else ""
    late = least_wait(base, through.side == UP, of_streams, act)
    found = strikes(through, rules, late.astype(np.int64))
    streams = np.array([one.ends.proto == TCP for one in through.unit])
    return found._replace(struck=np.where(streams[None, :], found.lost, found.struck))


def followed(unit: Probe, within: float) -> Bools:
    """Return which packets another one of their flow and direction follows within so many ns:
    others cannot be overtaken, and of equal ones it is not known which came."""
    result = np.zeros(len(unit), bool)
    counts = Counter((one.ends, one.up, one.payload) for one in unit)
    last: dict[tuple[Ends, bool], int] = {}
    for at in reversed(range(len(unit))):
        one = unit[at]
        after = last.get((one.ends, one.up))
        soon = after is not None and unit[after].time - one.time <= within
        result[at] = soon and counts[one.ends, one.up, one.payload] == 1
        last[one.ends, one.up] = at
    return result


def sent_again(outcome: Outcome, spread: Floats) -> Bools:
    """Return which packets of streams may be late because kernels had to send something again:
    they are later than in other copies. spread: of the line's own delay, float64[packets]."""
    known = np.where(outcome.delay >= 0, outcome.delay, np.iinfo(np.int64).max)
    later = outcome.delay - known.min(axis=0) > AGAIN_AFTER + 5 * spread
    return np.asarray(later & outcome.streams)


def events_of(outcome: Outcome) -> Bools:
    """Return which flows of which copies received forged answers, bool[copies, flows]."""
    flows = {ends: number for number, ends in enumerate(flows_of(outcome.unit))}
    seen = np.zeros((len(outcome.delay), len(flows)), bool)
    for copy, some in enumerate(zip(outcome.events, outcome.strange, strict=True)):
        for event in (*some[0], *some[1]):
            seen[copy, flows[event.ends]] = True
    return seen


def judged_of(outcome: Outcome, base: Baseline, sought: Effect) -> tuple[Bools, Bools, Floats]:
    """Return what `affected_of` returns, but as usable only packets whose losses can be judged: of
    forged answers those of datagrams, and none where the original packets pass; of a limit those of
    datagrams, as writes at several paces have shown that of a stream."""
    affected, usable, other = affected_of(outcome, base, sought)
    if sought.limit or sought.kind == INJECT:
        usable = usable & ~outcome.streams & (not sought.on_path)
    return affected, usable, other


def evidence_of(outcome: Outcome, base: Baseline, sought: Effect) -> tuple[Bools, Bools, Floats]:
    """Return what `judged_of` returns, but as usable only what says something by itself: all of a
    stream waits for one packet, whether a rule delays it or the line has lost it, so that one sent
    soon after a late one of its flow and direction says nothing of a delay."""
    late, usable, other = judged_of(outcome, base, sought)
    if sought.kind != DELAY or not outcome.streams.any():
        return late, usable, other
    waits = np.zeros(late.shape, bool)
    soon = max(HINDERED, sought.amount)
    last: dict[tuple[Ends, bool], int] = {}
    for at, one in enumerate(outcome.unit):
        if one.ends.proto != TCP:
            continue
        before = last.get((one.ends, one.up))
        if before is not None and one.time - outcome.unit[before].time <= soon:
            waits[:, at] = late[:, before]
        last[one.ends, one.up] = at
    other = np.where(outcome.streams, np.maximum(other, base.losses(outcome)), other)
    return late, usable & ~waits, other


@once
def behind_lost(outcome: Outcome) -> Bools:
    """Return which datagrams come right behind one of their flow and direction that is lost, which
    few copies lose, bool[copies, packets]."""
    result = np.zeros(outcome.delay.shape, bool)
    lost = outcome.lost & (outcome.lost.mean(axis=0) < RARELY_LOST)
    last: dict[tuple[Ends, bool], int] = {}
    for at, one in enumerate(outcome.unit):
        before = last.get((one.ends, one.up))
        if before is not None and one.time - outcome.unit[before].time < BURST:
            result[:, at] = lost[:, before]
        last[one.ends, one.up] = at
    return result & ~outcome.streams


def fits_by_share(
    predicted: Strikes, outcome: Outcome, base: Baseline, sought: Effect,
    doubtful: Bools | None = None,
) -> Floats:  # fmt: skip
    """Return ln P(outcome | rule, share) - ln P(outcome | no rule) of each rule and share of struck
    packets that show the effect: of SHARES, float64[rules, SHARES], or of the one share of an
    effect that is nearly certain, float64[rules, 1].

    doubtful: bool[flows], those of which another rule may explain what they show instead, which
    costs ANOTHER.
    """
    affected, usable, other = evidence_of(outcome, base, sought)
    line = of_line(outcome, base, sought, other)
    unit = outcome.unit
    flow = flow_numbers(unit)
    mask = predicted.struck if sought.kind in BY_ITSELF else predicted.lost
    own = [np.flatnonzero(flow == number) for number in range(flow.max(initial=-1) + 1)]
    hit = [mask[:, places].astype(np.float64) for places in own]
    hits: Floats | None = None
    if sought.kind == INJECT:
        seen = events_of(outcome)
        forged = answered(predicted, unit, sought)
        gain = np.where(seen, math.log(0.95 / STRAY), math.log(0.05 / (1 - STRAY)))
        hits = np.asarray(forged[:, None, :] * gain[None, :, :], np.float64)
    totals = []
    spare = np.full(len(own), -np.inf)
    if doubtful is not None:
        spare = np.where(doubtful, struck_by_another(outcome, base, sought), -np.inf)
    shares = SHARES if sought.kind in BY_ITSELF else (1 - MISS,)
    quality = 1.0 - max(base.loss) - 0.02
    for share in shares:
        weight = weights(affected, usable, line, sought, share)
        weight, missed = with_wrong_predictions(weight, affected, usable)
        gains = np.stack(
            [some @ weight[:, places].T for some, places in zip(hit, own, strict=True)], axis=2
        )  # [rules, copies, flows]
        if hits is not None:
            gains = gains + hits
        if sought.kind == DROP:
            gains = gains + stops_elsewhere(mask, outcome, weight, flow)
        rest = np.stack([missed[places].sum() - some @ missed[places]
                         for some, places in zip(hit, own, strict=True)], axis=1)  # fmt: skip
        totals.append(by_chance(gains, quality, rest, spare))
    return np.stack(totals, axis=1)


def of_line(outcome: Outcome, base: Baseline, sought: Effect, other: Floats) -> Floats:
    """Return how often each packet of each copy shows an effect that is not struck,
    float64[copies, packets]. other: of each packet, see `affected_of`."""
    if sought.kind not in (DROP, PARTIAL):
        return np.broadcast_to(other, outcome.delay.shape)
    # the line itself loses packets in bursts
    again = np.maximum(other, np.array(base.again)[outcome.up.astype(int)])
    return np.where(behind_lost(outcome), again, other)


def weights(affected: Bools, usable: Bools, line: Floats, sought: Effect, share: float) -> Floats:
    """Return ln P(packet | struck) - ln P(packet | not struck) of each packet of each copy,
    float64[copies, packets], 0 of those that are not usable. share: of the packets struck that show
    the effect; line: see `of_line`."""
    struck = np.full(affected.shape, share)
    if sought.kind in BY_ITSELF:
        struck = np.minimum(line + share * (1 - line), 0.985)
    shows, not_shown = np.log(struck / line), np.log((1 - struck) / (1 - line))
    return np.where(affected, shows, not_shown) * usable


def stops_elsewhere(
    struck: Bools, outcome: Outcome, weight: Floats, flow: NDArray[np.int64]
) -> Floats:
    """Return what ln P(outcome | rule) gains where the copies of a stream stop for good at
    different places, of each copy that stops up to ELSEWHERE packets before or behind the place
    that the rule predicts, float64[rules, copies, flows].

    struck: bool[rules, packets]; weight: ln P(packet | struck) - ln P(packet | not struck),
    float64[copies, packets], 0 where it cannot be judged; flow: int64[packets], as `flow_numbers`
    returns it.
    """
    result = np.zeros((len(struck), len(weight), int(flow.max(initial=-1)) + 1))
    lost: Bools = np.asarray(outcome.lost & outcome.streams)
    ways = 2 * flow + outcome.up
    carries = np.array([one.ends.proto == TCP and bool(one.payload) for one in outcome.unit])
    for way in np.unique(ways[lost.any(axis=0)]):
        own = np.flatnonzero((ways == way) & carries)
        stops: Bools = np.asarray(lost[:, own].any(axis=1))
        stop = lost[:, own].argmax(axis=1)
        if len(np.unique(stop[stops])) < 2:
            continue
        begins = struck[:, own]
        # a rule that stops the stream strikes all packets from one on
        begin = len(own) - np.cumprod(begins[:, ::-1], axis=1).sum(axis=1)
        ahead = np.concatenate([np.zeros((len(weight), 1)), weight[:, own].cumsum(axis=1)], axis=1)
        for by in (one for one in range(-ELSEWHERE, ELSEWHERE + 1) if one):
            near = stops[None, :] & (stop[None, :] == begin[:, None] + by)
            near &= (begin < len(own))[:, None] & (begin > 0)[:, None]
            rules, copies = np.nonzero(near)
            at, first = stop[copies], begin[rules]
            more = weight[copies, own[at]] if by < 0 else ahead[copies, first] - ahead[copies, at]
            gain = np.maximum(more + math.log(OF_ELSEWHERE), 0.0)
            result[rules, copies, way // 2] += gain
    return result


def fits_of_limit(
    struck: Bools, limited: Bools, outcome: Outcome, base: Baseline, sought: Effect
) -> Floats:
    """Return ln P(outcome | rule) - ln P(outcome | no rule) of rules that limit a rate,
    float64[rules].

    struck: bool[rules, packets], what each rule strikes; limited: the same, what its limit loses or
    delays on a line without noise. Which of the packets close together it is depends on
    microseconds, so that each has the share of those NEAR it in its flow and direction, about which
    its own, the same in all copies, varies (a beta-binomial distribution). What a stream's packets
    show depends on what its kernels send again, so that only its end counts, and that in full: what
    is returned counts by TOGETHER.
    """
    affected, usable, other = affected_of(outcome, base, sought)
    waits = waits_in_streams(outcome, sought) > LATE
    streams = fits_of_streams(limited, outcome, affected & usable, other, waits)
    usable = usable & ~outcome.streams
    whole = np.zeros(struck.shape)
    unit = outcome.unit
    meets = np.repeat(~limited.any(axis=1, keepdims=True), len(unit), axis=1)
    ways = 2 * flow_numbers(unit) + outcome.up
    for own in (ways == way for way in np.unique(ways)):
        meets[:, own] |= limited[:, own].any(axis=1, keepdims=True)
    # a bucket that is nearly empty lets small packets pass, but no large ones
    keys = [(one.ends, one.up, len(one.payload) // ALIKE_SIZE) for one in unit]
    for key in dict.fromkeys(keys):
        places = [at for at, one in enumerate(keys) if one == key]
        near, many = (nearby(some[:, places]) for some in (limited, struck))
        whole[:, places] = near / np.maximum(many, 1)
    share = np.clip(other + whole * (1 - other), other, 0.95)
    gone, count = (affected & usable).sum(axis=0), usable.sum(axis=0)
    first, second = ALIKE * share, ALIKE * (1 - share)
    own = gone * np.log(other) + (count - gone) * np.log(1 - other)
    gain = betaln(gone + first, count - gone + second) - betaln(first, second) - own
    # what passes below the limit says nothing, unless the limit is met earlier than predicted: by
    # the flows and directions that meet it, or by any where none is predicted to
    early = betaln(gone + 1, count - gone + 1) - own
    below = np.logaddexp(math.log(1 - EARLIER), math.log(EARLIER) + early)
    below = np.where(meets, below, np.minimum(below, 0.0))
    gain = np.where(whole > 0, np.maximum(gain, math.log(WRONG)), below)
    gain = np.where(struck, gain, 0.0)
    return np.asarray(gain.sum(axis=1) + streams / TOGETHER, np.float64)


def fits_of_streams(
    limited: Bools, outcome: Outcome, late: Bools, other: Floats, waits: Bools
) -> Floats:
    """Return ln P(streams | rule) - ln P(streams | no rule) of rules that limit a rate,
    float64[rules]: of each direction of a stream and each copy counts whether most of its last
    packets are late. limited: bool[rules, packets]; late: bool[copies, packets]; other: as
    `affected_of` returns it; waits: see `ends_of_streams`."""
    result = np.zeros(len(limited))
    for end in ends_of_streams(outcome.unit, waits):
        sent = outcome.sent[:, end].any(axis=1)
        shows = int((late[sent][:, end].mean(axis=1) > 0.5).sum())
        own = float(other[end].mean())
        gain = shows * math.log((1 - UNLIKE) / own)
        gain += (int(sent.sum()) - shows) * math.log(UNLIKE / (1 - own))
        result += np.where(limited[:, end].mean(axis=1) > 0.5, gain, 0.0)
    return result


def ends_of_streams(unit: Probe, waits: Bools | None = None) -> Iterator[list[int]]:
    """Yield the places of the last packets of each direction of each stream. waits: bool[packets],
    which ones wait under a limit of the stream's own; the last ones of these where there are some,
    as a stream is no longer late when it has rested."""
    places: dict[tuple[Ends, bool], list[int]] = {}
    for at, one in enumerate(unit):
        if one.ends.proto == TCP and one.payload:
            places.setdefault((one.ends, one.up), []).append(at)
    for own in places.values():
        late = [at for at in own if waits is not None and waits[at]]
        own = late if len(late) >= LEAST_STREAM else own
        if len(own) >= LEAST_STREAM:
            yield own[-max(len(own) // 3, LEAST_STREAM) :]


def by_stream(limited: Bools, unit: Probe) -> Bools:
    """Return what of a limit's effect counts, bool[rules, features]: each datagram, and of each
    direction of a stream whether most of its last packets are late."""
    datagrams = np.array([one.ends.proto != TCP for one in unit])
    streams = [limited[:, end].mean(axis=1) > 0.5 for end in ends_of_streams(unit)]
    return np.concatenate([limited[:, datagrams], np.array(streams).reshape(-1, len(limited)).T],
                          axis=1).astype(bool)  # fmt: skip


def nearby(flags: Bools) -> Floats:
    """Return how many of the packets up to NEAR before and behind each one have a flag."""
    whole = np.pad(np.cumsum(flags, axis=1), ((0, 0), (NEAR + 1, NEAR)), "edge")
    whole[:, : NEAR + 1] = 0
    return np.asarray(whole[:, 2 * NEAR + 1 :] - whole[:, : -2 * NEAR - 1], np.float64)


def late_of(base: Baseline) -> int:
    """Return the delay from which a packet of any direction counts as one that a queue delays, in
    ns."""
    return int(LATE + 6 * max(base.spread))


def least_wait(base: Baseline, up: Bools, streams: Bools, act: str) -> Floats:
    """Return the delay from which packets count as ones that a queue delays, in ns,
    float64[packets]. A datagram under a rule that shapes counts as soon as it waits for longer than
    two large packets before it make it wait in the access network.

    up, streams: bool[packets], which go upwards, and which are a stream's; act: of the rule.
    """
    way = up.astype(int)
    own = SHORT + 2 * MOST_OCTETS * np.array(base.per_octet)[way]
    short = np.minimum(own, LATE) if act == "shape" else LATE
    least = np.where(streams, LATE, short)
    return np.asarray(least + 6 * np.array(base.spread)[way], np.float64)


def answered(predicted: Strikes, unit: Probe, sought: Effect) -> Bools:
    """Return which flows of a unit receive forged answers, bool[rules, flows]: streams, and of a
    false DNS answer datagrams that are struck."""
    forged = predicted.opened.copy()
    if sought.detail == "dns-lie":
        for number, ends in enumerate(flows_of(unit)):
            if ends.proto != TCP:
                own = np.array([one.ends == ends for one in unit])
                forged[:, number] = predicted.struck[:, own].any(axis=1)
    return forged


def with_wrong_predictions(weight: Floats, affected: Bools, usable: Bools) -> tuple[Floats, Floats]:
    """Return log-likelihood ratios of struck packets of which none costs more than a wrong
    prediction, float64[copies, packets], and what a packet adds that a rule does not predict to be
    struck and that is, float64[packets]."""
    count, least = usable.sum(axis=0), math.log(WRONG)
    whole = weight.sum(axis=0)
    share = (affected & usable).sum(axis=0) / np.maximum(count, 1)
    scale = np.where((share < NOT_STRUCK) & (whole < least), least / np.minimum(whole, least), 1.0)
    best = whole
    for chance in CHANCES:
        mixed = np.logaddexp(math.log(chance) + weight, math.log(1 - chance)).sum(axis=0)
        best = np.maximum(best, mixed)
    return weight * scale, np.maximum(best + least, 0.0)


def by_chance(gains: Floats, quality: float, rest: Floats, spare: Floats) -> Floats:
    """Return the log-likelihood ratio summed over copies and flows, with the chance of enforcement
    integrated out.

    rest: float64[rules, flows], what packets add that a rule does not predict; spare:
    float64[flows], the ratio of another rule, which explains some flows instead where it is
    positive, at the cost ANOTHER once for all of them.
    """
    spared = np.where(spare > 0, spare, -np.inf)
    limit = max(float(np.maximum(spare, 0.0).sum()) - ANOTHER, 0.0)
    parts = []
    most = np.maximum(gains, 0.0)  # ln(q e^g + 1 - q) without overflow
    with_rule, without, most = np.exp(gains - most), np.exp(-most), most.sum(axis=1)
    for chance in (1.0, *CHANCES):
        q = chance * quality
        prior = 1 - BY_CHANCE if chance == 1.0 else BY_CHANCE / len(CHANCES)
        own = np.log(q * with_rule + (1 - q) * without).sum(axis=1) + most + rest
        whole = own.sum(axis=1)
        if np.isfinite(spared).any():
            whole = np.logaddexp(whole, np.logaddexp(own, spared).sum(axis=1) - ANOTHER)
        parts.append(math.log(prior) + whole - limit)
    return np.asarray(np.logaddexp.reduce(np.stack(parts), axis=0), np.float64)


def shown_counts(
    outcome: Outcome, base: Baseline, sought: Effect, alone: bool = False
) -> tuple[Floats, Floats, Floats]:
    """Return of each packet (and, of forged answers, of each flow) in how many copies it shows the
    effect, of how many, and how often one does that is not struck. alone: whether only copies count
    that say something by themselves, see `evidence_of`."""
    affected, usable, other = (evidence_of if alone else judged_of)(outcome, base, sought)
    gone, count = (affected & usable).sum(axis=0), usable.sum(axis=0)
    if sought.kind == INJECT:
        seen = events_of(outcome)
        gone = np.concatenate([gone, seen.sum(axis=0)])
        count = np.concatenate([count, np.full(seen.shape[1], len(seen))])
        other = np.concatenate([other, np.full(seen.shape[1], STRAY)])
    return gone.astype(np.float64), count.astype(np.float64), other


def gains(outcome: Outcome, base: Baseline, sought: Effect) -> Floats:
    """Return ln P(a packet's copies | struck) - ln P(they | not struck) of each packet of a unit,
    float64[packets]."""
    affected, usable, other = affected_of(outcome, base, sought)
    share = sought.chance * (sought.amount if sought.kind in EFFECTS_WITH_SHARE else 1.0)
    chance = np.clip(share, other + MISS, 1 - MISS)
    gone, count = (affected & usable).sum(axis=0), usable.sum(axis=0)
    return np.asarray(
        gone * np.log(chance / other) + (count - gone) * np.log((1 - chance) / (1 - other))
    )


def agreement(
    predicted: Bools, outcome: Outcome, base: Baseline, sought: Effect
) -> tuple[int, int]:
    """Return (packets and flows that a rule strikes and that show the effect, those of which one
    of both holds). predicted: bool[packets], of forged answers bool[packets + flows]. Of a stream
    that is stopped for good all that comes behind shows a drop."""
    gone, count, other = shown_counts(outcome, base, sought)
    if sought.kind == DROP:
        behind = (outcome.cut & outcome.sent).sum(axis=0)
        gone, count = gone + behind, count + behind
    share = np.clip(gone / np.maximum(count, 1), 0.001, 0.97)
    gain = gone * np.log(share / other) + (count - gone) * np.log((1 - share) / (1 - other))
    shows = (share > other) & (gain > -math.log(WRONG))
    known = count > 0
    return int((shows & predicted & known).sum()), int(((shows | predicted) & known).sum())


def agreement_of_shares(
    predicted: Bools, outcome: Outcome, base: Baseline, sought: Effect
) -> tuple[float, float]:
    """Return (how many packets that a rule strikes show an effect beyond the line's own, how many
    of all do). Others count where a flow and direction has more than chance explains.

    predicted: bool[packets].
    """
    gone, count, other = shown_counts(outcome, base, sought)
    beyond = gone - count * other
    keys = [(one.ends, one.up) for one in outcome.unit]
    rest = 0.0
    for key in dict.fromkeys(keys):
        own = np.array([one == key for one in keys]) & ~predicted
        chance = 3.0 + 3.0 * math.sqrt(float((count * other)[own].sum()))
        more = float(beyond[own].sum())
        rest += more if more > chance else 0.0
    both = max(float(beyond[predicted].sum()), 0.0)
    return both, both + rest


def fit_without_rule(
    outcome: Outcome, base: Baseline, sought: Effect, doubtful: Bools | None = None
) -> float:
    """Return ln P(outcome | something strikes any packets) - ln P(outcome | nothing does).

    Each packet is struck or not by itself, with a share of its own that is uniform over 0 to 1 and
    integrated out (a beta function); how many are struck is integrated over STRUCK. doubtful: as in
    `fits_by_share`: these flows together count for no more than ANOTHER.
    """
    flow = flow_numbers(outcome.unit)
    result = 0.0
    if doubtful is not None:
        by_flow = struck_by_another(outcome, base, sought)[doubtful]
        result = min(float(np.maximum(by_flow, 0.0).sum()), ANOTHER)
    gone, count, other = shown_counts(outcome, base, sought, alone=True)
    gain = betaln(gone + 1, count - gone + 1)
    gain -= gone * np.log(other) + (count - gone) * np.log(1 - other)
    number = numbered(flow, len(gone))
    totals = []
    for part in STRUCK:
        one = np.logaddexp(math.log(part) + gain, math.log(1 - part))
        whole = np.bincount(number, one)
        totals.append(whole.sum() if doubtful is None else whole[~doubtful].sum())
    return result + float(np.logaddexp.reduce(totals)) - math.log(len(STRUCK))


@once
def struck_by_another(outcome: Outcome, base: Baseline, sought: Effect) -> Floats:
    """Return ln P(outcome | another rule strikes any packets) - ln P(outcome | nothing does) of
    each flow, float64[flows].

    The packets that are struck show the effect with one share of SHARES or near-certainty, and are
    one part of all of STRUCK: those that explain most, as it is one rule. Where losses come in
    bursts, each of which looks like packets that are struck, they are packets in a row instead. Of
    losses, it may also strike all copies of a flow or none, by chance.
    """
    flow = flow_numbers(outcome.unit)
    gone, count, other = shown_counts(outcome, base, sought, alone=True)
    number = numbered(flow, len(gone))
    affected, usable, own = evidence_of(outcome, base, sought)
    line = of_line(outcome, base, sought, own)
    rows = sought.kind == PARTIAL and come_in_bursts(outcome)
    totals: list[Floats] = []
    for share in (*SHARES, 1 - MISS / 2):
        gain = gone * np.log(share / other) + (count - gone) * np.log((1 - share) / (1 - other))
        if sought.kind in (DROP, PARTIAL):
            gain = weights(affected, usable, line, sought, share).sum(axis=0)
        if rows:
            totals.append(in_rows(outcome.unit, gain))
            continue
        for part in STRUCK:
            one = np.logaddexp(math.log(part) + gain, math.log(1 - part))
            totals.append(np.bincount(number, one).astype(np.float64))
    best = max(totals, key=lambda by_flow: float(np.maximum(by_flow, 0.0).sum()))
    if sought.kind not in LOSSES:
        return np.asarray(best, np.float64)
    return np.maximum(best, struck_by_chance(outcome, base, sought))


def come_in_bursts(outcome: Outcome) -> bool:
    """Return whether a copy of datagrams loses neighbours together, more often than two copies do:
    which packets of a flow are lost is then not what a rule strikes."""
    same, expected = 0.0, 0.0
    for places in places_of_ways(outcome.unit).values():
        lost, sent = (some[:, places].astype(float) for some in (outcome.lost, outcome.sent))
        if len(places) < 2 or outcome.streams[places].any() or (copies := len(lost)) < 2:
            continue
        first, second = lost[:, :-1], (lost * sent)[:, 1:]
        both = first.sum(axis=0) * second.sum(axis=0)
        own = (first * second).sum(axis=0)
        same += float(own.sum())
        expected += float((both - own).sum()) / (copies - 1)
    return same > BURSTS * expected + BEYOND_CHANCE * math.sqrt(expected + 1)


def in_rows(unit: Probe, gain: Floats) -> Floats:
    """Return ln P(outcome | another rule strikes packets in a row) - ln P(outcome | nothing does)
    of each flow, float64[flows]: of each of its directions and classes of sizes none, or those from
    any one on up to any other. gain: the same of each packet that is struck, float64[packets]."""
    flow = flow_numbers(unit)
    result = np.zeros(int(flow.max()) + 1)
    for places in places_of_ways(unit, ALIKE_SIZE).values():
        whole = np.concatenate([[0.0], np.cumsum(gain[places])])
        best = float((whole - np.minimum.accumulate(whole)).max())
        result[flow[places[0]]] += max(best - 2 * math.log(len(places) + 1), 0.0)
    return result


def places_of_ways(unit: Probe, sizes: int = 1 << 16) -> dict[tuple[Ends, bool, int], list[int]]:
    """Return the places of the packets of each flow, direction and class of sizes. sizes: octets of
    a class."""
    result: dict[tuple[Ends, bool, int], list[int]] = {}
    for at, one in enumerate(unit):
        result.setdefault((one.ends, one.up, len(one.payload) // sizes), []).append(at)
    return result


def struck_by_chance(outcome: Outcome, base: Baseline, sought: Effect) -> Floats:
    """Return ln P(outcome | another rule strikes all copies of each flow or none, by chance) -
    ln P(outcome | nothing does), float64[flows]. It strikes the packets that most of the copies
    show, from any of the flow's on."""
    affected, usable, other = judged_of(outcome, base, sought)
    flow = flow_numbers(outcome.unit)
    weight = np.where(affected, np.log((1 - MISS) / other), np.log(MISS / (1 - other))) * usable
    result = np.zeros(int(flow.max()) + 1)
    for number in range(len(result)):
        own = np.flatnonzero(flow == number)
        shown = (affected & usable)[:, own]
        copies = shown.any(axis=1)
        if not copies.any():
            continue
        most = 2 * shown[copies].sum(axis=0) > usable[copies][:, own].sum(axis=0)
        gain = weight[:, own[most]].sum(axis=1)
        chance = min(float(copies.mean()), 1 - MISS)
        whole = np.logaddexp(math.log(chance) + gain, math.log(1 - chance)).sum()
        result[number] = whole - math.log(len(own))
    return result


def numbered(flow: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the numbers of the flows of features, int64[count]: of the packets, whose flows are
    given, and of the flows themselves, which receive forged answers."""
    return np.concatenate([flow, np.arange(count - len(flow))])
