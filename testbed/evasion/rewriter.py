# SPDX-License-Identifier: BSD-3-Clause
"""Dress: how packets look on the wire while both ends understand each other as in the capture.

A dressed capture has the same packets, as many and in the same order, each with another payload,
size, time, port, address or transport; `testbed.replay.simulator.simulate` shows it to the box and
follows the original's script. Lengths and checksums are those of the dress (a packet that a snaplen
cut keeps its checksum, adapted). Packets are handed on as bare IP packets, tunnels taken off, as
the access network puts its own around them.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.testbed.network.ip_packets import RAW_IP, mend
from midcall.testbed.replay.packet_index import Survey

Numbers = NDArray[np.int64]

#: The largest IP packet.
LARGEST = 65_535


def carries(held: Survey) -> Numbers:
    """Return the packets that carry a TCP or UDP payload, at least a part of which was captured."""
    facts = held.facts
    plain = (facts["flow"] >= 0) & np.isin(facts["proto"], (TCP, UDP))
    return np.flatnonzero(plain & (facts["end"] > facts["at"]) & (facts["at"] > facts["ip_at"]))


class Dress:
    """Packets being dressed: ask for a payload, put another one, take the whole at the end."""

    def __init__(self, held: Survey) -> None:
        self.held = held
        self.time = held.packets.time.copy()
        self.size = held.facts["ip_size"].copy()
        self.changed: dict[int, bytearray] = {}

    def packet(self, i: int) -> bytearray:
        """Return packet i from its IP header on, to be changed in place."""
        if i not in self.changed:
            fact = self.held.facts[i]
            first, last = int(fact["ip_at"]), int(fact["ip_end"])
            self.changed[i] = bytearray(self.held.packets.data[first:last].tobytes())
        return self.changed[i]

    def header(self, i: int) -> int:
        """Return where packet i's transport header begins, from its IP header."""
        fact = self.held.facts[i]
        if fact["version"] == 4:
            return 4 * (int(self.held.packets.data[int(fact["ip_at"])]) & 15)
        return int(fact["at"] - fact["ip_at"]) - 8 if fact["proto"] == UDP else 40

    def body(self, i: int) -> bytes:
        """Return the payload of packet i as it is dressed so far."""
        fact = self.held.facts[i]
        return bytes(self.packet(i)[int(fact["at"] - fact["ip_at"]) :])

    def put(self, i: int, body: bytes) -> None:
        """Give packet i another payload; it may be longer or shorter than the captured part."""
        fact = self.held.facts[i]
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
        fact = self.held.facts[i]
        place = int(fact["at"] - fact["ip_at"]) + at
        packet = self.packet(i)
        octets = octets[: max(len(packet) - place, 0)]
        packet[place : place + len(octets)] = octets

    def port(self, i: int, of_sender: bool, port: int) -> None:
        """Give one end of packet i another port."""
        struct.pack_into(">H", self.packet(i), self.header(i) + (0 if of_sender else 2), port)

    def address(self, i: int, of_sender: bool, address: bytes) -> None:
        """Give one end of packet i another address of its version."""
        four = self.held.facts[i]["version"] == 4
        first, size = (12, 4) if four else (8, 16)
        at = first + (0 if of_sender else size)
        self.packet(i)[at : at + size] = address

    def transport(self, i: int, head: bytes, body: bytes, proto: int) -> None:
        """Give packet i another transport: its header, with ports and lengths, and its payload."""
        packet, start = self.packet(i), self.header(i)
        four = self.held.facts[i]["version"] == 4
        lost = int(self.size[i]) - len(packet)
        packet[start:] = head + body
        packet[9 if four else 6] = proto
        self.size[i] = len(packet) + lost
        length = len(packet) + lost - (0 if four else 40)
        struct.pack_into(">H", packet, 2 if four else 4, min(length, LARGEST))

    def replace(self, i: int, packet: bytes) -> None:
        """Give packet i another whole IP packet."""
        self.changed[i], self.size[i] = bytearray(packet), len(packet)

    def packets(self) -> Packets:
        """Return all packets as they look now, with right checksums."""
        source, facts = self.held.packets, self.held.facts
        offset, captured = facts["ip_at"].copy(), facts["ip_end"] - facts["ip_at"]
        free, parts = len(source.data), []
        for i, packet in self.changed.items():
            mend(packet, int(self.size[i]))
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
