# SPDX-License-Identifier: BSD-3-Clause
"""TCP streams: which bytes a receiver must have before it can use a segment.

A receiver delivers bytes in order (RFC 9293 section 3.10.7.4). So it can use a segment only after
all earlier bytes of the stream have arrived. It does not matter which segment brought them: an
earlier segment, a retransmission, or a segment that overtook others.

The replay does not wait for two kinds of earlier bytes: bytes that the capture does not hold, and
bytes that it holds only in later packets. The captured receiver went on without them too.

A stream is one direction of one connection. Its bytes are cut into pieces at the begin and end of
every segment. The pieces of a stream are numbered in the order in which the capture first shows
them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.classifier.state.flow_table import Records
from midcall.testbed.network.tcp import SYN

Numbers = NDArray[np.int64]

#: Key of a byte: the number of its stream times STREAM_ROOM, plus its offset in the stream.
STREAM_ROOM = 1 << 40


class Streams(NamedTuple):
    """The pieces of every stream of a capture.

    stream: [n], the stream of each packet, -1 where a packet carries no TCP bytes. after: [n], the
    receiver can use packet i once it has every piece of the stream with a number below after[i].
    first_piece: [n + 1], packet i carries the pieces piece[first_piece[i] : first_piece[i + 1]].
    base: [streams + 1], stream s consists of the pieces base[s] to base[s + 1] - 1.
    """

    stream: Numbers
    after: Numbers
    first_piece: Numbers
    piece: Numbers
    base: Numbers


def streams(facts: Records, side: Numbers) -> Streams:
    """Return the streams of a capture.

    facts: FACT[n], the packet index; side: int64[n], the side that sent each packet (sides.CALLER,
    FAR or LOCAL).
    """
    count = len(facts)
    rows = np.flatnonzero(
        (facts["flow"] >= 0) & (facts["proto"] == TCP) & (facts["until"] != facts["sequence"])
    )
    rows = rows[np.lexsort((rows, side[rows], facts["flow"][rows]))]
    number, begin, end = locate_segments(facts[rows], side[rows])
    stream = np.full(count, -1, np.int64)
    stream[rows] = number
    total = int(number[-1]) + 1 if len(rows) else 0
    # Interval k lies between edges k and k + 1. A segment covers the intervals low to high - 1.
    edges = np.unique(np.concatenate((begin, end)))
    low, high = np.searchsorted(edges, begin), np.searchsorted(edges, end)
    # One entry for each packet and each interval that the packet covers.
    lengths = high - low
    packet = np.repeat(rows, lengths)
    interval = np.repeat(low - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    first_packet = np.full(len(edges), count, np.int64)  # the first packet that covers an interval
    np.minimum.at(first_packet, interval, packet)
    # A piece is an interval that a packet covers. Pieces are sorted by stream, then first packet.
    covered = np.flatnonzero(first_packet < count)
    stream_of = edges[covered] // STREAM_ROOM
    order = covered[np.lexsort((first_packet[covered], stream_of))]
    piece_of = np.full(len(edges), -1, np.int64)
    piece_of[order] = np.arange(len(order))
    base = np.searchsorted(np.sort(stream_of), np.arange(total + 1)).astype(np.int64)
    by_packet = np.argsort(packet, kind="stable")
    return Streams(
        stream,
        needed_pieces(rows, number, low, piece_of, first_packet[order], base, count),
        np.searchsorted(packet[by_packet], np.arange(count + 1)).astype(np.int64),
        piece_of[interval[by_packet]],
        base,
    )


def locate_segments(facts: Records, side: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return for each segment its stream, the key of its begin, and the key of its end.

    The segments are sorted by flow, then side, then packet number. If a SYN has another sequence
    number than the last SYN of the same direction, a new connection uses the same ports: a new
    stream begins. Sequence numbers are unwrapped: two consecutive segments of a stream are less
    than 2^31 bytes apart.
    """
    if not len(facts):
        empty = np.zeros(0, np.int64)
        return empty, empty, empty
    direction = facts["flow"] * 4 + side
    starts = np.append(True, direction[1:] != direction[:-1])
    last: dict[int, int] = {}
    for at in np.flatnonzero(facts["flags"] & SYN):
        key, sequence = int(direction[at]), int(facts["sequence"][at])
        if last.get(key, sequence) != sequence:
            starts[at] = True
        last[key] = sequence
    number = np.cumsum(starts) - 1
    wrapped = facts["sequence"].astype(np.int64)
    step = np.append(0, ((np.diff(wrapped) + (1 << 31)) & 0xFFFFFFFF) - (1 << 31))
    step[starts] = 0
    walked = np.cumsum(step)
    lowest = np.minimum.reduceat(walked, np.flatnonzero(starts))
    begin = number * STREAM_ROOM + walked - lowest[number]
    length = (facts["until"] - facts["sequence"]) & 0xFFFFFFFF
    return number, begin, begin + length


def needed_pieces(
    rows: Numbers,
    number: Numbers,
    low: Numbers,
    piece_of: Numbers,
    first_packet: Numbers,
    base: Numbers,
    count: int,
) -> Numbers:
    """Return `after` of Streams, int64[count].

    A packet needs the pieces of lower bytes that an earlier packet of the capture carried. after[i]
    is the highest number of such a piece, plus 1, or base of the stream if there is no such piece.

    rows: the packets with TCP bytes. For each of them, number: its stream; low: its first interval.
    piece_of: the piece of each interval, -1 for bytes that no packet carries. first_packet: the
    first packet that carried each piece.
    """
    after = np.zeros(count, np.int64)
    highest = np.append(-1, np.maximum.accumulate(piece_of))[low]
    if len(first_packet):
        is_earlier = np.where(highest >= 0, first_packet[highest] < rows, True)
    else:
        is_earlier = highest < 0
    after[rows] = np.maximum(highest + 1, base[number])
    interval_of = np.full(len(first_packet), -1, np.int64)
    interval_of[piece_of[piece_of >= 0]] = np.flatnonzero(piece_of >= 0)
    # Where the highest piece of lower bytes came later than the packet, search an earlier piece.
    for at in np.flatnonzero(~is_earlier):
        first, last = base[number[at]], base[number[at] + 1]
        piece = int(first + np.searchsorted(first_packet[first:last], rows[at])) - 1
        while piece >= first and interval_of[piece] >= low[at]:
            piece -= 1
        after[rows[at]] = piece + 1
    return after
