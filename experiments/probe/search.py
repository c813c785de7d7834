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

import functools
import itertools
import json
import math
from collections.abc import Sequence

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.acts import share_interval
from midcall.experiments.probe.beliefs import Beliefs, Hypothesis, hypothesis
from midcall.experiments.probe.choice import Choice
from midcall.experiments.probe.code_points import marks_of
from midcall.experiments.probe.effects import SHOWN, Finding, Key
from midcall.experiments.probe.evidence import without_found_rules
from midcall.experiments.probe.expected import not_seen
from midcall.experiments.probe.found import (
    BLOCKING,
    LEAST_EXPLAINED,
    LEAST_OF_FIRST,
    REFUTED,
    TRUSTED,
    Found,
    Result,
    order_of,
    rough_act,
)
from midcall.experiments.probe.identify import Identifier
from midcall.experiments.probe.kinds import is_limited
from midcall.experiments.probe.lasting import HORIZONS
from midcall.experiments.probe.line_oracle import (
    DELAY,
    DROP,
    INJECT,
    LOSSES,
    MARK,
    PARTIAL,
    REORDER,
    Effect,
)
from midcall.experiments.probe.measure import Measure
from midcall.experiments.probe.plays import LEAST_FURTHER, MOST_RULES, PLAIN, Plays
from midcall.experiments.probe.prober import Prober, ProbesSpent
from midcall.experiments.probe.rates import LIMITS
from midcall.experiments.probe.variants import mechanism, other_ways
from midcall.testbed.probing.probe import Probe
from midcall.testbed.probing.strikes import strikes

#: Effects that are looked into, at most.
MOST_TRIES = 7
#: Of these, how many may lead to no rule, one after another: before a rule is found, behind one,
#: and behind two. What is left over behind rules mostly shows that their numbers are not exact.
MOST_FAILED = (MOST_TRIES, 3, 1)
#: Conditions whose values are lists that a rule has as a whole.
LISTS = ("addresses", "dns", "name", "payload", "ports")
#: Probability from which a further rule is named at once, as its scope may be in doubt, and below
#: which a rule explains nothing.
LEAST_SURE = 0.3
#: Score from which an effect that blocks nothing degrades a call although no rule explains it, or
#: none that is likely: the capture was played until an effect was plain.
UNEXPLAINED = 60.0
#: Share of losses of controls, or of packets that others overtake, that few lines have.
MUCH = 0.08
#: Probability of another scope or direction of a rule found, as a share of that of its own, from
#: which an effect that is left over decides between both.
LEAST_ODDS = 0.03
#: Probability of a rule that was identified again, and what it explains, as a share of those
#: before, at least, to replace it.
KEEPS = 0.8


