# SPDX-License-Identifier: BSD-3-Clause
"""Rewriter: packets changed on the wire, while both ends behave as in the capture.

A rewritten capture has the same number of packets in the same order. Each may have another payload,
size, time, port, address or transport. `testbed.replay.simulator.simulate` gives the rewritten
packets to the box and follows the original's script. Lengths and checksums are those of the
rewritten packet (a packet that a snaplen cut keeps its checksum, adapted). The result is bare IP
packets without tunnels, as the access network adds its own.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.testbed.network.ip_packets import RAW_IP, set_checksums
from midcall.testbed.replay.packet_index import PacketIndex

Numbers = NDArray[np.int64]

#: The largest IP packet.
LARGEST = 65_535


def carries(index: PacketIndex) -> Numbers:
    """Return the packets that carry a TCP or UDP payload, at least a part of which was captured."""
    facts = index.facts
    plain = (facts["flow"] >= 0) & np.isin(facts["proto"], (TCP, UDP))
    return np.flatnonzero(plain & (facts["end"] > facts["at"]) & (facts["at"] > facts["ip_at"]))


class Rewriter:
    """Packets being rewritten: read a payload, replace it, and return all packets at the end."""

    def __init__(self, index: PacketIndex) -> None:
        self.index = index
        self.time = index.packets.time.copy()
        self.size = index.facts["ip_size"].copy()
        self.changed: dict[int, bytearray] = {}

    def packet(self, i: int) -> bytearray:
        """Return packet i from its IP header on, to be changed in place."""
        if i not in self.changed:
            fact = self.index.facts[i]
            first, last = int(fact["ip_at"]), int(fact["ip_end"])
            self.changed[i] = bytearray(self.index.packets.data[first:last].tobytes())
        return self.changed[i]

    def header(self, i: int) -> int:
        """Return where packet i's transport header begins, from its IP header."""
        fact = self.index.facts[i]
        if fact["version"] == 4:
            return 4 * (int(self.index.packets.data[int(fact["ip_at"])]) & 15)
        return int(fact["at"] - fact["ip_at"]) - 8 if fact["proto"] == UDP else 40

    def body(self, i: int) -> bytes:
        """Return the payload of packet i as rewritten so far."""
        fact = self.index.facts[i]
        return bytes(self.packet(i)[int(fact["at"] - fact["ip_at"]) :])

    def put(self, i: int, body: bytes) -> None:
        """Replace the payload of packet i; it may be longer or shorter than the captured part."""
        fact = self.index.facts[i]
        packet, at = self.packet(i), int(fact["at"] - fact["ip_at"])
        grown = len(body) - (len(packet) - at)
        packet[at:] = body
        self.size[i] += grown
        if grown:
            place = 2 if fact["version"] == 4 else 4
            add16(packet, place, grown)
            if fact["proto"] == UDP:
                add16(packet, self.header(i) + 4, grown)

    def poke(self, i: int, at: int, octets: bytes) -> None:
        """Overwrite a part of packet i's payload."""
        fact = self.index.facts[i]
        place = int(fact["at"] - fact["ip_at"]) + at
        packet = self.packet(i)
        octets = octets[: max(len(packet) - place, 0)]
        packet[place : place + len(octets)] = octets

    def port(self, i: int, of_sender: bool, port: int) -> None:
        """Replace the port of one end of packet i."""
        struct.pack_into(">H", self.packet(i), self.header(i) + (0 if of_sender else 2), port)

    def address(self, i: int, of_sender: bool, address: bytes) -> None:
        """Replace the address of one end of packet i by one of the same IP version."""
        four = self.index.facts[i]["version"] == 4
        first, size = (12, 4) if four else (8, 16)
        at = first + (0 if of_sender else size)
        self.packet(i)[at : at + size] = address

    def transport(self, i: int, head: bytes, body: bytes, proto: int) -> None:
        """Replace the transport of packet i: header, with ports and lengths, and payload."""
        packet, start = self.packet(i), self.header(i)
        four = self.index.facts[i]["version"] == 4
        beyond_snaplen = int(self.size[i]) - len(packet)
        packet[start:] = head + body
        packet[9 if four else 6] = proto
        self.size[i] = len(packet) + beyond_snaplen
        length = len(packet) + beyond_snaplen - (0 if four else 40)
        struct.pack_into(">H", packet, 2 if four else 4, min(length, LARGEST))

    def replace(self, i: int, packet: bytes) -> None:
        """Replace the whole IP packet i."""
        self.changed[i], self.size[i] = bytearray(packet), len(packet)

    def packets(self) -> Packets:
        """Return all packets as rewritten so far, with correct checksums."""
        source, facts = self.index.packets, self.index.facts
        offset, captured = facts["ip_at"].copy(), facts["ip_end"] - facts["ip_at"]
        free, parts = len(source.data), []
        for i, packet in self.changed.items():
            set_checksums(packet, int(self.size[i]))
            offset[i], captured[i] = free, len(packet)
            free += len(packet)
            parts.append(bytes(packet))
        data = np.concatenate((source.data, np.frombuffer(b"".join(parts), np.uint8)))
        link = np.full(source.total, RAW_IP, np.int64)
        return Packets(data, offset, captured, self.size.copy(), self.time.copy(), link)


def add16(packet: bytearray, at: int, more: int) -> None:
    """Add to a 16-bit number, within its field."""
    old = struct.unpack_from(">H", packet, at)[0]
    struct.pack_into(">H", packet, at, max(0, min(old + more, LARGEST)))
