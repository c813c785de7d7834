# SPDX-License-Identifier: BSD-3-Clause
"""Disturbances: what a network, a place of capture or a defence does to packets, one column each.

A disturbance turns the packets of a capture into others and remembers for each which packet it was,
so that the truth (a flow, named by its first frame) follows without any address. What a disturbance
leaves too short to be judged is not scored, and counted. Random choices are seeded by names.

Checksums are left as they were: no engine here reads them, and captures with offload hold wrong
ones anyway. The header of IPv4 is mended, because it costs nothing.
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
from midcall.testbed.replay.packet_index import Survey

Numbers = NDArray[np.int64]

#: Fewer packets than this, and half a flow is not judged.
SHORTEST = 8
SNAPLEN = 96
#: Reordering: the share of packets that come late, and by how many places at most.
LATE, PLACES = 0.10, 3
#: Ports that stay when others are mapped: name resolution is found by them alone.
NAME_PORTS = (53, 5353, 5355)
#: Mapped ports lie here: above the well-known ones, and no port of the apps under test.
PORTS = (20000, 48000)
#: Where mapped addresses lie: nobody's, reserved for benchmarks (RFC 2544, RFC 5180).
BENCH4, BENCH6 = 0xC6120000, bytes.fromhex("200100020000")


class Disturbed(NamedTuple):
    """Packets after a disturbance; packet i was packet origin[i] of the capture."""

    packets: Packets
    origin: Numbers


Change = Callable[[Survey, np.random.Generator], Disturbed]


class Column(NamedTuple):
    """One column of the table: a disturbance of packets, or an engine that lacks a source."""

    name: str
    title: str
    change: Change
    engine: Mapping[str, Any] = {}
    halved: bool = False  # whether flows under SHORTEST packets are not scored

    @property
    def packets(self) -> bool:
        """Tell whether an engine that lacks nothing sees something of its own here."""
        return not self.engine or self.change is not original


def disturb(column: Column, held: Survey, seed: int, sha256: str) -> Disturbed:
    """Return the packets of a capture under a column's disturbance; seeded by both names."""
    generator = np.random.default_rng(derived_seed(seed, "disturb", column.name, sha256))
    return column.change(held, generator)


def unscored(column: Column, held: Survey, after: Disturbed) -> dict[int, str]:
    """Return flow number -> why it is not scored: "short" before, or "absent" afterwards."""
    flow = held.facts["flow"]
    count = np.bincount(flow[flow >= 0], minlength=len(held.flows))
    there = flow[after.origin]
    left = np.bincount(there[there >= 0], minlength=len(held.flows))
    why = {int(at): "absent" for at in np.flatnonzero(left == 0)}
    if column.halved:
        why |= {int(at): "short" for at in np.flatnonzero(count < SHORTEST)}
    return why


# ---- what is left


def keep(held: Survey, which: NDArray[np.bool_]) -> Disturbed:
    """Return the packets that `which` marks."""
    origin = np.flatnonzero(which).astype(np.int64)
    return Disturbed(held.packets.take(origin), origin)


def original(held: Survey, generator: np.random.Generator) -> Disturbed:
    """Return the packets as they are."""
    return keep(held, np.ones(held.packets.total, bool))


