# SPDX-License-Identifier: BSD-3-Clause
"""Two cores in tandem: one reads packets, the other finds their flows and decides.

The leader reads the file, decodes each packet and hashes its flow, some batches ahead of the
follower, which owns the flow table and all that is decided by it. Each half of the packet path is
taken by one thread alone and in the order of the packets, so the verdicts are those of
`Engine.feed`: nothing is known too early, and nothing is written by two at once. What the leader
found of a packet goes over as one row, so that the follower looks into a packet only where it
inspects it: the rest never leaves the leader's cache.

Batches go through a ring. The follower stays in compiled code as long as batches come and its
tables have room for them, since a thread that has to wait for Python's lock waits longer than a
batch takes.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.compiled import I, fence, kernel
from captures.octets import Octets
from captures.pcap import BATCH, CaptureFile, Packets
from classifier.engine import Engine, read, roomy, take
from classifier.flow import METER_PACKETS, METER_UNKNOWN_LINK, Numbers, Records
from classifier.signs import SIGN_FLOW, SIGN_IP_AT

#: Batches that are under way at once: so many that a row has left the follower's cache when the
#: leader writes to it again. To take a line from there costs more than what is written.
SLOTS = 24
#: Batches that the follower takes before it lets Python look after signals.
MOST = 256
#: Turns of a loop that waits for the other thread, about a ms, before it sleeps.
TURNS = 400_000
#: Seconds of that sleep, and those that the leader has to end.
NAP, GRACE = 1e-3, 1.0

#: The signs that are handed over, all of them from 0 to below 2^32; before them, whether any are.
FROM, TO = SIGN_IP_AT, SIGN_FLOW + 1
HANDED = TO - FROM
#: What the leader counts.
COUNTED = slice(METER_PACKETS, METER_UNKNOWN_LINK + 1)

# Slots of `turns`: batches so far. Each is alone in its line of the processor's cache, whatever
# stands before and after the array: who waits for one would slow down who writes beside it.
LED, FOLLOWED = 16, 40


class Ring(NamedTuple):
    """Batches on their way: batch n stands in row n % SLOTS of each array."""

    turns: Numbers  # int64[64]
    counts: Numbers  # int64[SLOTS], packets
    buffers: Numbers  # int64[SLOTS], which of the buffers that the follower knows holds them, or -1
    times: Numbers  # int64[SLOTS, BATCH], ns
    rows: NDArray[np.uint32]  # uint32[SLOTS, BATCH, 1 + HANDED]


def new_ring() -> Ring:
    """Return an empty ring."""
    rows = np.zeros((SLOTS, BATCH, 1 + HANDED), np.uint32)
    counts, buffers = np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.int64)
    return Ring(np.zeros(64, np.int64), counts, buffers, np.zeros((SLOTS, BATCH), np.int64), rows)


@kernel
def lead(
    turns: Numbers,
    counts: Numbers,
    buffers: Numbers,
    times: Numbers,
    rows: NDArray[np.uint32],
    meter: Numbers,
    fragments: Numbers,
    data: Octets,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    time: Numbers,
    link: Numbers,
    signs: Numbers,
    which: int,
) -> None:
    """Read a batch into the ring: a row is 1 and a packet's signs, or 0 for one without a flow."""
    slot = turns[LED] % SLOTS
    for i in range(len(offset)):
        end = offset[i] + captured[i]
        row = rows[slot, i]
        row[0] = read(fragments, meter, data, offset[i], end, wire[i], link[i], signs)
        for sign in range(HANDED):
            row[1 + sign] = signs[FROM + sign]
        times[slot, i] = time[i]
    counts[slot], buffers[slot] = len(offset), which
    fence()
    turns[LED] += 1


@kernel
def passed(turns: Numbers, which: int, count: int) -> bool:
    """Wait a little until turns[which] is beyond a count; tells whether it is."""
    for _ in range(TURNS):
        fence()
        if turns[which] > count:
            return True
    return False


@kernel
def follow(
    turns: Numbers,
    counts: Numbers,
    times: Numbers,
    rows: NDArray[np.uint32],
    flows: Records,
    index: Numbers,
    notes: Records,
    context: Records,
    hellos: Octets,
    spill: Records,
    meter: Numbers,
    model: Records,
    data: Octets,
    first: int,
    signs: Numbers,
) -> int:
    """Take the next batch from the ring to its flows and their verdicts; returns its packets."""
    slot = turns[FOLLOWED] % SLOTS
    count = I(counts[slot])
    for i in range(count):
        row = rows[slot, i]
        if not row[0]:
            continue
        for sign in range(HANDED):
            signs[FROM + sign] = row[1 + sign]
        take(
            flows,
            index,
            notes,
            context,
            hellos,
            spill,
            meter,
            model,
            data,
            times[slot, i],
            first + i,
            signs,
        )
    fence()
    turns[FOLLOWED] += 1
    return count


