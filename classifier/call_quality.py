# SPDX-License-Identifier: BSD-3-Clause
"""Classify packets and measure the quality of calls in the same pass.

`pump` is the packet path with one more step: a packet of a flow that is, or may become, call media
is counted in the flow's track (midcall.classifier.quality). A flow has a track from its first
payload packet, so that its rows do not depend on when the classifier recognised it. A flow that is
settled as something else gives its track back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.classifier.engine import Engine, Tables, step_packet
from midcall.classifier.quality.meter import close_all, measure
from midcall.classifier.quality.tracks import ROW, Rows, Tracks, no_tracks
from midcall.classifier.state.flow_table import SETTLED, Numbers, Records
from midcall.classifier.state.packet_fields import (
    SIGN_IP_SIZE,
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_UP,
)
from midcall.classifier.state.verdicts import MEDIA

#: Flows that have tracks at the same time, at most; further flows are counted, not measured.
MOST_TRACKS = 1 << 15
#: Rows that are written before Python code moves them to a list.
ROOM = 256
# Slots of `desk`, the counters of a meter.
START, USED, FREE, REFUSED, ROWS, EVERY = range(6)
DESK = 8


@inlined
def track_of(
    flows: Records, number: int, places: Numbers, tracks: Tracks, free: Numbers, desk: Numbers
) -> int:
    """Return the first of a flow's two tracks, -1 if it has none and needs none."""
    flow = flows[number]
    place = places[number] - 1
    first = I(flow["first_record"])
    if place >= 0 and I(tracks[place]["flow"]) != first + 1:  # of an evicted flow
        release(tracks, place, free, desk)
        place = I(-1)
    if flow["state"] & SETTLED and flow["role"] != MEDIA and not desk[EVERY]:
        if place >= 0:
            release(tracks, place, free, desk)
        places[number] = 0
        return -1
    if place < 0:
        place = take_track(tracks, free, desk)
        places[number] = place + 1
        if place >= 0:
            tracks[place]["flow"] = tracks[place + 1]["flow"] = first + 1
    return I(place)


@kernel
def take_track(tracks: Tracks, free: Numbers, desk: Numbers) -> int:
    """Return a free pair of tracks, -1 where all are in use."""
    if desk[FREE] > 0:
        desk[FREE] -= 1
        return I(free[desk[FREE]])
    if desk[USED] + 4 > len(tracks):  # the last pair stays clear: others are cleared with it
        desk[REFUSED] += 1
        return -1
    place = I(desk[USED])
    desk[USED] += 2
    return place


@kernel
def release(tracks: Tracks, place: int, free: Numbers, desk: Numbers) -> None:
    """Clear a pair of tracks and list it as free."""
    for one in (place, place + 1):
        if I(tracks[one]["until"]):
            clear(tracks, one)
        tracks[one]["flow"] = 0
    free[desk[FREE]] = place
    desk[FREE] += 1


@kernel
def clear(tracks: Tracks, place: int) -> None:
    """Clear a track."""
    tracks[place] = tracks[len(tracks) - 1]


@kernel
def pump(
    tables: Tables,
    packets: Packets,
    first: int,
    signs: Numbers,
    numbers: Numbers,
    ups: Numbers,
    places: Numbers,
    tracks: Tracks,
    free: Numbers,
    rows: Rows,
    desk: Numbers,
    begin: int,
) -> int:
    """Classify and measure the packets of a batch from `begin` on, while the rows have room.

    numbers[i] becomes packet i's flow number, -1 for none; ups[i] 1 if it goes from the flow's
    source. Returns how many packets of the batch are done.
    """
    for i in range(begin, len(packets.offset)):
        if desk[ROWS] >= len(rows):
            return i
        number = step_packet(tables, packets, i, first + i, signs)
        numbers[i], ups[i] = number, signs[SIGN_UP]
        if number < 0 or signs[SIGN_PAYLOAD_SIZE] <= 0:
            continue
        if signs[SIGN_PROTO] != UDP and signs[SIGN_PROTO] != TCP:
            continue
        place = track_of(tables.flows, number, places, tracks, free, desk)
        if place >= 0:
            desk[ROWS] = measure(
                tracks,
                place + 1 - signs[SIGN_UP],
                rows,
                desk[ROWS],
                signs[SIGN_PAYLOAD_SIZE],
                signs[SIGN_IP_SIZE],
                packets.time[i],
                desk[START],
            )
    return len(packets.offset)


