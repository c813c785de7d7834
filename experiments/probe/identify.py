# SPDX-License-Identifier: BSD-3-Clause
"""The identification of one rule behind an effect: hypotheses, and the units that weigh them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise import search as localiser
from midcall.experiments.localise.messages import noise
from midcall.experiments.localise.oracle_session import BudgetSpent, OracleSession
from midcall.experiments.localise.run import shorten_gaps
from midcall.experiments.probe.atoms import (
    Match,
    allowance,
    atoms,
    places,
    references,
    windows_with_ends,
)
from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.beliefs import (
    Beliefs,
    Hypothesis,
    Seen,
    combined,
    hypothesis,
    variants,
)
from midcall.experiments.probe.choice import Choice
from midcall.experiments.probe.effects import SHOWN, Finding, findings
from midcall.experiments.probe.excerpts import OPENED
from midcall.experiments.probe.fit import affected_of, events_of
from midcall.experiments.probe.forged import answered_pass, forged_act, questions_pass, refused
from midcall.experiments.probe.found import LEAST_EXPLAINED, LIMITS, RARELY, TRUSTED, Found
from midcall.experiments.probe.line_oracle import (
    DELAY,
    DROP,
    INJECT,
    MARK,
    PARTIAL,
    SHARES,
    Effect,
    LineOracle,
)
from midcall.experiments.probe.measure import Measure
from midcall.experiments.probe.plays import Plays, place_of
from midcall.experiments.probe.prober import MS, Outcome, ProbesSpent
from midcall.experiments.probe.quotas import quotas
from midcall.experiments.probe.rates import policer, ramps, rate_limit, shaper
from midcall.experiments.probe.translate import matches_of
from midcall.experiments.probe.units import repeated_unit
from midcall.experiments.probe.variants import alike, as_allowance, mechanism, other_ways
from midcall.testbed.policy.language import Rule
from midcall.testbed.probing.probe import Ends, Probe, flows_of, in_order
from midcall.testbed.probing.strikes import strikes

#: Units that are played at most, and those of them that distinguish scopes alone.
MOST_UNITS, SCOPE_CHECKS = 24, 4
#: Units without news after which no more are played.
IN_VAIN = 4
#: Far addresses of a list that a rule may have, at most.
MOST_ADDRESSES = 12
#: Packets of one size that show whether it is struck, at least.
FEW_OF_SIZE = 8
#: Share of copies that show an effect, of those expected, below which a packet does not.
SILENT = 0.4
#: Probes of the localiser where no rule explains an effect, and its longest window in ns.
OCTET_PROBES, LONGEST = 150, 6_000_000_000
#: The probability of a rule against something that strikes any packets, at least.
LEAST_COVERED = 0.4
#: Buckets and queues that are tried, as shares of the one that fits a flow: which packets spend
#: the bucket is not known yet.
ROOMS = {"police": (1.0, 1.12, 1.3), "shape": (1.0,)}


class Identifier:
    """Identifies rules on a line. watch: how long a condemnation is watched at most, in s.

    limits: limits of a rate, as JSON, which several paces have shown.
    """

    def __init__(self, plays: Plays, watch: float) -> None:
        self.plays, self.watch = plays, watch
        self.forged = False  # whether forged answers are looked into
        self.limits: set[str] = set()

    def identify(self, finding: Finding, may_limit: bool = True) -> Found | None:
        """Return the rule behind an effect, None where no rule of the language explains it.

        may_limit: whether it may limit a rate.
        """
        effects = self.effects(finding, may_limit)
        act: dict[str, Any] = {}
        if finding.kind == INJECT:
            act = forged_act(self.plays.shown[0])
            effects = [effects[0]._replace(detail=act["act"])]
        self.forged = effects[0].kind == INJECT
        begun = self.begin(finding, effects)
        if begun is None and self.plays.prober.fresh_far:
            # this effect alone needs the own addresses
            self.plays.prober.fresh_far = False
            self.plays.shown = [self.plays.own, *self.plays.shown]
            return self.identify(finding, may_limit)
        if begun is None:
            return None
        beliefs, parts, main = begun
        core = self.learn(beliefs, parts, main.unit, finding)
        beliefs.add(list(as_allowance(beliefs.best)))
        sought = beliefs.sought
        if sought.kind in SHARES:
            sought = sought._replace(amount=self.share_of(beliefs))
        oracle = LineOracle(self.plays.prober, self.plays.base, sought)
        octets: list[str] = []
        notes: list[str] = []
        first = not self.plays.result.found
        if first and beliefs.explained < LEAST_EXPLAINED and sought.kind not in SHARES:
            octets, notes = self.localised(oracle, beliefs, parts, main)
        if self.forged and self.is_on_path(beliefs):
            act["path"] = "on"
        beliefs.add(list(alike(beliefs.best)))
        if not first:
            beliefs.add(list(other_ways(beliefs.best, finding.up)))
        weights = beliefs.weights * beliefs.covered
        order = np.argsort(-weights, kind="stable")
        same = Choice(self.plays, beliefs, core, main.unit, sought).equals(finding.up)
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
        if self.forged and not self.strikes_streams(found):
            found.act = {}  # what is forged is no datagram: the rule drops
        Measure(self.plays, found, self.watch, found.sought.limit in self.limits).run()
        if may_limit and sought.limit and found.act.get("act") not in LIMITS:
            return self.identify(finding, False)  # measured, it is none
        found.equal += Choice(self.plays, beliefs, core, main.unit, found.sought).equal_when_exact(
            found
        )
        return found

    def is_still_best(self, found: Found) -> bool:
        """Return whether a rule explains best what the others leave over."""
        self.forged = found.sought.kind == INJECT
        begun = self.begin(found.finding, found.beliefs.effects)
        if begun is None:
            return True
        beliefs, parts, _ = begun
        for seen in found.beliefs.seen:
            if seen.through.unit not in (self.plays.capture, self.plays.other):
                rest = self.for_others(seen.outcome, True, found.sought)
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
        self, finding: Finding, effects: Sequence[Effect]
    ) -> tuple[Beliefs, list[Match], Outcome] | None:
        """Return the first rules, weighed by the plays of the capture; None if there are none.

        Also returns the conditions of which rules are made, and the play from which they are.
        """
        sought = effects[0]
        beliefs = Beliefs(
            self.plays.base, effects, self.forged and questions_pass(self.plays.shown[0])
        )
        plays = [self.of_kind(self.for_others(outcome, False, sought), finding)
                 for outcome in self.plays.shown]  # fmt: skip
        for outcome in plays:
            beliefs.observe(Seen(self.plays.through(outcome.unit, False), outcome, True))
        main = plays[-1] if self.plays.prober.fresh_far else plays[0]
        parts: list[Match] = []
        for effect in effects:  # a delay need not show as what a limit delays
            parts = parts or self.parts(main, effect) or self.parts(plays[0], effect)
        if not parts:  # some copies alone may be struck
            rarely = sought._replace(chance=min(sought.chance, RARELY))
            parts = self.parts(main, rarely) or self.parts(plays[0], rarely)
        if not parts:
            return None
        if finding.kind == DROP and not self.shows_both_ways(finding):
            way = "up" if finding.up else "down"
            beliefs.add(one._replace(way=way) for one in variants(parts, False))
        beliefs.grow(parts)
        beliefs.add(list(self.delayed(parts, main, sought)))
        beliefs.add(list(beliefs.changed(12)))
        beliefs.prune()
        self.note(beliefs)
        beliefs.climb(parts)
        beliefs.prune()
        return beliefs, parts, main

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
        self, beliefs: Beliefs, parts: list[Match], unit: Probe, finding: Finding
    ) -> Probe:  # fmt: skip
        """Ask what would teach most until nothing does; returns the fewest packets of a unit that
        bring the likeliest rule about."""
        taught: list[tuple[str, float]] = []
        checks, in_vain = 0, False
        core = self.core_of(beliefs.best, unit, finding)
        for number in range(MOST_UNITS):
            sought = beliefs.sought
            choice = Choice(self.plays, beliefs, core, unit, sought)
            chosen = choice.which_effect() or choice.choose()
            if chosen is None or in_vain:
                chosen = choice.choose_scope() or choice.confirmation() or choice.other_shape()
                checks += 1
            if chosen is None or checks > SCOPE_CHECKS:
                break
            word, asked, bits = chosen
            copies = max(LineOracle(self.plays.prober, self.plays.base, sought).copies, 4)
            question = f"{word} ({bits:.2f} bits expected)"
            outcome = self.plays.prober.ask(question, [asked], copies)[0]
            rest = self.for_others(outcome, True, sought)
            beliefs.observe(Seen(self.plays.through(asked, True), rest))
            seen = [*parts, *self.sizes_seen(beliefs, rest)]
            beliefs.climb(seen, 1 if number % 3 else 3)
            beliefs.prune()
            state = beliefs.best.words, round(float(beliefs.weights.max()), 2)
            self.plays.prober.taught(f"{state[0]}: {beliefs.weights.max():.3f}")
            self.note(beliefs)
            taught = [*taught[-IN_VAIN:], state]
            in_vain = len(set(taught)) == 1 and len(taught) > IN_VAIN
            core = self.core_of(beliefs.best, unit, finding)
        return core

    def sizes_seen(self, beliefs: Beliefs, outcome: Outcome) -> Iterator[Match]:
        """Yield the likeliest hypothesis's window of sizes, widened to those of a unit's packets
        that show the effect."""
        window = str(beliefs.best.keys.get("size", ""))
        if "-" not in window:
            return
        low, high = (int(one) if one else None for one in window.split("-"))
        sought = beliefs.sought
        affected, usable, _ = affected_of(outcome, self.plays.base, sought)
        sizes = np.array([len(one.payload) for one in outcome.unit])
        least = least_share(sought)
        for size in np.unique(sizes[sizes > 0]):
            own = usable[:, sizes == size]
            if own.sum() < FEW_OF_SIZE or (affected[:, sizes == size] & own).mean() < least:
                continue
            if low is not None and size < low:
                yield {"size": f"{size}-{high or ''}"}
            if high is not None and size > high:
                yield {"size": f"{low or 1}-{size}"}

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

    def effects(self, finding: Finding, may_limit: bool = True) -> list[Effect]:
        """Return the kinds of effects that a rule behind a finding may have: of losses, certain
        ones and a share; a delay that the same flow shows; limits of a rate, if it may."""
        own = [one for one in self.plays.result.findings
               if (one.ends, one.up) == (finding.ends, finding.up)]  # fmt: skip
        limits: list[Effect] = []
        if may_limit and finding.kind in (DROP, PARTIAL, DELAY):
            rest = self.plays.masked(self.plays.shown[0], False, PARTIAL)
            limits = list(limits_of(rest, self.plays.base, finding))
            limit = rate_limit(self.plays.prober, self.plays.base, rest, finding.first,
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

    def share_of(self, beliefs: Beliefs) -> float:
        """Return the share of struck packets that show an effect beyond the line's own."""
        gone = count = 0
        for seen in beliefs.seen:
            rule = beliefs.best.rule()
            assert rule is not None
            struck = strikes(seen.through, [rule]).struck[0]
            affected, usable, _ = affected_of(seen.outcome, self.plays.base, beliefs.sought)
            gone += int((affected & usable)[:, struck].sum())
            count += int(usable[:, struck].sum())
        loss = max(self.plays.base.loss) if beliefs.sought.kind == PARTIAL else 0.0
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

    def shows(self, outcome: Outcome, sought: Effect) -> np.ndarray[Any, Any]:
        """Return how surely each packet of a unit shows an effect, float64[packets]."""
        if sought.kind == INJECT:
            hit = np.asarray(events_of(outcome).any(axis=0))
            flows = flows_of(outcome.unit)
            shown_ = np.array([float(hit[flows.index(one.ends)]) for one in outcome.unit])
            dropped = self.shows(outcome, Effect(DROP, 1.0, sought.chance))
            return np.where(outcome.streams, shown_, np.maximum(shown_, dropped))
        affected, usable, other = affected_of(outcome, self.plays.base, sought)
        count = usable.sum(axis=0)
        share = (affected & usable).sum(axis=0) / np.maximum(count, 1)
        least = np.maximum(0.6 * min(sought.chance, 1.0), 3 * other)
        if sought.kind in SHARES:
            least = np.full(len(share), min(0.2, 0.4 * max(sought.amount, 0.1)))
        return np.where((count > 0) & (share > least), 1.0, 0.0)

    def parts(self, outcome: Outcome, sought: Effect) -> list[Match]:
        """Return the conditions that packets around the effect meet."""
        through = self.plays.through(outcome.unit, False)
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
        through = self.plays.through(outcome.unit, False)
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

    def core_of(self, best: Hypothesis, unit: Probe, finding: Finding) -> Probe:
        """Return the fewest packets of a unit that bring a hypothesis about, of the flow
        (and direction) that shows the effect, if it does: what others show may be another rule's.
        """
        keys = best.keys
        through = self.plays.through(unit, False)
        plain = best._replace(scope="packet", way=None, after="", media=False).rule()
        if plain is None:
            return shorten_gaps(unit[:1])
        hits = np.flatnonzero(strikes(through, [plain]).struck[0])
        for taken in (self.plays.blocked(unit), self.plays.decided(unit, False)):
            spared = ~taken[hits]
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
        struck = strikes(self.plays.through(unit, True), [rule]).struck[0]
        again = [hit for one, hit in zip(unit, struck, strict=True)
                 if one.payload == core[-1].payload and one.up == core[-1].up]  # fmt: skip
        return bool(2 * sum(again) > len(again))

    def for_others(self, outcome: Outcome, tight: bool, sought: Effect) -> Outcome:
        """Return an outcome without what the rules found so far explain, and without the packets
        that they may decide and that do not show an effect: those say nothing of a rule behind."""
        rest = self.plays.masked(outcome, tight, sought.kind)
        decided = self.plays.decided(outcome.unit, tight)
        if not decided.any():
            return rest
        affected, usable, _ = affected_of(rest, self.plays.base, sought)
        share = (affected & usable).sum(axis=0) / np.maximum(usable.sum(axis=0), 1)
        shows = share >= least_share(sought)
        return rest._replace(delay=np.where(decided & ~shows, -2, rest.delay))

    def of_kind(self, outcome: Outcome, finding: Finding) -> Outcome:
        """Return an outcome without the groups that show other kinds of effects alone: of other
        rules. Packets that are late are not dropped."""
        losses = (DROP, PARTIAL, INJECT)
        same = losses if finding.kind in losses else (finding.kind,)
        kinds: dict[tuple[Ends, bool], set[str]] = {}
        for one in findings(outcome, self.plays.base):
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
            own = (
                np.array(self.plays.base.fixed)[way]
                + np.array(self.plays.base.per_octet)[way] * outcome.size
            )
            delay = np.where((delay >= 0) & hit, own.astype(np.int64), delay)
        late, twice = outcome.overtaken, outcome.twice
        return outcome._replace(
            delay=delay,
            overtaken=late & ~hit if late is not None and "delay" in shows else late,
            twice=twice & ~hit if twice is not None and "copies" in shows else twice,
        )

    def note(self, beliefs: Beliefs) -> None:
        """Keep the likeliest hypotheses, for the report."""
        weights = beliefs.weights * beliefs.covered
        order = np.argsort(-weights, kind="stable")[:8]
        shares = {beliefs.hypotheses[at].words: float(weights[at]) for at in order}
        self.plays.result.beliefs.append({"probes": self.plays.prober.probes, "weights": shares})


def least_share(sought: Effect) -> float:
    """Return the share of copies in which a struck packet shows an effect, at least."""
    return SILENT * sought.chance * (sought.amount if sought.kind in SHARES else 1.0)


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
