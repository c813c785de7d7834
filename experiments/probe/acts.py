# SPDX-License-Identifier: BSD-3-Clause
"""Which act a box performs on the packets that it strikes, and the act's parameters.

Struck packets are sent slowly, then as fast as the access network allows, in both directions that
the rule strikes. A loss is the same at any rate; a policer lets a rate through and a shaper delays
more and more; a delay does not depend on the rate.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.messages import noise
from midcall.experiments.localise.mutations import NEAR, far_addresses
from midcall.experiments.measure.intervals import clopper_pearson
from midcall.experiments.probe.baseline import deviation, runs, share_of
from midcall.experiments.probe.beliefs import Hypothesis
from midcall.experiments.probe.effects import LEAST_REORDERED
from midcall.experiments.probe.fit import affected_of
from midcall.experiments.probe.line_oracle import DELAY, DOUBLE, DROP, PARTIAL, REORDER, Effect
from midcall.experiments.probe.prober import APART, MS, SHARE, Outcome, one_by_one
from midcall.experiments.probe.rates import (
    FULL,
    Limit,
    limit_of,
    policer,
    refined,
    shaper,
)
from midcall.experiments.probe.tails import HEADERS, MOST_LARGE, STREAM_APART, STREAM_COUNT, Tail
from midcall.experiments.probe.units import marked, point_after, zeros
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.syntax import span
from midcall.testbed.probing.probe import Ends, Probe, Sent, in_order, ip_size
from midcall.testbed.probing.strikes import strikes

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

#: Packets and their distance in the slow part; least distance and seconds of the fast part.
SLOW, SLOW_APART, FAST_SECONDS = 24, 60 * MS, 2.4
#: Part of what is left of a window of seconds in which the packets of the slow part are sent.
IN_WINDOW = 0.7
#: Packets of the fast part, at most; how often it exceeds a limit of a rate, and its least distance
#: then, in ns; octets of a payload, at least.
MOST_FAST, EXCEEDED, LEAST_GAP, LEAST_FAST = 500, 2.5, MS // 2, 20
#: Packets of each direction that show the line's own loss at the same time, and its own delay.
CONTROLS, FEW_CONTROLS = 120, 14
#: Share of controls that a rule does not strike, below which they do not show the line itself.
FEW_FREE = 0.1
#: Deviations of the line's own delay by which a packet is surely late.
SURELY_LATE = 3.0
#: Share of a stream's struck packets that arrive in spite of a drop; where a drop begins in copies:
#: packets from the earliest to the latest, or part of all, at most; packets behind it, at least.
ARRIVES, NEAR_END, EARLY_END, LEAST_BEHIND = 0.03, 2, 0.15, 6
#: Share of the losses of packets close together that packets far apart have where a limit is too
#: slow for both.
MISSED_SLOWLY = 0.6
#: Bucket of a policer behind the trigger alone, as a multiple of the one that several paces have
#: shown, from which it is not the policer's own.
MORE_ROOM = 2.0
#: Octets of a bucket that lets packets through, as a share of a packet's, at least.
LEAST_BUCKET = 0.5
#: Share of a stream's packets far apart that are late, or that are not, at least, where a part of
#: them is; by which part of their delay those differ; and that delay, at most, in ns: kernels send
#: again what is later.
LEAST_OF_PART, ALIKE_LATE, MOST_OF_PART = 0.05, 0.15, 200 * MS
#: How late packets are that are not late next to others, at most: a part of the others' delay, and
#: ms. A delay of all of them varies with the line's own.
ON_TIME, LEAST_ON_TIME = 0.33, 10.0
#: Share of the delay of packets close together that packets far apart have, too, where it is no
#: queue's.
CONSTANT = 0.7
#: Packets of a direction that are compared with those of the other one, at least: sent, for their
#: losses, and arrived, for their delay; standard errors by which their losses differ, and the least
#: difference of their shares.
LEAST_SENT, LEAST_LATE, UNLIKE, LEAST_UNLIKE = 40, 10, 4.0, 0.1
#: Quantiles of delays that are compared: of datagrams, and of the packets of a stream.
MIDDLE, SOONEST = 0.5, 0.25
#: Standard error of a stream's limit that the second look does not show again, as a share.
FIRST_LOOK = 0.1
#: By how much an allowance of seconds may be longer than it was measured: a part of it, and ns.
DOUBT, LEAST_DOUBT = 0.02, 60 * MS
#: Octets of a packet's payload in both parts, and of the smallest controls.
OCTETS, TINY = 80, 10


class Number(NamedTuple):
    """A parameter with its 95 % interval."""

    value: float
    low: float
    high: float

    def plain(self) -> dict[str, float]:
        """Return it as a plain table."""
        return {key: round(float(value), 4) for key, value in self._asdict().items()}


class Measured(NamedTuple):
    """One direction of the struck packets, upwards or not.

    slow, fast: bool[n] lost or sent again; delays: ns of the packets that arrived, beyond the
    line's own, nan for others; times: float64[copies, n], when sent, ns; sizes.
    """

    up: bool
    slow_lost: NDArray[np.bool_]
    fast_lost: NDArray[np.bool_]
    slow_excess: Floats
    fast_excess: Floats
    fast_times: Floats
    fast_sizes: Floats


def act_unit(tail: Tail, core: Probe, apart_slow: int = SLOW_APART) -> tuple[Probe, int, int]:
    """Return a unit with a slow and a fast part behind a core, and where both begin."""
    last = core[-1]
    stream = last.ends.proto == TCP
    packets = list(core)
    rates = tail.prober.rate
    slow_begin = len(core)
    slow = SLOW if not stream else 16
    by_share = stream and tail.sought.kind == PARTIAL
    if by_share:
        slow, apart_slow = STREAM_COUNT, STREAM_APART
    pause = 300 * MS
    room = span(tail.best.keys.get("seconds", "0-"))[1] * 1e9 - last.time
    if 0 < room < math.inf:  # they must come before the window ends
        pause, apart_slow = (int(min(one, room * part)) for one, part in (
            (pause, IN_WINDOW / 4), (apart_slow, IN_WINDOW / (slow + tail.used))))  # fmt: skip
    begin = last.time + pause + tail.wait
    for number in range(slow + tail.used):
        time = begin + tail.moment(number, tail.used, apart_slow)
        packets += sent_at(tail, last, time, number, "slow")
    packets = list(in_order(packets))
    fast_begin = len(packets)
    begin = packets[-1].time + 400 * MS
    least, octets = fast_pace(tail, ip_size(last))
    moment = sent_at(tail, last, begin, 0, "fast", octets)
    gap = max(least, *(int(ip_size(one) * 8e6 / (rates[one.up] * SHARE)) for one in moment))
    count = int(min(FAST_SECONDS * 1000 * MS / gap, MOST_FAST))
    fast: list[Sent] = []
    for number in range(0 if by_share else min(count, 60) if stream else count):
        fast += sent_at(tail, last, begin + number * gap, number, "fast", octets)
    packets += sorted(fast, key=lambda one: one.time)
    return tuple(packets), slow_begin, fast_begin


def fast_pace(tail: Tail, size: int) -> tuple[int, tuple[int, int] | None]:
    """Return how far apart packets of the fast part are at least, in ns, and the octets of their
    payloads (down, up), None for those of the tail's form: a limit of a rate must be exceeded, by
    EXCEEDED, in each direction whose access network carries that.

    size: IP octets of the trigger's last packet.
    """
    if not tail.sought.limit:
        return 2 * MS, None
    rate = EXCEEDED * tail.sought.act["rate_kbit"] / 8e6  # octets/ns
    if tail.repeats:
        return int(max(size / rate, LEAST_GAP)), None
    large = min(max(rate * FAST_SECONDS * 1000 * MS / MOST_FAST, OCTETS), MOST_LARGE)
    gap = large / rate
    carried = [tail.prober.rate[up] * SHARE * gap / 8e6 for up in (False, True)]
    down, up = (int(max(min(large, one) - HEADERS, LEAST_FAST)) for one in carried)
    return int(gap), (down, up)


def sent_at(
    tail: Tail, last: Sent, time: int, number: int, word: str,
    octets: tuple[int, int] | None = None,
) -> list[Sent]:  # fmt: skip
    """Return the packets of one moment: the trigger's last again, or noise both ways. octets: of
    their payloads (down, up), None for those of the tail's form."""
    if tail.repeats:
        return [last._replace(time=time, payload=marked(last, number))]
    return [
        last._replace(time=time + (0 if up else MS), up=up, before=(), dscp=point_after(last),
                      payload=tail_body(tail, word, number, up, octets and octets[up]))
        for up in (True, False)
    ]  # fmt: skip


