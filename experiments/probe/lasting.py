# SPDX-License-Identifier: BSD-3-Clause
"""How long a condemnation lasts, and on which share of flows or clients a rule is enforced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binom  # type: ignore[import-untyped]

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise.messages import noise
from midcall.experiments.localise.mutations import with_ends
from midcall.experiments.probe.acts import Number, share_interval
from midcall.experiments.probe.asking import score
from midcall.experiments.probe.fit import OTHER, affected_of, events_of
from midcall.experiments.probe.line_oracle import DELAY, INJECT, SHARES
from midcall.experiments.probe.prober import MS, Outcome
from midcall.experiments.probe.tails import Tail
from midcall.experiments.probe.units import neighbours
from midcall.testbed.probing.probe import Ends, Probe, Sent, in_order
from midcall.testbed.probing.sockets import ABORT
from midcall.testbed.probing.strikes import strikes

SECOND = 1000 * MS
#: Horizons of the watch in s, and the distance of its packets as a share of the time.
HORIZONS = (14.0, 200.0, 1500.0)
STEP, LEAST_STEP = 0.05, 0.4
#: Log-likelihood ratio of the packets of a moment, packets at most, plays that narrow down an end,
#: and ratio within which another end is plausible.
PLAIN, MOST_PACKETS, FINER, DOUBT = 8.0, 40, 2, 3.0
#: By how much moments must speak against a condemnation before its end is looked for, in nats.
LEAST_AGAINST = 6.0
#: By which part the end of a condemnation that the capture shows may be wrong.
AS_SEEN = 0.1
#: Share of struck packets that show an effect which is certain; moments that show how many delayed
#: packets are late, and the least share of those that are not late by themselves.
CERTAIN, FIRST, LEAST_LATE = 0.95, 3, 0.3
#: Copies whose share of struck ones gives the chance of enforcement.
CHANCE_COPIES = 60
#: Further triggers of a flow and their distance in ns, copies, the largest number of packets of
#: which a rule inspects one, and how much likelier that must be, in nats.
AGAIN, AGAIN_APART, SAMPLED_COPIES, MOST_PART, SURELY = 24, 12 * MS, 24, 400.0, 3.0
#: Packets of one such probe, at most, unless 20 copies have more.
MOST_PLAYED = 9_000


class Lasting(NamedTuple):
    """When a condemnation ends, in s: None if it did not within the watch. watched: s."""

    seconds: Number | None
    watched: float
    why_not: str = ""


class Watched(NamedTuple):
    """Packets that a condemnation strikes and that do not renew it: a flow, a direction, and a
    payload, of which all have the same octets but for the last two."""

    ends: Ends
    up: bool
    body: bytes

    def numbered(self, number: int) -> bytes:
        """Return the payload of one of them."""
        return self.body[:-2] + number.to_bytes(2, "big")


def watch_flow(tail: Tail, core: Probe) -> Watched | None:
    """Return what a condemnation strikes, and the match does not; None where there is nothing."""
    last = core[-1]
    rule = tail.best.rule()
    plain = tail.best._replace(scope="packet", after="").rule()
    if rule is None or plain is None:
        return None
    flows = {"same": last.ends} | neighbours(last.ends)
    begin = last.time + 200 * MS
    packets = list(core)
    marks: dict[Sent, Watched] = {}
    for number, ends in enumerate(flows.values()):
        if ends.proto == TCP:
            continue
        for up in (True, False):
            for body in (b"\x05" + noise(49, "watch", up), bytes(40) + noise(10, "watch", up)):
                one = Sent(begin + number * MS, up, ends, body)
                packets.append(one)
                marks[one] = Watched(ends, up, body)
    unit = in_order(packets)
    found = strikes(tail.through(unit, True), [rule, plain]).struck
    base = unit[0].time - packets[0].time
    for at, one in enumerate(unit):
        key = marks.get(one._replace(time=one.time - base))
        if key is not None and found[0, at] and not found[1, at]:
            return key
    return None


def lasting(tail: Tail, core: Probe, longest: float = HORIZONS[-1]) -> Lasting:
    """Return how long a condemnation lasts after its last trigger. longest: of a watch, in s."""
    found = watch_flow(tail, core)
    if found is None:
        return Lasting(None, 0.0, "whatever could show its end is struck by the match itself")
    many = packets_of_moment(tail)
    low, high, done = 0.0, HORIZONS[-1], 0.0
    for horizon in (one for one in HORIZONS if one <= longest):
        times = moments(max(done * 0.8, 0.3), horizon)
        span = end_of(watched(tail, core, found, times, many), LEAST_AGAINST)
        if span is None:
            done = horizon
            continue
        first, last = span
        if first == 0 and done == 0.0:
            return Lasting(None, done, "it ends within 0.3 s, or packets after it show nothing")
        low = times[first - 1] if first > 0 else done * 0.8
        high = times[min(last, len(times) - 1)]
        break
    else:
        return Lasting(None, done)
    for _ in range(FINER):
        if high - low <= 0.03 * high:
            break
        times = list(np.linspace(low, high, 9)[1:-1])
        span = end_of(watched(tail, core, found, times, many))
        first, last = (len(times), len(times)) if span is None else span
        edges = [low, *times, high]
        low, high = edges[first], edges[last + 1]
    value = nearest_round(low, high)
    return Lasting(Number(value, low * 0.98 - 0.05, high * 1.02 + 0.05), done)


def with_seen_end(watch: Lasting, lasts: float) -> Lasting:
    """Return a watch that could not show an end with the end that the capture shows. lasts: after
    how many s, 0 for none."""
    if watch.seconds is not None or watch.watched or not lasts:
        return watch
    return Lasting(Number(lasts, lasts * (1 - AS_SEEN), lasts * (1 + AS_SEEN)), 0.0)


def packets_of_moment(tail: Tail) -> int:
    """Return how many packets show in four copies whether a condemnation still holds."""
    if tail.sought.kind not in SHARES:
        return 1
    own = max(tail.base.loss) + OTHER
    struck = min(own + tail.sought.amount * (1 - own), 0.98)
    per_packet = struck * math.log(struck / own) + (1 - struck) * math.log((1 - struck) / (1 - own))
    return int(min(max(math.ceil(PLAIN / per_packet / 4), 2), MOST_PACKETS))


def moments(first: float, last: float) -> list[float]:
    """Return times from `first` to `last`, in s, each a little later than the one before."""
    result, time = [], first
    while time < last:
        result.append(time)
        time += max(time * STEP, LEAST_STEP)
    return [*result, last]


def watched(tail: Tail, core: Probe, found: Watched, times: list[float], many: int) -> list[float]:
    """Return for each time after the trigger the log-likelihood ratio that a condemnation still
    holds."""
    last = core[-1]
    packets = list(core)
    begin = last.time
    if last.ends.proto == TCP:  # a kernel that sends again would renew the condemnation
        packets.append(last._replace(time=begin + 150 * MS, up=True, payload=b"", flags=ABORT))
    probes: dict[tuple[int, int], Sent] = {}
    spacing = 4 * MS
    for at, seconds in enumerate(times):
        for number in range(many):
            one = Sent(begin + int(seconds * SECOND) + number * spacing, found.up, found.ends,
                       found.numbered(at * many + number))  # fmt: skip
            probes[at, number] = one
            packets.append(one)
    unit = in_order(packets)
    base = packets[0].time
    place = {one: at for at, one in enumerate(unit)}
    copies = 4 if tail.sought.chance > 0.999 else 12
    outcome = tail.prober.ask(
        f"how long it lasts, watched for {times[-1]:.0f} s", [unit], copies, apart=900 * MS,
        watch=True,
    )[0]  # fmt: skip
    affected, usable, other = affected_of(outcome, tail.base, tail.sought)
    rows = condemned(tail, outcome, affected, usable, place, probes, base)
    counts = []
    for at in range(len(times)):
        columns = [place[one._replace(time=one.time - base)]
                   for (which, _), one in probes.items() if which == at]  # fmt: skip
        some = affected[np.ix_(rows, columns)] & usable[np.ix_(rows, columns)]
        counts.append((int(some.sum()), int(usable[np.ix_(rows, columns)].sum()),
                       float(other[columns].mean())))  # fmt: skip
    share = tail.sought.amount if tail.sought.kind in SHARES else CERTAIN
    if tail.sought.kind == DELAY:
        share = share_at_first(counts)
    result = []
    for gone, count, own in counts:
        struck = min(own + share * (1 - own), 0.98)
        llr = gone * math.log(struck / own) + (count - gone) * math.log((1 - struck) / (1 - own))
        result.append(llr)
    tail.prober.taught(f"{sum(one > 0 for one in result)} of {len(result)} moments struck")
    return result


def share_at_first(counts: Sequence[tuple[int, int, float]]) -> float:
    """Return the share of delayed packets that are late, as the first moments show it: packets far
    apart wait for no other one, and are less late than those of controls. counts: of each moment
    the late packets, all, and the share of late ones that is the line's own."""
    late, count, own = np.array(counts[:FIRST], np.float64).T
    least = float(own.mean()) + LEAST_LATE * (1 - float(own.mean()))
    return min(max(float(late.sum()) / max(float(count.sum()), 1.0), least), CERTAIN)


