# SPDX-License-Identifier: BSD-3-Clause
"""The live arm: every planned call is made by its program under every policy, and also replayed.

On each access network each plan is first called without a policy: that call is the control, and the
packets at the caller's tap are the capture. Then, policy by policy, the program calls again while
the box acts, and the capture is replayed in virtual time under the same policy. The far ends have
lab addresses, so a rule that lists networks of a service is applied to them as if they belonged to
that service.
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
from midcall.testbed.programs.calls.verdict import Called, CallOutcome, judge
from midcall.testbed.programs.recording.calls import call_of
from midcall.testbed.programs.recording.recorder import Cast
from midcall.testbed.programs.recording.session import ROOM, UNKNOWN, hardware_of, packets_at
from midcall.testbed.programs.recording.socket_owner import SocketOwners
from midcall.testbed.programs.recording.truth import Truth
from midcall.testbed.replay.simulator import simulate

#: Estimated time of a call beyond its planned seconds, and of a change of policy, in s.
CALL_OVERHEAD_S, BOX_S = 3.5, 3.0
#: A box is idle after so many seconds without packets; the wait for it is limited to SETTLE_S.
QUIET_S, SETTLE_S = 0.25, 3.0
#: Operator and hypothesis of calls without a policy.
NO_OPERATOR = "none"


class Made(NamedTuple):
    """A call that was made, and the packets at the caller's tap."""

    called: Called
    packets: Packets


class Captured(NamedTuple):
    """A control: the call without a policy, as a capture with the truth of its call."""

    made: Made
    call: Call | None


class Result(NamedTuple):
    """One plan under one cell's policy. replay: None if only the live arm was requested.

    error: the reason why there is no result, "" if there is one.
    """

    cell: Cell
    plan: Plan
    repeat: int
    made: Made | None
    control: Captured | None
    judged: CallOutcome | None
    replay: CallVerdict | None
    seconds: float
    error: str = ""


def plans(programs: Programs) -> list[Plan]:
    """Return the plans of a spec."""
    return [Plan(**one.model_dump()) for one in programs.calls]


def null(cells: Sequence[Cell]) -> Cell:
    """Return the cell without a policy after others: its calls show random variation alone."""
    title = "No policy again, after the others"
    return cells[-1]._replace(
        operator=NO_OPERATOR, hypothesis=NO_OPERATOR, title=title, policy=EMPTY
    )


def lacking(programs: Programs) -> list[str]:
    """Return what is missing on this machine for the programs of a spec, a sentence each."""
    from midcall.testbed.live.network import network

    names = dict.fromkeys(plan.caller for plan in plans(programs))
    missing = [f"live: {line}" for line in network.missing()]
    return missing + [f"caller {name}: {line}" for name in names for line in callers.missing(name)]


def estimate(programs: Programs, grid: Sequence[Cell]) -> float:
    """Return an estimate of the duration of the calls of a grid, in s."""
    calls = sum(plan.seconds + CALL_OVERHEAD_S for plan in plans(programs))
    return rounds(programs, grid) * (calls + BOX_S)


def count(programs: Programs, grid: Sequence[Cell]) -> int:
    """Return how many calls a grid needs, controls included."""
    return rounds(programs, grid) * len(programs.calls)


def rounds(programs: Programs, grid: Sequence[Cell]) -> int:
    """Return how often all plans are called: under every policy, and at least twice under none."""
    cells = [cell for cell in grid if cell.documented]
    lines = len({cell.access for cell in cells})
    return (len(cells) + lines) * programs.repeats + lines


def results(
    programs: Programs, grid: Sequence[Cell], seed: int, step: Callable[[str], None]
) -> Iterator[Result]:
    """Yield the result of every plan under every documented cell, one access network after the
    other.

    step: called for every call that was made.
    """
    cells = [cell for cell in grid if cell.documented]
    for access in dict.fromkeys(cell.access for cell in cells):
        own = [cell for cell in cells if cell.access == access]
        with Network() as network, Line(network, access) as line, Cast(line) as cast:
            yield from Place(line, cast, access, programs, seed, step).results(own)


