# SPDX-License-Identifier: BSD-3-Clause
"""Vectors: ways to hide a host name from a middlebox, as Geneva and SymTCP found them.

Each is a TCP connection whose ClientHello asks for NAME, so built that an end would read NAME and a
box may not: pieces, overlaps, and packets that the box takes and the end does not (insertion) or
the other way round (evasion). DECOY is what an inserted hello asks for.

Sources: Bock et al., Geneva (CCS 2019); Wang et al., SymTCP (NDSS 2020); Ptacek and Newsham (1998).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from midcall.captures.packets.pcap import Packets, packets_of
from midcall.captures.wire import tls
from midcall.captures.wire.seeded import SeededRandom
from midcall.classifier.state.verdicts import APPS
from tests.classifier.wire import EPOCH, FAR, MS, NEAR, classify, ether, ip, names_read

NAME, DECOY = "e1.whatsapp.net", "www.example.org"
START = 1000
FIN, SYN, RST, PUSH, ACK, URGENT = 1, 2, 4, 8, 16, 32
HELLO = tls.client_hello(SeededRandom("vectors", "hello"), NAME)
LURE = tls.client_hello(SeededRandom("vectors", "lure"), DECOY)


class Segment(NamedTuple):
    """A segment of the client, or (up False) of the server."""

    payload: bytes
    at: int = 1
    flags: int = PUSH | ACK
    up: bool = True
    ttl: int = 64
    options: bytes = b""
    checksum: int = 0
    urgent: int = 0


OPEN = [Segment(b"", 0, SYN), Segment(b"", 0, SYN | ACK, up=False), Segment(b"", 1, ACK)]


def frame(one: Segment, word: int = 0, stretch: slice = slice(None)) -> bytes:
    """Return a segment as a frame; word, stretch: as one IP fragment of it."""
    ports = (40000, 443) if one.up else (443, 40000)
    offset = (20 + len(one.options)) // 4 << 4
    head = struct.pack(">HHIIBBHHH", *ports, START + one.at, 1, offset, one.flags, 4096,
                       one.checksum, one.urgent)  # fmt: skip
    hosts = (NEAR, FAR) if one.up else (FAR, NEAR)
    packet = bytearray(ip(6, (head + one.options + one.payload)[stretch], *hosts, word=word))
    packet[8] = one.ttl
    return ether(bytes(packet))


def pieces(content: bytes, size: int, at: int = 1) -> list[Segment]:
    """Return octets as segments of a size."""
    return [Segment(content[n : n + size], at + n) for n in range(0, len(content), size)]


def fragmented(one: Segment, size: int, order: int = 1) -> list[bytes]:
    """Return a segment as IP fragments of a size (a multiple of 8), in order or backwards."""
    whole = 20 + len(one.options) + len(one.payload)
    cuts = range(0, whole, size)
    made = [
        frame(one, (n // 8) | (0x2000 if n + size < whole else 0), slice(n, n + size)) for n in cuts
    ]
    return made[::order]


def two_records(hello: bytes) -> bytes:
    """Return a hello's record as two records, cut within its name."""
    body = hello[5:]
    cut = body.index(b"whatsapp") + 4
    return b"".join(hello[:3] + struct.pack(">H", len(part)) + part
                    for part in (body[:cut], body[cut:]))  # fmt: skip


def overlapped(first: bytes, second: bytes) -> list[Segment]:
    """Return a hello whose middle comes twice: first in other octets, then in its own."""
    cut = HELLO.index(b"whatsapp")
    return [
        Segment(HELLO[:cut], 1),
        Segment(first, 1 + cut),
        Segment(second + HELLO[cut + 8 :], 1 + cut),
    ]


def segments(*given: Segment) -> list[bytes]:
    """Return a connection's opening and then these segments, as frames."""
    return [frame(one) for one in (*OPEN, *given)]


WHOLE = Segment(HELLO)
MD5 = b"\x13\x12" + bytes(16) + b"\1\1"
OLD = b"\x08\x0a" + struct.pack(">II", 1, 1) + b"\1\1"
CUT = HELLO.index(b"whatsapp") + 4

