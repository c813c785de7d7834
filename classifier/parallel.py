# SPDX-License-Identifier: BSD-3-Clause
"""Two cores in tandem: each takes every other batch through the whole path.

A batch is read from the file, its packets are decoded, and then they find their flows and are
decided. Reading and deciding have a turn each, which goes from batch to batch: so one core decides
while the other reads and decodes, packets are read and decided in their order, and the verdicts are
those of `Engine.feed`: nothing is known too early, and nothing is written by two at once. Decoding
needs no order but for fragments, which are read again when their turn has come. What was read of a
batch is decided by the same core, and so never leaves its cache; what goes from core to core is the
records of flows.

Turns are waited for and taken in compiled code: a thread that has to be woken, or waits for
Python's lock, waits longer than a good part of a batch takes. Python helps where a turn does not
come for long, where a table has no room or was replaced, and where compiled code cannot read a file
on.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, ask_for, ask_to_write, fence, kernel
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.pcap import BATCH, CaptureFile, Packets, new_columns
from midcall.captures.packets.scan import FILLED, NOW, next_packets
from midcall.classifier.engine import Engine, read, roomy, take
from midcall.classifier.state.flow_table import (
    LINE,
    METER_PACKETS,
    METER_UNKNOWN_LINK,
    Numbers,
    Records,
)
from midcall.classifier.state.packet_fields import SIGN_FLOW, SIGN_IP_AT, SIGN_PIECE

#: Cores that take turns.
CORES = 2
#: Looks at a turn, about a ms of them, before its waiter sleeps; and seconds of that sleep.
LOOKS, NAP = 400_000, 1e-3
#: Seconds that the other thread has to end.
GRACE = 1.0

#: The signs that are kept of a packet, all of them from 0 to below 2^32.
FROM, TO = SIGN_IP_AT, SIGN_FLOW + 1
KEPT = TO - FROM
#: What a row holds: a packet without a flow, one that was read, one to be read again in order.
NOTHING, WHOLE, PIECE = range(3)
#: Packets by which flows are asked for before their turn.
AHEAD = 8
#: What reading counts.
COUNTED = slice(METER_PACKETS, METER_UNKNOWN_LINK + 1)

#: Batches that are taken before Python is asked whether somebody interrupts.
AT_ONCE = 32
# Slots of `last`, and why taking turns stopped.
STOPPED, COUNT, PLACE, SIZE = range(4)
TO_GO_ON, TO_READ, TO_DECIDE = range(3)

# Slots of `turns`: batches that were read, and decided; packets that were decided, and how often
# tables and buffers were replaced by others. The first two are each alone in their line of the
# processor's cache, whatever stands before and after the array: who waits for one would slow down
# who writes beside it.
READ, DECIDED, RECORDS, REPLACED, REBUILT = 16, 40, 56, 57, 58
TURNS = 80


class Desk(NamedTuple):
    """What one core has for itself: the packets of the batch that it takes."""

    last: Numbers  # int64[4]: why it stopped, and where the batch stands that it read last
    own: Numbers  # a meter with counts of its own
    again: Numbers  # ... and one of what is read twice
    alone: Numbers  # memory of fragments that nothing is asked of
    signs: Numbers
    rows: NDArray[np.uint32]  # uint32[BATCH, 1 + KEPT]: what a row holds, and a packet's signs
    offset: Numbers  # the columns of Packets
    captured: Numbers
    wire: Numbers
    time: Numbers
    link: Numbers


@kernel
def come(turns: Numbers, which: int, batch: int) -> bool:
    """Wait a little for a batch's turn; tells whether it has come."""
    for _ in range(LOOKS):
        fence()
        if turns[which] == batch:
            fence()  # what is looked at next is not older than the turn
            return True
    return False


@kernel
def hand_on(turns: Numbers, which: int) -> None:
    """Give a turn to the next batch, behind everything that was written in it."""
    fence()
    turns[which] += 1


