# SPDX-License-Identifier: BSD-3-Clause
"""The exact numbers of a rule that was found: chance, trigger, act, and how long it lasts."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise.messages import noise
from midcall.experiments.probe.acts import Acts, Number, share_interval
from midcall.experiments.probe.allow_list import allow_list
from midcall.experiments.probe.beliefs import COUNTS, Beliefs, Hypothesis
from midcall.experiments.probe.code_points import word_of
from midcall.experiments.probe.cores import core_of
from midcall.experiments.probe.found import RARELY, AllowList, Found, rough_act
from midcall.experiments.probe.kinds import counts_of
from midcall.experiments.probe.lasting import chance_of, inspected, lasting, with_seen_end
from midcall.experiments.probe.line_oracle import (
    DELAY,
    DOUBLE,
    DROP,
    INJECT,
    MARK,
    PARTIAL,
    SHARES,
    Effect,
)
from midcall.experiments.probe.phases import changes_per_s, comes_in_runs, phases_of
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.priorities import POINTS, classes
from midcall.experiments.probe.prober import MS
from midcall.experiments.probe.rates import LIMITS
from midcall.experiments.probe.refine import Refiner
from midcall.experiments.probe.spared_flows import spared_flows
from midcall.experiments.probe.tails import Tail
from midcall.experiments.probe.variants import mechanism, without_windows
from midcall.testbed.probing.probe import flow_numbers
from midcall.testbed.probing.strikes import strikes

#: Datagrams that arrive between lost ones, at least, and the largest upper end of the share of
#: losses, of which a drop is a loss instead.
FEW_ARRIVALS, MOST_LOST = 5, 0.97
#: By how much a hypothesis in which another count decides is less likely, at most, in nats.
AS_LIKELY = 4.0
#: How long before a packet to the subscriber one from it is sent, in ns.
BEFORE = 100 * MS
#: Scopes in which all flows of a client to one server are condemned together.
OF_CLIENT = ("call", "client", "pair", "triple")
#: Scopes in which flows to any port of a host are condemned together.
OF_HOSTS = ("client", "pair", "server")


@dataclass(frozen=True)
class Measure:
    """The measurement of one rule. watch: how long a condemnation is watched at most, in s;
    is_limit: whether several paces have shown that its act limits a rate."""

    plays: Plays
    found: Found
    watch: float
    is_limit: bool

    def run(self) -> None:
        """Find the exact numbers of a rule: chance, trigger, act, and how long it lasts.

        A rule that its own probes refute keeps its place as the likeliest, with less probability.
        """
        found = self.found
        tail = self.tail()
        if found.sought.kind not in SHARES:
            tail = self.enforced(tail)
        refuted = self.refine(tail)
        if self.comes_and_goes():
            return
        if refuted and self.is_sampled():
            return
        sought = found.sought
        if sought.kind in (DROP, DELAY, PARTIAL):
            self.take_allow_list()
        tail = self.tail()
        acts: Acts | None = None
        parameters: dict[str, Number] = {}
        if sought.kind == MARK:
            found.act = rough_act(sought)
        elif sought.kind != INJECT and not found.best.media:
            acts = Acts(tail, found.core, self.is_limit)
            act, parameters = acts.run()
            if acts.by_chance:
                tail = self.enforced(tail)
                refuted = refuted and self.refine(tail)  # some flows alone show it
                tail = self.tail()
                acts = Acts(tail, found.core, self.is_limit)
                act, parameters = acts.run()
            found.act = act if act or acts.certain else rough_act(found.sought)
            if acts.way is not None:
                way = "up" if acts.way else "down"
                found.best = found.best._replace(way=way)
                found.equal = list(dict.fromkeys(one._replace(way=way) for one in found.equal))
            if act.get("act") == "reorder":  # its share is no chance with which a flow is struck
                found.parameters.pop("probability", None)
            found.parameters |= parameters
            if sought.kind == DOUBLE:
                self.take_share_of_plays()
        if refuted:
            found.refute("the trigger alone did not show the effect again")
        # only many packets, close together, show these
        limited = found.act.get("act") in (*LIMITS, "reorder")
        if found.best.scope != "packet" and not found.best.media and not limited:
            found.lasting = lasting(tail, found.core, self.watch)
            found.lasting = with_seen_end(found.lasting, found.best.lasts)
            found.best = found.best._replace(lasts=0.0)
            if found.lasting.seconds is not None:
                found.parameters["lasts_s"] = found.lasting.seconds
                if acts is not None:
                    parameters |= self.weigh_again(acts, found.lasting.seconds.value)
            if found.best.scope in OF_HOSTS and found.rule.act == "drop":
                self.take_spared_flows()
        # behind the end of a condemnation, and where the rule is not enforced, packets arrive
        # whatever the act is
        if acts is not None and acts.certain and not found.parameters.keys() & {
            "lasts_s", "probability"
        }:  # fmt: skip
            self.take_loss_of_datagrams()
        if acts is not None and acts.refuted:
            found.refute("packets that the rule should strike showed no effect")
        elif acts is not None and not parameters and not acts.certain and (
            sought.kind in (DELAY, PARTIAL)
        ):  # fmt: skip
            found.refute("which act it is could not be measured")
        if found.act.get("act") == "shape" and not found.notes:
            self.find_classes()

    def refine(self, tail: Tail) -> bool:
        """Find the exact numbers of the trigger; returns whether its own probes refute it, and each
        hypothesis in which another count decides: a core has no pauses unless seconds do."""
        found, form = self.found, tail.form
        refiner = Refiner(tail, found.best, found.core)
        best = refiner.run()
        if tail.form != form:
            found.form = tail.form
        others = self.with_other_counts() if refiner.refuted else []
        for other in others:
            core = core_of(self.plays, other, self.plays.shown[0].unit, found.finding, False)
            tail = Tail(tail.prober, tail.base, tail.sought, other, tail.through, core,
                        tail.decided)  # fmt: skip
            again = Refiner(tail, other, core)
            exact = again.run()
            if not again.refuted:
                found.best, found.began, found.core = other, other, core
                found.equal = [one for one in found.equal if one.keys.keys() == other.keys.keys()]
                refiner, best = again, exact
                break
        found.take_exact(best)
        found.intervals |= refiner.intervals
        found.spares_kinds = refiner.spares_kinds
        return refiner.refuted

    def with_other_counts(self) -> list[Hypothesis]:
        """Return the likeliest hypothesis with each other count in the place of the one that the
        rule has, of those that are about as likely: packets, octets and seconds of one flow all
        grow together."""
        found, scores = self.found, self.found.beliefs.scores
        own, rest = counts_and_rest(found.best)
        if len(own) != 1 or found.sought.kind == INJECT:
            return []
        result: dict[str, Hypothesis] = {}
        for at in np.argsort(-scores, kind="stable"):
            one = found.beliefs.hypotheses[at]
            counts, others = counts_and_rest(one)
            if scores[at] <= scores.max() - AS_LIKELY:
                break
            if len(counts) == 1 and counts != own and others == rest and (
                mechanism(one) == mechanism(found.best)
            ):  # fmt: skip
                result.setdefault(counts[0], one)
        return list(result.values())

    def take_allow_list(self) -> None:
        """Find out what the rule lets pass that it would strike."""
        found = self.found
        refiner = Refiner(self.tail(), found.best, found.core)
        seen = allow_list(refiner, self.plays.whole, found.spares_kinds)
        # with the ports that this has shown, and another last packet where the trigger passes
        found.best, found.core = refiner.best, refiner.core
        found.intervals |= refiner.intervals
        found.take_allow_list(seen)
        if seen.matches:
            self.take_simplest_behind()

    def take_spared_flows(self) -> None:
        """Find out which other flows of a condemned host the rule lets pass."""
        found = self.found
        rule = found.as_drop
        struck = strikes(self.plays.through(self.plays.shown[0].unit, False), [rule]).struck[0]
        seen = spared_flows(self.tail(), found.core, self.plays.shown[0], struck)
        if seen and not found.allow_list.matches:
            found.take_allow_list(AllowList(tuple(seen)))

    def take_simplest_behind(self) -> None:
        """Give a rule that lets packets pass the match that explains best what else was played: a
        window or scope may have been there for those alone."""
        found = self.found
        beliefs = Beliefs(found.beliefs.base, found.beliefs.effects)
        for seen in found.seen_without_spared():
            beliefs.observe(seen)
        beliefs.add(one for one in without_windows(found.best) if not found.refutes(one))
        if beliefs.rules and beliefs.best != found.best:
            found.best = beliefs.best
            found.equal = []

    def weigh_again(self, acts: Acts, lasts_s: float) -> dict[str, Number]:
        """Measure an act again without the packets that came after the condemnation's end; returns
        its numbers, {} where it is another act then."""
        found = self.found
        act, parameters = acts.run(lasts_s)
        if not act or act.get("act") != found.act.get("act"):
            return {}
        found.act = act
        found.parameters |= parameters
        return parameters

    def take_share_of_plays(self) -> None:
        """Take the share of datagrams that come twice from all plays of the search, which have far
        more of them, where it agrees with what the rule's own packets have shown."""
        found, rule = self.found, self.found.best.rule()
        own = found.parameters.get("share")
        if rule is None or own is None:
            return
        whole = share_of_copies(counts_of(found.beliefs.seen, self.plays.base, found.sought, rule))
        if own.low <= whole.value <= own.high and whole.high - whole.low < own.high - own.low:
            found.parameters["share"] = whole
            found.act = found.act | {"share": round(whole.value, 4)}

    def take_loss_of_datagrams(self) -> None:
        """Take the act for a loss where some of the datagrams that a rule strikes arrive between
        others that are lost: a stream never gets through a loss of most packets. Where the same
        ones arrive in all copies, the rule has a condition that is not known."""
        counts = of_datagrams(self.found)
        between, all_between, always = counts[:, 2:].sum(axis=0)
        most = share_interval(int(between), int(all_between))[1]
        if all_between - between < FEW_ARRIVALS or most > MOST_LOST:
            return
        if 2 * always > all_between - between:
            self.found.refute("some packets that the rule should strike always arrive")
            return
        loss = share_of_copies(counts)
        if loss.high > MOST_LOST:  # a drop, of which a few copies lost the trigger
            return
        self.found.act = {"act": "loss", "loss": round(loss.value, 4)}
        self.found.parameters["loss"] = loss

    def find_classes(self) -> None:
        """Find out whether packets with some code points go first in the queue of a rule."""
        found = self.found
        seen = classes(self.tail(), found.core, found.act)
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

    def comes_and_goes(self) -> bool:
        """Return whether a rule drops packets for some time, lets all pass for some time, and so
        on; it then strikes single packets."""
        found = self.found
        best = found.best._replace(scope="packet")
        rule = best.rule()
        if found.sought.kind not in (DROP, PARTIAL) or found.sought.limit or rule is None:
            return False
        tail = self.tail(best, Effect(PARTIAL, 0.5))
        first = self.plays.shown[0]
        if best.media or not comes_in_runs(first, rule, tail):
            return False
        phases = phases_of(tail, found.core, changes_per_s(first, rule, tail))
        if phases is not None:
            found.best, found.act = best, phases.act
            found.parameters.pop("probability", None)  # which copies are struck is a matter of time
            found.parameters |= {"on_s": phases.on_s, "off_s": phases.off_s}
        return phases is not None

    def is_sampled(self) -> bool:
        """Return whether a flow is condemned by one of many triggers; the rule then inspects one
        packet in so many."""
        found = self.found
        if found.sought.kind not in (DROP, PARTIAL) or found.best.scope == "packet":
            return False
        _, keys = counts_and_rest(found.best)
        if not keys or found.best.after or found.sought.limit:
            return False
        best = found.best._replace(match=json.dumps(keys, sort_keys=True))
        sought = Effect(DROP, 1.0, RARELY)
        tail = self.tail(best, sought)
        part = inspected(tail, found.core)
        if part is not None:
            found.best, found.sought = best.sampled(part.value), sought
            found.parameters["one_in"] = part
        return part is not None

    def take_mark(self, mark: Found) -> None:
        """Take the code point that another rule gives its packets as the condition of the rule, if
        packets that are sent with it, and that the other one does not mark, show the effect."""
        found, point = self.found, int(mark.sought.amount)
        last, rule = found.core[-1], mark.as_drop
        if last.ends.proto == TCP:  # of a stream the code points do not show
            return
        refiner = Refiner(self.tail(), found.best, found.core)
        shows = {}
        for up in (last.up, not last.up):
            bodies = [last.payload, *(noise(size, "mark") for size in (len(last.payload), 60))]
            cores = [refiner.with_last(last._replace(up=up, dscp=point, payload=body))
                     for body in bodies]  # fmt: skip
            if not up:  # what comes to a subscriber behind NAT answers it (RFC 4787)
                before = last._replace(up=True, time=0, before=(), payload=noise(60, "before"))
                cores = [(before, *(one._replace(time=one.time + BEFORE) for one in core))
                         for core in cores]  # fmt: skip
            own = next((core for core in cores if not strikes(
                self.plays.through(core, True), [rule]).struck[0, -1]), None)  # fmt: skip
            shows[up] = own is not None and refiner.ask([own], "what comes with the mark")[0]
        if not shows[last.up]:
            return
        way = {} if shows[not last.up] else {"direction": "up" if last.up else "down"}
        match = {"dscp": [word_of(point)], **way}
        found.best = found.best._replace(match=json.dumps(match, sort_keys=True))
        found.equal, found.intervals = [], {}
        mark.behind.append(found)

    def tail(self, best: Hypothesis | None = None, sought: Effect | None = None) -> Tail:
        """Return what makes units for the rule, or for another hypothesis with another effect."""
        plays, found = self.plays, self.found
        return Tail(plays.prober, plays.base, sought or found.sought, best or found.best,
                    plays.through, found.core, lambda unit: plays.decided(unit, True),
                    "" if best else found.form)  # fmt: skip

    def enforced(self, tail: Tail) -> Tail:
        """Find the chance with which a rule is enforced; returns what makes units for it then."""
        found = self.found
        chance = chance_of(tail, found.core)
        if chance is None:
            return tail
        if chance.sampled is not None:
            found.best = found.best.sampled(chance.sampled.value)
            found.parameters["one_in"] = chance.sampled
        else:
            found.parameters["probability"] = chance.share
            found.per = chance.per
            if chance.alone and found.best.scope in OF_CLIENT and not found.best.lasts:
                found.take_scope("flow")
        found.sought = found.sought._replace(chance=min(max(chance.share.value, 0.05), 0.9))
        return self.tail()


