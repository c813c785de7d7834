# SPDX-License-Identifier: BSD-3-Clause
"""Two cores in tandem: one finds each packet's flow, the other decides.

Three threads, each a few batches ahead of the next: one reads, the leader decodes and finds each
packet's flow, the follower counts and decides. Reading takes whichever core has time. Each step of
the packet path is taken by one of them alone and in the order of the packets, so the verdicts are
those of `Engine.feed`: nothing is known too early, and nothing is written by two at once. The
leader writes a flow's record once, when it begins it; after that it only reads ends, protocol and
IP version of it, and all else is the follower's.

Where the flow table must grow, the leader waits for the follower. Where it is at its bound and
flows are evicted, the leader only passes on, and the follower takes every step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from captures.compiled import kernel
from captures.octets import Octets
from captures.pcap import BATCH, CaptureFile, Packets
from classifier.engine import Engine, place, take
from classifier.flow import (
    METER_FLOWS,
    METER_PACKETS,
    METER_UNKNOWN_LINK,
    Numbers,
    Records,
)
from classifier.signs import SIGN_IP_AT, SIGN_IP_END

T = TypeVar("T")

#: Batches by which a thread may be ahead of the next.
AHEAD = 2
#: Seconds that a thread has to end.
GRACE = 1.0

#: What a decoded packet hands over: the signs FROM to TO.
FROM, TO = SIGN_IP_AT, SIGN_IP_END + 1
HANDED = TO - FROM
#: What the leader counts.
COUNTED = slice(METER_PACKETS, METER_UNKNOWN_LINK + 1)


@kernel
def lead(
    flows: Records,
    index: Numbers,
    spill: Records,
    meter: Numbers,
    fragments: Numbers,
    data: Octets,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    time: Numbers,
    link: Numbers,
    first: int,
    signs: Numbers,
    handed: Numbers,
    numbers: Numbers,
) -> None:
    """Take a batch up to its flows: numbers[i] is packet i's, handed[i] what its headers said."""
    for i in range(len(offset)):
        end = offset[i] + captured[i]
        numbers[i] = place(
            flows,
            index,
            fragments,
            spill,
            meter,
            data,
            offset[i],
            end,
            wire[i],
            time[i],
            link[i],
            first + i,
            signs,
        )
        for slot in range(HANDED):
            handed[i, slot] = signs[FROM + slot]


@kernel
def follow(
    flows: Records,
    notes: Records,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    model: Records,
    data: Octets,
    time: Numbers,
    signs: Numbers,
    handed: Numbers,
    numbers: Numbers,
) -> None:
    """Take a batch that was led from its flows to their verdicts."""
    for i in range(len(numbers)):
        if numbers[i] < 0:
            continue
        for slot in range(HANDED):
            signs[FROM + slot] = handed[i, slot]
        take(flows, numbers[i], notes, context, hellos, meter, model, data, time[i], signs)


class Led(NamedTuple):
    """A batch from the leader; `handed` and `numbers` are None where it only read it."""

    packets: Packets
    handed: Numbers | None = None
    numbers: Numbers | None = None


class Stopped(Exception):
    """Nobody wants more."""


class Tickets:
    """How far a thread may be ahead: it takes a ticket for a batch, and gets it back after it."""

    def __init__(self) -> None:
        self._free: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.give(AHEAD)

    def give(self, count: int = 1) -> None:
        """Give tickets back."""
        for _ in range(count):
            self._free.put(True)

    def take(self, count: int = 1) -> None:
        """Wait for tickets; raises Stopped."""
        for _ in range(count):
            if not self._free.get():
                raise Stopped

    def wait(self) -> None:
        """Wait until whoever comes after has nothing to do."""
        self.take(AHEAD)
        self.give(AHEAD)

    def stop(self) -> None:
        """Let whoever takes one be told that nobody wants more."""
        self._free.put(False)


