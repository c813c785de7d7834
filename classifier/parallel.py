# SPDX-License-Identifier: BSD-3-Clause
"""Classify a capture file on one core, or on two that process every other batch each.

On one core, compiled code reads and classifies batch after batch (`feed_file`). On two, a batch is
read from the file, its packets are decoded, and then they are assigned to flows and classified.
Reading and classifying each have a turn, a counter that passes from batch to batch. So one core
classifies while the other reads and decodes, packets are read and classified in their order, and
the verdicts equal those of `Engine.feed`: no packet is classified too early, and no table is
written by two threads at once. Decoding needs no order except for fragments, which are decoded
again in turn. The same core decodes and classifies a batch, so the batch stays in that core's
cache; only the flow records pass between the cores.

Compiled code waits for turns and takes them: waking a thread, or waiting for Python's lock, takes
longer than a good part of a batch. Python code handles the rest: a turn that does not come for
long, a table that is full or was replaced, and a file that compiled code cannot read further.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import (
    I,
    fence,
    inlined,
    kernel,
    library_function,
    prefetch_for_read,
    prefetch_for_write,
)
from midcall.captures.packets.pcap import BATCH, CaptureFile, Packets, Source, new_columns
from midcall.captures.packets.scan import FILLED, NOW, next_packets
from midcall.classifier.engine import Engine, Tables, read, roomy, step_packet, take
from midcall.classifier.state.flow_table import (
    LINE,
    METER_PACKETS,
    METER_UNKNOWN_LINK,
    Numbers,
)
from midcall.classifier.state.packet_fields import SIGN_FLOW, SIGN_IP_AT, SIGN_PIECE

#: Cores that take turns.
CORES = 2
#: Reads of a turn before the waiting thread lets others run between two reads; reads before it
#: sleeps; and seconds of that sleep.
SPIN, LOOKS, NAP = 300, 4_000, 1e-3
#: Seconds to wait for the other thread to end after an error.
GRACE = 1.0

#: The signs that are stored for a packet, all of them from 0 to below 2^32.
FROM, TO = SIGN_IP_AT, SIGN_FLOW + 1
KEPT = TO - FROM
#: States of a row: a packet without a flow, a decoded one, one to be decoded again in order.
NOTHING, WHOLE, PIECE = range(3)
#: How many packets ahead flow records are prefetched.
AHEAD = 8
#: The counters that decoding increments.
COUNTED = slice(METER_PACKETS, METER_UNKNOWN_LINK + 1)

#: Batches that are processed before Python can handle an interrupt.
AT_ONCE = 32
# Slots of `last`, and the reasons why `take_turns` returned.
STOPPED, COUNT, PLACE, SIZE = range(4)
TO_GO_ON, TO_READ, TO_DECIDE = range(3)

# Slots of `turns`: batches read, batches classified, packets classified, how often tables and
# buffers were replaced, and whether a thread has ended. The first two are each alone in their cache
# line, wherever the array lies: otherwise a thread that waits for one would slow down writes to its
# neighbours (false sharing).
READ, DECIDED, RECORDS, REPLACED, REBUILT, ENDED = 16, 40, 56, 57, 58, 59
TURNS = 80


#: Let other threads run (POSIX sched_yield): on a busy machine the other thread of the pair may
#: wait for this very core.
sched_yield = library_function("sched_yield", 0, os.sched_yield)


class Desk(NamedTuple):
    """The arrays of one core, with the packets of its current batch."""

    last: Numbers  # int64[4]: why it stopped, and the position of the batch that it read last
    own: Numbers  # this core's meter
    again: Numbers  # a meter for packets that are decoded twice
    alone: Numbers  # a fragment table whose content is never used
    signs: Numbers
    rows: NDArray[np.uint32]  # uint32[BATCH, 1 + KEPT]: state of a row, and a packet's signs
    offset: Numbers  # the columns of Packets
    captured: Numbers
    wire: Numbers
    time: Numbers
    link: Numbers


@kernel
def come(turns: Numbers, which: int, batch: int) -> bool:
    """Wait for a batch's turn, about 2 ms if nothing else runs; returns whether it has come."""
    for look in range(LOOKS):
        if look > SPIN:
            if turns[ENDED]:
                return False
            sched_yield()
        fence()
        if turns[which] == batch:
            fence()  # later reads must not be older than the turn
            return True
    return False


@kernel
def hand_on(turns: Numbers, which: int) -> None:
    """Pass a turn to the next batch, after all writes of the current one."""
    fence()
    turns[which] += 1


@kernel
def read_batch(desk: Desk, packets: Packets) -> None:
    """Decode a batch's packets into rows and hash their flows.

    A fragment is marked to be decoded again in order, because its ports are in an earlier one.
    """
    data, offset, captured, wire, _, link = packets
    signs = desk.signs
    for i in range(len(offset)):
        end = offset[i] + captured[i]
        row = desk.rows[i]
        row[0] = read(desk.alone, desk.own, data, offset[i], end, wire[i], link[i], signs)
        if signs[SIGN_PIECE]:
            row[0] = PIECE
        for sign in range(KEPT):
            row[1 + sign] = signs[FROM + sign]