def condemned(
    tail: Tail, outcome: Outcome, affected: np.ndarray, usable: np.ndarray,
    place: dict[Sent, int], probes: dict[tuple[int, int], Sent], base: int,
) -> list[int]:  # fmt: skip
    """Return the copies on which the rule was enforced: those whose first moments are struck."""
    copies = len(outcome.delay)
    if tail.sought.kind in SHARES and tail.sought.chance > 0.999:
        return list(range(copies))
    columns = [place[one._replace(time=one.time - base)]
               for (at, _), one in probes.items() if at < 4]  # fmt: skip
    shares = (affected & usable)[:, columns].mean(axis=1)
    rows = [copy for copy in range(copies) if shares[copy] >= 0.5 * min(tail.sought.amount, 1.0)
            or (tail.sought.kind == DELAY and shares[copy] >= 0.5)]  # fmt: skip
    return rows or list(range(copies))


def end_of(scores: Sequence[float], least: float = 0.0) -> tuple[int, int] | None:
    """Return the first and the last plausible moment from which on nothing is struck, None where
    the last moment most likely still is. scores: log-likelihood ratios of "struck" by moment;
    least: by how much the moments from an end on must speak against it, in nats."""
    # the sum over the moments before an end, less the sum over those from it on
    whole = np.concatenate([[0.0], np.cumsum(scores)]) * 2 - float(np.sum(scores))
    if not len(scores) or whole.max() - whole[-1] <= 2 * least:
        return None
    plausible = np.flatnonzero(whole > whole.max() - 2 * DOUBT)
    return int(plausible[0]), int(plausible[-1])


