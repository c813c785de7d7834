# SPDX-License-Identifier: BSD-3-Clause
"""Both ends of a live network: they play a script in real time, and hear what really comes in.

The rules are those of testbed.endpoints, turned by the clock of the machine instead of a virtual
one. A packet leaves its end at the moment its script says and stands on the wire after its leg of
the captured delay; what comes in is used after the other leg.

A machine can be late, and then the lab must not fail a call that the box let pass. What waits for
an arrival is told the time at which it was due, and what a rule or the access link added, never
how late the lab was (reports have the true times); and a packet whose gate is shut looks again as
long as something that was due before it is still on its way. Whether a lost packet is sent again is
asked of the box's log, as virtual time asks its box. A box of somebody else's (FOREIGN) writes no
log: there an end that got no answer sends again, true times are used, and a frame without a tag is
known by its content (testbed.live.strays).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.compiled import I, kernel
from captures.octets import Octets, u8, u16, u32
from classifier.decode import TCP
from classifier.flow import Records
from testbed.endpoints import (
    ARRIVE,
    BOX,
    COUNTS,
    KILLED,
    LATCHED,
    RESENT,
    SEND,
    TO_CALLER,
    TO_FAR,
    UNHEARD,
    Ends,
    Orders,
    arrived,
    event,
    leg,
    refused,
    sift_down,
    sift_up,
    suffer,
)
from testbed.forge import ANSWER, FINISH, PAGE, RESET
from testbed.live.joint import Frames
from testbed.live.pump import FORGED_HERE, TAGGED, readable
from testbed.live.rings import (
    Port,
    flush,
    frame_end,
    frame_start,
    give_back,
    next_frame,
    put,
    stamp,
)
from testbed.live.strays import STRAY_MOST, of_one_flow, same_packet
from testbed.live.system import now, wait_readable
from testbed.middlebox import DELIVERED, DROPPED, LOST
from testbed.places import CALLER, FAR, LOCAL
from testbed.replay import Script
from testbed.survey import FIN, RST
from testbed.virtual import POLL, POLLS, RESENDS

Numbers = NDArray[np.int64]

#: A packet whose gate is shut looks again so often, in ns: for so long in any case, as a rule's
#: delay ends a little later here than in virtual time, and for so long at most.
LOOK, GRACE, GRACE_MOST = 250_000, 2_000_000, 3_000_000_000
#: What somebody else's box has not passed after so long, in ns, is no longer waited for.
FOREIGN_MOST = 500_000_000
#: Events handled and frames heard between two looks at the clock.
STRETCH = 64

#: What the ends wrote down of a packet. Times in ns from the run's begin, -1 never.
PLAYED = np.dtype(
    [
        ("sent", "?"),
        ("due", "i8"),  # when it had to stand on the wire, its last sending
        ("stamp", "i8"),  # when it came in at its receiver's port
        ("arrival", "i8"),  # ... and, its other leg later, at its receiver
        ("times", "i8"),  # how often it was sent
        ("forged", "u1"),  # kind of the last frame that the box forged in answer to it
        ("letters", "i8"),  # such frames that came in
    ]
)

# Slots of `state`: heap size, when the run began, octet of the run, octets around an IP packet,
# frames that could not be sent, frames nobody knows, whether the access link delays, how many were
# launched, the first of them that may be on its way, whether the box is somebody else's, when the
# last packet is planned, after which nothing is sent again that such a box may have kept.
SIZE, BEGAN, RUN, AROUND, REFUSED, STRANGE, LINKED, LAUNCHED, FIRST, FOREIGN, PLANNED = range(11)
STATES = 11


class Play(NamedTuple):
    """Everything that both ends work on."""

    orders: Orders
    whose: Numbers  # [n], the capture of each packet
    too_large: Octets  # [n], 1: does not fit through the access network
    chancy: Octets  # per rule: 1 where it delays packets, or loses them by chance
    ends: Ends
    frames: Frames
    log: Records  # BOX_LOG[n], the box's
    played: Records  # PLAYED[n]
    counts: Numbers  # int64[captures, COUNTS]
    polls: Octets
    waiting: Numbers  # per packet: since when it looks again for its gate, -1
    launched: Numbers  # packets in the order in which they were put on the wire
    dead: Octets
    deceived: Octets
    state: Numbers  # int64[STATES]
    fds: Numbers
    pair: Numbers


def begun(
    script: Script, ends: Ends, orders: Orders, whose: Numbers, too_large: Octets, chancy: Octets,
    frames: Frames, log: Records, captures: int,
    ports: tuple[Port, Port], run: int, around: int, linked: bool, foreign: bool = False,
) -> Play:  # fmt: skip
    """Return what both ends work on, before anything was sent."""
    count = len(script.flow)
    played = np.zeros(count, PLAYED)
    for name in ("due", "stamp", "arrival"):
        played[name] = -1
    state = np.zeros(STATES, np.int64)
    state[RUN], state[AROUND], state[LINKED], state[FOREIGN] = run, around, linked, foreign
    state[PLANNED] = script.send.max(initial=0)
    return Play(
        orders,
        whose,
        too_large,
        chancy,
        ends,
        frames,
        log,
        played,
        np.zeros((captures, len(COUNTS)), np.int64),
        np.zeros(count, np.uint8),
        np.full(count, -1, np.int64),
        np.zeros((RESENDS + 1) * count, np.int64),
        np.zeros(2 * len(script.held.flows) + 2, np.uint8),
        np.zeros(count, np.uint8),
        state,
        readable(*ports),
        np.zeros(2, np.int64),
    )


# ---- compiled


@kernel
def schedule(play: Play, time: int, kind: int, i: int) -> None:
    """Add an event; one that finds no room would be one too many for its packet, and is not."""
    heap, state = play.ends.heap, play.state
    if state[SIZE] < len(heap):
        state[SIZE] = sift_up(heap, state[SIZE], time, event(kind, i, len(play.orders.flow)))


@kernel
def lost_by_chance(i: int, play: Play) -> bool:
    """Tell whether the box's log says that the last copy of a packet fell to chance.

    Of a box without a log nothing is known but that the packet did not come.
    """
    row = play.log[i]
    if play.state[FOREIGN] == 1:
        return bool(play.played[i]["stamp"] < 0)
    if row["times"] < play.played[i]["times"]:
        return False
    if row["fate"] == LOST:
        return True
    rule = I(row["rule"])
    return bool(row["fate"] == DROPPED and rule >= 0 and play.chancy[rule] == 1)


@kernel
def leave(i: int, time: int, play: Play) -> None:
    """Have packet i leave its sender, wait, or not leave at all, at the time it is due."""
    orders, ends, row = play.orders, play.ends, play.played[i]
    if orders.side[i] == LOCAL:
        row["sent"], row["arrival"] = True, time
        return
    counts = play.counts[play.whose[i]]
    if play.dead[2 * orders.flow[i] + orders.side[i]] == 1:
        counts[KILLED] += 0 if row["sent"] else 1
        return
    if row["sent"]:
        if not lost_by_chance(i, play):
            return
        counts[RESENT] += 1
    else:
        why = refused(i, time, orders, ends)
        if why >= 0:
            wait_or_stay(i, time, why, play)
            return
        if play.waiting[i] >= 0:
            time = play.waiting[i]
    row["sent"] = True
    if play.too_large[i] == 1:
        return
    near = leg(orders.base[i], orders.side[i] == CALLER)
    schedule(play, time + near, BOX, i)


@kernel
def behind(since: int, play: Play) -> bool:
    """Tell whether something that was due on the wire by then is still on its way.

    What a rule or the link delays is not: that is no lateness of the lab.
    """
    state = play.state
    given_up = now(play.pair) - state[BEGAN] - FOREIGN_MOST if state[FOREIGN] == 1 else I(-1)
    while state[FIRST] < state[LAUNCHED]:
        i = play.launched[state[FIRST]]
        row, log = play.played[i], play.log[i]
        if row["due"] < given_up:
            state[FIRST] += 1
            continue
        decided = log["times"] >= row["times"]
        if row["stamp"] < 0 and not (decided and (log["fate"] != DELIVERED or delayed(i, play))):
            return bool(row["due"] <= since)
        state[FIRST] += 1
    return False


@kernel
def delayed(i: int, play: Play) -> bool:
    """Tell whether a rule or the link may delay a packet, by the box's log."""
    rule = I(play.log[i]["rule"])
    return bool(play.state[LINKED] == 1 or (rule >= 0 and play.chancy[rule] == 1))