@kernel
def read_batch(
    own: Numbers,
    alone: Numbers,
    signs: Numbers,
    rows: NDArray[np.uint32],
    data: Octets,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    link: Numbers,
) -> None:
    """Read a batch's packets into rows: decode them and hash their flows.

    A fragment is marked, to be read again when all before it were: its ports are those of another.
    """
    for i in range(len(offset)):
        end = offset[i] + captured[i]
        row = rows[i]
        row[0] = read(alone, own, data, offset[i], end, wire[i], link[i], signs)
        if signs[SIGN_PIECE]:
            row[0] = PIECE
        for sign in range(KEPT):
            row[1 + sign] = signs[FROM + sign]


@kernel
def decide_batch(
    again: Numbers,
    signs: Numbers,
    rows: NDArray[np.uint32],
    flows: Records,
    index: Numbers,
    notes: Records,
    context: Records,
    hellos: Octets,
    fragments: Numbers,
    spill: Records,
    meter: Numbers,
    model: Records,
    data: Octets,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    time: Numbers,
    link: Numbers,
    first: int,
) -> None:
    """Take what was read to its flows and their verdicts."""
    mask, count = len(index) - 1, len(time)
    for i in range(count):
        if i + 2 * AHEAD < count:
            ask_for(index, I(rows[i + 2 * AHEAD][KEPT]) & mask, 0)
        if i + AHEAD < count:
            word = index[I(rows[i + AHEAD][KEPT]) & mask]
            if word:
                number = I((word & 0xFFFFFFFF) - 1)
                ask_for(flows, number, 0)
                ask_to_write(flows, number, LINE)
        row = rows[i]
        if row[0] == NOTHING:
            continue
        if row[0] == PIECE:
            end = offset[i] + captured[i]
            if not read(fragments, again, data, offset[i], end, wire[i], link[i], signs):
                continue
        else:
            for sign in range(KEPT):
                signs[FROM + sign] = row[1 + sign]
        take(
            flows, index, notes, context, hellos, spill, meter, model, data, time[i], first + i,
            signs,
        )  # fmt: skip


@kernel
def take_turns(
    turns: Numbers,
    batch: int,
    rebuilt: int,
    replaced: int,
    last: Numbers,
    own: Numbers,
    again: Numbers,
    alone: Numbers,
    signs: Numbers,
    rows: NDArray[np.uint32],
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    time: Numbers,
    link: Numbers,
    file: int,
    ring: NDArray[np.uint8],
    memory: Numbers,
    interfaces: Numbers,
    types: Octets,
    flows: Records,
    index: Numbers,
    notes: Records,
    context: Records,
    hellos: Octets,
    fragments: Numbers,
    spill: Records,
    meter: Numbers,
    model: Records,
) -> int:
    """Take every other batch, from `batch` on, as long as nobody else has to help.

    Returns the batch at which it stopped; last[STOPPED] says why, and where a batch was read and is
    to be decided, last[COUNT], last[PLACE] and last[SIZE] where its packets stand.
    """
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
        read_batch(own, alone, signs, rows, data, offset[:n], captured, wire, link)
        ready = come(turns, DECIDED, batch) and turns[REPLACED] == replaced
        if not ready or not roomy(flows, notes, meter, n):
            last[STOPPED] = TO_DECIDE
            break
        decide_batch(
            again, signs, rows, flows, index, notes, context, hellos, fragments, spill, meter,
            model, data, offset, captured, wire, time[:n], link, turns[RECORDS],
        )  # fmt: skip
        turns[RECORDS] += n
        hand_on(turns, DECIDED)
        batch += CORES
    return batch


def new_desk(engine: Engine) -> Desk:
    """Return a core's own desk beside an engine."""
    meter = engine.tables.meter.copy()
    meter[COUNTED] = 0
    rows = np.zeros((BATCH, 1 + KEPT), np.uint32)
    alone = np.zeros_like(engine.tables.fragments)
    last, signs = np.zeros(4, np.int64), engine.signs.copy()
    return Desk(last, meter, meter.copy(), alone, signs, rows, *new_columns(BATCH))


