# SPDX-License-Identifier: BSD-3-Clause
"""Disturbances: effects of networks, capture points or defences on packets, one column each.

A disturbance changes the packets of a capture and records the original packet of each result, so
that the truth (a flow, named by its first frame) can be applied without addresses. Flows that
become too short are not scored but counted. Random choices are seeded by names.

Checksums of TCP and UDP are not updated: no engine here reads them, and captures with offload have
wrong ones anyway. The checksum of the IPv4 header is updated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.experiments.measure.intervals import derived_seed
from midcall.testbed.network.access import link, wrap
from midcall.testbed.replay.packet_index import PacketIndex

Numbers = NDArray[np.int64]

#: Flows with fewer packets are not halved and not scored.
SHORTEST = 8
SNAPLEN = 96
#: Reordering: the share of late packets, and their maximum delay in places.
LATE, PLACES = 0.10, 3
#: Ports that are never replaced: name resolution is recognised by its ports alone.
NAME_PORTS = (53, 5353, 5355)
#: The range of new ports: above the well-known ones, without ports of the apps under test.
PORTS = (20000, 48000)
#: The ranges of new addresses, reserved for benchmarks (RFC 2544, RFC 5180).
BENCH4, BENCH6 = 0xC6120000, bytes.fromhex("200100020000")


class Disturbed(NamedTuple):
    """Packets after a disturbance; packet i is from packet origin[i] of the capture."""

    packets: Packets
    origin: Numbers


Change = Callable[[PacketIndex, np.random.Generator], Disturbed]


class Column(NamedTuple):
    """One column of the table: a disturbance of packets, or an engine without some source."""

    name: str
    title: str
    change: Change
    engine: Mapping[str, Any] = {}
    halved: bool = False  # whether flows under SHORTEST packets are not scored

    @property
    def packets(self) -> bool:
        """Return whether the column's packets are worth classifying by the full engine and peers.

        False if only the engine differs, not the packets.
        """
        return not self.engine or self.change is not original


def disturb(column: Column, index: PacketIndex, seed: int, sha256: str) -> Disturbed:
    """Return the packets of a capture under a column's disturbance; seeded by both names."""
    generator = np.random.default_rng(derived_seed(seed, "disturb", column.name, sha256))
    return column.change(index, generator)


def unscored(column: Column, index: PacketIndex, after: Disturbed) -> dict[int, str]:
    """Return flow number -> why it is not scored: "short" before, or "absent" after."""
    flow = index.facts["flow"]
    count = np.bincount(flow[flow >= 0], minlength=len(index.flows))
    flow_after = flow[after.origin]
    left = np.bincount(flow_after[flow_after >= 0], minlength=len(index.flows))
    why = {int(at): "absent" for at in np.flatnonzero(left == 0)}
    if column.halved:
        why |= {int(at): "short" for at in np.flatnonzero(count < SHORTEST)}
    return why


# ---- packets removed or reordered


def keep(index: PacketIndex, which: NDArray[np.bool_]) -> Disturbed:
    """Return the packets that `which` marks."""
    origin = np.flatnonzero(which).astype(np.int64)
    return Disturbed(index.packets.take(origin), origin)


def original(index: PacketIndex, generator: np.random.Generator) -> Disturbed:
    """Return the packets as they are."""
    return keep(index, np.ones(index.packets.total, bool))