@kernel
def wait_or_stay(i: int, time: int, why: int, play: Play) -> None:
    """Have a packet that may not leave look again while the lab is late, then as its end polls."""
    gated = why in (LATCHED, UNHEARD)
    if gated and play.waiting[i] < 0:
        play.waiting[i] = time
    since = play.waiting[i]
    late = time - since
    if gated and (late < GRACE or (late < GRACE_MOST and behind(since, play))):
        schedule(play, time + LOOK, SEND, i)
        return
    play.waiting[i] = -1
    if why == LATCHED and play.orders.media[i] == 0 and play.polls[i] < POLLS:
        play.polls[i] += 1
        schedule(play, since + POLL, SEND, i)
        return
    play.counts[play.whose[i], why] += 1


@kernel
def launch(i: int, time: int, play: Play, caller: Port, server: Port) -> None:
    """Put packet i on the wire; who waits for an answer looks after it later."""
    frames, row, orders = play.frames, play.played[i], play.orders
    source = frames.data.ctypes.data + frames.at[i]
    if orders.side[i] == CALLER:
        sent = put(caller, source, frames.size[i])
    else:
        sent = put(server, source, frames.size[i])
    if not sent:
        play.state[REFUSED] += 1
        return
    row["due"] = time
    again = time + (orders.patience[i] << I(row["times"]))
    over = play.state[FOREIGN] == 1 and again > play.state[PLANNED]
    if orders.patience[i] > 0 and row["times"] < RESENDS and not over:
        schedule(play, again, SEND, i)
    row["times"] += 1
    play.launched[play.state[LAUNCHED]] = i
    play.state[LAUNCHED] += 1


