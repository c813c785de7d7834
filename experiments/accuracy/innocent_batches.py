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
    BENCH4,
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

#: A copy holds the first KEPT packets of each flow.
KEPT = 48
#: The flows of a batch start within SPREAD ns after EPOCH (ns).
SPREAD, EPOCH = 60_000_000_000, 10**18
#: Link type of a capture whose frames begin with the IP header (LINKTYPE_RAW).
RAW_IP = 101
CRAFTED, COPIED = "crafted", "re-addressed"
SYN, ACK, PUSH = 0x02, 0x10, 0x18
#: The low 24 bits of a client's address are the flow's number times SCATTER. SCATTER is odd, so
#: 2^24 flows have 2^24 different addresses.
SCATTER = 2_654_435_761


class Batch(NamedTuple):
    """Packets of innocent flows; packet i is of the kind names[kind[i]]."""

    packets: Packets
    kind: Numbers
    names: Sequence[str]
    source: str


# ---- crafted


class Sent(NamedTuple):
    """One packet of a crafted flow, before it has headers."""

    time: int  # ns
    kind: int
    up: bool  # from the client to the server
    flow: int  # number of its flow in the batch
    flags: int  # of TCP, like the two numbers below
    sequence: int
    acknowledged: int
    payload: bytes


def crafted(first: int, count: int, seed: int) -> Batch:
    """Return a batch of the crafted flows with the numbers `first` to `first + count - 1`.

    The kinds take turns. The content of a flow follows from `seed`, its kind and its number.
    """
    names = list(MAKERS)
    flows: list[Flow] = []
    sent: list[Sent] = []
    for at in range(count):
        kind_number = (first + at) % len(names)
        r = Random(derived_seed(seed, "innocent", names[kind_number], str(first + at)))
        flow = MAKERS[names[kind_number]](r)
        flows.append(flow)
        sent += packets_of_flow(flow, at, kind_number, r.randrange(SPREAD))
    sent.sort(key=lambda one: one.time)
    generator = np.random.default_rng(derived_seed(seed, "innocent", "ends", str(first)))
    kind = np.array([one.kind for one in sent], np.int64)
    return Batch(with_headers(sent, flows, first, generator), kind, names, CRAFTED)


def packets_of_flow(flow: Flow, at: int, kind: int, start: int) -> Iterator[Sent]:
    """Yield the packets of one flow; a TCP flow starts with the three-way handshake."""
    next_sequence = [1000, 5000]  # of the client, of the server
    if flow.proto == TCP:
        yield Sent(start - 3000, kind, True, at, SYN, 999, 0, b"")
        yield Sent(start - 2000, kind, False, at, SYN | ACK, 4999, 1000, b"")
        yield Sent(start - 1000, kind, True, at, ACK, 1000, 5000, b"")
    for turn, (up, payload) in enumerate(flow.messages):
        sender = 0 if up else 1
        yield Sent(start + turn * flow.gap, kind, up, at, PUSH, next_sequence[sender],
                   next_sequence[1 - sender], payload)  # fmt: skip
        next_sequence[sender] += len(payload)


def with_headers(
    sent: Sequence[Sent], flows: Sequence[Flow], first: int, generator: np.random.Generator
) -> Packets:
    """Return the packets with IPv4 and TCP or UDP headers, without a link layer.

    Every flow has a client address of its own. Checksums are 0.
    """
    flow = np.array([one.flow for one in sent], np.int64)
    up = np.array([one.up for one in sent], bool)
    is_tcp = np.array([one.proto for one in flows], np.int64)[flow] == TCP
    size = np.array([len(one.payload) for one in sent], np.int64)
    header_size = np.where(is_tcp, 40, 28)
    total = header_size + size
    clients = (10 << 24) + (first + np.arange(len(flows))) * SCATTER % (1 << 24)
    servers = BENCH4 + generator.integers(1, 1 << 17, len(flows))
    local = generator.integers(32768, 61000, len(flows))
    port = np.array([one.port for one in flows], np.int64)
    table = np.zeros((len(sent), 40), np.uint8)
    # IPv4: version and header length, total length, TTL and protocol, addresses.
    put(table, 0, 1, np.full(len(sent), 0x45))
    put(table, 2, 2, total)
    put(table, 8, 2, np.where(is_tcp, 64 << 8 | TCP, 64 << 8 | UDP))
    put(table, 12, 4, np.where(up, clients[flow], servers[flow]))
    put(table, 16, 4, np.where(up, servers[flow], clients[flow]))
    # Ports. Then UDP: length. Or TCP: sequence, acknowledgement, header length and flags, window.
    # A UDP packet is cut off after its 28 octets, so what lies behind them does not matter.
    put(table, 20, 2, np.where(up, local[flow], port[flow]))
    put(table, 22, 2, np.where(up, port[flow], local[flow]))
    sequence = np.array([one.sequence for one in sent], np.int64)
    put(table, 24, 4, np.where(is_tcp, sequence, (8 + size) << 16))
    put(table, 28, 4, np.array([one.acknowledged for one in sent], np.int64))
    put(table, 32, 2, 0x5000 | np.array([one.flags for one in sent], np.int64))
    put(table, 34, 2, np.full(len(sent), 0xFFFF))
    headers, parts = table.tobytes(), []
    for at, (one, length) in enumerate(zip(sent, header_size.tolist(), strict=True)):
        parts += [headers[40 * at : 40 * at + length], one.payload]
    data = np.frombuffer(b"".join(parts), np.uint8)
    time = np.array([one.time for one in sent], np.int64) + EPOCH
    offset = (np.cumsum(total) - total).astype(np.int64)
    return Packets(data, offset, total, total, time, np.full(len(sent), RAW_IP))