def tail_body(tail: Tail, word: str, number: int, up: bool, octets: int | None = None) -> bytes:
    """Return a payload of the tail's form, or of so many octets."""
    if tail.form == "zeros":
        return zeros(octets or OCTETS, word, number, up)
    return noise(octets or {"tiny": 12, "long": 500}.get(tail.form, OCTETS), word, number, up)


def measure(
    tail: Tail, outcome: Outcome, struck: NDArray[np.bool_], up: bool, fast_begin: int, first: int
) -> Measured | None:
    """Return what one direction of the struck packets shows, in the copies that could send them: a
    NAT lets nothing in where the packet that opens the flow is lost."""
    count = (outcome.sent & struck).sum(axis=1)
    if not count.any():
        return None
    outcome = outcome.of(np.flatnonzero(2 * count > count.max()))
    whole = struck & outcome.sent.all(axis=0)
    places = np.flatnonzero(whole & (outcome.up == up) & (np.arange(len(struck)) >= first))
    if len(places) < 6:
        return None
    slow, fast = places[places < fast_begin], places[places >= fast_begin]
    lost = outcome.lost | outcome.resent
    stream = outcome.unit[places[0]].ends.proto == TCP
    if stream:  # packets behind a lost one wait for it
        behind = np.zeros_like(lost)
        behind[:, places[1:]] = lost[:, places[:-1]]
        lost = lost & ~behind
    excess = tail.base.excess(outcome)
    times = outcome.planned  # copies that take turns move each other's packets
    if times is None:
        times = np.broadcast_to([one.time for one in outcome.unit], outcome.delay.shape)
    return Measured(
        up, lost[:, slow], lost[:, fast], excess[:, slow], excess[:, fast],
        times[:, fast].astype(np.float64),
        outcome.size[fast].astype(float),
    )  # fmt: skip


def never_arrives(outcome: Outcome, struck: NDArray[np.bool_], first: int) -> bool:
    """Return whether hardly any of a stream's struck packets behind its core arrives, or, in all
    copies, nothing behind about the same packet or one of the first: where a rule begins may not be
    exact, kernels acknowledge when they like, and what a share of losses holds up differs from copy
    to copy."""
    own = struck & (np.arange(len(struck)) >= first)
    arrived = (outcome.delay >= 0)[:, own]
    if arrived.size and arrived.mean() < ARRIVES:
        return True
    ends = []
    for way in (outcome.up, ~outcome.up):
        lost = outcome.lost[:, own & way]
        if lost.shape[1]:
            begins, gone = np.argmax(lost, axis=1), np.cumsum(lost, axis=1) > 0
            early = begins.max() <= EARLY_END * lost.shape[1]
            ends.append(gone[:, -1].all() and (lost == gone).all()
                        and (early or np.ptp(begins) <= NEAR_END)
                        and lost.shape[1] - begins.max() >= LEAST_BEHIND)  # fmt: skip
    return bool(ends) and all(ends)