@kernel
def take_in(i: int, time: int, play: Play) -> None:
    """Take packet i at its receiver."""
    orders, ends = play.orders, play.ends
    if play.dead[2 * orders.flow[i] + 1 - orders.side[i]] == 1:
        return
    if orders.gate[i] >= 0 and play.deceived[orders.gate[i]] == 1:
        return
    play.state[SIZE] = arrived(i, time, orders, ends, play.state[SIZE])


@kernel
def handle(play: Play, caller: Port, server: Port) -> None:
    """Handle the first event of the heap."""
    heap, state, count = play.ends.heap, play.state, len(play.orders.flow)
    time, code = heap[0, 0], heap[0, 1]
    state[SIZE] = sift_down(heap, state[SIZE])
    kind, i = code // count, code % count
    if kind == SEND:
        leave(i, time, play)
    elif kind == BOX:
        launch(i, time, play, caller, server)
    elif kind == ARRIVE:
        take_in(i, time, play)
    elif kind in (TO_CALLER, TO_FAR):
        end = I(FAR if kind == TO_FAR else CALLER)
        slot = 2 * play.orders.flow[i] + end
        suffer(I(play.played[i]["forged"]), slot, i, play.dead, play.deceived)


@kernel
def forged_kind(b: Octets, at: int, end: int, around: int) -> int:
    """Return what a forged frame is by its content, of testbed.forge.LETTERS; -1: none of them.

    around: octets before its IP packet.
    """
    at += around
    if end - at < 40:
        return -1
    version = u8(b, at) >> 4
    head = 20 if version == 4 else 40
    proto = u8(b, at + 9) if version == 4 else u8(b, at + 6)
    size = u16(b, at + 2) if version == 4 else u16(b, at + 4) + 40
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
def on_time(i: int, time: int, play: Play) -> int:
    """Return when packet i, or an answer to it, that came in at `time` would have come in.

    That is, had the lab not been late: when it was due, and what a rule or the link added to that.
    """
    row, log = play.played[i], play.log[i]
    if play.state[FOREIGN] == 1:
        return I(time)
    if log["times"] < row["times"]:  # the kernel dealt with it, which delays nothing
        return I(row["due"])
    if not delayed(i, play):
        return I(row["due"])
    return I(row["due"] + max(time + play.state[BEGAN] - log["in_time"], 0))