def second_half(held: Survey, generator: np.random.Generator) -> Disturbed:
    """Return the packets without the first half of every flow of at least SHORTEST packets."""
    flow = held.facts["flow"]
    known = flow >= 0
    order = np.argsort(flow, kind="stable")
    first = np.searchsorted(flow[order], flow[order], side="left")
    rank = np.empty(len(flow), np.int64)
    rank[order] = np.arange(len(flow)) - first
    count = np.bincount(flow[known], minlength=max(len(held.flows), 1))[np.where(known, flow, 0)]
    gone = known & (count >= SHORTEST) & (rank < count // 2)
    return keep(held, ~gone)


def upward(held: Survey, generator: np.random.Generator) -> Disturbed:
    """Return only what the side that opened each flow sent."""
    return keep(held, (held.facts["flow"] < 0) | (held.facts["up"] == 1))


def downward(held: Survey, generator: np.random.Generator) -> Disturbed:
    """Return only what came back to the side that opened each flow."""
    return keep(held, (held.facts["flow"] < 0) | (held.facts["up"] == 0))


def snapped(held: Survey, generator: np.random.Generator) -> Disturbed:
    """Return the first SNAPLEN bytes of every frame; the length on the wire stays."""
    cut = np.minimum(held.packets.captured, SNAPLEN)
    return Disturbed(held.packets._replace(captured=cut), np.arange(len(cut)))


def lost(share: float) -> Change:
    """Return the disturbance that loses a share of all packets, each by its own chance."""

    def change(held: Survey, generator: np.random.Generator) -> Disturbed:
        return keep(held, generator.random(held.packets.total) >= share)

    return change


def reordered(held: Survey, generator: np.random.Generator) -> Disturbed:
    """Return the packets with LATE of them up to PLACES places late; arrival times stay."""
    count = held.packets.total
    late = (generator.random(count) < LATE) * generator.integers(1, PLACES + 1, count)
    order = np.argsort(np.arange(count) + late + 0.5 * (late > 0), kind="stable").astype(np.int64)
    moved = held.packets.take(order)
    return Disturbed(moved._replace(time=held.packets.time), order)


# ---- what is written anew


def transport_at(held: Survey) -> Numbers:
    """Return where each packet's TCP or UDP header stands, -1 where it is not to be seen."""
    facts, data = held.facts, held.packets.data
    ip, four = facts["ip_at"], facts["version"] == 4
    known = (facts["flow"] >= 0) & np.isin(facts["proto"], (TCP, UDP))
    at = np.where(four, ip + 4 * (data[ip].astype(np.int64) & 15), ip + 40)
    at = np.where(~four & (facts["proto"] == UDP), facts["at"] - 8, at)
    plain = four | (data[np.where(known, ip + 6, 0)] == facts["proto"]) | (facts["proto"] == UDP)
    room = at + 4 <= facts["ip_end"]
    known &= plain & room
    safe = np.where(known & four, ip + 6, 0)
    later = ((data[safe].astype(np.int64) & 0x1F) << 8) | data[safe + 1]
    known &= ~(four & (later > 0))
    return np.where(known, at, -1)


def words(data: NDArray[np.uint8], at: Numbers, size: int) -> NDArray[np.uint8]:
    """Return uint8[n, size], the bytes at each offset."""
    found: NDArray[np.uint8] = data[at[:, None] + np.arange(size)]
    return found


def ports_mapped(stay: tuple[int, ...]) -> Change:
    """Return the disturbance that maps ports one to one, but for those that stay."""

    def change(held: Survey, generator: np.random.Generator) -> Disturbed:
        data = held.packets.data.copy()
        at = transport_at(held)
        at = at[at >= 0]
        old = words(data, at, 4).reshape(-1, 2, 2).astype(np.int64)
        ports = (old[:, :, 0] << 8) | old[:, :, 1]
        table = np.arange(65536)
        seen = np.setdiff1d(ports, stay)
        table[seen] = port_choice(len(seen), generator)
        new = table[ports]
        data[at[:, None] + np.arange(4)] = np.stack((new >> 8, new & 255), 2).reshape(-1, 4)
        return Disturbed(held.packets._replace(data=data), np.arange(held.packets.total))

    return change


def port_choice(count: int, generator: np.random.Generator) -> Numbers:
    """Return distinct ports: within PORTS while they suffice, else anywhere above."""
    low, high = PORTS if count <= PORTS[1] - PORTS[0] else (1, 65536)
    return generator.permutation(np.arange(low, high))[:count].astype(np.int64)


def scrambled(held: Survey, generator: np.random.Generator) -> Disturbed:
    """Return the packets with random bytes for payload: sizes, times, addresses and ports stay."""
    data, facts = held.packets.data.copy(), held.facts
    full = (facts["flow"] >= 0) & (facts["end"] > facts["at"])
    edges = np.zeros(len(data) + 1, np.int8)
    np.add.at(edges, facts["at"][full], 1)
    np.add.at(edges, facts["end"][full], -1)
    inside = np.cumsum(edges[:-1], dtype=np.int8) > 0
    data[inside] = np.frombuffer(generator.bytes(int(inside.sum())), np.uint8)
    return Disturbed(held.packets._replace(data=data), np.arange(held.packets.total))


def addresses_mapped(held: Survey, generator: np.random.Generator) -> Disturbed:
    """Return the packets with other addresses in the innermost IP header, mapped one to one.

    What payloads say of addresses (STUN, SDP, DNS) stays, so nothing learned from them helps.
    """
    data, facts = held.packets.data.copy(), held.facts
    key = generator.bytes(16)
    for version, where, size in ((4, 12, 4), (6, 8, 16)):
        ip = facts["ip_at"][(facts["flow"] >= 0) & (facts["version"] == version)]
        places = np.concatenate((ip + where, ip + where + size))
        if not len(places):
            continue
        old, which = np.unique(words(data, places, size), axis=0, return_inverse=True)
        new = mapped([row.tobytes() for row in old], key)
        fresh = np.frombuffer(b"".join(new), np.uint8).reshape(-1, size)
        data[places[:, None] + np.arange(size)] = fresh[which.ravel()]
        if version == 4:
            mend_headers(data, np.unique(ip))
    return Disturbed(held.packets._replace(data=data), np.arange(held.packets.total))


def mapped(old: list[bytes], key: bytes) -> list[bytes]:
    """Return one address of the benchmark ranges for each old one, all different."""
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


def mend_headers(data: NDArray[np.uint8], ip: Numbers) -> None:
    """Compute the checksum of IPv4 headers without options anew (RFC 791)."""
    ip = ip[data[ip] == 0x45]
    head = words(data, ip, 20).astype(np.int64)
    head[:, 10:12] = 0
    total = (head[:, 0::2] * 256 + head[:, 1::2]).sum(axis=1)
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    mended = 0xFFFF - total
    data[ip + 10], data[ip + 11] = mended >> 8, mended & 255


def tunnelled(access: str) -> Change:
    """Return the disturbance that shows the innermost packets as an access network's box does."""

    def change(held: Survey, generator: np.random.Generator) -> Disturbed:
        facts, packets = held.facts, held.packets
        seen = np.flatnonzero(facts["flow"] >= 0).astype(np.int64)
        inner = (facts[name][seen] for name in ("ip_at", "ip_end", "ip_size", "up"))
        wrapped = wrap(link(access), packets.data, *(np.ascontiguousarray(one) for one in inner))
        return Disturbed(wrapped._replace(time=packets.time[seen]), seen)

    return change


#: As captured, by an engine whose claims rest on the captures of other repositories alone
#: (experiments.support): what is to be expected of captures that nobody has seen.
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
