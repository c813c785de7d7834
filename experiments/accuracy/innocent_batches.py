# SPDX-License-Identifier: BSD-3-Clause
"""Batches of innocent flows: crafted flows, and re-addressed copies of real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import Packets
from midcall.captures.synthetic.background import MAKERS, TCP, UDP, Flow
from midcall.experiments.accuracy import traffic_kinds
from midcall.experiments.accuracy.perturb import (
    BENCH6,
    NAME_PORTS,
    port_choice,
    transport_at,
    words,
)
from midcall.experiments.measure.intervals import derived_seed
from midcall.experiments.measure.timing import mix
from midcall.experiments.spec.corpus import Item
from midcall.testbed.replay.packet_index import PacketIndex, index_packets

Numbers = NDArray[np.int64]

#: Packets per copied flow.
KEPT = 48
#: The flows of a batch start within SPREAD ns after EPOCH (ns).
SPREAD, EPOCH = 60_000_000_000, 10**18
RAW_IP = 101
CRAFTED, COPIED = "crafted", "re-addressed"
SYN, ACK, PUSH = 0x02, 0x10, 0x18
#: An odd number: multiplication by it modulo a power of two is a permutation.
SCATTER = 2_654_435_761
BENCH4 = 0xC6120000


class Batch(NamedTuple):
    """Packets of innocent flows; kind[i] is the number of packet i's kind in `names`."""

    packets: Packets
    kind: Numbers
    names: Sequence[str]
    source: str


# ---- crafted


class Sent(NamedTuple):
    """One packet to write: time (ns), kind, direction, flow, TCP flags and numbers, payload."""

    time: int
    kind: int
    up: bool
    flow: int
    flags: int
    sequence: int
    acknowledged: int
    payload: bytes


def crafted(first: int, count: int, seed: int) -> Batch:
    """Return `count` crafted flows from number `first`, all kinds in turn, seeded by number."""
    names = list(MAKERS)
    made: list[Flow] = []
    sent: list[Sent] = []
    for at in range(count):
        which = (first + at) % len(names)
        r = Random(derived_seed(seed, "innocent", names[which], str(first + at)))
        flow = MAKERS[names[which]](r)
        made.append(flow)
        sent += packets_of_flow(flow, at, which, r.randrange(SPREAD))
    sent.sort(key=lambda one: one.time)
    generator = np.random.default_rng(derived_seed(seed, "innocent", "ends", str(first)))
    kind = np.array([one.kind for one in sent], np.int64)
    return Batch(written(sent, made, first, generator), kind, names, CRAFTED)


def packets_of_flow(flow: Flow, at: int, kind: int, start: int) -> Iterator[Sent]:
    """Yield the packets of one flow; a TCP flow starts with the three-way handshake."""
    numbers = [1000, 5000]
    if flow.proto == TCP:
        yield Sent(start - 3000, kind, True, at, SYN, 999, 0, b"")
        yield Sent(start - 2000, kind, False, at, SYN | ACK, 4999, 1000, b"")
        yield Sent(start - 1000, kind, True, at, ACK, 1000, 5000, b"")
    for turn, (up, payload) in enumerate(flow.messages):
        own = 0 if up else 1
        yield Sent(start + turn * flow.gap, kind, up, at, PUSH, numbers[own], numbers[1 - own],
                   payload)  # fmt: skip
        numbers[own] += len(payload)


def written(
    sent: Sequence[Sent], flows: Sequence[Flow], first: int, generator: np.random.Generator
) -> Packets:
    """Return the packets as IPv4 without link layer; every flow has its own client address."""
    flow = np.array([one.flow for one in sent], np.int64)
    up = np.array([one.up for one in sent], bool)
    stream = np.array([one.proto for one in flows], np.int64)[flow] == TCP
    size = np.array([len(one.payload) for one in sent], np.int64)
    head = np.where(stream, 40, 28)
    total = head + size
    clients = (10 << 24) + (first + np.arange(len(flows))) * SCATTER % (1 << 24)
    servers = BENCH4 + generator.integers(1, 1 << 17, len(flows))
    local = generator.integers(32768, 61000, len(flows))
    port = np.array([one.port for one in flows], np.int64)
    table = np.zeros((len(sent), 40), np.uint8)
    put(table, 0, 1, np.full(len(sent), 0x45))
    put(table, 2, 2, total)
    put(table, 8, 2, np.where(stream, 64 << 8 | TCP, 64 << 8 | UDP))
    put(table, 12, 4, np.where(up, clients[flow], servers[flow]))
    put(table, 16, 4, np.where(up, servers[flow], clients[flow]))
    put(table, 20, 2, np.where(up, local[flow], port[flow]))
    put(table, 22, 2, np.where(up, port[flow], local[flow]))
    sequence = np.array([one.sequence for one in sent], np.int64)
    put(table, 24, 4, np.where(stream, sequence, (8 + size) << 16))
    put(table, 28, 4, np.array([one.acknowledged for one in sent], np.int64))
    put(table, 32, 2, 0x5000 | np.array([one.flags for one in sent], np.int64))
    put(table, 34, 2, np.full(len(sent), 0xFFFF))
    heads, parts = table.tobytes(), []
    for at, (one, length) in enumerate(zip(sent, head.tolist(), strict=True)):
        parts += [heads[40 * at : 40 * at + length], one.payload]
    data = np.frombuffer(b"".join(parts), np.uint8)
    time = np.array([one.time for one in sent], np.int64) + EPOCH
    offset = (np.cumsum(total) - total).astype(np.int64)
    return Packets(data, offset, total, total, time, np.full(len(sent), RAW_IP))


