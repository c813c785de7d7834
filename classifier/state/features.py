# SPDX-License-Identifier: BSD-3-Clause
"""Feature columns of the early model: sizes, gaps and directions of a flow's first payload packets.

The columns use no address, no port, no payload octet and no RTP header. So an operator could
compute them even if the flow were encrypted completely. The flow's scratch record (`note`) keeps
the size on the wire, time and direction of the first KEPT payload packets. The columns are computed
from the first 4, 8 or 16 of them. All columns are integers, so compiled and interpreted code give
the same bits; they are stored as float32. The "major" direction is the one with more packets (on a
tie, that of the first packet), so that a flow has the same columns at either end.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined, kernel

#: How many payload packets a note keeps.
KEPT = 16
#: The early model has one forest of decision trees for each of these numbers of packets.
LENGTHS = (4, 8, 16)

#: Upper bounds of what a note keeps: time in microseconds (71 minutes), size in bytes.
LONGEST, LARGEST = 0xFFFFFFFF, 0xFFFF

#: The columns, in order. Sizes are in bytes, gaps in microseconds. A gap is the time between two
#: successive packets. spread: the mean absolute deviation; that of sizes is multiplied by the
#: number of packets. step: the sum of absolute changes between successive packets. kinds: how many
#: different values occur; commonest: how often the most frequent one occurs. turns: how often the
#: direction changes. longest_run: most successive packets in one direction. small, large, bursts,
#: frames, pauses: how many packets or gaps are within the limits below.
COLUMNS = (
    "size_sum",
    "size_min",
    "size_median",
    "size_max",
    "size_spread",
    "size_step",
    "size_kinds",
    "size_commonest",
    "size_small",
    "size_large",
    "major_packets",
    "major_size_sum",
    "major_size_spread",
    "minor_size_sum",
    "minor_size_max",
    "turns",
    "longest_run",
    "duration",
    "gap_min",
    "gap_median",
    "gap_max",
    "gap_spread",
    "gap_bursts",
    "gap_frames",
    "gap_pauses",
    "major_gap_mean",
    "major_gap_spread",
)

#: A small packet has at most SMALL payload bytes, a large packet has at least LARGE.
SMALL, LARGE = 40, 900
#: In microseconds: a burst gap is shorter than 2 ms, a frame gap is 10 to 70 ms (codec frames), a
#: pause is longer than 500 ms.
BURST, FRAME_LEAST, FRAME_MOST, PAUSE = 2_000, 10_000, 70_000, 500_000


@inlined
def observe(note: Any, size: int, time: int, up: int) -> None:
    """Store one payload packet in its flow's note, after `note["seen"]` was increased for it.

    size: payload bytes on the wire; time: ns; up: 1 from the flow's source to its target, else 0.
    """
    at = I(note["seen"]) - 1
    if at >= KEPT:
        return
    moment = (time - I(note["first_time"])) // 1000
    note["sizes"][at] = min(max(size, 0), LARGEST)
    note["moments"][at] = min(max(moment, 0), LONGEST)
    if up:
        note["ways"] = I(note["ways"]) | (1 << at)


@kernel
def way(note: Any, at: int) -> int:
    """Return the direction of a kept packet: 1 from the flow's source, 0 to it."""
    return (I(note["ways"]) >> at) & 1


@kernel
def gap(note: Any, at: int, before: int) -> int:
    """Return the microseconds from packet `before` to packet `at`, 0 if the time went back."""
    return max(I(note["moments"][at]) - I(note["moments"][before]), 0)


@kernel
def major_way(note: Any, n: int) -> int:
    """Return the direction of most of the first n packets; on a tie, that of the first packet."""
    ups = I(0)
    for at in range(n):
        ups += way(note, at)
    if 2 * ups == n:
        return way(note, 0)
    return 1 if 2 * ups > n else 0


@kernel
def median_size(note: Any, n: int) -> int:
    """Return the lower median of the first n sizes, by counting instead of sorting."""
    for at in range(n):
        size, below, same = I(note["sizes"][at]), I(0), I(0)
        for other in range(n):
            below += 1 if I(note["sizes"][other]) < size else 0
            same += 1 if I(note["sizes"][other]) == size else 0
        if below <= (n - 1) // 2 < below + same:
            return size
    return 0


@kernel
def median_gap(note: Any, n: int) -> int:
    """Return the lower median of the n - 1 gaps between the first n packets."""
    for at in range(1, n):
        mine, below, same = gap(note, at, at - 1), I(0), I(0)
        for other in range(1, n):
            theirs = gap(note, other, other - 1)
            below += 1 if theirs < mine else 0
            same += 1 if theirs == mine else 0
        if below <= (n - 2) // 2 < below + same:
            return mine
    return 0


