# SPDX-License-Identifier: BSD-3-Clause
"""The verdict on a call under a policy, compared with the same capture under no policy.

The verdict is the first of these that applies:

1. INVALID: the call does not work under the empty policy either.
2. INCONCLUSIVE: a rule reads a field that was changed in the capture (anonymised addresses, for
   example); or no packet of the capture could have met a rule that aims at this app (the rule
   matches names, or media only, and the capture has none; or it matches addresses, and the
   capture's are synthetic); or the box's record does not explain a failure.
3. SIGNALLING_BLOCKED: the app's own handshake got no answer, so no set-up was sent.
4. SETUP_BLOCKED: no set-up success (STUN, DTLS, SIP, or the replies captures/calls names).
5. FALLBACK: the app's preferred path failed, and a path of lower rank carried the media that it had
   in the capture, without a silence of 5 s.
6. CONNECTED_NO_MEDIA: both directions silent from the beginning of the media.
7. ONE_WAY: one direction silent from its beginning, while the other lasts to the end.
8. CUT: media, then a silence.
9. DEGRADED: in a direction over 10 % of the media lost, a one-way delay over 400 ms, or (voice) R
   at least 15 below the control's (midcall.testbed.assess.quality).
10. OK.

A silence is 5 s of media that were sent and of which under 1 % arrived. It is measured on the
sender's own clock: of the pauses between media packets, no more than 1 s each counts, so that
neither a late arrival, nor a speaker's pause, nor the end of a recording is a silence. A direction
is silent from the beginning if its first 5 s are a silence; of a recording with less media than
that, if under 1 % of all its media arrived.

"Blocked" is 3, 4, 6, 7 and 8: no call at all. "Usable" is false for those, and where quality is
below the floor of ITU-T G.109 (R under 50, MOS under 2.6: not recommended) in at least half of the
windows of 5 s of a direction that were above it under the empty policy. 3 to 9 need a rule that the
box's own record names.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.truth.calls import Call
from midcall.errors import TestbedError
from midcall.testbed.assess.quality import (
    ASSUMED,
    FLOOR_R,
    DirectionQuality,
    hear,
    mos,
    second_scores,
    window_ratings,
)
from midcall.testbed.policy.language import Rule
from midcall.testbed.replay.script import CallPart
from midcall.testbed.replay.sides import CALLER, FAR, nowhere
from midcall.testbed.replay.simulator import Simulation

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]

BLOCKED = ("SIGNALLING_BLOCKED", "SETUP_BLOCKED", "CONNECTED_NO_MEDIA", "ONE_WAY", "CUT")
VERDICTS = ("INVALID", "INCONCLUSIVE", *BLOCKED, "FALLBACK", "DEGRADED", "OK")

#: A stretch of media of which less than this share arrives is silent (one or two packets that pass
#: before the box decides are not a conversation).
SILENT_SHARE = 0.01
SECOND = 1_000_000_000
#: Media time of a silence, in ns.
SILENCE = 5_000_000_000
#: The most that one pause between two media packets adds to media time, in ns.
MEDIA_PAUSE = 1_000_000_000
#: A path with fewer media packets than this counts neither as working nor as failed.
PATH_PACKETS = 5
#: Limits of DEGRADED: a share of the control's media lost, one-way delay in ms (the limit of
#: ITU-T G.114), and points of R lost.
LOSS_LIMIT, DELAY_LIMIT, R_LIMIT = 0.10, 400.0, 15.0
#: MOS of FLOOR_R, below which ITU-T G.109 does not recommend a connection.
FLOOR_MOS = mos(FLOOR_R)
#: A call is not usable if this share of a direction's windows is below the floor.
UNUSABLE_SHARE = 0.5

ENDS = {CALLER: "from the caller", FAR: "to the caller"}


class Quality(NamedTuple):
    """Quality of a direction with the policy (`heard`) and without it (`control`).

    below: the share of its windows of 5 s that fell below the floor of ITU-T G.109 under the
    policy, of those that were above it without. scores, control_scores: MOS of each second under
    the policy and without it, None where too little was sent; () for a call that is not voice.
    """

    heard: DirectionQuality
    control: DirectionQuality
    below: float = 0.0
    scores: tuple[float | None, ...] = ()
    control_scores: tuple[float | None, ...] = ()

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

    @property
    def bad_seconds(self) -> tuple[int, int]:
        """Return how many seconds fell below FLOOR_MOS, of so many above it without the policy."""
        pairs = zip(self.scores, self.control_scores, strict=True)
        good = [now for now, before in pairs if before is not None and before >= FLOOR_MOS]
        return sum(now is None or now < FLOOR_MOS for now in good), len(good)


class CallVerdict(NamedTuple):
    """The verdict on a call, with its counts.

    blocked: no call at all; usable: the call was usable, None where the verdict is INVALID or
    INCONCLUSIVE. packets_to_block: packets of the call's set-up, media and control flows that the
    box had let through before the first one it dropped or answered itself; where it struck only
    flows that the call waits for (signalling, DNS), packets of those flows; None where it struck
    nothing. ms_to_block: time at the box from the first of these packets to that first strike.
    media_sent, media_delivered: media packets, both directions; media_control: delivered without
    the policy; media_lost: the share of media_control that did not arrive, None where it is 0.
    models: where no timer is documented and it matters, the verdicts under the other timer models
    ("strict: SETUP_BLOCKED"), else "". up, down: quality of the media from and to the caller, of
    the paths that worked in a FALLBACK, else of all; None where the capture has none. path: the
    kind of the path that carried the media of a FALLBACK.
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
    usable: bool | None = None


