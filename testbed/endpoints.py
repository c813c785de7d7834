# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints: what both ends of a call do by a script, whatever clock turns and whatever carries it.

An end sends a packet when it is due and nothing that it waits for is missing; a packet that comes
opens latches and lets others leave. These kernels are shared by virtual time (testbed.virtual) and
by the live backend, so that a call fails for the same reasons in both. Events are a binary heap
keyed (time, kind, packet): equal inputs give equal orders.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.compiled import I, kernel
from captures.octets import Octets
from classifier.flow import Records
from testbed.forge import ANSWER
from testbed.replay import LEG, Script
from testbed.stream import Streams

Numbers = NDArray[np.int64]

# Kinds of event; of two at one time, what arrives comes first.
ARRIVE, BOX, SEND, TO_CALLER, TO_FAR = 0, 1, 2, 3, 4
KINDS = 5

# Why a packet was not sent, as slots of `counts`.
WAITED, LATCHED, UNHEARD, GAVE_UP, STALLED, RESENT, KILLED = 0, 1, 2, 3, 4, 5, 6
COUNTS = ("waited", "latched", "unheard", "gave_up", "stalled", "resent", "killed")


class Orders(NamedTuple):
    """A script as kernels take it; the arrays' meaning is testbed.replay.Script's."""

    flow: Numbers
    side: Numbers
    send: Numbers
    base: Numbers
    gate: Numbers
    think: Numbers
    first_child: Numbers
    child: Numbers
    latches: Numbers
    need: Numbers  # a copy of its own, counted down as latches open
    first_opens: Numbers
    opens: Numbers
    heard: Octets
    call: Numbers
    deadline: Numbers
    latch_call: Numbers
    media: Octets
    streams: Streams
    patience: Numbers  # [n], ns; of testbed.patience


def arrays(script: Script, patience: Numbers) -> Orders:
    """Return a script's arrays, and after how long who sent a packet sends it again (int64[n])."""
    return Orders(
        script.flow,
        script.side,
        script.send,
        script.base,
        script.gate,
        script.think,
        script.first_child,
        script.child,
        script.latches,
        script.need.copy(),
        script.first_opens,
        script.opens,
        script.heard,
        script.call,
        script.deadline,
        script.latch_call,
        script.media,
        script.streams,
        patience,
    )


class Ends(NamedTuple):
    """What both ends know: of what was heard, of TCP bytes, of what opened, and what is due."""

    first_heard: Numbers  # [2 * flows + 2], per flow and side: when it first heard there, ns, -1
    there: NDArray[np.uint8]  # per piece of a stream: 1 once it came
    reached: Numbers  # per stream: the first piece that is missing
    held: Numbers  # per piece: the last packet that waits for all pieces before it, -1
    next_held: Numbers  # per packet: the next one that waits so
    success: NDArray[np.uint8]  # per call: 1 once its set-up succeeded
    opened: Numbers  # per latch: when it opened, ns, -1
    heap: Numbers  # [KINDS * n + 1, 2]: room for every event


def fresh(orders: Script) -> Ends:
    """Return what both ends know before anything was sent."""
    count, pieces = len(orders.flow), int(orders.streams.base[-1])
    return Ends(
        np.full(2 * len(orders.held.flows) + 2, -1, np.int64),
        np.zeros(pieces, np.uint8),
        orders.streams.base[:-1].copy(),
        np.full(pieces + 1, -1, np.int64),
        np.full(count, -1, np.int64),
        np.zeros(len(orders.deadline), np.uint8),
        np.full(len(orders.need), -1, np.int64),
        np.zeros((KINDS * count + 1, 2), np.int64),
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
def leg(base: int, caller: bool) -> int:
    """Return the part of a base delay between the box and the caller, or the far side."""
    return base // LEG if caller else base - base // LEG


@kernel
def refused(i: int, time: int, orders: Orders, ends: Ends) -> int:
    """Return the slot of `counts` that says why packet i is not sent now, -1 when it is."""
    for latch in orders.latches[i]:
        if latch >= 0 and orders.need[latch] > 0:
            return LATCHED
    if orders.heard[i] == 1 and ends.first_heard[2 * orders.flow[i] + orders.side[i]] < 0:
        return UNHEARD
    call = orders.call[i]
    if call >= 0 and ends.success[call] == 0 and time > orders.deadline[call]:
        return GAVE_UP
    return -1


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
def used(i: int, time: int, orders: Orders, ends: Ends, size: int) -> int:
    """Let what waits for packet i go on, now that its receiver can use it; returns the heap's size.

    orders.need is counted down as latches open.
    """
    there = 2 * orders.flow[i] + 1 - orders.side[i]
    if ends.first_heard[there] < 0:
        ends.first_heard[there] = time
    for place in range(orders.first_opens[i], orders.first_opens[i + 1]):
        latch = orders.opens[place]
        orders.need[latch] -= 1
        if orders.need[latch] == 0:
            ends.opened[latch] = time
            if orders.latch_call[latch] >= 0:
                ends.success[orders.latch_call[latch]] = 1
    for place in range(orders.first_child[i], orders.first_child[i + 1]):
        waiting = orders.child[place]
        when = time + orders.think[waiting]
        size = sift_up(ends.heap, size, when, event(SEND, waiting, len(orders.flow)))
    return size


@kernel
def arrived(i: int, time: int, orders: Orders, ends: Ends, size: int) -> int:
    """Take packet i at its receiver: use it, or hold it until the TCP bytes before it came.

    What it was the missing piece of is used with it. Returns the heap's size.
    """
    streams, there, reached, held = orders.streams, ends.there, ends.reached, ends.held
    own = streams.stream[i]
    for place in range(streams.first_piece[i], streams.first_piece[i + 1]):
        there[streams.piece[place]] = 1
    if own >= 0 and streams.after[i] > reached[own]:
        ends.next_held[i], held[streams.after[i]] = held[streams.after[i]], i
    else:
        size = used(i, time, orders, ends, size)
    if own < 0:
        return size
    while reached[own] < streams.base[own + 1] and there[reached[own]] == 1:
        reached[own] += 1
        ready = held[reached[own]]
        held[reached[own]] = -1
        while ready >= 0:
            size = used(ready, time, orders, ends, size)
            ready = ends.next_held[ready]
    return size


@kernel
def suffer(kind: int, slot: int, packet: int, dead: Octets, deceived: Octets) -> None:
    """Take a forged frame at an end, which cannot know that it is one.

    kind: of testbed.forge.LETTERS; slot: 2 * flow + side of the end that gets it; packet: the one
    that the frame answers. dead[slot] becomes 1 where a connection is reset, closed or answered
    with a page: nothing more is sent or read there; deceived[packet] where a DNS question has its
    (false) answer: a true one that comes later is not looked at.
    """
    if kind == ANSWER:
        deceived[packet] = 1
    else:
        dead[slot] = 1


@kernel
def stalled(stream: Numbers, after: Numbers, reached: Numbers, fates: Records) -> int:
    """Return how many packets came and were of no use, as TCP bytes before them are missing."""
    count = I(0)
    for i in range(len(stream)):
        if stream[i] >= 0 and fates[i]["arrival_time"] >= 0 and after[i] > reached[stream[i]]:
            count += 1
    return count


@kernel
def waited(fates: Records, counts: Numbers) -> int:
    """Return how many packets were never due, because what they wait for did not come."""
    count = -(counts[LATCHED] + counts[UNHEARD] + counts[GAVE_UP] + counts[KILLED])
    for i in range(len(fates)):
        if not fates[i]["sent"]:
            count += 1
    return I(count)
