# SPDX-License-Identifier: BSD-3-Clause
"""Hypotheses and their probabilities: rules of the policy language, weighed by all that was seen.

A hypothesis is a match, a scope, a direction and an allowance. Each is weighed with every kind of
effect that the capture suggests (packets that never arrive, a share of losses, a delay); the act
itself is measured later. Hypotheses grow by single conditions that packets of the capture meet; of
each generation the best are kept.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit  # type: ignore[import-untyped]

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.atoms import WITH_PAYLOAD, Match, counts_from, place_at
from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.fit import SHARES as GRID
from midcall.experiments.probe.fit import (
    TOGETHER,
    agreement,
    agreement_of_shares,
    answered,
    by_stream,
    fit_without_rule,
    fits_by_share,
    fits_of_limit,
    gains,
    strikes_of_limit,
)
from midcall.experiments.probe.line_oracle import DOUBLE, DROP, INJECT, MARK, SHARES, Effect
from midcall.experiments.probe.prober import Outcome
from midcall.testbed.policy.language import Rule
from midcall.testbed.probing.probe import Ends, Probe, flows_of
from midcall.testbed.probing.strikes import Passing, SameRules, Strikes, strikes

Floats = NDArray[np.float64]

SCOPES = ("packet", "flow", "call", "client", "pair", "server", "triple")
WAYS = (None, "up", "down")
#: Hypotheses that are kept, that grow, and conditions of one match, at most.
KEPT, GROWING, MOST_KEYS = 200, 14, 4
#: Hypotheses with an allowance, and with an end of a condemnation, that are kept in addition.
WITH_ALLOWANCE, WITH_END = 40, 20
#: Part of the evidence of packets without the effect that counts against a condition which another
#: one may narrow.
FORGIVEN = 0.2
#: Prior cost of a condition, a direction, an allowance, an end of a condemnation, and a scope other
#: than the flow, in nats.
COST = {"key": 1.2, "number": 2.0, "way": 1.5, "after": 3.0, "scope": 1.0, "media": 2.5,
        "lasts": 3.0}  # fmt: skip
#: Rate in kbit/s below which what looks like a limit may be a drop that ends.
SURE_RATE = 8.0
#: Prior cost of each window or allowance of a rule that limits a rate surely, in addition, in nats:
#: which packets wait or are lost at the edge of a limit depends on little, and of many numbers one
#: fits.
OVERFIT = 4.0
#: Times of condemnations that are tried around one, as parts of it.
LONGER = (0.9, 0.97, 1.03, 1.1)
#: By how much a hypothesis must be able to come near the best one to be kept, in nats.
MARGIN = 40.0
#: Conditions that count what a flow has sent, and all that bound a number: each has many values, so
#: each costs more.
COUNTS = ("packets", "bytes", "seconds")
WINDOWS = ("size", *COUNTS, "entropy")


class Hypothesis(NamedTuple):
    """A rule without the parameters of its act. match, after: as JSON; media: whether only media
    are struck; lasts: how long a condemnation lasts, in s, 0 for longer than a unit."""

    match: str
    scope: str = "flow"
    way: str | None = None
    after: str = ""
    media: bool = False
    lasts: float = 0.0

    @property
    def keys(self) -> Match:
        """Return the match."""
        result: Match = json.loads(self.match)
        return result

    @property
    def allowance(self) -> dict[str, Any]:
        """Return the keys of `after`, first the one that is counted; {} for none."""
        result: dict[str, Any] = json.loads(self.after) if self.after else {}
        return result

    def rule(self, act: dict[str, Any] | None = None, **more: Any) -> Rule | None:
        """Return it as a rule with an act (drop without one), None if the language forbids it."""
        fields: dict[str, Any] = {"name": "found", "match": self.keys, "grade": "A",
                                  "source": "midcall probe", "hypothesis": True}  # fmt: skip
        act = act or {"act": "drop-media" if self.media else "drop"}
        fields |= act | {key: value for key, value in more.items() if value is not None}
        if self.after:
            fields["after"] = self.allowance
        if self.way:
            fields["way"] = self.way
        if not self.media and act["act"] not in ("dns-lie", "drop-media") and self.scope != "flow":
            fields["scope"] = self.scope
        if self.lasts and self.condemns:
            fields.setdefault("lasts_s", self.lasts)
        try:
            return Rule.model_validate(fields)
        except ValueError:
            return None

    @property
    def condemns(self) -> bool:
        """Return whether a packet of its match condemns later ones."""
        return not self.media and self.scope != "packet"

    def may_strike(self, up: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which packets are of a direction that its `way` allows, bool[packets]. up:
        bool[packets]."""
        return np.full(len(up), True) if self.way is None else up == (self.way == "up")

    def sampled(self, part: float) -> Hypothesis:
        """Return it as a rule that inspects one packet in so many."""
        match = self.keys | {"one_in": max(round(part), 2)}
        return self._replace(match=json.dumps(match, sort_keys=True))

    @property
    def shared(self) -> bool:
        """Return whether what one flow sends may decide what another one loses: by its scope, or
        by the subject of its allowance."""
        return self.scope not in ("packet", "flow") or "per" in self.allowance

    @property
    def bounds(self) -> int:
        """Return how many windows and allowances it has."""
        return len(self.keys.keys() & WINDOWS) + bool(self.after)

    @property
    def prior(self) -> float:
        """Return the logarithm of its prior probability, up to a constant."""
        keys = self.keys
        numbers = {key for key in WINDOWS if keys.get(key, WITH_PAYLOAD) != WITH_PAYLOAD}
        cost = COST["key"] * len(keys) + COST["number"] * len(numbers)
        cost += COST["way"] if self.way else 0.0
        cost += COST["after"] if self.after else 0.0
        cost += COST["key"] * ("direction" in self.allowance)
        cost += COST["key"] if self.after and self.shared else 0.0
        cost += COST["scope"] if self.scope != "flow" else 0.0
        cost += COST["media"] if self.media else 0.0
        cost += COST["lasts"] if self.lasts else 0.0
        if "packets" in keys and str(keys["packets"]).startswith("1-"):
            cost += 1.5
        return -cost

    @property
    def words(self) -> str:
        """Return it in short."""
        match = ", ".join(f"{key}={value}" for key, value in self.keys.items())
        more = [self.scope, *([f"way {self.way}"] if self.way else [])]
        more += [f"after {self.after}"] if self.after else []
        more += ["media only"] if self.media else []
        more += [f"lasts {self.lasts:g} s"] if self.lasts else []
        return f"{match} ({'; '.join(more)})"


