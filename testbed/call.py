# SPDX-License-Identifier: BSD-3-Clause
"""The verdict on a call: what a policy did to it, against the same capture under no policy.

The first that holds, in this order:

1. INVALID: the call does not work under the empty policy either.
2. INCONCLUSIVE: no packet of the capture could have met a rule that aims at this app (names are
   matched, or media alone, and the capture holds none; addresses are, and its own are made up), or
   nothing of the box's record explains a failure.
3. SIGNALLING_BLOCKED: the app's own handshake got no answer, so no set-up was sent.
4. SETUP_BLOCKED: no set-up success (STUN, DTLS, SIP, or the replies captures/calls names).
5. FALLBACK: a path that the app prefers failed, and one that it likes less carried the media it had
   in the capture, without a silence of 5 s.
6. CONNECTED_NO_MEDIA: under 1 % of the media either way in the first 5 s.
7. ONE_WAY: the same in one direction only, while the other holds to the end.
8. CUT: media, then silence for 5 s or to the end.
9. DEGRADED: in a direction over 10 % of the media lost, a one-way delay over 400 ms, or (voice) R
   at least 15 below the control's (testbed.quality).
10. OK.

"Blocked" is 3, 4, 6, 7 and 8. These and DEGRADED need a rule that the box's own record names.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.calls import Call
from testbed.errors import TestbedError
from testbed.language import Rule
from testbed.places import CALLER, FAR, nowhere
from testbed.quality import ASSUMED, Heard, hear
from testbed.replay import CallPart
from testbed.virtual import Simulation

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]

BLOCKED = ("SIGNALLING_BLOCKED", "SETUP_BLOCKED", "CONNECTED_NO_MEDIA", "ONE_WAY", "CUT")
VERDICTS = ("INVALID", "INCONCLUSIVE", *BLOCKED, "FALLBACK", "DEGRADED", "OK")

#: A direction that carries less than this share of its media is silent: in its first 5 s, or in
#: the whole call (a packet or two that slip through before the box is sure are not a talk).
SILENT_SHARE = 0.01
#: The first seconds in which media must come, and the silence that ends a call, in ns.
FIRST = SILENCE = 5_000_000_000
#: Media packets that the control must have had in a silence for it to count as one.
SILENCE_PACKETS = 5
#: A way that carries this share of its own media works.
WAY_SHARE = 0.9
#: What degrades a call: a share of the control's media lost, one-way delay in ms (the limit of
#: ITU-T G.114), and points of R lost.
LOSS_LIMIT, DELAY_LIMIT, R_LIMIT = 0.10, 400.0, 15.0

ENDS = {CALLER: "from the caller", FAR: "to the caller"}


class Quality(NamedTuple):
    """What a direction was worth, and what it was worth without the policy."""

    heard: Heard
    control: Heard

    @property
    def lost(self) -> float:
        """Return the share of the control's packets that did not arrive."""
        return 1 - self.heard.arrived / self.control.arrived if self.control.arrived else 0.0

    @property
    def r_drop(self) -> float | None:
        """Return the points of R that the policy cost, None where one cannot be rated."""
        if self.heard.r is None or self.control.r is None:
            return None
        return self.control.r - self.heard.r


class CallVerdict(NamedTuple):
    """What became of a call.

    packets_to_block: packets of the call's set-up, media and control flows that the box had let
    through before the first one it dropped or answered itself; where it struck only what the call
    waits for (signalling, a DNS answer), packets of those flows; None when it struck nothing.
    ms_to_block: time at the box from the first of these packets to that first strike.
    media_sent, media_delivered: media packets, both directions; media_control: delivered without
    the policy; media_lost: the share of media_control that did not arrive, None where it is 0.
    models: where no timer is documented and it matters, the verdicts under the other timer models
    ("strict: SETUP_BLOCKED"), else "". up, down: quality of the media from and to the caller, of
    the paths that worked where others failed; None where the capture holds none. path: the kind of
    the path that carried the media of a FALLBACK.
    """

    verdict: str
    blocked: bool
    rule: str | None
    packets_to_block: int | None
    ms_to_block: float | None
    media_sent: int
    media_delivered: int
    media_control: int
    media_lost: float | None
    reason: str
    models: str = ""
    up: Quality | None = None
    down: Quality | None = None
    path: str | None = None


class Strike(NamedTuple):
    """The first packet that the box struck, of the call or of what it waits for."""

    rule: str | None
    packets: int | None
    ms: float | None


