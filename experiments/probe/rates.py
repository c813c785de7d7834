# SPDX-License-Identifier: BSD-3-Clause
"""The limit of a flow's rate: a policer's rate and bucket, or a shaper's rate and queue.

What a bucket of B octets and a rate of R octets per second let through in t seconds is B + R t at
most (ITU-T I.371), and a queue of d seconds R t + R d. Several paces give both numbers. Of
datagrams, all that arrive count. Of a stream, only the first segment that is dropped counts,
because kernels send again what is lost: neither losses nor the time of a transfer show the limit. A
queue also delays what comes before the first drop, more and more.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom  # type: ignore[import-untyped]

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.messages import noise
from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.fit import late_of
from midcall.experiments.probe.line_oracle import DELAY, DROP, PARTIAL
from midcall.experiments.probe.prober import MS, SHARE, STREAM_SHARE, Outcome, Prober
from midcall.experiments.probe.units import marked
from midcall.testbed.probing.probe import Probe, Sent, in_order, ip_size

Floats = NDArray[np.float64]

#: Acts that limit a rate.
LIMITS = ("police", "shape", "prioritise")

#: Packets of the flow before the writes, and before those of one whose packets are only late, at
#: most; ns between two of them, and before the first write: a bucket is full again and a queue
#: empty.
BEFORE, BEFORE_QUEUE, BEFORE_APART, REST = 8, 48, 150 * MS, 2_500 * MS
#: Packets of the flow before the writes where the limit may begin late in it, at most.
BEFORE_LATE = 96
#: Time before the first write where the limit may end soon, in ns.
SHORT_REST = 300 * MS
#: Copies; of writes at several paces as many as leave ALONE of them expected of which the line
#: loses none of EARLY writes, FEW_COPIES at least.
COPIES, FEW_COPIES, ALONE, EARLY = 8, 5, 4, 20
#: Octets of a write, writes and seconds of a pace at most, and the least distance of two writes, in
#: ns.
OCTETS, WRITES, SECONDS, LEAST_APART = 500, 90, 5.0, 2 * MS
#: Between the starts of two copies, in ns, at least, and how much more of the access network's time
#: they take than once: kernels send again what a limit drops.
BETWEEN, AGAIN = 150 * MS, 3.0
#: Paces of the first look, each this part of the one before.
PACES, SLOWER = 5, 0.4
#: Paces of the second look, as multiples of the rate that the first one found.
AROUND = (1.7, 2.6, 6.0)
#: The same where the first one found no rate, as multiples of the slowest one with a drop.
NEXT = (1.4, 1.0, 0.7, 0.45, 0.3)
#: Single writes: octets of small and of large ones, how many of each, and their distance in ns.
SMALL, LARGE, SINGLE, SINGLE_APART = 40, 500, 7, 800 * MS
#: Delay beyond the line's own that a segment has which was sent again, in ns, at least.
SENT_AGAIN = 90 * MS
#: Delay beyond the line's own of single writes that are late, in ns, at least.
LATE_ALIKE = 20 * MS
#: How much later than the first write one may be that does not wait for others, in ns.
CAUGHT_UP = 60 * MS
#: Copies that show the first drop at the same write, at least, and how far apart, as a share.
TOGETHER, NEARLY = 3, 0.15
#: How much faster than a queue's rate writes come whose arrivals show it.
BUSY = 1.5
#: Datagrams of one pace, at least and at most; paces as multiples of the flow's own; the longest
#: one in s.
LEAST_BODY, MOST_BODY, OF_USUAL, LONGEST = 60, 120, (4.0, 2.0, 1.0, 0.5, 0.25), 20.0
#: How much faster than the slowest pace that loses some of these, or than all of them, datagrams
#: are sent where they show no limit, for how many seconds, and how many of them at most; sizes of
#: which they are, as a share of the largest one.
BEYOND, FASTER, STEADY, MOST_STEADY, OF_LARGEST = 2.0, 6.0, 4.0, 400, 0.6
#: Mean share of losses below which a limit may let packets pass; error of a limit that one pace
#: shows, as a share, at least.
SOME_ARRIVE, STEADILY = 0.97, 0.02
#: Packets from the first lost one on that do not tell whether later ones arrive, at most, and
#: packets that arrive before it, at least, where a limit may be what begins there.
FEW_BEHIND, SOME_BEFORE = 4, 8
#: Share of losses beyond the line's own at a pace that counts, and how much more must pass in more
#: time, as a share of what passes at the fastest pace.
LEAST_LOST, GROWS = 0.06, 0.2
#: Packets that show whether a delay is the same for all, at least; parts of the median that are,
#: and the share of packets that must be.
LEAST_EQUAL, EQUALLY, MOST_EQUAL = 5, (0.7, 1.5), 0.85
#: Packets before the first one that never arrives which a limit would delay, and the share of
#: copies in which one of them may be sent again where there is none.
LAST, SENT_ONCE = 4, 0.3
#: Share of a pace below which a queue's rate is not the pace itself, and how much the rates of the
#: copies may differ.
FULL, UNLIKE = 0.9, 0.3
#: kbit/s below which a bucket hardly fills again: it is an allowance then, no limit of a rate.
LEAST_RATE = 1.0
#: Share of packets that later ones overtake by chance from which they do not wait in one queue.
OVERTAKEN = 0.1
#: Part by which the last third of the waits from half the longest one on exceeds the first third
#: where a queue fills; a straight rise makes it 1.6.
GROWN = 1.2
#: Chance below which losses of single writes are more than the line's own.
BY_CHANCE = 1e-3


class Drop(NamedTuple):
    """The first drop at one pace. octets: written before it; size: of a write, IP octets; seconds:
    since the first write; wait: ns by which the last write before it was delayed; rates: octets/s
    at which the writes before it arrived, of the copies that show the drop."""

    octets: float
    size: float
    seconds: float
    wait: float
    rates: tuple[float, ...] = ()


class Limit(NamedTuple):
    """A limit of a rate: police or shape, kbit/s, and the bucket in octets or the wait in ms; each
    with its standard error, which is inf where a queue was not filled and may hold more. shown: the
    play of packets at the fastest pace."""

    act: str
    rate: float
    room: float
    rate_error: float
    room_error: float
    shown: Outcome | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """Return the act as the policy language writes it."""
        if self.act == "police":
            return {"act": "police", "rate_kbit": round(self.rate, 2),
                    "bucket_bytes": max(round(self.room), 1)}  # fmt: skip
        return {"act": "shape", "rate_kbit": round(self.rate, 2),
                "queue_ms": round(max(self.room, 1.0), 1)}  # fmt: skip


def written(own: bytes, octets: int, *names: object) -> bytes:
    """Return what is written: octets of noise, or those of a payload, again and again."""
    return (own * (octets // len(own) + 1))[:octets] if own else noise(octets, *names)


def paced_unit(
    core: Sequence[Sent], up: bool, octets: int, apart: int, count: int, own: bytes = b"",
    rest: int = REST,
) -> Probe:  # fmt: skip
    """Return a trigger's packets, slowly, and behind a pause (ns) writes in one direction: of
    noise, or of an own payload."""
    last = core[-1]
    packets = [one._replace(time=number * BEFORE_APART) for number, one in enumerate(core)]
    begin = packets[-1].time + rest
    packets += [
        Sent(begin + number * apart, up, last.ends, written(own, octets, "paced", number, up))
        for number in range(count)
    ]
    return in_order(packets)


def first_drop(outcome: Outcome, base: Baseline, core: int, rate: float = 0.0) -> Drop | None:
    """Return where the writes behind a core begin to be dropped, None if they do not.

    A limit drops the same write of each copy that the line left alone until then; no copy gets
    further. From there on all writes are late: behind what the line itself loses they catch up.
    rate: of a queue that delays the writes, octets/s; 0 for none.
    """
    times, sizes, excess = writes_of(outcome, base, core)
    if excess.shape[1] < 3:
        return None
    own = sizes / rate * 1e9 if rate else np.zeros(len(sizes))
    before = np.maximum(np.maximum.accumulate(excess, axis=1)[:, :-1], 0.0)
    before = np.concatenate([np.zeros((len(excess), 1)), before], axis=1)
    if rate:  # in a queue writes wait longer and longer, until one is sent again
        late = excess > before + own + SENT_AGAIN
        first = np.where(late.any(axis=1), late.argmax(axis=1), len(times))
    else:
        first = behind_last(excess < np.median(excess[:, 0]) + CAUGHT_UP)
    furthest = int(first.max())
    if furthest == len(times):
        return None
    together = np.flatnonzero(first >= furthest - max(2, round(NEARLY * furthest)))
    if len(together) < TOGETHER:
        return None
    at = int(np.sort(first)[-2])
    wait = float(np.quantile(before[together, np.minimum(first[together], at)], 0.25))
    rates = [queued_rate(times[:at], sizes[:at], excess[copy, :at]) for copy in together]
    return Drop(
        float(sizes[:at].sum()), float(sizes[at]), float(times[at] - times[0]) / 1e9, wait,
        tuple(one for one in rates if one),
    )  # fmt: skip


def stop_at_different_writes(outcome: Outcome, base: Baseline, core: int) -> bool:
    """Return whether most copies of the writes behind a core come late from different writes on: a
    limit of all that goes to their common host delays them."""
    _, _, excess = writes_of(outcome, base, core)
    if len(excess) < TOGETHER or excess.shape[1] < 3:
        return False
    first = behind_last(excess < np.median(excess[:, 0]) + CAUGHT_UP)
    stop = first[first < excess.shape[1]]
    return len(stop) > len(first) / 2 and np.ptp(stop) > 2 * max(2, NEARLY * stop.max())


def behind_last(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the place behind the last flag of each row, 0 for none. flags: bool[rows, places]."""
    last = flags.shape[1] - np.argmax(flags[:, ::-1], axis=1)
    return np.where(flags.any(axis=1), last, 0)


