# SPDX-License-Identifier: BSD-3-Clause
"""Both ends of a live network: play a script in real time and receive what arrives.

The rules are those of testbed.replay.endpoints, driven by the machine's clock instead of a virtual
one. A packet leaves its end at the time in its script and is on the wire after its leg of the
captured delay; an arriving packet is used after the other leg. Every sending is a row: its frame
carries the row's number, the box logs its fate in that row, and the ends their times.

A machine can be late; the lab must then not fail a call that the box passed. An arrival therefore
counts at the time at which it was due, plus the delay added by a rule or the access link; the lab's
own lateness is ignored (reports have the true times). A timer checks its condition GRACE after it
expires. Whether a lost packet is sent again is read from the box's log, as the simulator reads its
box. A third-party box (FOREIGN) writes no log: there an end that got no answer sends again, true
times are used, and a frame without a tag is identified by its content
(midcall.testbed.live.network.untagged).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import ICMP, ICMP6, TCP
from midcall.classifier.state.flow_table import Records
from midcall.testbed.live.box.pump import FORGED_HERE, TAGGED, readable
from midcall.testbed.live.box.rings import (
    Port,
    flush,
    frame_end,
    frame_start,
    give_back,
    next_frame,
    put,
    stamp,
)
from midcall.testbed.live.box.system import now, wait_readable
from midcall.testbed.live.network.untagged import STRAY_MOST, of_one_flow, same_packet
from midcall.testbed.live.replay.merge import Frames
from midcall.testbed.middlebox.decide import DELIVERED
from midcall.testbed.middlebox.inject import (
    ANSWER,
    FINISH,
    PAGE,
    RESET,
    SYN_REFUSED,
    UNREACHABLE,
    copy_kind,
)
from midcall.testbed.network.access import put32
from midcall.testbed.network.tcp import ACK, FIN, RST, SYN, find_tcp
from midcall.testbed.replay.endpoints import (
    ARRIVE,
    BOX,
    COUNTS,
    NUMBER_BITS,
    NUMBERS,
    RESENT,
    SEND,
    TO_CALLER,
    TO_FAR,
    Ends,
    Orders,
    arrived,
    event,
    first_events,
    first_sending,
    headroom,
    leg,
    next_interval,
    postponed,
    sends_again,
    sift_down,
    sift_up,
    suffer,
)
from midcall.testbed.replay.script import Script
from midcall.testbed.replay.sides import CALLER, FAR, LOCAL

Numbers = NDArray[np.int64]

#: A timer is evaluated this long after it expires, in ns, so that timely arrivals have been read.
GRACE = 2_000_000
#: Events handled and frames received between two readings of the clock.
STRETCH = 64
#: Rows reserved for retransmissions: a fixed number, and this many per packet.
MORE_ROWS, ROWS_PER_PACKET = 4096, 2

#: The ends' record of a sending. Times in ns from the run's begin, -1 never.
PLAYED = np.dtype(
    [
        ("packet", "i8"),  # of the script, -1 for a row that was not used
        ("number", "i2"),  # 1: the packet's first sending
        ("left", "i8"),  # when it left its sender
        ("due", "i8"),  # when it was due on the wire, -1 where it never was
        ("stamp", "i8"),  # when it came in at its receiver's port
        ("arrival", "i8"),  # ... and, its other leg later, at its receiver
        ("forged", "u1"),  # kind of the last frame that the box injected in answer to it
        ("letters", "i8"),  # number of such frames that came in
    ]
)

# Slots of `state`: heap size, when the run began, octet of the run, octets around an IP packet,
# frames that could not be sent, unidentified frames, whether the access link delays, how many were
# launched, whether the box is a third party's, rows in use, sendings without a free row, the time
# after which no packet is sent again.
(
    SIZE, BEGAN, RUN, AROUND, REFUSED, STRANGE, LINKED, LAUNCHED, FOREIGN, ROWS, LACKING, UNTIL,
) = range(12)  # fmt: skip
STATES = 12


class Play(NamedTuple):
    """The state that both ends work on."""

    orders: Orders
    whose: Numbers  # [n], the capture of each packet
    too_large: Octets  # [n], 1: does not fit through the access network
    chancy: Octets  # per rule: 1 where it delays packets, or loses them by chance
    ends: Ends
    heap: Numbers  # [..., 2], events
    frames: Frames
    log: Records  # BOX_LOG[rows], the box's
    played: Records  # PLAYED[rows]
    newest: Numbers  # per packet: the row of its last sending, -1
    counts: Numbers  # int64[captures, COUNTS]
    launched: Numbers  # rows in the order in which they were put on the wire
    state: Numbers  # int64[STATES]
    fds: Numbers
    pair: Numbers


def rows_for(count: int) -> int:
    """Return the number of rows reserved for a script of `count` packets."""
    return count + MORE_ROWS + ROWS_PER_PACKET * count


def begun(
    script: Script, ends: Ends, orders: Orders, whose: Numbers, too_large: Octets, chancy: Octets,
    frames: Frames, log: Records, captures: int, until: int,
    ports: tuple[Port, Port], run: int, around: int, linked: bool, foreign: bool = False,
) -> Play:  # fmt: skip
    """Return the state of both ends before anything was sent.

    until: ns from the run's begin, after which nothing is sent again.
    """
    count, rows = len(script.flow), len(log)
    played = np.zeros(rows, PLAYED)
    for name in ("packet", "left", "due", "stamp", "arrival"):
        played[name] = -1
    state = np.zeros(STATES, np.int64)
    state[RUN], state[AROUND], state[LINKED], state[FOREIGN] = run, around, linked, foreign
    state[ROWS], state[UNTIL] = count, until
    room = first_events(script) + 4 * rows + headroom(script)
    return Play(
        orders,
        whose,
        too_large,
        chancy,
        ends,
        np.zeros((room, 2), np.int64),
        frames,
        log,
        played,
        np.full(count, -1, np.int64),
        np.zeros((captures, len(COUNTS)), np.int64),
        np.zeros(rows, np.int64),
        state,
        readable(*ports),
        np.zeros(2, np.int64),
    )


# ---- compiled


@kernel
def schedule(play: Play, time: int, kind: int, number: int) -> None:
    """Add an event."""
    state = play.state
    state[SIZE] = sift_up(play.heap, state[SIZE], time, event(kind, number))


@kernel
def was_lost(i: int, play: Play) -> bool:
    """Tell whether the last copy of a packet was dropped or lost, by the box's log.

    With a box that writes no log: whether the packet has not arrived.
    """
    row = play.newest[i]
    if play.state[FOREIGN] == 1:
        return bool(play.played[row]["stamp"] < 0)
    return bool(play.log[row]["times"] > 0 and play.log[row]["fate"] != DELIVERED)


@kernel
def send_if_allowed(i: int, clock: int, play: Play) -> None:
    """Send packet i, which is due at `clock`, for the first time or again, if its rules allow it.

    A timer's event comes GRACE after its end.
    """
    orders, ends, state = play.orders, play.ends, play.state
    counts = play.counts[play.whose[i]]
    time = clock
    if ends.left[i] < 0:
        sent, state[SIZE] = first_sending(i, time, orders, ends, counts, play.heap, state[SIZE])
        if not sent:
            return
    else:
        answered = orders.laws[orders.law[i], 3] == 1
        if not sends_again(i, time, orders, ends):
            return
        if not answered and orders.law[i] > 0 and not was_lost(i, play):
            return
        if postponed(i, orders, ends):
            return
        counts[RESENT] += 1
    row = I(i) if ends.sendings[i] == 0 else I(state[ROWS])
    if row == state[ROWS]:
        if row >= len(play.played):
            state[LACKING] += 1
            return
        state[ROWS] += 1
    ends.sendings[i] += 1
    played = play.played[row]
    played["packet"], played["number"], played["left"] = i, ends.sendings[i], time
    play.newest[i] = row
    if orders.side[i] == LOCAL:
        played["arrival"] = time
        return
    if play.too_large[i] == 1:
        return
    leg_ns = leg(orders.base[i], orders.side[i] == CALLER)
    schedule(play, time + leg_ns, BOX, row)
    wait = next_interval(i, orders, ends)
    if wait >= 0 and time + wait <= state[UNTIL]:
        schedule(play, time + wait + GRACE, SEND, i)


@kernel
def delayed(row: int, play: Play) -> bool:
    """Tell whether a rule or the link may have delayed a sending, by the box's log."""
    rule = I(play.log[row]["rule"])
    return bool(play.state[LINKED] == 1 or (rule >= 0 and play.chancy[rule] == 1))