def judge(simulation: Simulation, control: Simulation, call: Call) -> CallVerdict:
    """Return the verdict on a call; `control` is the same capture under the empty policy.

    Where the app's timers are not documented, the other timer models are tried as well, and the
    reason says whether the verdict depends on them.
    Raises TestbedError where the call is not of the simulated ones or the two do not match.
    """
    orders = simulation.script
    if len(control.fates) != len(simulation.fates):
        raise TestbedError(
            f"call {call.id}: the control holds {len(control.fates)} packets and the simulation "
            f"{len(simulation.fates)}; both must be of one capture"
        )
    part = next((one for one in orders.calls if one.id == call.id), None)
    if part is None:
        raise TestbedError(
            f"call {call.id}: the simulation was not given this call, only "
            f"{', '.join(one.id for one in orders.calls) or 'none'}"
        )
    verdict = Judge(simulation, control, call, part).verdict()
    if not simulation.policy.rules or not simulation.struck.any():
        return verdict
    differing = [
        f"{model}: {other}"
        for model in call.timer_models
        if (other := under(simulation, control, call, model)) != verdict.verdict
    ]
    if not differing:
        return verdict
    models = ", ".join(differing)
    reason = f"{verdict.reason[:-1]}; it depends on unknown timers ({models})."
    return verdict._replace(reason=reason, models=models)


def under(simulation: Simulation, control: Simulation, call: Call, model: str) -> str:
    """Return the word of the verdict under one timer model."""
    other, null = simulation.under(model), control.under(model)
    part = next(one for one in other.script.calls if one.id == call.id)
    return Judge(other, null, call, part).ruled()[0]