def queued_rate(times: Floats, sizes: Floats, excess: Floats) -> float:
    """Return the rate in octets/s at which writes that wait for each other arrive, 0 if there are
    too few."""
    if len(times) < 8 or not np.isfinite(excess).all():
        return 0.0
    arrivals = (times + excess - times[0]) / 1e9
    slope = float(np.polyfit(arrivals, np.cumsum(sizes), 1)[0])
    return max(slope, 0.0)


def writes_of(outcome: Outcome, base: Baseline, core: int) -> tuple[Floats, Floats, Floats]:
    """Return times in ns, IP octets and delays beyond the line's own (ns, inf for what never
    arrived) of the writes behind a core; the copies whose stream was open alone."""
    excess = base.excess(outcome)[:, core:]
    excess = np.where(np.isfinite(excess), excess, np.inf)
    excess = excess[outcome.sent[:, core:].all(axis=1)]
    times = np.array([one.time for one in outcome.as_sent[core:]], np.float64)
    if len(excess) < COPIES // 2:
        excess = excess[:, :0]
    return times, outcome.size[core:].astype(float), excess


def single_unit(core: Sequence[Sent], up: bool, own: bytes = b"") -> Probe:
    """Return a trigger's packets and single small and large writes behind them: of noise, or of an
    own payload."""
    last = core[-1]
    packets = [one._replace(time=number * BEFORE_APART) for number, one in enumerate(core)]
    begin = packets[-1].time + REST
    for number in range(2 * SINGLE):
        body = written(own, LARGE if number % 2 else SMALL, "single", number, up)
        packets.append(Sent(begin + number * SINGLE_APART, up, last.ends, body))
    return tuple(packets)


