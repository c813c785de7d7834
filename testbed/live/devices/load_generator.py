# SPDX-License-Identifier: BSD-3-Clause
"""Load generator: send frames on a fixed schedule from one or both ends and time their arrivals.

Open loop: packet k is due at start + k / rate regardless of the packets before it. Its latency
counts from that time, not from when the generator actually sent it, so that a path which stalls is
charged for every packet that it delayed (no coordinated omission). The arrival is the kernel's
timestamp at the receiving interface. One process sends and receives: one clock.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u32
from midcall.captures.packets.numbers import UDP
from midcall.errors import TestbedError
from midcall.testbed.live.box.rings import (
    FRAME,
    FRAMES,
    Port,
    Ring,
    flush,
    frame_end,
    frame_start,
    give_back,
    next_frame,
    put,
    stamp,
)
from midcall.testbed.live.box.system import SECOND, now, prefer, urgent
from midcall.testbed.live.network.network import Network
from midcall.testbed.network.access import put16, put32
from midcall.testbed.network.ip_packets import ip_packet

Numbers = NDArray[np.int64]

#: Octets of the Ethernet, IPv4 and UDP headers, and of the trailer: the frame's number and MARK.
HEADERS, TRAILER = 42, 8
MARK = 0x4D43_4C44
SMALLEST, LARGEST = HEADERS + TRAILER, 1514
CALLER_ADDRESS, SERVER_ADDRESS = bytes((198, 18, 0, 1)), bytes((198, 19, 0, 1))
#: A packet that arrives later than this after the last one was sent counts as lost.
TIMEOUT_NS = 300_000_000
#: Duration of a `Generator.burst`, and of the pause before it.
BURST_SECONDS, REST_SECONDS = 0.8, 0.4
#: Packets sent at once when several are due.
BURST = 32

#: Sizes and shares of the Simple IMIX (RFC 6985 names it), without the frame check sequence.
IMIX = (60,) * 7 + (590,) * 4 + (1514,)

# Slots of a trial's counts.
SENT, CAME, TWICE, REFUSED, LATE_MOST, LATE_OFTEN, STRANGE, BEGAN = range(8)
COUNTS = 8
#: A packet sent this long after it was due counts as sent late.
LATE_NS = 100_000


class Traffic(NamedTuple):
    """The frames to send, in turn: one row per flow and direction."""

    frames: Octets  # uint8[n, FRAME]
    sizes: Numbers
    ends: Numbers  # 0: from the caller, 1: from the server
    kind: int  # FIXED, FRESH or CALLS
    name: str


# Kinds of traffic: endless flows; flows that end after FRESH_ROUNDS packets and are replaced by new
# ones; RTP, numbered, in both directions.
FIXED, FRESH, CALLS = 0, 1, 2
#: Packets of a flow before a new one replaces it: the classifier is still undecided about it.
FRESH_ROUNDS = 8


def datagram(
    size: int, caller_port: int, server_port: int, payload: bytes, target: bytes, up: bool
) -> bytes:
    """Return an Ethernet frame of `size` octets that carries UDP between the lab's two ends.

    caller_port, server_port: UDP ports of the two ends.
    """
    body = payload[: size - HEADERS - TRAILER].ljust(size - HEADERS - TRAILER, b"\0")
    hosts = (CALLER_ADDRESS, SERVER_ADDRESS) if up else (SERVER_ADDRESS, CALLER_ADDRESS)
    ports = (caller_port, server_port) if up else (server_port, caller_port)
    udp = struct.pack(">HHHH", *ports, size - 34, 0)
    packet = ip_packet(*hosts, UDP, udp + body + bytes(TRAILER))
    return target + b"\x02\0\0\0\0\x09\x08\0" + packet


def traffic(kind: int, sizes: tuple[int, ...], flows: int, target: bytes, name: str) -> Traffic:
    """Return traffic of `flows` flows; frame sizes take turns. Raises TestbedError.

    target: the MAC address that frames are sent to, which only kernel forwarding uses.
    CALLS gives each flow a row per direction.
    """
    for size in sizes:
        if not SMALLEST <= size <= LARGEST:
            raise TestbedError(f"frame size: got {size}, expected {SMALLEST} to {LARGEST} bytes")
    random = np.random.default_rng(0x4D43)
    rows, ends = [], []
    for flow in range(flows):
        size = sizes[flow % len(sizes)]
        noise = random.bytes(size)
        if kind == CALLS:
            noise = struct.pack(">BBHII", 0x80, 0, 0, 0, 0x4D430000 + flow) + noise
        for end in range(2 if kind == CALLS else 1):
            rows.append(datagram(size, 10000 + flow, 20000 + flow % 9973, noise, target, end == 0))
            ends.append(end)
    frames = np.zeros((len(rows), FRAME), np.uint8)
    for row, octets in zip(frames, rows, strict=True):
        row[: len(octets)] = np.frombuffer(octets, np.uint8)
    lengths = np.array([len(octets) for octets in rows], np.int64)
    return Traffic(frames, lengths, np.array(ends, np.int64), kind, name)


@dataclass(frozen=True)
class Trial:
    """The result of one trial.

    arrivals: int64[sent], ns of the time of day, by packet number, 0 for packets that did not
    arrive; due: the first packet's time; late_us: float32[n], µs from due to arrival, of packets
    that arrived; behind_us: the largest lateness of the generator itself; sent_late: packets that
    it sent over 100 µs late; refused: packets that it could not send at all.
    """

    rate: int
    seconds: float
    sent: int
    lost: int
    twice: int
    refused: int
    behind_us: float
    sent_late: int
    due: int
    arrivals: Numbers
    late_us: NDArray[np.float32]

    @property
    def whole(self) -> bool:
        """Tell whether every packet came out."""
        return self.lost == 0 and self.refused == 0

    def percentiles(self) -> dict[str, float | int | None]:
        """Return p50, p99, p99.9 in µs and their number of packets n; None where none arrived."""
        values: dict[str, float | int | None] = {"n": len(self.late_us)}
        for name, share in (("p50", 50), ("p99", 99), ("p999", 99.9)):
            some = len(self.late_us) > 0
            values[name] = round(float(np.percentile(self.late_us, share)), 2) if some else None
        return values


class Generator:
    """Both ends of a network, to send load through it; a context manager."""

    def __init__(self, network: Network, frames: int = 4 * FRAMES) -> None:
        """Open rings at the caller's and the server's end."""
        self.rings = [
            Ring(network.caller_pid, network.ports.c0, frames),
            Ring(network.server_pid, network.ports.s0, frames),
        ]
        self.pair = np.zeros(2, np.int64)

    def __enter__(self) -> Generator:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the rings."""
        for ring in self.rings:
            ring.close()

    def trial(self, what: Traffic, rate: int, seconds: float) -> Trial:
        """Send `rate` packets/s for some seconds; returns what arrived. Raises TestbedError."""
        total = max(int(rate * seconds), 1)
        late = np.full(total, -1, np.int64)
        counts = np.zeros(COUNTS, np.int64)
        caller, server = (ring.port for ring in self.rings)
        for ring in self.rings:
            ring.overloads()
        drain(caller)
        drain(server)
        run_load(
            what.frames, what.sizes, what.ends, what.kind, rate, late, counts, caller, server,
            self.pair,
        )  # fmt: skip
        missed = sum(ring.overloads() for ring in self.rings)
        if missed:
            raise TestbedError(f"the generator's own rings lost {missed} frames; the trial is void")
        came, start = late[late >= 0], int(counts[BEGAN])
        planned = start + np.arange(total, dtype=np.int64) * SECOND // rate
        return Trial(
            rate,
            seconds,
            int(counts[SENT]),
            int(counts[SENT] - len(came)),
            int(counts[TWICE]),
            int(counts[REFUSED]),
            float(counts[LATE_MOST] / 1000),
            int(counts[LATE_OFTEN]),
            start,
            np.where(late >= 0, planned + late, 0),
            (came / 1000).astype(np.float32),
        )

    def burst(self, what: Traffic, rate: int) -> Trial:
        """Send at a rate (packets/s) for 0.8 s under real-time scheduling, after a pause.

        Only interrupts then delay the generator itself. The kernel stops a real-time process for
        50 ms in each second in which it does not sleep, hence a burst and a pause.
        """
        time.sleep(REST_SECONDS)
        urgent(True)
        try:
            return self.trial(what, rate, BURST_SECONDS)
        finally:
            urgent(False)