@kernel
def hear(side: int, port: Port, play: Play) -> int:
    """Take what came in at one end, at most STRETCH frames; returns how many.

    side: CALLER or FAR, the end's.
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
        mark = u8(b, at + 6) if end - at >= 14 and u8(b, at + 7) == state[RUN] else 0
        i = u32(b, at + 8) if mark > 0 else len(orders.flow)
        if state[FOREIGN] == 1 and (mark != TAGGED or i >= len(orders.flow)):
            mark, i = known(side, b, at, end, play)
        if i >= len(orders.flow):
            state[STRANGE] += 1
        elif mark == TAGGED and orders.side[i] == 1 - side:
            come(i, time, play)
        elif mark == FORGED_HERE:
            row = play.played[i]
            row["forged"] = max(forged_kind(b, at, end, state[AROUND]), 0)
            row["letters"] += 1
            far = side == FAR
            rest = leg(orders.base[i], not far)
            schedule(play, on_time(i, time, play) + rest, TO_FAR if far else TO_CALLER, i)
        else:
            state[STRANGE] += 1
        give_back(port, slot)
    return count


@kernel
def known(side: int, b: Octets, at: int, end: int, play: Play) -> tuple[int, int]:
    """Return what a frame without a tag is: (TAGGED, packet), or (FORGED_HERE, what it answers).

    (0, n) where it is of no flow that was launched lately.
    """
    frames, orders, around = play.frames, play.orders, play.state[AROUND]
    newest, oldest = I(-1), I(-1)
    last = play.state[LAUNCHED]
    for turn_back in range(min(last, STRAY_MOST)):
        i = play.launched[last - 1 - turn_back]
        place = frames.at[i]
        away = orders.side[i] == 1 - side
        if away and play.played[i]["stamp"] < 0:
            if same_packet(b, at, end, frames.data, place, place + frames.size[i], around):
                oldest = I(i)
        if newest < 0 and of_one_flow(
            b, at, end, frames.data, place, place + frames.size[i], around, not away
        ):
            newest = I(i)
    if oldest >= 0:
        return I(TAGGED), oldest
    if newest >= 0 and forged_kind(b, at, end, around) >= 0:
        return I(FORGED_HERE), newest
    return I(0), I(len(orders.flow))


@kernel
def come(i: int, time: int, play: Play) -> None:
    """Note that packet i came in at its receiver's port, to be used after its leg."""
    orders, row = play.orders, play.played[i]
    if row["stamp"] >= 0 or row["times"] == 0:
        play.state[STRANGE] += 1
        return
    rest = leg(orders.base[i], orders.side[i] != CALLER)
    row["stamp"], row["arrival"] = time, time + rest
    schedule(play, on_time(i, time, play) + rest, ARRIVE, i)


@kernel
def turn(budget: int, play: Play, caller: Port, server: Port) -> None:
    """Play for `budget` ns of real time, sleeping while nothing is due and nothing comes."""
    state, heap = play.state, play.ends.heap
    clock = now(play.pair) - state[BEGAN]
    until = clock + budget
    while clock < until:
        count = hear(CALLER, caller, play) + hear(FAR, server, play)
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