def queue_rate(outcome: Outcome, base: Baseline, core: int) -> tuple[float, float] | None:
    """Return (octets/s, standard error) of a queue that delays a write by its own octets: the
    large ones more than the small ones; (0, 0) for none, None where single writes are lost."""
    _, sizes, excess = writes_of(outcome, base, core)
    if not excess.size:
        return None
    large = sizes > sizes.mean()
    usual_of = np.where(large, np.median(excess[:, large]), np.median(excess[:, ~large]))
    waits = np.median(excess, axis=0) > usual_of + SENT_AGAIN  # for the trigger's own packets
    begin = min(int(waits.argmin()), len(sizes) // 2)
    sizes, large, excess = sizes[begin:], large[begin:], excess[:, begin:]
    low, high = excess[:, ~large], excess[:, large]
    usual = float(np.median(high[np.isfinite(high)])) if np.isfinite(high).any() else 0.0
    gone = int((excess > usual + SENT_AGAIN + 4 * max(base.spread)).sum())
    share = min(2 * max(base.loss), 0.5)
    if binom.sf(gone - 1, excess.size, share) < BY_CHANCE:
        return None
    kept = [one[np.isfinite(one) & (one < usual + SENT_AGAIN + 4 * max(base.spread))]
            for one in (low, high)]  # fmt: skip
    if min(map(len, kept)) < 8:
        return None
    longer = float(np.median(kept[1]) - np.median(kept[0]))
    error = 1.25 * math.hypot(*(float(np.std(one)) / math.sqrt(len(one)) for one in kept))
    if longer < max(4 * error, 4 * MS):
        return 0.0, 0.0
    rate = float(sizes[large].mean() - sizes[~large].mean()) / longer * 1e9
    return rate, rate * error / longer


def policer_of(drops: Sequence[Drop]) -> Limit | None:
    """Return the policer that drops at several paces show, None where they do not agree on one."""
    if len(drops) < 2:
        return None
    seconds = np.array([one.seconds for one in drops])
    octets = np.array([one.octets + one.size / 2 for one in drops])
    half = float(np.mean([one.size for one in drops])) / math.sqrt(12)
    if np.ptp(seconds) < 0.05:
        return None
    rate, room = (float(one) for one in np.polyfit(seconds, octets, 1))
    rest = octets - (room + rate * seconds)
    if rate <= 0 or room <= 0 or float(np.abs(rest).max()) > 6 * half + 0.1 * octets.max():
        return None
    own = max(half, float(np.sqrt((rest**2).sum() / max(len(rest) - 2, 1))))
    error = own / math.sqrt(float(((seconds - seconds.mean()) ** 2).sum()))
    if rate < 3 * error:
        return None
    room_error = math.hypot(own / math.sqrt(len(rest)), error * float(seconds.mean()))
    return Limit("police", rate / 125, room, error / 125, room_error)


def shaper_of(drops: Sequence[Drop], rate: float, error: float, longest: float) -> Limit:
    """Return the shaper with a rate (octets/s) whose queue overflows where drops show it; without
    any, its queue holds `longest` ns at least."""
    waits = []
    queued = [value for one in drops if one.seconds and one.octets / one.seconds > BUSY * rate
              for value in one.rates]  # fmt: skip
    queued = [value for value in queued if abs(value - rate) < 3 * error]
    if len(queued) >= TOGETHER:
        other = max(float(np.std(queued)) / math.sqrt(len(queued)), 0.01 * rate)
        if other < error:
            rate, error = float(np.median(queued)), other
    for one in drops:
        step = one.size / rate * 1e9 - (one.seconds * one.size / one.octets * 1e9
                                        if one.octets else 0.0)  # fmt: skip
        waits.append(max(one.wait - one.size / rate * 1e9, 0.0) + max(step, 0.0) / 2)
    if not waits:
        return Limit("shape", rate / 125, longest / MS, error / 125, math.inf)
    wait = float(np.median(waits))
    doubt = float(np.std(waits)) / math.sqrt(len(waits)) if len(waits) > 1 else 0.2 * wait
    return Limit("shape", rate / 125, wait / MS, error / 125, doubt / MS + 1)


def single_writes(
    prober: Prober, base: Baseline, core: Sequence[Sent], up: bool, own: bytes
) -> tuple[tuple[float, float] | None, bool]:  # fmt: skip
    """Play single writes, and return the queue that they show, and whether they are late alike; see
    `single_unit`, `queue_rate`, `are_late_alike`."""
    single = prober.ask("single writes", [single_unit(core, up, own)], COPIES, apart=BETWEEN)[0]
    queue = queue_rate(single, base, len(core))
    alike = queue == (0, 0) and are_late_alike(single, base, len(core))
    if queue is None:
        prober.taught("single writes are lost")
    elif alike:
        prober.taught("no queue: all are late by the same time")
    else:
        prober.taught(f"a queue of {queue[0] / 125:.0f} kbit/s" if queue[0] else "no queue")
    return queue, alike


def are_late_alike(outcome: Outcome, base: Baseline, core: int) -> bool:
    """Return whether single writes behind a core are late by the same time, whatever their size:
    none of them waits for others, so that no limit of a rate delays them."""
    _, _, excess = writes_of(outcome, base, core)
    late = float(np.median(excess)) if excess.size else 0.0
    return late > LATE_ALIKE + 6 * max(base.spread) and is_constant(excess)


def measured(
    prober: Prober, base: Baseline, core: Sequence[Sent], up: bool, paces: Sequence[float],
    octets: int, rest: int = REST,
) -> tuple[Limit | None, list[tuple[float, Drop]]]:  # fmt: skip
    """Play single writes, and, unless these exclude a limit, writes of `octets` at some paces
    (octets/s), `rest` ns behind the trigger; return the limit that they show, and the paces with a
    drop. The writes are noise, or where that does not wait the trigger's last payload: a rule may
    strike its kind alone."""
    last = core[-1]
    (queue, alike), own = single_writes(prober, base, core, up, b""), b""
    if queue is None and not prober.fresh_far:  # the copies may share the limit of a host
        with prober.other_hosts():
            return measured(prober, base, core, up, paces, octets, rest)
    if queue is None or alike:
        return None, []
    if not queue[0] and last.up == up and last.payload:
        other, alike = single_writes(prober, base, core, up, last.payload)
        if alike:
            return None, []
        if other is not None and other[0]:
            queue, own = other, last.payload
    units = []
    for pace in paces:
        apart = int((octets + 40) / pace * 1e9)
        count = int(min(max(SECONDS * 1e9 / apart, 12), WRITES))
        units.append(paced_unit(core, up, octets, apart, count, own, rest))
    whole = prober.least_apart(units) * SHARE / STREAM_SHARE
    wanted = math.ceil(ALONE / (1 - base.loss[up]) ** EARLY)
    copies = min(max(wanted, FEW_COPIES), COPIES)

    def played(question: str) -> tuple[list[Outcome], list[Drop | None]]:
        outcomes = prober.ask(question, units, copies, apart=int(max(BETWEEN, AGAIN * whole)))
        return outcomes, [first_drop(one, base, len(core), queue[0]) for one in outcomes]

    outcomes, found = played("writes at several paces")
    differ = any(stop_at_different_writes(one, base, len(core)) for one in outcomes)
    if differ and not prober.fresh_far:
        with prober.other_hosts():
            others = played("writes at several paces, each copy to a host of its own")
        if any(others[1]):
            outcomes, found = others
    drops = [one for one in found if one is not None]
    if queue[0]:
        waits = [writes_of(one, base, len(core))[2] for one in outcomes]
        longest = max((float(np.median(one, axis=0).max()) for one in waits if one.size),
                      default=0.0)  # fmt: skip
        limit: Limit | None = shaper_of(drops, *queue, min(longest, 10_000.0 * MS))
    else:
        limit = policer_of(drops)
    prober.taught("no limit" if limit is None else f"{limit.act}, {limit.rate:.1f} kbit/s")
    if limit is not None:
        limit = limit._replace(shown=outcomes[0])
    return limit, [(pace, one) for pace, one in zip(paces, found, strict=True) if one is not None]


def stream_limit(prober: Prober, base: Baseline, core: Sequence[Sent], up: bool) -> Limit | None:
    """Return the limit of the rate of a stream in one direction, None where there is none.

    core: packets of the flow that bring the rule about.
    """
    most = prober.rate[up] * 125 * STREAM_SHARE
    fast = min(most, (OCTETS + 40) * 1e9 / LEAST_APART)
    paces = [fast * SLOWER**number for number in range(PACES)]
    limit, drops = measured(prober, base, core, up, paces, OCTETS)
    if limit is None and drops:  # few writes fit a small bucket, and many a large one
        room, slowest = min(one.octets for _, one in drops), min(pace for pace, _ in drops)
        around = [min(part * slowest, most) for part in NEXT]
        limit, _ = measured(prober, base, core, up, around, write_size(room))
        if limit is None and slowest == paces[0]:  # slower ones may last longer than the limit
            limit, _ = measured(prober, base, core, up, paces, OCTETS, SHORT_REST)
    return limit


def write_size(room: float) -> int:
    """Return how many octets a write has of which a bucket or queue holds about 14."""
    return int(min(max(room / 14, 60), 1200))


def refined(
    prober: Prober, base: Baseline, core: Sequence[Sent], up: bool, about: Limit
) -> Limit | None:  # fmt: skip
    """Return a limit measured with paces around it, None where these show none or another act."""
    room = about.room if about.act == "police" else about.room * about.rate / 8
    paces = [one * about.rate * 125 for one in AROUND]
    paces = [one for one in paces if one <= prober.rate[up] * 125 * STREAM_SHARE] or paces[:1]
    limit, _ = measured(prober, base, core, up, paces, write_size(room))
    return limit if limit is not None and limit.act == about.act else None


def datagram_limit(
    prober: Prober, base: Baseline, own: Probe, up: bool, waits: bool = False,
    lost: Sequence[Sent] = (),
) -> Limit | None:  # fmt: skip
    """Return the limit of the rate of a flow of datagrams in one direction, None where there is
    none.

    own: packets of the flow, in both directions; waits: whether they come late instead of being
    lost, so that only faster ones may overflow the queue; lost: those that mostly do not arrive, of
    which several are sent instead of all: others may not be limited. Where these do not show it,
    large ones are sent fast for some time.
    """
    same = [one for one in own if one.up == up and one.payload]
    same = list(lost) if len(lost) > 1 else same
    if len(same) < 2 and not (same and waits):
        return None
    least = MOST_BODY if waits else LEAST_BODY
    body = (same * (least // len(same) + 1))[: max(least, min(len(same), MOST_BODY))]
    octets = sum(map(ip_size, body))
    seconds = max(same[-1].time - same[0].time, 100 * MS) / 1e9
    usual = sum(map(ip_size, same)) / seconds
    most = prober.rate[up] * 125 * SHARE
    paces = [min(part * usual, most) for part in OF_USUAL]
    if waits:
        paces = [most * SLOWER**number for number in range(PACES)]
    paces = [one for one in dict.fromkeys(paces) if octets / one < LONGEST]
    if not paces:
        return None
    first = [one for one in own if one.payload][:BEFORE]
    units = [paced_body(first, body, pace, waits) for pace in paces]
    outcomes = prober.ask("its datagrams at several paces", units, COPIES // 2, apart=BETWEEN)
    sent = [one for one in outcomes if one.sent.all()]
    limit, fast = passed_limit(sent, base, len(first), up), outcomes[0]
    if waits and (limit is None or limit.act != "shape"):
        limit = queue_of(sent, base, len(first), up)
    elif limit is None:
        more_than_line = base.loss[int(up)] + LEAST_LOST
        lossy = [pace for pace, one in zip(paces, outcomes, strict=True)
                 if one.lost[:, len(first) :].mean() >= more_than_line]  # fmt: skip
        if len(lossy) < 3:  # chance loses some at any pace
            pace = min(most, BEYOND * min(lossy) if lossy else FASTER * paces[0])
            unit = paced_body(first, large_body(same, pace), pace, False)
            fast = prober.ask("its large datagrams, fast", [unit], COPIES // 2,
                              apart=unit[-1].time + BETWEEN)[0]  # fmt: skip
            limit = steady_limit(fast, base, len(first), up)
    prober.taught("no limit" if limit is None else f"{limit.act}, {limit.rate:.1f} kbit/s")
    return None if limit is None else limit._replace(shown=fast)


def paced_body(first: Sequence[Sent], body: Sequence[Sent], pace: float, marks: bool) -> Probe:
    """Return the first packets of a flow, and others at a pace, in octets/s. marks: whether their
    payloads have numbers, which say which came when."""
    packets = [one._replace(time=number * BEFORE_APART) for number, one in enumerate(first)]
    time = packets[-1].time + REST
    for number, one in enumerate(body):
        payload = marked(one, number) if marks else one.payload
        packets.append(one._replace(time=time, payload=payload))
        time += int(ip_size(one) / pace * 1e9)
    return tuple(packets)


def large_body(same: Sequence[Sent], pace: float) -> list[Sent]:
    """Return the large ones of some packets again and again, as many as a pace, in octets/s, sends
    in STEADY seconds."""
    largest = max(map(ip_size, same))
    large = [one for one in same if ip_size(one) >= OF_LARGEST * largest]
    count = int(min(max(STEADY * pace / largest, LEAST_BODY), MOST_STEADY))
    return [large[number % len(large)] for number in range(count)]


def steady_limit(outcome: Outcome, base: Baseline, first: int, up: bool) -> Limit | None:
    """Return the limit that datagrams of one pace behind the first ones show, None where most of
    the copies show none: once a bucket is empty, or a queue is full, as much passes in any time."""
    if not outcome.sent.all():
        return None
    assert outcome.planned is not None
    times = outcome.planned[:, first:].astype(np.float64)
    sizes, lost = outcome.size[first:].astype(float), outcome.lost[:, first:]
    excess = base.excess(outcome)[:, first:]
    waits = bool(np.isfinite(excess).any() and np.nanquantile(excess, 0.9) > late_of(base))
    fits = [shaper(times[copy], sizes, excess[copy]) if waits
            else policer(times[copy], sizes, lost[copy]) for copy in range(len(times))]  # fmt: skip
    fitted = np.array([one for one in fits if one is not None])
    if 2 * len(fitted) <= len(fits):
        return None
    rate, room = np.median(fitted, axis=0)
    if np.std(fitted[:, 0]) > UNLIKE * rate or room <= 0:
        return None
    doubts = np.std(fitted, axis=0) / math.sqrt(len(fitted)) + STEADILY * np.array([rate, room])
    # what the line lost itself was let through
    rate, act = rate / (1 - base.loss[int(up)]), "shape" if waits else "police"
    return Limit(act, float(rate), float(room), float(doubts[0]), float(doubts[1]))


def queue_of(
    outcomes: Sequence[Outcome], base: Baseline, first: int, up: bool
) -> Limit | None:  # fmt: skip
    """Return the queue in which the datagrams behind the first ones wait longer and longer, from
    the fastest pace at which they do, None for none: a delay is the same at any pace, and of one
    that begins after some packets the later ones wait no longer than the first of those."""
    for one in outcomes:
        sizes = one.size[first:].astype(float)
        assert one.planned is not None
        times, excess = one.planned[:, first:].astype(np.float64), base.excess(one)[:, first:]
        if share_overtaken(times, excess, base) > OVERTAKEN:
            return None
        rows = zip(times, excess, strict=True)
        full = one.lost[:, first:].mean() >= base.loss[int(up)] + LEAST_LOST
        fitted = [found for sent, row in rows if ramps(row) and (full or grows(row))
                  and (found := shaper(sent, sizes, row)) is not None]  # fmt: skip
        if len(fitted) < len(one.delay) - 1 or not fitted:
            continue
        rates, rooms = (np.array(some) for some in zip(*fitted, strict=True))
        rate, room = float(np.median(rates)), float(np.median(rooms))
        pace = sizes.sum() / max(float(np.ptp(times, axis=1).mean()), 1.0) * 8e6  # kbit/s
        if rate < FULL * pace and room * MS > late_of(base) and rates.std() < UNLIKE * rate:
            error = float(rates.std()) / math.sqrt(len(rates)) + 0.01 * rate
            return Limit("shape", rate, room, error, float(rooms.std()) + 0.02 * room)
    return None


def passed_limit(
    outcomes: Sequence[Outcome], base: Baseline, first: int, up: bool
) -> Limit | None:  # fmt: skip
    """Return the limit that what arrived of the datagrams behind the first ones shows."""
    loss = base.loss[int(up)]
    seconds, passed, waits = [], [], []
    for one in outcomes:
        sizes, lost = one.size[first:], one.lost[:, first:]
        if lost.mean() < loss + LEAST_LOST:
            continue
        assert one.planned is not None
        seconds.append(float((one.planned[:, -1] - one.planned[:, first]).mean()) / 1e9)
        passed.append(float((~lost * sizes).sum(axis=1).mean()) / (1 - loss))
        excess = base.excess(one)[:, first:]
        if share_overtaken(one.planned[:, first:].astype(np.float64), excess, base) > OVERTAKEN:
            return None
        waits.append(float(np.nanquantile(excess, 0.9)) if np.isfinite(excess).any() else 0.0)
    if len(seconds) < 3 or np.ptp(seconds) < 0.1:
        return None
    rate, room = (float(one) for one in np.polyfit(seconds, passed, 1))
    rest = np.array(passed) - (room + rate * np.array(seconds))
    own = max(float(np.sqrt((rest**2).sum() / (len(rest) - 2))), 0.02 * max(passed))
    centre = np.array(seconds) - np.mean(seconds)
    error = own / math.sqrt(float((centre**2).sum()))
    if rate < 4 * error or rate * np.ptp(seconds) < GROWS * min(passed):
        return None
    if min(waits) > late_of(base):
        wait = float(np.median(waits)) / MS
        return Limit("shape", rate / 125, wait, error / 125, 0.1 * wait)
    room = max(room, float(np.mean(outcomes[0].size[first:])))
    return Limit("police", rate / 125, room, error / 125, own)


def interleaved(outcome: Outcome, own: Sequence[int]) -> bool:
    """Return whether packets of a flow arrive behind ones that mostly do not: some packets in most
    copies, or some copies of many; or whether so few come behind the first of those that this is
    not known. own: their places."""
    lost = outcome.lost[:, own].mean(axis=0)
    gone = np.flatnonzero((lost > 0.5) & outcome.sent[:, own].any(axis=0))
    if not len(gone):
        return False
    behind = lost[gone[0] :]
    few = len(behind) <= FEW_BEHIND
    may_arrive = gone[0] >= SOME_BEFORE if few else behind.mean() < SOME_ARRIVE
    return bool((behind < 0.5).sum() >= 2 or may_arrive)


def limit_of(fields: dict[str, Any]) -> Limit:
    """Return a limit from the act as the policy language writes it, without errors."""
    room = fields["bucket_bytes"] if fields["act"] == "police" else fields["queue_ms"]
    return Limit(fields["act"], float(fields["rate_kbit"]), float(room), 0.0, 0.0)


def core_of_flow(unit: Probe, first: int, most: int = BEFORE) -> Probe:
    """Return the first packets of a stream, up to the first one that shows an effect."""
    ends = unit[first].ends
    own = [one for at, one in enumerate(unit) if one.ends == ends and one.payload and at <= first]
    return tuple(own[:most])


def rate_limit(
    prober: Prober, base: Baseline, outcome: Outcome, first: int, kinds: Collection[str],
    shown: int = 0,
) -> Limit | None:  # fmt: skip
    """Return the limit of the rate of a flow that shows some kinds of effects, None where there is
    none. first, shown: places of the first packet that shows any of them, and of the first one that
    shows the effect that is looked into; packets that no copy has sent are left out."""
    unit, ends, up = outcome.unit, outcome.unit[first].ends, outcome.unit[first].up
    sent = np.atleast_1d(outcome.sent.any(axis=0))
    own = [at for at, one in enumerate(unit) if one.ends == ends and sent[at]]
    same = [at for at in own if unit[at].up == up and unit[at].payload]
    if ends.proto == TCP:
        # a queue may begin late in a stream; a bucket is not to be spent by what comes before
        core = core_of_flow(unit, first, BEFORE_QUEUE if set(kinds) == {DELAY} else BEFORE)
        # of a stream whose kernels give up, the end never arrives
        some = {PARTIAL, DELAY, DROP} if len(core) > 1 else {PARTIAL, DELAY}
        excess, least = base.excess(outcome)[:, same], SENT_AGAIN + 6 * max(base.spread)
        constant = is_constant(excess) and sizes_differ(outcome.size[same])
        if (set(kinds) == {DELAY} and constant) or (
            set(kinds) == {DROP} and stops_at_once(excess, least)
        ):
            return None
        if not core or not some & set(kinds):
            return None
        limit = stream_limit(prober, base, core, up)
        whole = core_of_flow(unit, max(first, shown), BEFORE_LATE)
        if limit is None and not {PARTIAL, DROP}.isdisjoint(kinds) and len(whole) > 2 * len(core):
            limit = stream_limit(prober, base, whole, up)  # it may begin behind an allowance
        return limit
    if ends.proto != UDP:
        return None
    if {PARTIAL, DROP} & set(kinds):
        if not interleaved(outcome, same):
            return None
    elif DELAY not in kinds:
        return None
    waits = not {PARTIAL, DROP} & set(kinds)
    gone = outcome.lost[:, same].mean(axis=0) > 0.5
    lost = [] if waits else [unit[at] for at, hit in zip(same, gone, strict=True) if hit]
    return datagram_limit(prober, base, tuple(unit[at] for at in own), up, waits, lost)


def stops_at_once(excess: Floats, least: float) -> bool:
    """Return whether a stream stops without a sign of a limit: what came last before the first
    packet that never arrives was sent again in few copies. A limit lets some of what is sent again
    pass, more and more slowly.

    excess: float64[copies, packets], delay beyond the line's own, ns, not finite for packets that
    never arrive; least: of a packet that was sent again.
    """
    stopped = excess[~np.isfinite(excess).all(axis=1)]
    firsts = np.isfinite(stopped).argmin(axis=1)
    again = [bool((row[max(first - LAST, 0) : first] > least).any())
             for row, first in zip(stopped, firsts, strict=True)]  # fmt: skip
    return bool(again) and sum(again) <= SENT_ONCE * len(again)


def is_constant(excess: Floats) -> bool:
    """Return whether packets of a stream wait equally long, the first ones too: in a queue they
    wait for those before them, and for their own octets. excess: float64[copies, packets]."""
    known = excess[:, np.isfinite(excess).any(axis=0)]
    if known.shape[1] < LEAST_EQUAL:
        return False
    waits = np.nanmedian(known, axis=0)
    parts = waits / max(float(np.median(waits)), 1.0)
    equal = (parts > EQUALLY[0]) & (parts < EQUALLY[1])
    return bool(equal[:2].all() and equal.mean() > MOST_EQUAL)


def sizes_differ(sizes: NDArray[np.int64]) -> bool:
    """Return whether packets have such sizes that they would not wait equally long in a queue,
    where each waits for its own octets, too. sizes: int64[packets], IP octets."""
    parts = sizes / max(float(np.median(sizes)), 1.0)
    return bool(((parts < EQUALLY[0]) | (parts > EQUALLY[1])).mean() > 1 - MOST_EQUAL)


def is_no_queue(base: Baseline, outcome: Outcome, same: Sequence[int]) -> bool:
    """Return whether packets of a flow wait equally long although they follow each other faster: in
    a queue that holds up each of them for so long, they would wait for each other, too. same: their
    places."""
    excess = base.excess(outcome)[:, same]
    if not is_constant(excess):
        return False
    sent = outcome.as_sent
    gaps = np.diff([sent[at].time for at in same])
    return int((gaps < np.nanmedian(excess) / 2).sum()) >= LEAST_EQUAL


def share_overtaken(times: Floats, excess: Floats, base: Baseline) -> float:
    """Return the mean share of packets that arrive later than one sent after them in some copies
    and not in others, by more than the line's own delay varies. None leaves a queue before those in
    front of it; packets that a rule does not delay overtake the others in each copy.

    times: when each was sent, in ns; excess: delay beyond the line's own, ns, not finite for
    packets that did not arrive; both float64[copies, packets].
    """
    arrivals = np.where(np.isfinite(excess), times + excess, np.inf)
    later = np.minimum.accumulate(arrivals[:, ::-1], axis=1)[:, ::-1][:, 1:]
    known = np.isfinite(arrivals[:, :-1])
    late = known & (arrivals[:, :-1] > later + late_of(base))
    share = late.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return float(np.minimum(share, 1 - share).mean()) if len(share) else 0.0


def ramps(excess: Floats) -> bool:
    """Return whether packets wait longer and longer: the first ones little, later ones much."""
    values = excess[np.isfinite(excess)]
    if len(values) < 8:
        return False
    return bool(np.mean(values[:3]) < 0.4 * np.quantile(values, 0.9))


def grows(excess: Floats) -> bool:
    """Return whether the waits of packets still grow once they are long. They do while a queue
    fills; in a full one packets are lost. excess: float64[packets], ns, not finite where lost."""
    values = excess[np.isfinite(excess)]
    long = values[int((values > 0.5 * np.quantile(values, 0.9)).argmax()) :]
    part = len(long) // 3
    return part < 3 or bool(np.median(long[-part:]) > GROWN * np.median(long[:part]))


def shaper(times: Floats, sizes: Floats, excess: Floats) -> tuple[float, float] | None:
    """Return (kbit/s, longest wait in ms) of a queue, from arrivals and delays."""
    some = np.flatnonzero(np.isfinite(excess))
    if len(some) < 8:
        return None
    arrivals = times[some] + excess[some]
    # the queue is never empty from the first long wait on
    busy = np.flatnonzero(excess[some] > max(excess[some].max() * 0.3, 10 * MS))
    if len(busy) < 5:
        return None
    first, last = busy[0], busy[-1]
    octets = sizes[some][first + 1 : last + 1].sum()
    seconds = (arrivals[last] - arrivals[first]) / 1e9
    if seconds <= 0:
        return None
    rate = octets * 8 / seconds / 1000
    own = float(np.mean(sizes)) * 8 / rate  # ms of its own octets
    plateau = np.sort(excess[some])[-max(len(some) // 3, 3) :]
    longest = float(np.quantile(plateau, 0.75)) / MS - own
    return float(rate), longest


def policer(times: Floats, sizes: Floats, lost: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Return (kbit/s, octets) of a token bucket, from the packets that it let through.

    Once it drops, what has passed by time t is within a packet of bucket + rate * t (ITU-T I.371).
    """
    drops = np.flatnonzero(lost)
    passed = ~lost
    if len(drops) < 6 or passed.sum() < 4:
        return None
    # the first dense run of drops: single ones are the line's own
    first = next((at for at in drops if lost[at : at + 12].mean() > 0.3), None)
    if first is None:
        return None
    seconds = (times - times[0]) / 1e9
    whole = np.cumsum(np.where(passed, sizes, 0.0))
    later = np.flatnonzero(passed & (np.arange(len(lost)) >= first))
    if len(later) < 3:
        return None
    rate, level = np.polyfit(seconds[later], whole[later], 1)
    rest = whole[later] - (level + rate * seconds[later])
    if rate <= 0 or float(np.std(rest)) > 1.3 * float(np.mean(sizes)):
        return None  # chance lets more or less through; a bucket the same in any time
    return float(rate * 8 / 1000), float(level + np.mean(sizes) * 0.5)
