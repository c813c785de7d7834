# SPDX-License-Identifier: BSD-3-Clause
"""The search: from two ends of a line to the rule of the box between them.

1. Controls show what the line does by itself; the capture, played several times, shows effects.
2. Every rule of the policy language that packets around an effect allow is a hypothesis. Each
   predicts what a unit would show; the unit with the most expected information is played, and
   Bayes' rule weighs. Where no rule explains an effect, the localiser finds the octets.
3. Probes for the exact numbers of the trigger, the act's parameters, how long it lasts, and its
   chance of enforcement.
"""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise import search as localiser
from midcall.experiments.localise.messages import noise
from midcall.experiments.localise.mutations import with_ends
from midcall.experiments.localise.oracle_session import BudgetSpent, OracleSession
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.localise.run import shorten_gaps
from midcall.experiments.probe.acts import Acts
from midcall.experiments.probe.atoms import (
    Match,
    allowance,
    atoms,
    places,
    references,
    windows_with_ends,
)
from midcall.experiments.probe.baseline import Baseline, baseline_of, control_units
from midcall.experiments.probe.beliefs import (
    ANOTHER,
    SCOPES,
    Beliefs,
    Hypothesis,
    Seen,
    as_packets,
    broken,
    combined,
    entropy_of,
    hypothesis,
    information,
    shown,
    with_act,
)
from midcall.experiments.probe.code_points import code_points_tried, rewrites_of, word_of
from midcall.experiments.probe.effects import (
    LEAST_REORDERED,
    SHOWN,
    SUSPICIOUS,
    Finding,
    findings,
    groups_of,
    joined,
)
from midcall.experiments.probe.expected import Model, not_seen, unexplained
from midcall.experiments.probe.fit import affected_of, events_of, strikes_of_limit
from midcall.experiments.probe.lasting import HORIZONS, Lasting, chance_of, inspected, lasting
from midcall.experiments.probe.line_oracle import (
    DELAY,
    DOUBLE,
    DROP,
    INJECT,
    MARK,
    PARTIAL,
    REORDER,
    SHARES,
    Effect,
    LineOracle,
)
from midcall.experiments.probe.phases import comes_in_runs, phases_of
from midcall.experiments.probe.priorities import POINTS, Classes, classes
from midcall.experiments.probe.prober import (
    HANDSHAKE,
    MS,
    PATIENCE,
    STREAM_PATIENCE,
    Outcome,
    Prober,
    ProbesSpent,
    parts_of,
)
from midcall.experiments.probe.quotas import quotas
from midcall.experiments.probe.rates import policer, ramps, rate_limit, shaper
from midcall.experiments.probe.refine import Refiner
from midcall.experiments.probe.tails import Tail, beyond, over_limit
from midcall.experiments.probe.translate import matches_of
from midcall.experiments.probe.units import (
    carriers,
    changed_packets,
    dense_unit,
    other_flows,
    preceded_unit,
    repeated_unit,
    scope_unit,
    sharing_unit,
)
from midcall.experiments.probe.unseen import Unseen, unseen
from midcall.testbed.network.link import PRESETS
from midcall.testbed.policy.language import INJECTED, Rule
from midcall.testbed.probing.probe import Ends, Probe, Sent, flows_of, in_order
from midcall.testbed.probing.sockets import ABORT, ENDED, RESET
from midcall.testbed.probing.strikes import Passing, Strikes, passing, strikes
from midcall.testbed.probing.virtual_line import FAR_LEG

#: Copies of the capture in one play, and packets and seconds of it that are played.
COPIES, PACKETS, SECONDS = 8, 200, 8.0
#: Chance of enforcement that is assumed where no packet shows an effect in most copies.
RARELY = 0.4
#: Packets and seconds of a capture that are played LONG_COPIES times where the first ones show
#: nothing, and packets of a flow behind the first one that shows an effect.
LONG_PACKETS, LONG_SECONDS, LONG_COPIES, BEHIND = 600, 40.0, 2, 60
#: Flows with further effects that are looked into at once.
AFFECTED = 6
#: Of a long capture: packets of each flow, at least, and flows with more of them.
OF_EACH, BUSIEST = 6, 4
#: Longest pauses that are tried until a capture lasts SECONDS at most, in ns.
PAUSES = (500 * MS, 300 * MS, 200 * MS, 120 * MS, 60 * MS, 30 * MS)
#: Plays of the capture before a line counts as clean, at least and at most; plays of more of it
#: with many packets of each flow, at most, and copies in each.
LEAST_PLAYS, PLAYS, MOST_DENSE, DENSE_COPIES = 3, 6, 3, 4
#: Score from which an effect is not played again.
PLAIN = 30.0
#: Expected information below which no unit is worth a probe, in bits, and units at most.
LEAST_BITS, MOST_UNITS = 0.03, 24
#: Units without news after which no more are played.
IN_VAIN = 4
#: Units that are played to distinguish scopes alone, and how much less likely one may be, in nats.
SCOPE_CHECKS, IN_DOUBT = 4, 9.0
#: Kinds of packets besides the core's of which one is changed.
MOST_SHAPES = 2
#: Packets of all units that do not tell two scopes apart: when a flow's app is known depends on the
#: order of its packets.
FEW = 2
#: Far addresses of a list that a rule may have, at most.
MOST_ADDRESSES = 12
#: Rules that are looked for, effects that are looked into, and the share of an effect that a rule
#: must explain.
MOST_RULES, MOST_TRIES, LEAST_EXPLAINED = 3, 7, 0.5
#: Conditions whose values are lists that a rule has as a whole.
LISTS = ("addresses", "dns", "name")
#: Probability from which a further rule is named at once: its scope may be in doubt.
LEAST_SURE = 0.3
#: Score of an effect that a further rule must explain.
LEAST_FURTHER = 14.0
#: Probes of the localiser where no rule explains an effect, and its longest window in ns.
OCTET_PROBES, LONGEST = 150, 6_000_000_000
#: Acts after which packets never arrive, or forged answers do.
BLOCKING = {"drop", "stall", "drop-media", *INJECTED}
#: Acts that limit a rate, and acts after which all packets arrive.
LIMITS = ("police", "shape", "prioritise")
LOSSLESS = ("delay", "jitter", "reorder", "duplicate", "mark")
#: What flows share that a rule of a scope condemns together.
CONDEMNED = {"client": ("near",), "call": ("near",), "server": ("far",), "pair": ("near", "far"),
             "triple": ("near", "far", "far_port")}  # fmt: skip
#: Effects on whether packets arrive.
BLOCKED = (DROP, PARTIAL, INJECT)
#: Probability of a rule that was identified again, and what it explains, as a share of those
#: before, at least, to replace it.
KEEPS = 0.8
#: Share of the probability that a rule keeps which one of its own probes contradicts: of such rules
#: the mechanism was right in 7 of 8 cases of one rule that were drawn afresh on 2026-11-28.
REFUTED = 0.8
#: The probability of a rule against something that strikes any packets, at least.
LEAST_COVERED = 0.4
#: Share of the named rules that were right where the comparison left no doubt: 27 of 30 on policies
#: that were drawn afresh on 2026-11-27.
TRUSTED = 0.9
#: How long the end of the capture is waited for, in ns: a third SYN comes 3 s after the first.
OPENING = 3_400 * MS
#: Score below which an effect is chance after all plays.
DOUBTFUL = 8.0
#: Share of an effect's score that a play to other addresses must show, too, so that the effect does
#: not depend on the capture's own.
ALSO = 0.3
#: Deviations of the line's own delay within which a packet of a stream was not sent again.
JITTERS = 5
#: Share of losses from which they are called a drop.
NEARLY_ALL = 0.95
#: Repetitions of a packet that show which kind of effect it suffers.
MANY = 30
#: Step of the lag of packets from the subscriber, in ns.
LAG_STEP = 4 * MS
#: Buckets and queues that are tried, as shares of the one that fits a flow: which packets spend
#: the bucket is not known yet.
ROOMS = {"police": (1.0, 1.12, 1.3), "shape": (1.0,)}
#: Between the packet that opens a flow to the subscriber and the next one, in ns.
OPENED = 20 * MS
#: Hypotheses that a unit is chosen for.
ALIVE = 36


#: Kind, flow and direction of an effect.
Key = tuple[str, Ends, bool]