class Search:
    """One search over one line. watch: how long a condemnation is watched at most, in s."""

    def __init__(self, prober: Prober, capture: Probe, watch: float = HORIZONS[-1]) -> None:
        self.result = Result()
        self.plays = Plays(prober, capture, self.result)
        self.identifier = Identifier(self.plays, watch)

    def run(self) -> Result:
        """Return what the box is found to do."""
        try:
            self._run()
        except ProbesSpent as spent:
            self.result.notes.append(str(spent))
        self.result.base = self.plays.base
        if self.result.unseen is not None:
            left_out = max(len(self.plays.whole) - self.plays.played, 0)
            lasted = self.plays.lasted if self.plays.whole[-1].time > self.plays.lasted else 0
            self.result.unseen = self.result.unseen._replace(
                left_out=left_out, played_s=lasted / 1e9
            )
        self.take_rewrites()
        self.note_equals()
        self.take_marks()
        self.result.verdict = self.verdict()
        if not self.result.found:
            self.result.notes += self.much_disturbed()
        return self.result

    def _run(self) -> None:
        seen = self.plays.look()
        unseen = self.result.unseen
        clean = not seen and unseen is not None
        if (clean or self.plays.at_edge(seen)) and self.plays.look_late():
            seen = self.plays.look()
            if not seen and self.plays.look_at_whole():
                seen = self.plays.look()
            if self.result.unseen is not None:  # what the first plays say holds for more flows
                self.result.unseen = unseen
        if self.plays.base.reordered > MUCH:  # what is late on such a line may be its own
            seen = [one for one in seen if one.kind not in (DELAY, REORDER)]
        self.result.findings = seen
        if not seen:
            return
        tried: set[Key] = set()
        aside: list[Found] = []
        failed = 0
        for _ in range(MOST_TRIES):
            rules = len(self.result.found)
            if rules >= MOST_RULES or failed >= MOST_FAILED[rules]:
                break
            finding = self.plays.unexplained(tried)
            if finding is None:
                break
            if self.explain_by_scope(finding):
                continue
            failed += 1
            found = self.identify(finding)
            known = None if found is None else self.known(found)
            if found is not None and known is not None:
                if self.replaces(found, known):
                    failed = 0
                    continue
                if not self.is_another(found, known, finding):
                    tried |= {finding.key, *self.left_by(known, finding.kind)}
                    continue
            if found is None or not self.is_taken(found, finding):
                tried.add(finding.key)
                if found is not None:
                    aside.append(found)
                    tried |= self.explained_by(found)
                if is_limited(self.plays, finding):  # others of these flows would be in vain, too
                    tried |= {one.key for one in self.plays.not_explained()
                              if is_limited(self.plays, one)}  # fmt: skip
                continue
            self.result.found.append(found)
            failed = 0
            if len(self.result.found) == 1:
                tried.clear()  # these effects are judged without what this rule explains now
            else:
                self.revise()
                aside += self.take_out_refuted()
                self.leave_out_superfluous()
            self.join_lists()
            self.join_ways()
            while self.plays.worth_a_play(tried):
                self.plays.look_again()
        if self.result.found and tried:
            self.take_unsure(aside)
        self.conclude()

    def conclude(self) -> None:
        """Leave out what is not needed, and note what the rules found do not explain, and what they
        predict and the capture does not show."""
        self.leave_out_superfluous()
        for found in self.result.found:
            self.leave_out_decided(found)
        if self.result.found:
            for finding in self.plays.not_explained():
                if self.explain_by_scope(finding):
                    break
            self.result.rest = self.plays.not_explained()
        self.result.contradicted = self.is_contradicted()

    def identify(self, finding: Finding) -> Found | None:
        """Return the rule behind an effect. Where other flows or directions lose another share of
        their packets, their losses are taken for the same rule's, or the effect is taken alone: at
        first alone where those shares do not explain it, and else where such a rule explains little
        of it."""
        losses = {one.kind for one in self.result.findings} & {DROP, PARTIAL}
        apart = self.exceeds_shares(finding)
        found = self.identifier.identify(finding, apart=apart)
        if (found is None or not self.is_taken(found, finding)) and finding.kind in losses and (
            len(losses) > 1
        ):  # fmt: skip
            other = self.identifier.identify(finding, apart=not apart)
            if other is not None and other.explained > LEAST_EXPLAINED:
                found = other
        if found is not None and self.predicts_more(found):
            self.narrow(found)
            self.take_share(found)
        return found

    def exceeds_shares(self, finding: Finding) -> bool:
        """Return whether so many datagrams of a flow and direction never arrive, in any copy, that
        the shares of losses of other flows do not explain it: it is another rule's."""
        shares = [one.amount for one in self.result.findings
                  if one.kind == PARTIAL and one.ends.proto != TCP]  # fmt: skip
        if finding.kind != DROP or finding.ends.proto == TCP or finding.chance < 1 or not shares:
            return False
        outcome = self.plays.shown[0]
        places = finding.places(outcome.unit)
        lost, sent = (some[:, places].sum(axis=0) for some in (outcome.lost, outcome.sent))
        return int(sent[lost == sent].sum()) * -math.log(min(max(shares), 0.999)) > SHOWN

    def take_share(self, found: Found) -> None:
        """Take a drop of which the capture shows a share of losses alone for a loss of that share:
        a stream may never get through one in a probe that is short."""
        sought = found.sought
        if sought.kind == PARTIAL and found.rule.act == "drop" and self.predicts_more(found):
            act, found.act = found.act, rough_act(sought)
            if self.predicts_more(found):
                found.act = act
            else:
                found.probability *= REFUTED

    def narrow(self, found: Found) -> None:
        """Give a rule that predicts effects which the capture does not show the likeliest scope or
        direction that its probes allow and that predicts none."""
        found.take_fitting_mechanism(lambda: not self.predicts_more(found), LEAST_ODDS)

    def is_taken(self, found: Found, finding: Finding) -> bool:
        """Return whether a rule is named: the first one if it strikes anything and explains some of
        the effect, a further one if it is sure."""
        if self.result.found:
            return self.is_sure(found, finding)
        return found.strikes_any and found.explained > LEAST_OF_FIRST

    def take_rewrites(self) -> None:
        """Take the rules that mark controls as they mark the capture."""
        for match, came in marks_of(self.plays.prober.rewrites):
            best = hypothesis(match, "packet")
            sought = Effect(MARK, came)
            finding = Finding(MARK, self.plays.capture[0].ends, True, PLAIN, came, 0)
            beliefs = Beliefs(self.plays.base, [sought])
            self.result.found.append(
                Found(best, TRUSTED, sought, beliefs, (), finding, best, [(best, 1.0)],
                      act=rough_act(sought))
            )  # fmt: skip

    def verdict(self) -> str:
        """Return the verdict: what the surest effect means for the call."""
        seen = [*self.result.findings,
                *(one.finding for one in self.result.found if one.sought.kind == MARK)]  # fmt: skip
        if not seen:
            known = self.result.unseen is not None and not self.much_disturbed()
            return "clean" if known else "cannot tell"
        blocks = {INJECT, DROP} & {one.kind for one in seen}
        # several paces have shown some limits
        shown = any(one.sought.limit in self.identifier.limits for one in self.result.found)
        improbable = not shown and all(one.probability < LEAST_SURE for one in self.result.found)
        refuted = not shown and all(one.notes for one in self.result.found)
        least = PLAIN if blocks or not improbable else UNEXPLAINED
        if max(one.score for one in seen) < least and (improbable or refuted):
            return "cannot tell"  # no rule explains it that its own probes do not refute
        if self.result.found:
            acts = {one.rule.act for one in self.result.found}
            return "blocked" if acts & BLOCKING else "degraded"
        return "blocked" if blocks else "degraded"

    def much_disturbed(self) -> list[str]:
        """Return notes on controls that lose more, or are overtaken more often, than on most lines:
        a rule that strikes whatever is sent looks the same."""
        base = self.plays.base
        seen = [
            f"controls lose {share:.0%} of their packets on the way {way}"
            for (lost, sent), share, way in zip(base.counts, base.loss, ("down", "up"), strict=True)
            if share_interval(lost, sent)[0] > MUCH
        ]
        if base.reordered > MUCH:
            seen.append(f"later packets overtake {base.reordered:.0%} of the datagrams of controls")
        return [f"{one}: the line itself, or a rule that strikes everything alike" for one in seen]

    def explain_by_scope(self, finding: Finding) -> bool:
        """Give a rule found another scope or direction that its probes allow, where it explains an
        effect then that was left over, and predicts none that is not there. Returns whether one
        did."""
        if not self.result.found:
            return False
        before = self.plays.left_over()

        def explains(found: Found, predicted: int) -> bool:
            after = self.plays.left_over()
            return (finding.key not in after and after < before
                    and self.not_shown(found) <= predicted)  # fmt: skip

        return any(
            found.take_fitting_mechanism(
                functools.partial(explains, found, self.not_shown(found)), LEAST_ODDS
            )
            for found in self.result.found
            # what comes twice fills a queue, in any scope
            if finding.kind != DELAY or found.rule.act not in ("duplicate", "mark")
        )

    def known(self, found: Found) -> Found | None:
        """Return the earlier rule that has the same act on most of what a further rule strikes,
        None for none: what is left over is then a number of the earlier one that is not exact, or
        the earlier one is wrong."""
        through = self.plays.through(self.plays.capture, False)
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
        before = self.plays.left_over()
        place = self.result.found.index(known)
        self.put(place, found)
        after = self.plays.left_over()
        if len(after) < len(before):
            return True
        self.put(place, known)
        return False

    def is_another(self, found: Found, known: Found, finding: Finding) -> bool:
        """Return whether a rule with the same act as an earlier one on most of its packets is
        another rule: it has other conditions or another mechanism, each of both strikes packets of
        the capture that the other does not, and both together leave less over."""
        same = found.best.keys.keys() == known.best.keys.keys()
        if (same and mechanism(found.best) == mechanism(known.best)) or (
            not self.is_sure(found, finding)
        ):  # fmt: skip
            return False
        through = self.plays.through(self.plays.capture, False)
        own, other = strikes(through, [found.as_drop, known.as_drop]).struck
        if not (own & ~other).any() or not (other & ~own).any():
            return False
        return finding.key in self.explained_by(found)

    def left_by(self, known: Found, kind: str) -> set[Key]:
        """Return the effects of a kind that a rule found leaves over on flows and directions which
        it strikes: they show the same numbers that are not exact."""
        unit = self.plays.capture
        struck = strikes(self.plays.through(unit, False), [known.as_drop]).struck[0]
        return {one.key for one in self.plays.not_explained()
                if one.kind == kind and struck[one.places(unit)].any()}  # fmt: skip

    def put(self, place: int, found: Found) -> None:
        """Put a rule in the place of another one."""
        before = self.result.found[place]
        self.result.found[place] = found
        for one in self.result.found:
            one.behind = [found if other is before else other for other in one.behind]

    def is_sure(self, found: Found, finding: Finding) -> bool:
        """Return whether a further rule is sure enough to be named."""
        return (
            found.explained > LEAST_EXPLAINED
            and found.probability > LEAST_SURE
            and finding.score > LEAST_FURTHER
            and not found.notes
        )

    def revise(self) -> None:
        """Identify each earlier rule again where another one explains better what a new rule leaves
        over."""
        for place in range(len(self.result.found) - 1):
            before = self.result.found.pop(place)
            again = self.identified_again(before)
            self.result.found.insert(place, before)
            if again is None:
                continue
            misfits = self.misfits()
            self.put(place, again)
            more = self.misfits() - misfits
            surer = (again.probability >= KEEPS * before.probability
                     and again.explained >= KEEPS * before.explained)  # fmt: skip
            refuted = bool(again.notes) and not before.notes
            if more > 0 or refuted or (more == 0 and not surer):
                self.put(place, before)

    def take_out_refuted(self) -> list[Found]:
        """Take out the earlier rules that their own probes refute and that are improbable, or
        without which the others fit no worse, and return them: what they seem to explain may be the
        act of further rules."""
        taken: list[Found] = []
        for one in [one for one in self.result.found[:-1] if one.notes]:
            place, misfits = self.result.found.index(one), self.misfits()
            self.result.found.remove(one)
            if one.probability < LEAST_SURE or self.misfits() <= misfits:
                taken.append(one)
                self.plays.closer = False  # it hid what more of the capture showed
            else:
                self.result.found.insert(place, one)
        return taken

    def identified_again(self, before: Found) -> Found | None:
        """Return the rule behind what the others leave over; None where the one before is still the
        best one, or nothing is left over. Where the effect that led to it is that of another rule,
        it is identified by the surest one that is left."""
        left = self.plays.not_explained()
        if any(one.key == before.finding.key for one in left):
            still = self.identifier.is_still_best(before)
            return None if still else self.identifier.identify(before.finding)
        surest = max(left, key=lambda one: one.score, default=None)
        return None if surest is None else self.identifier.identify(surest)

    def misfits(self) -> int:
        """Return how many effects the rules found leave unexplained, and whether they predict one
        that is not there."""
        return len(self.plays.left_over()) + self.is_contradicted()

    def take_unsure(self, aside: Sequence[Found]) -> None:
        """Take the likeliest rules for losses, and other plain effects, that no sure rule explains.

        aside: rules that were not sure enough.
        """
        for found in sorted(aside, key=lambda one: -one.probability):
            left = {one.key: one for one in self.plays.not_explained()}.get(found.finding.key)
            plain = left is not None and (left.kind in LOSSES or left.score > PLAIN)
            explains = plain and found.explained > LEAST_EXPLAINED
            if explains and len(found.notes) < 2 and len(self.result.found) < MOST_RULES:
                self.result.found.append(found)

    def explained_by(self, found: Found) -> set[Key]:
        """Return the effects that are left over and that a rule explains."""
        before = self.plays.left_over()
        self.result.found.append(found)
        after = self.plays.left_over()
        self.result.found.pop()
        return before - after

    def leave_out_superfluous(self) -> None:
        """Leave out rules without which the others explain as much, first those that their own
        probes refute, then those that predict more than the capture shows, then the narrowest. A
        rule whose own effect is left over even so is kept, as is one whose units the others do not
        explain."""
        if len(self.result.found) < 2:
            return
        through = self.plays.through(self.plays.capture, False)

        def rank(one: Found) -> tuple[bool, bool, int]:
            struck = strikes(through, [one.as_drop]).struck[0]
            return not one.notes, not self.predicts_more(one), int(struck.sum())

        for found in sorted(self.result.found, key=rank):
            if len(self.result.found) < 2:
                break
            before = self.plays.left_over()
            place = self.result.found.index(found)
            self.result.found.remove(found)
            after = self.plays.left_over()
            if after - before or found.finding.key in after or self.is_shown_by_units(found):
                self.result.found.insert(place, found)

    def leave_out_decided(self, found: Found) -> None:
        """Leave out of what a rule lets pass the packets of the capture that another rule found
        strikes: that one decides them."""
        through = self.plays.through(self.plays.capture, False)
        others = [one.as_drop for one in self.result.found if one is not found]
        own = strikes(through, [found.as_drop]).struck[0] & found.spares(through)
        decided = own & strikes(through, others).struck.any(axis=0)
        kept = tuple(match for match, whole, part in zip(
            found.allow_list.matches, own.sum(axis=1), decided.sum(axis=1), strict=True
        ) if 2 * part <= whole)  # fmt: skip
        found.allow_list = found.allow_list._replace(matches=kept)

    def is_shown_by_units(self, found: Found) -> bool:
        """Return whether the units that were played for a rule show an effect that the rules found
        do not explain."""
        gain = 0.0
        for seen in found.beliefs.seen:
            if not seen.capture:
                rest = without_found_rules(self.plays, seen.outcome, True, found.sought)
                gain += found.beliefs.gain_of(found.began, seen._replace(outcome=rest))
        return gain > SHOWN

    def note_equals(self) -> None:
        """Note what no unit distinguishes from each rule while the others are in force."""
        for found in self.result.found:
            if not found.core:
                continue  # what controls show
            others = [one for one in self.result.found if one is not found]
            choice = Choice(self.plays, found.beliefs, found.core, self.plays.capture,
                            found.sought, found.finding.up)  # fmt: skip
            found.equal += choice.equal_with_others(found, others)

    def take_marks(self) -> None:
        """Take the code point that a rule gives its packets as the condition of another rule with
        the same match, where packets sent with it show that it is."""
        marks = [one for one in self.result.found if one.sought.kind == MARK and one.core]
        try:
            for found in self.result.found:
                for mark in marks:
                    if found.best.keys == mark.best.keys and found.sought.kind != MARK:
                        Measure(self.plays, found, 0.0, False).take_mark(mark)
        except ProbesSpent as spent:
            self.result.notes.append(str(spent))

    def join_lists(self) -> None:
        """Make one rule with a list of rules that drop and differ in one of LISTS alone."""
        for key in LISTS:
            kept: dict[str, Found] = {}
            for found in list(self.result.found):
                rest = found.best.keys
                values = rest.pop(key, None)
                if values is None or found.rule.act not in BLOCKING:
                    continue
                alike = found.best._replace(match=json.dumps(rest, sort_keys=True))
                same = json.dumps([alike, found.rule.act, found.rule.lasts_s, found.allow_list])
                known = kept.setdefault(same, found)
                if known is not found:
                    both = list(dict.fromkeys([*known.best.keys[key], *values]))
                    match = json.dumps(known.best.keys | {key: both}, sort_keys=True)
                    of_both = {one._replace(match="") for one in known.equal_matches}
                    of_both &= {one._replace(match="") for one in found.equal_matches}
                    known.equal = [one._replace(match=match) for one in sorted(of_both, key=str)]
                    known.best = known.best._replace(match=match)
                    known.probability = min(known.probability, found.probability)
                    self.result.found.remove(found)

    def join_ways(self) -> None:
        """Make one rule of both directions of two rules with the same act, match and scope in
        opposite ones whose numbers agree, where it explains as much."""
        for one, other in itertools.combinations(list(self.result.found), 2):
            both = in_both_ways(one, other)
            if both is None or not {one, other} <= set(self.result.found):
                continue
            misfits, before, place = self.misfits(), one.best, self.result.found.index(other)
            one.best = both
            self.result.found.remove(other)
            if self.misfits() > misfits:
                one.best = before
                self.result.found.insert(place, other)
                continue
            one.began, one.equal = both, []
            one.probability = min(one.probability, other.probability)

    def is_contradicted(self) -> bool:
        """Return whether the rules found predict an effect that the capture does not show, each by
        itself and all of them in whichever order: one may keep packets from another."""
        known = [one for one in order_of(self.result.found) if is_exact(one)]
        if not any(self.predicts_more(found) for found in known):
            return False
        seen = self.plays.shown[0]
        return all(
            not_seen(seen, self.plays.simulated([rule for one in listed for rule in one.rules],
                                                seen.unit, False)) > 0
            for listed in (known, known[::-1])
        )  # fmt: skip

    def predicts_more(self, found: Found) -> bool:
        """Return whether a rule surely predicts an effect that the capture does not show."""
        return is_exact(found) and self.not_shown(found) > 0

    def not_shown(self, found: Found) -> int:
        """Return how many effects a rule predicts that the capture does not show."""
        seen = self.plays.shown[0]
        return not_seen(seen, self.plays.expected(found, seen.unit, False))


def is_exact(found: Found) -> bool:
    """Return whether a rule predicts which packets are lost: how much a limit of a rate loses
    depends on its numbers, which are not exact, and one that comes and goes has a clock."""
    return found.rule.act not in LIMITS and not found.rule.on_s


def in_both_ways(one: Found, other: Found) -> Hypothesis | None:
    """Return a rule of both directions in the place of two in opposite ones that are alike
    otherwise; None where they are not."""
    ways = {mechanism(each.best)[0] for each in (one, other)}
    alike = [next(other_ways(each.best, True), None) for each in (one, other)]
    agree = one.parameters.keys() == other.parameters.keys() and all(
        value.low <= other.parameters[key].high and other.parameters[key].low <= value.high
        for key, value in one.parameters.items()
    )
    same = one.rule.act == other.rule.act and one.allow_list == other.allow_list
    if ways == {"up", "down"} and same and agree and alike[0] == alike[1]:
        return alike[0]
    return None
