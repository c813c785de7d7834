# SPDX-License-Identifier: BSD-3-Clause
"""The pump: frames from one port of the box through classifier and policy to the other.

One compiled loop serves both ports; the interpreter does not run between a frame's arrival and its
departure. Delayed frames wait in a pool, ordered by their time of release. When idle, the pump
sleeps until a frame arrives, or until shortly before the next release and then spins: a sleep alone
ends 30 to 60 µs late.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u32
from midcall.classifier.engine import Tables, step
from midcall.classifier.state.flow_table import Records
from midcall.classifier.state.packet_fields import SIGN_IP_AT, SIGN_IP_SIZE, SIGN_UP, SIGN_VERSION
from midcall.testbed.live.box.rings import (
    FRAME,
    PORT_FD,
    Port,
    flush,
    frame_end,
    frame_start,
    give_back,
    next_frame,
    put,
    stamp,
    whole,
)
from midcall.testbed.live.box.system import POLLIN, copy, now, wait_readable
from midcall.testbed.live.offload.handover import ON, Desk, offer, settle_queue
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED, LOST, decide, sees
from midcall.testbed.middlebox.inject import METER_LETTERS, METER_OCTETS
from midcall.testbed.middlebox.marking import write_dscp
from midcall.testbed.middlebox.rule_table import METER_MARKED, UP, RuleTable
from midcall.testbed.network.access import put32
from midcall.testbed.network.link import admit
from midcall.testbed.replay.endpoints import sift_down, sift_up

Numbers = NDArray[np.int64]

#: The box's log of a tagged frame. Row N is the first sending of packet N of the script; rows after
#: all packets are later sendings. fate: of testbed.middlebox.FATES (0: never reached the box);
#: in_time, out_time: ns of the time of day, 0 never; times: how often it arrived. packet, number:
#: written by the ends before they send a later sending: its packet, and how often that was sent.
#: mark: 1 + the code point that the box wrote, 0 where it wrote none.
BOX_LOG = np.dtype(
    [
        ("in_time", "i8"),
        ("out_time", "i8"),
        ("flow", "i4"),
        ("rule", "i2"),
        ("fate", "u1"),
        ("times", "u1"),
        ("packet", "i4"),
        ("number", "u1"),
        ("mark", "u1"),
    ]
)

# Slots of the counters.
COUNTERS = (
    "received",
    "forwarded",
    "dropped_by_policy",
    "dropped_by_overload",
    "malformed",
    "lost_by_link",
    "held",
    "holding",
    "injected",
    "bypassed",
    "slept_ns",
)
(
    RECEIVED, FORWARDED, BY_POLICY, BY_OVERLOAD, MALFORMED, BY_LINK, HELD, HOLDING, INJECTED,
    BYPASSED, SLEPT,
) = range(len(COUNTERS))  # fmt: skip

# Slots of `orders`, the commands to the pump: shared between the processes of a box.
STOP, BUSY, BATCH, RUN, CLOSED, SEQUENCE = range(6)
ORDERS = 8

#: First octet of the MAC source of a harness frame, and of a frame that the box made.
TAGGED, FORGED_HERE = 2, 6

#: The pump wakes this much before a release and spins, ns.
SPIN_NS = 80_000
#: A delayed packet's word: its sequence number, then its place in the pool.
PLACE_BITS = 20
PLACES = 1 << PLACE_BITS
# Columns of the pool's rows.
HELD_SIZE, HELD_PORT, HELD_TAG = 0, 1, 2


class Late(NamedTuple):
    """Delayed frames that wait for their release."""

    pool: Octets  # uint8[places * FRAME]
    rows: Numbers  # int64[places, 3]
    spare: Numbers  # int64[places + 1], how many places are free, and which
    heap: Numbers  # int64[places + 1, 2], (time of release, word)


class Work(NamedTuple):
    """The state of the pump: tables, rules, logs and counters."""

    tables: Tables
    signs: Numbers
    box: RuleTable
    links: Records  # LINK[2], the access network's, up and down
    link_states: Records  # STATE[2 * captures]: each capture is a subscriber with its own link
    late: Late
    desk: Desk  # where decided flows are handed to the kernel
    log: Records  # BOX_LOG[...]
    numbers: Numbers  # per row of the log: the packet's number in its capture, which chances use
    capture_of: Numbers  # per row of the log: its capture
    shares: Numbers  # int64[captures, rules], packets of each capture that met each rule's match
    before: Numbers  # scratch, int64[rules]
    orders: Numbers  # int64[ORDERS]
    counters: Numbers
    fds: Numbers  # of wait_readable
    pair: Numbers  # scratch, int64[2]


def late(places: int) -> Late:
    """Return an empty pool for `places` delayed frames."""
    return Late(
        np.zeros(places * FRAME, np.uint8),
        np.zeros((places, 3), np.int64),
        np.concatenate((np.array([places]), np.arange(places))).astype(np.int64),
        np.zeros((places + 1, 2), np.int64),
    )


def readable(*ports: Port) -> Numbers:
    """Return int64[ports] for `wait_readable`: a `struct pollfd` per port."""
    return np.array([int(port.row[PORT_FD]) | POLLIN << 32 for port in ports], np.int64)


# ---- compiled


@kernel
def tag_of(b: Octets, at: int, end: int, run: int, count: int) -> int:
    """Return the packet number that a harness frame's MAC source carries, -1 for other frames."""
    if end - at < 14 or u8(b, at + 6) != TAGGED or u8(b, at + 7) != run:
        return -1
    number = u32(b, at + 8)
    return I(number if number < count else -1)