@kernel
def launch(row: int, time: int, play: Play, caller: Port, server: Port) -> None:
    """Put a sending on the wire."""
    frames, played, orders = play.frames, play.played[row], play.orders
    i = I(played["packet"])
    if played["number"] > 1:
        play.log[row]["packet"], play.log[row]["number"] = i, played["number"] - 1
    put32(frames.data, frames.at[i] + 8, row)
    source = frames.data.ctypes.data + frames.at[i]
    if orders.side[i] == CALLER:
        sent = put(caller, source, frames.size[i])
    else:
        sent = put(server, source, frames.size[i])
    if not sent:
        play.state[REFUSED] += 1
        return
    played["due"] = time
    play.launched[play.state[LAUNCHED]] = row
    play.state[LAUNCHED] += 1


@kernel
def handle(play: Play, caller: Port, server: Port) -> None:
    """Handle the first event of the heap."""
    heap, state, orders = play.heap, play.state, play.orders
    time, code = heap[0, 0], heap[0, 1]
    state[SIZE] = sift_down(heap, state[SIZE])
    kind, number = code >> NUMBER_BITS, code & NUMBERS
    if kind == SEND:
        send_if_allowed(number, time, play)
    elif kind == BOX:
        launch(number, time, play, caller, server)
    elif kind == ARRIVE:
        i = I(play.played[number]["packet"])
        state[SIZE] = arrived(i, time, orders, play.ends, heap, state[SIZE])
    else:
        i = I(play.played[number]["packet"])
        end = I(FAR if kind == TO_FAR else CALLER)
        suffer(I(play.played[number]["forged"]), 2 * orders.flow[i] + end, i, play.ends)