class Strike(NamedTuple):
    """The first packet that the box struck, of the call or of a flow that it waits for."""

    rule: str | None
    packets: int | None
    ms: float | None


def judge(
    simulation: Simulation, control: Simulation, call: Call, changed: Collection[str] = ()
) -> CallVerdict:
    """Return the verdict on a call; `control` is the same capture under the empty policy.

    changed: fields of the capture that differ from those on the wire
    (captures.truth.catalogue.Capture.changed). Where the app's timers are not documented, the other
    timer models are run as well, and the reason states whether the verdict depends on them.
    Raises TestbedError where the call is not one of the simulated ones or the captures differ.
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
    verdict = CallMasks(simulation, control, call, part, changed).verdict()
    if not simulation.policy.rules or not (simulation.struck | simulation.slowed).any():
        return verdict
    differing = [
        f"{model}: {other}"
        for model in call.timer_models
        if (other := under(simulation, control, call, model, changed)) != verdict.verdict
    ]
    if not differing:
        return verdict
    models = ", ".join(differing)
    reason = f"{verdict.reason[:-1]}; it depends on unknown timers ({models})."
    return verdict._replace(reason=reason, models=models)


def under(
    simulation: Simulation, control: Simulation, call: Call, model: str, changed: Collection[str]
) -> str:
    """Return the verdict word under one timer model."""
    other, null = simulation.under(model), control.under(model)
    part = next(one for one in other.script.calls if one.id == call.id)
    return CallMasks(other, null, call, part, changed).ruled()[0]


class CallMasks:
    """One call under one policy: the packet masks that the verdict rules need."""

    def __init__(
        self,
        simulation: Simulation,
        control: Simulation,
        call: Call,
        part: CallPart,
        changed: Collection[str] = (),
    ) -> None:
        self.sim, self.control, self.call, self.part = simulation, control, call, part
        self.changed = frozenset(changed)
        self.orders = simulation.script
        self.own = np.isin(self.orders.flow, part.flows)
        self.media = self.own & (self.orders.media == 1)
        #: Packets that receivers could use: with the policy, and without it.
        self.came, self.due = simulation.usable >= 0, control.usable >= 0
        #: Media of the paths that worked where another failed, else all of it.
        self.carried = self.media
        self.path: str | None = None
        self.measured: dict[int, Quality | None] = {}

    def ruled(self) -> tuple[str, str]:
        """Return the first verdict that applies, and why; INCONCLUSIVE where no rule caused it."""
        word, reason = self.first_verdict()
        if (word in BLOCKED or word == "DEGRADED") and self.strike.rule is None:
            return "INCONCLUSIVE", f"{reason}; but the box's record names no rule that did it"
        return word, reason

    def verdict(self) -> CallVerdict:
        """Return the first verdict that applies, with the counts and quality of the call."""
        word, reason = self.ruled()
        sent = int((self.media & self.sim.fates["sent"]).sum())
        delivered = int((self.media & self.sim.delivered).sum())
        expected = int((self.media & self.control.delivered).sum())
        lost = 1 - delivered / expected if expected else None
        up, down = self.quality(CALLER), self.quality(FAR)
        works = usable(word, up, down)
        if word == "DEGRADED" or (works is False and word not in BLOCKED):
            reason += heard_seconds(up, down)
        return CallVerdict(
            word, word in BLOCKED, *self.strike, sent, delivered, expected, lost, f"{reason}.",
            up=up, down=down, path=self.path, usable=works,
        )  # fmt: skip

    def first_verdict(self) -> tuple[str, str]:
        """Return the verdict and why, in one clause."""
        if not self.part.flows or not (self.own & self.due).any():
            return "INVALID", "no packet of the call arrives under the empty policy"
        excuse = self.unreadable() or self.unmeetable()
        if excuse:
            return "INCONCLUSIVE", excuse
        if self.signalling_blocked():
            return (
                "SIGNALLING_BLOCKED",
                "the app's handshake was cut off, so the call's set-up was never sent",
            )
        if self.setup_blocked():
            return "SETUP_BLOCKED", self.setup_reason()
        if not (self.media & self.due).any():
            return self.verdict_without_media()
        fallback = self.fallback()
        if fallback is not None and fallback[0] == "FALLBACK":
            return fallback
        word, reason = fallback or self.media_verdict()
        return self.degraded(reason) if word == "OK" else (word, reason)

    # -- the box's record

    @cached_property
    def strike(self) -> Strike:
        """Return the first strike at the call, else at a flow that it waits for."""
        fates = self.sim.fates
        for mark, time, rule in (
            (self.sim.struck, fates["struck_time"], fates["struck_rule"]),
            (self.sim.slowed, fates["box_time"], fates["rule"]),
        ):
            for own in (self.own, self.awaited):
                struck = np.flatnonzero(own & mark)
                if len(struck):
                    return self.first_strike(own, struck, time, rule)
        return Strike(None, None, None)

    def first_strike(self, own: Mask, struck: Numbers, time: Numbers, rule: Numbers) -> Strike:
        """Return rule, packets and milliseconds to the first strike among some packets."""
        # Packets that meet the box at the same time are in the order of their numbers.
        first = struck[np.lexsort((struck, time[struck]))[0]]
        met = np.where(self.sim.struck, self.sim.fates["struck_time"], self.sim.fates["box_time"])
        before = own & (met >= 0) & (met <= time[first]) & ~self.sim.struck
        before &= (met < time[first]) | (np.arange(len(met)) < first)
        begin = int(met[own & (met >= 0)].min())
        name = self.sim.rules[int(rule[first])] if rule[first] >= 0 else None
        return Strike(name, int(before.sum()), (int(time[first]) - begin) / 1e6)

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

    def unreadable(self) -> str | None:
        """Return which rule reads a changed field of the capture, None where none does."""
        for rule in self.sim.policy.rules:
            fields = sorted(rule.reads & self.changed)
            if fields:
                return f"rule {rule.name} reads {fields[0]}, which were changed in this capture"
        return None

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
        if rule.act == "drop-media" and not (self.media & self.due).any():
            return f"rule {rule.name} strikes media alone, and the capture holds none"
        if rule.match.addresses and self.addresses_made_up():
            return f"rule {rule.name} asks for addresses, and the capture's are made up"
        return None

    def addresses_made_up(self) -> bool:
        """Tell whether no remote end of the call has an address of the public Internet."""
        flows = self.orders.held.flows[[*self.part.flows, *self.part.signalling]]
        near_is_source = self.orders.near_is_source[[*self.part.flows, *self.part.signalling]]
        lanes = np.where(near_is_source[:, None], flows["target"], flows["source"]).astype(np.int64)
        return bool(nowhere(flows["version"].astype(np.int64), lanes).all())

    # -- 3 and 4

    def signalling_blocked(self) -> bool:
        """Tell whether set-up was never sent because the signalling before it did not arrive."""
        sent = self.sim.fates["sent"]
        if (self.own & sent).any() or not (self.own & self.control.fates["sent"]).any():
            return False
        signal = np.isin(self.orders.flow, self.part.signalling)
        return bool((signal & self.due & ~self.came).any())

    def setup_blocked(self) -> bool:
        """Tell whether the control had a set-up success and the simulation has none."""
        latches = self.part.latches
        if latches and (self.control.opened[latches] >= 0).any():
            return not (self.sim.opened[latches] >= 0).any() and not self.media_arrive()
        setup = np.isin(self.orders.flow, self.part.setup) & (self.orders.side == FAR)
        if not (setup & self.due).any() or self.media_arrive():
            return False
        return not (setup & self.came).any()

    def media_arrive(self) -> bool:
        """Tell whether media arrived without any set-up of the capture."""
        expected = int((self.media & self.due).sum())
        return int((self.media & self.came).sum()) > SILENT_SHARE * max(expected, 1)

    def setup_reason(self) -> str:
        """Return the reason of SETUP_BLOCKED: packets sent and arrived, and the timer."""
        sent = int((self.own & self.sim.fates["sent"]).sum())
        got = int((self.own & self.sim.delivered).sum())
        timer = self.call.timer_s
        until = f"within the app's timer of {timer:g} s" if timer else "in the capture"
        return f"{sent} packets of the call were sent and {got} arrived; no set-up success {until}"

    def verdict_without_media(self) -> tuple[str, str]:
        """Return the verdict on a capture with set-up or control but no media."""
        if not (self.own & self.came).any():
            return "SETUP_BLOCKED", "no packet of the call arrived; the capture holds no media"
        stops = self.stops(self.own)
        if stops:
            side, seconds = min(stops.items(), key=lambda one: one[1])
            return "CUT", f"packets {ENDS[side]} stopped {seconds:.1f} s into the call"
        reason = "packets of the call arrived; the capture holds no media, so none could be lost"
        return "OK", reason

    # -- silences

    def sides(self, own: Mask) -> dict[int, tuple[Numbers, Mask]]:
        """Return per direction, of some packets that arrive under the empty policy: when each was
        sent in the capture, sorted, and whether it arrives now."""
        directions = {}
        for side in ENDS:
            rows = np.flatnonzero(own & self.due & (self.orders.side == side))
            rows = rows[np.argsort(self.orders.send[rows], kind="stable")]
            if len(rows):
                directions[side] = self.orders.send[rows], self.came[rows]
        return directions

    def stops(self, own: Mask) -> dict[int, float]:
        """Return per direction that falls silent after its beginning when, in s of the media."""
        stops = {}
        directions = self.sides(own)
        begin = min((int(sent[0]) for sent, _ in directions.values()), default=0)
        for side, (sent, came) in directions.items():
            if not silent_from_the_beginning(sent, came):
                at = silence(sent, came)
                if at is not None:
                    stops[side] = (int(sent[at]) - begin) / 1e9
        return stops

    # -- 5 to 10

    def fallback(self) -> tuple[str, str] | None:
        """Return FALLBACK or OK and why, where a path failed and another carried the media.

        The verdict is FALLBACK where the failed path is the preferred one. An app would probably
        have sent more by the other path, but that is not in the capture: that path must have
        carried its captured media, and these must not leave a silence. Where a path of lower rank
        failed, the preferred one must have carried at least as much.
        """
        paths = self.part.alternatives
        if len(paths) < 2 or self.strike.rule is None:
            return None
        works: list[tuple[int, int]] = []  # rank, packets in the control
        fails: list[tuple[int, int]] = []
        for rank, flow in enumerate(paths):
            own = self.media & (self.orders.flow == flow)
            expected = int((own & self.due).sum())
            if expected >= PATH_PACKETS:
                (works if self.path_works(own) else fails).append((rank, expected))
        if not works or not fails:
            return None
        return self.path_verdict(works, fails)

    def path_works(self, own: Mask) -> bool:
        """Tell whether a path carried its media, silent in neither direction."""
        return not any(
            silent_from_the_beginning(sent, came) or silence(sent, came) is not None
            for sent, came in self.sides(own).values()
        )

    def path_verdict(
        self, works: list[tuple[int, int]], fails: list[tuple[int, int]]
    ) -> tuple[str, str] | None:
        """Return the verdict where some paths work and some fail: (rank, packets) of each."""
        names = [path.path for path in self.call.alternatives]
        bad, good = fails[0][0], works[0][0]
        words = f"the {names[bad]} path failed and media went by the {names[good]} path"
        carried = self.media & np.isin(
            self.orders.flow, [self.part.alternatives[rank] for rank, _ in works]
        )
        if bad < good:
            if self.has_silence(carried):
                return None
            self.carried, self.path = carried, names[good]
            return "FALLBACK", words
        if sum(n for _, n in works) < sum(n for _, n in fails):
            return None
        self.carried = carried
        return "OK", words

    def has_silence(self, carried: Mask) -> bool:
        """Tell whether the carried media alone leave a silence in the control's media."""
        for side in ENDS:
            rows = np.flatnonzero(self.media & self.due & (self.orders.side == side))
            rows = rows[np.argsort(self.orders.send[rows], kind="stable")]
            sent, came = self.orders.send[rows], (self.came & carried)[rows]
            if len(rows) >= PATH_PACKETS and (
                silent_from_the_beginning(sent, came) or silence(sent, came) is not None
            ):
                return True
        return False

    def media_verdict(self) -> tuple[str, str]:
        """Return the verdict on media that arrive in the control."""
        directions = self.sides(self.media)
        silent = [side for side in directions if silent_from_the_beginning(*directions[side])]
        stops = self.stops(self.media)
        if silent and len(silent) == len(directions):
            return "CONNECTED_NO_MEDIA", f"{self.connected()}, under 1 % of the media arrived"
        if stops:
            side, seconds = min(stops.items(), key=lambda one: one[1])
            reason = f"media {ENDS[side]} stopped {seconds:.1f} s into the call's media"
            return "CUT", reason + self.timer()
        if silent:
            return "ONE_WAY", f"media {ENDS[silent[0]]} did not arrive, the other way it did"
        only = (
            ""
            if len(directions) == 2
            else f" (the capture holds media {ENDS[next(iter(directions))]} only)"
        )
        return "OK", f"media arrived as under the empty policy{only}"

    def timer(self) -> str:
        """Return the timer that kept media from being sent, as a clause; "" where none did."""
        unsent = self.media & self.due & ~self.sim.fates["sent"]
        if unsent.any() and self.sim.counters.get("without_consent", 0):
            return f"; consent to send was not renewed for {self.call.consent_s:g} s (RFC 7675)"
        return ""

    # -- 9, and quality

    def degraded(self, reason: str) -> tuple[str, str]:
        """Return DEGRADED and why where a direction exceeds a limit, else OK and the reason."""
        for side, words in ENDS.items():
            quality = self.quality(side)
            why = quality and complaint(quality)
            if why:
                return "DEGRADED", f"media {words} came badly: {why}"
        return "OK", reason

    def quality(self, side: int) -> Quality | None:
        """Return the quality of the media of a direction, None where the control has none.

        Call this only after `fallback` has set which paths carried media.
        """
        if side not in self.measured:
            self.measured[side] = self.measure(side)
        return self.measured[side]

    def measure(self, side: int) -> Quality | None:
        """Return the quality of a direction, not cached; None where the control has none."""
        own = self.carried & (self.orders.side == side) & self.control.fates["sent"]
        packets = np.flatnonzero(own)
        packets = packets[np.argsort(self.orders.send[packets], kind="stable")]
        voice = self.call.kind == "audio"
        left, came = (
            [one.fates[name][packets] for one in (self.sim, self.control)]
            for name in ("left", "used_time")
        )
        measured, control = (hear(left[k], came[k], voice) for k in (0, 1))
        if measured is None or control is None or not control.arrived:
            return None
        windows = media_time(self.orders.send[packets]) // SILENCE
        now, before = (window_ratings(left[k], came[k], windows) for k in (0, 1))
        good = before >= FLOOR_R
        below = float((now[good] < FLOOR_R).mean()) if good.any() else 0.0
        if not voice:
            return Quality(measured, control, below)
        second = (self.orders.send[packets] - self.orders.send[packets[0]]) // SECOND
        scores, before_scores = (second_scores(left[k], came[k], second) for k in (0, 1))
        return Quality(measured, control, below, scores, before_scores)

    def connected(self) -> str:
        """Return in words whether set-up succeeded before the media."""
        if (self.sim.opened[self.part.latches] >= 0).any():
            return "set-up succeeded"
        return "the capture holds no reply to a set-up"


