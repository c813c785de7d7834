# SPDX-License-Identifier: BSD-3-Clause
"""Which packets of a unit many rules would strike, each alone: predictions of hypotheses.

A unit is played once on a line without a box and without noise, and each packet is classified as it
passes the place of the box. Then every rule decides every packet, with `decide` itself. Of streams,
what is struck decides what still arrives: octets behind a gap do not.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.numbers import TCP
from midcall.classifier.state.flow_table import Records
from midcall.classifier.state.packet_fields import SIGN_PAYLOAD_SIZE
from midcall.testbed.middlebox.decide import DELIVERED, decide
from midcall.testbed.middlebox.rule_table import FOREVER, RULE, UP, RuleTable, table
from midcall.testbed.network.link import STATE
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.oracle import DOWN
from midcall.testbed.probing.probe import Ends, Probe, flows_of
from midcall.testbed.probing.sockets import play
from midcall.testbed.probing.virtual_line import VirtualSockets

Numbers = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Rules that are decided with one memory of subjects.
TOGETHER = 600
#: Rows of that memory.
ROOM = 1 << 17


class Passing(NamedTuple):
    """A unit as it passes the place of the box.

    data, offset: octets of the frames; time: int64[m], ns; side: int64[m]; flow: int64[m], number
    of the flow; states: FLOW[m], its record after each packet; signs: int64[m, SIGNS]; packet:
    int64[m], index in the unit, -1 for packets of the kernels; ends: flows of the unit by number.
    """

    unit: Probe
    data: Octets
    offset: Numbers
    time: Numbers
    side: Numbers
    flow: Numbers
    states: Records
    signs: NDArray[np.int64]
    packet: Numbers
    ends: tuple[Ends, ...]

    def counts(self, at: int, way: str | None = None) -> tuple[int, int]:
        """Return packets and IP octets of a flow up to a packet, inclusive, as the box counts them.

        at: number of the packet among those that pass; way: "up" or "down" for one direction.
        """
        state = self.states[at]
        first = int(np.flatnonzero(self.flow == self.flow[at])[0])
        words = ["up", "down"]  # in a record, "up" is what the end sends that began the flow
        if way is not None:
            words = ["up" if (way == "up") == (self.side[first] == UP) else "down"]
        packets, octets = (sum(int(state[f"{key}_{word}"]) for word in words)
                           for key in ("packets", "bytes"))  # fmt: skip
        return packets, octets


class _Met(NamedTuple):
    """One packet where the box would stand, its flow's record after it, and its payload's size."""

    frame: bytes
    time: int
    flow: int
    state: Any
    signs: NDArray[np.int64]
    ends: Ends
    up: bool
    octets: int


class _Recorder(VirtualSockets):
    """A line without a box that notes each packet where the box would stand.

    lag: what packets from the subscriber take longer than on the access network alone, in ns.
    """

    def __init__(self, access: str, lag: int) -> None:
        super().__init__(EMPTY, access, ideal=True)
        self.rows: list[_Met] = []
        self.lag = lag
        self.seen = {True: True, False: True}  # each packet is classified

    def access(self, side: int, size: int, time: int, number: int) -> int:
        out = super().access(side, size, time, number)
        return out + self.lag if side == UP and out >= 0 else out

    def meet(self, frame: bytes, up: bool, news: Any, number: int) -> None:
        super().meet(frame, up, news, number)
        flow = self.last_flow
        if flow >= 0:
            state, signs = self.engine.tables.flows[flow].copy(), self.engine.signs.copy()
            octets = len(news.payload)
            self.rows.append(_Met(frame, self.clock, flow, state, signs, news.ends, up, octets))


def passing(unit: Probe, access: str, patience: int, lag: int = 0) -> Passing:
    """Return a unit as it passes the place of the box.

    patience: how long streams send again, in ns; lag: what packets from the subscriber take longer
    than on the access network alone, in ns.
    """
    line = _Recorder(access, lag)
    play(line, unit, patience)
    rows = line.rows
    places: dict[tuple[Ends, bool], list[int]] = defaultdict(list)
    for at, one in enumerate(unit):
        if one.payload or one.ends.proto != TCP:
            places[one.ends, one.up].append(at)
    done: dict[tuple[Ends, bool], int] = defaultdict(int)
    taken: dict[tuple[Ends, bool], int] = defaultdict(int)
    packet = []
    for row in rows:
        key = row.ends, row.up
        listed = places[key]
        if row.ends.proto != TCP:
            packet.append(listed[done[key]] if done[key] < len(listed) else -1)
            done[key] += 1
            continue
        if not row.octets or done[key] >= len(listed):
            packet.append(-1)
            continue
        at = listed[done[key]]
        packet.append(at)
        taken[key] += int(row.signs[SIGN_PAYLOAD_SIZE])
        if taken[key] >= len(unit[at].payload):
            taken[key] = 0
            done[key] += 1
    frames = [row.frame for row in rows]
    sizes = np.array([0, *map(len, frames)], np.int64)
    numbers = {row.flow: row.ends for row in rows}
    count = max(numbers, default=-1) + 1
    some = next(iter(numbers.values())) if numbers else None
    return Passing(
        unit,
        np.frombuffer(b"".join(frames), np.uint8).copy(),
        np.cumsum(sizes)[:-1].astype(np.int64),
        np.array([row.time for row in rows], np.int64),
        np.array([UP if row.up else DOWN for row in rows], np.int64),
        np.array([row.flow for row in rows], np.int64),
        np.array([row.state for row in rows], line.engine.tables.flows.dtype),
        np.array([row.signs for row in rows], np.int64).reshape(len(rows), -1),
        np.array(packet, np.int64),
        tuple(numbers.get(number, some) for number in range(count)),  # type: ignore[misc]
    )


class Strikes(NamedTuple):
    """What rules would strike of a unit.

    struck: bool[rules, packets of the unit]; lost: the same where the act is a drop, with what
    streams no longer deliver; opened: bool[rules, flows of the unit], whether a rule strikes a
    packet over TCP that would be answered by a forged one.
    """

    struck: Bools
    lost: Bools
    opened: Bools


def strikes(
    through: Passing, rules: Sequence[Rule], late: NDArray[np.int64] | int = FOREVER
) -> Strikes:  # fmt: skip
    """Return what each of some rules, alone, would strike of a unit.

    The acts of the rules must be drop, stall or drop-media, or all of them the same police or
    shape, of which packets count that are dropped or delayed by more than `late`, in ns: of all
    or, as int64[frames], of each.
    """
    flows = flows_of(through.unit)
    count = len(through.packet)
    hit = np.zeros((len(rules), count), np.uint8)
    limits = np.full(count, late, np.int64)
    for first in range(0, len(rules), TOGETHER):
        part = rules[first : first + TOGETHER]
        hit[first : first + len(part)] = _decided(through, part, limits)
    bools = hit.astype(bool)
    struck = np.zeros((len(rules), len(through.unit)), bool)
    for at in range(count):
        if through.packet[at] >= 0:
            struck[:, through.packet[at]] |= bools[:, at]
    lost = struck.copy()
    opened = np.zeros((len(rules), len(flows)), bool)
    for number, ends in enumerate(flows):
        if ends.proto == TCP:
            own = [at for at in range(count) if through.ends[int(through.flow[at])] == ends]
            _of_stream(through, own, bools, lost, ends)
            answered = [
                at for at in own
                if through.packet[at] >= 0 or at == own[0] or _is_syn(through, at)
            ]  # fmt: skip
            if answered:
                opened[:, number] = bools[:, answered].any(axis=1)
    return Strikes(struck, lost, opened)


def _is_syn(through: Passing, at: int) -> bool:
    """Return whether a packet of the kernels opens a stream: the first one of its direction."""
    same = (through.flow == through.flow[at]) & (through.side == through.side[at])
    return bool(np.flatnonzero(same)[0] == at)


def _of_stream(through: Passing, own: Sequence[int], hit: Bools, lost: Bools, ends: Ends) -> None:
    """Mark the packets of a stream that do not arrive: those behind a struck one of their way, and
    all where the handshake is struck."""
    closed = np.zeros((len(hit), 2), bool)
    begun = [False, False]
    for at in own:
        side = int(through.side[at])
        if not begun[side]:
            begun[side] = True
            closed |= hit[:, at : at + 1]  # SYN or SYN-ACK
        elif through.packet[at] >= 0:
            closed[:, side] |= hit[:, at]
        if through.packet[at] >= 0:
            lost[:, through.packet[at]] |= closed[:, side]
    passed = set(through.packet.tolist())
    for at, one in enumerate(through.unit):
        if one.ends == ends and at not in passed:
            lost[:, at] = False


class SameRules:
    """Rules as a key of a cache: equal to others if they are the same objects."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.key = tuple(map(id, self.rules))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameRules) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@functools.lru_cache(maxsize=32)
