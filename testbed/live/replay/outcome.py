# SPDX-License-Identifier: BSD-3-Clause
"""The outcome of a live run: one simulation per capture, and the fates that the taps prove."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.classifier.state.flow_table import FLOW, Records
from midcall.errors import TestbedError
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.replay import blackbox_proof, fate_proof
from midcall.testbed.live.replay.endpoints import BEGAN, REFUSED, ROWS, STRANGE, Play, rows_for
from midcall.testbed.live.replay.fate_proof import Record
from midcall.testbed.live.replay.stage import Stage
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED, FATES, TOO_BIG
from midcall.testbed.middlebox.inject import LETTER
from midcall.testbed.network.access import CLAMPED, ETHERNET_LENGTH, FRAGMENTED
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.endpoints import ATTEMPT, COUNTS, count_stalled
from midcall.testbed.replay.sides import LOCAL
from midcall.testbed.replay.simulator import CAPTURED, Simulation, flow_numbers, summary

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Replay:
    """The result of one live run.

    simulations: one per capture, in order, their times on the capture's own clock; twins: the same
    packets, addresses, policy and seed in virtual time, to check parity (compare each with the
    simulation, or twin, of a run under the empty policy); seen: per capture, SEEN[k], a row for
    each of its simulation's attempts; error_us: float64[k], how much later than due each sending
    stood on the wire; added_us: float64[k], from box in to receiver, of sendings that no rule and
    no link delayed;
    counters: the box's, by name, and the ends' (frames, resent, overloads); met: packets that met
    each rule's match, by the rule's name; seconds: wall time of the run, start of the box included;
    taps: the pcapng files that were written.
    """

    simulations: tuple[Simulation, ...]
    twins: tuple[Simulation, ...]
    seen: tuple[NDArray[np.void], ...]
    error_us: NDArray[np.float64]
    added_us: NDArray[np.float64]
    counters: dict[str, int]
    met: dict[str, int]
    seconds: float
    taps: tuple[Path, ...] = field(default=())

    @property
    def fates(self) -> dict[str, int]:
        """Return the number of `packets` sent, copies counted, and of those with `proven` fates."""
        sent = [one["times"] > 0 for one in self.seen]
        proven = sum(int((one["proven"] & s).sum()) for one, s in zip(self.seen, sent, strict=True))
        return {"packets": sum(int(s.sum()) for s in sent), "proven": proven}


class Performed(NamedTuple):
    """The raw records of a run: the ends', the taps', and the number of frames the ends missed."""

    play: Play
    rows: Records
    store: NDArray[np.uint8]
    missed: int


class BoxReport(NamedTuple):
    """A box's report on a run. log: BOX_LOG[n]; flows: FLOW[m]; shares: int64[captures, rules].

    foreign: the name of the one rule of a third-party box, None for the lab's own. A third-party
    box reports nothing: its log is derived from the tap traces.
    """

    log: Records
    flows: Records
    shares: Numbers
    counters: dict[str, int]
    met: dict[str, int]
    foreign: str | None = None


def own_box_report(box: Box) -> BoxReport:
    """Return the report of the lab's own box, which has stopped."""
    return BoxReport(box.log().copy(), box.flows(), box.shares(), box.counters(), box.met())


def foreign_box_report(middlebox: str, stage: Stage) -> BoxReport:
    """Return the report of a third-party box with a blank log, to be filled from the taps."""
    name, captures = blackbox_proof.name_of(middlebox), len(stage.captures)
    log = blackbox_proof.blank(rows_for(len(stage.joint.script.flow)))
    shares = np.zeros((captures, 1), np.int64)
    return BoxReport(log, np.zeros(0, FLOW), shares, {"dropped_by_overload": 0}, {}, name)