def hypothesis(match: Match, *rest: Any, **more: Any) -> Hypothesis:
    """Return a Hypothesis for a match."""
    return Hypothesis(json.dumps(match, sort_keys=True), *rest, **more)


class Seen(NamedTuple):
    """A unit that was played: as it passes the box, and its outcome. capture: whether it is the
    capture itself; others: flows of the capture in another unit. Another rule may strike them."""

    through: Passing
    outcome: Outcome
    capture: bool = False
    others: frozenset[Ends] = frozenset()

    @property
    def doubtful(self) -> NDArray[np.bool_] | None:
        """Return which flows another rule may strike, bool[flows], None for none."""
        flows = [self.capture or one in self.others for one in flows_of(self.outcome.unit)]
        return np.array(flows) if any(flows) else None


class Beliefs:
    """Hypotheses with their scores over everything that was seen.

    effects: kinds of effects that the rule may have, equally likely before the first outcome. A
    rule on media alone can only drop. of_units: float64[rules, effects], ln of prior times
    likelihood of the units; of_capture: float64[rules, effects, SHARES], ln of the likelihood of
    the plays of the capture, which share what part of the packets shows the effect.
    """

    def __init__(self, base: Baseline, effects: Sequence[Effect]) -> None:
        self.base, self.effects = base, tuple(effects)
        self.by_packet = all(effect.kind == MARK for effect in effects)  # whatever the scope is
        self.seen: list[Seen] = []
        self.hypotheses: list[Hypothesis] = []
        self.rules: list[Rule] = []
        self.of_units: Floats = np.zeros((0, len(self.effects)))
        self.of_capture: Floats = np.zeros((0, len(self.effects), len(GRID)))
        self.known: set[Hypothesis] = set()
        self.most: list[Floats] = []  # of each outcome seen, the best fit with each effect

    def observe(self, seen: Seen) -> None:
        """Weigh all hypotheses by one more outcome."""
        self.seen.append(seen)
        self.most.append(np.full(len(self.effects), np.inf))  # not known yet
        if not self.rules:
            return
        fitted = self._fit(self.rules, seen)
        self.most[-1] = mean_over_shares(fitted).max(axis=0)
        if seen.capture:
            self.of_capture = self.of_capture + fitted
        else:
            self.of_units = self.of_units + mean_over_shares(fitted)

    def striking(self, new: list[tuple[Hypothesis, Rule]]) -> list[tuple[Hypothesis, Rule]]:
        """Return those of some hypotheses, each with its rule, that strike a packet of a play of
        the capture, or would without an allowance that copies use up together."""
        plays = [seen.through for seen in self.seen if seen.capture]
        if not new or not plays:
            return new
        rules = [rule.model_copy(update={"after": None}) if one.allowance.get("per") == "server"
                 else rule for one, rule in new]  # fmt: skip
        struck = np.any([strikes(one, rules).struck.any(axis=1) for one in plays], axis=0)
        return [one for one, some in zip(new, struck, strict=True) if some]

    def add(self, more: Iterable[Hypothesis]) -> None:
        """Take in new hypotheses, weighed by everything that was seen.

        One that strikes no packet of the capture is left out (copies may use up an allowance
        together); any other as soon as it stays more than `margin` below the best one, even if it
        fits all outcomes that are left as well as the hypothesis that fits each of them best.
        """
        new: list[tuple[Hypothesis, Rule]] = []
        for one in more:
            if not one.condemns:
                one = one._replace(lasts=0.0)
            if one in self.known or (self.by_packet and one.scope != "packet"):
                continue
            self.known.add(one)
            rule = one.rule()
            if rule is not None and self.allows(one):
                new.append((one, rule))
        new = self.striking(new)
        if not new:
            return
        only_drops = np.array([one.media for one, _ in new])
        others = np.array([effect.kind not in (DROP, INJECT) for effect in self.effects])
        units = np.array([[one.prior] * len(self.effects) for one, _ in new])
        units[np.ix_(only_drops, others)] = -np.inf
        capture = np.zeros((*units.shape, len(GRID)))
        least = self.table.max() - self.margin if self.rules else -np.inf
        for number, seen in enumerate(self.seen):
            fitted = self._fit([rule for _, rule in new], seen)
            whole = mean_over_shares(fitted)
            if seen.capture:
                capture = capture + fitted
            else:
                units = units + whole
            known = np.where(np.isfinite(self.most[number]), self.most[number], -np.inf)
            self.most[number] = np.maximum(known, whole.max(axis=0))
            if least == -np.inf:
                continue
            rest = np.sum(self.most[number + 1 :], axis=0)
            alive = (units + mean_over_shares(capture) + rest).max(axis=1) > least
            if not alive.all():
                new = [one for one, is_alive in zip(new, alive, strict=True) if is_alive]
                units, capture = units[alive], capture[alive]
            if not new:
                return
        self.hypotheses += [one for one, _ in new]
        self.rules += [rule for _, rule in new]
        self.of_units = np.concatenate([self.of_units, units])
        self.of_capture = np.concatenate([self.of_capture, capture])

    def allows(self, one: Hypothesis) -> bool:
        """Return whether the language allows the forged answer that is sought with a hypothesis: a
        page answers a name over HTTP, a false address a name over DNS."""
        sought = self.effects[0]
        return sought.kind != INJECT or one.rule({"act": sought.detail}) is not None

    @property
    def margin(self) -> float:
        """Return MARGIN in nats of the table, whose differences count less for limits of a rate."""
        limited = any(effect.limit for effect in self.effects)
        return MARGIN / TOGETHER if limited else MARGIN

    def prune(self, most: int = KEPT) -> None:
        """Keep the best hypotheses, and the best of those with an allowance or an end of a
        condemnation: a capture alone hardly distinguishes them from windows of its flow, of which
        there are many."""
        order = np.argsort(-self.scores, kind="stable")
        late = [at for at in order[most:] if self.hypotheses[at].after][:WITH_ALLOWANCE]
        ends = [at for at in order[most:] if self.hypotheses[at].lasts][:WITH_END]
        order = np.array(list(dict.fromkeys([*order[:most], *late, *ends])), np.int64)
        self.known = {self.hypotheses[at] for at in order}
        self.hypotheses = [self.hypotheses[at] for at in order]
        self.rules = [self.rules[at] for at in order]
        self.of_units, self.of_capture = self.of_units[order], self.of_capture[order]

    @property
    def table(self) -> Floats:
        """Return ln of prior times likelihood of each rule and effect, float64[rules, effects]."""
        return np.asarray(self.of_units + mean_over_shares(self.of_capture))

    def _fit(self, rules: Sequence[Rule], seen: Seen) -> Floats:
        """Return how well rules explain a unit with each effect and share, ln,
        float64[rules, effects, SHARES]; effects without a share have the same value for all."""
        predicted, doubtful = strikes(seen.through, rules), seen.doubtful
        columns = []
        for effect in self.effects:
            if effect.limit:
                limited = strikes_of_limit(seen.through, with_act(rules, effect), self.base).struck
                fitted = fits_of_limit(
                    predicted.struck, limited, seen.outcome, self.base, effect
                )[:, None]  # fmt: skip
            else:
                fitted = fits_by_share(predicted, seen.outcome, self.base, effect, doubtful)
            columns.append(np.broadcast_to(fitted, (len(rules), len(GRID))))
        return np.stack(columns, axis=1)

    def gain_of(self, one: Hypothesis, seen: Seen) -> float:
        """Return ln P(an outcome | a hypothesis) - ln P(it | no rule), for the effect that fits."""
        rule = one.rule()
        return float(mean_over_shares(self._fit([rule], seen)).max()) if rule else -math.inf

    @property
    def whole(self) -> Floats:
        """Return the table with less difference between rules of one limited rate: the packets of a
        bucket or queue show one state, which no prediction has to the last packet."""
        limited = np.array([bool(effect.limit) for effect in self.effects])
        table = self.table
        if not limited.any() or not self.rules:
            return table
        priors = np.array([one.prior for one in self.hypotheses])[:, None]
        fitted = table[:, limited] - priors
        rates = np.array([effect.act["rate_kbit"] for effect in self.effects if effect.limit])
        bounds = np.array([one.bounds for one in self.hypotheses])[:, None]
        cost = OVERFIT * bounds * (rates >= SURE_RATE)
        best = fitted.max(axis=0)
        best = np.where(np.isfinite(best), best, 0.0)
        result = table.copy()
        result[:, limited] = priors - cost + best + TOGETHER * (fitted - best)
        return result

    @property
    def scores(self) -> Floats:
        """Return the score of each hypothesis with any of the effects."""
        return np.asarray(np.logaddexp.reduce(self.whole, axis=1))

    @property
    def chances(self) -> Floats:
        """Return the probability of each kind of effect."""
        whole = np.logaddexp.reduce(self.whole, axis=0)
        values = np.exp(whole - whole.max())
        return np.asarray(values / values.sum())

    @property
    def sought(self) -> Effect:
        """Return the likeliest effect."""
        return self.effects[int(self.chances.argmax())] if self.rules else self.effects[0]

    @property
    def weights(self) -> Floats:
        """Return the probability of each hypothesis."""
        scores = self.scores
        values = np.exp(scores - scores.max())
        return np.asarray(values / values.sum())

    @property
    def covered(self) -> float:
        """Return the probability that one of the hypotheses is right: against something that
        strikes any packets, with the prior of a match of one condition too many."""
        other = -COST["key"] * (MOST_KEYS + 1) + sum(
            fit_without_rule(seen.outcome, self.base, self.sought, seen.doubtful)
            for seen in self.seen
        )  # fmt: skip
        return float(expit(np.logaddexp.reduce(self.scores) - other))

    @property
    def explained(self) -> float:
        """Return the share of packets that are struck, or that the likeliest hypothesis strikes, of
        which both holds."""
        both = any_ = 0.0
        rule, sought = self.rules[int(self.scores.argmax())], self.sought
        for seen in self.seen:
            found = strikes(seen.through, [rule])
            mask = found.lost[0] if sought.kind in (DROP, INJECT) else found.struck[0]
            if sought.limit and not (mask & ~seen.outcome.streams).any():
                continue  # of a stream, writes at several paces have shown the limit
            if sought.kind == INJECT:
                mask = np.concatenate([mask, answered(found, seen.outcome.unit, sought)[0]])
            compared = agreement_of_shares if sought.kind in SHARES else agreement
            one, other = compared(mask, seen.outcome, self.base, sought)
            both, any_ = both + one, any_ + other
        return both / any_ if any_ else 1.0

    @property
    def best(self) -> Hypothesis:
        """Return the likeliest hypothesis."""
        return self.hypotheses[int(self.scores.argmax())]

    def top(self, most: int) -> list[Hypothesis]:
        """Return the likeliest hypotheses."""
        return [self.hypotheses[at] for at in np.argsort(-self.scores, kind="stable")[:most]]

    def grow(self, parts: Sequence[Match]) -> None:
        """Make hypotheses of single conditions, then let the best grow by more of them."""
        drops = any(effect.kind == DROP for effect in self.effects)
        media = (False, True) if drops else (False,)
        for is_media in media:
            self.add(variants(parts, is_media))
        self.add(list(self.changed(2 * GROWING)))
        self.add(self.joined(self.promising(parts), parts))
        for _ in range(2):
            self.add(self.joined(distinct(self.top(GROWING * 3), GROWING), parts))
            self.prune(4 * KEPT)
            self.add(list(self.changed(GROWING // 2)))
        self.prune()

    def joined(
        self, parents: Iterable[Hypothesis], parts: Sequence[Match]
    ) -> Iterator[Hypothesis]:  # fmt: skip
        """Yield hypotheses with one condition more."""
        for parent in parents:
            for part in parts:
                match = combined(parent.keys, part)
                if match is not None:
                    yield parent._replace(match=json.dumps(match, sort_keys=True))

    def promising(self, parts: Sequence[Match]) -> list[Hypothesis]:
        """Return the conditions that strike most of the packets with the effect and few others,
        however little they explain alone: another condition may spare the others."""
        sought = next((one for one in self.effects if not one.limit), self.effects[0])
        if sought.kind == INJECT or sought.limit:
            return []
        usable = [(one, rule) for one in (hypothesis(part, "packet") for part in parts)
                  if (rule := one.rule()) is not None]  # fmt: skip
        totals = np.zeros(len(usable))
        for seen in self.seen if usable else ():
            gain = gains(seen.outcome, self.base, sought)
            struck = strikes(seen.through, [rule for _, rule in usable]).struck
            totals += struck @ np.where(gain > 0, gain, FORGIVEN * gain)
        order = np.argsort(-totals, kind="stable")[:GROWING]
        return [usable[at][0] for at in order if totals[at] > 0]

    def climb(self, parts: Sequence[Match], rounds: int = 3) -> None:
        """Improve the best hypotheses by one condition more, one other, or one less, or by a single
        one instead of all of the likeliest."""
        single = [json.dumps(part, sort_keys=True) for part in parts]
        for _ in range(rounds):
            before = self.best
            more: list[Hypothesis] = list(self.changed(4))
            more += [before._replace(match=match) for match in single]
            for parent in distinct(self.top(9), 3):
                keys = parent.keys
                for part in parts:
                    for drop in (None, *(keys if parent == before else ())):
                        rest = {key: value for key, value in keys.items() if key != drop}
                        if broken(rest):
                            continue
                        joined = combined(rest, part)
                        if joined is not None:
                            more.append(parent._replace(match=json.dumps(joined, sort_keys=True)))
            self.add(more)
            if self.best == before:
                break

    def changed(self, most: int) -> Iterator[Hypothesis]:
        """Yield the best hypotheses with another scope or direction, or a condition less."""
        for one in self.top(most):
            yield from without_media(one)
            for scope in () if one.media else SCOPES:
                yield one._replace(scope=scope)
            if self.sought.kind != INJECT:
                for way in WAYS:
                    yield one._replace(way=way)
            if one.after:
                yield one._replace(after="")
                yield from nearby(one)
                yield from shared(one)
            if one.lasts:
                yield one._replace(lasts=0.0)
                for part in LONGER:
                    yield one._replace(lasts=round(one.lasts * part, 3))
            keys = one.keys
            if str(keys.get("packets", "")).endswith("-"):
                for step in (-1, 1):
                    count = int(str(keys["packets"])[:-1]) + step
                    if count > 1:
                        other = keys | {"packets": f"{count}-"}
                        yield one._replace(match=json.dumps(other, sort_keys=True))
            yield from self.with_other_count(one)
            if len(keys) > 1:
                for key in keys:
                    fewer = {name: value for name, value in keys.items() if name != key}
                    if broken(fewer):
                        continue
                    yield one._replace(match=json.dumps(fewer, sort_keys=True))

    def with_other_count(self, one: Hypothesis) -> Iterator[Hypothesis]:
        """Yield a hypothesis on what a flow has sent, or how long it lasts, with each other count
        instead that begins at the same packet."""
        keys, rule = one.keys, one.rule()
        own = [key for key in COUNTS if key in keys]
        if len(own) != 1 or rule is None or not str(keys[own[0]]).endswith("-"):
            return
        for seen in self.seen:
            struck = strikes(seen.through, [rule]).struck[0]
            if struck.any():
                at = int(np.flatnonzero(seen.through.packet == np.argmax(struck))[0])
                rest = {key: value for key, value in keys.items() if key != own[0]}
                for count in counts_from(place_at(seen.through, at)):
                    if own[0] not in count:
                        yield one._replace(match=json.dumps(rest | count, sort_keys=True))
                return


def mean_over_shares(fitted: Floats) -> Floats:
    """Return ln of the mean likelihood over the last axis."""
    whole = np.logaddexp.reduce(fitted, axis=-1) - math.log(fitted.shape[-1])
    return np.asarray(whole, np.float64)


def with_act(rules: Sequence[Rule], effect: Effect) -> tuple[Rule, ...]:
    """Return rules that drop as rules with the act of a limited rate; the same objects again for
    the same rules, as each of several units meets them."""
    return _limited(SameRules(rules), effect.limit)


@functools.lru_cache(maxsize=32)
def _limited(same: SameRules, limit: str) -> tuple[Rule, ...]:
    act = json.loads(limit)
    return tuple(rule.model_copy(update=act) for rule in same.rules)


def without_media(one: Hypothesis) -> Iterator[Hypothesis]:
    """Yield a hypothesis on media alone as one that strikes RTP packet by packet, and as one that
    strikes the flows of all that has a payload."""
    if not one.media:
        return
    keys = one.keys
    if keys.get("payload", ["rtp"]) == ["rtp"]:
        match = json.dumps(keys | {"payload": ["rtp"]}, sort_keys=True)
        yield one._replace(match=match, scope="packet", media=False)
    if "size" not in keys:
        match = json.dumps(keys | {"size": WITH_PAYLOAD}, sort_keys=True)
        ways = dict.fromkeys((one.way, None))  # in this order, whatever the process's hashes are
        yield from (one._replace(match=match, way=way, media=False) for way in ways)


def nearby(one: Hypothesis) -> Iterator[Hypothesis]:
    """Yield a hypothesis with allowances a little smaller and larger: packets of both directions
    meet the box in another order in each play."""
    after = one.allowance
    key, value = next(iter(after.items()))
    parts = (-0.1, -0.03, -0.01, 0.01, 0.03, 0.1)
    steps = {"flows": (-1, 1), "packets": (-2, -1, 1, 2), "bytes": (-300, -120, -50, 50, 120, 300),
             "seconds": tuple(part * value for part in parts)}[key]  # fmt: skip
    for step in steps:
        other = round(value + step, 3)
        if other > 0:
            yield one._replace(after=json.dumps(after | {key: other}))


def shared(one: Hypothesis) -> Iterator[Hypothesis]:
    """Yield a hypothesis with an allowance as one whose flows have an allowance each, or share it
    as those of a subject do."""
    count = {key: value for key, value in one.allowance.items() if key != "per"}
    for subject in SCOPES[1:]:  # a packet has no allowance
        after = count if subject == "flow" else count | {"per": subject}
        yield one._replace(after=json.dumps(after))


def variants(parts: Sequence[Match], media: bool) -> Iterator[Hypothesis]:
    """Yield single conditions with the scopes that differ most."""
    for part in parts:
        for scope in ("flow",) if media else ("packet", "flow", "client", "server"):
            yield hypothesis(part, scope, None, "", media)


def broken(keys: Match) -> bool:
    """Return whether a match has a key that says something about one that is not there."""
    if "name_in" in keys and "name" not in keys:
        return True
    return "verdict" in keys and not {"app", "role"} & keys.keys()


def combined(one: Match, other: Match) -> Match | None:
    """Return two matches as one; None if they say something about the same thing."""
    same = one.keys() & other.keys()
    if same == {"size"} or same == {"packets"} or same == {"entropy"}:
        key = next(iter(same))
        low = [str(value[key]) for value in (one, other)]
        if low[0].endswith("-") != low[1].endswith("-"):
            begin = next(word for word in low if word.endswith("-"))
            end = next(word for word in low if not word.endswith("-")).split("-")[-1]
            if float(begin[:-1]) <= float(end):
                return {**one, key: f"{begin}{end}"}
        return None
    if same:
        return None
    joined = one | other
    return joined if len(joined) <= MOST_KEYS else None


def distinct(listed: Sequence[Hypothesis], most: int) -> list[Hypothesis]:
    """Return up to `most` hypotheses, at most three of one match."""
    counts: dict[str, int] = {}
    result = []
    for one in listed:
        counts[one.match] = counts.get(one.match, 0) + 1
        if counts[one.match] <= 3:
            result.append(one)
    return result[:most]


def shown(predicted: Strikes, sought: Effect, unit: Probe) -> NDArray[np.bool_]:
    """Return what a prober can see of predictions: bool[rules, features]."""
    if sought.kind == INJECT:
        datagrams = np.array([one.ends.proto != TCP for one in unit])
        if sought.on_path and sought.detail != "dns-lie":
            return predicted.opened
        return np.concatenate([predicted.opened, predicted.struck[:, datagrams]], axis=1)
    if sought.limit:
        return by_stream(predicted.struck, unit)
    if sought.kind in (DOUBLE, MARK):  # no socket shows them of a stream
        return predicted.struck[:, [one.ends.proto != TCP for one in unit]]
    return predicted.lost if sought.kind == DROP else predicted.struck


def information(features: NDArray[np.bool_], weights: Floats) -> float:
    """Return the expected information of a unit in bits: the entropy over what it would show."""
    shares: dict[bytes, float] = {}
    for row, weight in zip(np.packbits(features, axis=1), weights, strict=True):
        key = row.tobytes()
        shares[key] = shares.get(key, 0.0) + float(weight)
    return entropy_of(list(shares.values()))


def entropy_of(shares: Iterable[float]) -> float:
    """Return the entropy of probabilities, in bits."""
    return -sum(share * math.log2(share) for share in shares if share > 0)