@kernel
def decide_batch(desk: Desk, tables: Tables, packets: Packets, first: int) -> None:
    """Assign decoded packets to their flows and classify them."""
    data, offset, captured, wire, time, link = packets
    flows, index, fragments = tables.flows, tables.slots, tables.fragments
    rows, signs = desk.rows, desk.signs
    mask, count = len(index) - 1, len(time)
    for i in range(count):
        if i + 2 * AHEAD < count:
            prefetch_for_read(index, I(rows[i + 2 * AHEAD][KEPT]) & mask, 0)
        if i + AHEAD < count:
            word = index[I(rows[i + AHEAD][KEPT]) & mask]
            if word:
                number = I((word & 0xFFFFFFFF) - 1)
                prefetch_for_read(flows, number, 0)
                prefetch_for_write(flows, number, LINE)
        row = rows[i]
        if row[0] == NOTHING:
            continue
        if row[0] == PIECE:
            end = offset[i] + captured[i]
            if not read(fragments, desk.again, data, offset[i], end, wire[i], link[i], signs):
                continue
        else:
            for sign in range(KEPT):
                signs[FROM + sign] = row[1 + sign]
        take(tables, data, time[i], first + i, signs)


@kernel
def take_turns(
    turns: Numbers,
    batch: int,
    rebuilt: int,
    replaced: int,
    desk: Desk,
    source: Source,
    tables: Tables,
) -> int:
    """Process every other batch, from `batch` on, until Python code is needed.

    Returns the batch at which it stopped. last[STOPPED] is the reason. If a batch was read but not
    classified, last[COUNT], last[PLACE] and last[SIZE] are the position of its packets.
    """
    file, ring, memory, interfaces, types = source
    last, offset, captured, wire, time, link = (
        desk.last, desk.offset, desk.captured, desk.wire, desk.time, desk.link,
    )  # fmt: skip
    last[STOPPED] = TO_GO_ON
    for _ in range(AT_ONCE):
        if not come(turns, READ, batch):
            last[STOPPED] = TO_READ
            break
        if turns[REBUILT] != rebuilt:
            break
        n = next_packets(file, ring, memory, interfaces, types, offset, captured, wire, time, link)
        if n == 0:
            last[STOPPED] = TO_READ
            break
        last[COUNT], last[PLACE], last[SIZE] = n, memory[NOW], memory[FILLED]
        hand_on(turns, READ)
        data = ring[last[PLACE]][: last[SIZE]]
        packets = Packets(data, offset[:n], captured[:n], wire[:n], time[:n], link[:n])
        read_batch(desk, packets)
        ready = come(turns, DECIDED, batch) and turns[REPLACED] == replaced
        if not ready or not roomy(tables.flows, tables.notes, tables.meter, n):
            last[STOPPED] = TO_DECIDE
            break
        decide_batch(desk, tables, packets, turns[RECORDS])
        turns[RECORDS] += n
        hand_on(turns, DECIDED)
        batch += CORES
    return batch


def new_desk(engine: Engine) -> Desk:
    """Return a new desk for one core of an engine."""
    meter = engine.tables.meter.copy()
    meter[COUNTED] = 0
    rows = np.zeros((BATCH, 1 + KEPT), np.uint32)
    alone = np.zeros_like(engine.tables.fragments)
    last, signs = np.zeros(4, np.int64), engine.signs.copy()
    return Desk(last, meter, meter.copy(), alone, signs, rows, *new_columns(BATCH))


