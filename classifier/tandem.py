# SPDX-License-Identifier: BSD-3-Clause
"""Two cores in tandem: each takes every other batch through the whole path.

A batch is read from the file, its packets are decoded, and then they find their flows and are
decided. Reading and deciding have a turn each, which goes from batch to batch: so one core decides
while the other reads and decodes, packets are read and decided in their order, and the verdicts are
those of `Engine.feed`: nothing is known too early, and nothing is written by two at once. Decoding
needs no order but for fragments, which are read again when their turn has come. What was read of a
batch is decided by the same core, and so never leaves its cache; what goes from core to core is the
records of flows.

Who waits for a turn to decide waits in compiled code, and goes on there: a thread that has to be
woken, or waits for Python's lock, waits longer than a good part of a batch takes.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.compiled import fence, inlined, kernel
from captures.octets import Octets
from captures.pcap import BATCH, CaptureFile, Packets
from classifier.engine import Engine, read, roomy, take
from classifier.flow import METER_PACKETS, METER_UNKNOWN_LINK, Numbers, Records
from classifier.signs import SIGN_FLOW, SIGN_IP_AT, SIGN_PIECE

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
#: What reading counts.
COUNTED = slice(METER_PACKETS, METER_UNKNOWN_LINK + 1)

# Slots of `turns`: batches that were read, and decided; packets that were decided, and how often
# tables were replaced by larger ones. The first two are each alone in their line of the processor's
# cache, whatever stands before and after the array: who waits for one would slow down who writes
# beside it.
READ, DECIDED, RECORDS, REPLACED = 16, 40, 56, 57
TURNS = 80


class Desk(NamedTuple):
    """What one core has for itself: the packets of the batch that it takes."""

    own: Numbers  # a meter with counts of its own
    again: Numbers  # ... and one of what is read twice
    alone: Numbers  # memory of fragments that nothing is asked of
    signs: Numbers
    rows: NDArray[np.uint32]  # uint32[BATCH, 1 + KEPT]: what a row holds, and a packet's signs


@kernel
def come(turns: Numbers, which: int, batch: int) -> bool:
    """Wait a little for a batch's turn; tells whether it has come."""
    for _ in range(LOOKS):
        fence()
        if turns[which] == batch:
            return True
    return False


@inlined
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
    for i in range(len(time)):
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
def read_and_decide(
    turns: Numbers,
    batch: int,
    replaced: int,
    own: Numbers,
    again: Numbers,
    alone: Numbers,
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
) -> bool:
    """Read a batch, and decide it if its turn comes soon and these tables have room for it.

    Tells whether it was decided.
    """
    read_batch(own, alone, signs, rows, data, offset, captured, wire, link)
    if not come(turns, DECIDED, batch) or turns[REPLACED] != replaced:
        return False
    if not roomy(flows, notes, meter, len(time)):
        return False
    decide_batch(
        again, signs, rows, flows, index, notes, context, hellos, fragments, spill, meter, model,
        data, offset, captured, wire, time, link, turns[RECORDS],
    )  # fmt: skip
    turns[RECORDS] += len(time)
    fence()
    turns[DECIDED] += 1
    return True


def new_desk(engine: Engine) -> Desk:
    """Return a core's own desk beside an engine."""
    meter = engine.tables.meter.copy()
    meter[COUNTED] = 0
    rows = np.zeros((BATCH, 1 + KEPT), np.uint32)
    alone = np.zeros_like(engine.tables.fragments)
    return Desk(meter, meter.copy(), alone, engine.signs.copy(), rows)


class Tandem:
    """Two threads that take turns with the batches of a file; the first is who calls `run`."""

    def __init__(self, engine: Engine, capture: CaptureFile) -> None:
        self.engine = engine
        self.turns = np.zeros(TURNS, np.int64)
        self.turns[RECORDS] = engine.records
        self.ended = False
        self.error: BaseException | None = None
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
        try:
            for batch in itertools.count(which, CORES):
                if not self._take(batch, self._desks[which]):
                    break
        except BaseException as error:
            self.error = self.error or error
        self.ended = True

    def _take(self, batch: int, desk: Desk) -> bool:
        """Take a batch through the path; False where there is none."""
        if not self._has_turn(READ, batch):
            return False
        packets = next(self._batches, None)
        if packets is None:
            return False
        self.turns[READ] += 1
        replaced = self.turns[REPLACED]  # asked before the tables
        given = (self.turns, batch, replaced, *desk, *self.engine.tables, *packets)
        if read_and_decide(*given):
            return True
        if not self._has_turn(DECIDED, batch):
            return False
        self._decide(packets, desk)
        self.turns[DECIDED] += 1
        return True

    def _decide(self, packets: Packets, desk: Desk) -> None:
        """Decide a batch that was read, as `Engine.feed` does."""
        engine, before = self.engine, self.engine.tables
        engine.reserve(packets.total)
        self.turns[REPLACED] += engine.tables is not before
        own = (desk.again, desk.signs, desk.rows)
        given = (*own, *engine.tables, *packets, self.turns[RECORDS])
        decide_batch(*given)
        self.turns[RECORDS] += packets.total
        engine.drain()

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