@kernel
def put(model: Any, column: int, value: int) -> int:
    """Write one column; returns the number of the next column."""
    model[column]["column"] = value
    return column + 1


@kernel
def size_columns(note: Any, n: int, model: Any, column: int) -> int:
    """Write the size columns of both directions together; returns the next column's number."""
    total, least, most, step = I(0), I(LARGEST), I(0), I(0)
    kinds, commonest, small, large = I(0), I(0), I(0), I(0)
    for at in range(n):
        size = I(note["sizes"][at])
        total += size
        least, most = min(least, size), max(most, size)
        small += 1 if size <= SMALL else 0
        large += 1 if size >= LARGE else 0
        if at:
            step += abs(size - I(note["sizes"][at - 1]))
        same, first = I(0), I(1)
        for other in range(n):
            if I(note["sizes"][other]) == size:
                same += 1
                first = first if other >= at else I(0)
        kinds += first
        commonest = max(commonest, same)
    spread = I(0)
    for at in range(n):
        spread += abs(n * I(note["sizes"][at]) - total)
    column = put(model, column, total)
    column = put(model, column, least)
    column = put(model, column, median_size(note, n))
    column = put(model, column, most)
    column = put(model, column, spread // n)
    column = put(model, column, step)
    column = put(model, column, kinds)
    column = put(model, column, commonest)
    column = put(model, column, small)
    return put(model, column, large)


@kernel
def way_columns(note: Any, n: int, major: int, model: Any, column: int) -> int:
    """Write the columns of directions and of each direction's sizes.

    Returns the next column's number.
    """
    packets, total, minor_total, minor_most = I(0), I(0), I(0), I(0)
    turns, run, longest = I(0), I(0), I(0)
    for at in range(n):
        size = I(note["sizes"][at])
        if way(note, at) == major:
            packets += 1
            total += size
        else:
            minor_total += size
            minor_most = max(minor_most, size)
        if at and way(note, at) != way(note, at - 1):
            turns += 1
            run = I(0)
        run += 1
        longest = max(longest, run)
    spread = I(0)
    for at in range(n):
        if way(note, at) == major:
            spread += abs(packets * I(note["sizes"][at]) - total)
    column = put(model, column, packets)
    column = put(model, column, total)
    column = put(model, column, spread // packets)
    column = put(model, column, minor_total)
    column = put(model, column, minor_most)
    column = put(model, column, turns)
    return put(model, column, longest)


@kernel
def gap_columns(note: Any, n: int, model: Any, column: int) -> int:
    """Write the gap columns of both directions together; returns the next column's number."""
    total, least, most = I(0), I(LONGEST), I(0)
    bursts, frames, pauses = I(0), I(0), I(0)
    for at in range(1, n):
        wait = gap(note, at, at - 1)
        total += wait
        least, most = min(least, wait), max(most, wait)
        bursts += 1 if wait < BURST else 0
        frames += 1 if FRAME_LEAST <= wait <= FRAME_MOST else 0
        pauses += 1 if wait > PAUSE else 0
    mean, spread = total // (n - 1), I(0)
    for at in range(1, n):
        spread += abs(gap(note, at, at - 1) - mean)
    column = put(model, column, total)
    column = put(model, column, least)
    column = put(model, column, median_gap(note, n))
    column = put(model, column, most)
    column = put(model, column, spread // (n - 1))
    column = put(model, column, bursts)
    column = put(model, column, frames)
    return put(model, column, pauses)


@kernel
def major_gap_columns(note: Any, n: int, major: int, model: Any, column: int) -> int:
    """Write the columns of gaps between successive packets of the major direction."""
    first, last, count = I(-1), I(-1), I(0)
    for at in range(n):
        if way(note, at) == major:
            first = at if first < 0 else first
            count += 1 if last >= 0 else 0
            last = I(at)
    mean = gap(note, last, first) // count if count else I(0)
    spread, before = I(0), I(-1)
    for at in range(n):
        if way(note, at) == major:
            if before >= 0:
                spread += abs(gap(note, at, before) - mean)
            before = I(at)
    column = put(model, column, mean)
    return put(model, column, spread // count if count else I(0))


@kernel
def write_columns(note: Any, n: int, model: Any) -> None:
    """Write the columns of the first n kept packets (n >= 2): column i to model[i]["column"]."""
    major = major_way(note, n)
    column = size_columns(note, n, model, 0)
    column = way_columns(note, n, major, model, column)
    column = gap_columns(note, n, model, column)
    major_gap_columns(note, n, major, model, column)