def complaint(quality: Quality) -> str:
    """Return what degrades a direction, as one clause; "" where nothing does."""
    measured, control = quality.heard, quality.control
    if quality.lost > LOSS_LIMIT:
        return f"{100 * quality.lost:.1f} % did not arrive"
    was, now = control.delay_ms, measured.delay_ms
    if now is not None and was is not None and was <= DELAY_LIMIT < now:
        return f"they took {now:.0f} ms one way, {was:.0f} ms without the policy"
    if quality.r_drop is not None and quality.r_drop >= R_LIMIT:
        return f"R fell by {quality.r_drop:.0f} to {measured.r:.0f} (as {ASSUMED.name})"
    return ""


def heard_seconds(up: Quality | None, down: Quality | None) -> str:
    """Return in how many seconds of each direction the MOS fell below the floor, as clauses."""
    clauses = []
    for quality, words in zip((up, down), ENDS.values(), strict=True):
        bad, whole = quality.bad_seconds if quality else (0, 0)
        if bad:
            clauses.append(f"; MOS below {FLOOR_MOS:.1f} in {bad} of {whole} s {words}")
    return "".join(clauses)


def usable(word: str, up: Quality | None, down: Quality | None) -> bool | None:
    """Return whether a call was usable; None for INVALID and INCONCLUSIVE."""
    if word in ("INVALID", "INCONCLUSIVE"):
        return None
    if word in BLOCKED:
        return False
    return not any(one is not None and one.below >= UNUSABLE_SHARE for one in (up, down))


