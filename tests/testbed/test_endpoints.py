# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints: the order of events, and what keeps an end from sending."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from midcall.testbed.replay.endpoints import (
    ARRIVE,
    GAVE_UP,
    KILLED,
    NUMBER_BITS,
    NUMBERS,
    SEND,
    arrays,
    arrived,
    begin,
    event,
    first_sending,
    fresh,
    refused,
    sift_down,
    sift_up,
    try_send,
)
from midcall.testbed.replay.script import script

EVENTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_events_come_off_the_heap_by_time_then_by_word(events: list[tuple[int, int]]) -> None:
    heap = np.zeros((len(events) + 1, 2), np.int64)
    size = 0
    for time, code in events:
        size = sift_up(heap, size, time, code)
    order = []
    while size > 0:
        order.append((int(heap[0, 0]), int(heap[0, 1])))
        size = sift_down(heap, size)
    assert order == sorted(events)


def test_of_two_events_at_one_time_what_arrives_comes_first() -> None:
    assert event(ARRIVE, 9) < event(SEND, 0)
    assert event(SEND, 7) >> NUMBER_BITS == SEND
    assert event(SEND, 7) & NUMBERS == 7


def test_only_packets_that_wait_for_nothing_are_scheduled_at_the_begin(
    scene: Any, make: Any
) -> None:
    call = make.webrtc_call(scene, seconds=0.1)
    orders = script(scene.packets, [call])
    ends = fresh(orders)
    heap = np.zeros((64, 2), np.int64)
    size = begin(arrays(orders), ends, heap)
    # The caller's request and the far side's check: media follow in the order of their flow.
    assert np.flatnonzero(ends.scheduled).tolist() == [0, 2]
    assert size == 2


def test_an_end_waits_for_its_latch_and_goes_on_as_late_as_that_opened(
    scene: Any, make: Any
) -> None:
    call = make.webrtc_call(scene, seconds=0.1)
    orders = script(scene.packets, [call])
    ends, arrays_of_script = fresh(orders), arrays(orders)
    assert arrays_of_script.need is not orders.need
    heap, counts = np.zeros((64, 2), np.int64), np.zeros(8, np.int64)
    media = 4  # the caller's first
    late = 700_000_000
    size = begin(arrays_of_script, ends, heap)
    for packet in range(4):
        when = int(orders.send[packet]) + late
        sent, size = first_sending(packet, when, arrays_of_script, ends, counts, heap, size)
        assert sent
        assert ends.scheduled[media] == (packet == 4)
    for packet in range(4):
        when = int(orders.send[packet] + orders.base[packet]) + late
        size = arrived(packet, when, arrays_of_script, ends, heap, size)
    assert ends.scheduled[media] == 1
    due = {int(code) & NUMBERS: int(time) for time, code in heap[:size]}
    assert due[media] == int(orders.send[media]) + late
    assert (ends.opened > 0).all()
    assert ends.success.all()


def test_what_keeps_a_packet_from_being_sent_is_a_timer_or_a_dead_connection(
    scene: Any, make: Any
) -> None:
    call = make.webrtc_call(scene, seconds=0.1)
    orders = script(scene.packets, [call])
    ends, arrays_of_script = fresh(orders), arrays(orders)
    begun = int(orders.send[0])
    ends.begun[0] = begun
    timer = int(orders.timer[0])
    assert refused(4, begun + timer, arrays_of_script, ends) == -1
    assert refused(4, begun + timer + 1, arrays_of_script, ends) == GAVE_UP
    ends.success[0] = 1
    assert refused(4, begun + timer + 1, arrays_of_script, ends) == -1
    ends.dead[2 * orders.flow[4] + orders.side[4]] = 1
    assert refused(4, begun, arrays_of_script, ends) == KILLED


def test_a_packet_that_came_lets_what_waits_for_it_leave_after_its_think_time(
    scene: Any, make: Any
) -> None:
    scene.udp(0.0, ">", make.RELAY, 3478, make.stun(1, 7))
    scene.udp(0.1, "<", make.RELAY, 3478, make.stun(0x101, 7))
    orders = script(scene.packets)
    ends, arrays_of_script = fresh(orders), arrays(orders)
    heap = np.zeros((64, 2), np.int64)
    late = int(orders.send[0]) + 500_000_000
    assert try_send(1, arrays_of_script, ends, heap, 0) == 0
    size = arrived(0, late, arrays_of_script, ends, heap, 0)
    assert size == 1
    assert heap[0].tolist() == [late + orders.think[1], event(SEND, 1)]
    assert ends.first_received.tolist() == [-1, late, -1, -1]
