# SPDX-License-Identifier: BSD-3-Clause
"""Excerpts: the first seconds of a capture's call, with the set-up that it needs, renumbered.

A live replay runs in real time, so it has to be short. An excerpt keeps all packets from the first
packet of the capture's first call on, for some seconds. Of the time before, it keeps only what that
call waits for (its signalling and its DNS questions), with long pauses shortened. A capture without
a call is cut to its first seconds. Calls and labels follow, renumbered to the frames that are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import DNS_PORT
from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Call, Gate
from midcall.captures.truth.labels import Label
from midcall.errors import TestbedError
from midcall.testbed.replay.packet_index import PacketIndex, index_packets

Numbers = NDArray[np.int64]

SECOND = 1_000_000_000
#: LEAD: longest time before a call, in ns; PAUSE: longest pause left in it, less where the pauses
#: together would exceed LEAD.
LEAD, PAUSE, SHORTEST = 3 * SECOND, SECOND // 4, SECOND // 1000


class Excerpt(NamedTuple):
    """A part of a capture as a capture: frame k of it is frame `frames[k - 1]` of the whole.

    calls: those that have a packet of their own flows in it, others are left out.
    """

    packets: Packets
    calls: list[Call]
    labels: list[Label]
    frames: Numbers


def excerpt(
    packets: Packets, calls: Sequence[Call], labels: Sequence[Label], seconds: float
) -> Excerpt:
    """Return the first `seconds` of a capture's first call, or of a capture without one.

    A capture that is not longer is returned whole. Raises TestbedError unless seconds > 0.
    """
    if not seconds > 0:
        raise TestbedError(f"seconds: got {seconds:g}, expected more than 0")
    span = round(seconds * SECOND)
    if not packets.total or packets.time.max() - packets.time.min() <= span:
        return Excerpt(packets, list(calls), list(labels), np.arange(1, packets.total + 1))
    index = index_packets(packets)
    begin, awaited = beginning(index, calls)
    time = packets.time
    inside = (time >= begin) & (time < begin + span)
    before = (time < begin) & np.isin(index.facts["flow"], awaited)
    rows = np.flatnonzero(inside | before)
    times = shortened(time[rows], begin)
    renumbered = Renumbered(index, rows)
    return Excerpt(
        packets.take(rows)._replace(time=times),
        [it for call in calls if (it := renumbered.call(call)) is not None],
        [one for label in labels if (one := renumbered.label(label)) is not None],
        rows + 1,
    )


def flow_numbers(index: PacketIndex, frames: Iterable[int]) -> Numbers:
    """Return the flows (numbers of the packet index) whose first frames are given."""
    numbers = [index.facts["flow"][one - 1] for one in frames if 0 < one <= len(index.facts)]
    distinct = np.unique(np.array(numbers, np.int64))
    return distinct[distinct >= 0]


def beginning(index: PacketIndex, calls: Sequence[Call]) -> tuple[int, Numbers]:
    """Return when the first call's own packets begin, and the flows that calls wait for.

    Without a call: when the capture begins, and no flow.
    """
    flow, time = index.facts["flow"], index.packets.time
    begins = []
    for call in calls:
        own = np.isin(flow, flow_numbers(index, (*call.setup, *call.media, *call.control)))
        if own.any():
            begins.append((int(time[own].min()), call))
    if not begins:
        return int(time.min()), np.zeros(0, np.int64)
    begin, call = min(begins, key=lambda one: one[0])
    flows = index.flows
    names = (flows["source_port"] == DNS_PORT) | (flows["target_port"] == DNS_PORT)
    signalling = flow_numbers(index, call.signalling)
    return begin, np.concatenate((np.flatnonzero(names), signalling))


def shortened(time: Numbers, begin: int) -> Numbers:
    """Return times (ns) with the pauses before `begin` shortened until they fit into LEAD."""
    early = np.flatnonzero(time < begin)
    if not len(early):
        return time
    order = early[np.argsort(time[early], kind="stable")]
    gaps = np.diff(np.append(time[order], begin))
    pause = PAUSE
    while pause > SHORTEST and np.minimum(gaps, pause).sum() > LEAD:
        pause //= 2
    left = np.minimum(gaps, pause)
    moved = time.copy()
    moved[order] = begin - left[::-1].cumsum()[::-1]
    return moved


class Renumbered:
    """Frame numbers of a capture in terms of an excerpt."""

    def __init__(self, index: PacketIndex, rows: Numbers) -> None:
        """rows: the packets that are left, counted from 0."""
        self.index = index
        self.place = np.zeros(len(index.facts) + 1, np.int64)
        self.place[rows + 1] = np.arange(1, len(rows) + 1)
        flow = index.facts["flow"][rows]
        distinct, first, counts = np.unique(flow, return_index=True, return_counts=True)
        rows_of_flows = zip(distinct.tolist(), (first + 1).tolist(), counts.tolist(), strict=True)
        self.flows = {
            number: (frame, count) for number, frame, count in rows_of_flows if number >= 0
        }

    def frame(self, frame: int) -> int:
        """Return the number of a frame, 0 where it is left out."""
        return int(self.place[frame]) if 0 < frame < len(self.place) else 0

    def flow(self, first: int) -> tuple[int, int]:
        """Return (first frame, packets) that are left of a flow, (0, 0) where none is."""
        if not 0 < first < len(self.place):
            return 0, 0
        return self.flows.get(int(self.index.facts["flow"][first - 1]), (self.frame(first), 1))

    def firsts(self, frames: Iterable[int]) -> list[int]:
        """Return the first frames of the flows that are left."""
        return [new for old in frames if (new := self.flow(old)[0])]

    def label(self, label: Label) -> Label | None:
        """Return a label, None where nothing is left of its flow."""
        frame, packets = self.flow(label.frame)
        return label._replace(frame=frame, packets=packets) if frame else None

    def call(self, call: Call) -> Call | None:
        """Return a call, None where nothing is left of its own flows."""
        roles = {name: self.firsts(getattr(call, name)) for name in ("media", "setup", "control")}
        if not any(roles.values()):
            return None
        alternatives = [
            path.model_copy(update={"flow": frame})
            for path in call.alternatives
            if (frame := self.flow(path.flow)[0])
        ]
        gates = [one for gate in call.gates if (one := self.gate(gate)) is not None]
        lists = {
            "signalling": self.firsts(call.signalling),
            "alternatives": alternatives,
            "gates": gates,
        }
        return call.model_copy(update={**roles, **lists})

    def gate(self, gate: Gate) -> Gate | None:
        """Return a gate with the pairs that are left, None where it lost its flow or all pairs."""
        flow = self.flow(gate.flow)[0]
        pairs = [[self.frame(one) for one in pair] for pair in gate.pairs]
        complete = [pair for pair in pairs if all(pair)]
        if not flow or (gate.pairs and not complete):
            return None
        return gate.model_copy(update={"flow": flow, "by": self.firsts(gate.by), "pairs": complete})