class Meter:
    """An engine and the quality of the calls in its packets.

    every: measure every flow, not only those that are or may become call media. ups: int64[n] of
    the last batch, 1 for packets from their flow's source.
    """

    def __init__(self, engine: Engine, every: bool = False) -> None:
        self.engine = engine
        self.tracks = no_tracks(MOST_TRACKS)
        self.places = np.zeros(0, np.int64)
        self.free = np.zeros(MOST_TRACKS, np.int64)
        self.desk = np.zeros(DESK, np.int64)
        self.desk[EVERY] = every
        self.buffer: Rows = np.zeros(ROOM, ROW)
        self.parts: list[Rows] = []
        self.ups = np.zeros(0, np.int64)
        self.begun = False

    @property
    def refused(self) -> int:
        """Return how many packets were not measured: too many flows at the same time."""
        return int(self.desk[REFUSED])

    @property
    def start(self) -> int:
        """Return the time of the first packet, in ns: the start of second 0."""
        return int(self.desk[START])

    def feed(self, packets: Packets) -> NDArray[np.int64]:
        """Classify and measure packets in order; returns int64[n], flow numbers, -1: no flow."""
        count, engine = packets.total, self.engine
        numbers, self.ups = np.empty(count, np.int64), np.empty(count, np.int64)
        if count and not self.begun:
            self.begun, self.desk[START] = True, packets.time[0]
        engine.reserve(count)
        flows = len(engine.tables.flows)
        if len(self.places) < flows:
            more = np.zeros(flows - len(self.places), np.int64)
            self.places = np.concatenate((self.places, more))
        done = 0
        while done < count:
            arguments = (engine.tables, packets, engine.records, engine.signs, numbers, self.ups)
            state = (self.places, self.tracks, self.free, self.buffer, self.desk)
            done = pump(*arguments, *state, done)
            self.drain()
        engine.records += count
        engine.drain()
        return numbers

    def drain(self) -> None:
        """Move the rows of the buffer to a list."""
        used = int(self.desk[ROWS])
        if used:
            self.parts.append(self.buffer[:used].copy())
            self.desk[ROWS] = 0

    def rows(self) -> Rows:
        """Return ROW[n] of every measured second so far, by flow, direction and second.

        The current second of each track is included; the meter goes on counting it.
        """
        return in_order([*self.parts, last_seconds(self.tracks[: self.desk[USED]])])

    def take(self, flows: NDArray[np.int64]) -> Rows:
        """Remove flows that have ended (their first packets); return their ROW[n] as `rows` does.

        Live, this bounds the rows that the meter keeps.
        """
        own = np.flatnonzero(np.isin(self.tracks["flow"][: self.desk[USED]] - 1, flows))
        rows = np.concatenate([*self.parts, np.zeros(0, ROW)])
        ended = np.isin(rows["flow"], flows)
        self.parts = [rows[~ended]]
        result = in_order([rows[ended], last_seconds(self.tracks[own])])
        self.places[np.isin(self.places - 1, own)] = 0
        for place in own[::2].tolist():
            release(self.tracks, place, self.free, self.desk)
        return result


def last_seconds(tracks: Tracks) -> Rows:
    """Return ROW[n] of the current seconds of pairs of tracks, which stay as they are."""
    rows = np.zeros(len(tracks), ROW)
    return rows[: close_all(tracks.copy(), len(tracks), rows, 0)]


def in_order(parts: list[Rows]) -> Rows:
    """Return rows by flow, direction and second."""
    rows = np.concatenate(parts)
    return rows[np.lexsort((rows["second"], -rows["up"], rows["flow"]))]