class Tandem:
    """Two threads that take turns with the batches of a file; the first is who calls `run`."""

    def __init__(self, engine: Engine, capture: CaptureFile) -> None:
        self.engine = engine
        self.turns = np.zeros(TURNS, np.int64)
        self.turns[RECORDS] = engine.records
        self.ended = False
        self.error: BaseException | None = None
        self._capture = capture
        self._batches = capture.batches(held=CORES - 1)
        self._desks = [new_desk(engine) for _ in range(CORES)]

    def run(self) -> None:
        """Take all batches; raises what either thread raised."""
        other = threading.Thread(target=self._work, args=(1,), daemon=True)
        other.start()
        self._work(0)
        other.join(None if self.error is None else GRACE)
        self.engine.records = int(self.turns[RECORDS])
        if not other.is_alive():  # else it waits for a pipe, and is left
            self._batches.close()
        if self.error is not None:
            raise self.error
        for desk in self._desks:
            self.engine.tables.meter[COUNTED] += desk.own[COUNTED]

    def _work(self, which: int) -> None:
        """Take every other batch."""
        batch, desk = which, self._desks[which]
        try:
            packets = self._read(batch, desk)  # the first, for which the file makes its buffers
            while packets is not None:
                self._decide(batch, packets, desk)
                batch, packets = self._take(batch + CORES, desk)
        except BaseException as error:
            self.error = self.error or error
        self.ended = True

    def _take(self, batch: int, desk: Desk) -> tuple[int, Packets | None]:
        """Take batches until one is read that is to be decided here; None where there is none."""
        capture, last = self._capture, desk.last
        last[STOPPED] = TO_GO_ON
        while last[STOPPED] == TO_GO_ON:
            rebuilt, replaced = self.turns[REBUILT], self.turns[REPLACED]  # before what is replaced
            source = capture.source
            given = (self.turns, batch, rebuilt, replaced, *desk, *source)
            batch = take_turns(*given, *self.engine.tables)
        if last[STOPPED] == TO_READ:
            return batch, self._read(batch, desk)
        columns = (desk.offset, desk.captured, desk.wire, desk.time, desk.link)
        data = source.ring[last[PLACE], : last[SIZE]]
        return batch, Packets(data, *(column[: last[COUNT]] for column in columns))

    def _read(self, batch: int, desk: Desk) -> Packets | None:
        """Read a batch and decode it; None where there is none."""
        if not self._has_turn(READ, batch):
            return None
        before = self._capture.source.ring
        packets = next(self._batches, None)
        if packets is None:
            return None
        self.turns[REBUILT] += self._capture.source.ring is not before
        hand_on(self.turns, READ)
        where = (packets.data, packets.offset, packets.captured, packets.wire, packets.link)
        read_batch(desk.own, desk.alone, desk.signs, desk.rows, *where)
        return packets

    def _decide(self, batch: int, packets: Packets, desk: Desk) -> None:
        """Decide a batch that was read, as `Engine.feed` does."""
        if not self._has_turn(DECIDED, batch):
            return
        engine, before = self.engine, self.engine.tables
        engine.reserve(packets.total)
        self.turns[REPLACED] += engine.tables is not before
        own = (desk.again, desk.signs, desk.rows)
        given = (*own, *engine.tables, *packets, self.turns[RECORDS])
        decide_batch(*given)
        self.turns[RECORDS] += packets.total
        engine.drain()
        hand_on(self.turns, DECIDED)

    def _has_turn(self, which: int, batch: int) -> bool:
        """Wait for a batch's turn; False where it will not come."""
        if come(self.turns, which, batch):
            return True
        while self.turns[which] != batch:  # for long, as where a pipe says nothing
            if self.ended:
                return bool(self.turns[which] == batch)
            time.sleep(NAP)
        return True


def through(engine: Engine, capture: CaptureFile, cores: int = 1) -> None:
    """Feed a capture to an engine on one core or two.

    Raises CaptureError as `CaptureFile.batches` does.
    """
    if cores >= CORES:
        Tandem(engine, capture).run()
        return
    for packets in capture.batches():
        engine.feed(packets)
