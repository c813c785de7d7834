# SPDX-License-Identifier: BSD-3-Clause
"""Excerpts: the first seconds of a capture's call, with the set-up that it needs, renumbered.

What is played in real time has to be short. An excerpt keeps everything from the first packet of
the capture's first call on, for some seconds; of the time before, only what that call waits for
(its signalling and the names it asked for), with long pauses shortened. A capture without a call is
cut to its first seconds. Calls and labels follow, renumbered to the frames that are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Call, Gate
from midcall.captures.truth.labels import Label
from midcall.errors import TestbedError
from midcall.testbed.replay.packet_index import DNS_PORT, Survey, survey

Numbers = NDArray[np.int64]

SECOND = 1_000_000_000
#: How long what precedes a call may take, in ns, and the longest pause that is left in it: less
#: where the pauses together would take longer.
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

    A capture that is no longer is returned whole. Raises TestbedError for seconds that are none.
    """
    if not seconds > 0:
        raise TestbedError(f"seconds: got {seconds:g}, expected more than 0")
    span = round(seconds * SECOND)
    if not packets.total or packets.time.max() - packets.time.min() <= span:
        return Excerpt(packets, list(calls), list(labels), np.arange(1, packets.total + 1))
    held = survey(packets)
    begin, awaited = beginning(held, calls)
    time = packets.time
    inside = (time >= begin) & (time < begin + span)
    before = (time < begin) & np.isin(held.facts["flow"], awaited)
    rows = np.flatnonzero(inside | before)
    moved = shortened(time[rows], begin)
    renumbered = Renumbered(held, rows)
    return Excerpt(
        packets.take(rows)._replace(time=moved),
        [it for call in calls if (it := renumbered.call(call)) is not None],
        [one for label in labels if (one := renumbered.label(label)) is not None],
        rows + 1,
    )


def flow_numbers(held: Survey, frames: Iterable[int]) -> Numbers:
    """Return the flows (numbers of the survey) whose first frames are given."""
    known = [held.facts["flow"][one - 1] for one in frames if 0 < one <= len(held.facts)]
    found = np.unique(np.array(known, np.int64))
    return found[found >= 0]


def beginning(held: Survey, calls: Sequence[Call]) -> tuple[int, Numbers]:
    """Return when the first call's own packets begin, and the flows that calls wait for.

    Without a call: when the capture begins, and no flow.
    """
    flow, time = held.facts["flow"], held.packets.time
    begins = []
    for call in calls:
        own = np.isin(flow, flow_numbers(held, (*call.setup, *call.media, *call.control)))
        if own.any():
            begins.append((int(time[own].min()), call))
    if not begins:
        return int(time.min()), np.zeros(0, np.int64)
    begin, call = min(begins, key=lambda one: one[0])
    flows = held.flows
    names = (flows["source_port"] == DNS_PORT) | (flows["target_port"] == DNS_PORT)
    said = flow_numbers(held, call.signalling)
    return begin, np.concatenate((np.flatnonzero(names), said))


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

    def __init__(self, held: Survey, rows: Numbers) -> None:
        """rows: the packets that are left, counted from 0."""
        self.held = held
        self.place = np.zeros(len(held.facts) + 1, np.int64)
        self.place[rows + 1] = np.arange(1, len(rows) + 1)
        flow = held.facts["flow"][rows]
        distinct, first, counts = np.unique(flow, return_index=True, return_counts=True)
        told = zip(distinct.tolist(), (first + 1).tolist(), counts.tolist(), strict=True)
        self.flows = {number: (frame, count) for number, frame, count in told if number >= 0}

    def frame(self, frame: int) -> int:
        """Return the number of a frame, 0 where it is left out."""
        return int(self.place[frame]) if 0 < frame < len(self.place) else 0

    def flow(self, first: int) -> tuple[int, int]:
        """Return (first frame, packets) that are left of a flow, (0, 0) where none is."""
        if not 0 < first < len(self.place):
            return 0, 0
        return self.flows.get(int(self.held.facts["flow"][first - 1]), (self.frame(first), 1))

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
        ways = [
            way.model_copy(update={"flow": frame})
            for way in call.alternatives
            if (frame := self.flow(way.flow)[0])
        ]
        gates = [one for gate in call.gates if (one := self.gate(gate)) is not None]
        told = {"signalling": self.firsts(call.signalling), "alternatives": ways, "gates": gates}
        return call.model_copy(update={**roles, **told})

    def gate(self, gate: Gate) -> Gate | None:
        """Return a gate with the pairs that are left, None where it lost its flow or all pairs."""
        flow = self.flow(gate.flow)[0]
        pairs = [[self.frame(one) for one in pair] for pair in gate.pairs]
        whole = [pair for pair in pairs if all(pair)]
        if not flow or (gate.pairs and not whole):
            return None
        return gate.model_copy(update={"flow": flow, "by": self.firsts(gate.by), "pairs": whole})
