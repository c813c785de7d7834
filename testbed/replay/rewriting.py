# SPDX-License-Identifier: BSD-3-Clause
"""Packets of a capture with other addresses: headers, payloads, lengths and checksums follow."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import DNS_PORT, MULTICAST_DNS_PORT, TCP, UDP
from midcall.classifier.state.flow_table import Records
from midcall.testbed.network.checksums import adapt, adapt_all, sums, word_sum
from midcall.testbed.replay.packet_index import PacketIndex
from midcall.testbed.replay.payload_addresses import ICMP, ICMP6, Image, Payloads, quoted

Numbers = NDArray[np.int64]
Octets = NDArray[np.uint8]


class Readdressed(NamedTuple):
    """IP packets after the change; rows as in the capture's packet index.

    broken: STUN messages whose MESSAGE-INTEGRITY no longer holds; cut: addresses in texts that had
    no room for the image.
    """

    data: Octets
    ip_at: Numbers
    ip_end: Numbers
    size: Numbers  # bytes of each IP packet on the wire
    broken: int
    cut: int


def rewrite(index: PacketIndex, image: Image) -> Readdressed:
    """Return a capture's packets with every address replaced by its image."""
    facts = index.facts
    data = index.packets.data.copy()
    for version in (4, 6):
        rewrite_headers(data, facts, version, image)
    at, end, size = (facts[name].copy() for name in ("ip_at", "ip_end", "ip_size"))
    payloads = Payloads(image)
    longer: list[bytes] = []
    free = len(data)
    for i, change in rewritten(index, payloads):
        packet = change.applied(bytearray(data[at[i] : end[i]]))
        if change.grown == 0:
            data[at[i] : end[i]] = np.frombuffer(packet, np.uint8)
            continue
        longer.append(packet)
        size[i] += change.grown
        at[i], end[i] = free, free + len(packet)
        free += len(packet)
    if longer:
        data = np.concatenate((data, np.frombuffer(b"".join(longer), np.uint8)))
    return Readdressed(data, at, end, size, payloads.broken, payloads.cut)


class Change(NamedTuple):
    """The new content of a part of an IP packet's payload.

    at, header: where the part and the transport header begin, from the packet's begin.
    """

    version: int
    proto: int
    header: int
    at: int
    old: bytes
    new: bytes

    @property
    def grown(self) -> int:
        """Return by how many bytes the packet grows."""
        return len(self.new) - len(self.old)

    def applied(self, packet: bytearray) -> bytes:
        """Return the packet after the change, its lengths and checksums adapted.

        A checksum that was wrong stays wrong by the same difference; UDP's 0 (none) stays.
        """
        packet[self.at : self.at + len(self.old)] = self.new
        more = 0
        if self.grown:
            more = lengthen(packet, 2 if self.version == 4 else 4, self.grown)
            if self.version == 4:
                adapt(packet, 10, more)
            # The length counts twice: in UDP's header, and in the pseudo header of RFC 768.
            more = 2 * lengthen(packet, self.header + 4, self.grown)
        place = self.header + {TCP: 16, UDP: 6, ICMP: 2, ICMP6: 2}[self.proto]
        if place + 2 > len(packet) or (self.proto == UDP and packet[place : place + 2] == b"\0\0"):
            return bytes(packet)
        adapt(packet, place, word_sum(self.new) - word_sum(self.old) + more)
        return bytes(packet)


def rewritten(index: PacketIndex, payloads: Payloads) -> Iterator[tuple[int, Change]]:
    """Yield (packet number, change) for packets whose payload has addresses that change."""
    data, facts, flows = index.packets.data, index.facts, index.flows
    for i in with_addresses(index):
        fact = facts[i]
        ip, version, proto = int(fact["ip_at"]), int(fact["version"]), int(fact["proto"])
        header = 40 if version == 6 else 4 * int(data[ip] & 15)
        begin, end = int(fact["at"]) - ip, int(fact["end"])
        if proto in (ICMP, ICMP6):
            begin, end = header, int(fact["ip_end"])
        elif proto == UDP:
            header = begin - 8
        old = data[ip + begin : end].tobytes()
        if proto in (ICMP, ICMP6):
            new = quoted(old, proto, payloads)
        else:
            slot = int(fact["flow"])
            ports = int(flows["source_port"][slot]), int(flows["target_port"][slot])
            growing = proto == UDP and not fragment(data, ip, version)
            new = payloads.body(old, proto, ports, growing)
        if new != old:
            yield int(i), Change(version, proto, header, begin, old, new)