@kernel
def is_syn(b: Octets, at: int, end: int) -> bool:
    """Tell whether the IP packet b[at:end] is a TCP segment that opens a connection."""
    if end - at < 20 or (u8(b, at) >> 4 == 4 and u8(b, at + 9) != TCP):
        return False
    header = find_tcp(b, at, end)
    return header > 0 and end - header >= 14 and u8(b, header + 13) & (SYN | ACK) == SYN


@kernel
def forged_kind(b: Octets, at: int, end: int, around: int) -> int:
    """Return the kind of a forged frame by its content, of testbed.middlebox.inject.FRAME_KINDS, or
    -1.

    around: octets before its IP packet.
    """
    at += around
    if end - at < 40:
        return -1
    version = u8(b, at) >> 4
    head = 20 if version == 4 else 40
    proto = u8(b, at + 9) if version == 4 else u8(b, at + 6)
    size = u16(b, at + 2) if version == 4 else u16(b, at + 4) + 40
    if proto in (ICMP, ICMP6):
        return I(SYN_REFUSED if is_syn(b, at + head + 8, end) else UNREACHABLE)
    if proto != TCP:
        return I(ANSWER)
    if end - at < head + 20:
        return -1
    flags, offset = u8(b, at + head + 13), 4 * (u8(b, at + head + 12) >> 4)
    if flags & RST:
        return I(RESET)
    if size > head + offset:
        return I(PAGE)
    return I(FINISH if flags & FIN else -1)


@kernel
def on_time(row: int, time: int, play: Play) -> int:
    """Return when a sending, or an answer to it, that came in at `time` would have come in on time.

    That is the time at which it was due, plus the delay added by a rule or the link.
    """
    played, log = play.played[row], play.log[row]
    if play.state[FOREIGN] == 1:
        return I(time)
    if log["times"] == 0 or not delayed(row, play):  # handled by the kernel, or no delay added
        return I(played["due"])
    return I(played["due"] + max(time + play.state[BEGAN] - log["in_time"], 0))


