# SPDX-License-Identifier: BSD-3-Clause
"""Sockets at both ends of a line: what the caller and the helper of `midcall probe` can do.

A Sockets object sends and receives with the calls of ordinary sockets: datagrams, TCP streams, and
a clock. It shows nothing of the box between the two ends. `play` is what both programs do with it:
they send a plan on time and note what arrives, and when.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from midcall.captures.packets.numbers import TCP
from midcall.testbed.probing.probe import Ends, Probe

#: What a socket can report, besides data: a stream was opened, ended by the other side, or reset.
DATA, OPENED, ENDED, RESET = "data", "opened", "ended", "reset"


#: Flag of a packet without payload that closes its stream at once (RST).
ABORT = 4
#: Time after the last packet has come in which a forged answer may still come, in ns.
SETTLE = 120_000_000
#: Equal datagrams of one flow and direction, at most, whose losses are located.
ALIGNED = 320
#: Packets of equal ones that may be lost before the first one that comes.
LEADS = 4
#: Octets of IPv4's and UDP's headers.
DATAGRAM_HEADERS = 28

#: A line's own delay downwards and upwards: of a packet without octets, and of each octet, in ns.
Delays = tuple[tuple[float, float], tuple[float, float]]
NOT_KNOWN: Delays = (0.0, 0.0), (0.0, 0.0)


class Event(NamedTuple):
    """What one end received.

    up: it came to the helper; time: ns of the line's clock; dscp: code point of a datagram's IP
    header, -1 where it is not known, as of streams.
    """

    time: int
    up: bool
    ends: Ends
    kind: str
    payload: bytes = b""
    dscp: int = -1


class Sockets(Protocol):
    """Ordinary sockets at both ends of a line, and a clock in ns.

    answers_only: the helper sends a datagram only where one of its flow has come to it.
    """

    answers_only: bool

    def now(self) -> int:
        """Return the time."""
        ...

    def open(self, ends: Ends, dscp: int = 0) -> None:
        """Bind both ends of a flow; over TCP the subscriber connects. dscp: code point of a SYN."""
        ...

    def send(self, ends: Ends, up: bool, payload: bytes, dscp: int = 0) -> None:
        """Send a datagram, or add octets to a stream (after it is opened). dscp: code point of the
        datagram, or of what this end of the stream sends from then on."""
        ...

    def sleep(self, until: int) -> bool:
        """Wait; return True as soon as anything was received, False when the time has come."""
        ...

    def receive(self) -> list[Event]:
        """Return what both ends received since the last call."""
        ...

    def abort(self, ends: Ends) -> None:
        """Close a stream at once, so that nothing of it is sent again."""
        ...

    def close(self) -> None:
        """Close all sockets."""
        ...


@dataclass
class Played:
    """What became of a plan.

    sent: ns when each packet was handed to its socket, -1 if its stream was closed before; arrived:
    ns when all of its octets had come, -1 never; events: resets, ends and openings; strange: data
    that was not sent; ready: when each end's stream was open; twice: datagrams that came once more,
    by their place in the plan; began, ended: ns; points: code point with which each datagram came,
    by its place in the plan, where it is known.
    """

    plan: Probe
    sent: list[int]
    arrived: list[int]
    events: list[Event] = field(default_factory=list)
    strange: list[Event] = field(default_factory=list)
    ready: dict[tuple[Ends, bool], int] = field(default_factory=dict)
    twice: set[int] = field(default_factory=set)
    began: int = 0
    ended: int = 0
    points: dict[int, int] = field(default_factory=dict)

    def delay(self, at: int) -> int:
        """Return how long a packet took, in ns; -1 if it never came.

        Of a stream that was not open yet, from its opening.
        """
        if self.arrived[at] < 0:
            return -1
        packet = self.plan[at]
        ready = self.ready.get((packet.ends, packet.up), 0)
        # a kernel may receive a packet before the call that sends it returns
        return max(self.arrived[at] - max(self.sent[at], ready), 0)

    @property
    def seconds(self) -> float:
        """Return the line time of the play."""
        return (self.ended - self.began) / 1e9


class _Waiting:
    """Packets of one flow and direction that were sent and have not come yet."""

    def __init__(self) -> None:
        # indices, (times, code points) of arrival
        self.datagrams: dict[bytes, tuple[list[int], list[tuple[int, int]]]] = {}
        self.stream: list[tuple[int, int]] = []  # (octets of the stream up to its end, index)
        self.sent = self.come = 0
        self.written = bytearray()


def play(sockets: Sockets, plan: Probe, wait: int, usual: Delays = NOT_KNOWN) -> Played:
    """Send a plan and note what arrives, until all has come (and SETTLE has passed), or
    `wait` ns after the last packet.

    Times of the plan count from now. A packet over TCP is a write to the stream; packets over TCP
    without a payload are the kernel's own and are left out, but for one with the flag ABORT.

    usual: the line's own delay, where it is known: of equal datagrams of which some are lost it
    says which ones came.
    """
    began = sockets.now()
    result = Played(plan, [-1] * len(plan), [-1] * len(plan), began=began)
    waiting: dict[tuple[Ends, bool], _Waiting] = defaultdict(_Waiting)
    closed: set[tuple[Ends, bool]] = set()
    opened: set[Ends] = set()
    missing = 0

    def take() -> None:
        nonlocal missing
        for event in sockets.receive():
            if event.kind != DATA:
                result.events.append(event)
                if event.kind == OPENED:
                    result.ready[event.ends, not event.up] = event.time
                if event.kind in (RESET, ENDED):
                    closed.add((event.ends, not event.up))
                continue
            one = waiting[event.ends, event.up]
            found = _assign(event, one, result)
            missing -= found

    for at, packet in enumerate(plan):
        ends = packet.ends
        stream = ends.proto == TCP
        if stream and not packet.payload and ends in opened and not packet.flags & ABORT:
            continue
        while sockets.sleep(began + packet.time):
            take()
        take()
        if ends not in opened:
            opened.add(ends)
            sockets.open(ends, packet.dscp)
        if stream and not packet.payload:
            if packet.flags & ABORT:
                sockets.abort(ends)
            continue
        if (ends, packet.up) in closed:
            continue
        sockets.send(ends, packet.up, packet.payload, packet.dscp)
        result.sent[at] = sockets.now()
        one = waiting[ends, packet.up]
        missing += 1
        if stream:
            one.sent += len(packet.payload)
            one.written += packet.payload
            one.stream.append((one.sent, at))
        else:
            one.datagrams.setdefault(packet.payload, ([], []))[0].append(at)
    end = sockets.now() + wait
    while missing > 0 and sockets.sleep(end):
        take()
    end = sockets.now() + SETTLE  # a forged answer may still be under way
    while sockets.sleep(end):
        take()
    take()
    sockets.close()
    for (_, up), one in waiting.items():
        _align_equal(result, up, one, usual[up])
    result.ended = sockets.now()
    return result


def _align_equal(
    result: Played, up: bool, one: _Waiting, usual: tuple[float, float]
) -> None:  # fmt: skip
    """Assign arrivals of equal datagrams of which some were lost to those that were sent. usual:
    see `play`, of this direction."""
    alike = [(places, come) for places, come in one.datagrams.values()
             if 0 < len(come) < len(places) <= ALIGNED]  # fmt: skip
    if alike:
        least = _least_delay(result, up, {at for places, _ in alike for at in places})
        for places, come in alike:
            octets = len(result.plan[places[0]].payload) + DATAGRAM_HEADERS
            _align(result, places, come, usual[0] + usual[1] * octets or least)


def _least_delay(result: Played, up: bool, leave_out: set[int]) -> float:
    """Return the least delay of the datagrams of a direction, but for some, in ns; 0 for none."""
    delays = [result.delay(at) for at, one in enumerate(result.plan)
              if one.up == up and one.ends.proto != TCP and at not in leave_out]  # fmt: skip
    return float(min((one for one in delays if one >= 0), default=0))


def _align(
    result: Played, places: list[int], arrivals: list[tuple[int, int]], own: float
) -> None:  # fmt: skip
    """Decide which of several equal datagrams arrived, if fewer came than were sent: the choice
    that keeps the order and makes the delays as far as possible the line's own, or else equal and
    little longer; shorter ones count for each packet. arrivals: times and code points; own: the
    line's delay in ns.
    """
    times = [time for time, _ in arrivals]
    sent = np.array([result.sent[at] for at in places], np.float64)
    come = np.array(times, np.float64)
    best: tuple[float, list[int]] | None = None
    leads = range(min(LEADS, len(places) - len(times) + 1))
    for usual in (own, *(come[0] - sent[lead] for lead in leads)):
        gap = np.abs(come[:, None] - sent[None, :] - usual)
        gap[come[:, None] < sent[None, :]] = np.inf
        cost = np.full((len(times) + 1, len(places) + 1), np.inf)
        cost[0] = 0.0
        for row in range(1, len(times) + 1):
            with_it = cost[row - 1, :-1] + gap[row - 1]
            cost[row, 1:] = np.minimum.accumulate(with_it)
        total = float(cost[-1, -1]) + max(usual - own, (own - usual) * len(times))
        if not np.isfinite(total) or (best is not None and total >= best[0]):
            continue
        chosen, column = [], len(places)
        for row in range(len(times), 0, -1):
            while column > 1 and cost[row, column - 1] == cost[row, column]:
                column -= 1
            column -= 1
            chosen.append(column)
        best = total, chosen[::-1]
    if best is None:
        return
    for at in places:
        result.arrived[at] = -1
        result.points.pop(at, None)
    for at, (time, dscp) in zip(best[1], arrivals, strict=True):
        result.arrived[places[at]] = time
        if dscp >= 0:
            result.points[places[at]] = dscp


def _assign(event: Event, one: _Waiting, result: Played) -> int:
    """Note that data came; returns the number of packets that are complete with it.

    A datagram that comes more often than it was sent counts as one that came twice: of equal ones,
    as many as came more often.
    """
    if event.ends.proto != TCP:
        places, come = one.datagrams.get(event.payload, ([], []))
        if len(come) == len(places):
            if not places:
                result.strange.append(event)
            else:
                others = (at for at in reversed(places) if at not in result.twice)
                result.twice.add(next(others, places[-1]))
            return 0
        result.arrived[places[len(come)]] = event.time
        if event.dscp >= 0:
            result.points[places[len(come)]] = event.dscp
        come.append((event.time, event.dscp))
        return 1
    begin, found = one.come, 0
    one.come += len(event.payload)
    while one.stream and one.stream[0][0] <= one.come:
        result.arrived[one.stream.pop(0)[1]] = event.time
        found += 1
    if one.written[begin : one.come] != event.payload:
        result.strange.append(event)
    return found
