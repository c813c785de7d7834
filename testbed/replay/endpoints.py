# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints: how both ends of a call follow a script, under any clock and any transport.

An end sends a packet once all events that it waits for have happened, each event's pause later
(testbed.replay.script). A packet that arrives releases others. These kernels are shared by virtual
time (testbed.replay.simulator) and the live backend, so that a call fails for the same reasons in
both. Events are a binary heap keyed (time, kind, number): equal inputs give equal orders. A packet
that does not arrive is sent again (midcall.testbed.replay.retransmission). Each sending is a row of
ATTEMPT.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.classifier.state.flow_table import Records
from midcall.testbed.middlebox.inject import ANSWER, SYN_REFUSED
from midcall.testbed.replay.retransmission import COPIES, LAW_TABLE, NEVER_AGAIN, interval
from midcall.testbed.replay.script import LEG, PAUSE, Script
from midcall.testbed.replay.tcp_stream import Streams

Numbers = NDArray[np.int64]

# Kinds of event; of two at one time, the lower kind comes first. SEND is about a packet, the others
# about a row of ATTEMPT.
ARRIVE, BOX, SEND, TO_CALLER, TO_FAR = 0, 1, 2, 3, 4
#: An event's word is its kind and, below these bits, its number.
NUMBER_BITS = 40
NUMBERS = (1 << NUMBER_BITS) - 1

# Slots of `counts`: reasons why a packet was not sent, and other counts of the ends. WAITED: an
# event that it waits for never happened; GAVE_UP: the call's own timer ended; UNWANTED: consent to
# send had expired; KILLED: its connection was reset or closed; STALLED: it arrived, but TCP bytes
# before it never did; RESENT: copies that were sent.
WAITED, GAVE_UP, UNWANTED, KILLED, STALLED, RESENT = range(6)
COUNTS = ("waited", "gave_up", "without_consent", "killed", "stalled", "resent")

#: One sending of one packet. Times in ns, -1: never.
ATTEMPT = np.dtype(
    [
        ("packet", "i8"),
        ("number", "i2"),  # 1: the first sending
        ("fate", "u1"),  # of testbed.middlebox.FATES
        ("forged", "u1"),  # kind of the last frame that the box injected in answer to it
        ("rule", "i2"),  # that decided, -1 none
        ("letters", "i2"),  # frames that the box injected in answer to it
        ("sent", "i8"),  # when it left its sender
        ("box", "i8"),  # when it met the box
        ("arrived", "i8"),
        ("flow", "i8"),  # number of its flow at the box, -1
    ]
)


class Orders(NamedTuple):
    """The arrays of a script for kernels; the fields are those of testbed.replay.script.Script."""

    flow: Numbers
    side: Numbers
    send: Numbers
    base: Numbers
    gate: Numbers
    think: Numbers
    first_child: Numbers
    child: Numbers
    before: Numbers
    gap: Numbers
    after: Numbers
    latches: Numbers
    need: Numbers  # a copy of its own, counted down as latches open
    first_opens: Numbers
    opens: Numbers
    opens_at: Numbers
    heard: Octets
    first_reception: Numbers
    call: Numbers
    timer: Numbers
    latch_call: Numbers
    media: Octets
    law: Octets
    consent: Octets
    consent_ns: Numbers
    streams: Streams
    laws: Numbers  # testbed.retransmission.LAW_TABLE


def arrays(script: Script) -> Orders:
    """Return a script's arrays, `need` as a copy."""
    columns = script._asdict()
    columns |= {"need": script.need.copy(), "laws": LAW_TABLE}
    return Orders(**{name: columns[name] for name in Orders._fields})


class Ends(NamedTuple):
    """State of both ends. Times in ns, -1: not yet; lists of packets end with -1."""

    first_received: Numbers  # [2 * flows + 2], per flow and side: when it first received a packet
    there: Octets  # per piece of a stream: 1 once it came
    reached: Numbers  # per stream: the first piece that is missing
    held: Numbers  # per piece: the last packet that waits for all pieces before it, -1
    next_waiting_piece: Numbers  # per packet: the next one that waits so
    lost: Numbers  # per piece: the last packet to be sent again once all pieces before it are there
    next_lost: Numbers  # per packet: the next one that is to be sent again so
    success: Octets  # per call: 1 once its set-up succeeded
    begun: Numbers  # per call: when its first packet was sent
    opened: Numbers  # per latch: when it opened
    scheduled: Octets  # per packet: 1 once its first sending is due at a known time
    left: Numbers  # per packet: when it was first sent, or when it was decided not to send it
    used: Numbers  # per packet: when its receiver could first use it
    sendings: Octets  # per packet: number of sendings
    came: Octets  # per packet: 1 once a copy arrived
    answered: Octets  # per packet: 1 once an answer to it arrived
    renewed: (
        Numbers  # [2 * flows + 2], per flow and side: last renewal of consent, -1: no media yet
    )
    expired: Octets  # [2 * flows + 2]: 1 once consent expired
    dead: Octets  # [2 * flows + 2], per flow and side: 1 once its connection was reset there
    deceived: Octets  # per packet: 1 for a DNS question that has a false answer
    latch_list: Numbers  # per latch: the first packet that waits for it, -1
    reception_list: Numbers  # [2 * flows + 2]: the first packet that waits for a reception
    next_waiting: Numbers  # per packet: the next one in such a list


