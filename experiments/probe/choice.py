# SPDX-License-Identifier: BSD-3-Clause
"""Which unit to play next: the one that teaches most about the likeliest hypotheses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.mutations import with_ends
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.probe.beliefs import (
    Beliefs,
    Hypothesis,
    entropy_of,
    information,
    shown,
    with_act,
)
from midcall.experiments.probe.fit import ANOTHER, strikes_of_limit
from midcall.experiments.probe.found import Found
from midcall.experiments.probe.line_oracle import DROP, INJECT, SHARES, Effect
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import MS
from midcall.experiments.probe.rates import LIMITS
from midcall.experiments.probe.tails import HEADERS, apart_for, beyond, over_limit, size_over_limit
from midcall.experiments.probe.units import (
    MOST_PACKETS,
    Size,
    carriers,
    changed_packets,
    other_flows,
    preceded_unit,
    repeated_unit,
    scope_unit,
    sharing_unit,
)
from midcall.experiments.probe.variants import alike, other_ways
from midcall.testbed.policy.language import Rule
from midcall.testbed.probing.probe import Ends, Probe, Sent, flows_of, in_order, ip_size
from midcall.testbed.probing.strikes import Passing, Strikes, strikes
from midcall.testbed.probing.virtual_line import DATAGRAM

#: Expected information below which no unit is worth a probe, in bits.
LEAST_BITS = 0.03
#: Expected information with which no better unit is looked for, in bits.
ENOUGH_BITS = 0.75
#: Units that are played at once, at most, and the information that one must add to the others, in
#: bits.
AT_ONCE, LEAST_MORE = 3, 0.15
#: How much less likely than the best hypothesis one may be that a unit distinguishes, in nats.
IN_DOUBT = 9.0
#: Kinds of packets besides the core's of which one is changed.
MOST_SHAPES = 2
#: Packets of all units that do not tell two scopes apart: when a flow's app is known depends on the
#: order of its packets.
FEW = 2
#: Repetitions of a packet that show which kind of effect it suffers.
MANY = 30
#: Octets of noise that follows a trigger; of large ones a limit of a rate lets few through.
TINY, SMALL, LARGE = 14, 60, 400
#: Hypotheses that a unit is chosen for.
ALIVE = 36


#: What a unit asks, the unit, and the information that it is expected to give, in bits.
Chosen = tuple[str, Probe, float]
#: Which packets of a unit (and whether it was played tightly) say nothing, bool[packets].
Hidden = Callable[[Probe, bool], np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Choice:
    """The choice of a unit. core: packets that bring the likeliest hypothesis about; unit: the
    play from which the hypotheses are; sought: their effect; up: the direction that shows it."""

    plays: Plays
    beliefs: Beliefs
    core: Probe
    unit: Probe
    sought: Effect
    up: bool

    def choose(self) -> list[Chosen]:
        """Return the units with the most expected information together, none where none is worth
        it."""
        weights = self.beliefs.weights
        order = np.argsort(-weights, kind="stable")[:ALIVE]
        order = order[weights[order] > 1e-3]
        return self.best_units(order, weights[order])

    def checks(self) -> list[Chosen]:
        """Return units that may refute the likeliest hypothesis although none in doubt is likely:
        its scope, what it strikes beyond the trigger's flow, and other kinds of packets. One at a
        time where units to the same server would disturb each other."""
        ways: tuple[Callable[[], list[Chosen]], ...] = (
            self.choose_scope, self.confirmation, self.other_shape,
        )  # fmt: skip
        found: dict[Probe, Chosen] = {}
        for way in ways:
            if len(found) < self.at_once:
                found |= {one[1]: one for one in way()}
        return list(found.values())[: self.at_once]

    @property
    def at_once(self) -> int:
        """Return how many units are played at once: of those that are sent to the capture's own
        server one might condemn it for the others; and those that show a share of losses, delays or
        a limited rate are so many packets that they would delay each other."""
        alone = self.sought.kind not in (INJECT, DROP) or self.sought.limit
        return 1 if alone or not self.plays.prober.fresh_far else AT_ONCE

    def which_effect(self) -> list[Chosen]:
        """Return a unit that shows which kind of effect a rule has: what it strikes, many times;
        none where that is known or was asked."""
        bits = entropy_of(self.beliefs.chances)
        apart = apart_for(self.beliefs.best, 4 * MS)
        unit = self.repeated(self.core, MANY + beyond(self.beliefs.best, apart // MS), apart)
        if bits < LEAST_BITS or any(seen.through.unit == unit for seen in self.beliefs.seen):
            return []
        return [("which effect, again and again", unit, bits)]

    def choose_scope(self) -> list[Chosen]:
        """Return the units that distinguish best between the scopes of the likeliest hypothesis,
        none where none does: a few packets must not decide between them."""
        self.beliefs.add(list(alike(self.beliefs.best)))
        scores, same = self.beliefs.scores, set(alike(self.beliefs.best))
        order = np.array([at for at, one in enumerate(self.beliefs.hypotheses)
                          if one in same and scores[at] > scores.max() - IN_DOUBT])  # fmt: skip
        return self.best_units(order, np.ones(len(order)))

    def confirmation(self) -> list[Chosen]:
        """Return a unit that shows what the likeliest hypothesis strikes beyond its trigger's flow,
        none where that was played: no other hypothesis may be likely because none was tested."""
        if self.beliefs.best.scope in ("packet", "flow"):
            return []
        word, one = next(self.units())
        played = any(seen.through.unit == one for seen in self.beliefs.seen)
        return [] if played or not is_playable(one) else [(word, one, 0.0)]

    def other_shape(self) -> list[Chosen]:
        """Return changed packets of another kind than the core's that the likeliest hypothesis
        strikes, too, none where none distinguishes it from those that explain a flow less: one
        hypothesis may cover what two rules do."""
        rule = self.beliefs.best.rule()
        if rule is None:
            return []
        struck = strikes(self.plays.through(self.unit, False), [rule]).struck[0]
        shapes: dict[tuple[int, str, bool], Sent] = {}
        for one, hit in zip(self.unit, struck, strict=True):
            if hit and one.payload:
                shapes.setdefault((one.ends.proto, payload_kind(one), one.up), one)
        last = self.core[-1]
        shapes.pop((last.ends.proto, payload_kind(last), last.up), None)
        count = 60 if self.sought.kind in SHARES else 4
        units = [(f"another kind of packet, {word}", self.repeated((other,), count, 15 * MS))
                 for one in list(shapes.values())[:MOST_SHAPES]
                 for word, other in changed_packets(one._replace(time=0, before=()),
                                                    self.plays.points)]  # fmt: skip
        scores = self.beliefs.scores
        order = np.flatnonzero(scores > scores.max() - ANOTHER - IN_DOUBT)
        order = order[np.argsort(-scores[order], kind="stable")][:ALIVE]
        return self.best_units(order, np.ones(len(order)), units)

    def best_units(
        self,
        order: np.ndarray[Any, Any], weights: np.ndarray[Any, Any],
        units: Iterable[tuple[str, Probe]] | None = None,
    ) -> list[Chosen]:  # fmt: skip
        """Return the units with the most expected information about some hypotheses (their places,
        and weights), none where none is worth it: a first one, then what adds most to those before
        it. Of two that are worth ENOUGH_BITS it is the one that comes first. units: what they ask,
        and units; by default those around the core."""
        if len(order) < 2:
            return []
        rules = [self.beliefs.rules[at] for at in order]
        shares = weights / weights.sum()
        played = {seen.through.unit for seen in self.beliefs.seen}
        asked = [(word, one) for word, one in units or self.units()
                 if one not in played and is_playable(one)]  # fmt: skip
        shows: dict[Probe, np.ndarray[Any, Any]] = {}
        chosen: list[Chosen] = []
        known, bits = np.zeros((len(order), 0), np.bool_), 0.0
        while len(chosen) < self.at_once:
            best: Chosen | None = None
            for word, one in asked:
                if one not in shows:
                    free = ~self.plays.decided(one, True)
                    shows[one] = self.features(self.predicted(one, rules), one, free)
                gain = information(np.concatenate([known, shows[one]], axis=1), shares) - bits
                if gain > (best[2] if best else LEAST_MORE if chosen else LEAST_BITS):
                    best = word, one, gain
                    if gain > ENOUGH_BITS:
                        break
            if best is None:
                break
            chosen.append(best)
            known, bits = np.concatenate([known, shows[best[1]]], axis=1), bits + best[2]
        return chosen

    def units(self) -> Iterator[tuple[str, Probe]]:
        """Yield units that may distinguish the likeliest hypotheses, with what they ask."""
        many = self.sought.kind in SHARES
        count, apart = (60, 3 * MS) if many else (4, 15 * MS)
        large = size_over_limit(self.sought, LARGE, count)
        count = max(count, over_limit(self.sought, large + HEADERS))
        protos = (UDP, TCP) if self.sought.kind == INJECT else (UDP,)
        apart = apart_for(self.beliefs.best, apart)
        extra = beyond(self.beliefs.best, max(apart // MS, 15))
        noise = self.size(large) if self.sought.limit else SMALL
        for proto in protos:
            neighbours = scope_unit(self.core, count + extra, apart, proto=proto, size=noise)
            yield "other flows", neighbours
        if self.sought.limit:
            yield "other streams, which share a limit", sharing_unit(self.core, self.sought)
        for size in (noise, SMALL) if self.sought.limit else (SMALL, TINY, LARGE):
            more = count + extra if size == SMALL else count
            yield "other flows, zeros", scope_unit(self.core, more, apart, plain=True, size=size)
        others = other_flows(self.unit, self.core[-1].ends)
        near = self.core[-1].ends.near
        others = [one._replace(ends=one.ends._replace(near=near)) for one in others[:48]]
        yield "flows of the capture", scope_unit(self.core, 2, apart, others)
        yield "again and again", self.repeated(self.core, count + extra, apart, noise)
        for word, before in (("noise before it", (6, 10 * MS, SMALL)),
                             ("much noise before it", (30, 5 * MS, 200))):  # fmt: skip
            after = count + extra, apart if self.sought.limit else before[1], noise
            yield word, preceded_unit(self.core, before, after)
        last = self.core[-1]
        for word, other in changed_packets(last, self.plays.points):
            changed = (*with_ends(self.core[:-1], last.ends, other.ends), other)
            yield word, self.repeated(changed, count + extra, apart, noise)
        if len(self.core) > 1:
            half = self.core[: len(self.core) // 2 + 1]
            end = half[-1]
            for words, size, many_, pause in (
                ("half of it, many small packets", 8, len(self.core) + 8, 3), ("half of it, large "
                "packets", 1200, max(3, sum(len(one.payload) for one in self.core) // 2000), 3),
                ("half of it, slowly", 60, 5, 500),
            ):  # fmt: skip
                fill = carriers(end.ends, end.time + pause * MS, many_, pause * MS, words, size)
                yield words, in_order([*half, *fill])
            alone = self.repeated(self.core[-1:], count + extra, apart, noise)
            yield "the last packet alone", alone
            yield (
                "slowly",
                scope_unit(
                    tuple(one._replace(time=one.time * 3) for one in self.core), count, apart
                ),
            )

    def size(self, octets: int) -> Size:
        """Return the size of noise, of `octets` in the direction that shows the effect: in the
        other one so small that a slower access network does not hold the first one up."""
        rate = self.plays.prober.rate
        other = max(int(octets * min(rate[not self.up] / rate[self.up], 1.0)), TINY)
        return (other, octets) if self.up else (octets, other)

    def others_in(self, unit: Probe) -> frozenset[Ends]:
        """Return the flows of a unit that are flows of the capture besides the core's."""
        own = {one.ends for one in self.core}
        known = {one.ends._replace(near=b"") for one in self.unit if one.ends not in own}
        return frozenset(one for one in flows_of(unit) if one._replace(near=b"") in known)

    def repeated(self, core: Probe, count: int, apart: int, size: Size = SMALL) -> Probe:
        """Return packets with the last one again and again, see `repeated_unit`: so often that it
        alone exceeds a limited rate, if that is not too often for a unit."""
        count = max(count, over_limit(self.sought, ip_size(core[-1])))
        count = min(count, (MOST_PACKETS - len(core)) // 3)
        return repeated_unit(core, count, apart, size, self.sought.kind)

    def equals(self) -> list[int]:
        """Return the likeliest hypothesis, and those that no unit distinguishes from it."""
        weights = self.beliefs.weights
        order = [int(at) for at in np.argsort(-weights, kind="stable")[:ALIVE]]
        others = {*alike(self.beliefs.best), *other_ways(self.beliefs.best, self.up)}
        order += [at for at, one in enumerate(self.beliefs.hypotheses)
                  if one in others and at not in order]  # fmt: skip
        rules = [self.beliefs.rules[at] for at in order]
        differ = self.differences(rules)
        scores = self.beliefs.scores[order]
        scope = np.array([self.beliefs.hypotheses[at] in others for at in order])
        same = (differ == 0) | scope & (differ <= FEW) & (scores > scores[0] - IN_DOUBT)
        return [at for at, is_same in zip(order, same, strict=True) if is_same]

    def differences(
        self, rules: Sequence[Rule], hidden: Hidden | None = None
    ) -> np.ndarray[Any, Any]:
        """Return in how much of what units show each of some rules differs from the first one, over
        all that were played and those around the core, int64[rules]. hidden: which packets of a
        unit say nothing; by default those that a rule found before decides."""
        hidden = hidden or self.plays.decided
        differ = np.zeros(len(rules), np.int64)
        units = [(seen.through.unit, not seen.capture) for seen in self.beliefs.seen]
        predictions = [self.limited(seen.through, rules) for seen in self.beliefs.seen]
        for word, one in self.units():
            if is_playable(one) and word in (
                "other flows", "other flows, zeros", "flows of the capture", "again and again",
                "noise before it", "other direction",
            ):  # fmt: skip
                units.append((one, True))
                predictions.append(self.predicted(one, rules))
        for (one, tight), predicted in zip(units, predictions, strict=True):
            features = self.features(predicted, one, ~hidden(one, tight))
            differ += (features != features[0]).sum(axis=1)
        return differ

    def features(
        self, predicted: Strikes, unit: Probe, free: np.ndarray[Any, Any]
    ) -> np.ndarray[Any, Any]:
        """Return what a unit shows of predictions, bool[rules, features]. free: bool[packets],
        which of its packets no other rule decides."""
        rest = predicted._replace(struck=predicted.struck & free, lost=predicted.lost & free)
        return shown(rest, self.sought, unit)

    def equal_when_exact(self, found: Found) -> list[Hypothesis]:
        """Return what no unit distinguishes from a rule now that its match is exact: a rule on all
        packets of a flow strikes the same whether it condemns the flow or not, and a limit of both
        directions as one of that in which more is sent."""
        best = found.best
        limits = found.act.get("act") in LIMITS and not found.sought.limit
        if best == found.began or "one_in" in best.keys or "on_s" in found.act or limits:
            return []
        ways = other_ways(best, self.up) if found.sought.limit else ()
        return self.indistinguishable(found, [*alike(best), *ways])

    def equal_with_others(self, found: Found, others: Sequence[Found]) -> list[Hypothesis]:
        """Return what no unit distinguishes from a rule while others are in force: packets that
        these decide, or mark alike, say nothing."""
        covering = [one.as_drop for one in others
                    if (one.decides is not None and one not in found.behind)
                    or (one.rule.act == "mark" and one.act == found.act)]  # fmt: skip
        if not covering:
            return []

        def hidden(unit: Probe, tight: bool) -> np.ndarray[Any, Any]:
            struck = strikes(self.plays.through(unit, tight), covering).struck
            return np.asarray(struck.any(axis=0))

        variants = (*alike(found.best), *other_ways(found.best, found.finding.up))
        return self.indistinguishable(found, variants, hidden)

    def indistinguishable(
        self, found: Found, candidates: Iterable[Hypothesis], hidden: Hidden | None = None
    ) -> list[Hypothesis]:
        """Return those candidates that no unit distinguishes from a rule, and that are not known to
        be equal. hidden: see `differences`."""
        rules = {one: one.rule() for one in candidates if one not in (found.best, *found.equal)
                 and not found.refutes(one)}  # fmt: skip
        usable = {one: rule for one, rule in rules.items() if rule is not None}
        best = found.best.rule()
        if best is None or not usable:
            return []
        differ = self.differences([best, *usable.values()], hidden)
        return [one for one, count in zip(usable, differ[1:], strict=True) if not count]

    def predicted(self, unit: Probe, rules: Sequence[Rule]) -> Strikes:
        """Return what rules with an effect would strike of a unit."""
        return self.limited(self.plays.through(unit, True), rules)

    def limited(self, through: Passing, rules: Sequence[Rule]) -> Strikes:
        """Return what rules with an effect would strike of a unit as it passes the box: of a
        limited rate, what exceeds it."""
        if self.sought.limit:
            return strikes_of_limit(through, with_act(rules, self.sought), self.plays.base)
        return strikes(through, rules)


def is_playable(unit: Probe) -> bool:
    """Return whether a unit is short enough, and each of its datagrams fits one packet."""
    return len(unit) <= MOST_PACKETS and all(
        len(one.payload) <= DATAGRAM for one in unit if one.ends.proto != TCP
    )


def payload_kind(one: Sent) -> str:
    """Return the kind of a packet's payload."""
    return read(one).kind