def nearest_round(low: float, high: float) -> float:
    """Return the roundest time in an interval."""
    for unit in (60.0, 30.0, 10.0, 5.0, 1.0, 0.5, 0.1):
        value = math.ceil(low / unit) * unit
        if low < value <= high:
            return value
    return (low + high) / 2


# ---- chance


class Chance(NamedTuple):
    """The chance of enforcement, and whether it is drawn per flow or per client; sampled: of how
    many packets the rule inspects one, None where each trigger of a flow has the same fate; alone:
    whether flows of a client are spared behind others of it that are struck."""

    share: Number
    per: str
    sampled: Number | None = None
    alone: bool = False


def chance_of(tail: Tail, core: Probe) -> Chance | None:
    """Return the chance of enforcement, None where every copy is struck."""
    unit = tail.unit(core)
    mask = tail.mask(tail.best, unit, len(core))
    outcome = tail.prober.ask("how often it is enforced", [unit], 20)[0]
    flags = struck_copies(tail, outcome, mask)
    lost_trigger = tail.base.loss[int(core[-1].up)] if core[-1].up else 0.0
    expected = 20 * (1 - lost_trigger)
    if sum(flags) >= expected - 2.5 * math.sqrt(20 * max(lost_trigger, 0.01)) - 1:
        return None
    copies = min(max(MOST_PLAYED // len(unit), 20), CHANCE_COPIES)
    outcome = tail.prober.ask("how often it is enforced", [unit], copies)[0]
    flags += struck_copies(tail, outcome, mask)
    count, hits = len(flags), sum(flags)
    if hits < 2:
        return None  # the trigger is not understood
    share = min(hits / count / (1 - lost_trigger), 1.0)
    low, high = share_interval(hits, count)
    tail.prober.taught(f"{hits} of {count} copies")
    if tail.best.scope != "packet" and not tail.best.media:
        part = sampled(tail, core, unit, hits, count)
        if part is not None:
            return Chance(Number(hits / count, low, high), "packet", part)
    per, alone = per_what(tail, core, share)
    number = Number(share, low / (1 - lost_trigger), min(high / (1 - lost_trigger), 1.0))
    return Chance(number, per, alone=alone)


def inspected(tail: Tail, core: Probe) -> Number | None:
    """Return of how many packets a rule inspects one, None where it does not."""
    unit = tail.unit(core)
    mask = tail.mask(tail.best, unit, len(core))
    if not mask.any():
        return None
    outcome = tail.prober.ask("how often one trigger shows it", [unit], SAMPLED_COPIES)[0]
    flags = struck_copies(tail, outcome, mask)
    return sampled(tail, core, unit, sum(flags), len(flags))


def sampled(tail: Tail, core: Probe, unit: Probe, hits: int, count: int) -> Number | None:
    """Return of how many packets a rule inspects one, None where it does not: a flow with many
    triggers is then condemned more often than one with few.

    unit: the trigger and what follows it; hits of count: of its copies were condemned.
    """
    last = core[-1]
    again = [last._replace(time=last.time + (number + 1) * AGAIN_APART) for number in range(AGAIN)]
    triggers = (*core, *again)
    longer = tail.unit(triggers)
    mask = tail.mask(tail.best, longer, len(triggers))
    few, many = (triggers_of(tail, one) for one in (unit, longer))
    if not mask.any() or many < 2 * few:
        return None
    outcome = tail.prober.ask("how often with many triggers", [longer], SAMPLED_COPIES)[0]
    flags = struck_copies(tail, outcome, mask)
    more, copies = sum(flags), len(flags)
    tail.prober.taught(f"{more} of {copies} copies with {many} triggers")
    parts = np.geomspace(1.05, MOST_PART, 400)
    fits = binom.logpmf(hits, count, 1 - (1 - 1 / parts) ** few)
    fits += binom.logpmf(more, copies, 1 - (1 - 1 / parts) ** many)
    same = (hits + more) / (count + copies)
    of_flow = binom.logpmf(hits, count, same) + binom.logpmf(more, copies, same)
    if fits.max() < of_flow + SURELY:
        return None
    plausible = parts[fits > fits.max() - 1.92]  # chi-squared of one degree of freedom, 95 %
    return Number(float(parts[fits.argmax()]), float(plausible[0]), float(plausible[-1]))


def triggers_of(tail: Tail, unit: Probe) -> int:
    """Return how many packets of a unit meet the match."""
    plain = tail.best._replace(scope="packet", way=None, after="").rule()
    return int(strikes(tail.through(unit, True), [plain]).struck.sum()) if plain is not None else 0


def struck_copies(tail: Tail, outcome: Outcome, mask: np.ndarray) -> list[bool]:
    """Return which copies show the effect."""
    if tail.sought.kind == INJECT:
        return [bool(copy.any()) for copy in events_of(outcome)]
    sought = tail.sought._replace(chance=1.0)
    result = []
    for copy in range(len(outcome.delay)):
        result.append(score(outcome.of([copy]), mask, tail.base, sought) > 0)
    return result


def per_what(tail: Tail, core: Probe, share: float) -> tuple[str, bool]:
    """Return whether chance is drawn per flow or per client, as flows of one client agree or not,
    and whether later ones are spared although earlier ones are struck: a rule that condemns more
    than a flow strikes them, whatever is drawn for them."""
    last = core[-1]
    flows, masks = [], []
    for number in range(3):
        ends = last.ends._replace(near_port=41_000 + number)
        moved = with_ends(core, last.ends, ends)
        shift = number * 700 * MS
        whole = tail.unit(moved)
        flows.append([one._replace(time=one.time + shift) for one in whole])
        masks.append(tail.mask(tail.best, whole, len(moved)))
    listed = [(one, bool(hit)) for flow, mask in zip(flows, masks, strict=True)
              for one, hit in zip(flow, mask, strict=True)]  # fmt: skip
    listed.sort(key=lambda pair: pair[0].time)
    unit = tuple(one for one, _ in listed)
    outcome = tail.prober.ask("per flow or per client", [unit], 16)[0]
    same = spared = 0
    for copy in range(len(outcome.delay)):
        hits: list[bool] = []
        for flow in flows:
            own = np.array([hit and one.ends == flow[0].ends for one, hit in listed])
            single = outcome.of([copy])._replace(
                events=[[event for event in outcome.events[copy]
                         if event.ends == flow[0].ends]],
                strange=[[event for event in outcome.strange[copy]
                          if event.ends == flow[0].ends]],
            )  # fmt: skip
            hits += struck_copies(tail, single, own)
        same += len(set(hits)) == 1
        spared += hits != sorted(hits)
    share = min(max(share, 0.05), 0.95)
    alike = share**3 + (1 - share) ** 3
    count = len(outcome.delay)
    mixed_llr = same * math.log(0.95 / alike) + (count - same) * math.log(0.05 / (1 - alike))
    answer = "client" if mixed_llr > 0 else "flow"
    tail.prober.taught(f"{same} of {count} clients agree: per {answer}")
    in_order = sum(share**hit * (1 - share) ** (3 - hit) for hit in range(4))
    alone_llr = spared * math.log((1 - in_order) / 0.05) + (count - spared) * math.log(
        in_order / 0.95
    )
    return answer, alone_llr > SURELY