def fresh(orders: Script) -> Ends:
    """Return the state of both ends before anything was sent."""
    count, pieces = len(orders.flow), int(orders.streams.base[-1])
    slots = 2 * len(orders.held.flows) + 2

    def never(size: int) -> Numbers:
        return np.full(size, -1, np.int64)

    def no(size: int) -> Octets:
        return np.zeros(size, np.uint8)

    return Ends(
        first_received=never(slots),
        there=no(pieces),
        reached=orders.streams.base[:-1].copy(),
        held=never(pieces + 1),
        next_waiting_piece=never(count),
        lost=never(pieces + 1),
        next_lost=never(count),
        success=no(len(orders.timer)),
        begun=never(len(orders.timer)),
        opened=never(len(orders.need)),
        scheduled=no(count),
        left=never(count),
        used=never(count),
        sendings=no(count),
        came=no(count),
        answered=no(count),
        renewed=never(slots),
        expired=no(slots),
        dead=no(slots),
        deceived=no(count),
        latch_list=never(len(orders.need)),
        reception_list=never(slots),
        next_waiting=never(count),
    )


def headroom(orders: Script) -> int:
    """Return how many events one event can add to the heap at most.

    One packet per flow and direction can be next in its order; any number of packets outside of the
    order can wait for the same latch or first reception.
    """
    children = int(np.diff(orders.first_child).max(initial=0))
    children += int(np.bincount(orders.streams.stream[orders.streams.stream >= 0]).max(initial=0))
    waits = (orders.latches >= 0).any(axis=1) | (orders.heard == 1)
    outside = int(np.count_nonzero(waits & (orders.before < 0)))
    return 2 * len(orders.held.flows) + children + outside + 64


def first_events(orders: Script) -> int:
    """Return how many packets wait for no other packet."""
    return int(np.count_nonzero((orders.before < 0) & (orders.gate < 0)))


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
def event(kind: int, number: int) -> int:
    """Return the word of an event: of two at one time the lower kind, then the lower number."""
    return (kind << NUMBER_BITS) | number


# ---- sending


@kernel
def leg(base: int, caller: bool) -> int:
    """Return the part of a base delay between the box and the caller, or the remote side, ns."""
    return base // LEG if caller else base - base // LEG


@kernel
def try_send(i: int, orders: Orders, ends: Ends, heap: Numbers, size: int) -> int:
    """Schedule packet i's first sending if all events that it waits for have happened.

    Otherwise the missing event calls this function again. Returns the heap's size.
    """
    if ends.scheduled[i] == 1:
        return size
    due = orders.send[i]
    before, gate = orders.before[i], orders.gate[i]
    if before >= 0:
        if ends.left[before] < 0:
            return size
        due = max(due, ends.left[before] + min(orders.gap[i], PAUSE))
    if gate >= 0:
        if ends.used[gate] < 0:
            return size
        due = max(due, ends.used[gate] + min(orders.think[i], PAUSE))
    for latch in orders.latches[i]:
        if latch < 0:
            continue
        if orders.need[latch] > 0:
            ends.next_waiting[i], ends.latch_list[latch] = ends.latch_list[latch], i
            return size
        pause = max(orders.send[i] - orders.opens_at[latch], 0)
        due = max(due, ends.opened[latch] + min(pause, PAUSE))
    if orders.heard[i] == 1:
        slot = 2 * orders.flow[i] + orders.side[i]
        if ends.first_received[slot] < 0:
            ends.next_waiting[i], ends.reception_list[slot] = ends.reception_list[slot], i
            return size
        pause = max(orders.send[i] - orders.first_reception[slot], 0)
        due = max(due, ends.first_received[slot] + min(pause, PAUSE))
    ends.scheduled[i] = 1
    return sift_up(heap, size, due, event(SEND, i))


