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
#: Tracks at the beginning; they double as needed.
FIRST_TRACKS = 64
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
    if place >= 0 and I(tracks[place]["flow"]) != first:  # of an evicted flow
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
            tracks[place]["flow"] = tracks[place + 1]["flow"] = first
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
        clear(tracks, one)
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
) -> None:
    """Classify and measure a batch of packets.

    numbers[i] becomes packet i's flow number, -1 for none; ups[i] 1 if it goes from the flow's
    source.
    """
    for i in range(len(packets.offset)):
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


class Meter:
    """An engine and the quality of the calls in its packets.

    every: measure every flow, not only those that are or may become call media. ups: int64[n] of
    the last batch, 1 for packets from their flow's source.
    """

    def __init__(self, engine: Engine, every: bool = False) -> None:
        self.engine = engine
        self.tracks = no_tracks(FIRST_TRACKS)
        self.places = np.zeros(0, np.int64)
        self.free = np.zeros(MOST_TRACKS, np.int64)
        self.desk = np.zeros(DESK, np.int64)
        self.desk[EVERY] = every
        self.buffer: Rows = np.zeros(0, ROW)
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
        self.reserve(count)
        arguments = (engine.tables, packets, engine.records, engine.signs, numbers, self.ups)
        pump(*arguments, self.places, self.tracks, self.free, self.buffer, self.desk)
        engine.records += count
        engine.drain()
        self.drain()
        return numbers

    def reserve(self, packets: int) -> None:
        """Make room for one more flow and one more row per packet."""
        flows = len(self.engine.tables.flows)
        if len(self.places) < flows:
            more = np.zeros(flows - len(self.places), np.int64)
            self.places = np.concatenate((self.places, more))
        spare = len(self.tracks) - 2 - int(self.desk[USED]) + 2 * int(self.desk[FREE])
        if spare < 2 * packets and len(self.tracks) < 2 * MOST_TRACKS:
            wanted = len(self.tracks) + max(2 * packets - spare, len(self.tracks))
            larger = no_tracks(min(wanted // 2, MOST_TRACKS))
            larger[: len(self.tracks)] = self.tracks
            self.tracks = larger
        if len(self.buffer) < packets + 1:
            self.buffer = np.zeros(packets + 1, ROW)

    def drain(self) -> None:
        """Move the rows of the last batch to a list."""
        used = int(self.desk[ROWS])
        if used:
            self.parts.append(self.buffer[:used].copy())
            self.desk[ROWS] = 0

    def rows(self) -> Rows:
        """Return ROW[n] of every measured second so far, by flow, direction and second.

        The current second of each track is included; the meter goes on counting it.
        """
        used = int(self.desk[USED])
        last = np.zeros(used, ROW)
        count = close_all(self.tracks.copy(), used, last, 0)
        rows = np.concatenate([*self.parts, last[:count]])
        return rows[np.lexsort((rows["second"], -rows["up"], rows["flow"]))]
