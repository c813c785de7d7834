# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints: the order of events, and what keeps an end from sending."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.endpoints import (
    ARRIVE,
    GAVE_UP,
    LATCHED,
    SEND,
    UNHEARD,
    arrays,
    begin,
    event,
    fresh,
    refused,
    sift_down,
    sift_up,
    used,
)
from testbed.replay import script

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
    assert event(ARRIVE, 9, 10) < event(SEND, 0, 10)


def test_only_packets_that_wait_for_none_are_scheduled_at_the_begin(scene: Any, make: Any) -> None:
    make.webrtc_call(scene, seconds=0.1)
    orders = script(scene.packets)
    assert (
        begin(orders.send, orders.gate, fresh(orders).heap)
        == np.count_nonzero(orders.gate < 0)
        < 14
    )


def test_an_end_waits_for_its_latch_and_for_a_first_word_and_not_beyond_its_timer(
    scene: Any, make: Any
) -> None:
    call = make.webrtc_call(scene, seconds=0.1)
    orders = script(scene.packets, [call])
    ends = fresh(orders)
    told = arrays(orders, np.zeros(len(orders.flow), np.int64))
    assert told.need is not orders.need

    def why(packet: int, time: int) -> int:
        return int(refused(packet, time, told, ends))

    last = len(orders.flow) - 2  # media of the caller
    now = int(orders.send[last])
    assert why(0, now) == -1
    assert why(last, now) == LATCHED
    size = 0
    for packet in range(4):
        size = used(packet, now, told, ends, size)
    assert why(last, now) == -1
    assert (ends.opened == now).all()
    assert ends.success.all()
    ends.success[:] = 0
    assert why(last, int(orders.deadline[0]) + 1) == GAVE_UP
    ends.first_heard[:] = -1
    answer = int(np.flatnonzero(orders.heard)[0])
    told.need[:] = 0
    assert why(answer, now) == UNHEARD


def test_a_packet_that_came_lets_what_waits_for_it_leave_after_its_think_time(
    scene: Any, make: Any
) -> None:
    scene.udp(0.0, ">", make.RELAY, 3478, make.stun(1, 7))
    scene.udp(0.1, "<", make.RELAY, 3478, make.stun(0x101, 7))
    orders = script(scene.packets)
    ends = fresh(orders)
    told = arrays(orders, np.zeros(2, np.int64))
    size = used(0, 500, told, ends, 0)
    assert size == 1
    assert ends.heap[0].tolist() == [500 + orders.think[1], event(SEND, 1, 2)]
    assert ends.first_heard.tolist() == [-1, 500, -1, -1]