@kernel
def follow_on(
    turns: Numbers,
    counts: Numbers,
    buffers: Numbers,
    times: Numbers,
    rows: NDArray[np.uint32],
    flows: Records,
    index: Numbers,
    notes: Records,
    context: Records,
    hellos: Octets,
    spill: Records,
    meter: Numbers,
    model: Records,
    known: tuple[Octets, ...],
    first: int,
    signs: Numbers,
) -> int:
    """Take batches as they come, as long as the tables have room; returns the number of packets."""
    begun = first
    for _ in range(MOST):
        if not passed(turns, LED, turns[FOLLOWED]):
            break
        slot = turns[FOLLOWED] % SLOTS
        which = buffers[slot]
        if which < 0 or not roomy(flows, notes, meter, counts[slot]):
            break
        first += follow(
            turns,
            counts,
            times,
            rows,
            flows,
            index,
            notes,
            context,
            hellos,
            spill,
            meter,
            model,
            known[which],
            first,
            signs,
        )
    return first - begun


class Leader:
    """The first half of an engine's steps, on a thread of its own."""

    def __init__(self, engine: Engine, capture: CaptureFile) -> None:
        self.ring = new_ring()
        self.known = capture.buffers(SLOTS)
        self.data: list[Octets] = [*self.known]  # the buffer of each slot
        self.meter = engine.tables.meter.copy()
        self.meter[COUNTED] = 0
        self.ended = False
        self.error: BaseException | None = None
        self._unwanted = False
        self._signs = engine.signs.copy()
        self._fragments = engine.tables.fragments
        self._capture = capture
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        turns = self.ring.turns
        try:
            with closing(self._capture.batches(held=SLOTS - 1)) as batches:
                while not self._unwanted:
                    if not passed(turns, FOLLOWED, turns[LED] - SLOTS):
                        time.sleep(NAP)
                    elif (packets := next(batches, None)) is None:
                        break
                    else:
                        self._lead(packets)
        except BaseException as error:
            self.error = error
        self.ended = True

    def _lead(self, packets: Packets) -> None:
        base = packets.data.base
        which = next((i for i, known in enumerate(self.known) if known is base), -1)
        self.data[int(self.ring.turns[LED]) % SLOTS] = packets.data
        lead(*(*self.ring, self.meter, self._fragments, *packets, self._signs, which))

    def stop(self) -> None:
        """End the thread; one that waits for a pipe is left."""
        self._unwanted = True
        self._thread.join(GRACE)


def through(engine: Engine, capture: CaptureFile, cores: int = 1) -> None:
    """Feed a capture to an engine on one core or two.

    Raises CaptureError as `CaptureFile.batches` does.
    """
    if cores < 2:
        for packets in capture.batches():
            engine.feed(packets)
        return
    leader = Leader(engine, capture)
    try:
        _follow(engine, leader)
    finally:
        leader.stop()
    if leader.error is not None:
        raise leader.error
    engine.tables.meter[COUNTED] += leader.meter[COUNTED]


def _follow(engine: Engine, leader: Leader) -> None:
    """Decide what the leader hands over, until it has ended."""
    turns = leader.ring.turns
    while True:
        ended = leader.ended
        _follow_on(engine, leader)
        if turns[FOLLOWED] < turns[LED]:
            _follow_one(engine, leader)
        elif ended:
            return
        else:
            time.sleep(NAP)


def _follow_on(engine: Engine, leader: Leader) -> None:
    """Decide batches as they come, for as long as nothing has to be made room for."""
    t, first = engine.tables, engine.records
    tables = (t.flows, t.slots, t.notes, t.context, t.hellos, t.spill, t.meter, t.model)
    given = (*leader.ring, *tables, leader.known, first, engine.signs)
    engine.records += follow_on(*given)


def _follow_one(engine: Engine, leader: Leader) -> None:
    """Decide the next batch, as `Engine.feed` does."""
    turns, counts, _, times, rows = leader.ring
    slot = int(turns[FOLLOWED]) % SLOTS
    engine.reserve(int(counts[slot]))
    t, first = engine.tables, engine.records
    tables = (t.flows, t.slots, t.notes, t.context, t.hellos, t.spill, t.meter, t.model)
    given = (turns, counts, times, rows, *tables, leader.data[slot], first, engine.signs)
    engine.records += follow(*given)
    engine.drain()