class Judge:
    """One call under one policy: the masks that the rules of the verdict ask for."""

    def __init__(
        self, simulation: Simulation, control: Simulation, call: Call, part: CallPart
    ) -> None:
        self.sim, self.control, self.call, self.part = simulation, control, call, part
        self.orders = simulation.script
        self.own = np.isin(self.orders.flow, part.flows)
        self.media = self.own & (self.orders.media == 1)
        #: Media of the ways that worked where another failed, else all of it.
        self.carried = self.media
        self.path: str | None = None
        self.heard: dict[int, Quality | None] = {}

    def ruled(self) -> tuple[str, str]:
        """Return the first verdict that holds, and why; what no rule did is INCONCLUSIVE."""
        word, reason = self.told()
        if (word in BLOCKED or word == "DEGRADED") and self.strike.rule is None:
            return "INCONCLUSIVE", f"{reason}; but the box's record names no rule that did it"
        return word, reason

    def verdict(self) -> CallVerdict:
        """Return the first verdict that holds, with all that is known of the call."""
        word, reason = self.ruled()
        sent = int((self.media & self.sim.fates["sent"]).sum())
        delivered = int((self.media & self.sim.delivered).sum())
        expected = int((self.media & self.control.delivered).sum())
        lost = 1 - delivered / expected if expected else None
        told = CallVerdict(
            word, word in BLOCKED, *self.strike, sent, delivered, expected, lost, f"{reason}."
        )
        up, down = self.quality(CALLER), self.quality(FAR)
        return told._replace(up=up, down=down, path=self.path)

    def told(self) -> tuple[str, str]:
        """Return the verdict and why, in one clause."""
        if not self.part.flows or not (self.own & self.control.delivered).any():
            return "INVALID", "no packet of the call arrives under the empty policy"
        excuse = self.unmeetable()
        if excuse:
            return "INCONCLUSIVE", excuse
        if self.signalling_blocked():
            return (
                "SIGNALLING_BLOCKED",
                "the app's handshake was cut off, so the call's set-up was never sent",
            )
        if self.setup_blocked():
            return "SETUP_BLOCKED", self.setup_words()
        if not (self.media & self.control.delivered).any():
            return self.exchange()
        way = self.working_way()
        if way is not None and way[0] == "FALLBACK":
            return way
        word, reason = way or self.media_verdict()
        return self.degraded(reason) if word == "OK" else (word, reason)

    # -- the box's record

    @cached_property
    def strike(self) -> Strike:
        """Return the first strike at the call, else at what it waits for."""
        for mark in (self.sim.struck, self.sim.slowed):
            if not mark.any():
                continue
            for own in (self.own, self.awaited):
                struck = np.flatnonzero(own & mark)
                if len(struck):
                    return self.told_strike(own, struck)
        return Strike(None, None, None)

    def told_strike(self, own: Mask, struck: Numbers) -> Strike:
        """Return rule, packets and milliseconds to the first strike among some packets."""
        met = self.sim.fates["box_time"]
        # Where packets meet the box at one moment, their order there is that of their numbers.
        first = struck[np.lexsort((struck, met[struck]))[0]]
        before = own & (met >= 0) & (met <= met[first]) & ~self.sim.struck
        before &= (met < met[first]) | (np.arange(len(met)) < first)
        begin = int(met[own & (met >= 0)].min())
        rule = self.sim.rules[int(self.sim.fates["rule"][first])]
        return Strike(rule, int(before.sum()), (int(met[first]) - begin) / 1e6)

    @cached_property
    def awaited(self) -> Mask:
        """Return the packets of flows that the call waits for: signalling, and DNS answers."""
        orders = self.orders
        flows = set(self.part.signalling)
        waiting = self.own | np.isin(orders.flow, self.part.signalling)
        asked = {int(latch) for latch in np.unique(orders.latches[waiting]) if latch >= 0}
        for packet in np.flatnonzero(np.diff(orders.first_opens)):
            first, last = orders.first_opens[packet], orders.first_opens[packet + 1]
            if asked.intersection(orders.opens[first:last].tolist()):
                flows.add(int(orders.flow[packet]))
        return np.asarray(np.isin(orders.flow, sorted(flows)) & ~self.own)

    # -- 2

    def unmeetable(self) -> str | None:
        """Return why no rule aimed at this app could have been met, None where one could."""
        aimed = [
            (number, rule)
            for number, rule in enumerate(self.sim.policy.rules)
            if not rule.aimed_at or self.call.app in rule.aimed_at
        ]
        if not aimed or self.strike.rule is not None:
            return None
        excuses = [self.excuse(number, rule) for number, rule in aimed]
        return next(iter(excuses)) if all(excuses) else None

    def excuse(self, number: int, rule: Rule) -> str | None:
        """Return why no packet of the capture could have met a rule, None where one could."""
        if (rule.match.name or rule.match.dns) and self.sim.met[number] == 0:
            return f"the capture holds no host name that rule {rule.name} asks for"
        if rule.act == "drop-media" and not (self.media & self.control.delivered).any():
            return f"rule {rule.name} strikes media alone, and the capture holds none"
        if rule.match.addresses and self.addresses_made_up():
            return f"rule {rule.name} asks for addresses, and the capture's are made up"
        return None

    def addresses_made_up(self) -> bool:
        """Tell whether no far end of the call has an address of the public Internet."""
        flows = self.orders.held.flows[[*self.part.flows, *self.part.signalling]]
        near = self.orders.near_is_source[[*self.part.flows, *self.part.signalling]]
        lanes = np.where(near[:, None], flows["target"], flows["source"]).astype(np.int64)
        return bool(nowhere(flows["version"].astype(np.int64), lanes).all())

    # -- 3 and 4

    def signalling_blocked(self) -> bool:
        """Tell whether set-up was never sent because the signalling before it did not come."""
        sent = self.sim.fates["sent"]
        if (self.own & sent).any() or not (self.own & self.control.fates["sent"]).any():
            return False
        signal = np.isin(self.orders.flow, self.part.signalling)
        return bool((signal & self.control.delivered & ~self.sim.delivered).any())

    def setup_blocked(self) -> bool:
        """Tell whether the control had a set-up success and the simulation has none."""
        latches = self.part.latches
        if latches and (self.control.opened[latches] >= 0).any():
            return not (self.sim.opened[latches] >= 0).any() and not self.media_flows()
        setup = np.isin(self.orders.flow, self.part.setup) & (self.orders.side == FAR)
        if not (setup & self.control.delivered).any() or self.media_flows():
            return False
        return not (setup & self.sim.delivered).any()

    def media_flows(self) -> bool:
        """Tell whether media came without any set-up that the capture names."""
        expected = int((self.media & self.control.delivered).sum())
        return int((self.media & self.sim.delivered).sum()) > SILENT_SHARE * max(expected, 1)

    def setup_words(self) -> str:
        """Return what was sent and not answered."""
        sent = int((self.own & self.sim.fates["sent"]).sum())
        got = int((self.own & self.sim.delivered).sum())
        timer = self.call.timer_s
        until = f"within the app's timer of {timer:g} s" if timer else "in the capture"
        return f"{sent} packets of the call were sent and {got} arrived; no set-up success {until}"

    def exchange(self) -> tuple[str, str]:
        """Return the verdict on a capture that holds set-up but no media."""
        came, due = self.own & self.sim.delivered, self.own & self.control.delivered
        if not came.any():
            return "SETUP_BLOCKED", "no packet of the call arrived; the capture holds no media"
        last = int(self.control.fates["arrival_time"][came].max()) if came.any() else -1
        after = due & (self.control.fates["arrival_time"] > last)
        if int(after.sum()) >= SILENCE_PACKETS:
            return "CUT", f"set-up began, then its last {int(after.sum())} packets did not come"
        return "OK", "set-up succeeded; the capture holds no media, so none could be lost"

    # -- 5 to 10

    def working_way(self) -> tuple[str, str] | None:
        """Return FALLBACK or OK and why, where a way failed and another carried the media.

        FALLBACK is said where the way that failed is the better one. That an app would have sent
        more by the other way is likely, but not in the capture: that way must have carried what it
        had, and its media must not leave a silence. Where a way of less rank failed, the better
        one must have held as much.
        """
        ways = self.part.alternatives
        if len(ways) < 2 or self.strike.rule is None:
            return None
        works: list[tuple[int, int]] = []  # rank, packets in the control
        fails: list[tuple[int, int]] = []
        for rank, flow in enumerate(ways):
            own = self.media & (self.orders.flow == flow)
            expected = int((own & self.control.delivered).sum())
            if expected and self.way_works(own, expected):
                works.append((rank, expected))
            elif expected:
                fails.append((rank, expected))
        if not works or not fails:
            return None
        return self.other_way(works, fails)

    def way_works(self, own: Mask, expected: int) -> bool:
        """Tell whether a way carried what it had, without falling silent."""
        if int((own & self.sim.delivered).sum()) < WAY_SHARE * expected:
            return False
        pairs = [(self.times(self.control, s, own), self.times(self.sim, s, own)) for s in ENDS]
        return all(cut(due, came) is None for due, came in pairs)

    def other_way(
        self, works: list[tuple[int, int]], fails: list[tuple[int, int]]
    ) -> tuple[str, str] | None:
        """Return the verdict where some ways work and some fail: (rank, packets) of each."""
        names = [way.path for way in self.call.alternatives]
        bad, good = fails[0][0], works[0][0]
        words = f"the {names[bad]} path failed and media went by the {names[good]} path"
        carried = self.media & np.isin(
            self.orders.flow, [self.part.alternatives[rank] for rank, _ in works]
        )
        if bad < good:
            if self.falls_silent(carried):
                return None
            self.carried, self.path = carried, names[good]
            return "FALLBACK", words
        if sum(n for _, n in works) < sum(n for _, n in fails):
            return None
        self.carried = carried
        return "OK", words

    def falls_silent(self, carried: Mask) -> bool:
        """Tell whether the media of some ways alone leave a silence that the control had not."""
        for side in ENDS:
            due, came = self.times(self.control, side), self.times(self.sim, side, carried)
            if len(due) < SILENCE_PACKETS:
                continue
            if hushed(due, came):
                return True
        return False

    def times(self, simulation: Simulation, side: int, own: Mask | None = None) -> Numbers:
        """Return when media of a direction (or its packets in `own`) arrived, sorted, in ns."""
        own = self.media if own is None else own
        own = own & (self.orders.side == side) & simulation.delivered
        return np.sort(simulation.fates["arrival_time"][own])

    def media_verdict(self) -> tuple[str, str]:
        """Return the verdict on media that could have come."""
        due = {side: self.times(self.control, side) for side in ENDS}
        came = {side: self.times(self.sim, side) for side in ENDS}
        held = [side for side in ENDS if len(due[side])]
        begin = min(int(due[side][0]) for side in held)
        present, silent = [], []
        for side in held:
            expected = int((due[side] < begin + FIRST).sum())
            if expected:
                present.append(side)
                got = int((came[side] < begin + FIRST).sum())
                never = len(came[side]) < SILENT_SHARE * len(due[side])
                if got < SILENT_SHARE * expected or never:
                    silent.append(side)
        gaps = {side: cut(due[side], came[side]) for side in held if side not in silent}
        stops = {side: (gap - begin) / 1e9 for side, gap in gaps.items() if gap is not None}
        if silent and len(silent) == len(present):
            return "CONNECTED_NO_MEDIA", f"{self.connected()}, under 1 % of the media arrived"
        if stops:
            side = min(stops, key=lambda one: stops[one])
            return "CUT", f"media {ENDS[side]} stopped {stops[side]:.1f} s into the call's media"
        if silent:
            return "ONE_WAY", f"media {ENDS[silent[0]]} did not arrive, the other way it did"
        only = "" if len(held) == 2 else f" (the capture holds media {ENDS[held[0]]} only)"
        return "OK", f"media arrived as under the empty policy{only}"

    # -- 9, and quality

    def degraded(self, reason: str) -> tuple[str, str]:
        """Return DEGRADED and why where a direction is that bad, else OK and the reason."""
        for side, words in ENDS.items():
            about = self.quality(side)
            why = about and complaint(about)
            if why:
                return "DEGRADED", f"media {words} came badly: {why}"
        return "OK", reason

    def quality(self, side: int) -> Quality | None:
        """Return the quality of the media of a direction, None where the control holds none.

        Asked once it is known which ways carried media.
        """
        if side not in self.heard:
            self.heard[side] = self.measured(side)
        return self.heard[side]

    def measured(self, side: int) -> Quality | None:
        """Measure what `quality` returns."""
        own = self.carried & (self.orders.side == side) & self.control.fates["sent"]
        packets = np.flatnonzero(own)
        voice = self.call.kind == "audio"
        heard, control = (
            hear(self.left(one, packets), one.fates["arrival_time"][packets], voice)
            for one in (self.sim, self.control)
        )
        if heard is None or control is None or not control.arrived:
            return None
        return Quality(heard, control)

    def left(self, simulation: Simulation, packets: Numbers) -> Numbers:
        """Return when packets that came left their sender.

        By the box's record; a TCP segment is late from when it was due, however often it is sent.
        """
        by_box = simulation.fates["arrival_time"] - simulation.one_way
        gate, script = self.orders.gate[packets], self.orders
        opened = simulation.fates["arrival_time"][gate] + script.think[packets]
        due = np.where(gate < 0, script.send[packets], opened)
        again = (script.streams.stream[packets] >= 0) & (simulation.dressed is None)
        return np.asarray(np.where(again, due, by_box[packets]), np.int64)

    def connected(self) -> str:
        """Return in words how far the call had come before its media."""
        if (self.sim.opened[self.part.latches] >= 0).any():
            return "set-up succeeded"
        return "the capture holds no reply to a set-up"


