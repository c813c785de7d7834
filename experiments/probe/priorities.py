# SPDX-License-Identifier: BSD-3-Clause
"""Whether packets with some code points wait in a queue as others do.

The queue of a rule is filled with packets of code point 0. Between them, one packet of each other
code point is sent. Those that do not wait as long as their neighbours go first. Packets of such a
code point, sent faster than the rate, show the rate of the whole queue. Of packets of code point 0,
sent faster than that at random times, fewer pass where cross-traffic shares it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise.messages import noise
from midcall.experiments.probe.acts import Acts, Number, spread_of
from midcall.experiments.probe.code_points import word_of
from midcall.experiments.probe.expected import Model
from midcall.experiments.probe.prober import MS, SHARE, Outcome
from midcall.experiments.probe.rates import ramps, shaper
from midcall.experiments.probe.tails import Tail
from midcall.experiments.probe.units import marked
from midcall.testbed.probing.probe import Probe, Sent, ip_size
from midcall.testbed.probing.strikes import strikes

Floats = NDArray[np.float64]

#: Copies of a unit, and those that must show its queue at least; code points that are tried.
COPIES, FEWEST, POINTS = 6, 2, tuple(range(1, 64))
#: Service time of a packet in ns that is aimed at, and least and most octets of its payload.
SERVICE, LEAST_OCTETS, MOST_OCTETS = 5 * MS, 12, 1_200
#: Wait that is aimed at, as a share of the longest one, and at most, in ns; share by which packets
#: then come faster than the queue's rate.
FILLED, LONGEST, GROWS = 0.7, 300 * MS, 0.04
#: Wait of packets that go first, at most, as a share of their neighbours' wait: at the first look,
#: which sends each so often, and where only those that passed it are sent, so many in all at least.
LOOKS, ROUNDS, PASSES, AGAIN = 0.7, 2, 0.6, 24
#: Share of them that must wait so little: the others come while a large packet of cross-traffic is
#: under way, which even those that go first wait for.
FREE = 0.25
#: Share of the code points about which a unit must say something.
KNOWN = 0.8
#: Seconds of the units that show rates, and packets at most; the largest rate that differs from
#: the pace of the packets, as a share of it.
SECONDS, MOST, BELOW = 2.0, 2_000, 0.9
#: Cross-traffic that counts, as a share of the rate; the pace at which a queue overflows, and the
#: least one, as such shares; the wait of a full queue, as a share of the longest; seconds of that.
LEAST_CROSS, OVERLOAD, LEAST_OVERLOAD, FULL, SLOWLY = 0.05, 1.5, 1.15, 0.85, 4.0
#: Steps in which cross-traffic is fitted, and copies in virtual time of each.
FITTED, MODELLED = 3, 12
#: Octets of a packet of others that are assumed, which come at random times, and octets that a
#: queue must have room for: of few packets, chance decides.
OTHERS, LEAST_ROOM = 1_500, 6_000


class Classes(NamedTuple):
    """Which code points go first in a queue, () for none; rate: of the queue, in kbit/s, None where
    it could not be measured; cross: of cross-traffic, in kbit/s, None where it is not known."""

    first: tuple[int, ...]
    rate: Number | None = None
    cross: Number | None = None

    def act(self, shape: dict[str, Any]) -> dict[str, Any]:
        """Return the act, of which the limit was measured as a shaper."""
        more = {"rate_kbit": round(self.rate.value, 2)} if self.rate is not None else {}
        if self.cross is not None and self.cross.value > 0:
            more["cross_kbit"] = round(self.cross.value, 1)
        return shape | more | {"act": "prioritise", "first": [word_of(one) for one in self.first]}


class Filling:
    """Makes packets that wait in a queue. octets: of a payload that is no copy of the trigger's, 0
    for as many as the queue's rate serves in SERVICE."""

    def __init__(self, tail: Tail, core: Probe, act: dict[str, Any], octets: int = 0) -> None:
        self.tail, self.core, self.last, self.act = tail, core, core[-1], act
        self.rate, self.longest = float(act["rate_kbit"]), float(act["queue_ms"]) * MS
        way = tail.best.way or tail.best.keys.get("direction")
        self.up = self.last.up if tail.repeats or way is None else way == "up"
        fits = int(self.rate * SERVICE / 8e6) - 28
        self.octets = octets or min(max(fits, LEAST_OCTETS), MOST_OCTETS)
        one = self.packet(0, 0)
        self.size = ip_size(one)
        self.service = self.size * 8e6 / self.rate
        self.begin = self.last.time + 300 * MS
        #: Least distance of two packets on the access network, in ns.
        self.apart = self.size * 8e6 / (tail.prober.rate[self.up] * SHARE)

    def packet(self, time: float, number: int, dscp: int = 0) -> Sent:
        """Return a packet that the rule strikes."""
        if self.tail.repeats:
            body = marked(self.last, number)
            return self.last._replace(time=int(time), payload=body, dscp=dscp)
        body = noise(self.octets, "queue", number)
        return self.last._replace(time=int(time), up=self.up, payload=body, before=(), dscp=dscp)

    @property
    def is_possible(self) -> bool:
        """Return whether packets may be faster than the queue, and differ from each other."""
        differ = self.packet(0, 0).payload != self.packet(0, 1).payload
        return self.last.ends.proto != TCP and differ and self.apart < 0.8 * self.service

    def filled(self, points: Sequence[int]) -> Iterator[Sent]:
        """Yield packets that fill the queue, and then one of each code point between others."""
        gap = max(self.apart, self.service / 4)
        wait = min(FILLED * self.longest, LONGEST)
        count = max(math.ceil(wait / (self.service - gap)), 2)
        for number in range(count):
            yield self.packet(self.begin + number * gap, number)
        time = self.begin + count * gap
        apart = self.service * (1 - self.tail.base.loss[int(self.up)] - GROWS)
        for at, dscp in enumerate(points):
            yield self.packet(time, count + 2 * at, dscp)
            yield self.packet(time + apart, count + 2 * at + 1)
            time += 2 * apart

    def steady(self, pace: float, dscp: int) -> Iterator[Sent]:
        """Yield packets of a code point at a pace, in kbit/s."""
        gap = max(self.size * 8e6 / pace, self.apart)
        for number in range(int(min(SECONDS * 1e9 / gap, MOST))):
            yield self.packet(self.begin + number * gap, number, dscp)

    def at_random(self, pace: float) -> Iterator[Sent]:
        """Yield packets of code point 0 at random times (a Poisson process, but for the least
        distance on the access network), at a pace in kbit/s."""
        gap = max(self.size * 8e6 / pace, self.apart)
        count = int(min(SLOWLY * 1e9 / gap, MOST))
        waits = np.random.default_rng(count).exponential(gap - self.apart, count) + self.apart
        for number, time in enumerate(np.cumsum(waits)):
            yield self.packet(self.begin + float(time), number)

    def asked(self, question: str, packets: Sequence[Sent]) -> Outcome | None:
        """Play packets behind the core, one copy after the other; None where the rule does not
        strike all of them."""
        unit = (*self.core, *packets)
        rule = self.tail.best.rule()
        if (
            rule is None
            or not strikes(self.tail.through(unit, True), [rule]).struck[0, len(self.core) :].all()
        ):
            return None
        return self.tail.prober.ask(question, [unit], COPIES, apart=self.apart_of(unit))[0]

    def apart_of(self, unit: Probe) -> int:
        """Return the time in ns between two copies of a unit, which do not meet in the queue."""
        return int(max(Acts(self.tail, self.core).apart(unit), unit[-1].time + 300 * MS))

    def modelled(self, packets: Sequence[Sent], queue: Classes) -> list[float]:
        """Return which share of packets passes a full queue in virtual time, see `shares`."""
        rule = self.tail.best.rule(queue.act(self.act))
        if rule is None:
            return []
        unit = (*self.core, *packets)
        prober = Model(self.tail.prober, self.tail.base, [rule]).prober
        return self.shares(prober.ask("", [unit], MODELLED, apart=self.apart_of(unit))[0])

    def shares(self, outcome: Outcome) -> list[float]:
        """Return which share of the packets behind the core arrived of each copy that filled the
        queue, from when on it was full."""
        result = []
        for row in self.waits(outcome):
            full = np.flatnonzero(np.isfinite(row) & (row > FULL * self.longest))
            if len(full) and full[0] < len(row) // 2:
                result.append(float(np.isfinite(row[full[0] :]).mean()))
        return result

    def waits(self, outcome: Outcome) -> Floats:
        """Return how long each packet behind the core waited in the queue, in ns, without its own
        service; nan for those that did not arrive. float64[copies, packets]."""
        return self.tail.base.excess(outcome)[:, len(self.core) :] - self.service


