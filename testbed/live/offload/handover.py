# SPDX-License-Identifier: BSD-3-Clause
"""Hand decided flows to the kernel: the box's side of the XDP program (testbed.live.offload.xdp).

When every later packet of a flow has the same fate (testbed.middlebox.decide.settled) and the
classifier no longer inspects it (its packets could announce other flows), the box enters the key of
the current packet into the program's map: later packets are dropped, or forwarded, where they
arrive. Drops are entered at once. A redirect is entered when no frame of the flow waits in the
ring, and withdrawn when one arrived meanwhile; otherwise the next frame would overtake it. `fold`
adds the program's counters to the flows' records, so that they age by their real last packet. It
removes entries whose flow the box has forgotten or that are long silent: their next packet goes
through the box again, which decides as before.

The compiled pump writes the maps itself, through the bpf system call. Links and maps belong to the
process that opened them: when the box dies, the kernel removes the program.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.classifier.state.flow_table import FLOW, SETTLED, Records
from midcall.errors import TestbedError
from midcall.testbed.live.box.rings import PORT_FRAMES, Port, frame_ahead
from midcall.testbed.live.box.system import external
from midcall.testbed.live.offload import bpf
from midcall.testbed.live.offload.flow_key import PROTO, TEID, VERSION, read_key
from midcall.testbed.live.offload.xdp import (
    COUNT,
    ENTRY,
    KEY_SIZE,
    TO_DROP,
    TO_REDIRECT,
    TRACE,
    Shared,
    shortcut,
)
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED, DROPS, OPEN, settled

Numbers = NDArray[np.int64]

CHOICES = ("auto", "off")

#: Entries of the map: directions of flows that the kernel handles at one time.
CAPACITY = 1 << 16
#: Redirects that may wait until no frame of their flow is in a ring.
WAITING = 64
#: Frames of a ring that are searched for the flow, in ordinary turns.
AHEAD = 64
#: After the first time the whole ring is searched; after the second the redirect is entered anyway.
FULL_SEARCH_NS, FORCE_NS = 20_000_000, 200_000_000
#: An entry without a packet for this long is taken out.
IDLE_NS = 60_000_000_000
#: Slots and trace rows processed by one `fold`.
STRETCH = 1024

#: The flow whose entry is in a slot. packets, bytes: as last folded into the flow's record.
OWNER = np.dtype(
    [
        ("key", "u1", (KEY_SIZE,)),
        ("flow", "i8"),
        ("first_record", "i8"),  # distinguishes the flow from a later one under the same number
        ("packets", "i8"),
        ("bytes", "i8"),
        ("since", "i8"),  # CLOCK_MONOTONIC, ns
        ("rule", "i4"),
        ("action", "i4"),
        ("up", "i4"),
        ("used", "i4"),
        ("side", "i4"),  # port that its frames come in by
        ("spare", "i4"),
    ]
)

# Slots of a desk's state.
(
    ON,
    MAY_REDIRECT,
    DESCRIPTOR,
    CALL_NUMBER,
    FREE,  # slots on the stack of free ones
    QUEUED,  # redirects that wait
    HAND,  # the slot that `fold` processes next
    TRACE_HAND,
    TOP,  # slots ever used
    OFFSET,  # time of day less CLOCK_MONOTONIC, ns
    IDLE,
    HANDED,
    KEYLESS,
    REFUSED,
    RETURNED,
    REDIRECTED,
    DROPPED_BELOW,
    WITHDRAWN,
    FORCED,
) = range(19)
DESK = 24
COUNTED = {  # counter name in results -> slot
    "offload_redirected": REDIRECTED,  # packets
    "offload_dropped": DROPPED_BELOW,
    "offload_entered": HANDED,  # directions of flows
    "offload_returned": RETURNED,
    "offload_withdrawn": WITHDRAWN,  # to be tried again: a packet arrived meanwhile
    "offload_forced": FORCED,  # some of their packets may have been overtaken
    "offload_refused": REFUSED,  # no room
    "offload_without_key": KEYLESS,  # packets of settled flows that the program cannot parse
}

_system_call = external("syscall", 4)
NO_REPLACING = 1
UPDATE, DELETE = bpf.ELEMENT_UPDATE, bpf.ELEMENT_DELETE
OWNER_SIZE = OWNER.itemsize


class Desk(NamedTuple):
    """The arrays of the handover, as compiled code takes them."""

    state: Numbers  # int64[DESK]
    owners: Records  # OWNER[slots]
    counts: Records  # COUNT[slots], shared with the kernel
    free: Numbers  # int64[slots]
    queue: Records  # OWNER[WAITING]
    word: Numbers  # int64[8], scratch of system calls
    scratch: Octets  # uint8[KEY_SIZE]


def nothing() -> Desk:
    """Return empty arrays, for a box that hands nothing over."""
    return Desk(
        np.zeros(DESK, np.int64),
        np.zeros(1, OWNER),
        np.zeros(1, COUNT),
        np.zeros(1, np.int64),
        np.zeros(1, OWNER),
        np.zeros(8, np.int64),
        np.zeros(KEY_SIZE, np.uint8),
    )


def warm_up(met: Numbers, log: Records) -> None:
    """Compile (or load) the functions that a box calls between its turns."""
    fold(nothing(), 0, 0, np.zeros(1, FLOW), met)
    fold_trace(nothing(), 0, np.zeros(0, TRACE), log)


class Offload:
    """The maps of handed-over flows, and the program on both ports of a box; a context manager."""

    def __init__(
        self,
        *,
        redirect: bool = True,
        capacity: int = CAPACITY,
        trace: int = 0,
        tag: int = 0,
        idle_ns: int = IDLE_NS,
    ) -> None:
        """Make the maps; nothing is attached yet.

        redirect: False hands only drops over (the box delays what it forwards); capacity: entries;
        trace: number of packets of the run whose fate is logged, `tag` the run's octet in their MAC
        addresses. Raises TestbedError where the kernel refuses.
        """
        self.descriptors: list[int] = []
        self.maps: list[bpf.Map] = []
        try:
            entries = self._map(bpf.HASH, KEY_SIZE, ENTRY.itemsize, capacity)
            counts = self._map(bpf.ARRAY, 4, COUNT.itemsize, capacity)
            traced = self._map(bpf.ARRAY, 4, TRACE.itemsize, trace) if trace else None
            memory = counts.memory(), traced.memory() if traced else bytearray(TRACE.itemsize)
        except OSError as error:
            self.close()
            raise bpf.explain(error, "a map in memory") from error
        except BaseException:
            self.close()
            raise
        self.shared = Shared(
            entries.descriptor, counts.descriptor, traced.descriptor if traced else -1, tag
        )
        self.desk = Desk(
            np.zeros(DESK, np.int64),
            np.zeros(capacity, OWNER),
            np.frombuffer(memory[0], COUNT, capacity),
            np.arange(capacity - 1, -1, -1, dtype=np.int64),
            np.zeros(WAITING, OWNER),
            np.zeros(8, np.int64),
            np.zeros(KEY_SIZE, np.uint8),
        )
        self.trace: Records = np.frombuffer(memory[1], TRACE, trace)
        desk = self.desk.state
        desk[ON], desk[MAY_REDIRECT], desk[FREE] = 1, redirect, capacity
        desk[DESCRIPTOR] = entries.descriptor
        desk[CALL_NUMBER] = bpf.CALL_NUMBERS[platform.machine()]
        desk[OFFSET] = time.time_ns() - time.monotonic_ns()
        desk[IDLE] = idle_ns

    def attach(self, ports: tuple[str, str], mode: str = "generic") -> None:
        """Put the program on two interfaces of this network namespace; raises TestbedError.

        Frames of handed-over flows that come in by one leave by the other.
        """
        try:
            numbers = [socket.if_nametoindex(name) for name in ports]
        except OSError:
            raise TestbedError(
                f"offload: got the interfaces {ports[0]} and {ports[1]}, of which one is not here"
            ) from None
        for incoming, outgoing in (numbers, numbers[::-1]):
            self.descriptors.append(bpf.load(shortcut(self.shared, outgoing)))
            self.descriptors.append(bpf.attach(self.descriptors[-1], incoming, mode))

    def _map(self, kind: int, key: int, value: int, entries: int) -> bpf.Map:
        bpf_map = bpf.Map(kind, key, value, entries)
        self.maps.append(bpf_map)
        return bpf_map

    def __enter__(self) -> Offload:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def counters(self) -> dict[str, int]:
        """Return the counters of handed-over flows by name, as of the last `fold`."""
        return {name: int(self.desk.state[slot]) for name, slot in COUNTED.items()}

    def close(self) -> None:
        """Remove the program from the ports and close the maps."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        for bpf_map in self.maps:
            bpf_map.close()
        self.descriptors, self.maps = [], []
        if hasattr(self, "desk"):
            self.desk.state[ON] = 0