def complaint(about: Quality) -> str:
    """Return what degrades a direction, as one clause; "" where nothing does."""
    heard, control = about.heard, about.control
    if about.lost > LOSS_LIMIT:
        return f"{100 * about.lost:.1f} % did not arrive"
    was, now = control.delay_ms, heard.delay_ms
    if now is not None and was is not None and was <= DELAY_LIMIT < now:
        return f"they took {now:.0f} ms one way, {was:.0f} ms without the policy"
    if about.r_drop is not None and about.r_drop >= R_LIMIT:
        return f"R fell by {about.r_drop:.0f} to {heard.r:.0f} (as {ASSUMED.name})"
    return ""


def hushed(due: Numbers, came: Numbers) -> bool:
    """Tell whether a direction is silent for 5 s while the control has media, its edges included.

    due, came: sorted arrival times without and with the policy, in ns.
    """
    begins, ends = np.append(due[:1], came), np.append(came, due[-1:])
    missing = np.searchsorted(due, ends, "right") - np.searchsorted(due, begins, "left")
    return bool(((ends - begins >= SILENCE) & (missing >= SILENCE_PACKETS)).any())


def cut(due: Numbers, came: Numbers) -> int | None:
    """Return when a direction fell silent, for 5 s or to the end, while the control had media.

    due, came: sorted arrival times without and with the policy, in ns; None for no such silence.
    A silence counts from SILENCE_PACKETS packets that should have come in it.
    """
    if not len(due) or not len(came):
        return None
    begins = came
    ends = np.append(came[1:], np.int64(np.iinfo(np.int64).max))
    missing = np.searchsorted(due, ends, "left") - np.searchsorted(due, begins, "right")
    silent = (missing >= SILENCE_PACKETS) & (ends - begins >= SILENCE)
    return int(begins[silent][0]) if silent.any() else None
