# SPDX-License-Identifier: BSD-3-Clause
"""The outcome of a live run: one simulation per capture, and what the taps prove of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier.flow import Records
from testbed.access import CLAMPED, ETHERNET_LENGTH, FRAGMENTED, TOO_LARGE
from testbed.endpoints import COUNTS, stalled, waited
from testbed.errors import TestbedError
from testbed.live import evidence
from testbed.live.box import Box
from testbed.live.ends import BEGAN, REFUSED, STRANGE, Play
from testbed.live.evidence import Record
from testbed.live.stage import Stage
from testbed.middlebox import DELIVERED, FATES, TOO_BIG
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


class Outcome:
    """A run that is over, taken apart into one simulation per capture."""

    def __init__(
        self, stage: Stage, play: Play, box: Box, rows: Records, store: NDArray[np.uint8],
        below: bool,
    ) -> None:  # fmt: skip
        """Read what the box left; it has stopped."""
        self.stage, self.play, self.box = stage, play, box
        self.log, self.flows = box.log().copy(), box.flows()
        self.shares, self.counters = box.shares(), box.counters()
        self.began = int(play.state[BEGAN])
        orders = stage.joint.script
        self.record = Record(
            rows, store, stage.frames, play.played, self.log, orders.side, orders.flow, self.began,
            ETHERNET_LENGTH + stage.about.overhead, below,
        )  # fmt: skip
        self.seen = evidence.seen_by_taps(self.record)

    def replay(
        self, policy: Policy, link: str, seed: int, twins: tuple[Simulation, ...], missed: int,
        taps: Path | None, begun_at: float,
    ) -> Replay:  # fmt: skip
        """Return everything; raises TestbedError where the run is void."""
        stage, played = self.stage, self.play.played
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
            paths = evidence.save(taps, self.record, self.seen, rules, names)
        doubtful = np.flatnonzero((played["times"] > 0) & ~self.seen["proven"])
        if len(doubtful):
            raise evidence.doubt(self.record, self.seen, doubtful, stage.name(int(doubtful[0])))
        letters, mail = evidence.injected(self.record)
        parts = [stage.joint.part(k) for k in range(len(stage.captures))]
        simulations = tuple(
            self.simulation(k, policy, link, seed, letters, mail, twin)
            for k, twin in enumerate(twins)
        )
        expect_blocking(simulations, twins)
        on_wire = self.seen["times"] > 0
        stood = np.where(self.seen["box_in"] > 0, self.seen["box_in"], self.seen["sent"])
        plain = on_wire & (self.log["rule"] < 0) & (self.seen["came"] > 0) & (link == CAPTURED)
        plain &= self.seen["box_in"] > 0
        return Replay(
            simulations,
            twins,
            tuple(self.seen[part] for part in parts),
            tuple(played["letters"][part].copy() for part in parts),
            (stood - self.seen["due"])[on_wire] / 1000,
            (self.seen["came"] - self.seen["box_in"])[plain] / 1000,
            self.counters | self.ends_counters(),
            self.box.met(),
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
        return replace(
            twin,
            fates=fates,
            flow=np.where(met, self.log["flow"][part], -1).astype(np.int64),
            flows=self.flows,
            met=self.met(number),
            opened=np.where(opened >= 0, opened + shift, -1),
            counters=counters,
            letters=mine,
            mail=mail,
            others={},
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