def counts_and_rest(one: Hypothesis) -> tuple[list[str], dict[str, object]]:
    """Return which counts of a flow a hypothesis has windows of, and the rest of its match."""
    keys = one.keys
    counts = [key for key in COUNTS if key in keys]
    return counts, {key: value for key, value in keys.items() if key not in counts}


def share_of_copies(counts: NDArray[np.int64]) -> Number:
    """Return the share of packets that show an effect, with an interval from the copies, whose
    packets may not be independent: losses may come in bursts.

    counts: int64[copies, at least 2], the first two of those that show it, and of all.
    """
    seen, sent = counts[:, 0], counts[:, 1]
    whole = max(int(sent.sum()), 1)
    share = float(seen.sum() / whole)
    error = 1.96 * math.sqrt(float(((seen - share * sent) ** 2).sum())) / whole
    return Number(share, max(share - error, 0.0), min(share + error, 1.0))


def of_datagrams(found: Found) -> NDArray[np.int64]:
    """Return of each copy in which datagrams are lost that a rule strikes how many of their flows'
    were lost and sent, the same of those between the first and the last lost one of a flow, of
    which a drop lets none pass, and how many of these arrive in all of several copies;
    int64[copies, 5]. The copies are those of all plays of the rule's search."""
    result: list[NDArray[np.int64]] = []
    for one in found.beliefs.seen:
        struck = strikes(one.through, [found.as_drop]).struck[0]
        hit = struck & ~found.spares(one.through).any(axis=0) & ~one.outcome.streams
        flows = flow_numbers(one.outcome.unit)
        counts = np.zeros((len(one.outcome.delay), 5), np.int64)
        arrived = (one.outcome.sent & ~one.outcome.lost).sum(axis=0)
        always = (arrived == one.outcome.sent.sum(axis=0)) & (arrived > 2)
        for number in np.unique(flows[hit]):
            places = np.flatnonzero(hit & (flows == number))
            for copy, (gone, sent) in enumerate(zip(
                one.outcome.lost[:, places], one.outcome.sent[:, places], strict=True
            )):  # fmt: skip
                ends = np.flatnonzero(gone)
                if len(ends):
                    inner = slice(ends[0] + 1, ends[-1])
                    counts[copy] += (gone.sum(), sent.sum(), gone[inner].sum(), sent[inner].sum(),
                                     (always[places] & sent)[inner].sum())  # fmt: skip
        result += list(counts[counts[:, 1] > 0])
    return np.array(result, np.int64).reshape(-1, 5)