@dataclass
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
    spared: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    classes: Classes | None = None  # of a queue; None where it is not known whether it has several
    refused: bool = False  # whether forged answers came to attempts to connect alone

    def refute(self, note: str) -> None:
        """Note that a probe contradicts the rule."""
        self.probability *= REFUTED
        self.notes.append(note)

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

    @property
    def rules(self) -> list[Rule]:
        """Return the rule, behind rules that let pass what it spares."""
        before = []
        for number, match in enumerate(self.spared, 1):
            fields = {"name": f"spared-{number}", "match": match, "act": "pass", "scope": "packet",
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


def excerpt(probe: Probe, most: int = PACKETS, seconds: float = SECONDS) -> Probe:
    """Return a part of a capture that is short enough to be played many times.

    A short capture is played whole, a long one with the first OF_EACH packets of its flows and the
    first packets of its busiest flows, `most` in all. Pauses are shortened, so that it lasts
    `seconds` at most.
    """
    # a kernel resets its own streams: one that is aborted would lose what is under way
    chosen = tuple(one for one in probe if one.payload or one.ends.proto != TCP
                   or not one.flags & ABORT)  # fmt: skip
    chosen = with_openers(part for one in chosen or probe for part in parts_of(one))
    if len(chosen) > most:
        chosen = first_packets(chosen, most)
    for longest in PAUSES:
        short = shorten_gaps(chosen, longest)
        if short[-1].time <= seconds * 1e9:
            return short
    return tuple(one for one in short if one.time <= seconds * 1e9)


def with_openers(packets: Iterable[Sent]) -> Probe:
    """Return packets with one of noise from the subscriber before each flow of datagrams of which
    the capture has the way back alone: otherwise nothing of it could be sent."""
    probe = tuple(packets)
    heard = {one.ends for one in probe if one.up}
    openers: dict[Ends, Sent] = {}
    for one in probe:
        if one.ends not in heard and one.ends.proto != TCP and one.ends not in openers:
            openers[one.ends] = one._replace(up=True, payload=noise(8, "opener"), before=())
    if not openers:
        return probe
    later = (one._replace(time=one.time + OPENED) for one in probe)
    return in_order([*openers.values(), *later])


def first_packets(probe: Probe, most: int = PACKETS) -> Probe:
    """Return the first packets of the flows of a capture, `most` in all at most."""
    flows: dict[Ends, list[int]] = {}
    for at, one in enumerate(probe):
        if one.payload or one.ends.proto != TCP:
            flows.setdefault(one.ends, []).append(at)
    busiest = sorted(flows.values(), key=lambda own: (-len(own), own[0]))
    taken = {at for own in busiest[: most // (2 * OF_EACH)] for at in own[:OF_EACH]}
    many = OF_EACH
    while many < most:  # one packet more of each of the busiest flows
        more = {own[many] for own in busiest[:BUSIEST] if len(own) > many}
        if not more or len(taken) + len(more) > most:
            break
        taken |= more
        many += 1
    return in_order(probe[at] for at in sorted(taken))


class Search:
    """One search over one line. watch: how long a condemnation is watched at most, in s."""

    def __init__(self, prober: Prober, capture: Probe, watch: float = HORIZONS[-1]) -> None:
        self.prober, self.watch = prober, watch
        self.capture, self.longer = excerpt(capture), excerpt(capture, LONG_PACKETS, LONG_SECONDS)
        self.passed: dict[tuple[Probe, bool], Passing] = {}
        self.result = Result()
        streams = any(one.ends.proto == TCP for one in self.capture)
        self.patience = OPENING if streams else None
        self.points = code_points_tried(self.capture)
        self.forged = False  # whether forged answers are looked into
        self.lag = 0  # of packets from the subscriber, beyond the access network's delay, ns
        self.plays: list[Outcome] = []
        self.kept: list[Outcome] = []  # plays of the capture to its own addresses
        self.fresh: list[Outcome] = []  # and to others
        self.other: Probe = ()  # the capture to one set of other addresses
        self.own: Outcome  # the plays to its own addresses as one
        self.closer = False  # whether more of the capture was played for further rules
        self.own_units: list[Probe] = []  # besides the capture, units played to its own addresses
        self.models: dict[str, Model] = {}  # of the rules found so far
        self.limits: set[str] = set()  # of a rate, which several paces have shown
        self.base = Baseline((0.02, 0.02), (0.0, 0.0), (0.0, 0.0), (1.0 * MS, 1.0 * MS))

    def run(self) -> Result:
        """Return what the box is found to do."""
        try:
            self._run()
        except ProbesSpent:
            self.result.notes.append(f"the budget of {self.prober.most_probes} probes is spent")
        self.result.base = self.base
        self.result.verdict = self.verdict()
        return self.result

    def _run(self) -> None:
        seen = self.look()
        if not seen and self.result.unseen is not None and self.look_late():
            seen = self.look()
        self.result.findings = seen
        if not seen:
            return
        tried: set[Key] = set()
        aside: list[Found] = []
        for _ in range(MOST_TRIES):
            finding = self.unexplained(tried)
            if finding is None or len(self.result.found) >= MOST_RULES:
                break
            found = self.identify(finding)
            if found is not None and (known := self.known(found)) is not None:
                if not self.replaces(found, known):
                    tried.add((finding.kind, finding.ends, finding.up))
                continue
            first = not self.result.found
            if found is None or not (found.strikes_any if first else self.is_sure(found, finding)):
                tried.add((finding.kind, finding.ends, finding.up))
                if found is not None:
                    aside.append(found)
                    tried |= self.explained_by(found)
                continue
            self.result.found.append(found)
            if len(self.result.found) > 1:
                self.revise()
            self.join_lists()
            while self.worth_a_play(tried):
                self.look_again()
        if self.result.found and tried:
            self.take_unsure(aside)
        self.leave_out_superfluous()
        self.result.contradicted = self.is_contradicted()

    def leave_out_superfluous(self) -> None:
        """Leave out rules without which the others explain as much, the narrowest first."""
        if len(self.result.found) < 2:
            return
        through = self.through(self.capture, False)
        counts = {id(one): int(strikes(through, [one.as_drop]).struck[0].sum())
                  for one in self.result.found}  # fmt: skip
        for found in sorted(self.result.found, key=lambda one: counts[id(one)]):
            if len(self.result.found) < 2:
                break
            before = self.left_over()
            place = self.result.found.index(found)
            self.result.found.remove(found)
            if self.left_over() - before:
                self.result.found.insert(place, found)

    def join_lists(self) -> None:
        """Make one rule with a list of rules that drop and differ in their addresses, or in their
        names, alone."""
        for key in LISTS:
            kept: dict[str, Found] = {}
            for found in list(self.result.found):
                rest = found.best.keys
                values = rest.pop(key, None)
                if values is None or found.rule.act not in BLOCKING:
                    continue
                same = json.dumps([found.best._replace(match=json.dumps(rest, sort_keys=True)),
                                   found.rule.act, found.rule.lasts_s, found.spared])  # fmt: skip
                known = kept.setdefault(same, found)
                if known is not found:
                    both = list(dict.fromkeys([*known.best.keys[key], *values]))
                    match = json.dumps(known.best.keys | {key: both}, sort_keys=True)
                    known.best = known.best._replace(match=match)
                    known.probability = min(known.probability, found.probability)
                    self.result.found.remove(found)

    def left_over(self) -> set[Key]:
        """Return the sure effects that the rules found do not explain."""
        return {(one.kind, one.ends, one.up) for one in self.not_explained()}

    def not_explained(self) -> list[Finding]:
        """Return the sure effects on any play of the capture that the rules found do not have."""
        plays = self.plays if self.plays[-1] is self.own else [*self.plays, self.own]
        return [one for play in plays for one in self.far_beyond(play, ())]

    def is_contradicted(self) -> bool:
        """Return whether the rules found predict an effect that the capture does not show. How
        much a limit of a rate loses depends on its numbers, which are not exact."""
        seen = self.plays[0]
        return any(
            not_seen(seen, self.expected(found, seen.unit, False))
            for found in self.result.found
            if found.rule.act not in LIMITS and not found.rule.on_s
        )

    def look_again(self) -> None:
        """Play the capture once more, where one play showed a strong effect: what further rules do
        needs more copies."""
        kept = not self.prober.fresh_far
        units = [self.capture] if kept else [self.capture, self.capture]
        some = self.prober.ask("the capture once more", units, COPIES, tight=False,
                               keep_far=[True], patience=self.patience)  # fmt: skip
        self.kept.append(some[0])
        self.own = joined(self.kept)
        if kept:
            self.plays[0] = self.own
        else:
            self.fresh.append(some[1])
            self.plays = [self.prober.moved(joined(self.fresh), self.other)]

    def explained_by(self, found: Found) -> set[Key]:
        """Return the effects that are left over and that a rule explains."""
        before = self.left_over()
        self.result.found.append(found)
        after = self.left_over()
        self.result.found.pop()
        return before - after

    def take_unsure(self, aside: Sequence[Found]) -> None:
        """Take the likeliest rules for plain effects that no sure rule explains; note what is left.

        aside: rules that were not sure enough.
        """
        for found in sorted(aside, key=lambda one: -one.probability):
            rest = {(one.kind, one.ends, one.up): one for one in self.not_explained()}
            left = rest.get((found.finding.kind, found.finding.ends, found.finding.up))
            plain = left is not None and left.score > PLAIN and found.explained > LEAST_EXPLAINED
            if plain and len(found.notes) < 2 and len(self.result.found) < MOST_RULES:
                self.result.found.append(found)
        self.result.rest = self.not_explained()

    def revise(self) -> None:
        """Identify each earlier rule again where another one explains better what a new rule leaves
        over."""
        for place in range(len(self.result.found) - 1):
            before = self.result.found.pop(place)
            again = before if self.is_still_best(before) else self.identify(before.finding)
            if (again is None or again.probability < KEEPS * before.probability
                    or again.explained < KEEPS * before.explained):  # fmt: skip
                again = before
            self.result.found.insert(place, again)

    def is_still_best(self, found: Found) -> bool:
        """Return whether a rule explains best what the others leave over."""
        self.forged = found.sought.kind == INJECT
        begun = self.begin(found.finding, found.beliefs.effects)
        if begun is None:
            return True
        beliefs, parts, _ = begun
        for seen in found.beliefs.seen:
            if seen.through.unit not in (self.capture, self.other):
                rest = self.masked(seen.outcome, True, found.sought.kind)
                beliefs.observe(seen._replace(outcome=rest))
        beliefs.add([found.began])
        beliefs.climb(parts)
        best = beliefs.best
        if found.began not in beliefs.hypotheses:
            return False
        return mechanism(best) == mechanism(found.began) or bool(
            beliefs.scores.max() - beliefs.scores[beliefs.hypotheses.index(found.began)] < 1.0
        )

    def worth_a_play(self, tried: Collection[Key]) -> bool:
        """Return whether the capture is to be played once more for further rules: as often as a
        clean line, and more often while an effect that no rule explains is in doubt."""
        if len(self.kept) >= PLAYS or len(self.result.found) >= MOST_RULES or self.closer:
            return False
        if len(self.kept) < LEAST_PLAYS:
            return True
        plays = [self.plays[0], self.own] if self.prober.fresh_far else self.plays[:1]
        scores = (one.score for play in plays for one in self.further(play, tried))
        return SUSPICIOUS < max(scores, default=0.0) < LEAST_FURTHER

    def known(self, found: Found) -> Found | None:
        """Return the earlier rule that has the same act on most of what a further rule strikes,
        None for none: what is left over is then a number of the earlier one that is not exact, or
        the earlier one is wrong."""
        through = self.through(self.capture, False)
        own = strikes(through, [found.as_drop]).struck[0]
        for one in self.result.found:
            both = own & strikes(through, [one.as_drop]).struck[0]
            if one.rule.act == found.rule.act and own.any() and 2 * both.sum() > own.sum():
                return one
        return None

    def replaces(self, found: Found, known: Found) -> bool:
        """Return whether a rule explains more than an earlier one with the same act on the same
        packets; it takes its place then, however sure the earlier one was of itself."""
        if found.notes or found.probability < LEAST_SURE:
            return False
        before = self.left_over()
        place = self.result.found.index(known)
        self.result.found[place] = found
        after = self.left_over()
        if len(after) < len(before):
            return True
        self.result.found[place] = known
        return False

    def is_sure(self, found: Found, finding: Finding) -> bool:
        """Return whether a further rule is sure enough to be named."""
        return (
            found.explained > LEAST_EXPLAINED
            and found.probability > LEAST_SURE
            and finding.score > LEAST_FURTHER
            and not found.notes
        )

    def verdict(self) -> str:
        """Return the verdict: what the surest effect means for the call."""
        seen = self.result.findings
        if not seen:
            return "clean" if self.result.unseen is not None else "cannot tell"
        strongest = max(one.score for one in seen)
        if self.result.found and strongest < PLAIN and all(one.notes for one in self.result.found):
            return "cannot tell"  # the rule's own probes did not show the effect again
        if self.result.found:
            acts = {one.rule.act for one in self.result.found}
            return "blocked" if acts & BLOCKING else "degraded"
        if strongest < PLAIN:
            return "cannot tell"  # no rule explains it, and it is not plain
        return "blocked" if {INJECT, DROP} & {one.kind for one in seen} else "degraded"

    # -- effects

    def look(self) -> list[Finding]:
        """Return the effects on the capture that are sure; of a clean line also note what would
        not have shown."""
        size = len(self.capture[0].ends.near)
        units = control_units(size, self.points)
        controls = [[one] for one in self.prober.ask("the line itself: controls", units, 3)]
        self.base = baseline_of(self.prober, [joined(one) for one in controls])
        self.prober.rewrites = rewrites_of([one for some in controls for one in some])
        self.prober.taught(f"loss {max(self.base.loss):.1%}")
        self.prober.jitter = int(JITTERS * max(self.base.spread))
        # the stream ends with the capture, so that it has as little time to send again
        late = max(self.capture[-1].time - units[-1][-1].time, 0)
        units[-1] = tuple(one._replace(time=one.time + late) for one in units[-1])
        self.prober.fresh_far = True
        kept, fresh = self.kept, self.fresh
        seen: list[Finding] = []
        for number in range(PLAYS):
            some = self.prober.ask(
                "the capture and controls", [self.capture, *units], COPIES, tight=False,
                keep_far=[True], patience=self.patience,
            )  # fmt: skip
            if not kept:
                self.capture = self.as_planned(some[0])
            some[0] = some[0]._replace(unit=self.capture)
            for known, one in zip(controls, some[1:], strict=True):
                known.append(one)
            self.base = baseline_of(self.prober, [joined(one) for one in controls])
            kept.append(some[0])
            seen = findings(joined(kept), self.base)
            self.prober.taught(
                "; ".join(f"{one.kind} {one.score:.0f}" for one in seen[:3]) or "no effect"
            )
            strongest = max((one.score for one in seen), default=0.0)
            by_chance = any(one.chance < 1 for one in seen if one.score > SUSPICIOUS)
            if (strongest > PLAIN and not by_chance) or (
                number + 1 >= LEAST_PLAYS and not SUSPICIOUS <= strongest <= PLAIN
            ):
                break
        own = PRESETS[self.prober.access].up.delay_ms * MS + FAR_LEG
        self.lag = max(round((self.base.fixed[1] - own) / LAG_STEP), 0) * LAG_STEP
        self.own = joined(kept)
        self.plays = [self.own]
        if strongest < DOUBTFUL:
            seen = []  # a real effect would have grown from play to play
        if not seen and groups_of(self.own):
            self.result.unseen = unseen(self.plays[0], self.base)
        elif not seen:
            self.result.notes.append("no packet of the capture could be sent")
        elif strongest <= SHOWN:
            self.result.notes.append(
                f"packets of one flow show an effect ({seen[0].kind}) that chance may explain"
            )
        seen = [one for one in seen if one.score > SHOWN]
        if seen:
            self.other = self.elsewhere(self.capture)
            fresh += self.prober.ask(
                "the capture to other addresses", [self.capture], COPIES * len(kept), tight=False,
                patience=self.patience,
            )  # fmt: skip
            elsewhere = self.prober.moved(joined(fresh), self.other)
            matching = also_shown(seen, findings(elsewhere, self.base))
            self.prober.fresh_far = bool(matching)
            if self.prober.fresh_far:  # the own addresses may be condemned by now
                self.plays = [elsewhere]
            else:
                self.plays.append(elsewhere)
            # a rule that reads addresses is looked for when the others are known
            return sorted(merged_findings(seen), key=lambda one: one not in matching)
        return []

    def as_planned(self, play: Outcome) -> Probe:
        """Return the capture with the times at which most copies of a play send its packets."""
        times = play.planned
        if times is None:
            return self.capture
        times = np.median(times - times[:, :1], axis=0).astype(np.int64)
        times = np.maximum.accumulate(times)
        return tuple(one._replace(time=int(time))
                     for one, time in zip(self.capture, times, strict=True))  # fmt: skip

    def look_late(self) -> bool:
        """Play more of a capture, few times; where a flow shows a plain effect there, the capture
        becomes this flow up to some packets behind the first one that does."""
        if len(self.longer) <= len(self.capture):
            return False
        outcome = self.prober.ask("more of the capture", [self.longer], LONG_COPIES, tight=False,
                                  keep_far=[True], patience=self.patience)[0]  # fmt: skip
        plain = [one for one in findings(outcome, self.base)
                 if one.score > PLAIN and one.kind in (DROP, INJECT)]  # fmt: skip
        if not plain:
            return False
        ends, first = plain[0].ends, plain[0].first
        own = [at for at, one in enumerate(self.longer) if one.ends == ends]
        until = [at for at in own if at > first][:BEHIND]
        self.capture = in_order(self.longer[at] for at in own if at <= max([first, *until]))
        self.kept, self.fresh, self.result.unseen = [], [], None
        self.prober.fresh_far = False
        return True

    def elsewhere(self, unit: Probe) -> Probe:
        """Return a unit with other far addresses, which stand for any fresh ones."""
        fars = {ends.far: self.prober.server(ends.far) for ends in flows_of(unit)}
        return tuple(one._replace(ends=one.ends._replace(far=fars[one.ends.far])) for one in unit)

    def unexplained(self, tried: Collection[Key]) -> Finding | None:
        """Return the surest effect on packets that the rules found so far do not strike, None for
        none. An effect that depends on the capture's own addresses is looked for there.

        tried: kinds, flows and directions of effects that no rule explained.
        """
        if not self.result.found:
            return next((one for one in self.result.findings
                         if (one.kind, one.ends, one.up) not in tried), None)  # fmt: skip
        rest = self.far_beyond(self.plays[0], tried)
        if not rest and self.prober.fresh_far:
            rest = self.far_beyond(self.own, tried)
            if rest:
                self.prober.fresh_far = False
                self.plays = [self.own, *self.plays]
        if not rest and not self.closer:
            self.closer = True
            rest = self.look_closer(tried)
        self.result.findings += rest
        return rest[0] if rest else None

    def look_closer(self, tried: Collection[Key]) -> list[Finding]:
        """Return the sure effects that more of the capture shows, where each flow has many packets,
        close together: rules on flows that are not among the busiest, a small share of losses, or a
        limit above the capture's own rate.

        The flows that show them, with the first packets of the others, are what rules must explain
        from then on.
        """
        fresh, unit = self.prober.fresh_far, dense_unit(self.longer)
        other = self.elsewhere(unit)
        kept: list[Outcome] = []
        elsewhere: list[Outcome] = []
        for _ in range(MOST_DENSE):
            some = self.prober.ask("more of the capture, many packets of each flow",
                                   [unit, unit][: 1 + fresh], DENSE_COPIES, tight=False,
                                   keep_far=[True], patience=self.patience)  # fmt: skip
            kept.append(some[0])
            elsewhere += some[1:]
            self.own_units = [unit]
            plays = [self.prober.moved(joined(elsewhere), other)] if fresh else []
            for play in (*plays, joined(kept)):
                rest = self.far_beyond(play, tried)
                if rest:
                    self.prober.fresh_far = play.unit == other
                    play = play.part(around(play.unit, rest))
                    if self.prober.fresh_far:
                        self.plays = [play]
                    else:
                        self.own_units.append(play.unit)
                        self.plays = [play, *self.plays]
                    return self.far_beyond(play, tried)
            best = (one.score for play in (*plays, joined(kept))
                    for one in self.further(play, tried))  # fmt: skip
            if max(best, default=0.0) < SUSPICIOUS:
                break
        return []

    def far_beyond(self, outcome: Outcome, tried: Collection[Key]) -> list[Finding]:
        """Return the sure effects on packets of a play that no rule found so far strikes."""
        return [one for one in self.further(outcome, tried)
                if one.score > (2 if one.kind == INJECT else 1) * LEAST_FURTHER]  # fmt: skip

    def further(self, outcome: Outcome, tried: Collection[Key]) -> list[Finding]:
        """Return the effects on packets of a play that the rules found so far do not have."""
        seen: list[Finding] = []
        for kinds in (BLOCKED, (DELAY, REORDER), (DOUBLE,), (MARK,)):
            rest = self.masked(outcome, False, kinds[0])
            seen += [one for one in findings(rest, self.base) if one.kind in kinds]
        return merged_findings([one for one in seen if (one.kind, one.ends, one.up) not in tried])

    def masked(self, outcome: Outcome, tight: bool, kind: str) -> Outcome:
        """Return an outcome without what the rules found so far explain, as far as it bears on a
        kind of effect: a packet whose copies are lost by a share still shows a delay, and one that
        is late a loss."""
        for found in self.result.found:
            predicted = strikes(self.through(outcome.unit, tight), [found.as_drop])
            if found.rule.on_s:  # the box's clock, by which it comes and goes, is not the model's
                gone = predicted.struck[0] & (outcome.delay == -1)
                outcome = outcome._replace(delay=np.where(gone, -2, outcome.delay))
            elif predicted.struck.any() or predicted.opened.any():
                expected = self.expected(found, outcome.unit, tight)
                limited = found.rule.act in LIMITS
                wide = found.rule.act in BLOCKING and found.best.scope not in ("packet", "flow")
                loses = predicted.struck[0] | predicted.lost[0]
                if found.rule.act in LOSSLESS:
                    loses = np.zeros_like(loses)
                reorders = found.rule.act == "reorder"
                rest = unexplained(outcome, expected, self.base, kind, loses, limited, wide,
                                   reorders)  # fmt: skip
                touched = self.touched(found, outcome.unit, predicted)
                outcome = rest._replace(delay=np.where(touched, rest.delay, outcome.delay))
        return outcome

    def touched(
        self, found: Found, unit: Probe, predicted: Strikes
    ) -> np.ndarray[Any, Any]:  # fmt: skip
        """Return of which packets of a unit a rule may change how they arrive, bool[packets]: of
        the flows in which it strikes some, and of the hosts that it condemns. What others show is
        the line's, or another rule's."""
        struck = predicted.struck[0] | predicted.lost[0]
        flows = {one.ends for one, hit in zip(unit, struck, strict=True) if hit}
        flows |= {ends for ends, hit in zip(flows_of(unit), predicted.opened[0], strict=True)
                  if hit}  # fmt: skip
        keys = CONDEMNED.get(found.best.scope, ())
        hosts = {tuple(getattr(ends, key) for key in keys) for ends in flows if keys}
        return np.array([one.ends in flows or tuple(getattr(one.ends, key) for key in keys) in hosts
                         for one in unit])  # fmt: skip

    def expected(self, found: Found, unit: Probe, tight: bool) -> Outcome:
        """Return what a rule alone predicts of a unit: together, one that condemns a flow would
        keep others from it, although the rules found may have other scopes than those in force."""
        key = "".join(one.model_dump_json() for one in found.rules)
        if key not in self.models:
            self.models[key] = Model(self.prober, self.base, found.rules)
        kept = not tight and unit in (self.capture, *self.own_units)
        return self.models[key].outcome(unit, tight, kept, None if tight else self.patience)

    def blocked(self, unit: Probe) -> np.ndarray[Any, Any]:
        """Return which packets of a unit a rule found so far keeps from arriving, bool[packets]."""
        rules = [one.as_drop for one in self.result.found if one.rule.act in BLOCKING]
        if not rules:
            return np.zeros(len(unit), bool)
        return np.asarray(strikes(self.through(unit, False), rules).lost.any(axis=0))

    def neutral(
        self, outcome: Outcome, hit: np.ndarray[Any, Any], shows: Collection[str]
    ) -> Outcome:
        """Return an outcome in which some packets show neither losses, delays nor copies, as far as
        these are in `shows`. hit: bool[packets]."""
        delay = outcome.delay.copy()
        if "loss" in shows:
            delay[(delay == -1) & hit] = -2
        if "delay" in shows:
            way = outcome.up.astype(int)
            own = np.array(self.base.fixed)[way] + np.array(self.base.per_octet)[way] * outcome.size
            delay = np.where((delay >= 0) & hit, own.astype(np.int64), delay)
        late, twice = outcome.overtaken, outcome.twice
        return outcome._replace(
            delay=delay,
            overtaken=late & ~hit if late is not None and "delay" in shows else late,
            twice=twice & ~hit if twice is not None and "copies" in shows else twice,
        )

    def of_kind(self, outcome: Outcome, finding: Finding) -> Outcome:
        """Return an outcome without the groups that show other kinds of effects alone: of other
        rules. Packets that are late are not dropped."""
        losses = (DROP, PARTIAL, INJECT)
        same = losses if finding.kind in losses else (finding.kind,)
        kinds: dict[tuple[Ends, bool], set[str]] = {}
        for one in findings(outcome, self.base):
            if one.score > SHOWN:
                kinds.setdefault((one.ends, one.up), set()).add(one.kind)
        other = {key for key, some in kinds.items() if not some & set(same)}
        hit = np.array([(one.ends, one.up) in other for one in outcome.unit])
        if finding.kind == INJECT and finding.ends.proto == TCP:
            # losses of datagrams may be those of another rule; units tell whether they are not
            lossy = {ends for (ends, _), some in kinds.items() if some & {DROP, PARTIAL}}
            unsure = np.array([one.ends.proto != TCP and one.ends in lossy for one in outcome.unit])
            outcome = outcome._replace(delay=np.where(unsure, -2, outcome.delay))
        if not hit.any():
            return outcome
        if finding.kind in (DROP, INJECT):
            return self.neutral(outcome, hit, ("delay", "copies"))
        delay = outcome.delay.copy()
        delay[:, hit] = -2
        return outcome._replace(delay=delay)

    # -- one rule

    def identify(self, finding: Finding) -> Found | None:
        """Return the rule behind an effect, None where no rule of the language explains it."""
        effects = self.effects(finding)
        act: dict[str, Any] = {}
        if finding.kind == INJECT:
            act = forged_act(self.plays[0])
            effects = [effects[0]._replace(detail=act["act"])]
        self.forged = effects[0].kind == INJECT
        begun = self.begin(finding, effects)
        if begun is None and self.prober.fresh_far:  # this effect alone needs the own addresses
            self.prober.fresh_far = False
            self.plays = [self.own, *self.plays]
            return self.identify(finding)
        if begun is None:
            return None
        beliefs, parts, main = begun
        core = self.learn(beliefs, parts, main.unit, finding)
        beliefs.add(list(as_allowance(beliefs.best)))
        sought = beliefs.sought
        if sought.kind in SHARES:
            sought = sought._replace(amount=self.share_of(beliefs))
        oracle = LineOracle(self.prober, self.base, sought)
        octets: list[str] = []
        notes: list[str] = []
        first = not self.result.found
        if first and beliefs.explained < LEAST_EXPLAINED and sought.kind not in SHARES:
            octets, notes = self.localised(oracle, beliefs, parts, main)
        if self.forged and self.is_on_path(beliefs):
            act["path"] = "on"
        beliefs.add(list(alike(beliefs.best)))
        weights = beliefs.weights * beliefs.covered
        order = np.argsort(-weights, kind="stable")
        same = self.equals(beliefs, core, main.unit, sought)
        if weights.sum() < 0.5:
            notes.append("no rule of the policy language explains this effect")
        found = Found(
            beliefs.best, self.of_mechanism(beliefs, same), sought, beliefs, core,
            finding, beliefs.best,
            [(beliefs.hypotheses[at], float(weights[at])) for at in order[:12]],
            [beliefs.hypotheses[at] for at in same[1:]],
            beliefs.explained, act, octets=octets, notes=notes,
            refused=self.forged and all(refused(seen.outcome) for seen in beliefs.seen),
        )  # fmt: skip
        self.measure(found)
        found.equal += self.equal_when_exact(found, main.unit)
        return found

    def begin(
        self, finding: Finding, effects: Sequence[Effect]
    ) -> tuple[Beliefs, list[Match], Outcome] | None:
        """Return the first rules, weighed by the plays of the capture; None if there are none.

        Also returns the conditions of which rules are made, and the play from which they are.
        """
        sought = effects[0]
        beliefs = Beliefs(self.base, effects, self.forged and questions_pass(self.plays[0]))
        plays = [self.of_kind(self.masked(outcome, False, finding.kind), finding)
                 for outcome in self.plays]  # fmt: skip
        for outcome in plays:
            beliefs.observe(Seen(self.through(outcome.unit, False), outcome, True))
        main = plays[-1] if self.prober.fresh_far else plays[0]
        parts: list[Match] = []
        for effect in effects:  # a delay need not show as what a limit delays
            parts = parts or self.parts(main, effect) or self.parts(plays[0], effect)
        if not parts:  # some copies alone may be struck
            rarely = sought._replace(chance=min(sought.chance, RARELY))
            parts = self.parts(main, rarely) or self.parts(plays[0], rarely)
        if not parts:
            return None
        beliefs.grow(parts)
        beliefs.add(list(self.delayed(parts, main, sought)))
        beliefs.add(list(beliefs.changed(12)))
        beliefs.prune()
        self.note(beliefs)
        beliefs.climb(parts)
        beliefs.prune()
        return beliefs, parts, main

    def learn(
        self, beliefs: Beliefs, parts: list[Match], unit: Probe, finding: Finding
    ) -> Probe:  # fmt: skip
        """Ask what would teach most until nothing does; returns the fewest packets of a unit that
        bring the likeliest rule about."""
        taught: list[tuple[str, float]] = []
        checks, in_vain = 0, False
        core = self.core_of(beliefs.best, unit, finding)
        for number in range(MOST_UNITS):
            sought = beliefs.sought
            chosen = self.which_effect(beliefs, core)
            chosen = chosen or self.choose(beliefs, core, unit, sought)
            if chosen is None or in_vain:
                chosen = self.choose_scope(beliefs, core, unit, sought)
                chosen = chosen or self.confirmation(beliefs, core, unit, sought)
                chosen = chosen or self.other_shape(beliefs, core, unit, sought)
                checks += 1
            if chosen is None or checks > SCOPE_CHECKS:
                break
            word, asked, bits = chosen
            copies = max(LineOracle(self.prober, self.base, sought).copies, 4)
            outcome = self.prober.ask(f"{word} ({bits:.2f} bits expected)", [asked], copies)[0]
            rest = self.masked(outcome, True, sought.kind)
            beliefs.observe(Seen(self.through(asked, True), rest))
            beliefs.climb(parts, 1 if number % 3 else 3)
            beliefs.prune()
            state = beliefs.best.words, round(float(beliefs.weights.max()), 2)
            self.prober.taught(f"{state[0]}: {beliefs.weights.max():.3f}")
            self.note(beliefs)
            taught = [*taught[-IN_VAIN:], state]
            in_vain = len(set(taught)) == 1 and len(taught) > IN_VAIN
            core = self.core_of(beliefs.best, unit, finding)
        return core

    def of_mechanism(self, beliefs: Beliefs, same: Sequence[int]) -> float:
        """Return the probability of the hypotheses that agree in direction and scope with the
        likeliest one, or with one that no unit distinguishes from it. Against something that
        strikes any packets it is no less than LEAST_COVERED: two rules together look like that.
        What is left out of the comparison, such as another act or a further rule, is in TRUSTED."""
        named = {mechanism(beliefs.hypotheses[at]) for at in same}
        agree = np.array([mechanism(one) in named for one in beliefs.hypotheses])
        covered = LEAST_COVERED + (1 - LEAST_COVERED) * beliefs.covered
        return float(beliefs.weights[agree].sum() * covered * TRUSTED)

    def is_on_path(self, beliefs: Beliefs) -> bool:
        """Return whether packets that a forged answer answers arrive as well."""
        rule = beliefs.best.rule()
        assert rule is not None
        counts = [answered_pass(seen.outcome, strikes(seen.through, [rule]).struck[0])
                  for seen in beliefs.seen]  # fmt: skip
        return 2 * sum(arrived for _, arrived in counts) > sum(sent for sent, _ in counts)

    def effects(self, finding: Finding) -> list[Effect]:
        """Return the kinds of effects that a rule behind a finding may have: of losses, certain
        ones and a share; a delay that the same flow shows."""
        own = [one for one in self.result.findings
               if (one.ends, one.up) == (finding.ends, finding.up)]  # fmt: skip
        limits: list[Effect] = []
        if finding.kind in (DROP, PARTIAL, DELAY):
            rest = self.masked(self.plays[0], False, PARTIAL)
            limits = list(limits_of(rest, self.base, finding))
            limit = rate_limit(self.prober, self.base, rest, finding.first,
                               {one.kind for one in own})  # fmt: skip
            if limit is not None:
                self.limits.add(json.dumps(limit.fields))
                measured = Effect(PARTIAL, 0.5, 1.0, limit.act, json.dumps(limit.fields))
                late = [Effect(DELAY, finding.amount, finding.chance)]
                return [measured, *(late if finding.kind == DELAY else [])]
        result = {finding.kind: Effect(finding.kind, finding.amount, finding.chance)}
        for one in own if finding.kind != MARK else ():
            if one.kind != MARK:  # a rule that marks does nothing else
                result.setdefault(one.kind, Effect(one.kind, one.amount, one.chance))
        if finding.kind in (DROP, PARTIAL):
            result.setdefault(DROP, Effect(DROP, 1.0, 1.0))
            result.setdefault(PARTIAL, Effect(PARTIAL, 0.5, 1.0))
        return [*limits, *result.values()]

    def which_effect(self, beliefs: Beliefs, core: Probe) -> tuple[str, Probe, float] | None:
        """Return a unit that shows which kind of effect a rule has: what it strikes, many times;
        None where that is known or was asked."""
        bits = entropy_of(beliefs.chances)
        unit = repeated_unit(core, MANY + beyond(beliefs.best, 4), 4 * MS)
        if bits < LEAST_BITS or any(seen.through.unit == unit for seen in beliefs.seen):
            return None
        return "which effect, again and again", unit, bits

    def share_of(self, beliefs: Beliefs) -> float:
        """Return the share of struck packets that show an effect beyond the line's own."""
        gone = count = 0
        for seen in beliefs.seen:
            rule = beliefs.best.rule()
            assert rule is not None
            struck = strikes(seen.through, [rule]).struck[0]
            affected, usable, _ = affected_of(seen.outcome, self.base, beliefs.sought)
            gone += int((affected & usable)[:, struck].sum())
            count += int(usable[:, struck].sum())
        loss = max(self.base.loss) if beliefs.sought.kind == PARTIAL else 0.0
        return min(max((gone / max(count, 1) - loss) / (1 - loss), 0.03), 1.0)

    def localised(
        self, oracle: LineOracle, beliefs: Beliefs, parts: Sequence[Match], main: Outcome
    ) -> tuple[list[str], list[str]]:
        """Let the localiser find the octets of a trigger that no rule of the language explains;
        returns them, and notes. What the language says of them becomes hypotheses."""
        session = OracleSession(oracle, budget=OCTET_PROBES, longest=LONGEST)
        result = localiser.Localisation()
        try:
            localiser.explore(session, shorten_gaps(main.unit), result)
        except (BudgetSpent, ProbesSpent):
            result.notes.append("the octets of the trigger were not found within the budget")
        octets: list[str] = []
        for clause in result.clauses:
            octets += clause.words(True)
            beliefs.climb([*parts, *matches_of(clause)], 1)
        return octets, result.notes

    def measure(self, found: Found) -> None:
        """Find the exact numbers of a rule: chance, trigger, act, and how long it lasts.

        A rule that its own probes refute keeps its place as the likeliest, with less probability.
        """
        tail = self.tail(found)
        if found.sought.kind not in SHARES:
            tail = self.enforced(found, tail)
        refiner = Refiner(tail, found.best, found.core)
        found.best = refiner.run()
        found.intervals = refiner.intervals
        if self.comes_and_goes(found):
            return
        if refiner.refuted and self.is_sampled(found):
            return
        if refiner.refuted:
            found.refute("the trigger alone did not show the effect again")
        sought = found.sought
        if sought.kind == DROP:
            found.spared = refiner.spared()
        tail = self.tail(found)
        if sought.kind == MARK:
            found.act = rough_act(sought)
        elif sought.kind != INJECT and not found.best.media:
            is_limit = sought.limit in self.limits
            acts = Acts(tail, found.core, is_limit)
            act, parameters = acts.run()
            if acts.by_chance:
                tail = self.enforced(found, tail)
                acts = Acts(tail, found.core, is_limit)
                act, parameters = acts.run()
            found.act = act if act or acts.certain else rough_act(found.sought)
            if acts.way is not None:
                found.best = found.best._replace(way="up" if acts.way else "down")
            found.parameters |= parameters
            if acts.refuted:
                found.refute("packets that the rule should strike showed no effect")
            elif not parameters and not acts.certain and sought.kind in (DELAY, PARTIAL):
                found.refute("which act it is could not be measured")
        if found.act.get("act") == "shape":
            self.find_classes(found)
        # only many packets, close together, show these
        limited = found.act.get("act") in (*LIMITS, "reorder")
        if found.best.scope != "packet" and not found.best.media and not limited:
            found.lasting = lasting(tail, found.core, self.watch)
            if found.lasting.seconds is not None:
                found.parameters["lasts_s"] = found.lasting.seconds

    def find_classes(self, found: Found) -> None:
        """Find out whether packets with some code points go first in the queue of a rule."""
        seen = classes(self.tail(found), found.core, found.act)
        found.classes = seen
        if seen is None or not seen.first:
            return
        narrow = found.best.scope in ("packet", "flow")
        if narrow and len(seen.first) == len(POINTS):
            return  # a match of code point 0
        found.act = seen.act(found.act)
        found.parameters |= {key: one for key, one in (("rate_kbit", seen.rate),
                             ("cross_kbit", seen.cross)) if one is not None}  # fmt: skip
        rest = {key: one for key, one in found.best.keys.items() if key != "dscp"}
        found.best = found.best._replace(
            match=json.dumps(rest or {"packets": "1-"}, sort_keys=True),
            scope="client" if narrow else found.best.scope,
        )

    def comes_and_goes(self, found: Found) -> bool:
        """Return whether a rule drops packets for some time, lets all pass for some time, and so
        on; it then strikes single packets."""
        best = found.best._replace(scope="packet")
        rule = best.rule()
        if found.sought.kind not in (DROP, PARTIAL) or found.sought.limit or rule is None:
            return False
        tail = Tail(self.prober, self.base, Effect(PARTIAL, 0.5), best, self.through, found.core)
        if best.media or not comes_in_runs(self.plays[0], rule, tail):
            return False
        phases = phases_of(tail, found.core)
        if phases is not None:
            found.best, found.act = best, phases.act
            found.parameters |= {"on_s": phases.on_s, "off_s": phases.off_s}
        return phases is not None

    def is_sampled(self, found: Found) -> bool:
        """Return whether a flow is condemned by one of many triggers; the rule then inspects one
        packet in so many."""
        if found.sought.kind not in (DROP, PARTIAL) or found.best.scope == "packet":
            return False
        keys = {key: value for key, value in found.best.keys.items()
                if key not in ("packets", "bytes", "seconds")}  # fmt: skip
        if not keys or found.best.after or found.sought.limit:
            return False
        best = found.best._replace(match=json.dumps(keys, sort_keys=True))
        sought = Effect(DROP, 1.0, RARELY)
        tail = Tail(self.prober, self.base, sought, best, self.through, found.core)
        part = inspected(tail, found.core)
        if part is not None:
            found.best, found.sought = best.sampled(part.value), sought
            found.parameters["one_in"] = part
        return part is not None

    def tail(self, found: Found) -> Tail:
        """Return what makes units for a rule."""
        return Tail(self.prober, self.base, found.sought, found.best, self.through, found.core)

    def enforced(self, found: Found, tail: Tail) -> Tail:
        """Find the chance with which a rule is enforced; returns what makes units for it then."""
        chance = chance_of(tail, found.core)
        if chance is None:
            return tail
        if chance.sampled is not None:
            found.best = found.best.sampled(chance.sampled.value)
            found.parameters["one_in"] = chance.sampled
        else:
            found.parameters["probability"] = chance.share
            found.per = chance.per
        found.sought = found.sought._replace(chance=min(max(chance.share.value, 0.05), 0.9))
        return self.tail(found)

    def through(self, unit: Probe, tight: bool) -> Passing:
        """Return a unit as it passes the place of the box."""
        key = unit, tight
        if key not in self.passed:
            plan = self.prober.paced(opened_first(unit) if tight else unit)
            streams = any(one.ends.proto == TCP for one in unit)
            patience = STREAM_PATIENCE if streams else PATIENCE
            whole = passing(plan, self.prober.access, patience, self.lag)
            extra = len(plan) - len(unit)
            packet = np.where(whole.packet >= 0, whole.packet - extra, -1)
            self.passed[key] = whole._replace(unit=unit, packet=packet)
        return self.passed[key]

    def predicted(self, unit: Probe, rules: Sequence[Rule], sought: Effect) -> Strikes:
        """Return what rules with an effect would strike of a unit."""
        return self.limited(self.through(unit, True), rules, sought)

    def limited(self, through: Passing, rules: Sequence[Rule], sought: Effect) -> Strikes:
        """Return what rules with an effect would strike of a unit as it passes the box: of a
        limited rate, what exceeds it."""
        if sought.limit:
            return strikes_of_limit(through, with_act(rules, sought), self.base)
        return strikes(through, rules)

    def shows(self, outcome: Outcome, sought: Effect) -> np.ndarray[Any, Any]:
        """Return how surely each packet of a unit shows an effect, float64[packets]."""
        if sought.kind == INJECT:
            hit = np.asarray(events_of(outcome).any(axis=0))
            flows = flows_of(outcome.unit)
            shown_ = np.array([float(hit[flows.index(one.ends)]) for one in outcome.unit])
            dropped = self.shows(outcome, Effect(DROP, 1.0, sought.chance))
            return np.where(outcome.streams, shown_, np.maximum(shown_, dropped))
        affected, usable, other = affected_of(outcome, self.base, sought)
        count = usable.sum(axis=0)
        share = (affected & usable).sum(axis=0) / np.maximum(count, 1)
        least = np.maximum(0.6 * min(sought.chance, 1.0), 3 * other)
        if sought.kind in SHARES:
            least = np.full(len(share), min(0.2, 0.4 * max(sought.amount, 0.1)))
        return np.where((count > 0) & (share > least), 1.0, 0.0)

    def parts(self, outcome: Outcome, sought: Effect) -> list[Match]:
        """Return the conditions that packets around the effect meet."""
        through = self.through(outcome.unit, False)
        where = places(through)
        shows = self.shows(outcome, sought)
        found: dict[str, Match] = {}
        for at in references(outcome.unit, shows):
            if at in where:
                for part in atoms(outcome.unit, at, where[at]):
                    found.setdefault(json.dumps(part, sort_keys=True), part)
        # which writes of a stream are sent again is chance, the last ones rarely among them
        ends = np.where(outcome.streams, 0.0, shows) if sought.kind in SHARES else shows
        for part in windows_with_ends(outcome.unit, where, ends):
            found.setdefault(json.dumps(part, sort_keys=True), part)
        fars = {str(ipaddress.ip_network(one.ends.far)): None
                for one, hit in zip(outcome.unit, shows, strict=True) if hit > 0.5}  # fmt: skip
        if found and 1 < len(fars) <= MOST_ADDRESSES:
            found.setdefault(json.dumps(list(fars)), {"addresses": list(fars)})
        shown_ports = [one.ends.far_port for one, hit in zip(outcome.unit, shows, strict=True)
                       if hit > 0.5]  # fmt: skip
        if found and min(shown_ports) < max(shown_ports):
            part = {"ports": [f"{min(shown_ports)}-{max(shown_ports)}"]}
            found.setdefault(json.dumps(part), part)
        return list(found.values())

    def delayed(
        self, parts: Sequence[Match], outcome: Outcome, sought: Effect
    ) -> Iterator[Hypothesis]:
        """Yield conditions with an allowance that fits what was seen: a flow meets the condition
        some packets before its first packet that shows the effect."""
        through = self.through(outcome.unit, False)
        shows = self.shows(outcome, sought)
        unit = outcome.unit
        wide = [one for one in parts if one.keys() & {"protocol", "direction"}]
        matches = [*parts, *(joined_ for one in wide for other in parts
                             if (joined_ := combined(one, other)) is not None)]  # fmt: skip
        plain = [hypothesis(one, "packet") for one in matches]
        rules = [one.rule() for one in plain]
        usable = [at for at, rule in enumerate(rules) if rule is not None]
        hits = strikes(through, [rule for rule in rules if rule is not None]).struck
        for row, at in enumerate(usable):
            first = {unit[n].ends: int(n) for n in np.flatnonzero(hits[row])[::-1]}
            for ends, begin in first.items():
                struck = [n for n in range(begin, len(unit))
                          if unit[n].ends == ends and shows[n] > 0.5]  # fmt: skip
                if struck and struck[0] > begin:
                    for after in allowance(through, begin, struck[0]):
                        late = plain[at]._replace(after=json.dumps(after))
                        for scope in ("flow", "packet"):
                            yield late._replace(scope=scope)
                        if sought.kind == DROP:
                            yield late._replace(scope="flow", media=True)
                    break
            for after in quotas(through, hits[row], shows > 0.5):
                for scope in ("flow", "packet"):
                    yield plain[at]._replace(after=json.dumps(after), scope=scope)

    # -- units

    def core_of(self, best: Hypothesis, unit: Probe, finding: Finding) -> Probe:
        """Return the fewest packets of a unit that bring a hypothesis about, of the flow
        (and direction) that shows the effect, if it does: what others show may be another rule's.
        """
        keys = best.keys
        through = self.through(unit, False)
        plain = best._replace(scope="packet", way=None, after="", media=False).rule()
        if plain is None:
            return shorten_gaps(unit[:1])
        hits = np.flatnonzero(strikes(through, [plain]).struck[0])
        spared = ~self.blocked(unit)[hits]
        hits = hits[spared] if spared.any() else hits
        datagrams = [at for at in hits if unit[at].ends.proto != TCP]
        if datagrams and not self.forged:  # what a stream shows depends on what its kernels resend
            hits = np.array(datagrams)
        place = place_of(finding)[1:]
        for width in (2, 1):
            same = [at for at in hits if place[:width] == place_of(
                finding._replace(ends=unit[at].ends, up=unit[at].up))[1 : 1 + width]]  # fmt: skip
            if same:
                hits = np.array(same)
                break
        at = int(hits[0]) if len(hits) else 0
        one = unit[at]
        needs = {"packets", "bytes", "seconds", "app", "role"} & keys.keys()
        own = in_order(other for other in unit[: at + 1] if other.ends == one.ends)
        if needs:
            return own if "seconds" in keys else shorten_gaps(own)
        core: Probe = (one._replace(time=0),)
        if not one.up and one.ends.proto != TCP:
            # a NAT lets nothing in before something went out
            opener = one._replace(time=0, up=True, payload=noise(8, "opener"), before=())
            core = opener, one._replace(time=OPENED)
        if one.ends.proto != TCP and not self.is_struck_again(plain, core):
            return shorten_gaps(own)  # what the packet is depends on those before it
        return core

    def is_struck_again(self, rule: Rule, core: Probe) -> bool:
        """Return whether a rule strikes the last packet of a core when it comes again, too."""
        unit = repeated_unit(core, 4, 15 * MS)
        struck = strikes(self.through(unit, True), [rule]).struck[0]
        again = [hit for one, hit in zip(unit, struck, strict=True)
                 if one.payload == core[-1].payload and one.up == core[-1].up]  # fmt: skip
        return bool(2 * sum(again) > len(again))

    def units(
        self, beliefs: Beliefs, core: Probe, unit: Probe, sought: Effect
    ) -> Iterator[tuple[str, Probe]]:
        """Yield units that may distinguish the likeliest hypotheses, with what they ask."""
        many = sought.kind in SHARES
        count, apart = (60, 3 * MS) if many else (4, 15 * MS)
        count = max(count, over_limit(sought, 88))
        protos = (UDP, TCP) if sought.kind == INJECT else (UDP,)
        extra = beyond(beliefs.best, 15)
        for proto in protos:
            yield "other flows", scope_unit(core, count + extra, apart, proto=proto)
        if sought.limit:
            yield "other streams, which share a limit", sharing_unit(core, sought)
        for size in (400, 60) if sought.limit else (60, 14, 400):
            more = count + extra if size == 60 else count
            yield "other flows, zeros", scope_unit(core, more, apart, plain=True, size=size)
        others = other_flows(unit, core[-1].ends)
        near = core[-1].ends.near
        others = [one._replace(ends=one.ends._replace(near=near)) for one in others[:48]]
        yield "flows of the capture", scope_unit(core, 2, apart, others)
        yield "again and again", repeated_unit(core, count + extra, apart)
        yield "noise before it", preceded_unit(core, 6, 10 * MS, count + extra)
        yield "much noise before it", preceded_unit(core, 30, 5 * MS, count + extra, 200)
        last = core[-1]
        for word, other in changed_packets(last, self.points):
            changed = (*with_ends(core[:-1], last.ends, other.ends), other)
            yield word, repeated_unit(changed, count + extra, apart)
        if len(core) > 1:
            half = core[: len(core) // 2 + 1]
            end = half[-1]
            for words, size, many_, pause in (
                ("half of it, many small packets", 8, len(core) + 8, 3), ("half of it, large "
                "packets", 1200, max(3, sum(len(one.payload) for one in core) // 2000), 3),
                ("half of it, slowly", 60, 5, 500),
            ):  # fmt: skip
                fill = carriers(end.ends, end.time + pause * MS, many_, pause * MS, words, size)
                yield words, in_order([*half, *fill])
            yield "the last packet alone", repeated_unit(core[-1:], count + extra, apart)
            yield (
                "slowly",
                scope_unit(tuple(one._replace(time=one.time * 3) for one in core), count, apart),
            )

    def choose(
        self, beliefs: Beliefs, core: Probe, unit: Probe, sought: Effect
    ) -> tuple[str, Probe, float] | None:
        """Return the unit with the most expected information, None where none is worth it."""
        weights = beliefs.weights
        order = np.argsort(-weights, kind="stable")[:ALIVE]
        order = order[weights[order] > 1e-3]
        return self.best_unit(beliefs, core, unit, sought, order, weights[order])

    def choose_scope(
        self, beliefs: Beliefs, core: Probe, unit: Probe, sought: Effect
    ) -> tuple[str, Probe, float] | None:
        """Return the unit that distinguishes best between the scopes of the likeliest hypothesis,
        None where none does: a few packets must not decide between them."""
        beliefs.add(list(alike(beliefs.best)))
        scores, same = beliefs.scores, set(alike(beliefs.best))
        order = np.array([at for at, one in enumerate(beliefs.hypotheses)
                          if one in same and scores[at] > scores.max() - IN_DOUBT])  # fmt: skip
        return self.best_unit(beliefs, core, unit, sought, order, np.ones(len(order)))

    def confirmation(
        self, beliefs: Beliefs, core: Probe, unit: Probe, sought: Effect
    ) -> tuple[str, Probe, float] | None:
        """Return a unit that shows what the likeliest hypothesis strikes beyond its trigger's flow,
        None where that was played: no other hypothesis may be likely because none was tested."""
        if beliefs.best.scope in ("packet", "flow"):
            return None
        word, one = next(self.units(beliefs, core, unit, sought))
        played = any(seen.through.unit == one for seen in beliefs.seen)
        return None if played or len(one) > 700 else (word, one, 0.0)

    def other_shape(
        self, beliefs: Beliefs, core: Probe, unit: Probe, sought: Effect
    ) -> tuple[str, Probe, float] | None:
        """Return a changed packet of another kind than the core's that the likeliest hypothesis
        strikes, too, None where none distinguishes it from those that explain a flow less: one
        hypothesis may cover what two rules do."""
        rule = beliefs.best.rule()
        if rule is None:
            return None
        struck = strikes(self.through(unit, False), [rule]).struck[0]
        shapes: dict[tuple[int, str, bool], Sent] = {}
        for one, hit in zip(unit, struck, strict=True):
            if hit and one.payload:
                shapes.setdefault((one.ends.proto, payload_kind(one), one.up), one)
        last = core[-1]
        shapes.pop((last.ends.proto, payload_kind(last), last.up), None)
        count = 60 if sought.kind in SHARES else 4
        units = [(f"another kind of packet, {word}", repeated_unit((other,), count, 15 * MS))
                 for one in list(shapes.values())[:MOST_SHAPES]
                 for word, other in changed_packets(one._replace(time=0, before=()),
                                                    self.points)]  # fmt: skip
        scores = beliefs.scores
        order = np.flatnonzero(scores > scores.max() - ANOTHER - IN_DOUBT)
        order = order[np.argsort(-scores[order], kind="stable")][:ALIVE]
        return self.best_unit(beliefs, core, unit, sought, order, np.ones(len(order)), units)

    def best_unit(
        self, beliefs: Beliefs, core: Probe, unit: Probe, sought: Effect,
        order: np.ndarray[Any, Any], weights: np.ndarray[Any, Any],
        units: Iterable[tuple[str, Probe]] | None = None,
    ) -> tuple[str, Probe, float] | None:  # fmt: skip
        """Return the unit with the most expected information about some hypotheses (their places,
        and weights), None where none is worth it. units: what they ask, and units; by default those
        around the core."""
        if len(order) < 2:
            return None
        rules = [beliefs.rules[at] for at in order]
        shares = weights / weights.sum()
        played = {seen.through.unit for seen in beliefs.seen}
        best: tuple[str, Probe, float] | None = None
        for word, one in units or self.units(beliefs, core, unit, sought):
            if one in played or len(one) > 700:
                continue
            predicted = self.predicted(one, rules, sought)
            bits = information(shown(predicted, sought, one, beliefs.on_path), shares)
            if bits > (best[2] if best else LEAST_BITS):
                best = word, one, bits
            if best is not None and best[2] > 0.75:
                break
        return best

    def equals(self, beliefs: Beliefs, core: Probe, unit: Probe, sought: Effect) -> list[int]:
        """Return the likeliest hypothesis, and those that no unit distinguishes from it."""
        weights = beliefs.weights
        order = [int(at) for at in np.argsort(-weights, kind="stable")[:ALIVE]]
        others = set(alike(beliefs.best))
        order += [at for at, one in enumerate(beliefs.hypotheses)
                  if one in others and at not in order]  # fmt: skip
        rules = [beliefs.rules[at] for at in order]
        differ = self.differences(rules, beliefs, core, unit, sought)
        scores = beliefs.scores[order]
        scope = np.array([beliefs.hypotheses[at] in others for at in order])
        same = (differ == 0) | scope & (differ <= FEW) & (scores > scores[0] - IN_DOUBT)
        return [at for at, is_same in zip(order, same, strict=True) if is_same]

    def differences(
        self, rules: Sequence[Rule], beliefs: Beliefs, core: Probe, unit: Probe, sought: Effect
    ) -> np.ndarray[Any, Any]:
        """Return in how much of what units show each of some rules differs from the first one, over
        all that were played and those around a core, int64[rules]."""
        differ = np.zeros(len(rules), np.int64)
        units = [seen.through.unit for seen in beliefs.seen]
        predictions = [self.limited(seen.through, rules, sought) for seen in beliefs.seen]
        for word, one in self.units(beliefs, core, unit, sought):
            if len(one) <= 700 and word in (
                "other flows", "other flows, zeros", "flows of the capture", "again and again",
                "noise before it", "other direction",
            ):  # fmt: skip
                units.append(one)
                predictions.append(self.predicted(one, rules, sought))
        for one, predicted in zip(units, predictions, strict=True):
            features = shown(predicted, sought, one, beliefs.on_path)
            differ += (features != features[0]).sum(axis=1)
        return differ

    def equal_when_exact(self, found: Found, unit: Probe) -> list[Hypothesis]:
        """Return what no unit distinguishes from a rule now that its match is exact: a rule on all
        packets of a flow strikes the same whether it condemns the flow or not."""
        best = found.best
        limits = found.act.get("act") in LIMITS and not found.sought.limit
        if best == found.began or "one_in" in best.keys or "on_s" in found.act or limits:
            return []
        others = {one: one.rule() for one in alike(best) if one not in (best, *found.equal)}
        rules = [rule for rule in (best.rule(), *others.values()) if rule is not None]
        usable = [one for one, rule in others.items() if rule is not None]
        differ = self.differences(rules, found.beliefs, found.core, unit, found.sought)
        return [one for one, count in zip(usable, differ[1:], strict=True) if not count]

    def note(self, beliefs: Beliefs) -> None:
        """Keep the likeliest hypotheses, for the report."""
        weights = beliefs.weights * beliefs.covered
        order = np.argsort(-weights, kind="stable")[:8]
        shares = {beliefs.hypotheses[at].words: float(weights[at]) for at in order}
        self.result.beliefs.append({"probes": self.prober.probes, "weights": shares})


def limits_of(outcome: Outcome, base: Baseline, finding: Finding) -> Iterator[Effect]:
    """Yield the limits of a rate that explain the losses or delays of a flow and direction: of most
    copies alone, and all of them about the same."""
    key = finding.ends._replace(far=b"")  # of a play to other addresses, too
    places = [at for at, one in enumerate(outcome.unit)
              if one.ends._replace(far=b"") == key and one.up == finding.up]  # fmt: skip
    times = np.array([outcome.unit[at].time for at in places], np.float64)
    sizes = outcome.size[places].astype(float)
    excess = base.excess(outcome)
    policed, shaped = [], []
    for copy in range(len(outcome.delay)):
        own = outcome.sent[copy, places]
        if own.sum() > 8 and finding.ends.proto != TCP:
            lost, waits = outcome.lost[copy, places][own], excess[copy, places][own]
            policed.append(policer(times[own], sizes[own], lost))
            shaped.append(shaper(times[own], sizes[own], waits) if ramps(waits) else None)
    for act, room, fitted in (("police", "bucket_bytes", policed), ("shape", "queue_ms", shaped)):
        rows = [one for one in fitted if one is not None]
        if not rows or 2 * len(rows) < len(policed):
            continue
        rate, most = np.median(np.array(rows), axis=0)
        if np.std([one[0] for one in rows]) < 0.3 * rate and rate > 0 and most > 0:
            for part in ROOMS[act]:
                about = int(most * part) if act == "police" else float(most)
                limit = {"act": act, "rate_kbit": float(rate), room: about}
                yield Effect(PARTIAL, 0.5, 1.0, act, json.dumps(limit))


def mechanism(one: Hypothesis) -> tuple[str | None, str, bool]:
    """Return the direction of the packets that a hypothesis strikes, its scope, and whether it
    strikes media alone."""
    way = one.way
    if way is None and one.scope == "packet":
        way = one.keys.get("direction")
    return way, one.scope, one.media


def alike(best: Hypothesis) -> Iterator[Hypothesis]:
    """Yield a hypothesis with every other scope, and as a rule on media alone: what probes may not
    distinguish from it."""
    yield from as_packets(best)
    if not best.media:
        yield from (best._replace(scope=scope) for scope in SCOPES)
    if best.after and best.scope in CONDEMNED:  # its flows may share the allowance alone
        after = json.dumps(json.loads(best.after) | {"per": best.scope})
        yield from (best._replace(scope=scope, after=after) for scope in ("packet", "flow"))
    rest = {key: value for key, value in best.keys.items() if key != "payload"}
    if best.scope == "packet" and rest and not broken(rest) and not best.media:
        yield best._replace(match=json.dumps(rest, sort_keys=True), scope="flow", media=True)
        if best.keys.get("payload") == ["rtp"]:
            yield best._replace(scope="flow", media=True)


def as_allowance(best: Hypothesis) -> Iterator[Hypothesis]:
    """Yield a hypothesis with a window of its flow as one with an allowance instead, of the flow or
    of what the hypothesis condemns."""
    for key in ("packets", "bytes", "seconds"):
        low = str(best.keys.get(key, ""))
        if not low.endswith("-") or best.after:
            continue
        rest = {name: value for name, value in best.keys.items() if name != key}
        value = float(low[:-1]) - (1 if key == "packets" else 0)
        if rest and value > 0:
            count = {key: value if key == "seconds" else int(value)}
            late = best._replace(match=json.dumps(rest, sort_keys=True), after=json.dumps(count))
            yield late
            if best.scope in CONDEMNED:
                shared = late._replace(after=json.dumps(count | {"per": best.scope}))
                yield from (shared._replace(scope=scope) for scope in ("packet", "flow"))


def opened_first(unit: Probe) -> Probe:
    """Return a unit whose streams are opened before its first packet."""
    streams = [ends for ends in flows_of(unit) if ends.proto == TCP]
    if not streams:
        return unit
    opening = tuple(Sent(0, True, ends, b"") for ends in streams)
    return (*opening, *(one._replace(time=one.time + HANDSHAKE) for one in unit))


def also_shown(seen: Sequence[Finding], elsewhere: Sequence[Finding]) -> list[Finding]:
    """Return the effects on a capture that it also shows to other addresses, about as surely."""
    scores: dict[tuple[str, Ends, bool], float] = {}
    for one in elsewhere:
        scores[place_of(one)] = max(scores.get(place_of(one), 0.0), one.score)
    return [one for one in seen if scores.get(place_of(one), 0.0) > max(DOUBTFUL, ALSO * one.score)]


def place_of(one: Finding) -> tuple[str, Ends, bool]:
    """Return the kind, the flow and the direction of an effect, to whichever addresses; all kinds
    of losses are one."""
    return BLOCKED[0] if one.kind in BLOCKED else one.kind, one.ends._replace(far=b""), one.up


def merged_findings(seen: Sequence[Finding]) -> list[Finding]:
    """Return findings, forged answers first; drops of a flow that receives them are theirs."""
    injected = {one.ends for one in seen if one.kind == INJECT}
    rest = [one for one in seen if not (one.kind in (DROP, PARTIAL) and one.ends in injected)]
    dropped = {(one.ends, one.up) for one in rest if one.kind == DROP}
    rest = [one for one in rest if one.kind != PARTIAL or (one.ends, one.up) not in dropped]
    order = {INJECT: 0, DROP: 1, PARTIAL: 2, REORDER: 3, DOUBLE: 4, DELAY: 5, MARK: 6}
    return sorted(rest, key=lambda one: (order[one.kind], -one.score))


def around(unit: Probe, effects: Sequence[Finding]) -> list[int]:
    """Return the places of the packets of flows that show the surest effects, and of the first ones
    of the other flows, as far as a capture is played."""
    flows = {one.ends for one in effects[:AFFECTED]}
    counts: Counter[Ends] = Counter()
    first, rest = [], []
    for at, one in enumerate(unit):
        counts[one.ends] += 1
        if one.ends in flows:
            first.append(at)
        elif counts[one.ends] <= OF_EACH:
            rest.append(at)
    return sorted([*first, *rest[: max(PACKETS - len(first), PACKETS // 2)]])


def payload_kind(one: Sent) -> str:
    """Return the kind of a packet's payload."""
    return read(one).kind


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


def forged_act(outcome: Outcome) -> dict[str, Any]:
    """Return the act that explains the forged answers of a unit's copies."""
    to_client = to_server = page = answers = 0
    kinds = {RESET: 0, ENDED: 0}
    answer = ""
    for copy in range(len(outcome.delay)):
        for event in outcome.events[copy]:
            kinds[event.kind] += 1
            to_client += not event.up
            to_server += event.up
        for event in outcome.strange[copy]:
            if event.ends.proto == TCP:
                page += event.payload.startswith(b"HTTP/")
            else:
                answers += 1
                answer = answer_in(event.payload) or answer
    if answers:
        return {"act": "dns-lie", "answer": answer or "nxdomain"}
    if page:
        return {"act": "block-page"}
    act = "reset" if kinds[RESET] >= kinds[ENDED] else "finish"
    towards = "both"
    if to_client and not to_server:
        towards = "client"
    elif to_server and not to_client:
        towards = "server"
    return {"act": act, "towards": towards}


def refused(outcome: Outcome) -> bool:
    """Return whether no stream that received a forged answer carried anything before."""
    answered = events_of(outcome)
    for number, ends in enumerate(flows_of(outcome.unit)):
        own = np.array([one.ends == ends for one in outcome.unit])
        if (outcome.delay[answered[:, number]][:, own] >= 0).any():
            return False
    return True


def questions_pass(outcome: Outcome) -> bool:
    """Return whether datagrams of the subscriber that a forged answer answers arrive as well."""
    questions = np.array([one.up and one.ends.proto != TCP for one in outcome.unit])
    sent, arrived = answered_pass(outcome, questions)
    return 2 * arrived > sent


def answered_pass(outcome: Outcome, struck: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Return (sent, arrived) of the first struck packet of each flow that a forged answer ended.

    struck: bool[packets].
    """
    answered = events_of(outcome)
    sent = arrived = 0
    for number, ends in enumerate(flows_of(outcome.unit)):
        own = [at for at in np.flatnonzero(struck) if outcome.unit[at].ends == ends]
        if own:
            delay = outcome.delay[answered[:, number], own[0]]
            sent, arrived = sent + int((delay != -2).sum()), arrived + int((delay >= 0).sum())
    return sent, arrived


def answer_in(payload: bytes) -> str:
    """Return the address that a DNS answer tells, "" for none."""
    if len(payload) < 12 or payload[3] & 15:
        return ""
    if payload[-6:-4] == b"\0\4":
        return str(ipaddress.ip_address(payload[-4:]))
    if payload[-18:-16] == b"\0\x10":
        return str(ipaddress.ip_address(payload[-16:]))
    return ""
