# SPDX-License-Identifier: BSD-3-Clause
"""The outcome of a live run: one simulation per capture, and what the taps prove of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifier.flow import FLOW, Records
from testbed.access import CLAMPED, ETHERNET_LENGTH, FRAGMENTED, TOO_LARGE
from testbed.endpoints import COUNTS, stalled, waited
from testbed.errors import TestbedError
from testbed.forge import LETTER
from testbed.live import evidence, witness
from testbed.live.box import Box
from testbed.live.ends import BEGAN, REFUSED, STRANGE, Play
from testbed.live.evidence import Record
from testbed.live.stage import Stage
from testbed.middlebox import DELIVERED, DROPPED, FATES, TOO_BIG
from testbed.places import LOCAL
from testbed.policy import Policy
from testbed.replay import Script
from testbed.virtual import CAPTURED, FATE, Simulation

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Replay:
    """What one live run gave.

    simulations: one per capture, in order, their times on the capture's own clock; twins: the same
    packets, addresses, policy and seed in virtual time, to tell parity by (judge each against
    the simulation, or twin, of a run under the empty policy); seen: SEEN[n] per capture;
    injected: per capture, int64[n], frames forged by the box in answer to each packet, as the ends
    received them; error_us: float64[k], how much later than due each packet stood on the wire;
    added_us: float64[k], from box in to receiver, of packets that no rule and no link delayed;
    counters: the box's, by name, and the ends' (frames, resent, overloads); met: packets that met
    each rule's match, by the rule's name; seconds: wall time of the run, start of the box included;
    taps: the pcapng files that were written.
    """

    simulations: tuple[Simulation, ...]
    twins: tuple[Simulation, ...]
    seen: tuple[NDArray[np.void], ...]
    injected: tuple[Numbers, ...]
    error_us: NDArray[np.float64]
    added_us: NDArray[np.float64]
    counters: dict[str, int]
    met: dict[str, int]
    seconds: float
    taps: tuple[Path, ...] = field(default=())

    @property
    def fates(self) -> dict[str, int]:
        """Return `packets` that were sent, and `proven`: those whose fate the taps bear out."""
        sent = [one["times"] > 0 for one in self.seen]
        proven = sum(int((one["proven"] & s).sum()) for one, s in zip(self.seen, sent, strict=True))
        return {"packets": sum(int(s.sum()) for s in sent), "proven": proven}


class Performed(NamedTuple):
    """What a run left behind: the ends' record, what the taps saw, and frames the ends missed."""

    play: Play
    rows: Records
    store: NDArray[np.uint8]
    missed: int


class Told(NamedTuple):
    """What a box tells of a run. log: BOX_LOG[n]; flows: FLOW[m]; shares: int64[captures, rules].

    foreign: the name of the one rule of somebody else's box, which tells nothing: its log is then
    written from what the taps saw.
    """

    log: Records
    flows: Records
    shares: Numbers
    counters: dict[str, int]
    met: dict[str, int]
    foreign: str | None = None


def of_box(box: Box) -> Told:
    """Return what the lab's own box left; it has stopped."""
    return Told(box.log().copy(), box.flows(), box.shares(), box.counters(), box.met())


def witnessed(middlebox: str, stage: Stage) -> Told:
    """Return what is known of somebody else's box before the taps are asked: its name."""
    name, captures = witness.name_of(middlebox), len(stage.captures)
    log = witness.blank(len(stage.joint.script.flow))
    shares = np.zeros((captures, 1), np.int64)
    return Told(log, np.zeros(0, FLOW), shares, {"dropped_by_overload": 0}, {}, name)


