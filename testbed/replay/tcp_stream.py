# SPDX-License-Identifier: BSD-3-Clause
"""Streams: which bytes a TCP receiver must have before it can use a segment.

A receiver delivers bytes in order (RFC 9293 section 3.10.7.4). So a segment can be used once the
bytes before it have arrived, in any segment: an earlier one, a retransmission, one that overtook
it. Bytes that are not in the capture are no gap, and neither are bytes that appear in it only
later: the receiver of the capture continued without waiting for them.

The bytes of a stream (one direction of one connection) are cut at every segment's begin and end
into pieces, numbered in the order in which they first appear in the capture.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.classifier.state.flow_table import Records
from midcall.testbed.network.tcp import SYN

Numbers = NDArray[np.int64]

#: Room for the bytes of one stream in a key of stream and byte.
STREAM_ROOM = 1 << 40


class Streams(NamedTuple):
    """The pieces of every stream of a capture; pieces of one stream stand together."""

    stream: Numbers  # [n], per packet: its stream, -1 where it carries no TCP bytes
    after: Numbers  # [n]: every piece of its stream below this number must be there before it
    first_piece: Numbers  # [n + 1]: packet i carries the pieces
    piece: Numbers  # piece[first_piece[i] : first_piece[i + 1]]
    base: Numbers  # [streams + 1]: stream s owns the pieces base[s] to base[s + 1]


def streams(facts: Records, side: Numbers) -> Streams:
    """Return the streams of a capture: `facts` is FACT[n], `side` int64[n], that of each sender."""
    count = len(facts)
    rows = np.flatnonzero(
        (facts["flow"] >= 0) & (facts["proto"] == TCP) & (facts["until"] != facts["sequence"])
    )
    rows = rows[np.lexsort((rows, side[rows], facts["flow"][rows]))]
    number, begin, end = placed(facts[rows], side[rows])
    stream = np.full(count, -1, np.int64)
    stream[rows] = number
    total = int(number[-1]) + 1 if len(rows) else 0
    edges = np.unique(np.concatenate((begin, end)))
    low, high = np.searchsorted(edges, begin), np.searchsorted(edges, end)
    # Every (packet, stretch between two edges) that the packet covers.
    lengths = high - low
    packet = np.repeat(rows, lengths)
    stretch = np.repeat(low - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    holder = np.full(len(edges), count, np.int64)
    np.minimum.at(holder, stretch, packet)
    covered = np.flatnonzero(holder < count)
    owner = edges[covered] // STREAM_ROOM
    order = covered[np.lexsort((holder[covered], owner))]
    numbered = np.full(len(edges), -1, np.int64)
    numbered[order] = np.arange(len(order))
    base = np.searchsorted(np.sort(owner), np.arange(total + 1)).astype(np.int64)
    by_packet = np.argsort(packet, kind="stable")
    return Streams(
        stream,
        awaited(rows, number, low, numbered, holder[order], base, count),
        np.searchsorted(packet[by_packet], np.arange(count + 1)).astype(np.int64),
        numbered[stretch[by_packet]],
        base,
    )


def placed(facts: Records, side: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return per segment (sorted by flow, side, number): stream, key of its begin, of its end.

    A SYN with a sequence number that its direction's last SYN did not have begins a new stream: the
    connection's ports were used again. Sequence numbers are unwrapped by the shortest step.
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


def awaited(
    rows: Numbers,
    number: Numbers,
    low: Numbers,
    numbered: Numbers,
    holder: Numbers,
    base: Numbers,
    count: int,
) -> Numbers:
    """Return per packet the number below which every piece of its stream must be there.

    These are the pieces of lower bytes that an earlier packet of the capture carried. rows:
    packets; number: their streams; low: the stretch each begins at; numbered: piece per stretch, -1
    for bytes that no packet carries; holder: per piece, the first packet that carried it.
    """
    after = np.zeros(count, np.int64)
    highest = np.append(-1, np.maximum.accumulate(numbered))[low]
    known = np.where(highest >= 0, holder[highest] < rows, True) if len(holder) else highest < 0
    after[rows] = np.maximum(highest + 1, base[number])
    stretch = np.full(len(holder), -1, np.int64)
    stretch[numbered[numbered >= 0]] = np.flatnonzero(numbered >= 0)
    for at in np.flatnonzero(~known):
        first, last = base[number[at]], base[number[at] + 1]
        piece = int(first + np.searchsorted(holder[first:last], rows[at])) - 1
        while piece >= first and stretch[piece] >= low[at]:
            piece -= 1
        after[rows[at]] = piece + 1
    return after
