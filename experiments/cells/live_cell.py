# SPDX-License-Identifier: BSD-3-Clause
"""The live bench of a run: its cells played on an emulated network, with their virtual twins.

One play is one policy on one access network with every capture of the run at once, in real time.
Verdicts are the difference from a play without a policy, as in virtual time; each is then compared
with the verdict on the twin, which testbed.live.replay.run makes of the same packets, addresses and
seed. Live outcomes are measurements: they are never taken from the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import Packets, read
from midcall.captures.truth.calls import Call
from midcall.experiments.cells.virtual_cell import (
    Outcome,
    Unit,
    call_entry,
    capture_key,
    collateral_of,
    count_hits,
    no_hits,
    reads,
    rules_key,
    unit_key,
)
from midcall.experiments.measure import collateral, parity
from midcall.experiments.measure.intervals import derived_seed
from midcall.experiments.results.tables import CallEntry
from midcall.experiments.spec.corpus import Item, counts
from midcall.experiments.spec.spec import OWN
from midcall.experiments.spec.truncate import cut

if TYPE_CHECKING:
    from midcall.testbed.live.replay.outcome import Replay
    from midcall.testbed.policy.operator import Policy

#: Seconds that a play takes beyond its longest capture: network, box, and packets in flight.
#: live-morocco's 18 plays of 16 s took 6.6 min and live-smoke's 4 of 9 s 56 s on a quiet machine,
#: reading and timing (10 and 4 s) included. Other work makes it longer.
PLAY_OVERHEAD_S = 5.0


class Middlebox(TypedDict, total=False):
    """The option of a live play for a middlebox that is not the lab's own."""

    middlebox: str


class Opened(NamedTuple):
    """A capture of the run, cut and ready."""

    item: Item
    packets: Packets


class Play(NamedTuple):
    """Measurements of one play, without its verdicts.

    path: the middlebox as the live bench names it; fates: packets sent and proven; error_us,
    added_us: float64[packets], of testbed.live.replay.outcome.Replay; counters: the box's and the
    ends'.
    """

    path: str
    access: str
    fates: dict[str, int]
    error_us: NDArray[np.float64]
    added_us: NDArray[np.float64]
    counters: dict[str, int]
    seconds: float


class LiveBench:
    """The captures of a run and the plays without a policy, one access network at a time."""

    def __init__(
        self,
        items: Sequence[Item],
        seed: int,
        link: str,
        seconds: float | None,
        middlebox: str,
        say: Callable[[str], None],
    ) -> None:
        """Open and cut every capture; say: called with the calls that the cut leaves out, and with
        the quality of the calls while they are played.
        """
        self.seed, self.link, self.middlebox, self.say = seed, link, middlebox, say
        self.items, self.seconds = list(items), seconds
        self.opened: list[Opened] = []
        for item in items:
            part = cut(item, read(item.path), seconds)
            self.opened.append(Opened(part.item, part.packets))
            if part.dropped:
                say(f"cut: {item.capture.name}: begin later: calls {', '.join(part.dropped)}")
        self.played: list[Play] = []
        self._access = ""
        self._control: Replay | None = None

    def unit(self, policy: Policy | None, access: str, reuse: bool = False) -> Unit:
        """Return a policy on an access network as a unit; a live play is never reused."""
        del reuse
        rules = rules_key(policy, access, self.seed, self.link, self.seconds)
        captures = [capture_key(item) for item in self.items]
        return Unit(unit_key(rules, captures), rules, policy, access, {})

    def play(self, policy: Policy | None, access: str, middlebox: str = OWN) -> Replay:
        """Play every capture at once; returns a live Replay. Raises TestbedError."""
        from midcall.testbed.live.replay.run import Capture, simulate

        seed = derived_seed(self.seed, "live", access)
        captures = [
            Capture(one.item.capture.name, one.packets, one.item.calls) for one in self.opened
        ]
        other: Middlebox = {} if middlebox == OWN else {"middlebox": middlebox}
        rule = middlebox if middlebox != OWN else policy.name if policy else "no rule"
        self.say(f"{access}, {rule}:")
        played = simulate(
            captures, policy, access, seed, link=self.link, say=lambda line: self.say(f"  {line}"),
            **other,
        )  # fmt: skip
        self.played.append(play_of(played, access, middlebox, policy))
        return played

    def control(self, access: str) -> Replay:
        """Return the play without a policy."""
        if access != self._access:
            self._access, self._control = access, None
        if self._control is None:
            self._control = self.play(None, access)
        return self._control

    def outcome(self, unit: Unit) -> Outcome:
        """Do one play. Raises TestbedError where it is void, e.g. where the box struck nothing."""
        begin = time.perf_counter()
        control = self.control(unit.access)
        played = self.play(unit.policy, unit.access, self.middlebox)
        calls: list[CallEntry] = []
        hits = no_hits()
        for at, one in enumerate(self.opened):
            for call in one.item.calls:
                calls.append(self.entry(one.item, call, played, control, at))
            readable = not reads(unit.policy) & set(one.item.capture.changed)
            if counts(one.item):
                live = played.simulations[at], control.simulations[at]
                own = hits[one.item.capture.group]
                count_hits(one.item, one.packets, *live, own, readable)
        return {
            "key": unit.key,
            "calls": calls,
            "collateral": collateral_of(collateral.merged(hits)),
            "groups": collateral.of_groups(hits),
            "seconds": time.perf_counter() - begin,
        }

    def entry(self, item: Item, call: Call, played: Replay, control: Replay, at: int) -> CallEntry:
        """Return a call's verdict as plain values, with its twin's and the proof of its packets.

        at: the position of the capture in the play.
        """
        from midcall.testbed.assess.call_verdict import judge

        live, null = played.simulations[at], control.simulations[at]
        changed = item.capture.changed
        entry = call_entry(item, call, judge(live, null, call, changed), live, null)
        own = parity.packets_of(live, call)[live.attempts["packet"]]
        attempts = played.seen[at][own]
        sent = attempts["times"] > 0
        entry["packets"] = int(sent.sum())
        entry["proven"] = int((sent & attempts["proven"]).sum())
        entry["twin"], entry["cause"] = None, ""
        if self.middlebox == OWN:
            other, other_null = played.twins[at], control.twins[at]
            entry["twin"] = str(judge(other, other_null, call, changed).verdict)
            if entry["twin"] != entry["verdict"]:
                entry["cause"] = parity.cause(live, other, null, other_null, call)
        return entry


def play_of(played: Replay, access: str, middlebox: str, policy: Policy | None) -> Play:
    """Return the measurements of a play."""
    path = middlebox.partition(":")[0]
    if middlebox == OWN:
        path = "classifier" if policy is not None and policy.rules else "empty"
    return Play(
        path,
        access,
        dict(played.fates),
        np.asarray(played.error_us, np.float64),
        np.asarray(played.added_us, np.float64),
        dict(played.counters),
        float(played.seconds),
    )