class Outcome:
    """A run that is over, taken apart into one simulation per capture."""

    def __init__(self, stage: Stage, played: Performed, told: Told, below: bool) -> None:
        """Read what the box and the taps tell."""
        self.stage, self.play, self.missed = stage, played.play, played.missed
        self.log, self.flows, self.foreign = told.log, told.flows, told.foreign
        self.shares, self.counters, self.box_met = told.shares, told.counters, told.met
        self.began = int(self.play.state[BEGAN])
        orders, around = stage.joint.script, ETHERNET_LENGTH + stage.about.overhead
        rows = played.rows
        if self.foreign:
            rows = witness.recognised(rows, played.store, stage.frames, around)
        self.record = Record(
            rows, played.store, stage.frames, self.play.played, self.log, orders.side, orders.flow,
            self.began, around, below,
        )  # fmt: skip
        self.seen = evidence.seen_by_taps(self.record)
        if self.foreign:
            self.bear_witness()

    def bear_witness(self) -> None:
        """Write the log of a box that wrote none."""
        told = witness.account(self.record, self.seen)
        self.log = told.log
        answered = self.play.played["letters"] > 0
        self.log["rule"][answered | witness.held_up(self.seen)] = 0
        self.record = self.record._replace(log=self.log)
        struck = self.log["rule"] >= 0
        for number in range(len(self.stage.captures)):
            self.shares[number, 0] = int(struck[self.stage.joint.part(number)].sum())
        self.counters |= {
            "dropped_by_box": int((self.log["fate"] == DROPPED).sum()),
            "changed_by_box": told.changed,
            "injected": int(self.play.played["letters"].sum()),
        }
        self.box_met = {str(self.foreign): int(self.shares.sum())}

    def replay(
        self, policy: Policy, link: str, seed: int, twins: tuple[Simulation, ...],
        taps: Path | None, begun_at: float,
    ) -> Replay:  # fmt: skip
        """Return everything; raises TestbedError where the run is void."""
        stage, played, missed = self.stage, self.play.played, self.missed
        if missed or self.play.state[REFUSED] or self.counters["dropped_by_overload"]:
            raise TestbedError(
                f"frames were lost by the lab itself: {missed} at the ends, "
                f"{int(self.play.state[REFUSED])} not sent, "
                f"{self.counters['dropped_by_overload']} at the box; the run is void, try it again"
            )
        paths: tuple[Path, ...] = ()
        if taps is not None:
            names = [stage.name(i) for i in range(len(played))]
            rules = tuple(rule.name for rule in policy.rules)
            rules = (self.foreign,) if self.foreign else rules
            paths = evidence.save(taps, self.record, self.seen, rules, names)
        doubtful = np.flatnonzero((played["times"] > 0) & ~self.seen["proven"])
        if len(doubtful):
            raise evidence.doubt(self.record, self.seen, doubtful, stage.name(int(doubtful[0])))
        letters, mail = np.zeros(0, LETTER), np.zeros(0, np.uint8)
        if not self.foreign:
            letters, mail = evidence.injected(self.record)
        parts = [stage.joint.part(k) for k in range(len(stage.captures))]
        simulations = tuple(
            self.simulation(k, policy, link, seed, letters, mail, twin)
            for k, twin in enumerate(twins)
        )
        if not self.foreign:
            expect_blocking(simulations, twins)
        on_wire = self.seen["times"] > 0
        stood = np.where(self.seen["box_in"] > 0, self.seen["box_in"], self.seen["sent"])
        plain = on_wire & (self.seen["came"] > 0) & (link == CAPTURED)
        plain &= (self.log["rule"] < 0) | bool(self.foreign)
        plain &= self.seen["box_in"] > 0
        return Replay(
            simulations,
            twins,
            tuple(self.seen[part] for part in parts),
            tuple(played["letters"][part].copy() for part in parts),
            (stood - self.seen["due"])[on_wire] / 1000,
            (self.seen["came"] - self.seen["box_in"])[plain] / 1000,
            self.counters | self.ends_counters(),
            self.box_met,
            time.monotonic() - begun_at,
            paths,
        )

    def ends_counters(self) -> dict[str, int]:
        """Return what the ends counted, over all captures."""
        told = self.play.counts.sum(axis=0)
        found = {name: int(n) for name, n in zip(COUNTS, told, strict=True)}
        found["frames"] = int(self.play.played["times"].sum())
        found["clipped"], found["strange"] = (
            self.stage.frames.clipped,
            int(self.play.state[STRANGE]),
        )
        return found

    def simulation(
        self, number: int, policy: Policy, link: str, seed: int, letters: Records,
        mail: NDArray[np.uint8], twin: Simulation,
    ) -> Simulation:  # fmt: skip
        """Return what became of one capture, times on its own clock."""
        stage, part = self.stage, self.stage.joint.part(number)
        shift = int(stage.joint.begins[number])
        orders = stage.scripts[number]
        fates = self.fates(part, orders, shift, stage.fits[number])
        joint = stage.joint.script
        latches = slice_of([len(one.need) for one in stage.scripts], number)
        opened = self.play.ends.opened[latches].copy()
        counts = self.play.counts[number].copy()
        counts[COUNTS.index("stalled")] = stalled(
            joint.streams.stream[part], joint.streams.after[part], self.play.ends.reached, fates
        )
        counts[COUNTS.index("waited")] = waited(fates, counts)
        own = (letters["packet"] >= part.start) & (letters["packet"] < part.stop)
        mine = letters[own].copy()
        mine["packet"] -= part.start
        mine["time"] += shift - self.began
        met = fates["box_time"] >= 0
        fits = stage.fits[number]
        counters = {
            name.replace(" ", "_"): int((fates["fate"] == i).sum()) for i, name in enumerate(FATES)
        }
        counters |= {name: int(n) for name, n in zip(COUNTS, counts, strict=True)}
        counters["clamped"] = int((met & (fits == CLAMPED)).sum())
        counters["fragmented"] = int((met & (fits == FRAGMENTED)).sum())
        known: dict[str, Any] = {}
        if self.foreign:  # of whose rules nothing is known; flows are those of the twin
            known = {"rules": (self.foreign,), "held_up": witness.held_up(self.seen[part])}
        else:
            flow = np.where(met, self.log["flow"][part], -1).astype(np.int64)
            known = {"flow": flow, "flows": self.flows}
        return replace(
            twin,
            fates=fates,
            met=self.met(number),
            opened=np.where(opened >= 0, opened + shift, -1),
            counters=counters,
            letters=mine,
            mail=mail,
            others={},
            **known,
        )

    def met(self, number: int) -> Numbers:
        """Return int64[rules], how many packets of a capture met each rule's match.

        What the kernel dealt with, never seen at the box, met the rule that condemned its flow.
        """
        part, met = self.stage.joint.part(number), self.shares[number].copy()
        seen, rule = self.seen[part], self.log["rule"][part]
        below = (seen["times"] > 0) & (seen["box_in"] == 0) & (rule >= 0)
        met += np.bincount(rule[below], minlength=len(met))
        return np.asarray(met)

    def fates(
        self, part: slice, orders: Script, shift: int, fits: NDArray[np.uint8]
    ) -> NDArray[np.void]:
        """Return FATE[n] of one capture."""
        played, log = self.play.played[part], self.log[part]
        fates = np.zeros(len(played), FATE)
        fates["sent"] = played["sent"]
        fates["rule"] = fates["box_time"] = -1
        fates["arrival_time"] = np.where(played["arrival"] >= 0, played["arrival"] + shift, -1)
        local = played["sent"] & (orders.side == LOCAL)
        large = played["sent"] & ~local & (fits == TOO_LARGE)
        met = played["times"] > 0
        fates["fate"][local], fates["fate"][large] = DELIVERED, TOO_BIG
        fates["fate"][met], fates["rule"][met] = log["fate"][met], log["rule"][met]
        fates["box_time"][met] = log["in_time"][met] - self.began + shift
        fates["letters"] = played["letters"]
        return fates


def slice_of(lengths: Sequence[int], number: int) -> slice:
    """Return where part `number` stands when parts of such lengths stand one after the other."""
    first = sum(lengths[:number])
    return slice(first, first + lengths[number])


def expect_blocking(live: Sequence[Simulation], twins: Sequence[Simulation]) -> None:
    """Raise TestbedError where a policy that strikes in virtual time struck nothing live."""
    due = sum(int(one.struck.sum()) for one in twins)
    if due and not any(one.struck.any() for one in live):
        raise TestbedError(
            f"the policy strikes {due} packets of these captures in virtual time and struck none "
            "live: the box did not do its work, and this is no result"
        )