@kernel
def try_list(first: int, orders: Orders, ends: Ends, heap: Numbers, size: int) -> int:
    """Try every packet of a list of waiting ones; returns the heap's size."""
    while first >= 0:
        packet, first = first, ends.next_waiting[first]
        ends.next_waiting[packet] = -1
        size = try_send(packet, orders, ends, heap, size)
    return size


@kernel
def begin(orders: Orders, ends: Ends, heap: Numbers) -> int:
    """Schedule every packet that waits for no other; returns the heap's size."""
    size = I(0)
    for i in range(len(orders.send)):
        if orders.before[i] < 0 and orders.gate[i] < 0:
            size = try_send(i, orders, ends, heap, size)
    return size


@kernel
def refused(i: int, time: int, orders: Orders, ends: Ends) -> int:
    """Return the slot of `counts` for the reason why packet i is not sent now, -1 when it is."""
    slot = 2 * orders.flow[i] + orders.side[i]
    if ends.dead[slot] == 1:
        return KILLED
    call = orders.call[i]
    if call >= 0 and ends.success[call] == 0 and ends.begun[call] >= 0:
        if time - ends.begun[call] > orders.timer[call]:
            return GAVE_UP
    if orders.media[i] == 1 and orders.consent_ns[slot] > 0:
        if ends.renewed[slot] < 0:
            ends.renewed[slot] = time  # consent from set-up counts from the first media packet
        if time - ends.renewed[slot] > orders.consent_ns[slot]:
            ends.expired[slot] = 1
        if ends.expired[slot] == 1:
            return UNWANTED
    return -1


@kernel
def first_sending(
    i: int, time: int, orders: Orders, ends: Ends, counts: Numbers, heap: Numbers, size: int
) -> tuple[bool, int]:
    """Decide whether packet i, which is due, is sent; the packet after it continues in both cases.

    Returns (whether it is sent, the heap's size).
    """
    why = refused(i, time, orders, ends)
    ends.left[i] = time
    if orders.after[i] >= 0:
        size = try_send(orders.after[i], orders, ends, heap, size)
    if why >= 0:
        counts[why] += 1
        return False, size
    call = orders.call[i]
    if call >= 0 and ends.begun[call] < 0:
        ends.begun[call] = time
    return True, size


@kernel
def postponed(i: int, orders: Orders, ends: Ends) -> bool:
    """Tell whether lost segment i waits for an earlier one of its stream that is missing too.

    It is then sent once that one arrived.
    """
    own = orders.streams.stream[i]
    if own < 0 or orders.streams.after[i] <= ends.reached[own]:
        return False
    place = orders.streams.after[i]
    ends.next_lost[i], ends.lost[place] = ends.lost[place], i
    return True


@kernel
def sends_again(i: int, time: int, orders: Orders, ends: Ends) -> bool:
    """Tell whether packet i, which was sent and whose timer ended, is sent once more.

    The caller checks whether the last copy was lost where the packet's own arrival ends the timer.
    """
    if ends.deceived[i] == 1 or refused(i, time, orders, ends) >= 0:
        return False
    if ends.sendings[i] >= COPIES:
        return False
    law = orders.law[i]
    if orders.laws[law, 3] == 1:
        return bool(ends.answered[i] == 0)
    # The sender of an answer does not know whether the answer before arrived.
    return bool(law == NEVER_AGAIN or ends.came[i] == 0)


@kernel
def next_interval(i: int, orders: Orders, ends: Ends) -> int:
    """Return after how long packet i, just sent, would be sent again, in ns; -1: never."""
    return interval(orders.laws, I(orders.law[i]), I(ends.sendings[i]))


# ---- receiving


@kernel
def used(i: int, time: int, orders: Orders, ends: Ends, heap: Numbers, size: int) -> int:
    """Release what waits for packet i, which its receiver can use now; returns the heap's size.

    orders.need is counted down as latches open.
    """
    ends.used[i] = time
    receiver_slot = 2 * orders.flow[i] + 1 - orders.side[i]
    if ends.first_received[receiver_slot] < 0:
        ends.first_received[receiver_slot] = time
        first, ends.reception_list[receiver_slot] = ends.reception_list[receiver_slot], -1
        size = try_list(first, orders, ends, heap, size)
    for place in range(orders.first_opens[i], orders.first_opens[i + 1]):
        latch = orders.opens[place]
        orders.need[latch] -= 1
        if orders.need[latch] == 0:
            ends.opened[latch] = time
            if orders.latch_call[latch] >= 0:
                ends.success[orders.latch_call[latch]] = 1
            first, ends.latch_list[latch] = ends.latch_list[latch], -1
            size = try_list(first, orders, ends, heap, size)
    for place in range(orders.first_child[i], orders.first_child[i + 1]):
        size = try_send(orders.child[place], orders, ends, heap, size)
    return size


