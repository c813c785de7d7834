# SPDX-License-Identifier: BSD-3-Clause
"""The plays of a capture: which effects they show, and which of these no rule found explains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import numpy as np

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.baseline import Baseline, baseline_of, control_units, medians
from midcall.experiments.probe.beliefs import Hypothesis
from midcall.experiments.probe.code_points import code_points_tried, rewrites_of
from midcall.experiments.probe.effects import (
    SHOWN,
    SUSPICIOUS,
    Finding,
    Key,
    findings,
    groups_of,
    joined,
)
from midcall.experiments.probe.excerpts import (
    AFFECTED,
    AGES,
    AGES_BEHIND_A_RULE,
    LONG_PACKETS,
    LONG_SECONDS,
    PACKETS,
    around,
    excerpt,
    fill,
    first_packets,
    old_packets,
    openings,
    places_of_flows,
    playable,
)
from midcall.experiments.probe.expected import Model, unexplained
from midcall.experiments.probe.fit import affected_of
from midcall.experiments.probe.found import BLOCKING, LOSSLESS, Found, Result
from midcall.experiments.probe.line_oracle import (
    DELAY,
    DOUBLE,
    DROP,
    INJECT,
    LOSSES,
    MARK,
    PARTIAL,
    REORDER,
    Effect,
)
from midcall.experiments.probe.prober import (
    HANDSHAKE,
    LOST,
    MS,
    NOT_SENT,
    PATIENCE,
    STREAM_PATIENCE,
    Outcome,
    Prober,
)
from midcall.experiments.probe.rates import LIMITS, Limit
from midcall.experiments.probe.units import ADDED, LATER_APART, dense_unit
from midcall.experiments.probe.unseen import unseen
from midcall.experiments.probe.variants import CONDEMNED
from midcall.testbed.network.link import PRESETS
from midcall.testbed.policy.language import Rule
from midcall.testbed.probing.probe import Ends, Probe, Sent, flows_of, in_order
from midcall.testbed.probing.strikes import Passing, Strikes, passing, strikes
from midcall.testbed.probing.virtual_line import FAR_LEG

#: Units that are made of a part of the capture.
Parts = TypeVar("Parts", bound=tuple[Probe, ...])

#: Copies of the capture in one play, and in one that looks for what further rules do; plays to
#: other addresses, at most.
COPIES, COPIES_AGAIN, MOST_ELSEWHERE = 8, 6, 2
#: Copies of more of the capture in one play, with many packets of each flow; share of losses below
#: which a line loses few packets; such plays, at most; packets of a flow behind the first one that
#: shows an effect.
MORE_COPIES, FEW_LOST, MOST_DENSE, BEHIND = 3, 0.025, 4, 60
#: Time in which the access network carries further copies of more of the capture, at most, in ns.
CHEAP = 4_000 * MS
#: Copies of more of the capture that tell a loss from a drop.
TELLING_COPIES = 4
#: Plays of the capture before a line counts as clean, at least and at most.
LEAST_PLAYS, PLAYS = 3, 6
#: Time in which the access network carries one copy of the capture and of more of it, in ns, and
#: shares of its packets that are tried for that.
CARRIED, CARRIED_MORE, CARRIED_DEEPER = 2_000 * MS, 6_000 * MS, 12_000 * MS
SHORTER = (1.0, 0.85, 0.7, 0.5, 0.35, 0.25)
#: How much more of its packets one of the flows with the most of them has when these are played
#: alone, and how many such flows.
DEEPER, DEEP_FLOWS = 1.5, 6
#: Seconds of the packets of other flows that are played before the flows with the most packets.
OTHERS_SECONDS = 4.0
#: Rules that are looked for.
MOST_RULES = 3
#: Effects of one kind that no rule explains before those of other kinds are looked into.
MOST_OF_KIND = 2
#: Score from which an effect is not played again.
PLAIN = 30.0
#: Score of an effect that a further rule must explain.
LEAST_FURTHER = 14.0
#: Score of an effect in more of the capture from which it is looked into.
LEAST_LATE = 7.0
#: Packets of a flow and direction at the edge of a limit, at least; of these ones that are lost
#: more often than the line itself loses them, at most; what is more often: copies, and a multiple.
LEAST_OF_FLOW, FEW_AT_EDGE, EDGE_LOST, MORE_THAN_LINE = 10, 2, 2, 4.0
#: Part of the losses of a flow and direction from which on an effect is plain.
PART_OF_LOSSES = {DROP: 0.1, PARTIAL: 0.5}
#: What plays of more of the capture ask.
MORE = "more of the capture, many packets of each flow"
#: How long the end of the capture is waited for, in ns: a third SYN comes 3 s after the first.
OPENING = 3_400 * MS
#: Score below which an effect is chance after all plays.
DOUBTFUL = 8.0
#: Share of an effect's score that a play to other addresses must show, too, so that the effect does
#: not depend on the capture's own.
ALSO = 0.3
#: Part of an effect that a stream shows without a rule, too, which is then the line's own.
AS_MUCH = 0.6
#: Deviations of the line's own delay within which a packet of a stream was not sent again.
JITTERS = 5
#: Step of the lag of packets from the subscriber, in ns.
LAG_STEP = 4 * MS


class Plays:
    """The plays of a capture on one line. result: of the search, with the rules found so far.

    shown: the plays in which effects are looked for, the most general one first: to other
    addresses than the capture's where these show the effects, too.
    """

    def __init__(self, prober: Prober, capture: Probe, result: Result) -> None:
        self.prober, self.result = prober, result
        self.whole = playable(capture)
        (self.capture,) = self.carried(
            lambda share: (excerpt(capture, int(share * PACKETS)),), CARRIED
        )
        self.played = len(self.capture)  # packets of the whole capture that were played
        self.lasted = self.capture[-1].time  # of the longest play, ns
        self.longer = excerpt(capture, LONG_PACKETS, LONG_SECONDS)
        self.passed: dict[tuple[Probe, bool], Passing] = {}
        streams = any(one.ends.proto == TCP for one in self.capture)
        self.patience = OPENING if streams else None
        self.points = code_points_tried(self.capture)
        self.lag = 0  # of packets from the subscriber, beyond the access network's delay, ns
        self.shown: list[Outcome] = []
        self.kept: list[Outcome] = []  # plays of the capture to its own addresses
        self.fresh: list[Outcome] = []  # and to others
        self.other: Probe = ()  # the capture to one set of other addresses
        self.own: Outcome  # the plays to its own addresses as one
        self.closer = False  # whether more of the capture was played for further rules
        self.unshortened: Probe = ()  # more of the capture up to a plain effect
        self.own_units: list[Probe] = []  # besides the capture, units played to its own addresses
        self.more_own: list[Outcome] = []  # plays of more of the capture to its own addresses
        self.models: dict[str, Model] = {}  # of the rules found so far
        self.behind: list[Found] = []  # rules found that come behind the one that is identified
        # of a flow and direction, beyond what some rules explain: what several paces showed
        self.limits: dict[tuple[Ends, bool, tuple[Hypothesis, ...]], Limit | None] = {}
        self.base = Baseline((0.02, 0.02), (0.0, 0.0), (0.0, 0.0), (1.0 * MS, 1.0 * MS))

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
        self.prober.usual = self.base.delays
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
                self.capture = some[0].as_sent
            some[0] = some[0]._replace(unit=self.capture)
            for known, one in zip(controls, some[1:], strict=True):
                known.append(one)
            self.base = baseline_of(self.prober, [joined(one) for one in controls])
            kept.append(some[0])
            seen = self.effects(joined(kept))
            self.prober.taught(
                "; ".join(f"{one.kind} {one.score:.0f}" for one in seen[:3]) or "no effect"
            )
            strongest = max((one.score for one in seen), default=0.0)
            by_chance = any(one.chance < 1 for one in seen if one.score == strongest)
            if (strongest > PLAIN and number >= by_chance) or (
                number + 1 >= LEAST_PLAYS and not SUSPICIOUS <= strongest <= PLAIN
            ):
                break
        self.take_line()
        self.own = joined(kept)
        self.shown = [self.own]
        if strongest < DOUBTFUL:
            seen = []  # a real effect would have grown from play to play
        if not seen and groups_of(self.own):
            self.result.unseen = unseen(self.shown[0], self.base)
        elif not seen:
            self.result.notes.append("no packet of the capture could be sent")
        elif strongest <= SHOWN:
            self.result.notes.append(
                f"packets of one flow show an effect ({seen[0].kind}) that chance may explain"
            )
        seen = [one for one in seen if one.score > SHOWN]
        if seen:
            fresh += self.prober.ask(
                "the capture to other addresses", [self.capture],
                COPIES * min(max(len(kept) - 1, 1), MOST_ELSEWHERE), tight=False,
                patience=self.patience,
            )  # fmt: skip
            self.other = self.elsewhere(fresh[0].as_sent)
            elsewhere = self.prober.moved(joined(fresh), self.other)
            matching = also_shown(seen, findings(elsewhere, self.base))
            self.prober.fresh_far = bool(matching)
            if self.prober.fresh_far:  # the own addresses may be condemned by now
                self.shown = [elsewhere]
            else:
                self.shown.append(elsewhere)
            # a rule that reads addresses is looked for when the others are known
            return sorted(merged_findings(seen), key=lambda one: one not in matching)
        return []

    def take_line(self) -> None:
        """Take the line as controls have shown it for what follows."""
        self.models.clear()
        own = PRESETS[self.prober.access].up.delay_ms * MS + FAR_LEG
        self.lag = max(round((self.base.fixed[1] - own) / LAG_STEP), 0) * LAG_STEP

    def effects(self, outcome: Outcome) -> list[Finding]:
        """Return the suspicious effects on a play that no rule explains, the surest first, without
        those that streams have on a line without a rule, too."""
        return [one for one in findings(outcome, self.base)
                if one.ends.proto != TCP or not self.is_of_line(outcome, one)]  # fmt: skip

    def is_of_line(self, outcome: Outcome, one: Finding) -> bool:
        """Return whether packets of a stream are about as late in virtual time without a rule, or
        as many of them do not arrive: a kernel sends only some before the first acknowledgement,
        and packets wait for each other in the access network's queue."""
        if one.kind not in (DELAY, DROP):
            return False
        places, bare = one.places(outcome.unit), self.simulated((), outcome.unit, False)
        if one.kind == DROP:
            lost, own = (some.lost[:, places].mean(axis=0) for some in (outcome, bare))
            return bool(own.sum() > AS_MUCH * lost.sum())
        late, own = (medians(self.base.excess(some)[:, places]) for some in (outcome, bare))
        shows = late > one.amount / 2
        return bool(shows.any() and np.median(own[shows]) > AS_MUCH * np.median(late[shows]))

    def look_again(self) -> None:
        """Play the capture once more, or twice at once up to LEAST_PLAYS, where one play showed a
        strong effect: what further rules do needs more copies. Where other addresses show it, too,
        these and the capture's own take turns."""
        fresh_far = self.prober.fresh_far
        elsewhere = fresh_far and len(self.fresh) <= len(self.kept)
        own = [not elsewhere, elsewhere or not fresh_far][: max(LEAST_PLAYS - self.looks, 1)]
        some = self.prober.ask("the capture once more", [self.capture] * len(own), COPIES_AGAIN,
                               tight=False, keep_far=own, patience=self.patience)  # fmt: skip
        for outcome, is_own in zip(some, own, strict=True):
            (self.kept if is_own else self.fresh).append(outcome)
        self.own = joined(self.kept)
        if not all(own):
            self.shown = [self.prober.moved(joined(self.fresh), self.other)]
        elif not fresh_far:
            self.shown[0] = self.own

    def copies_of_more(
        self, units: Sequence[Probe], both: bool = False, first: bool = False
    ) -> int:  # fmt: skip
        """Return how many copies of more of the capture are played: MORE_COPIES, where the access
        network carries those beyond the fewest in CHEAP. The fewest are one less where the line
        loses few packets, and of units to both kinds of addresses, but two, and one less in the
        first play."""
        fewest = max(MORE_COPIES - (max(self.base.loss) < FEW_LOST) - both, 2) - first
        each = self.prober.least_apart(units) * len(units)
        return min(MORE_COPIES, fewest + int(CHEAP // max(each, 1)))

    @property
    def looks(self) -> int:
        """Return how often the capture was played; the first plays, to its own and to other
        addresses, are one look."""
        return len(self.kept) + len(self.fresh) - 1

    def look_late(self) -> bool:
        """Play more of a capture, few times; where flows show plain effects there, the capture
        becomes these flows, up to some packets behind the first one that does, and the first
        packets of others."""
        units = self.more_units()
        outcomes = self.prober.ask(
            MORE, units, self.copies_of_more(units), tight=False, keep_far=[True] * len(units),
            patience=self.patience,
        )  # fmt: skip
        shown = [(unit, plain) for unit, outcome in zip(units, outcomes, strict=True) if (plain := [
            one._replace(first=plain_from(outcome, one))
            for one in self.effects(outcome) if one.score > LEAST_LATE])]  # fmt: skip
        if not shown:
            return False
        longer, plain = max(shown, key=lambda one: one[1][0].score)
        ends, first = plain[0].ends, plain[0].first
        behind = [at for at, one in enumerate(longer) if one.ends == ends and at > first]
        last = max([one.first for one in plain[:AFFECTED]] + behind[:BEHIND])
        chosen = [longer[at] for at in around(longer, plain) if at <= last]
        # other units show effects on flows of their own
        affected = {one.ends for _, some in shown for one in some[:AFFECTED]}
        affected -= {one.ends for one in chosen}
        others = [one for unit, _ in shown for one in unit if one.ends in affected]
        chosen += others[:PACKETS]
        self.begin_with(in_order(chosen))
        if plain[0].score > PLAIN:
            self.unshortened = longer[: last + 1]
        return True

    def look_at_whole(self) -> bool:
        """Take all packets of more of the capture that showed a plain effect, up to some behind the
        first one that does, as the capture: without most packets of the other flows it does not
        come again, so that one of these sets the rule off. Return whether there are such packets.
        """
        whole, self.unshortened = self.unshortened, ()
        if whole:
            self.begin_with(whole)
        return bool(whole)

    def begin_with(self, capture: Probe) -> None:
        """Take packets as the capture, of which no play is known yet."""
        self.capture = capture
        self.kept, self.fresh, self.result.unseen = [], [], None
        self.prober.fresh_far = False

    def at_edge(self, seen: Sequence[Finding]) -> bool:
        """Return whether some copies alone lose very few of a flow's datagrams, and nothing else
        shows: the edge of a limit, which more of the capture exceeds."""
        gone = self.own.lost.sum(axis=0)
        line = MORE_THAN_LINE * self.base.losses(self.own) * len(self.own.delay)
        for one in seen:
            own = np.array([(sent.ends, sent.up) == (one.ends, one.up) for sent in self.own.unit])
            few = int((own & (gone > EDGE_LOST + line)).sum()) <= FEW_AT_EDGE
            if one.kind != PARTIAL or one.ends.proto == TCP or own.sum() < LEAST_OF_FLOW or not few:
                return False
        return bool(seen)

    def look_closer(self, tried: Collection[Key]) -> list[Finding]:
        """Return the sure effects that more of the capture shows: rules on flows that are not among
        the busiest, a small share of losses, or a limit above the capture's own rate.

        The flows that show them, with the first packets of the others, are what rules must explain
        from then on.
        """
        fresh, units = self.prober.fresh_far, self.more_units()
        # its own addresses may be condemned
        both = fresh and any(one.best.scope == "server" for one in self.result.found)
        own = [True] * len(units) + [False] * (both * len(units))
        timed = units * (1 + both)
        played: list[list[Outcome]] = [[] for _ in timed]
        places = list(range(len(timed)))  # of the units whose effects are in doubt
        for number in range(MOST_DENSE):
            parts = [timed[at] for at in places]
            copies = self.copies_of_more(parts, both, number == 0)
            some = self.prober.ask(
                MORE, parts, copies, tight=False,
                keep_far=[own[at] for at in places], patience=self.patience,
            )  # fmt: skip
            if not any(played):  # copies are sent in turn, so that their packets move
                timed = [one.as_sent for one in some]
                self.own_units = timed[: len(units)]
                others = {at: self.elsewhere(timed[at]) for at in places if not own[at]}
            plays = {}
            for at, one in zip(places, some, strict=True):
                played[at].append(one._replace(unit=timed[at]))
                play = joined(played[at])
                plays[at] = play if own[at] else self.prober.moved(play, others[at])
            self.more_own = [plays[at] for at in places if own[at]]
            seen = {at: self.further(plays[at], tried) for at in places}
            best = {at: max((one.score for one in some), default=0.0) for at, some in seen.items()}
            sure = [at for at, some in seen.items() if any(map(is_far_beyond, some))]
            if sure:  # other addresses first, then where an effect is the surest
                at = min(sure, key=lambda at: (own[at], -best[at]))
                return self.look_into(plays[at], tried, fresh and not both)
            places = [at for at in places if best[at] >= SUSPICIOUS]
            if not places:
                break
        return []

    def look_at_own(self, tried: Collection[Key]) -> list[Finding]:
        """Return the sure effects of plays of more of the capture to its own addresses, from which
        the search turned to others: some rules strike the own ones alone."""
        for play in self.more_own:
            if self.far_beyond(play, tried):
                return self.look_into(play, tried, False)
        return []

    def look_into(self, play: Outcome, tried: Collection[Key], fresh: bool) -> list[Finding]:
        """Return the sure effects of a play of more of the capture, whose flows rules must explain
        from then on. Fewer than TELLING_COPIES do not tell a loss from a drop of the packets that
        they lost, so that more are played. fresh: whether it is played to other addresses, too, and
        those effects are looked for there that come again."""
        forged = all(one.kind == INJECT for one in self.far_beyond(play, tried))
        copies = max(len(play.delay), 0 if forged else TELLING_COPIES)
        if fresh:
            again = self.prober.ask(
                MORE, [play.unit], copies, tight=False, patience=self.patience
            )[0]  # fmt: skip
            again = self.prober.moved(again, self.elsewhere(again.as_sent))
            if self.far_beyond(again, tried):
                play = again
        if len(play.delay) < copies:
            own = play.unit in self.own_units
            again = self.prober.ask(
                MORE, [play.unit], copies - len(play.delay), tight=False, keep_far=[own],
                patience=self.patience,
            )[0]  # fmt: skip
            again = again._replace(unit=play.unit) if own else self.prober.moved(again, play.unit)
            play = joined([play, again])
        rest = self.far_beyond(play, tried)
        if not rest:
            return []
        self.prober.fresh_far = play.unit not in self.own_units
        play = play.part(around(play.unit, rest))
        if self.prober.fresh_far:
            self.shown = [play]
        else:
            self.own_units.append(play.unit)
            self.shown = [play, *self.shown]
        return self.far_beyond(play, tried)

    def more_units(self) -> list[Probe]:
        """Return more of the capture: many packets of each flow, close together, the first packets
        of flows that have no place in that, and more of the flows with the most packets alone."""
        longer, dense = self.dense()
        others = openings(self.whole, {*flows_of(dense), *flows_of(self.capture)})
        self.played = len(longer) + sum(map(len, others))
        units = [dense, *others, *self.deeper(dense)]
        self.lasted = max(self.lasted, *(unit[-1].time for unit in units if unit))
        return units

    def deeper(self, known: Probe) -> list[Probe]:
        """Return a unit with more of the flows that have the most packets, DEEP_FLOWS at most, and
        about as many of each: as many as the access network carries in CARRIED_DEEPER; [] where a
        known unit has nearly as many of each. Packets of other flows come before them, which may
        condemn a client or a server: what limits its rate shows on busy flows alone."""
        counts = Counter(one.ends for one in known)
        busiest = sorted(places_of_flows(self.whole).items(), key=lambda one: -len(one[1]))
        flows = [own for ends, own in busiest[:DEEP_FLOWS] if len(own) >= DEEPER * counts[ends]]
        deep = {self.whole[own[0]].ends for own in flows}
        rest = tuple(one for one in self.whole if one.ends not in deep)
        others = excerpt(rest, seconds=OTHERS_SECONDS) if rest else ()
        begin = others[-1].time + LATER_APART if others else 0

        def of(share: float) -> tuple[Probe]:
            taken: set[int] = set()
            fill(taken, flows, int(share * LONG_PACKETS), 0)
            busy = tuple(self.whole[at] for at in sorted(taken))
            own = excerpt(busy, len(busy), LONG_SECONDS)
            return ((*others, *(one._replace(time=one.time + begin) for one in own)),)

        (unit,) = self.carried(of, CARRIED_DEEPER) if flows else ((),)
        more = Counter(one.ends for one in unit if one.ends in deep)
        if all(more[ends] < DEEPER * counts[ends] for ends in more):
            return []
        self.played += sum(max(count - counts[ends], 0) for ends, count in more.items())
        return [unit]

    def dense(self) -> tuple[Probe, Probe]:
        """Return more of the capture, or a part of that which the access network carries in
        CARRIED_MORE, and the same with many packets of each flow, and some of those that come far
        later."""
        ages = AGES_BEHIND_A_RULE if self.result.found else AGES

        def of(share: float) -> tuple[Probe, Probe]:
            most = int(share * LONG_PACKETS)
            longer = self.longer if len(self.longer) <= most else first_packets(self.longer, most)
            dense = dense_unit(longer, int(share * ADDED))
            return longer, in_order([*dense, *old_packets(self.whole, dense, ages)])

        return self.carried(of, CARRIED_MORE)

    def carried(self, of: Callable[[float], Parts], most: int) -> Parts:
        """Return the largest of several parts of the capture whose last unit the access network
        carries in `most` ns, or the smallest one. of: returns the units of a part, by its share of
        the packets."""
        for share in SHORTER:
            part = of(share)
            if self.prober.least_apart([part[-1]]) <= most:
                break
        return part

    def elsewhere(self, unit: Probe) -> Probe:
        """Return a unit with other far addresses, which stand for any fresh ones."""
        fars = {ends.far: self.prober.server(ends.far) for ends in flows_of(unit)}
        return tuple(one._replace(ends=one.ends._replace(far=fars[one.ends.far])) for one in unit)

    def sent_through(self, outcome: Outcome) -> Passing:
        """Return the unit of a tight play as it passed the place of the box: other copies and units
        come between its packets."""
        return self.through(outcome.as_sent, True)._replace(unit=outcome.unit)

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

    def unexplained(self, tried: Collection[Key]) -> Finding | None:
        """Return the surest effect on packets that the rules found so far do not strike, None for
        none; those of a kind of which MOST_OF_KIND had no rule come behind the others. An effect
        that depends on the capture's own addresses is looked for there.

        tried: kinds, flows and directions of effects that no rule explained.
        """
        if not self.result.found:
            first = next((one for one in self.result.findings if one.key not in tried), None)
            if first is not None:
                return first
        rest = self.far_beyond(self.shown[0], tried)
        if not rest and self.prober.fresh_far:
            rest = self.far_beyond(self.own, tried)
            if rest:
                self.prober.fresh_far = False
                self.shown = [self.own, *self.shown]
        if not rest and not self.closer:
            self.closer = True
            rest = self.look_closer(tried)
        elif not rest and self.prober.fresh_far:
            rest = self.look_at_own(tried)
        self.result.findings += rest
        failed = Counter(kind for kind, *_ in tried)
        return min(rest, key=lambda one: failed[one.kind] >= MOST_OF_KIND, default=None)

    def worth_a_play(self, tried: Collection[Key]) -> bool:
        """Return whether the capture is to be played once more for further rules: as often as a
        clean line, and more often while an effect that no rule explains is in doubt."""
        if self.looks >= PLAYS or len(self.result.found) >= MOST_RULES or self.closer:
            return False
        if self.looks < LEAST_PLAYS:
            return True
        plays = [self.shown[0], self.own] if self.prober.fresh_far else self.shown[:1]
        scores = (one.score for play in plays for one in self.further(play, tried))
        return SUSPICIOUS < max(scores, default=0.0) < LEAST_FURTHER

    def left_over(self) -> set[Key]:
        """Return the sure effects that the rules found do not explain."""
        return {one.key for one in self.not_explained()}

    def not_explained(self) -> list[Finding]:
        """Return the sure effects on any play of the capture that the rules found do not have."""
        plays = self.shown if self.shown[-1] is self.own else [*self.shown, self.own]
        return [one for play in plays for one in self.far_beyond(play, ())]

    def far_beyond(self, outcome: Outcome, tried: Collection[Key]) -> list[Finding]:
        """Return the sure effects on packets of a play that no rule found so far strikes."""
        return [one for one in self.further(outcome, tried) if is_far_beyond(one)]

    def further(self, outcome: Outcome, tried: Collection[Key]) -> list[Finding]:
        """Return the effects on packets of a play that the rules found so far do not have."""
        seen: list[Finding] = []
        for kinds in (LOSSES, (DELAY, REORDER), (DOUBLE,), (MARK,)):
            rest = self.masked(outcome, False, kinds[0])
            seen += [one for one in findings(rest, self.base) if one.kind in kinds]
        return merged_findings([one for one in seen if one.key not in tried])

    def masked(self, outcome: Outcome, tight: bool, kind: str) -> Outcome:
        """Return an outcome without what the rules found so far explain, as far as it bears on a
        kind of effect: a packet whose copies are lost by a share still shows a delay, and one that
        is late a loss."""
        for found in self.result.found:
            predicted = strikes(self.through(outcome.unit, tight), [found.as_drop])
            if found.rule.on_s:  # the box's clock, by which it comes and goes, is not the model's
                gone = predicted.struck[0] & outcome.lost
                outcome = outcome.without(gone)
            elif predicted.struck.any() or predicted.opened.any():
                expected = self.expected(found, outcome.unit, tight)
                limited = found.rule.act in LIMITS
                allowed = found.best.may_strike(outcome.up)
                # kernels send again what a lost acknowledgement leaves open
                shared = found.rule.act in BLOCKING and found.best.shared
                wide = allowed | outcome.streams if shared else None
                lossless = found.rule.act in LOSSLESS
                # what is late of a stream may look as if a kernel had sent it again
                may_look = outcome.streams if lossless else np.ones(len(outcome.unit), bool)
                loses = (predicted.struck[0] | predicted.lost[0]) & may_look
                touched = self.touched(found, outcome.unit, predicted)
                if found.rule.act in BLOCKING:  # a stream without answers stops both ways
                    loses |= outcome.streams & touched
                reorders = found.rule.act == "reorder"
                flagged = predicted.struck[0] & (found.rule.act in ("duplicate", "reorder"))
                rest = unexplained(outcome, expected, self.base, kind, loses, limited, wide,
                                   reorders, flagged)  # fmt: skip
                delay = np.where(touched, rest.delay, outcome.delay)
                kept = found.best.scope == "server" and self.is_kept(outcome.unit, tight)
                if kept and not lossless:
                    # other copies and earlier plays have condemned the same hosts
                    delay = np.where(touched & allowed & (delay == LOST), NOT_SENT, delay)
                outcome = rest._replace(delay=delay)
        return outcome

    def is_kept(self, unit: Probe, tight: bool) -> bool:
        """Return whether a unit is played to its own far addresses, which all copies share."""
        if tight:
            return not self.prober.fresh_far
        return unit in (self.capture, *self.own_units)

    def decided(self, unit: Probe, tight: bool) -> np.ndarray[Any, Any]:
        """Return which packets of a unit the rules found so far may keep from the one that is
        identified, bool[packets]: the first rule that applies decides a packet, also in the
        direction that it leaves alone. Rules that come behind it keep none from it."""
        result = np.zeros(len(unit), bool)
        for found in self.result.found:
            if found not in self.behind:
                result |= self.decided_by(found, unit, tight)
        return result

    def decided_by(self, found: Found, unit: Probe, tight: bool) -> np.ndarray[Any, Any]:
        """Return which packets of a unit one rule keeps from rules behind it, bool[packets]."""
        rule = found.decides
        if rule is None:
            return np.zeros(len(unit), bool)
        return np.asarray(strikes(self.through(unit, tight), [rule]).struck[0])

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
        """Return what a rule predicts of a unit behind those that are known to come before it. With
        the others, one that condemns a flow would keep them from it, although the rules found may
        have other scopes than those in force."""
        before = [rule for one in self.result.found if found in one.behind
                  for rule in one.rules]  # fmt: skip
        return self.simulated([*before, *found.rules], unit, tight)

    def simulated(self, rules: Sequence[Rule], unit: Probe, tight: bool) -> Outcome:
        """Return what a unit shows on a line in virtual time under rules."""
        key = "".join(one.model_dump_json() for one in rules)
        if key not in self.models:
            self.models[key] = Model(self.prober, self.base, rules)
        kept = not tight and self.is_kept(unit, tight)
        return self.models[key].outcome(unit, tight, kept, None if tight else self.patience)

    def with_held_up(self, outcome: Outcome, tight: bool, sought: Effect) -> Outcome:
        """Return an outcome with how often the line itself makes a limit's effect on streams."""
        if not sought.limit or not outcome.streams.any():
            return outcome
        bare = self.simulated((), outcome.unit, tight)
        affected, usable, _ = affected_of(bare, self.base, sought)
        share = ((affected & usable).sum(axis=0) + 0.5) / (usable.sum(axis=0) + 1.0)
        return outcome._replace(held_up=share)

    def blocked(self, unit: Probe) -> np.ndarray[Any, Any]:
        """Return which packets of a unit a rule found so far keeps from arriving, bool[packets];
        one that comes behind the rule that is identified is left out."""
        rules = [one.as_drop for one in self.result.found
                 if one.rule.act in BLOCKING and one not in self.behind]  # fmt: skip
        if not rules:
            return np.zeros(len(unit), bool)
        return np.asarray(strikes(self.through(unit, False), rules).lost.any(axis=0))


def opened_first(unit: Probe) -> Probe:
    """Return a unit whose streams are opened before its first packet."""
    streams = [ends for ends in flows_of(unit) if ends.proto == TCP]
    if not streams:
        return unit
    opening = tuple(Sent(0, True, ends, b"") for ends in streams)
    return (*opening, *(one._replace(time=one.time + HANDSHAKE) for one in unit))


def plain_from(outcome: Outcome, one: Finding) -> int:
    """Return the place of the first packet that shows an effect; of losses, as the line itself
    loses packets before, of the packet by which some part of them has come: of a drop, of those
    that no copy receives."""
    if one.kind not in PART_OF_LOSSES:
        return one.first
    own = np.array([sent.ends == one.ends and sent.up == one.up for sent in outcome.unit])
    gone = outcome.lost.sum(axis=0) * own
    if one.kind == DROP and one.chance == 1:
        gone *= outcome.lost.sum(axis=0) == outcome.sent.sum(axis=0)
    lost = np.cumsum(gone)
    return int(np.searchsorted(lost, PART_OF_LOSSES[one.kind] * lost[-1]))


def also_shown(seen: Sequence[Finding], elsewhere: Sequence[Finding]) -> list[Finding]:
    """Return the effects on a capture that it also shows to other addresses, about as surely."""
    scores: dict[tuple[str, Ends, bool], float] = {}
    for one in elsewhere:
        scores[place_of(one)] = max(scores.get(place_of(one), 0.0), one.score)
    return [one for one in seen if scores.get(place_of(one), 0.0) > max(DOUBTFUL, ALSO * one.score)]


def place_of(one: Finding) -> tuple[str, Ends, bool]:
    """Return the kind, the flow and the direction of an effect, to whichever addresses; all kinds
    of losses are one."""
    return LOSSES[0] if one.kind in LOSSES else one.kind, *one.flow


def is_far_beyond(one: Finding) -> bool:
    """Return whether an effect is so sure that a further rule must explain it."""
    return one.score > (2 if one.kind == INJECT else 1) * LEAST_FURTHER


def merged_findings(seen: Sequence[Finding]) -> list[Finding]:
    """Return findings, those first that others may follow from, and of these the surest, then the
    largest: forged answers, marks that a queue may prefer, and plain delays of datagrams, which no
    loss causes but whose queue may be full. Drops of a flow that receives forged answers are
    theirs."""
    injected = {one.ends for one in seen if one.kind == INJECT}
    rest = [one for one in seen if not (one.kind in (DROP, PARTIAL) and one.ends in injected)]
    dropped = {(one.ends, one.up) for one in rest if one.kind == DROP}
    rest = [one for one in rest if one.kind != PARTIAL or (one.ends, one.up) not in dropped]
    order = [INJECT, MARK, DELAY, DROP, PARTIAL, REORDER, DOUBLE]

    def rank(one: Finding) -> tuple[int, int, float]:
        plain = one.ends.proto != TCP and one.score > PLAIN
        place = order.index(one.kind) if one.kind != DELAY or plain else len(order)
        return place, -round(one.score), -one.amount

    return sorted(rest, key=rank)