@kernel
def write_log(log: Records, tag: int, time: int, fate: int, rule: int, flow: int) -> None:
    """Log the decision on a tagged packet; that of a repeated packet overwrites the earlier one."""
    row = log[tag]
    row["in_time"], row["fate"], row["rule"], row["flow"] = time, fate, rule, flow
    row["out_time"] = 0
    row["times"] = min(I(row["times"]) + 1, 255)


@kernel
def delay_frame(source: int, size: int, side: int, tag: int, release: int, work: Work) -> bool:
    """Keep a frame until its release, to be sent by port `side`; False where there is no room.

    spare[0] is the number of free places; spare[1:] lists them.
    """
    pool, rows, spare, heap = work.late
    free = spare[0]
    if free == 0:
        return False
    place = spare[free]
    spare[0] = free - 1
    copy(pool.ctypes.data + place * FRAME, source, size)
    rows[place, HELD_SIZE], rows[place, HELD_PORT], rows[place, HELD_TAG] = size, side, tag
    work.orders[SEQUENCE] += 1
    word = (work.orders[SEQUENCE] << PLACE_BITS) | place
    work.counters[HOLDING] = sift_up(heap, work.counters[HOLDING], release, word)
    work.counters[HELD] += 1
    return True


@kernel
def release_due(time: int, work: Work, caller: Port, server: Port) -> int:
    """Send every delayed frame whose release is due; returns how many."""
    pool, rows, spare, heap = work.late
    counters = work.counters
    count = I(0)
    while counters[HOLDING] > 0 and heap[0, 0] <= time:
        place = heap[0, 1] & (PLACES - 1)
        counters[HOLDING] = sift_down(heap, counters[HOLDING])
        source = pool.ctypes.data + place * FRAME
        tag = rows[place, HELD_TAG]
        if rows[place, HELD_PORT] == 0:
            send(caller, source, rows[place, HELD_SIZE], tag, time, work)
        else:
            send(server, source, rows[place, HELD_SIZE], tag, time, work)
        spare[0] += 1
        spare[spare[0]] = place
        count += 1
    return count


@kernel
def send(port: Port, source: int, size: int, tag: int, time: int, work: Work) -> None:
    """Put a frame on a port, and count and log its departure."""
    if put(port, source, size):
        work.counters[FORWARDED] += 1
        if tag >= 0:
            work.log[tag]["out_time"] = time
    else:
        work.counters[BY_OVERLOAD] += 1


@kernel
def count_matches(capture: int, work: Work) -> None:
    """Add the rule matches since `before` was recorded to the packet's capture."""
    met = work.box.met
    for rule in range(len(met)):
        work.shares[capture, rule] += met[rule] - work.before[rule]


@kernel
def send_forged(packet: int, work: Work, caller: Port, server: Port) -> None:
    """Send the frames that the box forged in answer to a packet.

    Their MAC source is 06, the run's octet, and the number of the packet that they answer.
    """
    box, counters = work.box, work.counters
    for number in range(box.meter[METER_LETTERS]):
        letter = box.letters[number]
        at, size = letter["at"], letter["length"]
        box.mail[at + 6], box.mail[at + 7] = FORGED_HERE, work.orders[RUN]
        put32(box.mail, at + 8, packet & 0xFFFFFFFF)
        source = box.mail.ctypes.data + at
        if letter["toward"] == UP:
            sent = put(server, source, size)
        else:
            sent = put(caller, source, size)
        counters[INJECTED if sent else BY_OVERLOAD] += 1
    box.meter[METER_LETTERS] = box.meter[METER_OCTETS] = 0


@kernel
def decide_frame(
    side: int,
    b: Octets,
    at: int,
    end: int,
    time: int,
    packet: int,
    chances: int,
    capture: int,
    work: Work,
) -> tuple[int, int, int, int]:
    """Pass a frame through classifier, policy and access link.

    Returns (fate, rule or -1, time of release in ns, flow or -1). side: UP or DOWN; chances: the
    number that seeds the packet's random draws; capture: the capture whose link it crosses.
    """
    tables, box = work.tables, work.box
    for row in range(len(work.before)):
        work.before[row] = box.met[row]
    number, seen = I(-1), sees(box, side)
    if seen:
        number = step(tables, b, at, end, end - at, time, 1, packet, work.signs)
    fate, rule, release = I(DELIVERED), I(-1), I(time)
    octets = end - at
    if number >= 0:
        fate, rule, release = decide(box, tables.flows[number], side, b, work.signs, time, chances)
        octets = work.signs[SIGN_IP_SIZE]
    elif seen and work.orders[CLOSED]:
        fate = I(DROPPED)
    if fate == DELIVERED:
        late = admit(work.links[side], work.link_states[2 * capture + side], octets, time, chances)
        if late < 0:
            return LOST, rule, time, number
        release += late - time
    return fate, rule, release, number