def merged(trials: list[Trial]) -> Trial:
    """Return several trials of one load, merged; arrivals and due time are the first one's."""
    total = [sum(values) for values in zip(*(
        (one.seconds, one.sent, one.lost, one.twice, one.refused, one.sent_late) for one in trials
    ), strict=True)]  # fmt: skip
    return replace(
        trials[0],
        seconds=total[0],
        sent=int(total[1]),
        lost=int(total[2]),
        twice=int(total[3]),
        refused=int(total[4]),
        sent_late=int(total[5]),
        behind_us=max(one.behind_us for one in trials),
        late_us=np.concatenate([one.late_us for one in trials]),
    )


@contextmanager
def preferred(core: int) -> Iterator[None]:
    """Run the block on one core with high priority; restores scheduling afterwards."""
    cores, nice = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
    group = Path("/proc/self/autogroup")
    before = group.read_text().rpartition("nice ")[2].strip() if group.exists() else "0"
    prefer(core)
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, cores)
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        if group.exists():
            group.write_text(before)


# ---- compiled


@kernel
def due(start: int, number: int, rate: int) -> int:
    """Return when a packet is to be sent, in ns."""
    return I(start + number * SECOND // rate)


@kernel
def dress(b: Octets, at: int, size: int, number: int, rows: int, kind: int) -> None:
    """Write the fields that differ from packet to packet into a frame.

    Its number is in the MAC source, as a tag that the box can log, and at the end, for the
    receiver: a router rewrites MAC addresses.
    """
    turn = number // rows
    if kind == FRESH:
        flow = number % rows + turn // FRESH_ROUNDS * rows
        put16(b, at + 34, 1024 + flow % 60000)
        put16(b, at + 36, 20000 + (flow // 60000) % 40000)
    elif kind == CALLS:
        put16(b, at + 44, turn & 0xFFFF)
        put32(b, at + 46, (160 * turn) & 0xFFFFFFFF)
    put32(b, at + 8, number)
    put32(b, at + size - 8, number)
    put32(b, at + size - 4, MARK)


@kernel
def send_due(
    first: int, start: int, frames: Octets, sizes: Numbers, ends: Numbers, kind: int, rate: int,
    total: int, counts: Numbers, caller: Port, server: Port, pair: Numbers,
) -> int:  # fmt: skip
    """Send what is due, at most BURST packets; returns the number of the next."""
    number, clock, rows = first, now(pair), len(sizes)
    while number < total and number - first < BURST:
        behind = clock - due(start, number, rate)
        if behind < 0:
            break
        row = number % rows
        dress(frames[row], 0, sizes[row], number, rows, kind)
        source = frames.ctypes.data + row * FRAME
        if ends[row] == 0:
            sent = put(caller, source, sizes[row])
        else:
            sent = put(server, source, sizes[row])
        counts[SENT if sent else REFUSED] += 1
        counts[LATE_MOST] = max(counts[LATE_MOST], behind)
        counts[LATE_OFTEN] += 1 if behind > LATE_NS else 0
        number += 1
    if number > first:
        flush(caller)
        flush(server)
    return number


@kernel
def receive(port: Port, start: int, rate: int, late: Numbers, counts: Numbers) -> int:
    """Record the arrivals on a port, at most 64; returns how many frames were there."""
    count = I(0)
    while count < 64:
        slot = next_frame(port)
        if slot < 0:
            break
        count += 1
        end = frame_end(port, slot)
        if end - frame_start(port, slot) >= SMALLEST and u32(port.octets, end - 4) == MARK:
            number = u32(port.octets, end - 8)
            if number < len(late):
                if late[number] >= 0:
                    counts[TWICE] += 1
                else:
                    late[number] = max(stamp(port, slot) - due(start, number, rate), 0)
                    counts[CAME] += 1
        else:
            counts[STRANGE] += 1
        give_back(port, slot)
    return count


@kernel
def drain(port: Port) -> None:
    """Discard frames that came before the trial."""
    slot = next_frame(port)
    while slot >= 0:
        give_back(port, slot)
        slot = next_frame(port)


@kernel
def run_load(
    frames: Octets, sizes: Numbers, ends: Numbers, kind: int, rate: int, late: Numbers,
    counts: Numbers, caller: Port, server: Port, pair: Numbers,
) -> None:  # fmt: skip
    """Send len(late) packets at a rate and write each one's latency in ns to `late`."""
    total = len(late)
    start = now(pair) + 1_000_000
    counts[BEGAN] = start
    number = I(0)
    while number < total:
        number = send_due(
            number, start, frames, sizes, ends, kind, rate, total, counts, caller, server, pair
        )
        receive(server, start, rate, late, counts)
        receive(caller, start, rate, late, counts)
    until = now(pair) + TIMEOUT_NS
    while counts[CAME] < counts[SENT] and now(pair) < until:
        receive(server, start, rate, late, counts)
        receive(caller, start, rate, late, counts)