#: Name -> (how, frames).
VECTORS: dict[str, tuple[str, Callable[[], list[bytes]]]] = {
    "plain": ("one segment", lambda: segments(WHOLE)),
    "two segments": ("cut within the name", lambda: segments(
        Segment(HELLO[:CUT]), Segment(HELLO[CUT:], 1 + CUT))),
    "two segments, backwards": ("the second comes first", lambda: segments(
        Segment(HELLO[CUT:], 1 + CUT), Segment(HELLO[:CUT]))),
    "small segments": ("8 octets each", lambda: segments(*pieces(HELLO, 8))),
    "single octets": ("1 octet each", lambda: segments(*pieces(HELLO, 1))),
    "small segments, backwards": ("16 octets each, the last first", lambda: segments(
        *pieces(HELLO, 16)[::-1])),
    "twice": ("every segment is sent again", lambda: segments(
        *[one for one in pieces(HELLO, 40) for _ in range(2)])),
    "overlap, other octets first": ("the middle comes twice, first wrong", lambda: segments(
        *overlapped(b"xxxxxxxx", b"whatsapp"))),
    "overlap, other octets last": ("the middle comes twice, then wrong", lambda: segments(
        *overlapped(b"whatsapp", b"xxxxxxxx"))),
    "two records": ("one hello in two TLS records", lambda: segments(Segment(two_records(HELLO)))),
    "decoy, wrong checksum": ("the end drops it", lambda: segments(
        Segment(LURE, checksum=0xBAD), WHOLE)),
    "decoy, short TTL": ("it dies on the way", lambda: segments(Segment(LURE, ttl=2), WHOLE)),
    "decoy, MD5 option": ("the end drops it (RFC 2385)", lambda: segments(
        Segment(LURE, options=MD5), WHOLE)),
    "decoy, old timestamp": ("the end drops it (RFC 7323)", lambda: segments(
        Segment(LURE, options=OLD), WHOLE)),
    "decoy, no flags": ("the end drops it", lambda: segments(Segment(LURE, flags=0), WHOLE)),
    "decoy, out of window": ("the end drops it", lambda: segments(
        Segment(LURE, at=1 << 30), WHOLE)),
    "decoy in the SYN": ("the end may drop its payload", lambda: [
        frame(Segment(LURE, 0, SYN)), *[frame(one) for one in OPEN[1:]], frame(WHOLE)]),
    "reset, wrong checksum": ("the end drops it", lambda: segments(
        Segment(b"", flags=RST, checksum=0xBAD), WHOLE)),
    "reset, short TTL": ("it dies on the way", lambda: segments(
        Segment(b"", flags=RST | ACK, ttl=2), WHOLE)),
    "finish first": ("a FIN that the end drops", lambda: segments(
        Segment(b"", flags=FIN | ACK, checksum=0xBAD), WHOLE)),
    "second SYN": ("with another sequence number", lambda: segments(
        Segment(b"", 1 << 20, SYN, ttl=2), WHOLE)),
    "turned roles": ("the client sends SYN ACK first", lambda: [
        frame(Segment(b"", 0, SYN | ACK)), *segments(WHOLE)]),
    "no handshake": ("the box saw no SYN", lambda: [frame(WHOLE)]),
    "urgent octet": ("one octet more that the end leaves out", lambda: segments(
        Segment(HELLO[:CUT] + b"!" + HELLO[CUT:], flags=PUSH | ACK | URGENT, urgent=CUT + 1))),
    "garbage before": ("an octet below the window", lambda: segments(Segment(b"\0", 0), WHOLE)),
    "IP fragments": ("8 octets each", lambda: [*segments(), *fragmented(WHOLE, 8)]),
    "IP fragments, large": ("cut within the name", lambda: [
        *segments(), *fragmented(WHOLE, (20 + CUT) // 8 * 8)]),
    "IP fragments, backwards": ("the last first", lambda: [
        *segments(), *fragmented(WHOLE, 64, -1)]),
}  # fmt: skip


def passing(made: list[bytes]) -> Packets:
    """Return frames, 5 ms apart."""
    return packets_of(made, [EPOCH + n * 5 * MS for n in range(len(made))])


def outcome(made: list[bytes]) -> str:
    """Return the first name that the path reads: the name, the decoy, another, or none."""
    names = [one.name for one in names_read(passing(made)) if one.kind]
    if not names:
        return "none"
    return {NAME: "the name", DECOY: "the decoy"}.get(names[0], "another")


def verdict(made: list[bytes]) -> str:
    """Return the app that the connection is said to be."""
    return APPS[classify(passing(made))[0]["app"]] or "none"


def rows() -> list[str]:
    """Return the table of docs/explanation/reliability.md, a line per vector."""
    return [
        f"| {name} | {how} | {outcome(make())} | {verdict(make())} |"
        for name, (how, make) in VECTORS.items()
    ]


if __name__ == "__main__":
    print("\n".join(rows()))