def classes(tail: Tail, core: Probe, act: dict[str, Any]) -> Classes | None:
    """Return which code points go first in the queue of a rule that shapes, None where the queue
    does not show it. act: as the policy language writes it."""
    filling = Filling(tail, core, act)
    if not filling.is_possible:
        return None
    first = POINTS
    for most in (LOOKS, PASSES):
        packets = list(filling.filled(first * max(-(-AGAIN // len(first)), ROUNDS)))
        outcome = filling.asked("which code points wait in the queue", packets)
        if outcome is None:
            return None
        passes = goes_first([one.dscp for one in packets], filling.waits(outcome), most,
                            2 * filling.service, max(tail.base.spread))  # fmt: skip
        if passes is None:
            tail.prober.taught("the queue did not fill")
            return None
        first = passes
        tail.prober.taught(f"{len(first)} code points go first" if first else "all wait")
        if not first:
            return Classes(())
    rate = rate_of(filling, first[0])
    if rate is None:
        return Classes(first)
    queue = Classes(first, rate)
    return queue._replace(cross=cross_traffic(tail, core, act, queue))


def cross_traffic(tail: Tail, core: Probe, act: dict[str, Any], queue: Classes) -> Number | None:
    """Return the rate of cross-traffic in kbit/s, None where it is not known."""
    fillings = () if tail.repeats else (Filling(tail, core, act, size) for size in (MOST_OCTETS, 0))
    found = (cross_of(one, queue) for one in fillings)
    return next((one for one in found if one is not None), None)


def goes_first(
    points: Sequence[int], waits: Floats, most: float, least: float, spread: float
) -> tuple[int, ...] | None:
    """Return the code points of whose packets some wait clearly less than their neighbours of code
    point 0, None where too few of these waited.

    points: of each packet; waits: ns, float64[copies, packets], nan for lost ones, which count as
    ones that waited as long as any; most: wait as a share of the neighbours'; least: ns that these
    must wait; spread: standard deviation of the line's own delay, in ns.
    """
    others = np.array([dscp == 0 for dscp in points])
    if not np.isfinite(waits[:, others]).any():
        return None
    longest = float(np.nanquantile(waits[:, others], 0.9))
    waits = np.where(np.isfinite(waits), waits, longest)
    waits = waits[np.median(waits[:, others], axis=1) > least]  # the trigger may be lost
    if len(waits) < FEWEST:
        return None
    doubt = 1.25 * spread / math.sqrt(len(waits))
    first, known = [], 0
    tried = sorted({dscp for dscp in points if dscp})
    for dscp in tried:
        own = [at for at, one in enumerate(points) if one == dscp]
        near = np.stack([waits[:, next_to(at, others)].mean(axis=1) for at in own], axis=1)
        shares = (waits[:, own] / near)[near > least + 4 * doubt]
        if len(shares):
            known += 1
            if float(np.quantile(shares, FREE)) < most:
                first.append(dscp)
    return tuple(first) if known >= KNOWN * len(tried) else None


def next_to(at: int, others: NDArray[np.bool_]) -> list[int]:
    """Return the places of the packets next to one that have code point 0."""
    return [near for near in (at - 1, at + 1) if near < len(others) and others[near]]


def rate_of(filling: Filling, dscp: int) -> Number | None:
    """Return the rate of a queue in kbit/s, by packets that go first, None where these do not
    wait for each other."""
    pace = filling.size * 8e6 / filling.apart
    packets = list(filling.steady(pace, dscp))
    outcome = filling.asked("at which rate those that go first pass", packets)
    if outcome is None:
        return None
    times = np.array([one.time for one in packets], np.float64)
    sizes = np.full(len(packets), float(filling.size))
    excess = filling.waits(outcome) + filling.service
    fitted = [shaper(times, sizes, row) for row in excess if ramps(row)]
    rates = [one[0] for one in fitted if one is not None]
    if len(rates) < FEWEST or np.median(rates) > BELOW * pace:
        filling.tail.prober.taught("faster than the access network")
        return None
    rate = float(np.median(rates))
    doubt = 1.96 * spread_of(rates) / math.sqrt(len(rates)) + 0.03 * rate
    filling.tail.prober.taught(f"{rate:.1f} kbit/s")
    return Number(rate, rate - doubt, rate + doubt)


def cross_of(filling: Filling, queue: Classes) -> Number | None:
    """Return the rate of cross-traffic in kbit/s, None where the access network is too slow or the
    queue too short.

    A full queue drops packets that come at random times and those of others alike, so that of both
    as much passes as the rate allows (PASTA, R. W. Wolff, Poisson Arrivals See Time Averages,
    1982). What access networks change in that, and the times of these packets, the same packets
    show through a queue of this rate in virtual time. queue: with its rate.
    """
    assert queue.rate is not None
    rate = queue.rate.value
    pace = min(OVERLOAD * rate, filling.size * 8e6 / filling.apart)
    if pace < LEAST_OVERLOAD * rate or rate * filling.longest / 8e6 < LEAST_ROOM:
        return None
    packets = list(filling.at_random(pace))
    outcome = filling.asked("whether others share the rate", packets)
    shares = [] if outcome is None else filling.shares(outcome)
    if len(shares) < FEWEST:
        return None
    share = float(np.median(shares))
    cross = max(rate / share - pace, 0.0)
    for _ in range(FITTED):
        modelled = filling.modelled(packets, queue._replace(cross=Number(cross, cross, cross)))
        if len(modelled) < FEWEST:
            return None
        cross = max(cross + rate / share - rate / float(np.mean(modelled)), 0.0)
    others = max(cross * 125 * SLOWLY / OTHERS, 1.0)  # packets of theirs in a copy
    noises = [1.25 * spread_of(some) / math.sqrt(len(some)) for some in (shares, modelled)]
    noises += [share * cross / rate / math.sqrt(others * len(some)) for some in (shares, modelled)]
    doubt = 1.96 * rate / share**2 * math.hypot(*noises, 0.01 * share)
    filling.tail.prober.taught(f"cross-traffic of {cross:.1f} kbit/s")
    if cross < max(LEAST_CROSS * rate, doubt):
        return Number(0.0, 0.0, max(cross + doubt, LEAST_CROSS * rate))
    return Number(cross, cross - doubt, cross + doubt)