# ---- compiled


@kernel
def map_call(desk: Desk, command: int, key: int, value: int, flags: int) -> bool:
    """Do the bpf system call on an entry; key, value: addresses. Returns whether it succeeded."""
    word = desk.word
    word[0], word[1], word[2], word[3] = desk.state[DESCRIPTOR], key, value, flags
    return bool(_system_call(desk.state[CALL_NUMBER], command, word.ctypes.data, 32) == 0)


@kernel
def enter(desk: Desk, row: Any, time: int) -> int:
    """Put an entry into the map, under a free slot; returns the slot, -1 on failure.

    time: CLOCK_MONOTONIC, ns.
    """
    state, word = desk.state, desk.word
    if state[FREE] == 0:
        state[REFUSED] += 1
        return -1
    slot = desk.free[state[FREE] - 1]
    owner, count = desk.owners[slot], desk.counts[slot]
    for i in range(KEY_SIZE):
        owner["key"][i] = row["key"][i]
    owner["flow"], owner["first_record"] = row["flow"], row["first_record"]
    owner["rule"], owner["action"], owner["up"] = row["rule"], row["action"], row["up"]
    owner["packets"], owner["bytes"], owner["since"] = 0, 0, time
    owner["side"] = row["side"]
    count["packets"], count["bytes"], count["last"] = 0, 0, 0
    word[4] = I(row["action"]) | (slot << 32)
    word[5] = (I(row["flow"]) & 0xFFFFFFFF) | (I(row["rule"]) << 32)
    key, value = desk.owners.ctypes.data + slot * OWNER_SIZE, word.ctypes.data + 4 * 8
    if not map_call(desk, UPDATE, key, value, NO_REPLACING):
        return -1  # an earlier packet of the flow has entered it
    owner["used"] = 1
    state[FREE] -= 1
    state[HANDED] += 1
    state[TOP] = max(state[TOP], slot + 1)
    return I(slot)


