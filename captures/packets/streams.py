# SPDX-License-Identifier: BSD-3-Clause
"""Streams as Wireshark numbers them: `udp.stream` and `tcp.stream`.

Wireshark counts UDP and TCP apart, from 0, by the first packet of each pair of ends; an outer
datagram of a tunnel counts too. A SYN begins a new TCP stream between ends that have one, if its
sequence number is another, or if the older stream was closed or reset. A datagram in fragments
counts at its last fragment. Checked against Wireshark 4.4; there may be a difference where a
protocol announces media (SIP, for example), because Wireshark then joins ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from midcall.captures.packets.headers import End, Layer, ends, ip4, ip6, layers
from midcall.captures.packets.numbers import ICMP, ICMP6, TCP, UDP
from midcall.captures.packets.pcap import Packets

PROTOCOLS = {"udp": UDP, "tcp": TCP}
FIN, SYN, RST, ACK = 1, 2, 4, 16

Pair = frozenset[End]


@dataclass
class TcpStream:
    """A TCP stream: its number, the first sequence number of each end, whether it was closed."""

    number: int
    first: dict[End, int] = field(default_factory=dict)
    closed: bool = False


class Counter:
    """Numbers the streams of one transport, frame by frame."""

    def __init__(self, proto: int) -> None:
        self.total = 0
        self._proto = proto
        self._udp: dict[Pair, int] = {}
        self._tcp: dict[Pair, TcpStream] = {}
        self._waiting: dict[tuple[bytes, int], tuple[End, End]] = {}

    def numbers(self, frame: bytes, link: int) -> list[int]:
        """Return the streams of a frame's layers, the outermost first."""
        found = []
        for layer in with_quoted(frame, layers(frame, link)):
            if layer.proto == self._proto:
                both = self._ends(frame, layer)
                if both is not None:
                    found.append(self._number(frame, layer, both))
        return found

    def _ends(self, frame: bytes, layer: Layer) -> tuple[End, End] | None:
        """Return both ends of a layer; None where Wireshark does not dissect its transport."""
        if layer.version == 4:
            word = int.from_bytes(frame[layer.at + 6 : layer.at + 8], "big") & 0x3FFF
            if word:
                name = frame[layer.at + 12 : layer.at + 20] + frame[layer.at + 4 : layer.at + 6]
                if not word & 0x1FFF:
                    self._waiting[name, self._proto] = ends(frame, layer)
                    return None
                return None if word & 0x2000 else self._waiting.pop((name, self._proto), None)
        least = 20 if self._proto == TCP else 8
        whole = not layer.later and layer.end - layer.start >= least
        return ends(frame, layer) if whole else None

    def _number(self, frame: bytes, layer: Layer, both: tuple[End, End]) -> int:
        pair = frozenset(both)
        if self._proto == UDP or layer.later:
            if pair not in self._udp:
                self._udp[pair] = self._next()
            return self._udp[pair]
        source = both[0]
        sequence = int.from_bytes(frame[layer.start + 4 : layer.start + 8], "big")
        flags = frame[layer.start + 13]
        stream = self._tcp.get(pair)
        if stream is not None and flags & (SYN | ACK) == SYN and source in stream.first:
            if stream.first[source] != sequence or stream.closed:
                stream = None
        if stream is None:
            stream = self._tcp[pair] = TcpStream(self._next())
        stream.first.setdefault(source, sequence if flags & SYN else (sequence - 1) & 0xFFFFFFFF)
        stream.closed |= bool(flags & (FIN | RST))
        return stream.number

    def _next(self) -> int:
        self.total += 1
        return self.total - 1


def with_quoted(frame: bytes, found: list[Layer]) -> list[Layer]:
    """Return layers, with that of the packet which an ICMP error quotes."""
    last = found[-1] if found else None
    if last is None or last.later or last.end < last.start + 8:
        return found
    kind = frame[last.start]
    if last.proto == ICMP and kind in (3, 4, 5, 11, 12):
        quoted = ip4(frame, last.start + 8)
    elif last.proto == ICMP6 and 1 <= kind <= 4:
        quoted = ip6(frame, last.start + 8)
    else:
        return found
    return found if quoted is None else [*found, quoted]


def frames_of_stream(batches: Iterable[Packets], proto: str, number: int) -> list[int]:
    """Return the frames (counted from 1) of a stream of a capture.

    proto: "udp" or "tcp". Raises ValueError where the capture has no such stream.
    """
    counter, found, frame = Counter(PROTOCOLS[proto]), [], 0
    for packets in batches:
        for i in range(packets.total):
            frame += 1
            if number in counter.numbers(packets.frame(i), int(packets.link[i])):
                found.append(frame)
    if not found:
        known = f"0 to {counter.total - 1}" if counter.total else "none"
        raise ValueError(f"no {proto}.stream {number}; the capture has: {known}")
    return found