class Outcome:
    """A finished run, split into one simulation per capture."""

    def __init__(self, stage: Stage, played: Performed, report: BoxReport, below: bool) -> None:
        """Combine the box's report and the tap traces."""
        self.stage, self.play, self.missed = stage, played.play, played.missed
        self.flows, self.foreign = report.flows, report.foreign
        self.shares, self.counters, self.box_met = report.shares, report.counters, report.met
        self.began = int(self.play.state[BEGAN])
        orders, around = stage.joint.script, ETHERNET_LENGTH + stage.about.overhead
        count, used = len(orders.flow), int(self.play.state[ROWS])
        self.played, self.log = self.play.played[:used], report.log[:used]
        #: The packet and the capture of each row.
        self.packet = np.concatenate((np.arange(count), self.played["packet"][count:]))
        self.whose = self.play.whose[self.packet]
        frames = stage.frames._replace(
            at=stage.frames.at[self.packet], size=stage.frames.size[self.packet]
        )
        rows = played.rows
        if self.foreign:
            rows = blackbox_proof.restore_tags(rows, played.store, frames, around)
        self.record = Record(
            rows, played.store, frames, self.played, self.log, orders.side[self.packet],
            orders.flow[self.packet], self.began, around, below,
        )  # fmt: skip
        self.seen = fate_proof.seen_by_taps(self.record)
        if self.foreign:
            self.derive_log()

    def derive_log(self) -> None:
        """Derive the log of a third-party box from the tap traces."""
        derived = blackbox_proof.derive_fates(self.record, self.seen)
        self.log = derived.log
        answered = self.played["letters"] > 0
        self.log["rule"][answered | blackbox_proof.delayed_by_box(self.seen)] = 0
        self.record = self.record._replace(log=self.log)
        struck = self.log["rule"] >= 0
        for number in range(len(self.stage.captures)):
            self.shares[number, 0] = int(struck[self.whose == number].sum())
        self.counters |= {
            "dropped_by_box": int((self.log["fate"] == DROPPED).sum()),
            "changed_by_box": derived.changed,
            "injected": int(self.played["letters"].sum()),
        }
        self.box_met = {str(self.foreign): int(self.shares.sum())}

    def replay(
        self, policy: Policy, link: str, seed: int, twins: tuple[Simulation, ...],
        taps: Path | None, begun_at: float,
    ) -> Replay:  # fmt: skip
        """Return the result of the run; raises TestbedError where the run is void."""
        played, missed = self.played, self.missed
        if missed or self.play.state[REFUSED] or self.counters["dropped_by_overload"]:
            raise TestbedError(
                f"frames were lost by the lab itself: {missed} at the ends, "
                f"{int(self.play.state[REFUSED])} not sent, "
                f"{self.counters['dropped_by_overload']} at the box; the run is void, try it again"
            )
        paths: tuple[Path, ...] = ()
        if taps is not None:
            names = [self.name(row) for row in range(len(played))]
            rules = tuple(rule.name for rule in policy.rules)
            rules = (self.foreign,) if self.foreign else rules
            paths = fate_proof.save(taps, self.record, self.seen, rules, names)
        unproven = np.flatnonzero((played["due"] >= 0) & ~self.seen["proven"])
        if len(unproven):
            raise fate_proof.unproven_error(
                self.record, self.seen, unproven, self.name(int(unproven[0]))
            )
        letters, mail = np.zeros(0, LETTER), np.zeros(0, np.uint8)
        if not self.foreign:
            letters, mail = fate_proof.injected(self.record)
        simulations = tuple(
            self.simulation(k, policy, link, seed, letters, mail, twin)
            for k, twin in enumerate(twins)
        )
        if not self.foreign:
            expect_blocking(simulations, twins)
        on_wire = self.seen["times"] > 0
        wire_time = np.where(self.seen["box_in"] > 0, self.seen["box_in"], self.seen["sent"])
        plain = on_wire & (self.seen["came"] > 0) & (link == CAPTURED)
        plain &= (self.log["rule"] < 0) | bool(self.foreign)
        plain &= self.seen["box_in"] > 0
        return Replay(
            simulations,
            twins,
            tuple(self.seen[self.rows_of(k)] for k in range(len(twins))),
            (wire_time - self.seen["due"])[on_wire] / 1000,
            (self.seen["came"] - self.seen["box_in"])[plain] / 1000,
            self.counters | self.ends_counters(),
            self.box_met,
            time.monotonic() - begun_at,
            paths,
        )

    def ends_counters(self) -> dict[str, int]:
        """Return what the ends counted, over all captures."""
        totals = self.play.counts.sum(axis=0)
        counters = {name: int(n) for name, n in zip(COUNTS, totals, strict=True)}
        counters["frames"] = int((self.played["due"] >= 0).sum())
        counters["clipped"] = self.stage.frames.clipped
        counters["strange"] = int(self.play.state[STRANGE])
        return counters

    def name(self, row: int) -> str:
        """Return the name of a sending."""
        number = int(self.played["number"][row])
        again = f", sending {number}" if number > 1 else ""
        return self.stage.name(int(self.packet[row])) + again

    def rows_of(self, number: int) -> Numbers:
        """Return the rows of a capture's sendings, in the order of leaving."""
        rows = np.flatnonzero((self.whose == number) & (self.played["packet"] >= 0))
        order: Numbers = np.lexsort((rows, self.played["left"][rows])).astype(np.int64)
        return rows[order]

    def simulation(
        self, number: int, policy: Policy, link: str, seed: int, letters: Records,
        mail: NDArray[np.uint8], twin: Simulation,
    ) -> Simulation:  # fmt: skip
        """Return the simulation of one capture, times on its own clock."""
        stage, part = self.stage, self.stage.joint.part(number)
        shift = int(stage.joint.begins[number])
        joint, ends = stage.joint.script, self.play.ends
        attempts = self.attempts(number, shift)
        used = moved(ends.used[part], shift)
        fates = summary(attempts, used)
        latches = slice_of([len(one.need) for one in stage.scripts], number)
        counts = self.play.counts[number].copy()
        own_streams = joint.streams._replace(
            stream=joint.streams.stream[part], after=joint.streams.after[part]
        )
        counts[COUNTS.index("stalled")] = count_stalled(own_streams, attempts, used, ends.reached)
        counts[COUNTS.index("waited")] = np.count_nonzero(ends.left[part] < 0)
        own_fields: dict[str, Any] = {}
        if self.foreign:  # its rules are unknown; flows are those of the twin
            held_up = np.zeros(len(fates), bool)
            rows = self.rows_of(number)
            delayed = rows[blackbox_proof.delayed_by_box(self.seen[rows])]
            held_up[self.packet[delayed] - part.start] = True
            own_fields = {"rules": (self.foreign,), "held_up": held_up}
        else:
            own_fields = {"flow": flow_numbers(attempts, len(fates)), "flows": self.flows}
        return replace(
            twin,
            fates=fates,
            met=self.met(number),
            opened=moved(ends.opened[latches], shift),
            counters=self.counters_of(fates, stage.fits[number], counts),
            letters=self.letters_of(part, letters, shift),
            mail=mail,
            others={},
            attempts=attempts,
            **own_fields,
        )

    def letters_of(self, part: slice, letters: Records, shift: int) -> Records:
        """Return the injected frames of one capture, by its packets and on its clock."""
        packet = self.packet[letters["packet"]]
        own_letters: Records = letters[(packet >= part.start) & (packet < part.stop)].copy()
        own_letters["packet"] = self.packet[own_letters["packet"]] - part.start
        own_letters["time"] += shift - self.began
        return own_letters

    def counters_of(
        self, fates: Records, fits: NDArray[np.uint8], counts: Numbers
    ) -> dict[str, int]:
        """Return a capture's counters by name."""
        met = fates["box_time"] >= 0
        counters = {
            name.replace(" ", "_"): int((fates["fate"] == i).sum()) for i, name in enumerate(FATES)
        }
        counters |= {name: int(n) for name, n in zip(COUNTS, counts, strict=True)}
        counters["clamped"] = int((met & (fits == CLAMPED)).sum())
        counters["fragmented"] = int((met & (fits == FRAGMENTED)).sum())
        return counters

    def attempts(self, number: int, shift: int) -> Records:
        """Return ATTEMPT[k], every sending of one capture, on its own clock."""
        part, rows = self.stage.joint.part(number), self.rows_of(number)
        played, log, packet = self.played[rows], self.log[rows], self.packet[rows]
        local = self.stage.joint.script.side[packet] == LOCAL
        met = played["due"] >= 0
        out = np.zeros(len(rows), ATTEMPT)
        out["packet"], out["number"] = packet - part.start, played["number"]
        out["sent"], out["arrived"] = played["left"] + shift, moved(played["arrival"], shift)
        out["box"] = np.where(met, log["in_time"] - self.began + shift, -1)
        out["fate"] = np.where(met, log["fate"], np.where(local, DELIVERED, TOO_BIG))
        out["rule"] = np.where(met, log["rule"], -1)
        out["flow"] = -1 if self.foreign else np.where(met, log["flow"], -1)
        out["letters"], out["forged"] = played["letters"], played["forged"]
        return out

    def met(self, number: int) -> Numbers:
        """Return int64[rules]: packets of a capture that met each rule's match.

        A packet that the kernel handled never appears at the box: it counts as a match of the rule
        that decided its flow.
        """
        own, met = self.whose == number, self.shares[number].copy()
        seen, rule = self.seen[own], self.log["rule"][own]
        below = (seen["times"] > 0) & (seen["box_in"] == 0) & (rule >= 0)
        met += np.bincount(rule[below], minlength=len(met))
        return np.asarray(met)


def moved(times: Numbers, shift: int) -> Numbers:
    """Return times, ns, shifted to another clock; -1 (never) stays."""
    return np.where(times >= 0, times + shift, -1).astype(np.int64)


def slice_of(lengths: Sequence[int], number: int) -> slice:
    """Return the slice of part `number` in a concatenation of parts of these lengths."""
    first = sum(lengths[:number])
    return slice(first, first + lengths[number])


def expect_blocking(live: Sequence[Simulation], twins: Sequence[Simulation]) -> None:
    """Raise TestbedError where a policy that blocks in virtual time blocked nothing live."""
    due = sum(int(one.struck.sum()) for one in twins)
    if due and not any(one.struck.any() for one in live):
        raise TestbedError(
            f"the policy strikes {due} packets of these captures in virtual time and struck none "
            "live: the box did not do its work, and this is no result"
        )
