# SPDX-License-Identifier: BSD-3-Clause
"""What a search found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.beliefs import Beliefs, Hypothesis, Seen
from midcall.experiments.probe.code_points import word_of
from midcall.experiments.probe.effects import LEAST_REORDERED, Finding
from midcall.experiments.probe.lasting import Lasting
from midcall.experiments.probe.line_oracle import DELAY, DOUBLE, MARK, PARTIAL, REORDER, Effect
from midcall.experiments.probe.priorities import Classes
from midcall.experiments.probe.prober import MS
from midcall.experiments.probe.unseen import Unseen
from midcall.experiments.probe.variants import mechanism
from midcall.testbed.policy.language import INJECTED, Rule
from midcall.testbed.probing.probe import Probe
from midcall.testbed.probing.strikes import Passing, strikes

#: Share of the probability that a rule keeps which one of its own probes contradicts: of such rules
#: the mechanism was right in 7 of 8 cases of one rule that were drawn afresh on 2026-11-28.
REFUTED = 0.8
#: Share of losses from which they are called a drop.
NEARLY_ALL = 0.95
#: Chance of enforcement that is assumed where no packet shows an effect in most copies.
RARELY = 0.4
#: Share of the named rules that were right where the comparison left no doubt: 69 of 72 first
#: answers on one rule of three lists of policies. Of two rules it is that of each: where no probe
#: contradicted either, 17 of 18 such answers of the nineteenth and twentieth list were right.
TRUSTED = 0.95
#: Least share of its effect that a rule must explain to be sure, and that the first rule, which may
#: be unsure, must explain to be named.
LEAST_EXPLAINED, LEAST_OF_FIRST = 0.5, 0.02
#: Acts after which packets never arrive, or forged answers do.
BLOCKING = {"drop", "stall", "drop-media", *INJECTED}
#: Acts after which all packets arrive.
LOSSLESS = ("delay", "jitter", "reorder", "duplicate", "mark")


class AllowList(NamedTuple):
    """What a rule lets pass that it would strike.

    matches: of that, in the policy language; behind: whether a packet that passes by its payload
    also does so behind one of its flow that is struck; whole: whether what is struck passes behind
    such a packet; both are None where that was not asked, or nothing shows it.
    """

    matches: Sequence[dict[str, Any]] = ()
    behind: bool | None = None
    whole: bool | None = None


@dataclass(eq=False)  # two are the same rule only if they are one object
class Found:
    """One rule that was found. weights: hypotheses with their probabilities, the likeliest first;
    equal: those that no unit distinguishes from the first; core: packets that cause the effect;
    finding: the effect that led to it; began: the rule before its numbers were measured."""

    best: Hypothesis
    probability: float
    sought: Effect
    beliefs: Beliefs
    core: Probe
    finding: Finding
    began: Hypothesis
    weights: list[tuple[Hypothesis, float]] = field(default_factory=list)
    equal: list[Hypothesis] = field(default_factory=list)
    explained: float = 1.0
    act: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    per: str = ""
    lasting: Lasting | None = None
    octets: list[str] = field(default_factory=list)
    allow_list: AllowList = field(default_factory=AllowList)
    notes: list[str] = field(default_factory=list)
    behind: list[Found] = field(default_factory=list)  # rules found before, which come behind it
    classes: Classes | None = None  # of a queue; None where it is not known whether it has several
    leaves_other: bool = False  # whether rules behind it decide the other direction
    scope_shown: bool = False  # whether other packets have shown its scope, see `take_scope`
    spares_kinds: bool = False  # whether it strikes all kinds of payload but a few
    form: str = ""  # of what follows its trigger, where the usual one does not serve, see `Tail`
    refused: bool = False  # whether forged answers came to attempts to connect alone

    def refute(self, note: str) -> None:
        """Note that a probe contradicts the rule."""
        self.probability *= REFUTED
        self.notes.append(note)

    def other_mechanisms(self, least: float) -> list[Hypothesis]:
        """Return hypotheses with the rule's match and another scope or direction, the likeliest
        first. least: of their probability, as a share of the rule's own."""
        own = dict(zip(self.beliefs.hypotheses, self.beliefs.weights, strict=True))
        known = [one for one in own if one.match == self.began.match and (
            mechanism(one) != mechanism(self.began))]  # fmt: skip
        enough = least * own.get(self.began, 1.0)
        return sorted((one for one in known if own[one] >= enough), key=lambda one: -own[one])

    def take_mechanism(self, other: Hypothesis) -> None:
        """Give the rule, and what no unit distinguishes from it, the scope and direction of another
        hypothesis."""
        before = mechanism(self.began)

        def changed(one: Hypothesis) -> Hypothesis:
            return one._replace(scope=other.scope, way=other.way)

        self.best, self.began = changed(self.best), changed(self.began)
        self.equal = [changed(one) for one in self.equal if mechanism(one) == before]

    def take_exact(self, best: Hypothesis) -> None:
        """Take the hypothesis with exact numbers, also in what no unit distinguishes from it."""
        before, keys = self.best.keys, best.keys
        exact = {key for key in before.keys() & keys if before[key] != keys[key]}

        def changed(one: Hypothesis) -> Hypothesis:
            match = {key: keys[key] if key in exact else value for key, value in one.keys.items()}
            return one._replace(match=json.dumps(match, sort_keys=True))

        self.best = best
        self.equal = [one for one in dict.fromkeys(map(changed, self.equal)) if one != best]

    def take_allow_list(self, seen: AllowList) -> None:
        """Take what the rule lets pass, and what that shows of its scope."""
        self.allow_list = seen
        if seen.behind is not None and self.best.scope in ("packet", "flow"):
            self.take_scope("packet" if seen.behind else "flow")

    def take_scope(self, scope: str) -> None:
        """Give the rule the scope that was shown, by what it spares or by other flows of a client;
        what has another one is not equal to it."""
        self.scope_shown = True
        self.best, self.began = (one._replace(scope=scope) for one in (self.best, self.began))
        self.equal = [one for one in self.equal if one.scope == scope and one != self.best]

    def seen_without_spared(self) -> Iterator[Seen]:
        """Yield what was played, without the packets that the rule lets pass."""
        for seen in self.beliefs.seen:
            spared = np.asarray(self.spares(seen.through).any(axis=0))
            yield seen._replace(outcome=seen.outcome.without(spared))

    def refutes(self, other: Hypothesis) -> bool:
        """Return whether the scope that was shown is not that of another hypothesis."""
        return self.scope_shown and other.scope != self.best.scope

    def take_fitting_mechanism(self, fits: Callable[[], bool], least: float) -> bool:
        """Give the rule the likeliest other scope or direction with which it fits; returns whether
        there is one. least: see `other_mechanisms`."""
        best, began, equal = self.best, self.began, self.equal
        for other in self.other_mechanisms(least):
            self.take_mechanism(other)
            if fits():
                return True
            self.best, self.began, self.equal = best, began, equal
        return False

    def take_single_packets(self) -> None:
        """Make the rule one on single packets of its direction, which leaves the other direction to
        rules behind it, unless probes distinguish that from the rule."""
        way = self.best.way or self.best.keys.get("direction")
        single = [
            one._replace(match=json.dumps(one.keys | {"direction": way}, sort_keys=True),
                         scope="packet", way=None)
            for one in (self.best, self.began)
        ]  # fmt: skip
        if way is not None and not self.best.media and set(single) & {self.best, *self.equal}:
            self.equal = [one for one in (self.best, *self.equal) if one != single[0]]
            self.best, self.began = single
            self.leaves_other = True

    @property
    def strikes_any(self) -> bool:
        """Return whether the rule strikes a packet of a unit that was played: two conditions may
        contradict each other."""
        rule = self.began.rule()
        return rule is not None and any(
            strikes(seen.through, [rule]).struck.any() for seen in self.beliefs.seen
        )

    @property
    def as_drop(self) -> Rule:
        """Return the rule as one that drops all that it strikes."""
        rule = self.best.rule(lasts_s=self.rule.lasts_s) or self.best.rule()
        assert rule is not None
        return rule

    def spares(self, through: Passing) -> NDArray[np.bool_]:
        """Return which packets the rules in front of it let pass, bool[rules, packets]."""
        before = [one.model_copy(update={"act": "drop"}) for one in self.rules[:-1]]
        return np.asarray(strikes(through, before).struck)

    @property
    def decides(self) -> Rule | None:
        """Return a rule that drops all packets that the rule keeps from rules behind it, in both
        directions unless it is known to leave one; None where it passes some of them on."""
        passes_on = "probability" in self.parameters or "one_in" in self.best.keys
        if passes_on or self.best.after or self.rule.act == "mark":
            return None
        keys = {key: value for key, value in self.best.keys.items()
                if key != "direction" or self.leaves_other}  # fmt: skip
        match = json.dumps(keys or {"packets": "1-"}, sort_keys=True)
        return self.best._replace(match=match, way=None).rule()

    @property
    def equal_matches(self) -> list[Hypothesis]:
        """Return what no unit distinguishes from it and has the same match."""
        return [one for one in self.equal if one.match == self.best.match]

    @property
    def rules(self) -> list[Rule]:
        """Return the rule, behind rules that let pass what it spares."""
        before = []
        for number, match in enumerate(self.allow_list.matches, 1):
            scope = "flow" if "payload" in match and self.allow_list.whole else "packet"
            fields = {"name": f"spared-{number}", "match": match, "act": "pass", "scope": scope,
                      "grade": "A", "source": "midcall probe", "hypothesis": True}  # fmt: skip
            before.append(Rule.model_validate(fields))
        return [*before, self.rule]

    @property
    def rule(self) -> Rule:
        """Return the rule."""
        act = dict(self.act)
        if not act and self.best.after and not self.best.media:
            act = {"act": "stall"}
        more: dict[str, Any] = {}
        if "probability" in self.parameters:
            share = self.parameters["probability"].value
            more |= {"probability": round(min(max(share, 0.01), 1.0), 3), "per": self.per}
        if "lasts_s" in self.parameters:
            more["lasts_s"] = round(self.parameters["lasts_s"].value, 2)
        rule = self.best.rule(act or None, **more) or self.best.rule()
        assert rule is not None
        return rule


