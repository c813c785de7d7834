# SPDX-License-Identifier: BSD-3-Clause
"""Classify packets and measure the quality of calls in the same pass.

The packet path has one more step: a packet of a flow that is, or may become, call media waits in a
queue. Later the packets of each direction are counted together in its track
(midcall.classifier.quality), so that a track is in the processor's cache for all of them. Every
payload packet of such a flow is counted, so its rows do not depend on when the classifier
recognised it. Most other flows end within a few packets: the first packets of a flow are kept in a
ring, and only a flow with more has a track. One that is settled as something else gives it back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, inlined, kernel, prefetch_for_write
from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import BATCH, CaptureFile, Packets, Source
from midcall.classifier.engine import Engine, Tables, settle_all, step_packet
from midcall.classifier.parallel import AT_ONCE, batch_of, read_columns, through
from midcall.classifier.quality.meter import close_all, measure
from midcall.classifier.quality.tracks import ROW, TRACK, Rows, Tracks, no_tracks
from midcall.classifier.state.flow_table import (
    LINE,
    METER_EVICTED_WAITING,
    METER_FLOWS,
    RETIRED,
    SETTLED,
    Numbers,
    Records,
)
from midcall.classifier.state.packet_fields import (
    SIGN_IP_SIZE,
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_UP,
)
from midcall.classifier.state.verdicts import MEDIA

#: Flows that have tracks at the same time, at most; further flows are counted, not measured.
MOST_TRACKS = 1 << 15
#: Packets of a flow that are kept before it has a track; packets that the ring of them holds.
FIRST_PACKETS, RING = 3, 1 << 18
#: Packets in the queue, at most, and those that a batch can add with the first packets of flows.
ADDED = (1 + FIRST_PACKETS) * BATCH
QUEUE = ADDED + BATCH
#: Rows that a packet can finish: of its own track, of a pair that it takes, of an evicted flow's.
MOST_ROWS = 5
#: Rows that are written before Python code moves them to a list.
ROOM = (MOST_ROWS + 1) * QUEUE
#: Pairs of tracks of which the least recently used is taken where none is free, and how long (ns)
#: it must not have been used: then no second has two rows.
SCAN, IDLE = 16, 2_000_000_000
# Slots of `desk`, the counters of a meter.
BEGUN, START, USED, FREE, REFUSED, ROWS, EVERY, QUEUED, TOUCHED, LATER, HAND, RINGED = range(12)
DESK = 16
# Columns of the queue and of `ends`.
SIZE, OCTETS, TIME, NEXT = range(4)
# Columns of the ring after these: the packet before, 1 + the flow's first packet, the direction.
BEFORE, OF, UP = range(3, 6)
FIRST, LAST = range(2)
# Columns of `owners`.
NUMBER, RECORD, USE = range(3)
#: Where the lines of a track begin that are prefetched.
LINES = tuple(range(0, TRACK.itemsize, LINE))


class Measuring(NamedTuple):
    """The arrays of a meter.

    A flow's `mark` is 1 + its first track; without tracks -1 - its last packet in the ring, or 0.
    """

    tracks: Tracks
    owners: Numbers  # int64[pairs, 3]: the flow's number; 1 + its first packet, 0: none; last use
    free: Numbers  # pairs of tracks that nobody uses
    later: Numbers  # pairs of tracks that are free when the queue is empty
    ring: Numbers  # int64[RING, 6]: payload and IP bytes, ns; the packet before; flow; direction
    queue: Numbers  # int64[QUEUE, 4]: payload and IP bytes, ns, next packet of the track or -1
    ends: NDArray[np.int32]  # int32[tracks, 2]: 1 + a track's first and last packet in the queue
    touched: Numbers  # tracks with packets in the queue
    rows: Rows
    desk: Numbers


def no_measuring() -> Measuring:
    """Return the arrays of a new meter."""
    tracks = no_tracks(MOST_TRACKS)
    return Measuring(
        tracks=tracks,
        owners=np.zeros((MOST_TRACKS, 3), np.int64),
        free=np.zeros(MOST_TRACKS, np.int64),
        later=np.zeros(QUEUE, np.int64),
        ring=np.zeros((RING, 6), np.int64),
        queue=np.zeros((QUEUE, 4), np.int64),
        ends=np.zeros((len(tracks), 2), np.int32),
        touched=np.zeros(QUEUE, np.int64),
        rows=np.zeros(ROOM, ROW),
        desk=np.zeros(DESK, np.int64),
    )


@inlined
def step_measured(
    tables: Tables, packets: Packets, i: int, record: int, signs: Numbers, measuring: Measuring
) -> int:
    """Classify packet i and queue it for its track; returns its flow number, -1 for none."""
    number = step_packet(tables, packets, i, record, signs)
    if number < 0 or signs[SIGN_PAYLOAD_SIZE] <= 0:
        return number
    if signs[SIGN_PROTO] != UDP and signs[SIGN_PROTO] != TCP:
        return number
    flow = tables.flows[number]
    mark = I(flow["mark"])
    if flow["state"] & SETTLED and flow["role"] != MEDIA and not measuring.desk[EVERY]:
        if mark > 0:
            release_later(measuring, mark - 1)
        flow["mark"] = 0
        return number
    if mark <= 0 and not is_ringed(flow, signs, packets.time[i], measuring):
        mark = give_track(tables.flows, flow, number, packets.time[i], measuring)
    if mark > 0:
        size, octets = signs[SIGN_PAYLOAD_SIZE], signs[SIGN_IP_SIZE]
        enqueue(measuring, mark - signs[SIGN_UP], size, octets, packets.time[i])
    return number


@kernel
def is_ringed(flow: Any, signs: Numbers, time: int, measuring: Measuring) -> bool:
    """Keep a packet of a flow without tracks in the ring; False if it has enough there."""
    ring, desk = measuring.ring, measuring.desk
    record, at = I(flow["first_record"]) + 1, -I(flow["mark"]) - 1
    for _ in range(FIRST_PACKETS):
        if not is_in_ring(measuring, at, record):
            packet = ring[desk[RINGED] % RING]
            packet[SIZE], packet[OCTETS] = signs[SIGN_PAYLOAD_SIZE], signs[SIGN_IP_SIZE]
            packet[TIME], packet[BEFORE] = time, -I(flow["mark"]) - 1
            packet[OF], packet[UP] = record, signs[SIGN_UP]
            flow["mark"] = -1 - desk[RINGED]
            desk[RINGED] += 1
            return True
        at = ring[at % RING][BEFORE]
    return False


@inlined
def is_in_ring(measuring: Measuring, at: int, record: int) -> bool:
    """Return whether the ring still has packet `at`, of the flow with that first packet."""
    old = measuring.desk[RINGED] - RING
    return at >= 0 and at >= old and measuring.ring[at % RING][OF] == record


@kernel
def give_track(flows: Records, flow: Any, number: int, time: int, measuring: Measuring) -> int:
    """Give a flow tracks, and queue its first packets; returns its mark, not above 0: none."""
    ring, at, record = measuring.ring, -I(flow["mark"]) - 1, I(flow["first_record"]) + 1
    place = take_track(flows, time, measuring)
    if place < 0:
        return I(flow["mark"])
    own = measuring.owners[place >> 1]
    own[NUMBER], own[RECORD], own[USE] = number, record, time
    flow["mark"] = place + 1
    last = I(-1)
    while is_in_ring(measuring, at, record):  # turn the list round: the first packet comes first
        packet = ring[at % RING]
        before, packet[BEFORE] = packet[BEFORE], last
        last, at = at, before
    while last >= 0:
        packet = ring[last % RING]
        enqueue(measuring, place + 1 - packet[UP], packet[SIZE], packet[OCTETS], packet[TIME])
        last = packet[BEFORE]
    return place + 1


@kernel
def take_track(flows: Records, time: int, measuring: Measuring) -> int:
    """Return a free pair of tracks, -1 where all are in use."""
    desk = measuring.desk
    if desk[FREE] == 0 and desk[USED] + 4 > len(measuring.tracks):
        steal(flows, time, measuring)  # the last pair stays clear: others are cleared with it
    if desk[FREE] > 0:
        desk[FREE] -= 1
        return I(measuring.free[desk[FREE]])
    if desk[USED] + 4 > len(measuring.tracks):
        desk[REFUSED] += 1
        return -1
    place = I(desk[USED])
    desk[USED] += 2
    return place


@kernel
def steal(flows: Records, time: int, measuring: Measuring) -> None:
    """Free the pair of tracks that was used least recently among some, after writing its rows."""
    tracks, owners, desk = measuring.tracks, measuring.owners, measuring.desk
    best, oldest = I(-1), time - IDLE
    for _ in range(SCAN):
        place = I(desk[HAND])
        desk[HAND] = place + 2 if place + 2 < desk[USED] else 0
        own = owners[place >> 1]
        waits = measuring.ends[place][LAST] or measuring.ends[place + 1][LAST]
        if own[RECORD] and own[USE] <= oldest and not waits:
            best, oldest = place, own[USE]
    if best < 0:
        return
    own = owners[best >> 1]
    if own[NUMBER] < len(flows):  # it may be the number of a flow in another table
        flow = flows[own[NUMBER]]
        if I(flow["first_record"]) + 1 == own[RECORD] and I(flow["mark"]) == best + 1:
            flow["mark"] = 0
    desk[ROWS] = close_all(tracks[best : best + 2], 2, measuring.rows, desk[ROWS])
    release(measuring, best)


@inlined
def release_later(measuring: Measuring, place: int) -> None:
    """List a pair of tracks that is free when the queue is empty."""
    desk = measuring.desk
    measuring.later[desk[LATER]] = place
    desk[LATER] += 1


@kernel
def release(measuring: Measuring, place: int) -> None:
    """Clear a pair of tracks and list it as free."""
    tracks, desk = measuring.tracks, measuring.desk
    for one in (place, place + 1):
        if I(tracks[one]["until"]):
            tracks[one] = tracks[len(tracks) - 1]
    measuring.owners[place >> 1][RECORD] = 0
    measuring.free[desk[FREE]] = place
    desk[FREE] += 1


@inlined
def enqueue(measuring: Measuring, place: int, size: int, octets: int, time: int) -> None:
    """Add a packet to the queue of a track."""
    queue, desk = measuring.queue, measuring.desk
    number, own = desk[QUEUED], measuring.ends[place]
    desk[QUEUED] += 1
    packet = queue[number]
    packet[SIZE], packet[OCTETS], packet[TIME], packet[NEXT] = size, octets, time, -1
    if own[LAST]:
        queue[I(own[LAST]) - 1][NEXT] = number
    else:
        own[FIRST] = number + 1
        measuring.touched[desk[TOUCHED]] = place
        desk[TOUCHED] += 1
    own[LAST] = number + 1


@kernel
def measure_queue(measuring: Measuring) -> None:
    """Count the packets of the queue in their tracks, track by track; the queue is empty then."""
    tracks, owners, queue, touched, desk = (
        measuring.tracks, measuring.owners, measuring.queue, measuring.touched, measuring.desk,
    )  # fmt: skip
    for i in range(desk[TOUCHED]):
        if i + 1 < desk[TOUCHED]:
            for line in LINES:
                prefetch_for_write(tracks, touched[i + 1], line)
        place = touched[i]
        own = measuring.ends[place]
        number, record = I(own[FIRST]) - 1, owners[place >> 1][RECORD]
        if record == 0:  # settled by now
            own[FIRST] = own[LAST] = 0
            continue
        tracks[place]["flow"] = record
        owners[place >> 1][USE] = queue[I(own[LAST]) - 1][TIME]
        own[FIRST] = own[LAST] = 0
        while number >= 0:
            packet = queue[number]
            desk[ROWS] = measure(
                tracks,
                place,
                measuring.rows,
                desk[ROWS],
                packet[SIZE],
                packet[OCTETS],
                packet[TIME],
                desk[START],
            )
            number = packet[NEXT]
    for i in range(desk[LATER]):
        release(measuring, measuring.later[i])
    desk[QUEUED] = desk[TOUCHED] = desk[LATER] = 0


@kernel
def end_batch(tables: Tables, measuring: Measuring) -> None:
    """Measure evicted flows to their end, and the queue if it has no room for a batch."""
    tracks, desk = measuring.tracks, measuring.desk
    waiting = tables.meter[METER_EVICTED_WAITING]
    if waiting:
        own = tables.spill[:waiting]
        time = I(own[waiting - 1]["last_time"])
        give_tracks(tables.flows, own, own["role"], time, measuring)
    if waiting or max(desk[QUEUED], desk[LATER]) > QUEUE - ADDED:
        measure_queue(measuring)
    for i in range(waiting):
        flow = tables.spill[i]
        place = I(flow["mark"]) - 1
        if place >= 0 and measuring.owners[place >> 1][RECORD] == I(flow["first_record"]) + 1:
            desk[ROWS] = close_all(tracks[place : place + 2], 2, measuring.rows, desk[ROWS])
            release(measuring, place)


@kernel
def give_tracks(
    flows: Records, some: Records, roles: NDArray[np.uint8], time: int, measuring: Measuring
) -> None:
    """Give tracks to flows that have only packets in the ring, if they are call media.

    some: the records; roles: uint8[n], their roles, which are not read if every flow is measured;
    time: now, in ns.
    """
    desk = measuring.desk
    for i in range(len(some)):
        flow = some[i]
        if I(flow["mark"]) < 0 and (roles[i] == MEDIA or desk[EVERY]):
            if desk[QUEUED] > QUEUE - ADDED:
                measure_queue(measuring)
            give_track(flows, flow, i, time, measuring)


@inlined
def begin_seconds(desk: Numbers, packets: Packets) -> None:
    """Let second 0 begin with the first packet."""
    if not desk[BEGUN] and len(packets.time):
        desk[BEGUN], desk[START] = 1, packets.time[0]


@kernel
def pump(
    tables: Tables,
    packets: Packets,
    first: int,
    signs: Numbers,
    numbers: Numbers,
    ups: Numbers,
    measuring: Measuring,
    begin: int,
) -> int:
    """Classify and measure up to BATCH packets from `begin` on; returns the end of them.

    numbers[i] becomes packet i's flow number, -1 for none; ups[i] 1 if it goes from the flow's
    source.
    """
    end = min(begin + BATCH, len(packets.offset))
    begin_seconds(measuring.desk, packets)
    for i in range(begin, end):
        numbers[i] = step_measured(tables, packets, i, first + i, signs, measuring)
        ups[i] = signs[SIGN_UP]
    end_batch(tables, measuring)
    return end


@kernel
def measure_file(
    measuring: Measuring,
    source: Source,
    room: Packets,
    tables: Tables,
    records: int,
    waiting: int,
    signs: Numbers,
) -> tuple[int, int]:
    """Read, classify and measure batches as `feed_file` does; stops where rows must be moved."""
    desk = measuring.desk
    for _ in range(AT_ONCE):
        n = read_columns(source, room, tables, waiting)
        if n <= 0:
            return records, -n
        packets = batch_of(source, room, n)
        begin_seconds(desk, packets)
        for i in range(n):
            step_measured(tables, packets, i, records + i, signs, measuring)
        end_batch(tables, measuring)
        records += n
        waiting = I(-1)
        if desk[ROWS] > ROOM - MOST_ROWS * QUEUE:
            break
    return records, waiting


class Meter:
    """An engine and the quality of the calls in its packets.

    every: measure every flow, not only those that are or may become call media. ups: int64[n] of
    the last batch, 1 for packets from their flow's source.
    """

    def __init__(self, engine: Engine, every: bool = False) -> None:
        self.engine = engine
        self.state = no_measuring()
        self.state.desk[EVERY] = every
        self.parts: list[Rows] = []
        self.ups = np.zeros(0, np.int64)

    @property
    def refused(self) -> int:
        """Return how many packets were not measured: too many flows at the same time."""
        return int(self.state.desk[REFUSED])

    @property
    def start(self) -> int:
        """Return the time of the first packet, in ns: the start of second 0."""
        return int(self.state.desk[START])

    def feed(self, packets: Packets) -> NDArray[np.int64]:
        """Classify and measure packets in order; returns int64[n], flow numbers, -1: no flow."""
        count, engine = packets.total, self.engine
        numbers, self.ups = np.empty(count, np.int64), np.empty(count, np.int64)
        engine.reserve(count)
        done = 0
        while done < count:
            arguments = (engine.tables, packets, engine.records, engine.signs, numbers, self.ups)
            done = pump(*arguments, self.state, done)
            self.drain()
        engine.records += count
        engine.drain()
        return numbers

    def through(self, capture: CaptureFile) -> None:
        """Classify and measure a capture; raises CaptureError as `CaptureFile.batches` does."""
        through(self.engine, capture, feed=self._feed)

    def _feed(self, *arguments: Any) -> tuple[int, int]:
        """Feed batches of a file, as parallel.feed_file does, with its arguments."""
        records, waiting = measure_file(self.state, *arguments)
        self.drain()
        return records, waiting

    def measure(self) -> None:
        """Count the packets that wait in the queue."""
        measure_queue(self.state)
        self.drain()

    def drain(self) -> None:
        """Move the rows of the buffer to a list."""
        rows, desk = self.state.rows, self.state.desk
        if desk[ROWS]:
            self.parts.append(rows[: desk[ROWS]].copy())
            desk[ROWS] = 0

    def rows(self) -> Rows:
        """Return ROW[n] of every measured second so far, by flow, direction and second.

        The current second of each track is included; the meter goes on counting it. Flows with few
        packets that are no call media by now have no rows, unless every flow is measured.
        """
        tables = self.engine.tables
        flows = tables.flows[: tables.meter[METER_FLOWS]]
        ringed = (flows["mark"] < 0) & (flows["version"] != RETIRED)
        waiting = flows[ringed]
        settle_all(waiting, len(waiting), tables.notes, tables.meter, tables.model)
        roles = np.zeros(len(flows), np.uint8)
        roles[ringed] = waiting["role"]
        give_tracks(flows, flows, roles, latest(flows), self.state)
        self.measure()
        tracks = self.state.tracks[: self.state.desk[USED]]
        return in_order([*self.parts, last_seconds(tracks)])

    def take(self, ended: Records) -> Rows:
        """Remove flows that have ended, FLOW[n]; return their ROW[n] as `rows` does.

        Live, this bounds the rows that the meter keeps.
        """
        give_tracks(self.engine.tables.flows, ended, ended["role"], latest(ended), self.state)
        self.measure()
        flows = ended["first_record"]
        records = self.state.owners[: self.state.desk[USED] >> 1, RECORD]
        own = 2 * np.flatnonzero(np.isin(records - 1, flows))
        rows = np.concatenate([*self.parts, np.zeros(0, ROW)])
        gone = np.isin(rows["flow"], flows)
        self.parts = [rows[~gone]]
        tracks = self.state.tracks[np.add.outer(own, (0, 1)).ravel()]
        for place in own.tolist():
            release(self.state, place)
        return in_order([rows[gone], last_seconds(tracks)])


def latest(flows: Records) -> int:
    """Return the time in ns of the last packet of some flows, 0 for none."""
    return int(flows["last_time"].max(initial=0))


def last_seconds(tracks: Tracks) -> Rows:
    """Return ROW[n] of the current seconds of tracks, up and down in turn; they stay unchanged."""
    rows = np.zeros(len(tracks), ROW)
    return rows[: close_all(tracks.copy(), len(tracks), rows, 0)]


def in_order(parts: list[Rows]) -> Rows:
    """Return rows by flow, direction and second."""
    rows = np.concatenate(parts)
    return rows[np.lexsort((rows["second"], -rows["up"], rows["flow"]))]
