# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints: what both ends of a call do by a script, whatever clock turns and whatever carries it.

An end sends a packet when it is due and nothing that it waits for is missing; a packet that comes
opens latches and lets others leave. These kernels are shared by virtual time (testbed.virtual) and
by the live backend, so that a call fails for the same reasons in both. Events are a binary heap
keyed (time, kind, packet): equal inputs give equal orders.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from captures.compiled import I, kernel
from captures.octets import Octets
from classifier.decode import TCP
from classifier.flow import Records
from testbed.replay import Script

Numbers = NDArray[np.int64]

# Kinds of event; of two at one time, what arrives comes first.
ARRIVE, BOX, SEND = 0, 1, 2
KINDS = 3

# Why a packet was not sent, as slots of `counts`.
WAITED, LATCHED, UNHEARD, GAVE_UP, STALLED = 0, 1, 2, 3, 4
COUNTS = ("waited", "latched", "unheard", "gave_up", "stalled")


def arrays(orders: Script) -> tuple[Any, ...]:
    """Return the arrays of a script that an event loop takes, in its order."""
    return (
        orders.flow,
        orders.side,
        orders.send,
        orders.base,
        orders.gate,
        orders.think,
        orders.first_child,
        orders.child,
        orders.latches,
        orders.need.copy(),
        orders.first_opens,
        orders.opens,
        orders.heard,
        orders.call,
        orders.deadline,
        orders.latch_call,
    )


def fresh(orders: Script) -> tuple[Numbers, NDArray[np.uint8], Numbers, Numbers]:
    """Return what both ends know before anything was sent: (state, success, opened, heap).

    state: int64[2 * flows + 2, 2], all -1: per flow and side, [when that side first heard in the
    flow, the first TCP byte that this side's sending lost]; success: uint8 per call; opened: int64
    per latch, ns, -1 closed; heap: int64[KINDS * n + 1, 2], room for every event.
    """
    return (
        np.full((2 * len(orders.held.flows) + 2, 2), -1, np.int64),
        np.zeros(len(orders.deadline), np.uint8),
        np.full(len(orders.need), -1, np.int64),
        np.zeros((KINDS * len(orders.flow) + 1, 2), np.int64),
    )


# ---- events


@kernel
def sift_up(heap: Numbers, size: int, time: int, code: int) -> int:
    """Add an event to the heap; returns its new size."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        above, word = heap[parent, 0], heap[parent, 1]
        if above < time or (above == time and word <= code):
            break
        heap[at, 0], heap[at, 1] = above, word
        at = parent
    heap[at, 0], heap[at, 1] = time, code
    return size + 1


@kernel
def sift_down(heap: Numbers, size: int) -> int:
    """Take the first event off the heap (read it before); returns its new size."""
    size -= 1
    time, code = heap[size, 0], heap[size, 1]
    at = 0
    while True:
        under = 2 * at + 1
        if under >= size:
            break
        if under + 1 < size and (
            heap[under + 1, 0] < heap[under, 0]
            or (heap[under + 1, 0] == heap[under, 0] and heap[under + 1, 1] < heap[under, 1])
        ):
            under += 1
        if time < heap[under, 0] or (time == heap[under, 0] and code <= heap[under, 1]):
            break
        heap[at, 0], heap[at, 1] = heap[under, 0], heap[under, 1]
        at = under
    heap[at, 0], heap[at, 1] = time, code
    return size


@kernel
def event(kind: int, packet: int, count: int) -> int:
    """Return the word of an event: of two at one time the lower kind, then the lower number."""
    return kind * count + packet


# ---- ends


@kernel
def refused(
    i: int,
    time: int,
    flow: Numbers,
    side: Numbers,
    latches: Numbers,
    need: Numbers,
    heard: Octets,
    call: Numbers,
    deadline: Numbers,
    state: Numbers,
    success: Octets,
) -> int:
    """Return the slot of `counts` that says why packet i is not sent now, -1 when it is."""
    for latch in latches[i]:
        if latch >= 0 and need[latch] > 0:
            return LATCHED
    if heard[i] == 1 and state[2 * flow[i] + side[i], 0] < 0:
        return UNHEARD
    if call[i] >= 0 and success[call[i]] == 0 and time > deadline[call[i]]:
        return GAVE_UP
    return -1


@kernel
def filled(fact: Any, lost: int) -> bool:
    """Tell whether a TCP segment holds the first lost byte of its direction."""
    held = (fact["until"] - fact["sequence"]) & 0xFFFFFFFF
    return bool(((lost - fact["sequence"]) & 0xFFFFFFFF) < held)


@kernel
def in_order(fact: Any, state: Numbers, slot: int) -> bool:
    """Tell whether an arriving packet can be used now: no TCP bytes before it are missing."""
    if fact["proto"] != TCP or state[slot, 1] < 0:
        return True
    if filled(fact, I(state[slot, 1])):
        state[slot, 1] = -1
        return True
    return bool(fact["until"] == fact["sequence"])


@kernel
def lose(fact: Any, state: Numbers, slot: int) -> None:
    """Remember the first TCP byte that a direction lost."""
    if fact["proto"] == TCP and fact["until"] != fact["sequence"] and state[slot, 1] < 0:
        state[slot, 1] = fact["sequence"]


@kernel
def begin(send: Numbers, gate: Numbers, heap: Numbers) -> int:
    """Schedule every packet that waits for no other; returns the heap's size."""
    count = len(send)
    size = I(0)
    for i in range(count):
        if gate[i] < 0:
            size = sift_up(heap, size, send[i], event(SEND, i, count))
    return size


@kernel
def used(
    i: int,
    time: int,
    flow: Numbers,
    side: Numbers,
    think: Numbers,
    first_child: Numbers,
    child: Numbers,
    need: Numbers,
    first_opens: Numbers,
    opens: Numbers,
    latch_call: Numbers,
    state: Numbers,
    success: Octets,
    opened: Numbers,
    heap: Numbers,
    size: int,
) -> int:
    """Let what waits for packet i go on, now that its receiver can use it; returns the heap's size.

    need is counted down as latches open.
    """
    there = 2 * flow[i] + 1 - side[i]
    if state[there, 0] < 0:
        state[there, 0] = time
    for place in range(first_opens[i], first_opens[i + 1]):
        latch = opens[place]
        need[latch] -= 1
        if need[latch] == 0:
            opened[latch] = time
            if latch_call[latch] >= 0:
                success[latch_call[latch]] = 1
    for place in range(first_child[i], first_child[i + 1]):
        waiting = child[place]
        when = time + think[waiting]
        size = sift_up(heap, size, when, event(SEND, waiting, len(flow)))
    return size


@kernel
def waited(gate: Numbers, fates: Records) -> int:
    """Return how many packets were not sent because what they wait for did not come."""
    count = I(0)
    for i in range(len(gate)):
        if gate[i] >= 0 and not fates[i]["sent"] and fates[gate[i]]["arrival_time"] < 0:
            count += 1
    return count