@dataclass
class Result:
    """What a search found. verdict: clean, blocked, degraded or "cannot tell"; beliefs: after how
    many probes which hypotheses had which weights; rest: effects that no rule found explains;
    unseen: of a clean line, what would not have
    shown."""

    verdict: str = "cannot tell"
    found: list[Found] = field(default_factory=list)
    rest: list[Finding] = field(default_factory=list)
    contradicted: bool = False
    notes: list[str] = field(default_factory=list)
    base: Baseline | None = None
    findings: list[Finding] = field(default_factory=list)
    beliefs: list[dict[str, Any]] = field(default_factory=list)
    unseen: Unseen | None = None


def order_of(found: Sequence[Found]) -> list[Found]:
    """Return rules in the order in which they decide, as far as it is known."""
    result: list[Found] = []
    for one in found:
        place = next((at for at, other in enumerate(result) if other in one.behind), None)
        result.insert(len(result) if place is None else place, one)
    return result


def rough_act(sought: Effect) -> dict[str, Any]:
    """Return the act of an effect whose parameters were not measured, {} for a drop."""
    if sought.kind == PARTIAL and sought.amount < NEARLY_ALL:
        return {"act": "loss", "loss": round(sought.amount, 2)}
    if sought.kind == DOUBLE:
        return {"act": "duplicate", "share": round(sought.amount, 2)}
    if sought.kind == REORDER:
        share = round(max(sought.amount, 0.01), 2)
        return {"act": "reorder", "share": share, "delay_ms": LEAST_REORDERED / MS}
    if sought.kind == DELAY:
        return {"act": "delay", "delay_ms": round(sought.amount / MS, 1)}
    if sought.kind == MARK:
        return {"act": "mark", "code_point": word_of(int(sought.amount))}
    return {}
