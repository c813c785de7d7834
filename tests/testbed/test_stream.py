# SPDX-License-Identifier: BSD-3-Clause
"""Streams: what a TCP receiver must have before it can use a segment."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from midcall.captures.packets.numbers import TCP
from midcall.testbed.network.tcp import SYN
from midcall.testbed.replay.packet_index import FACT
from midcall.testbed.replay.tcp_stream import streams

#: (begin, length) of segments, in the order of the capture.
SEGMENTS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), min_size=1, max_size=25)


def facts_of(segments: list[tuple[int, int]], first: int = 0) -> Any:
    """Return the facts of segments of one direction, sequence numbers from `first` on."""
    facts = np.zeros(len(segments), FACT)
    facts["proto"] = TCP
    for fact, (begin, length) in zip(facts, segments, strict=True):
        fact["sequence"] = (first + begin) & 0xFFFFFFFF
        fact["until"] = (first + begin + length) & 0xFFFFFFFF
    return facts


def usable(segments: list[tuple[int, int]], packet: int, came: set[int]) -> bool:
    """Tell by sets of bytes whether a segment is of use, the slow and obvious way."""
    begin = segments[packet][0]
    known = {b for p in range(packet) for b in octets(segments[p]) if b < begin}
    return known <= {b for p in came for b in octets(segments[p])}


def octets(segment: tuple[int, int]) -> range:
    """Return the bytes of a segment."""
    return range(segment[0], segment[0] + segment[1])


@settings(max_examples=200, deadline=None)
@given(SEGMENTS, st.sampled_from([0, 0xFFFFFFF0]), st.data())
def test_what_is_awaited_is_the_earlier_packets_lower_bytes(
    segments: list[tuple[int, int]], first: int, data: Any
) -> None:
    parts = streams(facts_of(segments, first), np.zeros(len(segments), np.int64))
    assert (parts.stream == 0).all()
    came: set[int] = set()
    there = np.zeros(parts.base[-1], bool)
    for packet in data.draw(st.permutations(range(len(segments)))):
        came.add(packet)
        there[parts.piece[parts.first_piece[packet] : parts.first_piece[packet + 1]]] = True
        complete = bool(there[: parts.after[packet]].all())
        # Pieces are awaited up to a number, so a hole that a later packet showed may count too.
        if complete:
            assert usable(segments, packet, came)
        if there.all():
            assert complete


@settings(max_examples=200, deadline=None)
@given(SEGMENTS)
def test_a_capture_replayed_in_its_own_order_stalls_nobody(segments: list[tuple[int, int]]) -> None:
    parts = streams(facts_of(segments), np.zeros(len(segments), np.int64))
    there = np.zeros(parts.base[-1], bool)
    for packet in range(len(segments)):
        assert there[: parts.after[packet]].all()
        there[parts.piece[parts.first_piece[packet] : parts.first_piece[packet + 1]]] = True


def test_each_direction_of_each_connection_is_a_stream_of_its_own() -> None:
    facts = facts_of([(0, 5), (0, 5), (5, 5), (7, 2)])
    facts["flow"] = [0, 0, 0, 1]
    parts = streams(facts, np.array([0, 1, 0, 0]))
    assert parts.stream.tolist() == [0, 1, 0, 2]
    assert parts.base.tolist() == [0, 2, 3, 4]
    assert parts.after.tolist() == [0, 2, 1, 3]


def test_ports_used_again_begin_a_new_stream() -> None:
    facts = facts_of([(100, 1), (101, 9), (40, 1), (41, 9), (40, 1)])
    facts["flags"] = [SYN, 0, SYN, 0, SYN]
    parts = streams(facts, np.zeros(5, np.int64))
    assert parts.stream.tolist() == [0, 0, 1, 1, 1]
    assert parts.after.tolist() == [0, 1, 2, 3, 2]


def test_segments_without_bytes_and_datagrams_belong_to_no_stream() -> None:
    facts = facts_of([(0, 0), (0, 8)])
    facts["proto"][1] = 17
    parts = streams(facts, np.zeros(2, np.int64))
    assert parts.stream.tolist() == [-1, -1]
    assert parts.base.tolist() == [0]


def test_an_overtaken_segment_is_held_until_the_one_before_it_came(
    scene: Any, make: Any, run: Any
) -> None:
    from midcall.testbed.replay.endpoints import arrays, arrived, fresh
    from midcall.testbed.replay.script import script

    scene.hello(0.0, make.PEER, 80)
    scene.tcp(0.05, ">", make.PEER, 80, b"one")
    scene.tcp(0.051, ">", make.PEER, 80, b"two")
    scene.tcp(0.09, "<", make.PEER, 80, b"both")
    orders = script(scene.packets)
    ends = fresh(orders)
    arrays_of_script, heap = arrays(orders), np.zeros((64, 2), np.int64)

    def arrive(packet: int, time: int, size: int) -> int:
        return int(arrived(packet, time, arrays_of_script, ends, heap, size))

    size = 0
    for packet in (0, 1, 2):
        size = arrive(packet, packet, size)
    waiting = size
    assert arrive(4, 10, waiting) == waiting
    assert ends.used[4] == -1
    assert arrive(3, 20, waiting) == waiting
    assert ends.used[[3, 4]].tolist() == [20, 20]