def _table(same: SameRules) -> RuleTable:
    """Return the table of rules that are enforced with chance 1, each with a name of its own.

    The units of one question meet the same rules, and a table of 600 rules takes some 200 ms.
    """
    named = tuple(
        rule.model_copy(update={"name": f"h{number}", "probability": 1.0})
        for number, rule in enumerate(same.rules)
    )
    return table(Policy(named), 0)


def _decided(
    through: Passing, rules: Sequence[Rule], late: NDArray[np.int64]
) -> NDArray[np.uint8]:  # fmt: skip
    """Return uint8[rules, frames]: 1 where a rule would not deliver a packet, or late."""
    whole = _table(SameRules(rules))
    one = np.zeros(1, RULE)
    memory = np.zeros(ROOM, STATE) if whole.rules["remembers"].any() else whole.memory
    box = whole._replace(
        rules=one, links=whole.links[:1].copy(), memory=memory, met=np.zeros(1, np.int64)
    )
    marks = np.zeros(int(through.flow.max(initial=0)) + 1, np.int64)
    out = np.zeros((len(rules), len(through.packet)), np.uint8)
    decide_all(
        box, whole.rules.view(np.uint8).reshape(len(rules), RULE.itemsize), one.view(np.uint8),
        through.data, through.offset, through.time, through.side, through.flow, through.states,
        through.signs, marks, np.zeros(through.signs.shape[1], np.int64), late, out,
    )  # fmt: skip
    return out


@kernel
def decide_all(
    box: RuleTable,
    rules: NDArray[np.uint8],
    one: Octets,
    data: Octets,
    offset: Numbers,
    time: Numbers,
    side: Numbers,
    flow: Numbers,
    states: Records,
    signs: NDArray[np.int64],
    marks: Numbers,
    scratch: Numbers,
    late: Numbers,
    out: NDArray[np.uint8],
) -> None:
    """Let each rule alone decide each packet; out[rule, packet] becomes 1 where it is not
    delivered, or delayed by more than late[packet].

    rules: uint8[rules, RULE.itemsize]; one: the octets of box.rules, of a single row.
    """
    for number in range(len(rules)):
        for octet in range(len(one)):
            one[octet] = rules[number, octet]
        for at in range(len(marks)):
            marks[at] = 0
        for at in range(len(offset)):
            state = states[at]
            state["mark"] = marks[flow[at]]
            for word in range(len(scratch)):
                scratch[word] = signs[at, word]
            fate, _, release = decide(
                box, state, side[at], data[offset[at] :], scratch, time[at], I(at)
            )
            marks[flow[at]] = state["mark"]
            out[number, at] = 0 if fate == DELIVERED and release - time[at] <= late[at] else 1