@kernel
def arrived(i: int, time: int, orders: Orders, ends: Ends, heap: Numbers, size: int) -> int:
    """Process a copy of packet i at its receiver; returns the heap's size.

    The first copy is used, or queued until the TCP bytes before it came; queued packets whose last
    missing piece it carries are used with it. A request that comes again is answered again.
    """
    receiver_slot = 2 * orders.flow[i] + 1 - orders.side[i]
    gate = orders.gate[i]
    if ends.dead[receiver_slot] == 1 or (gate >= 0 and ends.deceived[gate] == 1):
        return size
    if orders.consent[i] == 1 and ends.renewed[receiver_slot] >= 0:
        ends.renewed[receiver_slot] = time
    if gate >= 0:
        ends.answered[gate] = 1
    if ends.came[i] == 1:
        return answer_again(i, time, orders, ends, heap, size)
    ends.came[i] = 1
    streams, pieces, reached, waiting = orders.streams, ends.there, ends.reached, ends.held
    own = streams.stream[i]
    for place in range(streams.first_piece[i], streams.first_piece[i + 1]):
        pieces[streams.piece[place]] = 1
    if own >= 0 and streams.after[i] > reached[own]:
        ends.next_waiting_piece[i], waiting[streams.after[i]] = waiting[streams.after[i]], i
    else:
        size = used(i, time, orders, ends, heap, size)
    if own < 0:
        return size
    while reached[own] < streams.base[own + 1] and pieces[reached[own]] == 1:
        reached[own] += 1
        ready = waiting[reached[own]]
        waiting[reached[own]] = -1
        while ready >= 0:
            size = used(ready, time, orders, ends, heap, size)
            ready = ends.next_waiting_piece[ready]
        ready = ends.lost[reached[own]]
        ends.lost[reached[own]] = -1
        while ready >= 0:
            size = sift_up(heap, size, time + orders.base[i], event(SEND, ready))
            ready = ends.next_lost[ready]
    return size


@kernel
def answer_again(i: int, time: int, orders: Orders, ends: Ends, heap: Numbers, size: int) -> int:
    """Schedule the answers to a request that came again; returns the heap's size."""
    if orders.laws[orders.law[i], 3] == 0:
        return size
    for place in range(orders.first_child[i], orders.first_child[i + 1]):
        child = orders.child[place]
        if ends.left[child] >= 0 and orders.law[child] == NEVER_AGAIN:
            pause = min(orders.think[child], PAUSE)
            size = sift_up(heap, size, time + pause, event(SEND, child))
    return size


@kernel
def suffer(kind: int, slot: int, packet: int, ends: Ends) -> None:
    """Process an injected frame at an end, as if the other end had sent it.

    kind: of testbed.middlebox.inject.FRAME_KINDS; slot: 2 * flow + side of the end that receives
    it;
    packet: the one that the frame answers. dead[slot] becomes 1 where a connection is reset, closed
    or answered with a page, or where its SYN is refused: no packet is sent or read there any more.
    deceived[packet] becomes 1 where a DNS question has its (false) answer: a true one that comes
    later is ignored. Kinds after SYN_REFUSED have no effect: a packet that comes twice is discarded
    (RFC 9293 section 3.10.7.4, RFC 3711 section 3.3.2), as is one whose checksum is wrong; an ICMP
    error does not end an open TCP connection (RFC 5927 section 5.2), and what a program does with
    one for its UDP socket is not known.
    """
    if kind == ANSWER:
        ends.deceived[packet] = 1
    elif kind <= SYN_REFUSED:
        ends.dead[slot] = 1


def count_stalled(streams: Streams, attempts: Records, used: Numbers, reached: Numbers) -> int:
    """Return how many TCP segments arrived but could not be used, as bytes before them are missing.

    streams: of a script; attempts: ATTEMPT[k]; used, reached: of Ends.
    """
    packets = np.unique(attempts["packet"][attempts["arrived"] >= 0])
    packets = packets[(used[packets] < 0) & (streams.stream[packets] >= 0)]
    return int((streams.after[packets] > reached[streams.stream[packets]]).sum())