class TwoCores:
    """Two threads that process the batches of a file in turn; the first is the caller of `run`."""

    def __init__(self, engine: Engine, capture: CaptureFile) -> None:
        self.engine = engine
        self.turns = np.zeros(TURNS, np.int64)
        self.turns[RECORDS] = engine.records
        self.error: BaseException | None = None
        self._capture = capture
        self._batches = capture.batches(retained=CORES - 1)
        self._desks = [new_desk(engine) for _ in range(CORES)]

    def run(self) -> None:
        """Process all batches; raises the exception that either thread raised."""
        other = threading.Thread(target=self._work, args=(1,), daemon=True)
        other.start()
        self._work(0)
        other.join(None if self.error is None else GRACE)
        self.engine.records = int(self.turns[RECORDS])
        if not other.is_alive():  # else it still waits for a pipe, and is abandoned
            self._batches.close()
        if self.error is not None:
            raise self.error
        for desk in self._desks:
            self.engine.tables.meter[COUNTED] += desk.own[COUNTED]

    def _work(self, which: int) -> None:
        """Process every other batch."""
        batch, desk = which, self._desks[which]
        try:
            packets = self._read(batch, desk)  # the first, for which the file makes its buffers
            while packets is not None:
                self._decide(batch, packets, desk)
                batch, packets = self._take(batch + CORES, desk)
        except BaseException as error:
            self.error = self.error or error
        self.turns[ENDED] = 1

    def _take(self, batch: int, desk: Desk) -> tuple[int, Packets | None]:
        """Process batches until one needs Python to classify it; None at the end of the file."""
        capture, last = self._capture, desk.last
        last[STOPPED] = TO_GO_ON
        while last[STOPPED] == TO_GO_ON:
            rebuilt, replaced = self.turns[REBUILT], self.turns[REPLACED]  # read before the tables
            source, tables = capture.source, self.engine.tables
            batch = take_turns(self.turns, batch, rebuilt, replaced, desk, source, tables)
        if last[STOPPED] == TO_READ:
            return batch, self._read(batch, desk)
        columns = (desk.offset, desk.captured, desk.wire, desk.time, desk.link)
        data = source.ring[last[PLACE], : last[SIZE]]
        return batch, Packets(data, *(column[: last[COUNT]] for column in columns))

    def _read(self, batch: int, desk: Desk) -> Packets | None:
        """Read a batch and decode it; None at the end of the file."""
        if not self._has_turn(READ, batch):
            return None
        before = self._capture.source.ring
        packets = next(self._batches, None)
        if packets is None:
            return None
        self.turns[REBUILT] += self._capture.source.ring is not before
        hand_on(self.turns, READ)
        read_batch(desk, packets)
        return packets

    def _decide(self, batch: int, packets: Packets, desk: Desk) -> None:
        """Classify a batch that was decoded, as `Engine.feed` does."""
        if not self._has_turn(DECIDED, batch):
            return
        engine, before = self.engine, self.engine.tables
        engine.reserve(packets.total)
        self.turns[REPLACED] += engine.tables is not before
        decide_batch(desk, engine.tables, packets, self.turns[RECORDS])
        self.turns[RECORDS] += packets.total
        engine.drain()
        hand_on(self.turns, DECIDED)

    def _has_turn(self, which: int, batch: int) -> bool:
        """Wait for a batch's turn; False if it will not come, because the other thread ended."""
        if come(self.turns, which, batch):
            return True
        while self.turns[which] != batch:  # may take long, for example if a pipe is idle
            if self.turns[ENDED]:
                return bool(self.turns[which] == batch)
            time.sleep(NAP)
        return True


@inlined
def read_columns(source: Source, room: Packets, tables: Tables, waiting: int) -> int:
    """Read the columns of a file's next batch, unless packets of one are `waiting`.

    Returns how many packets it has: 0 where Python has to read, below 0 where the tables have no
    room for them.
    """
    if waiting > 0:
        return waiting
    file, ring, memory, interfaces, types = source
    _, offset, captured, wire, time, link = room
    n = next_packets(file, ring, memory, interfaces, types, offset, captured, wire, time, link)
    return n if roomy(tables.flows, tables.notes, tables.meter, n) else -n


@inlined
def batch_of(source: Source, room: Packets, n: int) -> Packets:
    """Return the n packets whose columns were read."""
    _, offset, captured, wire, time, link = room
    data = source.ring[source.memory[NOW]][: source.memory[FILLED]]
    return Packets(data, offset[:n], captured[:n], wire[:n], time[:n], link[:n])


@kernel
def feed_file(
    source: Source,
    room: Packets,
    tables: Tables,
    records: int,
    waiting: int,
    signs: Numbers,
) -> tuple[int, int]:
    """Read and classify batches of a file until Python code is needed.

    room: columns for a batch, its data is not used; records: packets classified before; waiting:
    packets in the columns that were read but not classified, -1 for none. Returns both afterwards:
    waiting is then 0 if Python has to read, -1 after AT_ONCE batches, else the packets for which
    the tables had no room.
    """
    for _ in range(AT_ONCE):
        n = read_columns(source, room, tables, waiting)
        if n <= 0:
            return records, -n
        packets = batch_of(source, room, n)
        for i in range(n):
            step_packet(tables, packets, i, records + i, signs)
        records += n
        waiting = I(-1)
    return records, waiting


#: What feeds batches of a file, as `feed_file` does.
FeedFile = Callable[[Source, Packets, Tables, int, int, Numbers], tuple[int, int]]


def through(
    engine: Engine, capture: CaptureFile, cores: int = 1, feed: FeedFile = feed_file
) -> None:
    """Feed a capture to an engine on one core or two; feed: feeds batches on one core.

    Raises CaptureError as `CaptureFile.batches` does.
    """
    if cores >= CORES:
        TwoCores(engine, capture).run()
        return
    room, waiting = Packets(np.empty(0, np.uint8), *new_columns(BATCH)), -1
    try:
        while waiting or capture.advance():
            if waiting > 0:
                engine.reserve(waiting)
            engine.records, waiting = feed(
                capture.source, room, engine.tables, engine.records, waiting, engine.signs
            )
            engine.drain()
    finally:
        capture.close()