@kernel
def take_out(desk: Desk, slot: int) -> None:
    """Remove an entry from the map and free its slot; its counters stay, to be folded."""
    map_call(desk, DELETE, desk.owners.ctypes.data + slot * OWNER_SIZE, 0, 0)
    desk.owners[slot]["used"] = 0
    desk.free[desk.state[FREE]] = slot
    desk.state[FREE] += 1


@kernel
def queued_already(desk: Desk, flow: int, up: int) -> bool:
    """Tell whether a flow's direction is queued already."""
    for i in range(desk.state[QUEUED]):
        if desk.queue[i]["flow"] == flow and desk.queue[i]["up"] == up:
            return True
    return False


@kernel
def offer(
    desk: Desk,
    rules: Records,
    flows: Records,
    number: int,
    up: int,
    side: int,
    b: Octets,
    at: int,
    end: int,
    time: int,
) -> None:
    """Hand over the direction of the packet b[at:end], just decided, if its fate is settled.

    number: the packet's flow; up: whether it goes from the flow's source to its target; side: the
    port it came in by, 0 the caller's; time: now, ns of the time of day.
    """
    flow, state = flows[number], desk.state
    outlook = settled(rules, flow)
    if outlook == OPEN or I(flow["state"]) & SETTLED == 0:
        return
    if outlook != DROPS and state[MAY_REDIRECT] == 0:
        return
    if queued_already(desk, number, up) or state[QUEUED] == len(desk.queue):
        return
    row = desk.queue[state[QUEUED]]
    if read_key(b, at, end, row["key"]) < 0:
        state[KEYLESS] += 1
        return
    row["flow"], row["first_record"], row["up"] = number, flow["first_record"], up
    row["side"], row["since"] = side, time - state[OFFSET]
    row["rule"], row["action"] = max(I(flow["mark"]) - 1, -1), TO_REDIRECT
    if outlook == DROPS:
        row["action"] = TO_DROP
        enter(desk, row, time - state[OFFSET])
    else:
        state[QUEUED] += 1


@kernel
def same_flow(one: Octets, other: Octets) -> bool:
    """Tell whether two keys name the same inner addresses, ports and transport."""
    for i in range(TEID):
        if one[i] != other[i]:
            return False
    return bool(one[VERSION] == other[VERSION] and one[PROTO] == other[PROTO])