def put(table: NDArray[np.uint8], at: int, size: int, value: Numbers) -> None:
    """Write numbers in network byte order into columns at..at+size of each row."""
    for place in range(size):
        table[:, at + place] = (value >> (8 * (size - 1 - place))) & 255


# ---- copied


class Ends(NamedTuple):
    """Addresses of one IP version: offsets, size, number of distinct ones, the one per offset."""

    places: Numbers
    size: int
    distinct: int
    which: Numbers


class Original:
    """The first packets of every innocent real flow, and the kind of each.

    read: returns the packets of a capture.
    """

    def __init__(self, items: Sequence[Item], read: Callable[[Item], Packets]) -> None:
        parts: list[Packets] = []
        kind: list[Numbers] = []
        self.names: list[str] = []
        for item in items:
            if item.innocent and not item.capture.synthetic:
                heads = heads_of_flows(read(item))
                if heads.total:
                    kind.append(np.full(heads.total, len(self.names), np.int64))
                    self.names.append(traffic_kinds.of_content(item.capture.content))
                    parts.append(heads)
        if not parts:
            return
        order = np.argsort(np.concatenate([part.time - part.time.min() for part in parts]),
                           kind="stable")  # fmt: skip
        self.packets, self.kind = mix(parts), np.concatenate(kind)[order]
        index = index_packets(self.packets)
        self.ends = [one for one in (ends(index, 4), ends(index, 6)) if one is not None]
        at = transport_at(index)
        self.at = at[at >= 0]
        self.ports = words(self.packets.data, self.at, 4).reshape(-1, 2, 2).astype(np.int64)

    def copy(self, turn: int, seed: int) -> Batch:
        """Return copy number `turn`: other addresses, ports and times, the same payloads.

        In every second copy ports below 1024 are not changed, as service ports would be; the ports
        of name resolution are never changed.
        """
        generator = np.random.default_rng(derived_seed(seed, "copy", str(turn)))
        data = self.packets.data.copy()
        for one in self.ends:
            new = addresses(one, generator)[one.which]
            data[one.places[:, None] + np.arange(one.size)] = new
        ports = self.ports[:, :, 0] << 8 | self.ports[:, :, 1]
        stay = np.arange(1024) if turn % 2 else np.array(NAME_PORTS)
        table = np.arange(65536)
        mapped = np.setdiff1d(ports, stay)
        table[mapped] = port_choice(len(mapped), generator)
        ports = table[ports]
        data[self.at[:, None] + np.arange(4)] = np.stack((ports >> 8, ports & 255), 2).reshape(
            -1, 4
        )
        since = self.packets.time - self.packets.time[0]
        time = EPOCH + generator.integers(SPREAD) + (since * generator.uniform(0.7, 1.4))
        moved = self.packets._replace(data=data, time=time.astype(np.int64))
        return Batch(moved, self.kind, self.names, COPIED)


def heads_of_flows(packets: Packets) -> Packets:
    """Return the first KEPT packets of each flow of a capture."""
    flow = index_packets(packets).facts["flow"]
    order = np.argsort(flow, kind="stable")
    rank = np.empty(len(flow), np.int64)
    rank[order] = np.arange(len(flow)) - np.searchsorted(flow[order], flow[order])
    heads: Packets = packets.take(np.flatnonzero((flow >= 0) & (rank < KEPT)))
    return heads


def ends(index: PacketIndex, version: int) -> Ends | None:
    """Return the addresses of one IP version, None if there are none."""
    facts, (where, size) = index.facts, (12, 4) if version == 4 else (8, 16)
    ip = facts["ip_at"][(facts["flow"] >= 0) & (facts["version"] == version)]
    if not len(ip):
        return None
    places = np.concatenate((ip + where, ip + where + size))
    old = words(index.packets.data, places, size)
    distinct, which = np.unique(old, axis=0, return_inverse=True)
    return Ends(places, size, len(distinct), which.ravel())


def addresses(one: Ends, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return distinct addresses, uint8[n, size], of the benchmark ranges (RFC 2544, RFC 5180)."""
    hosts = generator.permutation(1 << 17)[: one.distinct].astype(np.int64)
    if one.size == 4:
        return (BENCH4 + hosts).astype(">u4").view(np.uint8).reshape(-1, 4)
    table = np.zeros((one.distinct, 16), np.uint8)
    table[:, :6] = np.frombuffer(BENCH6, np.uint8)
    table[:, 6:12] = generator.integers(0, 256, (one.distinct, 6))
    table[:, 12:] = hosts.astype(">u4").view(np.uint8).reshape(-1, 4)
    return table