# ---- silences


def media_time(sent: Numbers) -> Numbers:
    """Return how much media was sent before each packet, int64[n] ns; sent: sorted, ns."""
    if not len(sent):
        return np.zeros(0, np.int64)
    steps = np.minimum(np.diff(sent), MEDIA_PAUSE)
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(steps)))


def silent_from_the_beginning(sent: Numbers, came: Mask) -> bool:
    """Tell whether a direction is silent in its first 5 s of media, or in all of its media.

    sent: when each media packet was sent, sorted, ns; came: whether it arrived.
    """
    if not came.any():
        return True
    first = media_time(sent) < SILENCE
    return bool(came[first].mean() < SILENT_SHARE or came.mean() < SILENT_SHARE)


def silence(sent: Numbers, came: Mask) -> int | None:
    """Return the number of the packet at which the first silence begins, None where none is.

    sent: when each media packet was sent, sorted, ns; came: whether it arrived.
    """
    media_times = media_time(sent)
    ends: Numbers = np.searchsorted(media_times, media_times + SILENCE).astype(np.int64)
    whole = np.flatnonzero(ends < len(sent))  # windows that end before the media do
    if not len(whole):
        return None
    arrived = np.zeros(len(came) + 1)
    np.cumsum(came, out=arrived[1:])
    share = (arrived[ends[whole] + 1] - arrived[whole]) / (ends[whole] + 1 - whole)
    silent = whole[share < SILENT_SHARE]
    return int(silent[0]) if len(silent) else None
