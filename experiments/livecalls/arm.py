# SPDX-License-Identifier: BSD-3-Clause
"""The live arm: every planned call made by its program under every policy, beside its replay.

On each access network each plan is first called without a policy: that call is the control, and
what the caller's tap saw of it is the capture. Then, policy by policy, the program calls again
while the box acts, and the capture is replayed in virtual time under the same policy. The far ends
have lab addresses, so a rule that lists networks of a service is taken to list them: as if the
called service stood there.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Call
from midcall.errors import TestbedError
from midcall.experiments.measure.intervals import derived_seed
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.spec import Programs
from midcall.testbed.assess import call_verdict as replayed
from midcall.testbed.assess.call_verdict import CallVerdict
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.network.subscriber_line import CALLEE, REGISTRAR, RELAY, Line
from midcall.testbed.live.network.taps import Taps
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.programs import lingering_tcp
from midcall.testbed.programs.calls import caller as callers
from midcall.testbed.programs.calls.media_direction import ways
from midcall.testbed.programs.calls.plan import Plan
from midcall.testbed.programs.calls.report import Account
from midcall.testbed.programs.calls.verdict import Called, Judged, judge
from midcall.testbed.programs.recording.calls import call_of
from midcall.testbed.programs.recording.recorder import Cast
from midcall.testbed.programs.recording.session import ROOM, UNKNOWN, hardware_of, packets_at
from midcall.testbed.programs.recording.socket_owner import Witness
from midcall.testbed.programs.recording.truth import Truth
from midcall.testbed.replay.simulator import simulate

#: How long a call takes beyond its planned seconds, and a change of policy: an estimate.
CALL_OVERHEAD_S, BOX_S = 3.5, 3.0
#: A box is at rest when nothing came for so long; waited for no longer than that.
QUIET_S, SETTLE_S = 0.25, 3.0
#: Operator and hypothesis of calls without a policy.
NOBODY = "none"


class Made(NamedTuple):
    """A call that was made, and what the caller's tap saw of it."""

    called: Called
    packets: Packets


class Captured(NamedTuple):
    """A control: the call without a policy, as a capture whose call is known."""

    made: Made
    call: Call | None


class Result(NamedTuple):
    """One plan under one cell's policy. replay: None where only the live arm was asked for.

    error: why there is no result, "" where there is one.
    """

    cell: Cell
    plan: Plan
    repeat: int
    made: Made | None
    control: Captured | None
    judged: Judged | None
    replay: CallVerdict | None
    seconds: float
    error: str = ""


def plans(asked: Programs) -> list[Plan]:
    """Return the plans that a spec asks for."""
    return [Plan(**one.model_dump()) for one in asked.calls]


def null(cells: Sequence[Cell]) -> Cell:
    """Return the cell without a policy beside others: its calls show what chance alone does."""
    title = "No policy again, after the others"
    return cells[-1]._replace(operator=NOBODY, hypothesis=NOBODY, title=title, policy=EMPTY)


def lacking(asked: Programs) -> list[str]:
    """Return what this machine lacks for the programs of a spec, a sentence each."""
    from midcall.testbed.live.network import network

    names = dict.fromkeys(plan.caller for plan in plans(asked))
    found = [f"live: {line}" for line in network.missing()]
    return found + [f"caller {name}: {line}" for name in names for line in callers.missing(name)]


def estimate(asked: Programs, grid: Sequence[Cell]) -> float:
    """Return roughly how many seconds the calls of a grid take."""
    calls = sum(plan.seconds + CALL_OVERHEAD_S for plan in plans(asked))
    return rounds(asked, grid) * (calls + BOX_S)


def count(asked: Programs, grid: Sequence[Cell]) -> int:
    """Return how many calls a grid takes, controls counted."""
    return rounds(asked, grid) * len(asked.calls)


def rounds(asked: Programs, grid: Sequence[Cell]) -> int:
    """Return how often all plans are called: under every policy, and twice or more under none."""
    cells = [cell for cell in grid if cell.documented]
    lines = len({cell.access for cell in cells})
    return (len(cells) + lines) * asked.repeats + lines


def results(
    asked: Programs, grid: Sequence[Cell], seed: int, step: Callable[[str], None]
) -> Iterator[Result]:
    """Yield the result of every plan under every documented cell, one access after the other.

    step: is told of every call that was made.
    """
    cells = [cell for cell in grid if cell.documented]
    for access in dict.fromkeys(cell.access for cell in cells):
        own = [cell for cell in cells if cell.access == access]
        with Network() as network, Line(network, access) as line, Cast(line) as cast:
            yield from Place(line, cast, access, asked, seed, step).results(own)