class Paces(NamedTuple):
    """What packets showed that were sent far apart (slow) and close together (fast).

    slow, fast: the shares lost; slow_count: packets sent slowly, over all copies; late_slow,
    late_fast: ns of delay beyond the line's own.
    """

    slow: float
    fast: float
    slow_count: int
    late_slow: float
    late_fast: float


def paces(ways: list[Measured]) -> Paces:
    """Return what was seen slowly and fast, over both directions."""
    slow = np.concatenate([one.slow_lost.ravel() for one in ways])
    fast = np.concatenate([one.fast_lost.ravel() for one in ways])
    return Paces(
        slow.sum() / max(slow.size, 1),
        fast.sum() / max(fast.size, 1),
        slow.size,
        middle([one.slow_excess for one in ways]),
        top([one.fast_excess for one in ways]),
    )


def share_interval(gone: int, count: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share, (0, 1) for nothing."""
    return clopper_pearson(gone, count) or (0.0, 1.0)


def is_certain(pace: Paces, drops: bool) -> bool:
    """Return whether packets that were sent slowly are lost for certain. drops: whether the capture
    shows a drop; of few packets the first or last one may then be out of the rule's window."""
    if not drops:
        return pace.slow > 0.985
    lost = round(pace.slow * pace.slow_count)
    most = share_interval(lost, pace.slow_count)[1]
    return pace.slow > 0.96 or (pace.slow > 0.85 and most > 0.97)


def own_share(seen: float, loss: float) -> float:
    """Return the share that a rule loses, from all losses and the line's own."""
    return min(max((seen - loss) / (1 - loss), 0.0), 1.0)


def known_limit(about: Limit) -> tuple[dict[str, Any], dict[str, Number]]:
    """Return the limit that the capture's own packets have shown, as an act and its numbers."""
    return limit_numbers(about._replace(rate_error=FIRST_LOOK * about.rate,
                                        room_error=FIRST_LOOK * about.room))  # fmt: skip


def limit_numbers(found: Limit) -> tuple[dict[str, Any], dict[str, Number]]:
    """Return a limit as an act, and its numbers with 95 % intervals; how much a queue holds that
    was not filled has none."""
    room = "bucket_bytes" if found.act == "police" else "queue_ms"
    doubts = (1.96 * found.rate_error + 0.03 * found.rate,
              1.96 * found.room_error + 0.05 * found.room)  # fmt: skip
    numbers = {"rate_kbit": Number(found.rate, found.rate - doubts[0], found.rate + doubts[0])}
    if math.isfinite(found.room_error):
        low = max(found.room - doubts[1], 0.0)
        numbers[room] = Number(found.room, low, found.room + doubts[1])
    return found.fields, numbers


def near_edge(best: Hypothesis, outcome: Outcome, struck: Bools) -> Bools:
    """Return which packets come so soon after an allowance of seconds, or the begin of a window of
    seconds, that it may not have begun, or so late in a window that it may have ended: neither is
    exact, and copies are not sent at exactly the same times. struck: those that the rule strikes,
    bool[packets]."""
    first, last = span(best.keys.get("seconds", best.allowance.get("seconds", 0.0)))
    windows = "seconds" in best.keys
    if (not first and not windows) or not struck.any() or outcome.planned is None:
        return np.zeros(len(struck), bool)
    times = outcome.planned - outcome.planned[:, :1]
    own, moved = times[:, struck], float(np.ptp(times, axis=0).max())
    near = np.zeros(len(struck), bool)
    if first:
        doubt = max(DOUBT * first * 1e9, LEAST_DOUBT) + moved
        near |= (times.min(axis=0) >= own.min()) & (times.min(axis=0) < own.min() + doubt)
    if windows and last < math.inf:
        doubt = max(DOUBT * last * 1e9, LEAST_DOUBT) + moved
        near |= times.max(axis=0) > own.min() + (last - first) * 1e9 - doubt
    return near if (struck & ~near).any() else np.zeros(len(struck), bool)


class Acts:
    """Finds the act on packets that a hypothesis strikes.

    refuted: they showed no effect; by_chance: some copies lost a share of them and others none.
    """

    def __init__(self, tail: Tail, core: Probe, is_limit: bool = False) -> None:
        self.tail, self.core, self.refuted, self.by_chance = tail, core, False, False
        self.is_limit = is_limit  # whether several paces have shown a limit of the rate
        self.certain = False  # whether every struck packet was lost
        self.way: bool | None = None  # the one of two directions that shows the act, upwards or not
        self.known: list[tuple[int, int]] = []  # (lost, sent) of packets that no rule strikes
        self.strikes_controls = False  # whether it strikes all kinds of controls
        self.rule: Rule | None = None
        self.played: dict[str, list[Outcome]] = {}  # by question

    def run(self, lasts_s: float | None = None) -> tuple[dict[str, Any], dict[str, Number]]:
        """Return the act as the policy language writes it, and its parameters with intervals.

        lasts_s: how long a condemnation lasts, in s, where that is known. A second run weighs what
        the first one played.
        """
        tail = self.tail
        unit, first, fast_begin = act_unit(tail, self.core)
        rule = self.rule = tail.best.rule(lasts_s=lasts_s)
        self.refuted = self.certain = False
        if rule is None:
            return {}, {}
        if tail.sought.limit and self.core[-1].ends.proto == TCP:
            return self.limit_of_stream()
        units = [unit]
        if tail.sought.kind == PARTIAL:
            units.append(self.controls(8 * MS, CONTROLS))
        outcomes = self.ask("which act, slowly and fast", units, act_copies(tail.sought),
                            apart=self.apart(unit))  # fmt: skip
        outcome = outcomes[0]
        self.known = list(tail.base.counts)
        struck = strikes(tail.through(outcome.as_sent, True), [rule]).struck[0]
        struck &= ~near_edge(tail.best, outcome, struck)
        if tail.sought.kind == DOUBLE:  # twice as many fast ones are more than the network carries
            slow = struck & (np.arange(len(struck)) < fast_begin)
            return self.sent_otherwise(outcome, slow, tail.sought)
        if tail.sought.kind == REORDER:
            return self.sent_otherwise(outcome, struck, tail.sought)
        if tail.sought.kind == DELAY and not self.refuted:
            found = self.sent_otherwise(outcome, struck, Effect(REORDER))
            if found[0] and found[0]["delay_ms"] > LEAST_REORDERED / MS:
                return found
            self.refuted = False
        if len(outcomes) > 1:
            self.count_controls(outcomes[1], rule)
        if tail.sought.kind == PARTIAL and tail.sought.chance > 0.999:
            self.by_chance = splits(outcome, struck, max(tail.base.loss))
        outcome = self.enforced(outcome, struck)
        ways = self.ways_of(outcome, struck, fast_begin, first)
        datagrams = self.core[-1].ends.proto != TCP
        if not datagrams and never_arrives(outcome, struck, first):
            self.certain = True  # of what a gap holds back, only the gap itself counts as lost
            return {}, {}
        if not ways:  # the packet that comes again is not what the rule strikes
            return known_limit(limit_of(tail.sought.act)) if self.is_limit else ({}, {})
        pace = paces(ways)
        tail.prober.taught(f"lost slowly {pace.slow:.0%}, fast {pace.fast:.0%}")
        if is_certain(pace, tail.sought.kind == DROP) and (
            pace.fast > 0.985 or tail.sought.kind == DROP
        ):
            self.certain = True  # a condemnation that ends soon lets the fast part pass
            return {}, {}
        if datagrams:
            return self.of_datagrams(ways, pace)
        if tail.sought.kind == DROP:  # a stream shows rates only through its own control
            return {}, {}
        if tail.sought.kind == DELAY:
            # what is late of a part of its packets keeps those behind it waiting, too
            most = quantile([one.slow_excess for one in ways], 1 - LEAST_OF_PART)
            return self.delay(max(pace.late_slow, min(most, MOST_OF_PART)))
        return self.loss_of_stream(outcome, struck & (np.arange(len(struck)) >= first))

    def ways_of(
        self, outcome: Outcome, struck: Bools, fast_begin: int, first: int
    ) -> list[Measured]:  # fmt: skip
        """Return what the directions of the struck packets show; of two that differ only the one
        that shows the act. struck: bool[packets]; fast_begin, first: see `act_unit`."""
        tail, last = self.tail, self.core[-1]
        measured = (measure(tail, outcome, struck, up, fast_begin, first) for up in (True, False))
        ways = [one for one in measured if one is not None]
        datagrams = last.ends.proto != TCP
        # of a stream's packets, those that are sent again are later than a rule makes them
        part, spread = MIDDLE if datagrams else SOONEST, max(tail.base.spread)
        may_differ = len(ways) > 1 and (datagrams or tail.sought.kind == DELAY)
        if may_differ and differ(ways[0], ways[1], spread, part):
            self.way = last.up  # the other direction is another rule's
            if not datagrams:  # both directions wait where one is late: the later one is struck
                self.way = max(ways, key=lambda one: quantile([one.slow_excess], part)).up
            ways = [one for one in ways if one.up == self.way]
        return ways

    def ask(self, question: str, units: list[Probe], copies: int, **more: Any) -> list[Outcome]:
        """Return the outcomes of units; a question is played once."""
        if question not in self.played:
            self.played[question] = self.tail.prober.ask(question, units, copies, **more)
        return self.played[question]

    def of_datagrams(
        self, ways: list[Measured], pace: Paces
    ) -> tuple[dict[str, Any], dict[str, Number]]:
        """Return the act that datagrams show: a limit of a rate, a delay, or a share of losses."""
        tail = self.tail
        loss = [tail.base.loss[int(one.up)] for one in ways]
        limit = self.limit(ways, loss, pace)
        if limit is not None:
            return limit
        # too slow for these packets, or too fast
        if self.is_limit and pace.slow >= MISSED_SLOWLY * pace.fast:
            return known_limit(limit_of(tail.sought.act))
        spread, background = max(tail.base.spread), sum(loss) / len(loss)
        count = max(pace.slow_count, 1)
        if pace.late_slow > max(5 * MS, 1.5 * spread / math.sqrt(count) + 3 * MS) and (
            tail.sought.kind == DELAY  # the losses may be those of another rule
            or pace.slow < background + 0.1 + 2 * math.sqrt(background / count)
        ):
            found = self.delay(pace.late_slow)
            if found[0] or tail.sought.kind == DELAY:
                return found
            self.refuted = False
        return self.loss(ways, loss)

    def limit(
        self, ways: list[Measured], loss: list[float], pace: Paces
    ) -> tuple[dict[str, Any], dict[str, Number]] | None:
        """Return the limit of a rate that what came slowly and fast shows, None if it is none.

        loss: the line's own share of each of the ways.
        """
        sought, spread = self.tail.sought, max(self.tail.base.spread)
        # packets close together wait for each other, so a jitter grows with the rate too; only a
        # queue grows without end, or overflows
        overflows = pace.fast > pace.slow + 0.15
        queue = pace.late_fast - max(pace.late_slow, 0.0) > 25 * MS + 3 * spread and (
            pace.late_fast > 2.5 * max(pace.late_slow, 1.0)
            or (overflows and pace.late_fast > 1.4 * pace.late_slow)
        )
        policed_before = sought.detail == "police"  # which of equal packets came is a guess
        constant = not overflows and pace.late_slow > CONSTANT * pace.late_fast
        if (queue and not policed_before) or (sought.detail == "shape" and not constant):
            shaped = self.shape(ways)
            if shaped[0] or queue:
                return shaped
        chance = 2 * math.sqrt(max(pace.slow * (1 - pace.slow), 0.01) / max(pace.slow_count, 1))
        if pace.fast > sum(loss) / len(loss) + 0.02 and pace.fast - pace.slow > 0.06 + chance:
            policed = self.police(ways)
            if policed is not None and pace.slow < max(0.6 * pace.fast, pace.fast - 0.15):
                # a policer delays nothing; a short queue lets few packets wait
                waits = pace.late_fast > 10 * MS + 2 * spread and not policed_before
                shaped = self.shape(ways) if waits else ({}, {})
                return shaped if shaped[0] else policed
        return None

    def limit_of_stream(self) -> tuple[dict[str, Any], dict[str, Number]]:
        """Return the limit of a stream's rate, measured in the direction that it strikes; the one
        that several paces have shown where a policer has much more room behind the trigger alone:
        that is an allowance before the limit, which the rule does not have yet."""
        tail = self.tail
        way = tail.best.way or tail.best.keys.get("direction")
        about = limit_of(tail.sought.act)
        found = refined(tail.prober, tail.base, self.core, way != "down", about)
        if found is None:
            return known_limit(about)
        more = about.act == "police" and not tail.best.after  # a queue may hold more than was seen
        is_allowance = more and found.room > MORE_ROOM * about.room
        return known_limit(about) if is_allowance else limit_numbers(found)

    def apart(self, unit: Probe) -> int:
        """Return the time between two copies, in ns: one by one where they share a limit, as all
        subscribers of one far address do, and where a window of seconds decides."""
        best = self.tail.best
        shared = best.scope == "server" and not self.tail.prober.fresh_far
        if shared or "seconds" in best.keys:
            return one_by_one(unit)
        return APART

    def controls(self, apart: int, count: int = FEW_CONTROLS) -> Probe:
        """Return packets that show the line itself meanwhile: of the first kind that the rule does
        not strike."""
        rule = self.rule
        assert rule is not None
        kinds = ((UDP, OCTETS, False), (UDP, OCTETS, True), (UDP, TINY, False),
                 (TCP, OCTETS, False))  # fmt: skip
        for kind in kinds:
            unit = spaced_controls(self.core[-1], apart, count, *kind)
            if not strikes(self.tail.through(unit, True), [rule]).struck[0].all():
                break
        return unit

    def count_controls(self, control: Outcome, rule: Rule) -> None:
        """Add packets that the rule does not strike to those that show the line's own loss."""
        free = ~strikes(self.tail.through(control.unit, True), [rule]).struck[0]
        self.strikes_controls = float(free.mean()) < FEW_FREE
        for up in (0, 1):
            places = free & (control.up == bool(up))
            lost, sent = self.known[up]
            self.known[up] = (lost + int(control.lost[:, places].sum()),
                              sent + int(control.sent[:, places].sum()))  # fmt: skip

    def background(self, ways: list[Measured]) -> tuple[float, float]:
        """Return the line's own loss in the directions that the rule strikes, and its standard
        deviation. Where the rule strikes all kinds of controls, they show no more than an upper end
        of it, below which any share is equally likely."""
        ups = {one.up for one in ways}
        lost = sum(self.known[int(up)][0] for up in ups)
        sent = sum(self.known[int(up)][1] for up in ups)
        share = share_of(lost, sent)
        if self.strikes_controls:
            return share / 2, share / math.sqrt(12)
        return share, math.sqrt(share * (1 - share) / max(sent, 1))

    def enforced(self, outcome: Outcome, struck: NDArray[np.bool_]) -> Outcome:
        """Return the copies on which the rule is enforced: of a drop, those whose trigger was not
        lost on its way to the box."""
        certain = self.tail.sought.chance > 0.999 and not self.by_chance
        if certain and self.tail.sought.kind != DROP:
            return outcome
        excess = np.nan_to_num(self.tail.base.excess(outcome), nan=0.0)
        shows = excess > max(self.tail.sought.amount / 2, 20 * MS)
        if self.tail.sought.kind != DELAY:  # without its SYN, all of a stream is lost
            shows |= outcome.lost | outcome.resent
        if not struck.any():
            return outcome
        shares = shows[:, struck].mean(axis=1)
        own = max(self.tail.base.loss) + 0.02
        keep = shares > max(shares.max() * 0.7, 2 * own)
        return outcome.of(np.flatnonzero(keep)) if keep.any() else outcome

    # -- parameters

    def sent_otherwise(
        self, outcome: Outcome, struck: NDArray[np.bool_], sought: Effect
    ) -> tuple[dict[str, Any], dict[str, Number]]:
        """Return the share of datagrams that come twice, or that later ones overtake and how much
        later they come."""
        tail = self.tail
        affected, usable, other = affected_of(outcome, tail.base, sought)
        affected, usable = (affected & usable)[:, struck], usable[:, struck]
        gone, count = int(affected.sum()), int(usable.sum())
        own = float(other[0])
        if gone <= count * (own + 0.02) + 2:
            self.refuted = True
            return {}, {}
        excess = tail.base.excess(outcome)[:, struck]
        if sought.kind == REORDER:
            # of few packets behind it, all may be late, too: then none overtakes it
            late = float(np.median(excess[affected])) / 2
            if late > SURELY_LATE * max(tail.base.spread):
                usable = np.isfinite(excess)
                affected, own = usable & (np.nan_to_num(excess) > late), 0.0
                gone, count = int(affected.sum()), int(usable.sum())
        low, high = share_interval(gone, count)
        share = Number(*(own_share(one, own) for one in (gone / count, low, high)))
        tail.prober.taught(f"{gone} of {count} packets")
        if sought.kind == DOUBLE:
            return {"act": "duplicate", "share": round(max(share.value, 0.001), 4)}, {
                "share": share}  # fmt: skip
        rest = excess[usable & ~affected & np.isfinite(excess)] / MS
        usual = float(np.median(rest)) if len(rest) else 0.0
        late = float(np.median(excess[affected]))
        if share.low > 1 - LEAST_OF_PART or not are_on_time(usual, late / MS):
            return self.delay(late)  # all are late: others come before them
        return reordered(excess[affected] / MS - usual, share)

    def loss(
        self, ways: list[Measured], loss: list[float]
    ) -> tuple[dict[str, Any], dict[str, Number]]:
        """Return the share that is lost, and how long a bad time lasts."""
        lost = [np.concatenate([one.slow_lost, one.fast_lost], axis=1) for one in ways]
        gone = sum(int(one.sum()) for one in lost)
        count = sum(one.size for one in lost)
        if gone <= count * max(loss) + 2 * math.sqrt(count * max(loss)) + 1:
            self.refuted = True
            return {}, {}
        background, doubt = self.background(ways)
        seen = gone / max(count, 1)
        if seen > 0.985:
            self.certain = True
            return {}, {}
        low, high = share_interval(gone, count)
        share = own_share(seen, background)
        if share <= 0.0:  # controls lose as much
            self.refuted = True
            return {}, {}
        lengths = [length for one in ways for row in one.fast_lost for length in runs(row)]
        parameters: dict[str, Number] = {}
        act: dict[str, Any] = {"act": "loss", "loss": round(max(share, 0.001), 4)}
        mean = float(np.mean(lengths)) if lengths else 1.0
        chance = 1 / (1 - min(seen, 0.98))
        widened = 1.0
        if len(lengths) >= 8 and mean > 1.45 * chance:
            deviation_ = float(np.std(lengths)) / math.sqrt(len(lengths))
            burst = Number(mean, max(mean - 2 * deviation_ - 0.2, 1.0), mean + 2 * deviation_ + 0.2)
            act["burst"] = round(mean, 2)
            parameters["burst"] = burst
            widened = math.sqrt(2 * mean)
        below = math.hypot((seen - low) * widened, 1.96 * doubt)
        above = math.hypot((high - seen) * widened, 1.96 * doubt)
        parameters["loss"] = Number(
            share, max(own_share(seen - below, background), 0.0),
            own_share(min(seen + above, 1.0), background),
        )  # fmt: skip
        return act, parameters

    def loss_of_stream(
        self, outcome: Outcome, struck: NDArray[np.bool_]
    ) -> tuple[dict[str, Any], dict[str, Number]]:
        """Return the share of a stream's writes that are lost; what waits behind a lost one does
        not count."""
        affected, usable, other = affected_of(outcome, self.tail.base, self.tail.sought)
        gone, count = int((affected & usable)[:, struck].sum()), int(usable[:, struck].sum())
        own = float(other[struck].mean()) if struck.any() else 0.0
        self.tail.prober.taught(f"{gone} of {count} writes")
        if gone <= count * own + 2 * math.sqrt(count * own) + 1:
            self.refuted = True
            return {}, {}
        low, high = share_interval(gone, count)
        share = Number(*(own_share(one, own) for one in (gone / count, low, high)))
        return {"act": "loss", "loss": round(max(share.value, 0.001), 4)}, {"loss": share}

    def police(self, ways: list[Measured]) -> tuple[dict[str, Any], dict[str, Number]] | None:
        """Return the rate and the bucket of a policer, from what it lets through."""
        rates, buckets = [], []
        for one in ways:
            for copy in range(len(one.fast_lost)):
                fitted = policer(one.fast_times[copy], one.fast_sizes, one.fast_lost[copy])
                if fitted is not None:
                    rates.append(fitted[0])
                    buckets.append(fitted[1])
        if not rates:
            return None
        rate, bucket = float(np.median(rates)), float(np.median(buckets))
        if bucket < LEAST_BUCKET * min(float(one.fast_sizes.min()) for one in ways):
            return None
        loss = max(self.tail.base.loss)
        rate /= 1 - loss  # what the line lost itself was let through
        doubt = 1.96 * spread_of(rates) / math.sqrt(len(rates)) + 0.03 * rate
        unsure = 1.96 * spread_of(buckets) / math.sqrt(len(buckets)) + 0.06 * bucket + 150
        return (
            {"act": "police", "rate_kbit": round(rate, 2), "bucket_bytes": round(max(bucket, 1))},
            {"rate_kbit": Number(rate, rate - doubt, rate + doubt),
             "bucket_bytes": Number(bucket, max(bucket - unsure, 0), bucket + unsure)},
        )  # fmt: skip

    def shape(self, ways: list[Measured]) -> tuple[dict[str, Any], dict[str, Number]]:
        """Return the rate and the longest wait of a shaper, from arrivals and delays."""
        fits = [(one, fitted) for one in ways for copy in range(len(one.fast_lost)) if (
            fitted := shaper(one.fast_times[copy], one.fast_sizes, one.fast_excess[copy])
        ) is not None]  # fmt: skip
        # a direction whose packets do not fill the queue shows their own pace
        full = [fitted for one, fitted in fits if fitted[0] <= FULL * pace_of(one)]
        if not fits or (self.is_limit and not full):
            return {}, {}  # none, or one that these packets do not fill
        rates, waits = map(list, zip(*(full or [fitted for _, fitted in fits]), strict=True))
        rate, wait = float(np.median(rates)), float(np.median(waits))
        doubt = 1.96 * spread_of(rates) / math.sqrt(len(rates)) + 0.03 * rate
        unsure = 1.96 * spread_of(waits) / math.sqrt(len(waits)) + 0.05 * wait + 2
        return (
            {"act": "shape", "rate_kbit": round(rate, 2), "queue_ms": round(max(wait, 0), 1)},
            {"rate_kbit": Number(rate, rate - doubt, rate + doubt),
             "queue_ms": Number(wait, max(wait - unsure, 0), wait + unsure)},
        )  # fmt: skip

    def delay(self, about: float) -> tuple[dict[str, Any], dict[str, Number]]:
        """Return mean and deviation of a delay, from packets far apart."""
        tail = self.tail
        last = self.core[-1]
        apart = int(max(60 * MS, 2.5 * about))  # a packet waits for those before it
        packets = list(self.core)
        begin = last.time + 300 * MS + tail.wait
        for number in range(14):
            packets += sent_at(tail, last, begin + number * apart, number, "apart")
        rule = self.rule
        assert rule is not None
        copies = 6 if tail.sought.chance > 0.999 else 14
        unit, spaced = in_order(packets), self.controls(apart)
        if "seconds" in tail.best.keys:  # what comes behind the window says nothing
            hit = strikes(tail.through(unit, True), [rule]).struck[0]
            unit = unit[: max(int(np.flatnonzero(hit).max(initial=0)), len(self.core)) + 1]
        outcome, control = self.ask("how long a delay", [unit, spaced], copies,
                                    apart=self.apart(unit))  # fmt: skip
        struck = strikes(tail.through(outcome.as_sent, True), [rule]).struck[0]
        struck &= ~near_edge(tail.best, outcome, struck)
        if self.way is not None:
            struck &= outcome.up == self.way
        if last.ends.proto == TCP:
            excess = tail.base.excess(outcome)[:, struck] / MS
            part = late_part(excess, max(tail.base.spread) / MS)
            if part is not None:
                late, count = len(part), int(np.isfinite(excess).sum())
                return reordered(part, Number(late / count, *share_interval(late, count)))
        outcome = self.enforced(outcome, struck)
        excess = tail.base.excess(outcome)[:, struck]
        values = excess[np.isfinite(excess)] / MS
        free = ~strikes(tail.through(control.unit, True), [rule]).struck[0]
        known = tail.base.excess(control)[:, free]
        own_values = trimmed(known[np.isfinite(known)] / MS)
        if len(own_values) > 8 and last.ends.proto != TCP:
            values = values - float(np.mean(own_values))
        if last.ends.proto == TCP and len(values):
            values = values[values < np.median(values) + 120]
        if len(values) < 4:
            return {}, {}
        mean = float(np.mean(trimmed(values)))
        own = float(np.std(own_values)) if len(own_values) > 8 else max(tail.base.spread) / MS
        whole = float(np.std(trimmed(values)))
        jitter = math.sqrt(max(whole * whole - own * own, 0.0))
        count = len(values)
        error = 1.96 * whole / math.sqrt(count) + 0.8 + 0.2 * own
        wide = 1.96 * whole / math.sqrt(2 * count) + 0.6 + 0.3 * own
        tail.prober.taught(f"{mean:.1f} ms, deviation {jitter:.1f} ms")
        if mean <= error:
            self.refuted = True
            return {}, {}
        parameters = {"delay_ms": Number(mean, mean - error, mean + error)}
        spreads = jitter > 2.0 + 0.35 * own
        if spreads:
            parameters["jitter_ms"] = Number(jitter, max(jitter - wide, 0.0), jitter + wide)
        if spreads and abs(mean - 3.5 * jitter) < 0.16 * mean + 2:
            # the policy language's jitter adds its own mean, 3.5 deviations
            best = (jitter / wide**2 + mean / 3.5 / (error / 3.5) ** 2) / (
                1 / wide**2 + 1 / (error / 3.5) ** 2
            )
            half = 1 / math.sqrt(1 / wide**2 + 1 / (error / 3.5) ** 2)
            return {"act": "jitter", "jitter_ms": round(best, 2)}, {
                "jitter_ms": Number(best, best - half, best + half)
            }
        act: dict[str, Any] = {"act": "delay", "delay_ms": round(max(mean, 0.1), 2)}
        if spreads:
            act["jitter_ms"] = round(jitter, 2)
        return act, parameters


def late_part(excess: Floats, spread: float) -> Floats | None:
    """Return the delays of the packets of a stream that come late, in ms, where a part of those
    far apart is late, all of that alike, and the others are on time in the same copies: what a
    receiver sees of segments out of order; None otherwise.

    excess: delay beyond the line's own, ms, float64[copies, packets]; spread: its deviation, ms.
    """
    known = np.isfinite(excess)
    late = known & (excess > SURELY_LATE * spread + LEAST_REORDERED / MS / 2)
    few = min(int(late.sum()), int((known & ~late).sum()))
    if few < LEAST_OF_PART * known.sum() or few < LEAST_LATE:
        return None
    mixed = late.any(axis=1) & (known & ~late).any(axis=1)
    values = excess[late]
    middle = float(np.median(values))
    alike = np.abs(values - middle) < SURELY_LATE * spread + ALIKE_LATE * middle
    if 2 * mixed.sum() <= mixed.size or alike.mean() < CONSTANT:
        return None
    if not are_on_time(float(np.median(excess[known & ~late])), middle):
        return None
    return np.asarray(values[alike])


def are_on_time(usual: float, late: float) -> bool:
    """Return whether packets are on time next to others that are late. usual, late: how late both
    are, medians in ms."""
    return usual < max(ON_TIME * late, LEAST_ON_TIME)


def reordered(late: Floats, share: Number) -> tuple[dict[str, Any], dict[str, Number]]:
    """Return the act that delays a share of packets, so that others come before them, and its
    numbers. late: delays of packets that are late, in ms."""
    delay = float(np.median(late))
    doubt = 1.25 * 1.96 * float(np.std(late)) / math.sqrt(len(late)) + 1.0
    return {"act": "reorder", "share": round(max(share.value, 0.001), 4),
            "delay_ms": round(max(delay, 0.1), 1)}, {
        "share": share, "delay_ms": Number(delay, delay - doubt, delay + doubt)}  # fmt: skip


def pace_of(way: Measured) -> float:
    """Return the rate at which the packets of the fast part were sent, kbit/s."""
    seconds = np.ptp(way.fast_times, axis=1)
    return float(way.fast_sizes.sum() / max(np.median(seconds), 1.0) * 8e6)


def differ(one: Measured, other: Measured, spread: float, part: float) -> bool:
    """Return whether what was sent slowly shows other losses, or other delays, in one direction
    than in the other one. spread: the deviation of the line's own delay, ns; part: quantile of the
    delays that is compared."""
    arrived = min(int(np.isfinite(way.slow_excess).sum()) for way in (one, other))
    waits = [quantile([way.slow_excess], part) for way in (one, other)]
    late = arrived >= LEAST_LATE and abs(waits[0] - waits[1]) > 25 * MS + 3 * spread
    gone, count = ([int(way.slow_lost.sum()) for way in (one, other)],
                   [way.slow_lost.size for way in (one, other)])  # fmt: skip
    if min(count) < LEAST_SENT:
        return late
    shares = [some / whole for some, whole in zip(gone, count, strict=True)]
    mean = max(sum(gone), 1) / sum(count)
    error = math.sqrt(mean * (1 - mean) * sum(1 / whole for whole in count))
    return late or abs(shares[0] - shares[1]) > max(UNLIKE * error, LEAST_UNLIKE)


def act_copies(sought: Effect) -> int:
    """Return how many copies show which act it is: more where some copies may not be struck."""
    if sought.chance <= 0.999:
        return 6
    if sought.kind == PARTIAL:
        return 4 if sought.amount > 0.25 else 8
    return 3 if sought.kind == DROP else 2


def splits(outcome: Outcome, struck: NDArray[np.bool_], background: float) -> bool:
    """Return whether some copies of a unit lose a share of the struck packets and others only what
    the line itself loses: a rule enforced by chance."""
    lost = (outcome.lost | outcome.resent)[:, struck]
    if lost.shape[1] < 20:
        return False
    shares = lost.mean(axis=1)
    most, least = float(shares.max()), float(shares.min())
    deviation_ = math.sqrt(most * (1 - most) / lost.shape[1]) + 0.01
    free = background + 3 * math.sqrt(background * (1 - background) / lost.shape[1]) + 0.01
    return least <= free and most - least > max(6 * deviation_, 0.04)


def spaced_controls(
    last: Sent, apart: int, count: int, proto: int, size: int, plain: bool
) -> Probe:  # fmt: skip
    """Return noise (plain: nearly all zeros) between other hosts than a packet's, as far apart as
    packets whose act is measured."""
    ends = Ends(proto, NEAR[len(last.ends.near)], 2, far_addresses(last.ends.far)[1], 28_411)
    packets = []
    for number in range(count):
        for up in (True, False):
            body = (zeros if plain else noise)(size, "spaced", number, up)
            packets.append(Sent(number * apart + (0 if up else MS), up, ends, body))
    return tuple(packets)


def trimmed(values: Floats) -> Floats:
    """Return values without outliers beyond five robust deviations."""
    if not len(values):
        return values
    spread = max(deviation(values), 0.5)
    return values[np.abs(values - np.median(values)) < 5 * spread]


def middle(parts: list[Floats]) -> float:
    """Return the median of what is finite, 0 for nothing."""
    return quantile(parts, MIDDLE)


def top(parts: list[Floats]) -> float:
    """Return the 90th percentile of what is finite, 0 for nothing."""
    return quantile(parts, 0.9)


def quantile(parts: list[Floats], part: float) -> float:
    """Return a quantile of what is finite, 0 for nothing."""
    values = np.concatenate([one[np.isfinite(one)] for one in parts])
    return float(np.quantile(values, part)) if len(values) else 0.0


def spread_of(values: list[float]) -> float:
    """Return the standard deviation of some values, 0 for one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