def put(table: NDArray[np.uint8], at: int, size: int, value: Numbers) -> None:
    """Write value[i] in network byte order into row i, columns at to at + size - 1."""
    for place in range(size):
        table[:, at + place] = (value >> (8 * (size - 1 - place))) & 255


# ---- copied


class AddressFields(NamedTuple):
    """Every address field of one IP version in the headers of a capture."""

    offsets: Numbers  # of each field in the data
    size: int  # octets of an address
    distinct: int  # number of different addresses
    which: Numbers  # which of the different addresses each field holds


class Original:
    """The first KEPT packets of every flow of the innocent real captures, and each packet's kind.

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
        # `mix` sorts the packets in this order.
        order = np.argsort(np.concatenate([part.time - part.time.min() for part in parts]),
                           kind="stable")  # fmt: skip
        self.packets, self.kind = mix(parts), np.concatenate(kind)[order]
        index = index_packets(self.packets)
        by_version = (address_fields(index, 4), address_fields(index, 6))
        self.address_fields = [fields for fields in by_version if fields is not None]
        at = transport_at(index)
        self.port_offsets = at[at >= 0]
        port_octets = words(self.packets.data, self.port_offsets, 4)
        self.ports = port_octets.reshape(-1, 2, 2).astype(np.int64)

    def copy(self, turn: int, seed: int) -> Batch:
        """Return copy number `turn`: other addresses, ports and times, the same payloads.

        A copy with an even number keeps NAME_PORTS and replaces all other ports. A copy with an odd
        number keeps all ports below 1024, where servers have their well-known ports.
        """
        generator = np.random.default_rng(derived_seed(seed, "copy", str(turn)))
        data = self.packets.data.copy()
        for fields in self.address_fields:
            addresses = new_addresses(fields, generator)[fields.which]
            data[fields.offsets[:, None] + np.arange(fields.size)] = addresses
        ports = self.ports[:, :, 0] << 8 | self.ports[:, :, 1]
        kept = np.arange(1024) if turn % 2 else np.array(NAME_PORTS)
        new_port = np.arange(65536)
        replaced = np.setdiff1d(ports, kept)
        new_port[replaced] = port_choice(len(replaced), generator)
        ports = new_port[ports]
        port_octets = np.stack((ports >> 8, ports & 255), 2).reshape(-1, 4)
        data[self.port_offsets[:, None] + np.arange(4)] = port_octets
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


def address_fields(index: PacketIndex, version: int) -> AddressFields | None:
    """Return the address fields of one IP version, None if no packet has this version."""
    facts, (source, size) = index.facts, (12, 4) if version == 4 else (8, 16)
    ip = facts["ip_at"][(facts["flow"] >= 0) & (facts["version"] == version)]
    if not len(ip):
        return None
    offsets = np.concatenate((ip + source, ip + source + size))
    old = words(index.packets.data, offsets, size)
    distinct, which = np.unique(old, axis=0, return_inverse=True)
    return AddressFields(offsets, size, len(distinct), which.ravel())


def new_addresses(fields: AddressFields, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return distinct addresses from the benchmark ranges (RFC 2544, RFC 5180).

    uint8[fields.distinct, fields.size], in random order.
    """
    hosts = generator.permutation(1 << 17)[: fields.distinct].astype(np.int64)
    if fields.size == 4:
        return (BENCH4 + hosts).astype(">u4").view(np.uint8).reshape(-1, 4)
    table = np.zeros((fields.distinct, 16), np.uint8)
    table[:, :6] = np.frombuffer(BENCH6, np.uint8)
    table[:, 6:12] = generator.integers(0, 256, (fields.distinct, 6))
    table[:, 12:] = hosts.astype(">u4").view(np.uint8).reshape(-1, 4)
    return table
