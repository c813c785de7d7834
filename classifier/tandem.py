# SPDX-License-Identifier: BSD-3-Clause
"""Two cores in tandem: one reads, decodes and finds each packet's flow, the other decides.

The leader goes ahead of the follower by a few batches. Each step of the packet path is taken by one
of them alone and in the order of the packets, so the verdicts are those of `Engine.feed`: there is
no table that both write, and nothing that one could know too early. A record's first half is the
leader's (it begins flows and compares addresses), all the rest is the follower's.

Where the flow table must grow, the leader waits for the follower. Where it is at its bound and
flows are evicted, the leader only reads, and the follower takes every step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from captures.compiled import kernel
from captures.octets import Octets
from captures.pcap import BATCH, CaptureFile, Packets
from classifier.decode import DECODED, decode
from classifier.engine import Engine, take
from classifier.flow import (
    METER_FLOWS,
    METER_NOT_IP,
    METER_PACKETS,
    METER_UNKNOWN_LINK,
    Numbers,
    Records,
    find,
)
from classifier.signs import SIGN_IP_AT, SIGN_IP_END, SIGN_IP_SIZE, SIGN_STUN

#: Batches by which the leader may be ahead.
AHEAD = 4

#: What a decoded packet hands over: the signs FROM to TO, then SIGN_IP_SIZE.
FROM, TO = SIGN_IP_AT, SIGN_IP_END + 1
HANDED = TO - FROM + 1
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
        meter[METER_PACKETS] += 1
        end = offset[i] + captured[i]
        outcome = decode(data, offset[i], end, wire[i], link[i], signs, fragments)
        if outcome != DECODED:
            meter[METER_NOT_IP + outcome - 1] += 1
            numbers[i] = -1
            continue
        numbers[i] = find(flows, index, spill, meter, data, signs, time[i], first + i)
        for slot in range(HANDED - 1):
            handed[i, slot] = signs[FROM + slot]
        handed[i, HANDED - 1] = signs[SIGN_IP_SIZE]


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
        for slot in range(HANDED - 1):
            signs[FROM + slot] = handed[i, slot]
        signs[SIGN_IP_SIZE] = handed[i, HANDED - 1]
        take(flows, numbers[i], notes, context, hellos, meter, model, data, time[i], signs)


class Led(NamedTuple):
    """A batch from the leader; `handed` and `numbers` are None where it only read it."""

    packets: Packets
    handed: Numbers | None = None
    numbers: Numbers | None = None


class Stopped(Exception):
    """The follower has gone."""


class Leader:
    """The thread that reads a capture ahead of the engine, with a meter and signs of its own.

    A ticket is the right to hand over a batch; the follower gives it back when it is done with one.
    """

    def __init__(self, engine: Engine, capture: CaptureFile) -> None:
        self.engine, self.capture = engine, capture
        self.meter = engine.tables.meter.copy()
        self.meter[COUNTED] = 0
        self.signs = engine.signs.copy()
        self.alone = False  # whether the follower takes every step from here on
        self._handed_on = False
        self.found: queue.SimpleQueue[Led | BaseException | None] = queue.SimpleQueue()
        self.tickets: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.give_back(AHEAD)
        self._rooms = [
            (np.zeros((BATCH, HANDED), np.int64), np.zeros(BATCH, np.int64))
            for _ in range(AHEAD + 1)
        ]
        self._thread = threading.Thread(target=self._work, name="leader", daemon=True)
        self._thread.start()

    def give_back(self, count: int = 1) -> None:
        """Give tickets back."""
        for _ in range(count):
            self.tickets.put(True)

    def stop(self) -> None:
        """End the thread; at the end of the capture, or wherever it waits."""
        self.tickets.put(False)
        self._thread.join()

    def _ticket(self) -> None:
        if not self.tickets.get():
            raise Stopped

    def _work(self) -> None:
        try:
            first = self.engine.records
            for packets in self.capture.batches(held=AHEAD):
                led = self._led(packets, first)
                first += packets.total
                self._ticket()
                self.found.put(led)
            self.found.put(None)
        except Stopped:
            return
        except BaseException as error:
            self.found.put(error)

    def _led(self, packets: Packets, first: int) -> Led:
        """Return a batch with its flows, or as it was read where flows may have to be evicted."""
        used, count, engine = int(self.meter[METER_FLOWS]), packets.total, self.engine
        self.alone |= used + count > engine.max_flows
        if self.alone:
            return Led(packets)
        if used + count > len(engine.tables.flows):
            self._grow(used, count)
        self._rooms.append(self._rooms.pop(0))
        handed, numbers = self._rooms[-1]
        t = engine.tables
        shared = (t.flows, t.slots, t.spill, self.meter, t.fragments)
        data, offset, captured, wire, time, link = packets
        own = (first, self.signs, handed, numbers)
        lead(*shared, data, offset, captured, wire, time, link, *own)
        return Led(packets, handed, numbers[:count])

    def _grow(self, used: int, count: int) -> None:
        """Make room in the flow table while the follower has nothing to do."""
        for _ in range(AHEAD):
            self._ticket()
        self.engine.reserve_flows(used, count)
        self.give_back(AHEAD)

    def hand_on(self) -> None:
        """Put what only the leader knew so far into the engine, once: it goes on by itself."""
        if self._handed_on:
            return
        self._handed_on = True
        meter, signs = self.engine.tables.meter, self.engine.signs
        meter[METER_FLOWS] = self.meter[METER_FLOWS]
        meter[COUNTED] += self.meter[COUNTED]
        self.signs[SIGN_STUN] = signs[SIGN_STUN]  # which the follower's readers write
        signs[FROM:TO] = self.signs[FROM:TO]
        signs[SIGN_IP_SIZE] = self.signs[SIGN_IP_SIZE]


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
    leader = Leader(engine, capture)
    try:
        yield from _following(engine, leader)
        leader.hand_on()
    finally:
        leader.stop()


def _following(engine: Engine, leader: Leader) -> Iterator[Packets]:
    """Decide what the leader hands over."""
    while (led := leader.found.get()) is not None:
        if isinstance(led, BaseException):
            raise led
        if led.handed is None or led.numbers is None:
            leader.hand_on()
            engine.feed(led.packets)
        else:
            engine.reserve_notes(led.packets.total)
            t = engine.tables
            own = (t.flows, t.notes, t.context, t.hellos, t.meter, t.model)
            data, time = led.packets.data, led.packets.time
            follow(*own, data, time, engine.signs, led.handed, led.numbers)
            engine.records += led.packets.total
        yield led.packets
        leader.give_back()