class Ahead(Generic[T]):
    """A thread that asks a generator for what it yields before anybody wants it; iterate over it.

    What the generator raises is raised where its items are wanted.
    """

    def __init__(self, items: Generator[T], tickets: Tickets) -> None:
        self._items, self._tickets = items, tickets
        self._found: queue.SimpleQueue[T | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            with closing(self._items):
                for item in self._items:
                    self._tickets.take()
                    self._found.put(item)
            self._found.put(None)
        except Stopped:
            return
        except BaseException as error:
            self._found.put(error)

    def __iter__(self) -> Iterator[T]:
        while (item := self._found.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            self._tickets.give()

    def stop(self) -> None:
        """End the thread and whoever waits for its items; one that waits for a pipe is left."""
        self._tickets.stop()
        self._found.put(None)
        self._thread.join(GRACE)


class Leader:
    """The steps up to a packet's flow, on an engine's tables, with a meter and signs of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.tickets = engine, Tickets()
        self.meter = engine.tables.meter.copy()
        self.meter[COUNTED] = 0
        self.signs = engine.signs.copy()
        self._alone = False  # whether the follower takes every step from here on
        self._handed_on = False
        self._rooms = [
            (np.zeros((BATCH, HANDED), np.int64), np.zeros(BATCH, np.int64))
            for _ in range(AHEAD + 1)
        ]

    def led(self, batches: Iterable[Packets]) -> Generator[Led]:
        """Yield batches with their flows; as they were read where flows may have to be evicted."""
        first = self.engine.records
        for packets in batches:
            used, count = int(self.meter[METER_FLOWS]), packets.total
            self._alone |= used + count > self.engine.max_flows
            if not self._alone and used + count > len(self.engine.tables.flows):
                self.tickets.wait()
                self.engine.reserve_flows(used, count)
            yield Led(packets) if self._alone else self._lead(packets, first)
            first += count

    def _lead(self, packets: Packets, first: int) -> Led:
        self._rooms.append(self._rooms.pop(0))
        handed, numbers = self._rooms[-1]
        t = self.engine.tables
        shared = (t.flows, t.slots, t.spill, self.meter, t.fragments)
        data, offset, captured, wire, time, link = packets
        own = (first, self.signs, handed, numbers)
        lead(*shared, data, offset, captured, wire, time, link, *own)
        return Led(packets, handed, numbers[: packets.total])

    def hand_on(self) -> None:
        """Put what only the leader knew so far into the engine, once: it goes on by itself."""
        if self._handed_on:
            return
        self._handed_on = True
        meter, signs = self.engine.tables.meter, self.engine.signs
        meter[METER_FLOWS] = self.meter[METER_FLOWS]
        meter[COUNTED] += self.meter[COUNTED]
        signs[FROM:TO] = self.signs[FROM:TO]


def through(engine: Engine, capture: CaptureFile, cores: int) -> Iterator[Packets]:
    """Feed a capture to an engine on one core or two; yield each batch when it is classified.

    A batch is valid until the next one is asked for. On two cores the engine's counters and its
    flows are whole after the last batch only. Raises CaptureError as `CaptureFile.batches` does.
    """
    if cores < 2:
        for packets in capture.batches():
            engine.feed(packets)
            yield packets
        return
    leader = Leader(engine)
    reader = Ahead(capture.batches(held=2 * (AHEAD + 1)), Tickets())
    leading = Ahead(leader.led(reader), leader.tickets)
    try:
        for led in leading:
            _follow(engine, leader, led)
            yield led.packets
    finally:
        reader.stop()
        leading.stop()
    leader.hand_on()


def _follow(engine: Engine, leader: Leader, led: Led) -> None:
    """Decide a batch that the leader hands over."""
    if led.handed is None or led.numbers is None:
        leader.hand_on()
        engine.feed(led.packets)
        return
    engine.reserve_notes(led.packets.total)
    t = engine.tables
    own = (t.flows, t.notes, t.context, t.hellos, t.meter, t.model)
    data, time = led.packets.data, led.packets.time
    follow(*own, data, time, engine.signs, led.handed, led.numbers)
    engine.records += led.packets.total