def second_half(index: PacketIndex, generator: np.random.Generator) -> Disturbed:
    """Return the packets without the first half of every flow of at least SHORTEST packets."""
    flow = index.facts["flow"]
    known = flow >= 0
    order = np.argsort(flow, kind="stable")
    first = np.searchsorted(flow[order], flow[order], side="left")
    rank = np.empty(len(flow), np.int64)
    rank[order] = np.arange(len(flow)) - first
    count = np.bincount(flow[known], minlength=max(len(index.flows), 1))[np.where(known, flow, 0)]
    gone = known & (count >= SHORTEST) & (rank < count // 2)
    return keep(index, ~gone)


def upward(index: PacketIndex, generator: np.random.Generator) -> Disturbed:
    """Return only the packets from the side that opened each flow."""
    return keep(index, (index.facts["flow"] < 0) | (index.facts["up"] == 1))


def downward(index: PacketIndex, generator: np.random.Generator) -> Disturbed:
    """Return only the packets to the side that opened each flow."""
    return keep(index, (index.facts["flow"] < 0) | (index.facts["up"] == 0))


def snapped(index: PacketIndex, generator: np.random.Generator) -> Disturbed:
    """Return the first SNAPLEN bytes of every frame; the length on the wire is unchanged."""
    cut = np.minimum(index.packets.captured, SNAPLEN)
    return Disturbed(index.packets._replace(captured=cut), np.arange(len(cut)))


def lost(share: float) -> Change:
    """Return the disturbance that drops a share of all packets, independently of each other."""

    def change(index: PacketIndex, generator: np.random.Generator) -> Disturbed:
        return keep(index, generator.random(index.packets.total) >= share)

    return change


def reordered(index: PacketIndex, generator: np.random.Generator) -> Disturbed:
    """Return the packets with the share LATE up to PLACES places late; times are unchanged."""
    count = index.packets.total
    late = (generator.random(count) < LATE) * generator.integers(1, PLACES + 1, count)
    order = np.argsort(np.arange(count) + late + 0.5 * (late > 0), kind="stable").astype(np.int64)
    moved = index.packets.take(order)
    return Disturbed(moved._replace(time=index.packets.time), order)


# ---- packets rewritten


def transport_at(index: PacketIndex) -> Numbers:
    """Return the offset of each packet's TCP or UDP header, int64[n], -1 if it is not visible."""
    facts, data = index.facts, index.packets.data
    ip, four = facts["ip_at"], facts["version"] == 4
    known = (facts["flow"] >= 0) & np.isin(facts["proto"], (TCP, UDP))
    at = np.where(four, ip + 4 * (data[ip].astype(np.int64) & 15), ip + 40)
    at = np.where(~four & (facts["proto"] == UDP), facts["at"] - 8, at)
    direct = four | (data[np.where(known, ip + 6, 0)] == facts["proto"]) | (facts["proto"] == UDP)
    fits = at + 4 <= facts["ip_end"]
    known &= direct & fits
    safe = np.where(known & four, ip + 6, 0)
    later = ((data[safe].astype(np.int64) & 0x1F) << 8) | data[safe + 1]
    known &= ~(four & (later > 0))
    return np.where(known, at, -1)


def words(data: NDArray[np.uint8], at: Numbers, size: int) -> NDArray[np.uint8]:
    """Return uint8[n, size], the bytes at each offset."""
    table: NDArray[np.uint8] = data[at[:, None] + np.arange(size)]
    return table


def ports_mapped(stay: tuple[int, ...]) -> Change:
    """Return the disturbance that replaces ports one to one, except those in `stay`."""

    def change(index: PacketIndex, generator: np.random.Generator) -> Disturbed:
        data = index.packets.data.copy()
        at = transport_at(index)
        at = at[at >= 0]
        old = words(data, at, 4).reshape(-1, 2, 2).astype(np.int64)
        ports = (old[:, :, 0] << 8) | old[:, :, 1]
        table = np.arange(65536)
        mapped_ports = np.setdiff1d(ports, stay)
        table[mapped_ports] = port_choice(len(mapped_ports), generator)
        new = table[ports]
        data[at[:, None] + np.arange(4)] = np.stack((new >> 8, new & 255), 2).reshape(-1, 4)
        return Disturbed(index.packets._replace(data=data), np.arange(index.packets.total))

    return change


def port_choice(count: int, generator: np.random.Generator) -> Numbers:
    """Return distinct ports: within PORTS if there are enough, else from 1 to 65535."""
    low, high = PORTS if count <= PORTS[1] - PORTS[0] else (1, 65536)
    return generator.permutation(np.arange(low, high))[:count].astype(np.int64)


def scrambled(index: PacketIndex, generator: np.random.Generator) -> Disturbed:
    """Return the packets with random payload bytes; sizes, times, addresses, ports unchanged."""
    data, facts = index.packets.data.copy(), index.facts
    full = (facts["flow"] >= 0) & (facts["end"] > facts["at"])
    edges = np.zeros(len(data) + 1, np.int8)
    np.add.at(edges, facts["at"][full], 1)
    np.add.at(edges, facts["end"][full], -1)
    inside = np.cumsum(edges[:-1], dtype=np.int8) > 0
    data[inside] = np.frombuffer(generator.bytes(int(inside.sum())), np.uint8)
    return Disturbed(index.packets._replace(data=data), np.arange(index.packets.total))


def addresses_mapped(index: PacketIndex, generator: np.random.Generator) -> Disturbed:
    """Return the packets with other addresses in the innermost IP header, mapped one to one.

    Addresses in payloads (STUN, SDP, DNS) are unchanged, so endpoints learned from them match no
    flow.
    """
    data, facts = index.packets.data.copy(), index.facts
    key = generator.bytes(16)
    for version, where, size in ((4, 12, 4), (6, 8, 16)):
        ip = facts["ip_at"][(facts["flow"] >= 0) & (facts["version"] == version)]
        places = np.concatenate((ip + where, ip + where + size))
        if not len(places):
            continue
        old, which = np.unique(words(data, places, size), axis=0, return_inverse=True)
        new = mapped([row.tobytes() for row in old], key)
        addresses = np.frombuffer(b"".join(new), np.uint8).reshape(-1, size)
        data[places[:, None] + np.arange(size)] = addresses[which.ravel()]
        if version == 4:
            update_checksums(data, np.unique(ip))
    return Disturbed(index.packets._replace(data=data), np.arange(index.packets.total))


def mapped(old: list[bytes], key: bytes) -> list[bytes]:
    """Return one distinct address of the benchmark ranges for each old one."""
    taken: set[bytes] = set()
    out = []
    for address in old:
        turn = 0
        while True:
            digest = hashlib.blake2b(address + bytes([turn]), key=key, digest_size=10).digest()
            host = BENCH4 | int.from_bytes(digest[:3]) >> 7
            new = host.to_bytes(4) if len(address) == 4 else BENCH6 + digest
            if new not in taken:
                break
            turn += 1
        taken.add(new)
        out.append(new)
    return out


def update_checksums(data: NDArray[np.uint8], ip: Numbers) -> None:
    """Update the checksum of IPv4 headers without options (RFC 791).

    ip: int64[n], offsets of the headers.
    """
    ip = ip[data[ip] == 0x45]
    head = words(data, ip, 20).astype(np.int64)
    head[:, 10:12] = 0
    total = (head[:, 0::2] * 256 + head[:, 1::2]).sum(axis=1)
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    mended = 0xFFFF - total
    data[ip + 10], data[ip + 11] = mended >> 8, mended & 255


def tunnelled(access: str) -> Change:
    """Return the disturbance that encapsulates the innermost packets as on an access network."""

    def change(index: PacketIndex, generator: np.random.Generator) -> Disturbed:
        facts, packets = index.facts, index.packets
        origin = np.flatnonzero(facts["flow"] >= 0).astype(np.int64)
        inner = (facts[name][origin] for name in ("ip_at", "ip_end", "ip_size", "up"))
        wrapped = wrap(link(access), packets.data, *(np.ascontiguousarray(one) for one in inner))
        return Disturbed(wrapped._replace(time=packets.time[origin]), origin)

    return change


#: As captured, by an engine whose claims come from the captures of other repositories only
#: (experiments.accuracy.support): the accuracy to expect on new captures.
ELSEWHERE = "elsewhere"
COLUMNS = (
    Column("original", "As captured", original),
    Column(ELSEWHERE, "Its own repository left out", original, {"claims": None}),
    Column("unlearned", "Nothing learned from set-up", original, {"learn": 0}),
    Column("nameless", "No host name believed", original, {"names": False}),
    Column("portless", "No port tells anything", ports_mapped(())),
    Column("addresses", "Addresses replaced", addresses_mapped),
    Column("ports", "Ports replaced", ports_mapped(NAME_PORTS)),
    Column("payloadless", "Payload bytes random", scrambled, {"model": None}),
    Column("midflow", "First half of every flow gone", second_half, halved=True),
    Column("up", "Only the opener's direction", upward),
    Column("down", "Only the answers", downward),
    Column("snap96", "96 bytes of every frame", snapped),
    Column("loss1", "1 % lost", lost(0.01)),
    Column("loss5", "5 % lost", lost(0.05)),
    Column("reordered", "One in ten up to 3 places late", reordered),
    Column("gtp", "Inside GTP-U", tunnelled("4g")),
    Column("pppoe", "Inside PPPoE", tunnelled("adsl")),
)
