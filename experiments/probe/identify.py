# SPDX-License-Identifier: BSD-3-Clause
"""The identification of one rule behind an effect: hypotheses, and the units that weigh them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise import search as localiser
from midcall.experiments.localise.oracle_session import BudgetSpent, OracleSession
from midcall.experiments.localise.run import shorten_gaps
from midcall.experiments.probe.atoms import Match
from midcall.experiments.probe.beliefs import COUNTS, Beliefs, Seen, variants
from midcall.experiments.probe.choice import Choice
from midcall.experiments.probe.conditions import (
    conditions_around,
    sizes_seen,
    with_allowances,
    with_ends,
)
from midcall.experiments.probe.cores import core_of
from midcall.experiments.probe.effects import Finding
from midcall.experiments.probe.evidence import come_behind, of_kind, without_found_rules
from midcall.experiments.probe.forged import (
    answered_pass,
    forged_act,
    of_same_act,
    questions_pass,
    refused,
)
from midcall.experiments.probe.found import LEAST_EXPLAINED, RARELY, TRUSTED, Found
from midcall.experiments.probe.kinds import effects_behind, is_limited, share_of
from midcall.experiments.probe.line_oracle import DROP, INJECT, SHARES, Effect, LineOracle
from midcall.experiments.probe.measure import Measure
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import Outcome, ProbesSpent
from midcall.experiments.probe.rates import LIMITS
from midcall.experiments.probe.translate import matches_of
from midcall.experiments.probe.variants import (
    alike,
    as_allowance,
    mechanism,
    of_subject,
    other_subjects,
    other_ways,
    without_windows,
)
from midcall.testbed.probing.probe import Probe
from midcall.testbed.probing.strikes import strikes

#: Units that are played at most, and those of them that distinguish scopes alone.
MOST_UNITS, SCOPE_CHECKS = 24, 4
#: Hypotheses with an allowance that are weighed at first, at most.
MOST_LATE = 4_000
#: Likeliest hypotheses whose matches are tried with other allowances.
LIKELY = 60
#: Units without news after which no more are played.
IN_VAIN = 4
#: Probes and seconds of line time of the localiser where no rule explains an effect, at most, and
#: its longest window in ns.
OCTET_PROBES, OCTET_SECONDS, LONGEST = 150, 240.0, 6_000_000_000
#: Rates, as parts of the measured one, with one of which a simpler match explains what was played:
#: how soon a packet waits for long depends on small differences.
ABOUT = (1.0, 0.97, 1.03)
#: Limits of a rate whose numbers say what packets they strike; of a queue with classes they do not.
MEASURED = ("police", "shape")
#: By how many nats, and by which part of all, what was played must fit a measured begin less than
#: the one before it to contradict it: where fillers are lost, the box counts less.
CONTRADICTED, CONTRADICTED_PART = 10.0, 0.01
#: The probability of a rule against something that strikes any packets, at least.
LEAST_COVERED = 0.4


class Identifier:
    """Identifies rules on a line. watch: how long a condemnation is watched at most, in s.

    limits: limits of a rate, as JSON, which several paces have shown, each with the play at the
    fastest one.
    """

    def __init__(self, plays: Plays, watch: float) -> None:
        self.plays, self.watch = plays, watch
        self.forged = False  # whether forged answers are looked into
        self.limits: dict[str, Outcome] = {}

    def identify(
        self, finding: Finding, may_limit: bool = True, apart: bool = False
    ) -> Found | None:
        """Return the rule behind an effect, None where no rule of the language explains it.

        may_limit: whether it may limit a rate; apart: whether flows and directions that show
        another kind of effect are another rule's.
        """
        effects = effects_behind(self.plays, finding, self.limits, may_limit, apart)
        act: dict[str, Any] = {}
        if finding.kind == INJECT:
            act = forged_act(of_same_act(self.plays.shown[0], finding.ends))
            on_path = questions_pass(self.plays.shown[0])
            effects = [effects[0]._replace(detail=act["act"], on_path=on_path)]
        self.forged = effects[0].kind == INJECT
        begun = self.begin(finding, effects, apart)
        if begun is None and self.plays.prober.fresh_far:
            # this effect alone needs the own addresses
            self.plays.prober.fresh_far = False
            self.plays.shown = [self.plays.own, *self.plays.shown]
            return self.identify(finding, may_limit, apart)
        if begun is None:
            return None
        beliefs, parts, main = begun
        core = self.learn(beliefs, parts, main, finding)
        found = self.likeliest(beliefs, parts, main, core, finding)
        found.act = act | found.act
        if self.forged and not self.strikes_streams(found):
            found.act = {}  # what is forged is no datagram: the rule drops
        Measure(self.plays, found, self.watch, found.sought.limit in self.limits).run()
        keep_seen_begin(found)
        take_seen_mechanism(found)
        take_simplest(found)
        measured = found.act.get("act") in LIMITS
        if measured and is_limited(self.plays, finding):
            found.refute("it limits the rate of packets that a rule found before limits")
        # of datagrams several paces show it, and of a stream how long large and small writes wait;
        # where a stream loses some, it sends again
        known = found.sought.limit in self.limits and (
            finding.ends.proto != TCP or found.sought.act["act"] == "shape"
        )
        if known and not measured:
            found.refute("its trigger does not show the limit that several paces show")
        if may_limit and found.sought.limit and (found.notes or not measured):
            other = self.identify(finding, False, apart)
            explains = other is not None and other.explained > LEAST_EXPLAINED and not other.notes
            if explains or not (measured or known):
                return other
        sought = measured_limit(found) or found.sought
        choice = Choice(self.plays, beliefs, core, main.unit, sought, finding.up)
        found.equal += choice.equal_when_exact(found)
        return found

    def likeliest(
        self, beliefs: Beliefs, parts: Sequence[Match], main: Outcome, core: Probe, finding: Finding
    ) -> Found:  # fmt: skip
        """Return the likeliest rule, with what no unit distinguishes from it, before its numbers
        are measured. main, core: the play of which it is made, and the packets of its trigger."""
        sought = beliefs.sought
        if sought.kind in SHARES:
            sought = sought._replace(amount=share_of(beliefs, self.plays.base))
        octets: list[str] = []
        notes: list[str] = []
        first = not self.plays.result.found
        if first and beliefs.explained < LEAST_EXPLAINED and sought.kind not in SHARES:
            oracle = LineOracle(self.plays.prober, self.plays.base, sought, OCTET_SECONDS)
            octets, notes = self.localised(oracle, beliefs, parts, main)
        act = {"path": "on"} if self.forged and self.is_on_path(beliefs) else {}
        beliefs.add(list(alike(beliefs.best)))
        if not first:
            beliefs.add(list(other_ways(beliefs.best, finding.up)))
        weights = beliefs.weights * beliefs.covered
        order = np.argsort(-weights, kind="stable")
        same = Choice(self.plays, beliefs, core, main.unit, sought, finding.up).equals()
        if weights.sum() < 0.5:
            notes.append("no rule of the policy language explains this effect")
        return Found(
            beliefs.best, self.of_mechanism(beliefs, same), sought, beliefs, core,
            finding, beliefs.best,
            [(beliefs.hypotheses[at], float(weights[at])) for at in order[:12]],
            [beliefs.hypotheses[at] for at in same[1:]],
            beliefs.explained, act, octets=octets, notes=notes,
            refused=self.forged and all(refused(seen.outcome) for seen in beliefs.seen),
            behind=list(self.plays.behind),
        )  # fmt: skip

    def is_still_best(self, found: Found) -> bool:
        """Return whether a rule explains best what the others leave over."""
        self.forged = found.sought.kind == INJECT
        begun = self.begin(found.finding, found.beliefs.effects)
        if begun is None:
            return True
        beliefs, parts, _ = begun
        for seen in found.beliefs.seen:
            if seen.through.unit not in (self.plays.capture, self.plays.other):
                rest = without_found_rules(self.plays, seen.outcome, True, found.sought)
                beliefs.observe(seen._replace(outcome=rest))
        beliefs.add([found.began])
        beliefs.climb(parts)
        best = beliefs.best
        if found.began not in beliefs.hypotheses:
            return False
        return mechanism(best) == mechanism(found.began) or bool(
            beliefs.scores.max() - beliefs.scores[beliefs.hypotheses.index(found.began)] < 1.0
        )

    def begin(
        self, finding: Finding, effects: Sequence[Effect], apart: bool = False
    ) -> tuple[Beliefs, list[Match], Outcome] | None:
        """Return the first rules, weighed by the plays of the capture; None if there are none.

        Also returns the conditions of which rules are made, and the play from which they are.
        """
        sought = effects[0]
        self.plays.behind = []
        if finding.kind != INJECT and not sought.limit:
            self.plays.behind = come_behind(self.plays, finding, sought)
        paced = self.limits.get(sought.limit)
        # a queue delays each packet by its own octets, which no single delay says
        known = [one for one in effects if one.limit in self.limits] or effects
        beliefs = Beliefs(self.plays.base, known)
        rest = [
            without_found_rules(self.plays, outcome, False, sought) for outcome in self.plays.shown
        ]
        if finding.kind == INJECT:
            rest = [of_same_act(outcome, finding.ends) for outcome in rest]
        plays = [of_kind(outcome, self.plays.base, finding, apart, paced is not None)
                 for outcome in rest]  # fmt: skip
        for outcome in plays:
            outcome = self.plays.with_held_up(outcome, False, sought)
            beliefs.observe(Seen(self.plays.through(outcome.unit, False), outcome, True))
        if paced is not None:
            paced = self.plays.with_held_up(paced, True, sought)
            beliefs.observe(Seen(self.plays.sent_through(paced), paced))
        place = -1 if self.plays.prober.fresh_far else 0
        main = plays[place]
        # datagrams that are lost may show what condemned a host, whose streams are answered
        full = rest if finding.kind == INJECT else plays
        parts: list[Match] = []
        for effect in effects:  # a delay need not show as what a limit delays
            parts = parts or self.around(full[place], full[0], effect)
        if not parts:  # some copies alone may be struck
            rarely = sought._replace(chance=min(sought.chance, RARELY))
            parts = self.around(full[place], full[0], rarely)
        if not parts:
            return None
        if finding.kind == DROP and not self.shows_both_ways(finding):
            way = "up" if finding.up else "down"
            for media in (False, True):
                beliefs.add(one._replace(way=way) for one in variants(parts, media))
        beliefs.grow(parts)
        late = with_allowances(self.plays, parts, main, sought)
        beliefs.add(list(itertools.islice(late, MOST_LATE)))
        if finding.kind != INJECT:
            beliefs.add(list(with_ends(self.plays, parts, main, sought)))
        beliefs.add(list(beliefs.changed(12)))
        beliefs.prune()
        if not beliefs.rules:
            return None  # none that the language allows with this act strikes the capture
        self.note(beliefs)
        beliefs.climb(parts)
        beliefs.prune()
        return beliefs, parts, main

    def around(self, main: Outcome, other: Outcome, sought: Effect) -> list[Match]:
        """Return the conditions of packets that show an effect, of one play or else of another."""
        return conditions_around(self.plays, main, sought) or conditions_around(
            self.plays, other, sought
        )

    def strikes_streams(self, found: Found) -> bool:
        """Return whether a rule strikes a stream of the capture, or answers DNS."""
        rule = found.best.rule()
        assert rule is not None
        return found.act.get("act") == "dns-lie" or any(
            strikes(self.plays.through(play.unit, False), [rule]).opened.any()
            for play in self.plays.shown
        )

    def shows_both_ways(self, finding: Finding) -> bool:
        """Return whether both directions of a flow show an effect."""
        return any(one.ends == finding.ends and one.up != finding.up and one.kind == finding.kind
                   for one in self.plays.result.findings)  # fmt: skip

    def learn(
        self, beliefs: Beliefs, parts: list[Match], main: Outcome, finding: Finding
    ) -> Probe:  # fmt: skip
        """Ask what would teach most until nothing does; returns the fewest packets of a play that
        bring the likeliest rule about."""
        unit, state = main.unit, ""
        asked = checks = without_news = 0
        core = core_of(self.plays, beliefs.best, unit, finding, self.forged)
        while asked < MOST_UNITS:
            sought = beliefs.sought
            choice = Choice(self.plays, beliefs, core, unit, sought, finding.up)
            chosen = choice.which_effect() or choice.choose()
            if not chosen or without_news >= IN_VAIN:
                chosen = choice.checks()
                checks += 1
            if not chosen or checks > SCOPE_CHECKS:
                break
            copies = max(LineOracle(self.plays.prober, self.plays.base, sought).copies, 4)
            question = "; ".join(f"{word} ({bits:.2f} bits expected)" for word, _, bits in chosen)
            outcomes = self.plays.prober.ask(question, [one for _, one, _ in chosen], copies)
            seen = list(parts)
            for (_, one, _), outcome in zip(chosen, outcomes, strict=True):
                rest = without_found_rules(self.plays, outcome, True, sought)
                rest = self.plays.with_held_up(rest, True, sought)
                others = choice.others_in(one)
                beliefs.observe(Seen(self.plays.sent_through(outcome), rest, others=others))
                seen += sizes_seen(beliefs, self.plays.base, rest)
            # what costs most is done at every third unit
            thorough, third = asked % 3 == 0, asked % 3 + len(chosen) >= 3
            asked += len(chosen)
            if third and beliefs.best.after:
                likely = {one.match for one in beliefs.top(LIKELY)}
                late = [one for one in with_allowances(self.plays, parts, main, sought)
                        if one.match in likely]  # fmt: skip
                beliefs.add(list(of_subject(late, beliefs.best)))
            beliefs.climb(seen, 3 if thorough else 1)
            beliefs.prune()
            before, state = state, f"{beliefs.best.words}: {beliefs.weights.max():.2f}"
            without_news = without_news + len(chosen) if state == before else 0
            self.plays.prober.taught(f"{beliefs.best.words}: {beliefs.weights.max():.3f}")
            self.note(beliefs)
            core = core_of(self.plays, beliefs.best, unit, finding, self.forged)
        beliefs.add(list(as_allowance(beliefs.best)))
        return core_of(self.plays, beliefs.best, unit, finding, self.forged)

    def of_mechanism(self, beliefs: Beliefs, same: Sequence[int]) -> float:
        """Return the probability of the hypotheses that agree in direction and scope with the
        likeliest one, or with one that no unit distinguishes from it. Against something that
        strikes any packets it is no less than LEAST_COVERED: two rules together look like that.
        A rule that explains little of the effect is as likely as that part. What is left out of the
        comparison, such as another act or a further rule, is in TRUSTED."""
        named = {mechanism(beliefs.hypotheses[at]) for at in same}
        agree = np.array([mechanism(one) in named for one in beliefs.hypotheses])
        covered = LEAST_COVERED + (1 - LEAST_COVERED) * beliefs.covered
        explained = beliefs.explained if beliefs.explained < LEAST_EXPLAINED else 1.0
        return float(beliefs.weights[agree].sum() * covered * explained * TRUSTED)

    def is_on_path(self, beliefs: Beliefs) -> bool:
        """Return whether packets that a forged answer answers arrive as well."""
        rule = beliefs.best.rule()
        assert rule is not None
        counts = [answered_pass(seen.outcome, strikes(seen.through, [rule]).struck[0])
                  for seen in beliefs.seen]  # fmt: skip
        return 2 * sum(arrived for _, arrived in counts) > sum(sent for sent, _ in counts)

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

    def note(self, beliefs: Beliefs) -> None:
        """Keep the likeliest hypotheses, for the report."""
        weights = beliefs.weights * beliefs.covered
        order = np.argsort(-weights, kind="stable")[:8]
        shares = {beliefs.hypotheses[at].words: float(weights[at]) for at in order}
        self.plays.result.beliefs.append({"probes": self.plays.prober.probes, "weights": shares})


def take_simplest(found: Found) -> None:
    """Give a rule that limits a rate the match and direction that explain all units best with the
    numbers measured: packets that the limit spares, as they are small, the first ones, or of the
    direction in which less is sent, may have looked as if the rule spared them. A queue with
    classes is left as it is: its scope is no flow."""
    measured = measured_limit(found)
    if measured is None:
        return
    limit = measured.act
    rates = (limit["rate_kbit"] * part for part in ABOUT)
    effects = [Effect.of_limit(limit | {"rate_kbit": rate}) for rate in rates]
    beliefs = Beliefs(found.beliefs.base, effects)
    for seen in found.seen_without_spared():
        beliefs.observe(seen)
    either_way = (found.best, *other_ways(found.best, found.finding.up))
    beliefs.add(one for each in either_way for one in without_windows(each)
                if not found.refutes(one))  # fmt: skip
    if beliefs.rules:  # with measured numbers, a match may strike nothing of the capture
        found.best = beliefs.best
        found.equal = [one for one in found.equal if one != found.best]


def take_seen_mechanism(found: Found) -> None:
    """Give a rule whose match has changed since it was chosen the scope, and the subject of its
    allowance, with which it explains what was played: they fitted the match before."""
    best = found.best._replace(lasts=found.began.lasts)
    if best.match == found.began.match or found.sought.limit or best.media or found.act.get("on_s"):
        return
    beliefs = Beliefs(found.beliefs.base, found.beliefs.effects)
    for seen in found.seen_without_spared():
        beliefs.observe(seen)
    beliefs.add([best])
    if not beliefs.rules:
        return
    known = float(beliefs.scores[0])
    beliefs.add([one for one in dict.fromkeys([*alike(best), *other_subjects(best)])
                 if not found.refutes(one)])  # fmt: skip
    if beliefs.scores.max() > known + CONTRADICTED:
        found.best = beliefs.best
        found.began = beliefs.best._replace(match=found.began.match)
        found.equal = []


def measured_limit(found: Found) -> Effect | None:
    """Return the effect of a limited rate with the numbers that were measured, None for others."""
    if found.act.get("act") not in MEASURED or not found.sought.limit:
        return None
    numbers = ("act", "rate_kbit", "bucket_bytes", "queue_ms")
    return Effect.of_limit({key: found.act[key] for key in numbers if key in found.act})


def keep_seen_begin(found: Found) -> None:
    """Give a rule the begin back that it had before its numbers were measured, where what was
    played before contradicts the measured one: packets that are sent again count, too."""
    best, began = found.best, found.began
    keys = [key for key in COUNTS if best.keys.get(key) != began.keys.get(key)]
    if found.sought.limit or best.media or "one_in" in best.keys or found.act.get("on_s") or (
        not keys and best.after == began.after
    ):  # fmt: skip
        return
    match = {key: one for key, one in best.keys.items() if key not in keys}
    match |= {key: began.keys[key] for key in keys if key in began.keys}
    before = best._replace(match=json.dumps(match, sort_keys=True), after=began.after)
    fits = [sum(found.beliefs.gain_of(one._replace(lasts=began.lasts), seen)
                for seen in found.beliefs.seen) for one in (best, before)]  # fmt: skip
    if fits[0] < fits[1] - max(CONTRADICTED, CONTRADICTED_PART * fits[1]):
        found.best = before
        found.intervals = {key: one for key, one in found.intervals.items()
                           if key not in keys and not key.startswith("after")}  # fmt: skip