class Place:
    """One access network: its line, its programs, and the controls that were made there."""

    def __init__(
        self,
        line: Line,
        cast: Cast,
        access: str,
        asked: Programs,
        seed: int,
        step: Callable[[str], None],
    ) -> None:
        self.line, self.cast, self.access, self.asked, self.step = line, cast, access, asked, step
        self.seed = derived_seed(seed, "programs", access)
        self.controls: dict[Plan, Captured | str] = {}

    def results(self, cells: Sequence[Cell]) -> Iterator[Result]:
        """Yield the results of this access network's cells."""
        chosen = plans(self.asked)
        with self.box(EMPTY) as box:
            self.controls = {plan: self.control(plan, box) for plan in chosen}
        for repeat in range(self.asked.repeats):
            for cell in (*cells, null(cells)):
                policy = at_home(cell.policy)
                with self.box(policy) as box:
                    for plan in chosen:
                        yield self.result(cell, plan, repeat, policy, box)

    def box(self, policy: Policy) -> Box:
        """Return a box with a policy and the access network's own delay and loss."""
        return Box(self.line.network, policy, self.seed, access=self.access, link="preset")

    def control(self, plan: Plan, box: Box) -> Captured | str:
        """Return the control of a plan, or why there is none."""
        try:
            made = self.call(plan, box)
        except TestbedError as error:
            self.cast.dismiss(plan.caller)
            return str(error)
        finally:
            self.step(f"{self.access} {plan.name}, control")
        account = made.called.account
        if not account.connected or account.error:
            self.cast.dismiss(plan.caller)
            return f"the control did not work: {account.error or 'not connected'}"
        labels, _ = Truth(self.line, Witness(self.line), (), account).labels(made.packets)
        known = any(row.call for row in labels)
        return Captured(made, call_of(account, made.packets, labels) if known else None)

    def result(self, cell: Cell, plan: Plan, repeat: int, policy: Policy, box: Box) -> Result:
        """Make one call under a policy, and replay its control under the same."""
        begin = time.monotonic()
        control = self.controls[plan]
        if isinstance(control, str):
            return Result(cell, plan, repeat, None, None, None, None, 0.0, control)
        try:
            made = self.call(plan, box)
            judged = judge(made.called, control.made.called, policy)
            replay = self.replay(control, policy)
        except TestbedError as error:
            self.cast.dismiss(plan.caller)
            took = time.monotonic() - begin
            return Result(cell, plan, repeat, None, control, None, None, took, str(error))
        finally:
            self.step(f"{cell.hypothesis} {plan.name}")
        if made.called.account.error:
            self.cast.dismiss(plan.caller)
        took = time.monotonic() - begin
        return Result(cell, plan, repeat, made, control, judged, replay, took)

    def call(self, plan: Plan, box: Box) -> Made:
        """Make one call while the taps look. Raises TestbedError."""
        lingering_tcp.end(self.line)
        settle(box)
        before = box.met()
        one = self.cast.caller(plan.caller)
        with Taps(self.line.network, UNKNOWN, 0, more=ROOM) as taps:
            account: Account = callers.made(one, plan)
            settle(box)
            taps.stop()
            rows, store = taps.seen().copy(), taps.store
        met = {name: count - before[name] for name, count in box.met().items()}
        held = ways(account, rows, store)
        near = hardware_of(self.line, 0)
        packets = packets_at(rows[rows["tap"] == 0], store, near)
        return Made(Called(account, held, met), trimmed(packets))

    def replay(self, control: Captured, policy: Policy) -> CallVerdict | None:
        """Return the verdict on the control's capture under a policy, in virtual time."""
        if "replay" not in self.asked.arms or control.call is None or not policy.rules:
            return None
        packets, calls = control.made.packets, [control.call]
        played, null = (
            simulate(packets, calls, (), one, self.access, self.seed, addressing="keep")
            for one in (policy, None)
        )
        return replayed.judge(played, null, control.call)


def settle(box: Box) -> None:
    """Wait until a box has nothing left to decide on, so that no packet counts for another call."""
    until, seen = time.monotonic() + SETTLE_S, -1
    while time.monotonic() < until:
        told = box.counters()
        if told["received"] == seen and not told["holding"]:
            return
        seen = told["received"]
        time.sleep(QUIET_S)


def trimmed(packets: Packets) -> Packets:
    """Return packets whose octets are theirs alone, without the room that a tap kept."""
    sizes = packets.captured.astype(np.int64)
    offset = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    parts = [
        packets.data[at : at + size]
        for at, size in zip(packets.offset.tolist(), sizes.tolist(), strict=True)
    ]
    data = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
    return packets._replace(data=data, offset=offset[:-1])


def at_home(policy: Policy) -> Policy:
    """Return a policy whose lists of addresses hold the lab's callee, relay and registrar."""
    far = [f"{address}/32" for address in (CALLEE, RELAY, REGISTRAR)]
    sets = tuple(one.model_copy(update={"addresses": far}) for one in policy.sets)
    names = {one.name for one in sets}

    def home(rule: Any) -> Any:
        own = [word for word in rule.match.addresses if word not in names]
        if not own:
            return rule
        kept = [word for word in rule.match.addresses if word in names]
        match = rule.match.model_copy(update={"addresses": kept + far})
        return rule.model_copy(update={"match": match})

    return dataclasses.replace(policy, rules=tuple(map(home, policy.rules)), sets=sets)