@kernel
def waits(port: Port, key: Octets, ahead: int, scratch: Octets) -> bool:
    """Tell whether a frame of a flow waits in a ring, or more frames wait than `ahead`."""
    for place in range(ahead):
        start, end = frame_ahead(port, place)
        if start < 0:
            return False
        if read_key(port.octets, start, end, scratch) >= 0 and same_flow(key, scratch):
            return True
    return True


@kernel
def settle_one(desk: Desk, row: Any, time: int, port: Port) -> bool:
    """Enter a redirect if it is due; tells whether it left the queue. time: monotonic, ns."""
    state, waited = desk.state, time - row["since"]
    ahead = I(AHEAD) if waited < FULL_SEARCH_NS else port.row[PORT_FRAMES]
    busy = waits(port, row["key"], ahead, desk.scratch)
    if busy and waited < FORCE_NS:
        return False
    slot = enter(desk, row, time)
    if slot < 0:
        return True
    if busy:
        state[FORCED] += 1
    elif waits(port, row["key"], ahead, desk.scratch):
        take_out(desk, slot)
        state[HANDED] -= 1
        state[WITHDRAWN] += 1
        return False
    return True


@kernel
def settle_queue(desk: Desk, time: int, caller: Port, server: Port) -> None:
    """Enter the queued redirects whose flows have no frame in flight through the box.

    time: now, ns of the time of day; the rings of both ports must be flushed.
    """
    state = desk.state
    remaining = I(0)
    for i in range(state[QUEUED]):
        row = desk.queue[i]
        port = caller
        if row["side"] != 0:
            port = server
        if not settle_one(desk, row, time - state[OFFSET], port):
            desk.queue[remaining] = row
            remaining += 1
    state[QUEUED] = remaining


@kernel
def fold(desk: Desk, time: int, stretch: int, flows: Records, met: Numbers) -> None:
    """Add counters and times of the next `stretch` slots to the flows' records.

    met: packets by rule; time: of day, ns. Entries of forgotten or silent flows are removed.
    """
    state = desk.state
    for _ in range(min(stretch, state[TOP])):
        slot = state[HAND]
        state[HAND] = slot + 1 if slot + 1 < state[TOP] else 0
        owner = desk.owners[slot]
        if owner["used"] == 0:
            continue
        flow = flows[owner["flow"]]
        known = bool(flow["first_record"] == owner["first_record"])
        last_seen = max(I(desk.counts[slot]["last"]), I(owner["since"]))
        if not known or time - state[OFFSET] - last_seen > state[IDLE]:
            take_out(desk, slot)
            state[RETURNED] += 1
        fold_slot(owner, desk.counts[slot], flow, known, met, state)


@kernel
def fold_slot(owner: Any, count: Any, flow: Any, known: bool, met: Numbers, state: Numbers) -> None:
    """Add a slot's counts since it was last folded to its flow's record."""
    packets = I(count["packets"]) - I(owner["packets"])
    octets = I(count["bytes"]) - I(owner["bytes"])
    if packets == 0:
        return
    owner["packets"] += packets
    owner["bytes"] += octets
    state[DROPPED_BELOW if owner["action"] == TO_DROP else REDIRECTED] += packets
    if owner["rule"] >= 0:
        met[owner["rule"]] += packets
    if not known:
        return
    if owner["up"]:
        flow["packets_up"] += packets
        flow["bytes_up"] += octets
    else:
        flow["packets_down"] += packets
        flow["bytes_down"] += octets
    flow["last_time"] = max(I(flow["last_time"]), I(count["last"]) + state[OFFSET])


@kernel
def fold_trace(desk: Desk, stretch: int, trace: Records, log: Records) -> None:
    """Copy the program's trace of the next `stretch` packets into the box's log."""
    state, size = desk.state, min(len(trace), len(log))
    for _ in range(min(stretch, size)):
        number = state[TRACE_HAND]
        state[TRACE_HAND] = number + 1 if number + 1 < size else 0
        row, into = trace[number], log[number]
        time = I(row["time"]) + state[OFFSET]
        if row["time"] == 0 or time <= into["in_time"]:
            continue
        dropped = row["action"] == TO_DROP
        into["in_time"], into["out_time"] = time, 0 if dropped else time
        into["fate"] = DROPPED if dropped else DELIVERED
        into["flow"], into["rule"] = row["flow"], row["rule"]
        into["times"] = min(I(into["times"]) + 1, 255)