@kernel
def receive(side: int, port: Port, play: Play) -> int:
    """Process the frames that came in at one end, at most STRETCH; returns how many.

    side: the end, CALLER or FAR.
    """
    b, state, orders = port.octets, play.state, play.orders
    count = I(0)
    while count < STRETCH:
        slot = next_frame(port)
        if slot < 0:
            break
        count += 1
        at, end = frame_start(port, slot), frame_end(port, slot)
        time = stamp(port, slot) - state[BEGAN]
        none = I(len(play.played))
        mark = u8(b, at + 6) if end - at >= 14 and u8(b, at + 7) == state[RUN] else 0
        row = u32(b, at + 8) if mark > 0 else none
        if state[FOREIGN] == 1 and (mark != TAGGED or row >= none):
            mark, row = identify(side, b, at, end, play)
        if row >= none or play.played[row]["packet"] < 0:
            state[STRANGE] += 1
            give_back(port, slot)
            continue
        i = I(play.played[row]["packet"])
        if mark == TAGGED and orders.side[i] == 1 - side:
            record_arrival(row, time, play)
        elif mark == FORGED_HERE:
            played = play.played[row]
            place, size = play.frames.at[i], play.frames.size[i]
            kind = copy_kind(b, at, end, play.frames.data, place, size)
            if kind < 0:
                kind = max(forged_kind(b, at, end, state[AROUND]), 0)
            played["forged"] = kind
            played["letters"] += 1
            at_far_end = side == FAR
            rest = leg(orders.base[i], not at_far_end)
            schedule(
                play, on_time(row, time, play) + rest, TO_FAR if at_far_end else TO_CALLER, row
            )
        else:
            state[STRANGE] += 1
        give_back(port, slot)
    return count


@kernel
def identify(side: int, b: Octets, at: int, end: int, play: Play) -> tuple[int, int]:
    """Identify a frame without a tag: (TAGGED, its row) or (FORGED_HERE, the row that it answers).

    (0, number of rows) where it belongs to no recently launched flow.
    """
    frames, orders, around = play.frames, play.orders, play.state[AROUND]
    newest, oldest = I(-1), I(-1)
    last = play.state[LAUNCHED]
    for age in range(min(last, STRAY_MOST)):
        row = play.launched[last - 1 - age]
        i = I(play.played[row]["packet"])
        place = frames.at[i]
        incoming = orders.side[i] == 1 - side
        if incoming and play.played[row]["stamp"] < 0:
            if same_packet(b, at, end, frames.data, place, place + frames.size[i], around):
                oldest = I(row)
        if newest < 0 and of_one_flow(
            b, at, end, frames.data, place, place + frames.size[i], around, not incoming
        ):
            newest = I(row)
    if oldest >= 0:
        return I(TAGGED), oldest
    if newest >= 0 and forged_kind(b, at, end, around) >= 0:
        return I(FORGED_HERE), newest
    return I(0), I(len(play.played))


@kernel
def record_arrival(row: int, time: int, play: Play) -> None:
    """Record that a sending came in at its receiver's port; schedule its arrival after its leg."""
    orders, played = play.orders, play.played[row]
    if played["stamp"] >= 0 or played["due"] < 0:
        play.state[STRANGE] += 1
        return
    i = I(played["packet"])
    rest = leg(orders.base[i], orders.side[i] != CALLER)
    played["stamp"], played["arrival"] = time, time + rest
    schedule(play, on_time(row, time, play) + rest, ARRIVE, row)


@kernel
def turn(budget: int, play: Play, caller: Port, server: Port) -> None:
    """Play for `budget` ns of real time, sleeping while nothing is due and nothing arrives."""
    state, heap = play.state, play.heap
    clock = now(play.pair) - state[BEGAN]
    until = clock + budget
    while clock < until:
        count = receive(CALLER, caller, play) + receive(FAR, server, play)
        handled = I(0)
        while state[SIZE] > 0 and heap[0, 0] <= clock and handled < STRETCH:
            handle(play, caller, server)
            handled += 1
        flush(caller)
        flush(server)
        clock = now(play.pair) - state[BEGAN]
        if count + handled == 0:
            due = min(until, heap[0, 0]) if state[SIZE] > 0 else until
            if due > clock:
                wait_readable(play.fds, 2, due - clock, play.pair)
                clock = now(play.pair) - state[BEGAN]