def fragment(data: Octets, at: int, version: int) -> bool:
    """Tell whether an IP packet is a fragment (RFC 791, RFC 8200 section 4.5)."""
    if version == 6:
        return bool(data[at + 6] == 44)
    return bool(data[at + 6] & 0x3F or data[at + 7])


def with_addresses(index: PacketIndex) -> Numbers:
    """Return the packets whose payload may have addresses, by their first octets and ports."""
    data, facts, flows = index.packets.data, index.facts, index.flows
    inside = (facts["flow"] >= 0) & (facts["ip_end"] > facts["ip_at"])
    slot = np.where(inside, facts["flow"], 0)
    long = inside & (facts["end"] - facts["at"] >= 20)
    place = np.where(long, facts["at"], 0)
    first = data[place] if len(data) else np.zeros(len(facts), np.uint8)
    ported = np.zeros(len(facts), bool)
    for port in (DNS_PORT, MULTICAST_DNS_PORT):
        for end in ("source_port", "target_port"):
            ported |= (flows[end] == port)[slot] if len(flows) else False
    letter = (first >= 65) & (first <= 118)
    datagram = facts["proto"] == UDP
    classic_stun = datagram & (first <= 1)
    known = (facts["stun"] > 0) | (datagram & ported) | letter | classic_stun
    stream = (facts["proto"] == TCP) | datagram
    errors = np.isin(facts["proto"], (ICMP, ICMP6))
    return np.flatnonzero((long & stream & known) | (inside & errors))


def lengthen(packet: bytearray, at: int, grown: int) -> int:
    """Add to a 16-bit length; returns by how much the packet's sum grew."""
    struct.pack_into(">H", packet, at, struct.unpack_from(">H", packet, at)[0] + grown)
    return grown


def rewrite_headers(data: Octets, facts: Records, version: int, image: Image) -> None:
    """Replace the addresses of all IP headers of a version, in place, checksums adapted."""
    rows = of_version(facts, version)
    first, size = (12, 4) if version == 4 else (8, 16)
    if not len(rows):
        return
    at = facts["ip_at"][rows]
    change = np.zeros(len(rows), np.int64)
    for shift in (0, size):
        places = at[:, None] + first + shift + np.arange(size)
        old = data[places]
        distinct, which = np.unique(old, axis=0, return_inverse=True)
        images = [image(one.tobytes()) for one in distinct]
        new = np.frombuffer(b"".join(images), np.uint8).reshape(len(images), size)[which.ravel()]
        data[places] = new
        change += sums(new) - sums(old)
    if version == 4:
        adapt_all(data, at + 10, change)
    adapt_all(data, *transport_checksums(data, facts, rows, version, change))


def transport_checksums(
    data: Octets, facts: Records, rows: Numbers, version: int, change: Numbers
) -> tuple[Numbers, Numbers]:
    """Return the offsets of checksums that cover a pseudo header, and how much its sum changed."""
    at, proto = facts["ip_at"][rows], facts["proto"][rows]
    payload, end = facts["at"][rows], facts["ip_end"][rows]
    if version == 4:
        header = at + 4 * (data[at] & 15).astype(np.int64)
        later = ((data[at + 6].astype(np.int64) & 0x1F) << 8 | data[at + 7]) > 0
    else:
        # After extension headers the transport header's offset follows from its payload's.
        plain = np.isin(data[at + 6], (TCP, UDP, ICMP6))
        header = np.where(plain, at + 40, np.where(proto == UDP, payload - 8, 0))
        later = ~plain & (proto != UDP)
    place = np.select([proto == TCP, proto == UDP, proto == ICMP6], [16, 6, 2], -1)
    checksum = header + place
    covered = (place >= 0) & ~later & (checksum + 2 <= end) & (header > 0)
    spot = np.where(covered, checksum, 0)
    covered &= ~((proto == UDP) & (data[spot] == 0) & (data[spot + 1] == 0))
    return checksum[covered], change[covered]


def of_version(facts: Records, version: int) -> Numbers:
    """Return the packets whose whole IP header of a version was captured."""
    room = 20 if version == 4 else 40
    complete = (facts["flow"] >= 0) & (facts["version"] == version)
    return np.flatnonzero(complete & (facts["ip_end"] - facts["ip_at"] >= room))