class Place:
    """One access network: its line, its programs, and its controls."""

    def __init__(
        self,
        line: Line,
        cast: Cast,
        access: str,
        programs: Programs,
        seed: int,
        step: Callable[[str], None],
    ) -> None:
        self.line, self.cast, self.access, self.programs, self.step = (
            line,
            cast,
            access,
            programs,
            step,
        )
        self.seed = derived_seed(seed, "programs", access)
        self.controls: dict[Plan, Captured | str] = {}

    def results(self, cells: Sequence[Cell]) -> Iterator[Result]:
        """Yield the results of this access network's cells."""
        chosen = plans(self.programs)
        with self.box(EMPTY) as box:
            self.controls = {plan: self.control(plan, box) for plan in chosen}
        for repeat in range(self.programs.repeats):
            for cell in (*cells, null(cells)):
                policy = at_home(cell.policy)
                with self.box(policy) as box:
                    for plan in chosen:
                        yield self.result(cell, plan, repeat, policy, box)

    def box(self, policy: Policy) -> Box:
        """Return a box with a policy and the access network's own delay and loss."""
        return Box(self.line.network, policy, self.seed, access=self.access, link="preset")

    def control(self, plan: Plan, box: Box) -> Captured | str:
        """Return the control of a plan, or the reason why there is none."""
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
        labels, _ = Truth(self.line, SocketOwners(self.line), (), account).labels(made.packets)
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
        """Make one call while the taps record. Raises TestbedError."""
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
        directions = ways(account, rows, store)
        hardware = hardware_of(self.line, 0)
        packets = packets_at(rows[rows["tap"] == 0], store, hardware)
        return Made(Called(account, directions, met), trimmed(packets))

    def replay(self, control: Captured, policy: Policy) -> CallVerdict | None:
        """Return the verdict on the control's capture under a policy, in virtual time."""
        if "replay" not in self.programs.arms or control.call is None or not policy.rules:
            return None
        packets, calls = control.made.packets, [control.call]
        simulation, null = (
            simulate(packets, calls, (), one, self.access, self.seed, addressing="keep")
            for one in (policy, None)
        )
        return replayed.judge(simulation, null, control.call)


def settle(box: Box) -> None:
    """Wait until a box is idle, so that no packet is counted for another call."""
    until, received = time.monotonic() + SETTLE_S, -1
    while time.monotonic() < until:
        counters = box.counters()
        if counters["received"] == received and not counters["holding"]:
            return
        received = counters["received"]
        time.sleep(QUIET_S)


def trimmed(packets: Packets) -> Packets:
    """Return packets with a buffer of their octets alone, without the unused room of a tap."""
    sizes = packets.captured.astype(np.int64)
    offset = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    parts = [
        packets.data[at : at + size]
        for at, size in zip(packets.offset.tolist(), sizes.tolist(), strict=True)
    ]
    data = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
    return packets._replace(data=data, offset=offset[:-1])


def at_home(policy: Policy) -> Policy:
    """Return a policy whose address lists contain the lab's callee, relay and registrar."""
    lab_networks = [f"{address}/32" for address in (CALLEE, RELAY, REGISTRAR)]
    sets = tuple(one.model_copy(update={"addresses": lab_networks}) for one in policy.sets)
    names = {one.name for one in sets}

    def home(rule: Any) -> Any:
        networks = [word for word in rule.match.addresses if word not in names]
        if not networks:
            return rule
        others = [word for word in rule.match.addresses if word in names]
        match = rule.match.model_copy(update={"addresses": others + lab_networks})
        return rule.model_copy(update={"match": match})

    return dataclasses.replace(policy, rules=tuple(map(home, policy.rules)), sets=sets)