@kernel
def forward_batch(side: int, clock: int, work: Work, caller: Port, server: Port) -> int:
    """Process a batch of frames from one port; returns how many.

    side: UP for the caller's port, DOWN for the server's; clock: the time now, in ns.
    """
    orders, counters, log = work.orders, work.counters, work.log
    inward, outward = caller, server
    if side != UP:
        inward, outward = server, caller
    b = inward.octets
    taken = I(0)
    while taken < orders[BATCH]:
        slot = next_frame(inward)
        if slot < 0:
            break
        taken += 1
        counters[RECEIVED] += 1
        if not whole(inward, slot):
            counters[MALFORMED] += 1
            give_back(inward, slot)
            continue
        time, at, end = stamp(inward, slot), frame_start(inward, slot), frame_end(inward, slot)
        tag = tag_of(b, at, end, orders[RUN], len(log))
        packet = tag if tag >= 0 else counters[RECEIVED]
        chances, capture = I(packet), I(0)
        if tag >= 0:  # a copy gets random draws of its own
            first = I(log[tag]["packet"]) if log[tag]["number"] > 0 else I(tag)
            copies = I(log[tag]["number"]) + I(log[tag]["times"])
            chances = work.numbers[first] + (copies << 32)
            capture = work.capture_of[first]
        fate, rule, release, flow = decide_frame(
            side, b, at, end, time, packet, chances, capture, work
        )
        marked = work.box.meter[METER_MARKED]
        if marked > 0:
            work.box.meter[METER_MARKED] = 0
            write_dscp(b, work.signs[SIGN_IP_AT], work.signs[SIGN_VERSION], marked - 1)
        if tag >= 0:
            write_log(log, tag, time, fate, rule, flow)
            log[tag]["mark"] = marked
            count_matches(capture, work)
        if work.box.meter[METER_LETTERS] > 0:
            send_forged(packet, work, caller, server)
        if fate == DELIVERED:
            source = b.ctypes.data + at
            if release <= clock:
                send(outward, source, end - at, tag, clock, work)
            elif not delay_frame(source, end - at, 1 - side, tag, release, work):
                counters[BY_OVERLOAD] += 1
        else:
            counters[BY_LINK if fate == LOST else BY_POLICY] += 1
        if work.desk.state[ON] and flow >= 0:
            up = work.signs[SIGN_UP]
            flows, rules = work.tables.flows, work.box.rules
            offer(work.desk, rules, flows, flow, up, side, b, at, end, clock)
        give_back(inward, slot)
    return taken


@kernel
def sleep(clock: int, until: int, work: Work) -> int:
    """Sleep until a frame arrives or shortly before the next release; do not sleep if that is due.

    Returns the time afterwards, ns.
    """
    if work.orders[BUSY]:
        return now(work.pair)
    if work.counters[HOLDING] > 0:
        until = min(until, work.late.heap[0, 0] - SPIN_NS)
    if until <= clock:
        return now(work.pair)
    wait_readable(work.fds, 2, until - clock, work.pair)
    woken = now(work.pair)
    work.counters[SLEPT] += max(woken - clock, 0)
    return woken


@kernel
def run_box(budget: int, packets: int, work: Work, caller: Port, server: Port) -> None:
    """Forward for at most `budget` ns and about `packets` packets, or until asked to stop."""
    clock = now(work.pair)
    until = clock + budget
    done = I(0)
    while work.orders[STOP] == 0 and clock < until and done < packets:
        count = forward_batch(0, clock, work, caller, server)
        count += forward_batch(1, clock, work, caller, server)
        clock = now(work.pair)
        count += release_due(clock, work, caller, server)
        flush(caller)
        flush(server)
        done += count
        settle_queue(work.desk, clock, caller, server)
        if count == 0:
            clock = sleep(clock, until, work)


@kernel
def relay(budget: int, work: Work, caller: Port, server: Port) -> None:
    """Forward every frame unchanged, for at most `budget` ns: a box that failed open."""
    clock = now(work.pair)
    until = clock + budget
    while work.orders[STOP] == 0 and clock < until:
        count = relay_batch(caller, server, work.counters)
        count += relay_batch(server, caller, work.counters)
        clock = now(work.pair)
        if count == 0 and until > clock:
            wait_readable(work.fds, 2, until - clock, work.pair)
            clock = now(work.pair)


@kernel
def relay_batch(inward: Port, outward: Port, counters: Numbers) -> int:
    """Forward at most 64 frames unchanged from one port to the other; returns how many."""
    count = I(0)
    while count < 64:
        slot = next_frame(inward)
        if slot < 0:
            break
        at, end = frame_start(inward, slot), frame_end(inward, slot)
        counters[RECEIVED] += 1
        if put(outward, inward.octets.ctypes.data + at, end - at):
            counters[FORWARDED] += 1
            counters[BYPASSED] += 1
        else:
            counters[BY_OVERLOAD] += 1
        give_back(inward, slot)
        count += 1
    flush(outward)
    return count
